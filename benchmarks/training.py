"""A training step of the examples' trainer: CowMix against supervised learning, and what masks and mixing take of it.

python -m benchmarks.training --config.size 180 240 [--help]
"""

import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from torch.profiler import ProfilerActivity, profile, record_function

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from benchmarks.timing import environment, save, time_interleaved
from segmentation.config import Config
from segmentation.datasets import load_camvid, load_street
from segmentation.trainer import Trainer


@dataclass(frozen=True)
class Options:
    """What to train, and how often; without --config.data on the built-in street scenes."""

    config: Config = field(default_factory=Config)
    """Options of the trainer."""
    method: str = "cowmix"
    """What is compared with supervised learning."""
    rounds: int = 15
    """Interleaved steps of each."""
    save: str | None = None
    """Name of this machine: writes benchmarks/results/training--NAME.json."""


def share_of_masks(trainer: Trainer, steps: int) -> float:
    """Return the share of a step's time, on the device that computes it, spent drawing and applying masks."""
    on_gpu = trainer.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            with record_function("step"):
                trainer.step()
    times = {
        event.key: event.device_time_total if on_gpu else event.cpu_time_total
        for event in profiler.key_averages()
        if event.key in ("step", "cowmask")
    }
    return times["cowmask"] / times["step"]


def main(options: Options) -> None:
    """Time steps, profile them, and print iterations per second."""
    config = options.config
    data = load_street(config.size) if config.data is None else load_camvid(config.data, config.size)
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            name: Trainer(replace(config, out=Path(folder)), data, name)  # type: ignore[arg-type]
            for name in ("supervised", options.method)
        }

        def timed(trainer: Trainer) -> None:
            trainer.step()
            if trainer.device.type == "cuda":
                torch.cuda.synchronize()

        steps = {name: lambda trainer=trainer: timed(trainer) for name, trainer in trainers.items()}
        seconds = {name: float(np.median(times)) for name, times in time_interleaved(steps, options.rounds).items()}
        share = share_of_masks(trainers[options.method], options.rounds)
    for name, median in seconds.items():
        print(f"{name:<12} {1 / median:6.2f} iterations per second")
    ratio = seconds[options.method] / seconds["supervised"]
    print(f"A step of {options.method} takes {ratio:.2f} of a supervised one; masks and mixing are {share:.2%} of it.")
    if options.save is not None:
        result = {
            "options": {key: str(value) for key, value in asdict(config).items() if key not in ("data", "out")},
            "environment": environment(),
            "seconds per step, median": seconds,
            "share of masks and mixing": share,
        }
        print(f"Written: {save('training', options.save, result)}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
