"""Pictures as files, for tests."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segmentation.data.decoding import Encoded

ORIENTATION = 274  # EXIF's tag
RGB = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
IDS = np.random.default_rng(1).integers(0, 12, (9, 12), dtype=np.uint8)


def encode(
    pixels: NDArray[Any] | Image.Image,
    kind: str = "PNG",
    orientation: int | None = None,
    where: str = "a/picture",
    **options: Any,
) -> Encoded:
    """Return pixels as a file of a format, with an EXIF orientation if given."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if orientation is not None:
        options["exif"] = exif = Image.Exif()
        exif[ORIENTATION] = orientation
    stream = BytesIO()
    picture.save(stream, kind, **options)
    return Encoded(stream.getvalue(), where)


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> Encoded:
    """Return a PNG of any kind, from its rows as they are stored, each with its filter's number before."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return Encoded(b"\x89PNG\r\n\x1a\n" + b"".join(parts), "a/picture")


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def as_stored(upright: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return how a camera stores a picture; EXIF names the visual sides of the first row and the first column."""
    return {
        1: upright,
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.swapaxes(0, 1),  # left, top
        6: upright.swapaxes(0, 1)[::-1],  # right, top
        7: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
        8: upright[::-1].swapaxes(0, 1),  # left, bottom
    }[orientation].copy()
