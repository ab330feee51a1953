"""The spectral method's products, with the threshold in their epilogue: the field never reaches memory.

Cosines of even frequencies are even about the middle of an axis, those of odd ones odd. So two products of half the
length give a row and its mirror image, as their difference and their sum: `half` rows of minus the even cosines, and of
the odd ones, are all that is read of the first axis.

The state of a mask is its threshold in standard deviations, how many rows and how many columns of its coefficients can
be other than zero, and parts of the sum of their squares: the variance, by Parseval.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from cowmask.kernels.prepare import BLOCK, HEADER, Prepared

BLOCK_PAIRS = 32  # pairs of frequencies that `product_kernel` multiplies at a time
BLOCK_K, STAGES_OF_LINES = 32, 3  # columns of coefficients that `draw_kernel` multiplies at a time, and has in flight
ALIGNED = 16  # elements of lines, so that loads are as wide as they can be
BUSY = 128  # programs that keep a GPU busy
_BLOCK, _HEADER = tl.constexpr(BLOCK), tl.constexpr(HEADER)


class Tiles(NamedTuple):
    """What a program of `draw_kernel` draws at a time, and how."""

    rows: int  # of the upper half
    columns: int
    warps: int
    stages: int

    def shared_memory(self, pairs: int) -> int:
        """Return the bytes of shared memory that a program takes at most."""
        lines = 2 * pairs * self.columns  # of one parity
        first_product = 2 * BLOCK_K * (pairs + self.columns) * STAGES_OF_LINES
        last_product = lines + 4 * pairs * self.rows * self.stages + self.rows * self.columns
        return lines + max(first_product, last_product)


# By pairs of frequencies: what is fastest where it fits, first. With `mma` instructions, 128 columns would take more
# registers than there are.
TILES = {
    16: (Tiles(64, 64, 4, 2),),
    32: (Tiles(64, 64, 4, 2),),
    64: (Tiles(64, 64, 4, 2), Tiles(32, 64, 4, 2)),
    128: (Tiles(64, 64, 8, 2), Tiles(32, 64, 4, 2), Tiles(32, 32, 4, 1)),
    256: (Tiles(64, 64, 8, 2), Tiles(32, 32, 4, 2), Tiles(16, 32, 4, 1)),
}
TILES_HOPPER = TILES | {pairs: (Tiles(64, 128, 4, 2),) for pairs in (16, 32, 64)}  # with `wgmma` instructions


def tiles(pairs: int, device: torch.device) -> Tiles | None:
    """Return the tiles for some pairs of frequencies; None if there are too many for the shared memory of a device."""
    choices = (TILES_HOPPER if is_hopper(device) else TILES).get(pairs, ())
    return next((tile for tile in choices if tile.shared_memory(pairs) <= shared_memory(device)), None)


def is_hopper(device: torch.device) -> bool:
    """Tell whether a device has `wgmma` instructions."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(device)[0] == 9


def shared_memory(device: torch.device) -> int:
    """Return the bytes of shared memory that a program may have on a device."""
    if device.type != "cuda":
        return 2**20  # interpreted
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index)
    return int(properties["max_shared_mem"])


@triton.jit
def _threshold(state_ptr, parts, pixels, PARTS: tl.constexpr):
    """Compute the level that the field has to exceed."""
    part = tl.arange(0, PARTS)
    squares = tl.load(state_ptr + _HEADER + part, mask=part < parts, other=0.0)
    deviations = tl.load(state_ptr)
    is_infinite = tl.abs(deviations) == float("inf")
    finite = tl.where(is_infinite, 0.0, deviations)  # infinity times 0 would be no number
    level = tl.where(is_infinite, deviations, finite * tl.sqrt(tl.sum(squares, 0) / pixels))
    return tl.where(level == 0.0, 0.0, level)  # never -0, whose sign would count


