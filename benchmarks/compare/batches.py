"""The batches that probes send.

Every image says what it is, and every target says it too, so that what comes out can be compared. The first channel of
image i is `VALUES[i]` everywhere. The second is the mean of VALUES that its soft label says. The third is 1 where its
segmentation map is to be ignored.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.compare.roads import CLASSES

SIZE = (24, 40)
VALUES = torch.arange(1, CLASSES + 1) / 16  # exact in any floating dtype
IGNORE = 255


def images(n: int = CLASSES, size: tuple[int, ...] = SIZE, first: int = 0) -> Tensor:
    """Return images (n, 3, *size) float32 in [0, 1]; that of index i is image first + i."""
    shape = (n, *[1] * len(size))
    said = mean_value(soft(n, first))
    channels = [VALUES[first : first + n].view(shape).expand(n, *size), said.view(shape).expand(n, *size)]
    return torch.stack([*channels, _ignored(n, size).float()], 1)


def labels(n: int = CLASSES, first: int = 0) -> Tensor:
    """Return labels (n,) int64: image i is of class i."""
    return torch.arange(first, first + n)


def soft(n: int = CLASSES, first: int = 0) -> Tensor:
    """Return labels (n, CLASSES) float32, each spread over two classes, with another mean for each image."""
    own = one_hot(labels(n, first), CLASSES).float()
    return (13 * own + 3 * own.roll(1, 1)) / 16


def maps(n: int = CLASSES, size: tuple[int, ...] = SIZE, *, ignore: bool = False) -> Tensor:
    """Return segmentation maps (n, *size) int64, of the image's class; with `ignore`, also of IGNORE."""
    classes = labels(n).view(n, *[1] * len(size)).repeat(1, *size)
    return classes.where(~_ignored(n, size), IGNORE) if ignore else classes


def probs(n: int = CLASSES, size: tuple[int, ...] = SIZE) -> Tensor:
    """Return probability maps (n, CLASSES, *size) float32: the soft label at every pixel."""
    return soft(n).view(n, CLASSES, *[1] * len(size)).repeat(1, 1, *size)


def mean_value(probabilities: Tensor) -> Tensor:
    """Return the mean of VALUES by probabilities (B, CLASSES, ...), as (B, ...)."""
    return torch.einsum("bk...,k->b...", probabilities.float(), VALUES)


def _ignored(n: int, size: tuple[int, ...]) -> Tensor:
    """Return where images are to be ignored, bool (n, *size): other columns of each image."""
    columns = torch.arange(size[-1]) + torch.arange(n)[:, None]
    return (columns % 5 == 0).view(n, *[1] * (len(size) - 1), size[-1]).expand(n, *size)
