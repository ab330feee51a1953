"""Decode images and label maps from `Files`."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segmentation.data.datasets import DataError
from segmentation.data.files import Files


def read_image(files: Files, name: str, size: tuple[int, int] | None = None) -> Tensor:
    """Return an image (3, H, W) uint8, resized to (height, width) if given."""
    with _opened(files, name) as stored:
        image = stored.convert("RGB")
        if size:
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_label(files: Files, name: str) -> NDArray[np.uint8]:
    """Return a stored label map (H, W); for a palette image, its indices."""
    with _opened(files, name) as stored:
        if stored.mode not in ("L", "P"):
            raise DataError(
                f"{files.where(name)} is no label map: expected one channel of 8 bits, but its mode is {stored.mode}."
            )
        return np.array(stored)


def image_size(files: Files, name: str) -> tuple[int, int]:
    """Return the height and width in an image's header."""
    with _opened(files, name) as stored:
        return stored.height, stored.width


@contextmanager
def _opened(files: Files, name: str) -> Iterator[Image.Image]:
    content = files.read(name)
    try:
        with Image.open(BytesIO(content)) as image:
            yield image
    # Pillow reports damage by any of these.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{files.where(name)} cannot be read as an image: {error}.") from error
