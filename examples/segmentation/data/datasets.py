"""The protocol of a data set, and a reader of pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

VOID = 255  # label of pixels that are neither trained on nor scored


class DataError(Exception):
    """The data set is missing or damaged; the message is one sentence for the user."""


class Split(Protocol):
    """Images and label maps by index; a label map is read only when asked for."""

    names: tuple[str, ...]  # one for each image

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) uint8."""

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


def read_picture(
    path: Path, mode: str | None, size: tuple[int, int] | None, resampling: Image.Resampling
) -> np.ndarray:
    """Read an image file as an array, converted to a Pillow mode and resized to (height, width) if given.

    Raises:
        DataError: If the file cannot be read, or would lose bits when converted.
    """
    try:
        with Image.open(path) as file:
            if mode and file.mode.startswith(("I", "F")):  # Pillow would clip values above 255
                raise DataError(f"{path} has more than 8 bits a channel: save it with 8.")
            image = file.convert(mode) if mode else file
            return np.asarray(image.resize(size[::-1], resampling) if size else image)
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image: {error}.") from error
