"""The protocol of a data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from segmentation.errors import UserError

VOID = 255  # label of pixels that are neither trained on nor scored


class DataError(UserError):
    """The data set is missing or damaged; the message is one sentence for the user.

    Args:
        message: The sentence.
        fault: What is wrong with the file, said of several files, as "cannot be read".
        where: The file.
    """

    def __init__(self, message: str, fault: str = "cannot be read", where: str = "") -> None:
        super().__init__(message)
        self.fault, self.where = fault, where


class Split(Protocol):
    """Images and label maps by index; a label map is read only when asked for."""

    names: tuple[str, ...]  # one for each image

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) uint8."""

    def check_image(self, index: int) -> None:
        """Raise a DataError if image `index` cannot be read."""

    def label(self, index: int, full: bool = False) -> Tensor:
        """Return label map `index`, (H, W) uint8 with VOID; if `full`, in its published size."""


@dataclass(frozen=True)
class Dataset:
    """Three splits, and the meaning of their labels."""

    name: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]  # one for each class, as #rrggbb
    train: Split
    val: Split  # scored during training
    test: Split  # scored at the end
    tested_on: str = "test set"
    full_size: tuple[int, int] | None = None  # published height and width, if scored at it too
    own_sizes: bool = False  # images are not resized, and scored in their own sizes
    group: Callable[[str], str] | None = None  # of an image, from its name, as its street; scored by itself, too
    unlabelled: tuple[int, ...] = ()  # training images without a label map
    problems: tuple[str, ...] = ()  # sentences on what is wrong beside the files of the three splits
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)  # lines of text files for --out, by name