@triton.jit
def _write_rows(out_ptr, level_less_even, odd, row, column, height, width):
    """Write rows of the upper half and their mirror images: where the field exceeds the level, so the rest is negative.

    A tie leaves +0, so the mask is False.
    """
    upper = ((level_less_even - odd).to(tl.uint32, bitcast=True) >> 31).to(tl.uint8)
    lower = ((level_less_even + odd).to(tl.uint32, bitcast=True) >> 31).to(tl.uint8)
    row, column = row[:, None], column[None, :]
    tl.store(out_ptr + row.to(tl.int64) * width + column, upper, mask=(row < (height + 1) // 2) & (column < width))
    mirrored = (height - 1 - row).to(tl.int64)
    tl.store(out_ptr + mirrored * width + column, lower, mask=(row < height // 2) & (column < width))


@triton.jit
def _lines(
    coefficients_ptr,
    basis_ptr,
    count,
    PAIRS: tl.constexpr,
    K: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Multiply every second row of the coefficients by the cosines of some columns; return (PAIRS, BLOCK_W)."""
    pair, column = tl.arange(0, PAIRS)[:, None], tl.arange(0, BLOCK_W)[None, :]
    lines = tl.zeros((PAIRS, BLOCK_W), tl.float32)
    for start in range(0, count, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        coefficients = tl.load(coefficients_ptr + pair * (2 * K) + k[None, :])
        basis = tl.load(basis_ptr + column * K + k[:, None])
        lines = tl.dot(coefficients, basis, lines, input_precision="ieee")
    return lines.to(coefficients_ptr.dtype.element_ty)


@triton.jit
def _draw_rows(
    out_ptr,
    size,
    coefficients_ptr,
    basis_ptr,
    cosine_ptrs,
    threshold,
    count,
    rows,
    first_column,
    PAIRS: tl.constexpr,
    STRIDE: tl.constexpr,
    K: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Draw some columns of some rows of the upper half, and of their mirror images, by the first PAIRS frequencies."""
    # 1. Along the rows of the coefficients. What results stays in shared memory.
    even_lines = _lines(coefficients_ptr, basis_ptr, count, PAIRS, K, BLOCK_W, BLOCK_K)
    odd_lines = _lines(coefficients_ptr + K, basis_ptr, count, PAIRS, K, BLOCK_W, BLOCK_K)

    # 2. Along the columns, and the comparison.
    height, width = size
    even_ptr, odd_ptr = cosine_ptrs
    start, stop = rows
    pair, column = tl.arange(0, PAIRS)[None, :], first_column + tl.arange(0, BLOCK_W)
    for top in tl.range(start, stop, BLOCK_H, num_stages=STAGES):
        row = top + tl.arange(0, BLOCK_H)
        cosine = row[:, None] * STRIDE + pair
        level = tl.zeros((BLOCK_H, BLOCK_W), tl.float32) + threshold
        level = tl.dot(tl.load(even_ptr + cosine), even_lines, level, input_precision="ieee")
        odd = tl.dot(tl.load(odd_ptr + cosine), odd_lines, input_precision="ieee")
        _write_rows(out_ptr, level, odd, row, column, height, width)


@triton.jit(
    do_not_specialize=[
        *("depth", "height", "width_in_units", "rows_each", "half", "parts", "columns_end", "coefficients_start"),
    ]
)
def draw_kernel(
    out_ptr,
    workspace_ptr,
    coefficients_ptr,
    states_ptr,
    depth,
    height,
    width_in_units,
    rows_each,
    half,
    parts,
    columns_end,
    coefficients_start,
    pixels,
    PAIRS: tl.constexpr,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Draw some columns, and some rows of their upper half with their mirror images, of a slice of a mask.

    Args:
        out_ptr: Masks (n, depth, height, width), bytes.
        workspace_ptr: Tables of cosines, see `prepare.Layout`.
        coefficients_ptr: Coefficients (n, depth, 2 * PAIRS, K).
        states_ptr: States (n, HEADER + parts).
        depth, height: Lengths of the first two axes.
        width_in_units: Length of the last axis, in units of ALIGN.
        rows_each: Rows of the upper half for a program, a multiple of BLOCK_H.
        half: Rows of the table of the height.
        parts: Sums of squares of a mask.
        columns_end, coefficients_start: Where the table of the height, and where the coefficients begin, in blocks.
        pixels: depth * height * width.
        PAIRS, K: As in `prepare.Layout`.
        PARTS: `parts`, rounded up to a power of two.
        ALIGN: Greatest power of two up to 16 that divides the width.
        BLOCK_H, BLOCK_W: Rows of the upper half, and columns, at a time.
        BLOCK_K: Columns of the coefficients at a time.
        STAGES: Tiles of the table of the height that are in flight.
    """
    width = width_in_units * ALIGN
    strips = tl.cdiv(width, BLOCK_W)
    index = (tl.program_id(0) // strips).to(tl.int64)  # of the slice
    first_column = tl.program_id(0) % strips * BLOCK_W
    states_ptr += index // depth * (parts + _HEADER)
    threshold = _threshold(states_ptr, parts, pixels, PARTS)

    n_rows, count = tl.load(states_ptr + 1).to(tl.int32), tl.load(states_ptr + 2).to(tl.int32)

    # 2. Where does it read and write?
    out_ptr += index * height * width
    coefficients_ptr += coefficients_start.to(tl.int64) * _BLOCK + index * (2 * PAIRS * K)
    basis_ptr = workspace_ptr + first_column.to(tl.int64) * K
    even_ptr = workspace_ptr + columns_end.to(tl.int64) * _BLOCK
    cosine_ptrs = (even_ptr, even_ptr + half * PAIRS)
    start = tl.program_id(1) * rows_each
    rows = (start, tl.minimum(start + rows_each, (height + 1) // 2))
    work = (out_ptr, (height, width), coefficients_ptr, basis_ptr, cosine_ptrs, threshold, count, rows, first_column)

    # 3. A mask of large features has few frequencies. Multiply a quarter or a half of what there is room for.
    if PAIRS < 64:
        _draw_rows(*work, PAIRS, PAIRS, K, BLOCK_H, BLOCK_W, BLOCK_K, STAGES)
    elif n_rows <= PAIRS // 2:
        _draw_rows(*work, PAIRS // 4, PAIRS, K, BLOCK_H, BLOCK_W, BLOCK_K, STAGES)
    elif n_rows <= PAIRS:
        _draw_rows(*work, PAIRS // 2, PAIRS, K, BLOCK_H, BLOCK_W, BLOCK_K, STAGES)
    else:
        _draw_rows(*work, PAIRS, PAIRS, K, BLOCK_H, BLOCK_W, BLOCK_K, STAGES)


@triton.jit(
    do_not_specialize=[
        "depth",
        "height",
        "width_in_units",
        "half",
        "blocks_of_pairs",
        "count",
        "line_in_units",
        "parts",
    ]
)
def product_kernel(
    out_ptr,
    rows_ptr,
    lines_ptr,
    states_ptr,
    depth,
    height,
    width_in_units,
    half,
    blocks_of_pairs,
    count,
    line_in_units,
    parts,
    pixels,
    PARTS: tl.constexpr,
    ALIGN: tl.constexpr,
    ALIGN_LINE: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
):
    """Draw a tile of rows of the upper half, and their mirror images, of a slice of a mask, by the last product.

    Args:
        out_ptr: Masks (n, depth, height, width), bytes.
        rows_ptr: Cosines (2, half, pairs) of the height: minus the even ones, and the odd ones.
        lines_ptr: What the cosines are multiplied by, (n, depth, count, line).
        states_ptr: States (n, HEADER + parts).
        depth, height: Lengths of the first two axes.
        width_in_units: Length of the last axis, in units of ALIGN.
        line_in_units: Length of a line, in units of ALIGN_LINE.
        half: Rows of the cosines.
        blocks_of_pairs: Columns of the cosines, in blocks.
        count: Lines of a slice.
        parts: Sums of squares of a mask.
        pixels: depth * height * width.
        PARTS: `parts`, rounded up to a power of two.
        ALIGN, ALIGN_LINE: Greatest powers of two up to 16 that divide the width and the length of a line.
        BLOCK_H, BLOCK_W, BLOCK_PAIRS: Rows of the upper half, columns, and pairs of frequencies at a time.
    """
    width, line, pairs = width_in_units * ALIGN, line_in_units * ALIGN_LINE, blocks_of_pairs * BLOCK_PAIRS
    tiles_w, tiles_h = tl.cdiv(width, BLOCK_W), tl.cdiv((height + 1) // 2, BLOCK_H)
    program = tl.program_id(0)
    column = program % tiles_w * BLOCK_W + tl.arange(0, BLOCK_W)
    row = program // tiles_w % tiles_h * BLOCK_H + tl.arange(0, BLOCK_H)
    index = (program // (tiles_w * tiles_h)).to(tl.int64)  # of the slice; 64 bits, for masks of any size
    states_ptr += index // depth * (parts + _HEADER)

    cosine_ptr = rows_ptr + row[:, None].to(tl.int64) * pairs
    lines_ptr += index * count * line + column[None, :]
    level = tl.zeros((BLOCK_H, BLOCK_W), tl.float32) + _threshold(states_ptr, parts, pixels, PARTS)
    odd = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    n_pairs = (tl.load(states_ptr + 1).to(tl.int32) + 1) // 2
    for start in range(0, n_pairs, BLOCK_PAIRS):
        pair = start + tl.arange(0, BLOCK_PAIRS)
        frequency = 2 * pair[:, None]
        line_ptr = lines_ptr + frequency.to(tl.int64) * line
        even_cosine = tl.load(cosine_ptr + pair[None, :], mask=row[:, None] < half, other=0.0)
        odd_cosine = tl.load(cosine_ptr + half * pairs + pair[None, :], mask=row[:, None] < half, other=0.0)
        even_line = tl.load(line_ptr, mask=(frequency < count) & (column < line)[None, :], other=0.0)
        odd_line = tl.load(line_ptr + line, mask=(frequency + 1 < count) & (column < line)[None, :], other=0.0)
        level = tl.dot(even_cosine, even_line, level, input_precision="ieee")
        odd = tl.dot(odd_cosine, odd_line, odd, input_precision="ieee")
    _write_rows(out_ptr + index * height * width, level, odd, row, column, height, width)


def launch_draw(out: Tensor, prepared: Prepared, tiles: Tiles, coefficients: Tensor | None = None) -> None:
    """Write masks `out` (n, ..., height, width), uint8 and contiguous.

    `coefficients` (n, depth, 2 * pairs, k) are what a product along the depth leaves of those that are prepared; None
    for masks of two axes.
    """
    layout = prepared.layout
    depth, height, width = layout.size
    align = math.gcd(width, 16)
    strips = out.shape[0] * depth * -(-width // tiles.columns)
    blocks = -(-height // (2 * tiles.rows))
    blocks_each = -(-blocks // -(-BUSY // strips))  # of rows, for a program
    with torch.cuda.device_of(out):
        draw_kernel[(strips, -(-blocks // blocks_each))](
            out,
            prepared.workspace,
            prepared.workspace if coefficients is None else coefficients,
            prepared.states,
            depth,
            height,
            width // align,
            blocks_each * tiles.rows,
            layout.half,
            layout.parts,
            layout.ends[0],
            layout.ends[2] if coefficients is None else 0,
            float(depth * height * width),
            PAIRS=layout.pairs,
            K=layout.k,
            PARTS=1 << (layout.parts - 1).bit_length(),
            ALIGN=align,
            BLOCK_H=tiles.rows,
            BLOCK_W=tiles.columns,
            BLOCK_K=BLOCK_K,
            STAGES=tiles.stages,
            num_warps=tiles.warps,
            num_stages=STAGES_OF_LINES,
        )


def launch_product(out: Tensor, rows: Tensor, lines: Tensor, states: Tensor) -> None:
    """Write masks `out` (n, depth, height, width).

    Args:
        out: Uint8, contiguous.
        rows: Cosines of the height, (2, half, pairs): minus the even ones, and the odd ones. `half` is at least half of
            the height, and `pairs` a multiple of `BLOCK_PAIRS`.
        lines: What the cosines are multiplied by, (n, depth, count, line), of the same dtype, float16 or float32. A
            line is at least as long as the width.
        states: (n, HEADER + parts) float32.
    """
    n, depth, height, width = out.shape
    half, pairs = rows.shape[1:]
    count, line = lines.shape[2:]
    align, align_line = math.gcd(width, 16), math.gcd(line, 16)
    block_h, block_w = (max(16, min(64, triton.next_power_of_2(side))) for side in ((height + 1) // 2, width))
    parts = states.shape[1] - HEADER
    programs = n * depth * -(-height // (2 * block_h)) * -(-width // block_w)
    with torch.cuda.device_of(out):
        product_kernel[(programs,)](
            out,
            rows,
            lines,
            states,
            depth,
            height,
            width // align,
            half,
            pairs // BLOCK_PAIRS,
            count,
            line // align_line,
            parts,
            float(depth * height * width),
            PARTS=1 << (parts - 1).bit_length(),
            ALIGN=align,
            ALIGN_LINE=align_line,
            BLOCK_H=block_h,
            BLOCK_W=block_w,
            BLOCK_PAIRS=BLOCK_PAIRS,
            num_warps=4,
            num_stages=3,
        )
