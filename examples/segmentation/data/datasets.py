"""What a data set is to the trainer, and how it reads a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

VOID = 255  # the label of pixels that are neither trained on nor counted


class DataError(Exception):
    """The data set is missing or damaged; the message is one sentence for the user."""


class Split(Protocol):
    """Images by index, and labels that are read only for the images asked for."""

    names: tuple[str, ...]  # of the images

    def image(self, index: int) -> Tensor:
        """Return an image, (3, H, W) uint8."""

    def label(self, index: int, full: bool = False) -> Tensor:
        """Return a label map uint8, VOID where there is none: (H, W), or if `full` of the size as published."""


@dataclass(frozen=True)
class Dataset:
    """Three splits and what their labels mean."""

    name: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]  # of the classes in pictures, as #rrggbb
    train: Split
    val: Split  # looked at while training
    test: Split  # scored at the end
    tested_on: str = "test set"
    full_size: tuple[int, int] | None = None  # height and width as published, if scores are counted at it too
    own_sizes: bool = False  # images are not resized, and scored as they are


def read_picture(
    path: Path, mode: str | None, size: tuple[int, int] | None, resampling: Image.Resampling
) -> np.ndarray:
    """Return an image file as an array, converted to a mode of Pillow's and resized to (height, width) if given."""
    try:
        with Image.open(path) as file:
            if mode and file.mode.startswith(("I", "F")):  # Pillow would cut off all above 255
                raise DataError(f"{path} has more than 8 bits a channel: save it with 8.")
            image = file.convert(mode) if mode else file
            return np.asarray(image.resize(size[::-1], resampling) if size else image)
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image: {error}.") from error
