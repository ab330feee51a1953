"""Masks that are True inside random boxes, drawn and written in one launch."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from cowmask.kernels.counters import OF_A_MASK, Range, log_uniform, uniform

ROWS, COLUMNS = 64, 64  # of words, of a program
ROWS_OF_THREE_AXES = 32  # more rows would take more registers than there are
_TINY = tl.constexpr(1.1754943508222875e-38)


@triton.jit
def _rounded(x):
    """Round to the nearest whole number, and a half to an even one."""
    below = tl.floor(x)
    up = (x - below > 0.5) | ((x - below == 0.5) & (below - 2 * tl.floor(below / 2) == 1))
    return tl.where(up, below + 1, below)


@triton.jit
def _covered(position, side, bits, length, CLIP: tl.constexpr):
    """Tell which positions along an axis a box covers. Its side is a fraction of the axis; `bits` place it."""
    pixels = _rounded(side * length)
    if CLIP:
        start = tl.floor(uniform(bits) * length) - tl.floor(pixels / 2)  # the centre is uniform in the image
    else:
        # In float32 the product may be rounded up to the next whole number, one pixel too far.
        start = tl.minimum(tl.floor(uniform(bits) * (length - pixels + 1)), length - pixels)
    return (position >= start) & (position < start + pixels)


@triton.jit
def _power(base, exponent):
    return tl.where(base > 0, tl.exp(tl.log(tl.maximum(base, _TINY)) * exponent), 0.0)


@triton.jit(do_not_specialize=["n_boxes", "depth", "height", "width_in_units"])
def boxes_kernel(
    out_ptr,
    seed_ptr,
    areas_ptr,
    n_boxes,
    depth,
    height,
    width_in_units,
    area,
    area_range,
    relative_aspect,
    AXES: tl.constexpr,
    HAS_ASPECT: tl.constexpr,
    CLIP: tl.constexpr,
    ALIGN: tl.constexpr,
    WORD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write a tile of a mask. Every tile draws all boxes anew.

    Args:
        out_ptr: Masks (n, depth, height, width), a byte a pixel, as words.
        seed_ptr: One int64.
        areas_ptr: Fraction of each mask that its boxes cover, or None: then it is drawn.
        n_boxes: Boxes of a mask.
        depth, height: Lengths of the first two axes, 1 for those that a mask of fewer axes does not have.
        width_in_units: Length of the last axis, in units of ALIGN.
        area, area_range: The lowest fraction, and the highest less the lowest.
        relative_aspect: Height over width of a box, both as fractions of the image's, if HAS_ASPECT.
        AXES: Axes of a mask.
        HAS_ASPECT: Whether boxes have that aspect, and not sides area^u with random exponents.
        CLIP: Whether boxes are cut at the border, and not placed inside the image.
        ALIGN: Greatest power of two up to 16 that divides the width.
        WORD: Pixels of a word, 1 or 4; it divides ALIGN.
        ROWS, COLUMNS: Of a tile, over all rows of all slices; a column is a word.
    """
    # 1. Which tile of which mask?
    words = width_in_units * (ALIGN // WORD)  # of a row
    tiles_w, tiles = tl.cdiv(words, COLUMNS), tl.cdiv(words, COLUMNS) * tl.cdiv(depth * height, ROWS)
    index = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    first_row = tile // tiles_w * ROWS
    row = (first_row + tl.arange(0, ROWS))[:, None]
    column = (tile % tiles_w * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    slices, lines = (row // height).to(tl.float32), (row % height).to(tl.float32)
    depth_px, height_px, width_px = depth.to(tl.float32), height.to(tl.float32), (words * WORD).to(tl.float32)

    # 2. The area of a box.
    seed = tl.load(seed_ptr)
    word = index.to(tl.uint32)
    zero = word * 0
    if areas_ptr is None:
        bits, _, _, _ = tl.philox(seed, zero + OF_A_MASK, zero, zero, word)
        share = (area + area_range * uniform(bits)) / n_boxes
    else:
        share = tl.load(areas_ptr + index) / n_boxes

    # 3. The union of the boxes.
    inside = tl.zeros((ROWS, COLUMNS), out_ptr.dtype.element_ty)
    for box in range(n_boxes):
        number = zero + box
        if HAS_ASPECT:
            side_h = tl.sqrt_rn(share * relative_aspect)
            if not CLIP:
                side_h = tl.maximum(
                    tl.minimum(side_h, 1.0), share
                )  # no longer than the image; the width makes up for it
            side_w = tl.div_rn(share, tl.maximum(side_h, _TINY))
        elif AXES > 1:
            # Exponents that are uniform on the simplex: normalised exponential variables.
            a, b, c, _ = tl.philox(seed, number, zero, zero, word)
            exponent_w, exponent_h = tl.maximum(-log_uniform(a), _TINY), tl.maximum(-log_uniform(b), _TINY)
            total = exponent_w + exponent_h
            if AXES > 2:
                exponent_d = tl.maximum(-log_uniform(c), _TINY)
                total += exponent_d
                side_d = _power(share, exponent_d / total)
            side_h, side_w = _power(share, exponent_h / total), _power(share, exponent_w / total)
        else:
            side_w = share
        a, b, c, _ = tl.philox(seed, number, zero + 1, zero, word)
        bytes_w = tl.zeros((1, COLUMNS), tl.int32)
        for byte in tl.static_range(WORD):
            covered = _covered((WORD * column + byte).to(tl.float32), side_w, a, width_px, CLIP)
            bytes_w |= covered.to(tl.int32) << 8 * byte
        is_row = row >= 0
        if AXES > 1:
            is_row = is_row & _covered(lines, side_h, b, height_px, CLIP)
        if AXES > 2:
            is_row = is_row & _covered(slices, side_d, c, depth_px, CLIP)
        inside |= tl.where(is_row, bytes_w, 0).to(inside.dtype)

    out_ptr += (index.to(tl.int64) * depth * height + first_row) * words
    offset = tl.arange(0, ROWS)[:, None] * words + column
    tl.store(out_ptr + offset, inside, mask=(row < depth * height) & (column < words))


def launch_boxes(out: Tensor, seed: Tensor, area: Range, aspect: float | None, n_boxes: int, *, clip: bool) -> None:
    """Write masks (n, *size) that are 1 inside boxes, which depend on the seed and on their indices alone.

    Args:
        out: (n, 1, *size) uint8, contiguous, with one to three axes of pixels.
        seed: One int64, on the device.
        area: Fraction of the image that the boxes of a mask cover, drawn uniformly.
        aspect: Height over width in pixels, for two axes; None draws it.
        n_boxes: Boxes of a mask.
        clip: Whether boxes are cut at the border.
    """
    n, _, *size = out.shape
    depth, height, width = [1] * (3 - len(size)) + size
    align = math.gcd(width, 16)
    word = 4 if align >= 4 else 1
    low, high, areas = area
    rows = ROWS if len(size) < 3 else ROWS_OF_THREE_AXES
    programs = n * -(-depth * height // rows) * -(-width // (COLUMNS * word))
    with torch.cuda.device_of(out):
        boxes_kernel[(programs,)](
            out if word == 1 else out.view(torch.int32),
            seed,
            areas,
            n_boxes,
            depth,
            height,
            width // align,
            low,
            high - low,
            0.0 if aspect is None else aspect * width / height,
            AXES=len(size),
            HAS_ASPECT=aspect is not None,
            CLIP=clip,
            ALIGN=align,
            WORD=word,
            ROWS=rows,
            COLUMNS=COLUMNS,
        )
