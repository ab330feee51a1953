"""Figure 1 and section 3.1 of the paper: do distances between neighbouring patches tell where classes meet?

pip install ".[examples]"
python examples/patch_distance.py                                built-in scenes, seconds
python examples/patch_distance.py --data DIR --split train --index 120
python examples/patch_distance.py --help

DIR holds CamVid in the SegNet tutorial's layout: train, trainannot, val, valannot, test, testannot. The script writes
one image's distances as patch-distance.png, and how well distances predict boundaries as patch-distance.json.
"""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from segmentation.data.camvid import load_camvid
from segmentation.data.checking import Part, check
from segmentation.data.datasets import VOID, DataError, Dataset, Split
from segmentation.data.street import load_street

BINS = 2**18  # for distances in [0, 1]
SPLITS = ("train", "val", "test")
REGIONS = ("own", "common", "other_image")
SCALE = "root mean square, images in [0, 1]"
WHITE_TO_BLUE = LinearSegmentedColormap.from_list("distance", ["white", "#6baed6", "#08306b"])


class OptionsError(Exception):
    """An option cannot be used; the message is for the user."""


@dataclass(frozen=True)
class Options:
    """Options of the figure and the numbers."""

    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of CamVid; by default, built-in street scenes."""
    split: Literal["train", "val", "test"] = "train"
    """The images: all are scored, one is drawn."""
    index: int = 0
    """Index of the image to draw, from 0."""
    patch: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SIZE...")] = (15, 225)
    """Sides of patches to draw and score, odd numbers of pixels."""
    contrast: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SIZE...")] = (1, 3)
    """Sides of patches to score only; 1 is the image's plain gradient."""
    size: tuple[int, int] = (360, 480)
    """Height and width of the images, pixels."""
    scenes: int = 16
    """Built-in scenes to draw for the split, without --data."""
    out: Path = Path("runs/patch-distance")
    """Folder for patch-distance.png and patch-distance.json."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if not self.patch:
            raise OptionsError("--patch takes at least one size.")
        for side in self.sides:
            if side < 1 or side % 2 == 0:
                raise OptionsError(f"patches are centred on a pixel: sides must be odd numbers from 1, not {side}.")
        if self.sides[-1] + 2 > min(self.size):
            raise OptionsError(
                f"patches of {self.sides[-1]} pixels and their neighbours do not fit in images of {self.size[1]}x"
                f"{self.size[0]}: take smaller ones, or a larger --size."
            )
        if self.scenes < 1:
            raise OptionsError("--scenes must be at least 1.")

    @property
    def sides(self) -> list[int]:
        """All sides of patches, the smallest first."""
        return sorted({*self.patch, *self.contrast})


def box_sums(x: Tensor, side: int) -> Tensor:
    """Sum integers (H, W) over every square of a side: (H - side + 1, W - side + 1)."""
    sums = F.pad(x, (1, 0, 1, 0)).cumsum(0).cumsum(1)
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]


def patch_distance(image: Tensor, side: int) -> Tensor:
    """Return the mean distance between the patch centred on a pixel and its four neighbours' patches.

    By section 3.1, the squared distance of two neighbours' patches is the squared gradient of the image, summed over a
    patch. The sums of whole numbers are exact.

    Args:
        image: (C, H, W) uint8.
        side: Side of the patches, an odd number of pixels.

    Returns:
        Distances (H - side - 1, W - side - 1) float64, for pixels at least `margin(side)` from the border, whose five
        patches fit in the image. They are the paper's L2 distances of images in [0, 1] over sqrt(C) * side, and so in
        [0, 1].
    """
    pixels = image.long()
    largest = len(image) * (side * 255) ** 2
    across, down = (
        (box_sums(pixels.diff(dim=axis).square().sum(0), side).double() / largest).sqrt() for axis in (2, 1)
    )
    across, down = across[1:-1], down[:, 1:-1]  # without pixels whose other neighbours' patches do not fit
    return (across[:, :-1] + across[:, 1:] + down[:-1] + down[1:]) / 4


def margin(side: int) -> int:
    """Return the width in pixels of the border where a neighbour's patch does not fit."""
    return side // 2 + 1


