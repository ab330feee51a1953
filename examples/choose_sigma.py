"""A range of sigma for cow masks, proposed from your own images, with label maps or without.

python examples/choose_sigma.py IMAGES --labels LABELS
python examples/choose_sigma.py IMAGES --size 512 512
python examples/choose_sigma.py --help

IMAGES and LABELS are folders; a label map has the name and size of its image, and images without one are left out.
Sigma is in pixels of the images as they are read: if you train at another size, give it by --size. The trainers beside
this script take --sigma in pixels of the paper's size (480x360 for CamVid), whatever their --size: look at that one.

A cow mask's autocorrelation is known: (2/pi) arcsin(exp(-d^2 / (4 sigma^2))) at a distance of d pixels, one half at
d = 1.18 sigma. Label maps have one, too: how much more often than by chance two pixels at a distance of d are of one
class. Where that is one half tells the size of what there is to see, as a sigma. Without label maps the images' own
autocorrelation (the Fourier transform of their power spectrum) stands in its place, at a shorter side of 64 pixels, so
that noise and fine texture do not count. The range is that sigma times two factors.
"""

import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from segmentation.data.datasets import DataError, read_picture

SHORTER_SIDE = 64  # pixels, of images whose spectrum is taken
LEVEL = 0.5  # of autocorrelation, where labels or images are compared with masks
LAG_OVER_SIGMA = 2 * math.sqrt(-math.log(math.sin(math.pi / 2 * LEVEL)))  # where a mask's is that
# Both ends of the range, in sigmas of masks as large as what is in labels, or in images. In trainings on the built-in
# street scenes, labels' factors from (1/28, 1/7) to (1/2, 2) did about equally well (docs/why.md): these lie between.
# There, drawn at 96x64, images are correlated over a length 1.6 times shorter than labels.
FACTORS = {"labels": (1 / 8, 1 / 2), "images": (1 / 5, 4 / 5)}
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class SigmaError(Exception):
    """No range can be proposed; the message is for the user."""


@dataclass(frozen=True)
class Options:
    """What to look at."""

    images: tyro.conf.Positional[Path]
    """Folder of images, also in folders of it."""
    labels: Path | None = None
    """Folder of label maps, one channel, under the names of the images; without it the images themselves are used."""
    void: tuple[int, ...] = (255,)
    """Label values to leave out, in place of 255 (CamVid's is 11)."""
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """Resize to this first."""
    out: Path = Path("runs/choose-sigma.json")
    """File for the statistics."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if self.size and min(self.size) < 16:
            raise SigmaError("--size must be at least 16 pixels each way.")


class Correlation(NamedTuple):
    """Autocorrelation along rows and columns, by distance in pixels from 0 on."""

    values: Tensor  # (lags,) float64, 1 at 0

    def length(self, level: float = LEVEL) -> float:
        """Return the distance, in pixels, at which it falls to the level."""
        below = (self.values < level).nonzero()
        if not len(below):
            raise SigmaError(
                f"the autocorrelation does not fall to {level} within {len(self.values) - 1} pixels, and the smallest "
                "of the images or label maps tells no more: leave it out, or give --size."
            )
        end = int(below[0])
        before, after = self.values[end - 1 : end + 1].tolist()
        return end - 1 + (before - level) / (before - after)


def products(x: Tensor, lags: int) -> Tensor:
    """Return the sum of x(i) x(i + d) along rows and columns, for d below `lags`; (lags,) float64.

    Args:
        x: (C, H, W), summed over channels.
        lags: At most the shorter side.
    """
    total = torch.zeros(lags, dtype=torch.float64)
    for lines in (x.double(), x.double().transpose(1, 2)):
        length = lines.shape[-1]
        spectrum = torch.fft.rfft(lines, n=2 * length).abs() ** 2  # padded: what leaves on one side does not come back
        total += torch.fft.irfft(spectrum.sum((0, 1)), n=2 * length)[:lags]
    return total


def label_correlation(labels: Iterable[np.ndarray], void: Sequence[int] = (255,)) -> Correlation:
    """Return how much more often than by chance pixels at a distance are of one class, 1 at 0."""
    same, pairs, counts = [], [], torch.zeros(256, dtype=torch.float64)
    for label in labels:
        lags = min(label.shape)
        classes = [int(value) for value in np.unique(label) if value not in void]
        if classes:
            indicators = torch.from_numpy(np.stack([label == value for value in classes]))
            counts[classes] += indicators.double().sum((1, 2))
            # class by class, for memory's sake
            same.append(torch.stack([products(indicator[None], lags) for indicator in indicators]).sum(0))
            pairs.append(products(indicators.any(0, keepdim=True), lags))
    if not same:
        raise SigmaError("no label map holds anything but void.")
    chance = (counts / counts.sum()).square().sum()
    if chance > 1 - 1e-9:
        raise SigmaError(
            f"the label maps hold one class only, besides {', '.join(map(str, void)) or 'nothing'} (--void): "
            "nothing tells its size."
        )
    return Correlation((_ratio(same, pairs) - chance) / (1 - chance))


def image_correlation(images: Iterable[np.ndarray]) -> Correlation:
    """Return the autocorrelation of the images' colours about each image's mean."""
    both, pairs = [], []
    for image in images:
        lags = min(image.shape[:2])
        colours = torch.from_numpy(image.astype(np.float64)).movedim(-1, 0) / 255  # (3, H, W)
        both.append(products(colours - colours.mean((1, 2), keepdim=True), lags))
        pairs.append(products(torch.ones(1, *colours.shape[1:]), lags))
    covariance = _ratio(both, pairs)
    if covariance[0] < 1e-9:
        raise SigmaError("the images are of one colour each: nothing tells the size of what is in them.")
    return Correlation(covariance / covariance[0])


def _ratio(sums: Sequence[Tensor], pairs: Sequence[Tensor]) -> Tensor:
    """Return the pooled mean at the distances that fit into all images, up to the first that no two pixels have."""
    lags = min(map(len, sums))
    total, number = (torch.stack([one[:lags] for one in parts]).sum(0) for parts in (sums, pairs))
    known = int((number > 0.5).long().cumprod(0).sum())  # whole numbers, but for rounding
    return total[:known] / number[:known]


class Proposal(NamedTuple):
    """A range of sigma, and what it is taken from."""

    sigma: tuple[float, float]  # pixels
    source: str  # "labels" or "images"
    length: float  # pixels at which the autocorrelation is one half
    matched: float  # sigma of masks whose autocorrelation is one half there


def propose(correlation: Correlation, source: str, scale: float = 1.0) -> Proposal:
    """Apply the rule: `FACTORS` times the sigma of masks that are correlated over the same length.

    Args:
        correlation: Of labels or images.
        source: Which.
        scale: Pixels for each of the correlation's.
    """
    length = scale * correlation.length()
    matched = length / LAG_OVER_SIGMA
    low, high = (factor * matched for factor in FACTORS[source])
    return Proposal((low, high), source, length, matched)


def read_label(path: Path, options: Options) -> np.ndarray:
    """Return a label map (H, W) uint8, resized if asked for; of palette images, the indices."""
    label = read_picture(path, None, options.size, Image.Resampling.NEAREST)
    if label.ndim != 2 or label.dtype not in (np.uint8, np.bool_):
        raise SigmaError(f"{path} is no label map: expected one channel of at most 8 bits.")
    return label.astype(np.uint8)


def pictures(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder and its folders, by path without suffix."""
    if not folder.is_dir():
        raise SigmaError(f"{folder} is not a folder.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise SigmaError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}).")
    named: dict[str, Path] = {}
    for path in found:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise SigmaError(f"{folder} holds two images of one name: {named[name].name} and {path.name}.")
        named[name] = path
    return named


