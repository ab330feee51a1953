"""The one reader of label maps.

A label map has one channel (or a palette) that holds ids. PNG, TIFF, BMP and PGM do; a JPEG changes them. It has to lie
as its image does, which the image's EXIF orientation may turn (decoding.py):

    image                      label map                                  it is
    upright                    of the same size                           left
    of orientation 2 to 8      of the same orientation and stored size    turned alike
    5 to 8, not square         without orientation, of the turned size    left
    5 to 8, not square         without orientation, of the stored size    turned alike
    2 to 4, or 5 to 8, square  without orientation                        refused: it could lie either way
    any                        of another size, or another orientation    refused

An orientation of 1 says nothing: many programs write it into every file.

A painted label map has colours in place of ids. Every colour has to be one of a list, and what is transparent is void.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Transpose
from torch import Tensor

from segmentation.data.checking import first_of
from segmentation.data.datasets import VOID, DataError
from segmentation.data.decoding import OTHER_KIND, TURNS, Encoded, Header, opened, read_header, upright

Codes = tuple[int, ...]  # training label of each stored id, 0 to 255

TRANSPARENT = -1  # stands for the colour of transparent pixels

UNKNOWN = 254  # training label of values that mean nothing
_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
_PAINTED = ("RGB", "RGBA", "LA", "PA")
_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads grey of 2 and 4 bits over 0 to 255
_AS_THEY_ARE: Codes = tuple(range(256))


def codes(classes: Mapping[int, int], rest: int = UNKNOWN) -> Codes:
    """Return the table from stored ids to training labels, 0 to 253 or VOID; by default, other ids will be refused."""
    return tuple(classes.get(stored, rest) for stored in range(256))


def read_label(file: Encoded, image: Encoded, meaning: Codes, size: tuple[int, int] | None = None) -> Tensor:
    """Return a label map (H, W) uint8 that lies as its upright image.

    Args:
        file: The label map.
        image: Its image, of which only the header is read.
        meaning: Training label of each stored id.
        size: Height and width to resize to.

    Raises:
        DataError: If the label map cannot be read, holds other ids, or does not fit its image.
    """
    return to_label(*read_ids(file), read_header(image), meaning, size)


def read_painted(
    file: Encoded, image: Encoded, meaning: Mapping[int, int], size: tuple[int, int] | None = None, rest: int = UNKNOWN
) -> Tensor:
    """Return a painted label map (H, W) uint8 that lies as its upright image.

    Args:
        file: The label map.
        image: Its image, of which only the header is read.
        meaning: Training label of each colour, 0xRRGGBB.
        size: Height and width to resize to.
        rest: Training label of all other colours; by default, they are refused.

    Raises:
        DataError: If the label map cannot be read, holds other colours, or does not fit its image.
    """
    colours, header = read_colours(file)
    known = np.array(sorted({TRANSPARENT, *meaning}))
    labels = np.array([meaning.get(colour, VOID) for colour in known.tolist()], dtype=np.uint8)
    places = np.searchsorted(known, colours).clip(max=len(known) - 1)
    found = np.where(known[places] == colours, labels[places], np.uint8(rest))
    unknown = np.unique(colours[found == UNKNOWN])
    if len(unknown):
        problem = f"holds the colour {hexadecimal(unknown[0])}" + (f" and {len(unknown) - 1} more" * (len(unknown) > 1))
        expected = first_of([hexadecimal(colour) for colour in meaning])
        raise DataError(f"{file.where} {problem}: expected {expected}.", "hold unknown colours", file.where)
    return to_label(found, header, read_header(image), _AS_THEY_ARE, size)


def read_colours(file: Encoded) -> tuple[NDArray[np.int32], Header]:
    """Return the colours (H, W), 0xRRGGBB or TRANSPARENT, in a label map, turned by its own orientation."""
    with opened(file) as (stored, header):
        _refuse_jpeg(stored, header)
        if stored.mode not in (*_PAINTED, "1", "L", "P"):
            problem = f"is no painted label map: expected colours, but its mode is {stored.mode}"
            raise DataError(f"{header.where} {problem}.", OTHER_KIND, header.where)
        pixels = np.asarray(upright(stored, header).convert("RGBA")).astype(np.int32)  # (H, W, 4)
    opacity = pixels[..., 3]
    if ((opacity > 0) & (opacity < 255)).any():
        problem = "has pixels that are partly transparent, so that colours are blended: paint with full opacity"
        raise DataError(f"{header.where} {problem}.", OTHER_KIND, header.where)
    colours = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    return np.where(opacity == 0, np.int32(TRANSPARENT), colours), header


def palette_of(file: Encoded) -> dict[int, int]:
    """Return the colour 0xRRGGBB of each index in a label map with a palette; nothing for one without."""
    with opened(file) as (stored, _):
        values = stored.getpalette("RGB") or []
    return {index: r << 16 | g << 8 | b for index, (r, g, b) in enumerate(zip(*[iter(values)] * 3, strict=True))}


def is_painted(file: Encoded) -> bool:
    """Return whether a label map has colours in place of ids."""
    with opened(file) as (stored, _):
        return stored.mode in _PAINTED


def hexadecimal(colour: int) -> str:
    """Return a colour as #rrggbb."""
    return f"#{colour:06x}"


