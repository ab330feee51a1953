"""A training step of the examples' trainer: CowMix against supervised learning, and what masks and mixing take of it.

python -m benchmarks.training --config.size 180 240 [--help]
"""

import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

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
    method: Literal["ict", "cutout", "cutmix", "cowout", "cowmix"] = "cowmix"
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
    ranges = {
        event.key: event.device_time_total if on_gpu else event.cpu_time_total
        for event in profiler.key_averages()
        if event.device_type.name == "CPU" and event.key in ("step", "cowmask")
    }
    if not on_gpu:
        return ranges["cowmask"] / ranges["step"]
    # Not the step's own range: the backward pass launches its kernels from another thread.
    kernels = [event for event in profiler.key_averages() if event.device_type.name == "CUDA"]
    return ranges["cowmask"] / sum(event.self_device_time_total for event in kernels if not event.is_user_annotation)


def main(options: Options) -> None:
    """Time steps, profile them, and print iterations per second."""
    config = options.config
    data = load_street(config.size) if config.data is None else load_camvid(config.data, config.size)
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            name: Trainer(replace(config, out=Path(folder)), data, name) for name in ("supervised", options.method)
        }

        def timed(trainer: Trainer) -> None:
            trainer.step()
            if trainer.device.type == "cuda":
                torch.cuda.synchronize()

        steps = {name: lambda trainer=trainer: timed(trainer) for name, trainer in trainers.items()}
        times = time_interleaved(steps, options.rounds)
        seconds = {name: float(np.median(values)) for name, values in times.items()}
        share = share_of_masks(trainers[options.method], options.rounds)
    for name, median in seconds.items():
        print(f"{name:<12} {1 / median:6.2f} iterations per second")
    ratio = seconds[options.method] / seconds["supervised"]
    print(f"A step of {options.method} takes {ratio:.2f} of a supervised one; masks and mixing are {share:.2%} of it.")
    if options.save is not None:
        result = {
            "options": {key: str(value) for key, value in asdict(config).items() if key not in ("data", "out")},
            "environment": environment(),
            "method": options.method,
            "rounds": options.rounds,
            "seconds per step, quartiles": {
                name: np.percentile(values, [25, 50, 75]).round(5).tolist() for name, values in times.items()
            },
            "share of masks and mixing": share,
        }
        print(f"Written: {save('training', options.save, result)}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
