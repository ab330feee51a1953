"""A training step of the examples' trainer: CowMix against supervised learning, and what masks and mixing take of it.

python -m benchmarks.training --config.size 180 240 [--help]
python -m benchmarks.training --method supervised --config.network deeplab2 --config.encoder resnet101 \
    --config.size 321 321 --config.batch-size 1                # time and memory of one method alone
"""

import resource
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch.profiler import ProfilerActivity, profile, record_function

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from benchmarks import cpu
from benchmarks.timing import Method, Plan, Result, attempt, measure
from segmentation.config import Config
from segmentation.data.camvid import load_camvid
from segmentation.data.street import load_street
from segmentation.methods import MethodName
from segmentation.trainer import Trainer


@dataclass(frozen=True)
class Options(cpu.Options):
    """What to train, how to time it, and where to write; without --config.data on the built-in street scenes."""

    config: Config = field(default_factory=Config)
    """Options of the trainer."""
    method: Literal["supervised", "ict", "cutout", "cutmix", "cowout", "cowmix"] = "cowmix"
    """What is compared with supervised learning, if it is not that itself."""


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


def peak_memory(device: torch.device) -> int:
    """Return the bytes that this process has taken at most so far: resident, or of a GPU allocated."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compare(config: Config, method: MethodName, plan: Plan) -> tuple[dict[str, Result], float | str, int]:
    """Return what a step takes, supervised and by the method; the share of masks and mixing; peak memory in all."""
    data = load_camvid(config.data[0], config.size) if config.data else load_street(config.size)
    with tempfile.TemporaryDirectory() as folder:
        names: tuple[MethodName, ...] = ("supervised", method) if method != "supervised" else ("supervised",)
        trainers = {name: Trainer(replace(config, out=Path(folder)), data, name) for name in names}
        steps = {
            str(name): Method(trainer.step, no_graph="a step is not captured") for name, trainer in trainers.items()
        }
        device = trainers[method].device
        results, peak = measure(steps, device, plan), peak_memory(device)
        share = "no masks" if len(names) == 1 else attempt(lambda: share_of_masks(trainers[method], plan.rounds))
        return results, share, peak


def main(options: Options) -> None:
    """Time steps, profile them, and print iterations per second."""
    torch.set_num_threads(options.threads)
    results, share, peak = compare(options.config, options.method, Plan(options.rounds, options.budget))
    quartiles = {name: result.seconds for name, result in results.items()}
    for name, (_, median, _) in quartiles.items():
        print(f"{name:<12} {1 / median:6.2f} iterations per second")
    if len(results) > 1:
        ratio = quartiles[options.method][1] / quartiles["supervised"][1]
        part = share if isinstance(share, str) else f"{share:.2%} of it"
        print(f"A step of {options.method} takes {ratio:.2f} of a supervised one; masks and mixing are {part}.")
    print(f"Peak memory of the process, with {' and '.join(results)} in it: {peak / 2**30:.2f} GiB")
    found = {
        "options": options_of(options.config),
        "method": options.method,
        "seconds per step, quartiles": {name: [round(at, 5) for at in times] for name, times in quartiles.items()},
        "share of masks and mixing": share,
        "peak memory in all, bytes": peak,
    }
    print(f"Written: {cpu.write('training', options, found)}")


def options_of(config: Config) -> dict[str, str]:
    """Return the options as they are recorded: without paths, which name nothing elsewhere."""
    return {key: str(value) for key, value in asdict(config).items() if key not in ("data", "out")}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
