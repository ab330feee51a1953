"""Propose a range of sigma for cow masks from your own label maps.

pip install ".[examples]"
python examples/choose_sigma.py LABELS
python examples/choose_sigma.py CAMVID/trainannot --void 11

LABELS is a folder of label maps, each an image of one channel. The range is printed in pixels of the label maps: to
train at half their size, halve it. On CamVid the proposed range trained no better than the paper's 4-16 (docs/why.md).

The autocorrelation of cow masks at a distance of d pixels is (2/pi) arcsin(exp(-d^2 / (4 sigma^2))): one half at
d = 1.18 sigma. The autocorrelation of label maps is how much more often than by chance two pixels at that distance have
the same class. Masks as large as the objects in the images are those whose autocorrelation is one half at the same
distance. The range is their sigma times two factors.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from segmentation.data.datasets import DataError
from segmentation.data.files import pictures_in, read_file
from segmentation.data.label_maps import read_ids

LAG_OVER_SIGMA = 2 * math.sqrt(-math.log(math.sin(math.pi / 4)))  # distance where masks' autocorrelation is one half
FACTORS = (1 / 8, 1 / 2)  # the middle of what trained equally well on the built-in scenes (docs/why.md)


def products(x: Tensor) -> Tensor:
    """Sum x(i) x(i + d) over channels, rows and columns of (C, H, W), for each d below min(H, W): (lags,) float64."""
    total = torch.zeros(min(x.shape[1:]), dtype=torch.float64)
    for lines in (*x, *x.mT):
        length = lines.shape[1]
        spectrum = torch.fft.rfft(lines.double(), n=2 * length).abs() ** 2  # padded, so that no product wraps round
        total += torch.fft.irfft(spectrum.sum(0), n=2 * length)[: len(total)]
    return total


def autocorrelation(labels: Iterable[NDArray[np.uint8]], void: Sequence[int] = (255,)) -> Tensor:
    """Return the autocorrelation of label maps by distance: 1 for the same class, 0 for agreement by chance.

    Args:
        labels: Label maps (H, W); sizes may differ.
        void: Values of pixels that do not count.

    Returns:
        (lags,) float64, at distances of 0, 1, ... pixels along rows and columns. It ends where a label map does, or
        where no two pixels at a distance are labelled.

    Raises:
        DataError: If there are fewer than two classes.
    """
    same, pairs, counts = [], [], torch.zeros(256, dtype=torch.float64)
    for label in labels:
        classes = np.setdiff1d(label, void).tolist()
        if classes:
            masks = torch.from_numpy(np.stack([label == value for value in classes]))  # (K, H, W)
            counts[classes] += masks.sum((1, 2))
            same.append(products(masks))
            pairs.append(products(masks.any(0, keepdim=True)))
    if (counts > 0).sum() < 2:
        raise DataError("the label maps hold fewer than two classes, not counting --void.")
    lags = min(map(len, pairs))
    n_same, n_pairs = (torch.stack([one[:lags] for one in parts]).sum(0) for parts in (same, pairs))
    known = int((n_pairs > 0.5).long().cumprod(0).sum())  # whole numbers, but for rounding
    chance = (counts / counts.sum()).square().sum()
    return (n_same[:known] / n_pairs[:known] - chance) / (1 - chance)


def half_length(correlation: Tensor) -> float:
    """Return the distance in pixels, interpolated, at which an autocorrelation falls to one half."""
    below = (correlation < 0.5).nonzero()
    if not len(below):
        largest = len(correlation) - 1
        raise DataError(f"the autocorrelation does not fall to one half within {largest} pixels: leave out small maps.")
    end = int(below[0])
    before, after = correlation[end - 1 : end + 1].tolist()
    return end - 1 + (before - 0.5) / (before - after)


def main(labels: tyro.conf.Positional[Path], void: tuple[int, ...] = (255,)) -> tuple[float, float]:
    """Print and return the range of sigma.

    Args:
        labels: Folder of label maps, searched with its subfolders.
        void: Values of pixels that have no class (CamVid's is 11).
    """
    files = pictures_in(labels, nested=True) if labels.is_dir() else {}
    if not files:
        raise DataError(f"{labels} is not a folder with label maps.")
    ids = (read_ids(read_file(path))[0] for path in files.values())
    length = half_length(autocorrelation(ids, void))
    sigma = length / LAG_OVER_SIGMA
    low, high = (factor * sigma for factor in FACTORS)
    print(
        f"{len(files)} label maps: autocorrelation one half at {length:.1f} pixels, as of masks of sigma {sigma:.1f}."
    )
    print(f"Proposed: sigma=({low:.3g}, {high:.3g}), in pixels of the label maps.")
    return low, high


if __name__ == "__main__":
    try:
        tyro.cli(main, description=__doc__)
    except DataError as error:
        sys.exit(f"choose_sigma: {error}")