def stored_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image file, from its header."""
    with Image.open(path) as file:
        return file.height, file.width


def paired(images: Mapping[str, Path], labels: Mapping[str, Path], same_size: bool) -> list[Path]:
    """Return the label maps of the images that have one."""
    both = [name for name in images if name in labels]
    if not both:
        raise SigmaError(f"no image has a label map of its name: {next(iter(images))}, {next(iter(labels))}.")
    for name in both if same_size else ():
        sizes = stored_size(images[name]), stored_size(labels[name])
        if sizes[0] != sizes[1]:
            (height, width), (label_height, label_width) = sizes
            raise SigmaError(
                f"{labels[name]} is of {label_width}x{label_height} pixels, its image of {width}x{height}: give --size."
            )
    return [labels[name] for name in both]


def look(options: Options) -> tuple[Proposal, Correlation, int]:
    """Return the range for what the options name, its autocorrelation, and the number of images."""
    images = pictures(options.images)
    if options.labels is None:
        side = statistics.fmean(min(options.size or stored_size(path)) for path in images.values())
        progress = tqdm(images.values(), desc="images", disable=None)
        images_read = (read_picture(path, "RGB", options.size, Image.Resampling.BILINEAR) for path in progress)
        found = image_correlation(map(reduced, images_read))
        return propose(found, "images", side / SHORTER_SIDE), found, len(images)
    labels = paired(images, pictures(options.labels), same_size=options.size is None)
    progress = tqdm(labels, desc="label maps", disable=None)
    found = label_correlation((read_label(path, options) for path in progress), options.void)
    return propose(found, "labels"), found, len(labels)


def reduced(image: np.ndarray) -> np.ndarray:
    """Return an image with a shorter side of `SHORTER_SIDE`."""
    height, width = (round(side * SHORTER_SIDE / min(image.shape[:2])) for side in image.shape[:2])
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def main(options: Options) -> None:
    """Print the range and its reason, and write the statistics."""
    found, correlation, count = look(options)
    low, high = found.sigma
    size = "the images as stored" if options.size is None else f"images of {options.size[1]}x{options.size[0]}"
    looked_at = "label maps" if found.source == "labels" else "images"
    print(f"Autocorrelation of the {count} {looked_at} is one half at {found.length:.1f} pixels;")
    print(f"that of masks with sigma {found.matched:.1f} is, too.")
    print(f"Proposed: sigma=({low:.3g}, {high:.3g}), in pixels of {size}.")
    content = {
        "proposed sigma, pixels": found.sigma,
        "source": found.source,
        "images": count,
        "size": options.size or "as stored",
        "autocorrelation one half at, pixels": found.length,
        "sigma of masks alike, pixels": found.matched,
        "factors": FACTORS[found.source],
        "autocorrelation by distance": [round(value, 5) for value in correlation.values.tolist()],
        "torch": torch.__version__,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Written: {options.out}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except (SigmaError, DataError, OSError) as error:
        sys.exit(f"choose_sigma: {error}")
