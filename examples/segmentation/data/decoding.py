"""The one reader of images; label_maps.py has that of label maps.

A file is what its content says, whatever its name: JPEG, PNG, WebP, TIFF, BMP or PPM, of which the first picture is
read. Other files, damaged ones and those of more than `PIXELS` pixels are each a DataError of one sentence.

Cameras store an image as the sensor lies, and in the EXIF orientation how to turn it: 1 not at all, 2 and 4 mirrored,
3 by 180 degrees, 5 to 8 by 90 or 270 degrees, 5 and 7 mirrored, too. Images are always turned.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.Image import Transpose
from torch import Tensor

from segmentation.data.datasets import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM")
PIXELS = 89_478_485  # Pillow's own limit
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
OTHER_KIND = "are of another kind"

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `opened` refuses what it warns of


class Encoded(NamedTuple):
    """A picture's file."""

    content: bytes
    where: str  # its place, for messages


class Header(NamedTuple):
    """What a picture's file says before its pixels."""

    where: str
    size: tuple[int, int]  # width and height, as stored
    orientation: int = 1  # EXIF, 1 to 8; 1 also if there is none

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height, as seen."""
        return self.size if self.orientation < 5 else self.size[::-1]

    def __str__(self) -> str:
        """Say how the picture lies."""
        size = f"{self.size[0]}x{self.size[1]}"
        return size if self.orientation == 1 else f"{size} with EXIF orientation {self.orientation}"


def read_picture(file: Encoded) -> Image.Image:
    """Return an upright RGB image; white is seen through what is transparent."""
    with opened(file) as (stored, header):
        _refuse_other_kinds(stored, header)
        image = upright(stored, header)
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        return image.convert("RGB")


def read_image(file: Encoded, size: tuple[int, int] | None = None) -> Tensor:
    """Return an upright image (3, H, W) uint8, resized to (height, width) if given."""
    return as_tensor(read_picture(file), size)


def as_tensor(picture: Image.Image, size: tuple[int, int] | None = None) -> Tensor:
    """Return an RGB image as (3, H, W) uint8, resized to (height, width) if given."""
    if size:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def check_image(file: Encoded) -> None:
    """Raise a DataError if an image cannot be read, in less time than reading it."""
    with opened(file) as (stored, header):
        _refuse_other_kinds(stored, header)
        if stored.format == "PNG":
            try:
                stored.verify()  # checksums
            except Exception:
                read_picture(file)  # which may do without the damaged part
        else:
            stored.draft(None, (1, 1))  # a JPEG's smallest version
            stored.load()


def read_header(file: Encoded) -> Header:
    """Return a picture's stored size and orientation."""
    with opened(file) as (_, header):
        return header


@contextmanager
def opened(file: Encoded) -> Iterator[tuple[Image.Image, Header]]:
    """Open a file and read its header; raise a DataError if that, or the caller's decoding, fails."""
    try:
        with Image.open(BytesIO(file.content), formats=FORMATS) as stored:
            if stored.width * stored.height > PIXELS:
                raise Image.DecompressionBombError
            yield stored, _header(stored, file)
    except DataError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own at twice as many
        raise _unreadable(file, f"it has more than {PIXELS:,} pixels, make it smaller") from error
    except UnidentifiedImageError as error:
        raise _unreadable(file, f"it is none of {', '.join(FORMATS)}, or its start is damaged") from error
    except Exception as error:  # on damaged files Pillow raises almost any exception
        problem = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise _unreadable(file, f"{problem}, replace the file") from error


def upright(stored: Image.Image, header: Header) -> Image.Image:
    """Decode a picture, and turn it by its orientation."""
    stored.load()
    if stored.format == "TIFF" or header.orientation == 1:  # Pillow has turned a TIFF
        return stored
    return stored.transpose(TURNS[header.orientation])


def _header(stored: Image.Image, file: Encoded) -> Header:
    # Pillow would decode a whole PNG to find EXIF behind its pixels.
    no_exif = stored.format == "PNG" and b"eXIf" not in file.content
    exif = Image.Image.getexif(stored) if no_exif else stored.getexif()
    orientation = exif.get(Base.Orientation)
    size = stored.size
    if stored.format == "TIFF":  # Pillow gives the size of the turned picture
        size = stored.tag_v2[Base.ImageWidth], stored.tag_v2[Base.ImageLength]  # type: ignore[attr-defined]
    return Header(file.where, size, orientation if orientation in TURNS else 1)


def _unreadable(file: Encoded, problem: str) -> DataError:
    return DataError(f"{file.where} cannot be read as an image: {problem}.", where=file.where)


def _refuse_other_kinds(stored: Image.Image, header: Header) -> None:
    if stored.mode.startswith(("I", "F")):  # Pillow would clip values above 255
        problem = "has more than 8 bits a channel: save it with 8"
    elif stored.mode in ("LAB", "HSV"):
        problem = f"has {stored.mode} colours: save it as RGB"
    else:
        return
    raise DataError(f"{header.where} {problem}.", OTHER_KIND, header.where)