def read_ids(file: Encoded) -> tuple[NDArray[np.uint8], Header]:
    """Return the ids (H, W) in a label map, turned by its own orientation; of a palette image, the indices."""
    with opened(file) as (stored, header):
        step = _step_of_ids(stored, header)
        ids = np.asarray(upright(stored, header))
    return as_bytes(ids, file.where) // np.uint8(step), header


def to_label(
    ids: NDArray[np.uint8], header: Header, image: Header, meaning: Codes, size: tuple[int, int] | None = None
) -> Tensor:
    """Return ids (H, W), read from the file of a header, as the label map of an image; see `read_label`."""
    turn = _turn(header, image)
    label = Image.fromarray(ids).point(meaning)
    unknown = np.asarray(label) == UNKNOWN
    if unknown.any():
        raise _unknown_id(ids[unknown][0], _in_words(meaning), header.where)
    if turn is not None:
        label = label.transpose(turn)
    if size:
        label = label.resize(size[::-1], Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(label))


def as_bytes(ids: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return a file's ids as bytes; raise a DataError if they are no whole numbers from 0 to 255."""
    with np.errstate(invalid="ignore"):
        small = ids.astype(np.uint8)
    differ = small != ids
    if differ.any():
        raise _unknown_id(ids[differ][0], "whole numbers from 0 to 255", where)
    return small


def _unknown_id(found: Any, expected: str, where: str) -> DataError:
    return DataError(f"{where} holds the id {found}: expected {expected}.", "hold unknown ids", where)


def _in_words(meaning: Codes) -> str:
    """Return the ids that mean something, as "0 to 20 and 255"."""
    known = [stored for stored, code in enumerate(meaning) if code != UNKNOWN]
    starts = [stored for stored in known if stored - 1 not in known]
    ends = [stored for stored in known if stored + 1 not in known]
    return " and ".join(str(a) if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True))


def _refuse_jpeg(stored: Image.Image, header: Header) -> None:
    if stored.format in ("JPEG", "MPO"):
        problem = "is a JPEG, which changes ids at the borders of objects: save label maps as PNG"
        raise DataError(f"{header.where} {problem}.", OTHER_KIND, header.where)


def _step_of_ids(stored: Image.Image, header: Header) -> int:
    """Return the factor by which Pillow enlarges the ids in a label map; refuse what has no ids."""
    _refuse_jpeg(stored, header)
    if stored.mode not in _MODES:
        problem = f"is no label map: expected one channel that holds ids, but its mode is {stored.mode}"
    else:
        codec, *_, arguments = stored.tile[0]  # type: ignore[attr-defined]
        raw, *more = (arguments,) if isinstance(arguments, str) else arguments
        is_scaled = codec.startswith("ppm") and more != [255]
        if not is_scaled and not re.search(r";\d?IR?$", raw):
            return _STEPS.get(raw[:3], 1)
        problem = "is no label map that can be read, as its numbers are stored inverted or scaled: save it as PNG"
    raise DataError(f"{header.where} {problem}.", OTHER_KIND, header.where)


def _turn(label: Header, image: Header) -> Transpose | None:
    """Return how to turn a label map, already turned by its own orientation, by the table above."""
    is_quarter_turn = image.orientation >= 5 and image.size[0] != image.size[1]
    if (label.size, label.orientation) == (image.size, image.orientation):
        return None
    if label.orientation == 1 and is_quarter_turn and label.size == image.size[::-1]:
        return None
    if label.orientation == 1 and is_quarter_turn and label.size == image.size:
        return TURNS[image.orientation]
    if label.orientation == 1 and label.size == image.size:
        problem = (
            f"could lie in two ways, as {image.where} is turned or mirrored by its EXIF orientation "
            f"{image.orientation}: save the image as it is seen, without an orientation"
        )
    else:
        problem = f"is no label map of its image: it is {label}, but {image.where} is {image} (width x height)"
    raise DataError(f"{label.where} {problem}.", "do not fit their images", label.where)