def crop(x: Tensor, border: int) -> Tensor:
    """Cut the border off a map (H, W)."""
    return x[border : x.shape[0] - border, border : x.shape[1] - border]


def boundaries(label: Tensor) -> tuple[Tensor, Tensor]:
    """Return which pixels of a label map (H, W) are on a boundary, and which count, both (H, W) bool.

    A pixel is on a boundary if one of its four neighbours has another class. Pixels in or beside void do not count.
    """
    on_boundary, beside_void = torch.zeros_like(label, dtype=torch.bool), label == VOID
    for axis in (0, 1):
        n = label.shape[axis] - 1
        one, other = label.narrow(axis, 0, n), label.narrow(axis, 1, n)
        for this, that, place in ((one, other, 0), (other, one, 1)):
            on_boundary.narrow(axis, place, n).logical_or_(this != that)
            beside_void.narrow(axis, place, n).logical_or_(that == VOID)
    return on_boundary & ~beside_void, ~beside_void


class Score:
    """Area under the ROC curve of "the larger the distance, the likelier a boundary", by image and pooled.

    Distances are counted in bins, so that memory does not grow with the pixels.
    """

    def __init__(self) -> None:
        self.histogram = torch.zeros(2, BINS, dtype=torch.long)  # off boundaries, on boundaries
        self.areas: list[float] = []  # one for each image with pixels of both kinds

    def add(self, distance: Tensor, on_boundary: Tensor, counts: Tensor) -> None:
        """Add an image: distances in [0, 1], which pixels are on a boundary and which count, each (H, W)."""
        bins = (distance * BINS).long().clamp(max=BINS - 1) + BINS * on_boundary
        histogram = torch.bincount(bins[counts], minlength=2 * BINS).view(2, BINS)
        self.histogram += histogram
        if histogram.any(1).all():
            self.areas.append(roc_area(histogram)[0])

    def summary(self) -> dict[str, float | int | None]:
        """Return the pooled area and its error, the images' mean area, and counts; None if undefined."""
        pooled, error = roc_area(self.histogram) if self.histogram.any(1).all() else (None, None)
        off, on = self.histogram.sum(1).tolist()
        return {
            "pooled": pooled,
            "pooled_error_at_most": error,
            "per_image": statistics.fmean(self.areas) if self.areas else None,
            "images": len(self.areas),
            "pixels": off + on,
            "share_on_boundaries": on / (off + on) if off + on else None,
        }


def roc_area(histogram: Tensor) -> tuple[float, float]:
    """Return the area under the ROC curve, and its largest error: distances in one bin count as equal.

    Args:
        histogram: Pixels by distance, (2, BINS): off boundaries and on boundaries, at least one each.
    """
    off, on = histogram
    below = off.cumsum(0) - off
    twice_pairs, ties = 2 * int(off.sum()) * int(on.sum()), int((on * off).sum())
    return (2 * int((on * below).sum()) + ties) / twice_pairs, ties / twice_pairs


