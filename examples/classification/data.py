"""Images with one label each: scikit-learn's digits, and CIFAR-10 from a folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits as read_digits
from torch import Tensor
from torchvision.datasets import CIFAR10

from segmentation.errors import UserError


class DataError(UserError):
    """A data set cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images (N, C, H, W) uint8, and their classes (N,) int64."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three parts of a data set, and what may be done to its images."""

    name: str
    classes: int
    largest: int  # value of a pixel
    flips: bool  # whether an image that is mirrored left to right keeps its class
    shift: int  # pixels that an image may be moved by
    train: Images
    validation: Images
    test: Images

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        return self.train.pixels.shape[-1]

    @property
    def channels(self) -> int:
        """Number of colours."""
        return self.train.pixels.shape[1]


def load_digits() -> Dataset:
    """Return the 1,797 digits of 8x8 pixels that scikit-learn contains, in their order: 897, 300 and 600."""
    digits = read_digits()
    return _dataset(
        "digits",
        digits.images[:, None].astype(np.uint8),
        digits.target,
        (897, 300, 600),
        largest=16,
        flips=False,
        shift=1,
    )


def load_cifar10(folder: Path) -> Dataset:
    """Read CIFAR-10, in Python's format: 45,000 images to train on, 5,000 for validation, 10,000 test images.

    These files are pickles, and a pickle can run any code. Torchvision unpickles none of them unless the MD5 sums of
    all are those of the published files.

    Args:
        folder: cifar-10-batches-py, or the folder that holds it.

    Raises:
        DataError: If a file is missing, or is not the published one.
    """
    root = folder.parent if folder.name == CIFAR10.base_folder else folder
    try:
        parts = [CIFAR10(root, train) for train in (True, False)]
    except RuntimeError:
        raise DataError(
            f"{folder} does not hold CIFAR-10 as published: --data takes the folder {CIFAR10.base_folder} unpacked "
            "from cifar-10-python.tar.gz, whose files were not changed."
        ) from None
    pixels = np.concatenate([part.data for part in parts]).transpose(0, 3, 1, 2)
    labels = np.concatenate([part.targets for part in parts])
    held_out = len(parts[0]) // 10
    sizes = (len(parts[0]) - held_out, held_out, len(parts[1]))
    return _dataset("CIFAR-10", pixels, labels, sizes, largest=255, flips=True, shift=4)


def _dataset(
    name: str,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    sizes: tuple[int, int, int],
    *,
    largest: int,
    flips: bool,
    shift: int,
) -> Dataset:
    parts = zip(torch.from_numpy(pixels).split(sizes), torch.from_numpy(labels).long().split(sizes), strict=True)
    return Dataset(name, 10, largest, flips, shift, *(Images(*part) for part in parts))


def choose_labelled(labels: Tensor, n: int, classes: int, seed: int) -> Tensor:
    """Draw the indices (n,) of the images whose labels are used, equally many of each class.

    Raises:
        DataError: If a class would get fewer images than another, or has too few.
    """
    each, rest = divmod(n, classes)
    smallest = int(torch.bincount(labels, minlength=classes).min())
    if rest or not 1 <= each <= smallest:
        raise DataError(
            f"--labelled must be a multiple of the {classes} classes, from {classes} to {classes * smallest}, not {n}."
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return torch.cat([order[labels[order] == label][:each] for label in range(classes)])
