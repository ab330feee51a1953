"""Training steps of the examples' trainer: a method against supervised learning, and the share of masks and mixing.

pip install ".[examples]"
python -m benchmarks.training --config.size 180 240 [--help]
python -m benchmarks.training --method supervised --config.network deeplab2 --config.encoder resnet101 \
    --config.size 321 321 --config.batch-size 1                # time and memory of one method alone
"""

import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import tyro

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from benchmarks import cpu
from benchmarks.profiling import peak_memory, share_of_masks
from benchmarks.timing import Candidate, Plan, Result, attempt, measure
from segmentation.config import Config
from segmentation.data.camvid import load_camvid
from segmentation.data.checking import check, parts_of
from segmentation.data.street import load_street
from segmentation.methods import MethodName
from segmentation.trainer import Trainer


@dataclass(frozen=True)
class Options(cpu.Options):
    """What to train, how to time it, and where to write. Without --config.data: on built-in street scenes."""

    config: Config = field(default_factory=lambda: Config(encoder="tu-resnet10t", encoder_weights="none"))
    """Options of the trainer."""
    method: MethodName = "cowmix"
    """Method to compare with supervised learning; `supervised` is timed alone."""


def compare(config: Config, method: MethodName, plan: Plan) -> tuple[dict[str, Result], float | str, int]:
    """Time steps of supervised training and of a method.

    Returns:
        Results by method; the share of masks and mixing, or why there is none; peak memory of the process, bytes.
    """
    data = load_camvid(config.data[0], config.size) if config.data else load_street(config.size)
    check(data.name, parts_of(data, range(len(data.train.names))))  # reads all images, so that no step does
    with tempfile.TemporaryDirectory() as folder:
        names: dict[MethodName, None] = dict.fromkeys(("supervised", method))
        trainers = {name: Trainer(replace(config, out=Path(folder)), data, name) for name in names}
        steps = {
            str(name): Candidate(trainer.step, no_graph="a step is not captured") for name, trainer in trainers.items()
        }
        device = trainers[method].device
        results, peak = measure(steps, device, plan), peak_memory(device)
        step = trainers[method].step
        share = "no masks" if len(names) == 1 else attempt(lambda: share_of_masks(step, device, plan.rounds))
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
        part = share if isinstance(share, str) else f"{share:.2%}"
        print(f"A step of {options.method} takes {ratio:.2f} times as long as a supervised one.")
        print(f"Masks and mixing in it: {part}.")
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
    """Return the options to record, without paths, which mean nothing elsewhere."""
    return {key: str(value) for key, value in asdict(config).items() if key not in ("data", "out")}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
