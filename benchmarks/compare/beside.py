"""Probes of what libraries do beside mixing and erasing, or with other things than batches. Each takes a library.

An image has a bright object on a grey ground; erased pixels are black.
"""

import re
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.compare.probes import TRIES, NoError, need
from benchmarks.compare.roads import Library, MissingError

SIZE = (48, 64)
BOX = (20, 12, 36, 28)  # x, y of two corners
GREY, BRIGHT = 0.5, 1.0


def single_image(library: Library) -> str:
    """A tensor (C, H, W) is erased from."""
    return _erased(library, _image(), lambda out: isinstance(out, Tensor) and out.shape in ((3, *SIZE), (1, 3, *SIZE)))


def numpy_image(library: Library) -> str:
    """An array (H, W, C) is erased from."""
    array = _image().movedim(0, -1).numpy()
    return _erased(library, array, lambda out: isinstance(out, np.ndarray | Tensor) and out.shape == array.shape)


def pil_image(library: Library) -> str:
    """A PIL image is erased from."""
    array = (_image() * 255).byte().movedim(0, -1).numpy()
    return _erased(library, Image.fromarray(array), lambda out: isinstance(out, Image.Image))


def boxes_follow(library: Library) -> str:
    """Boxes hold what is left of their objects, to a pixel, and go with them."""
    for _ in range(TRIES):
        out, left = _tool(library, "boxes")(_image(), torch.tensor([BOX]).float())
        visible = out[0] > (GREY + BRIGHT) / 2
        for x1, y1, x2, y2 in torch.as_tensor(left).round().int().tolist():
            if min(x2 - x1, y2 - y1) < 2:
                continue  # too thin to tell from nothing
            near = (slice(max(y1 - 1, 0), y2 + 1), slice(max(x1 - 1, 0), x2 + 1))
            rows, columns = (visible[near].any(axis).nonzero().flatten() for axis in (1, 0))
            need(len(rows) > 0, "a box stays whose object is gone")
            spare = max(y2 - y1 - (rows[-1] - rows[0] + 1), x2 - x1 - (columns[-1] - columns[0] + 1))
            need(int(spare) < 2, "boxes keep their size when objects are cut")
            visible[near] = False
        need(int(visible.sum()) <= 2 * max(SIZE), "an object has no box")  # thin ones aside
    return ""


def points_follow(library: Library) -> str:
    """Key points go with what is erased."""
    place = torch.tensor([[(BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2]])
    for _ in range(TRIES):
        out, left = _tool(library, "points")(_image(), place)
        column, row = place[0].int().tolist()
        need(bool(out[0, row, column] > GREY) == (len(left) > 0), "a point stays where the image was erased")
    return ""


def rotates(library: Library) -> str:
    """An image is turned by some degrees."""
    out, _ = _tool(library, "rotate")(_image(), torch.tensor([BOX]).float())
    need(tuple(out.shape) == (3, *SIZE) and bool((torch.as_tensor(out) != _image()).any()), "nothing turns")
    return ""


def boxes_turn(library: Library) -> str:
    """A box is round its object when that has been turned."""
    out, turned = _tool(library, "rotate")(_image(), torch.tensor([BOX]).float())
    need(turned is not None, "turns images alone")
    inside = torch.zeros(SIZE, dtype=torch.bool)
    x1, y1, x2, y2 = (round(float(edge)) for edge in turned[0])
    inside[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True
    bright = out[0] > (GREY + BRIGHT) / 2
    need(bool(bright[~inside].sum() == 0), "the object leaves its box")
    return ""


def all_transforms(library: Library) -> str:
    """How many transforms there are."""
    return str(library.transforms)


def mixing_transforms(library: Library) -> str:
    """How many of them mix images."""
    return str(library.mixes)


def requirements(library: Library) -> str:
    """How many packages it needs."""
    if not library.package:
        return "-"
    needed = metadata.requires(library.package) or []
    return str(len({re.split(r"[^\w.-]", one)[0].lower() for one in needed if "extra ==" not in one}))


def _image() -> Tensor:
    image = torch.full((3, *SIZE), GREY)
    x1, y1, x2, y2 = BOX
    image[:, y1:y2, x1:x2] = BRIGHT
    return image


def _tool(library: Library, name: str) -> Callable[..., Any]:
    if name not in library.tools:
        raise MissingError("has no such transform")
    return library.tools[name]


def _erased(library: Library, image: Any, fits: Callable[[Any], bool]) -> str:
    before = np.array(image, copy=True)
    for _ in range(TRIES):
        out = _tool(library, "one")(image)
        need(fits(out), f"comes out as {type(out).__name__} {tuple(getattr(out, 'shape', ()))}")
        if not np.array_equal(np.asarray(out).reshape(before.shape), before):
            return ""
    raise NoError("nothing is erased")
