"""Where one trained network predicts better than another: the test images of the largest gains and losses.

pip install ".[examples]"
python examples/cases.py runs/street/supervised runs/street/cowmix
python examples/cases.py runs/camvid/supervised runs/camvid/cowmix --data DIR --out cases.png

BASE and OTHER are folders of trained methods, or files network.safetensors, of the built-in scenes or, with --data, of
CamVid. An image's gain is OTHER's mIoU minus BASE's, over the classes that are in the image or predicted for it. The
script draws the rows of the largest gains, then those of the largest losses, and prints how the gains are spread.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from segmentation.config import Config
from segmentation.data.datasets import DataError, Dataset
from segmentation.errors import one_sentence
from segmentation.evaluation import Tally, segment
from segmentation.pictures import save_predictions
from segmentation.saved import Trained, load_network
from train_camvid import load


@dataclass(frozen=True)
class Options:
    """Options of cases.py."""

    base: tyro.conf.Positional[Path]
    """Folder of a trained method, or its network.safetensors."""
    other: tyro.conf.Positional[Path]
    """The network that is compared with it."""
    data: Path | None = None
    """Folder of CamVid; by default the built-in scenes."""
    rows: int = 3
    """How many gains, and how many losses, to draw."""
    names: tuple[str, str] = ("base", "other")
    """Titles of the two networks' predictions."""
    out: Path = Path("cases.png")
    """PNG to write."""


class Case(NamedTuple):
    """Two networks' predictions for a test image."""

    number: int  # of the image in the test set
    gain: float  # of mIoU, in points
    maps: tuple[Tensor, Tensor]  # class maps (H, W) uint8


@torch.no_grad()
def compare(networks: tuple[Trained, Trained], data: Dataset) -> Iterator[Case]:
    """Yield a case for each test image of which at least one pixel has a label."""
    for number in tqdm(range(len(data.test.names)), desc="Predicting", unit="image", disable=None):
        image, label = data.test.image(number)[None] / 255, data.test.label(number)[None]
        base, other = (segment(one.network, image).argmax(1).to(torch.uint8) for one in networks)
        gain = 100 * (_miou(other, label, len(data.classes)) - _miou(base, label, len(data.classes)))
        if not math.isnan(gain):
            yield Case(number, gain, (base[0], other[0]))


def _miou(prediction: Tensor, label: Tensor, n_classes: int) -> float:
    tally = Tally(n_classes)
    tally.add(prediction, label)
    return tally.scores().miou


def choose(cases: Sequence[Case], rows: int) -> list[Case]:
    """Return the cases of the largest gains, falling, then those of the largest losses, growing; no case twice."""
    ordered = sorted(cases, key=lambda case: -case.gain)
    rows = min(rows, len(ordered) // 2)
    return ordered[:rows] + ordered[len(ordered) - rows :]


def summary(gains: Sequence[float]) -> str:
    """Return how gains are spread, in a sentence."""
    low, middle, high = statistics.quantiles(gains, n=4)
    better = sum(gain > 0 for gain in gains)
    return (
        f"{better} of {len(gains)} test images gain; mean {statistics.fmean(gains):+.1f} points of an image's mIoU, "
        f"quartiles {low:+.1f}, {middle:+.1f}, {high:+.1f}."
    )


def main(options: Options) -> None:
    """Draw the cases, and print how the gains are spread."""
    if options.rows < 1:
        raise DataError("--rows must be at least 1.")
    if options.names[0] == options.names[1]:
        raise DataError(f"--names must differ, or the pictures could not be told apart: {options.names[0]}.")
    networks = load_network(options.base), load_network(options.other)
    size, other = networks[0].size, networks[1].size
    if size is None or size != other:
        raise DataError(f"both must have been trained on images resized to one size, not to {size} and {other}.")
    data, _ = load(Config(data=(options.data,) if options.data else (), size=size))
    for path, network in zip((options.base, options.other), networks, strict=True):
        if network.classes != data.classes:
            raise DataError(f"{path} predicts other classes than those of {data.name}: {', '.join(network.classes)}.")
    cases = list(compare(networks, data))
    if len(cases) < 2:
        raise DataError(f"{data.name} has fewer than two test images with labels.")
    chosen = choose(cases, options.rows)
    maps = {name: {case.number: case.maps[i] for case in chosen} for i, name in enumerate(options.names)}
    save_predictions(options.out, data, maps, {}, {case.number: f"{case.gain:+.1f}" for case in chosen})
    print(summary([case.gain for case in cases]), f"Written: {options.out}.", sep="\n")


if __name__ == "__main__":
    with one_sentence("the same command"):
        main(tyro.cli(Options, description=__doc__))