def measure(split: Split, sides: Sequence[int]) -> dict[int, dict[str, Score]]:
    """Score each side of patches over all images, in three regions.

    "own" has the pixels where patches of this side fit, "common" those where the largest patches fit. "other_image" has
    those of "common", with the boundaries of another image half the data set away. It shows what is reached without
    knowing the image: the middle of a street may both vary most and have the most boundaries.
    """
    scores = {side: {region: Score() for region in REGIONS} for side in sides}
    n, common = len(split.names), margin(max(sides))
    for i in tqdm(range(n), disable=None):
        truth = boundaries(split.label(i))
        other = boundaries(split.label((i + n // 2) % n)) if n > 1 else None
        for side, score in scores.items():
            distance = patch_distance(split.image(i), side)
            score["own"].add(distance, *(crop(x, margin(side)) for x in truth))
            middle = crop(distance, common - margin(side))
            score["common"].add(middle, *(crop(x, common) for x in truth))
            if other:
                score["other_image"].add(middle, *(crop(x, common) for x in other))
    return scores


def draw(path: Path, image: Tensor, label: Tensor, sides: Sequence[int]) -> None:
    """Draw an image (3, H, W), and for each side of patches the distances, with class boundaries in red."""
    height, width = label.shape
    columns = 1 + len(sides)
    size = (4.2 * columns, 4.1 * height / width + 1.1)  # inches
    figure, axes = plt.subplots(2, columns, figsize=size, height_ratios=(1, 0.05), layout="constrained")
    red = np.zeros((height, width, 4))
    red[boundaries(label)[0].numpy()] = (0.9, 0, 0, 1)
    axes[0, 0].imshow(image.permute(1, 2, 0).numpy())
    axes[0, 0].set_title("image")
    axes[1, 0].axis("off")
    for side, (axis, scale) in zip(sides, axes.T[1:], strict=True):
        distance = np.full((height, width), np.nan)
        border = margin(side)
        distance[border : height - border, border : width - border] = patch_distance(image, side).numpy()
        picture = axis.imshow(distance, cmap=WHITE_TO_BLUE, vmin=0, interpolation="nearest")
        axis.imshow(red, interpolation="nearest")
        axis.set_facecolor("0.8")  # grey where patches do not fit
        axis.set_title(f"distance to neighbours, {side}x{side}")
        figure.colorbar(picture, cax=scale, orientation="horizontal", ticks=MaxNLocator(4), label=SCALE)
    for letter, axis in enumerate(axes[0], ord("a")):
        axis.set(xticks=[], yticks=[], title=f"({chr(letter)}) {axis.get_title()}")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def table(scores: Mapping[int, Mapping[str, Mapping[str, float | None]]], title: str) -> Table:
    """Lay out the areas for the terminal."""
    caption = (
        "own: the pixels where patches of this size fit; common: those where the largest fit; other: the same with the "
        "boundaries of another image, to show what is reached without knowing the image."
    )
    result = Table(title=title, caption=caption)
    result.add_column("patch")
    for region in ("own", "common", "other"):
        for way in ("pooled", "mean"):
            result.add_column(f"{region},\n{way}", justify="right")
    for side, regions in scores.items():
        areas = [regions[region][way] for region in REGIONS for way in ("pooled", "per_image")]
        result.add_row(f"{side}x{side}", *("" if value is None else f"{value:.3f}" for value in areas))
    return result


def command(options: Options) -> str:
    """Return a command that gives the same result, with DIR for the data's folder."""
    words = ["--data", "DIR"] if options.data else ["--scenes", str(options.scenes)]
    words += ["--split", options.split, "--index", str(options.index)]
    for name in ("patch", "contrast", "size"):
        words += [f"--{name}", *map(str, getattr(options, name))]
    return " ".join(["python examples/patch_distance.py", *words])


def load(options: Options) -> Dataset:
    """Read CamVid, or draw the built-in scenes."""
    if options.data:
        return load_camvid(options.data, options.size)
    print("No --data given: these are the built-in procedural street scenes.")
    return load_street(options.size, *(options.scenes if name == options.split else 1 for name in SPLITS))


def main(options: Options) -> None:
    """Score the distances over a split, and draw those of one image."""
    data = load(options)
    split: Split = getattr(data, options.split)
    n = len(split.names)
    if not 0 <= options.index < n:
        raise OptionsError(f"--index must be from 0 to {n - 1}, the last of {options.split}.")
    check(data.name, [Part(options.split, split, range(n))])
    scores = measure(split, options.sides)
    summaries = {side: {name: one.summary() for name, one in regions.items()} for side, regions in scores.items()}
    height, width = options.size
    content = {
        "command": command(options),
        "dataset": data.name,
        "split": options.split,
        "images": n,
        "size": options.size,
        "torch": torch.__version__,
        "drawn": split.names[options.index],
        "areas": summaries,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "patch-distance.png", split.image(options.index), split.label(options.index), options.patch)
    (options.out / "patch-distance.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    title = f"{data.name}, {options.split}, {n} images of {width}x{height}: does the distance tell boundaries?"
    Console().print(table(summaries, f"{title}\narea under the ROC curve (0.5 is chance)"))
    print(f"Written: patch-distance.json and patch-distance.png in {options.out}.")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except (OptionsError, DataError, OSError) as error:
        sys.exit(f"patch_distance: {error}")
