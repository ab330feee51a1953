"""All that the spectral method needs beside its products: coefficients, thresholds and tables of cosines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from cowmask.kernels.counters import OF_A_MASK, Range, cosine, normal_pair, sine, uniform, upper_quantile

BLOCK = 1024  # elements of a table that a program writes; a table begins at a multiple of it
TILE = 16  # pairs of rows, and pairs of columns, of the coefficients that a program draws
HEADER = 3  # numbers of a state before its sums of squares
ROWS, COLUMNS = 64, 128  # rows of a table are padded to a multiple, so that a product's tiles read without a mask
_BLOCK, _TILE, _HEADER = tl.constexpr(BLOCK), tl.constexpr(TILE), tl.constexpr(HEADER)


@dataclass(frozen=True)
class Layout:
    """How the workspace of masks (depth, height, width) is laid out. A mask of fewer axes has a depth, or height, of 1.

    Three tables of cosines come first, padded by zeros: (columns, k) of the width; (2, half, pairs) of the height, its
    even frequencies negated, then its odd ones; (depth, planes), unless the depth is 1. Then the coefficients of each
    mask, (planes, 2 * pairs, k).
    """

    size: tuple[int, int, int]
    counts: tuple[int, int, int]  # frequencies along each axis
    planes: int
    pairs: int
    k: int
    half: int
    columns: int

    @classmethod
    def of(cls, size: Sequence[int], counts: Sequence[int], *, power_of_two: bool) -> "Layout":
        """Lay out masks of three axes. `power_of_two`: all pairs are taken at once, and not 32 by 32."""
        depth, height, width = size
        pairs = max(TILE, triton.next_power_of_2(-(-counts[1] // 2)))
        return cls(
            (depth, height, width),
            (counts[0], counts[1], counts[2]),
            planes=1 if depth == 1 else _round_up(counts[0], 8),
            pairs=pairs if power_of_two else _round_up(counts[1], 4 * TILE) // 2,
            k=_round_up(counts[2], 2 * TILE),
            half=_round_up(height, 2 * ROWS) // 2,
            columns=_round_up(width, COLUMNS),
        )

    @cached_property
    def coefficients(self) -> int:
        """Coefficients of a mask."""
        return self.planes * 2 * self.pairs * self.k

    @cached_property
    def parts(self) -> int:
        """Programs that draw the coefficients of a mask."""
        return self.coefficients // (4 * TILE * TILE)

    @cached_property
    def ends(self) -> tuple[int, int, int]:
        """Where each of the three tables ends, in blocks."""
        depth = self.size[0] * self.planes if self.size[0] > 1 else 0
        of_columns = self.columns * self.k // BLOCK
        of_rows = of_columns + 2 * self.half * self.pairs // BLOCK
        return of_columns, of_rows, of_rows + _round_up(depth, BLOCK) // BLOCK


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


class Prepared(NamedTuple):
    """What `launch_prepare` makes for n masks."""

    layout: Layout
    workspace: Tensor  # (elements,): see `Layout`
    states: Tensor  # (n, HEADER + parts) float32

    def table_of_width(self) -> Tensor:
        """Return the cosines of the width, (columns, k)."""
        return self._view(0, (self.layout.columns, self.layout.k))

    def table_of_height(self) -> Tensor:
        """Return minus the even and the odd cosines of the height, (2, half, pairs)."""
        return self._view(self.layout.ends[0], (2, self.layout.half, self.layout.pairs))

    def table_of_depth(self) -> Tensor:
        """Return the cosines of the depth, (depth, planes)."""
        return self._view(self.layout.ends[1], (self.layout.size[0], self.layout.planes))

    def coefficients(self) -> Tensor:
        """Return the coefficients (n, planes, 2 * pairs, k)."""
        layout = self.layout
        return self._view(layout.ends[2], (len(self.states), layout.planes, 2 * layout.pairs, layout.k))

    def _view(self, block: int, shape: tuple[int, ...]) -> Tensor:
        return self.workspace[block * BLOCK :][: math.prod(shape)].view(shape)


@triton.jit
def _dct_basis(row, frequency, length, count):
    """Compute element (row, frequency) of an axis's orthonormal DCT-II vectors, and 0 outside of (length, count)."""
    # The angle is a whole number of quarters of a turn over the length, so it is exact. Fold it to an eighth of a turn.
    turn = 4 * length
    angle = ((2 * row + 1).to(tl.int64) * frequency % turn).to(tl.int32)
    angle = tl.minimum(angle, turn - angle)
    is_negative = angle > length
    angle = tl.where(is_negative, 2 * length - angle, angle)
    is_sine = 2 * angle > length
    angle = tl.where(is_sine, length - angle, angle)
    rad = angle.to(tl.float32) / length.to(tl.float32) * 1.5707963267948966
    value = tl.where(is_sine, sine(rad), cosine(rad))
    value = tl.where(is_negative, -value, value) * tl.sqrt(2.0 / length.to(tl.float32))
    value = tl.where(frequency == 0, value * 0.7071067811865476, value)
    return tl.where((row < length) & (frequency < count), value, 0.0)


@triton.jit
def _expected_sum(sigma, step):
    """Compute about the sum of the squared gains along an axis (Jacobi's theta function)."""
    return tl.maximum(0.5 + 0.886226925452758 / (sigma * step), 1.0)


@triton.jit
def _exponent(frequency, count, angle):
    """Compute how much the logarithm of the gain falls along an axis; it falls without end from `count` on."""
    angle *= frequency.to(tl.float32)
    return tl.where(frequency < count, 0.5 * angle * angle, float("inf"))


@triton.jit
def _blurred(normal, exponent, cutoff, scale):
    """Multiply by the gain, which is 0 beyond the cutoff, and for the mean, whose exponent alone is 0."""
    return tl.where((exponent > 0) & (exponent < cutoff), normal * tl.exp(-exponent) * scale, 0.0)


@triton.jit(
    do_not_specialize=[
        *("columns_end", "rows_end", "tables_end", "first", "planes", "half", "depth", "height", "width"),
        *("count_d", "count_h", "count_w"),
    ]
)
def prepare_kernel(
    workspace_ptr,
    states_ptr,
    seed_ptr,
    sigmas_ptr,
    proportions_ptr,
    columns_end,
    rows_end,
    tables_end,
    first,
    planes,
    half,
    depth,
    height,
    width,
    count_d,
    count_h,
    count_w,
    step_d,
    step_h,
    step_w,
    cutoff,
    log_sigma,
    log_sigma_range,
    proportion,
    proportion_range,
    PAIRS: tl.constexpr,
    K: tl.constexpr,
):
    """Write a block of a table, or a tile of the coefficients of a mask and what the products must know of it.

    Args:
        workspace_ptr: See `Layout`.
        states_ptr: For each mask its threshold in standard deviations, how many rows and how many columns of its
            coefficients can be other than zero, and the sums of squares of its tiles.
        seed_ptr: One int64.
        sigmas_ptr, proportions_ptr: A value for each mask, or None: then it is drawn.
        *_end: Where the tables end, in blocks.
        first: Index of the first mask: a mask is the same in whatever part of a batch it is drawn.
        planes, half, PAIRS, K: As in `Layout`.
        depth, height, width: Lengths of the axes, d, h and w.
        count_*: Frequencies along each axis.
        step_*: Angle from one frequency to the next, for a sigma of 1, in rad.
        cutoff: Gains count down to exp(-cutoff).
        log_sigma, log_sigma_range, proportion, proportion_range: The lowest value, and the highest less the lowest.
    """
    program = tl.program_id(0)
    if program < tables_end:
        workspace_ptr += program.to(tl.int64) * _BLOCK
        element = tl.arange(0, _BLOCK)
        if program < columns_end:
            element += program * _BLOCK
            value = _dct_basis(element // K, element % K, width, count_w)
        elif program < rows_end:
            element += (program - columns_end) * _BLOCK
            line = element // PAIRS
            is_odd = (line >= half).to(tl.int32)
            value = _dct_basis(line - is_odd * half, 2 * (element % PAIRS) + is_odd, height, count_h)
            value = tl.where(is_odd == 0, -value, value)
        else:
            element += (program - rows_end) * _BLOCK
            value = _dct_basis(element // planes, element % planes, depth, count_d)
        tl.store(workspace_ptr + tl.arange(0, _BLOCK), value.to(workspace_ptr.dtype.element_ty))
    else:
        # 1. Which mask, and which of its coefficients?
        tiles_k: tl.constexpr = K // (2 * _TILE)
        tiles: tl.constexpr = PAIRS // _TILE * tiles_k
        tile = (program - tables_end) % tiles
        plane = (program - tables_end) // tiles % planes
        index = (program - tables_end) // tiles // planes
        workspace_ptr += tables_end.to(tl.int64) * _BLOCK + (index * planes + plane).to(tl.int64) * (2 * PAIRS * K)
        states_ptr += index.to(tl.int64) * (planes * tiles + _HEADER)

        # 2. What the mask has once.
        seed = tl.load(seed_ptr)
        word = (index + first).to(tl.uint32)
        for_sigma, for_proportion, _, _ = tl.philox(seed, word * 0 + OF_A_MASK, word * 0, word * 0, word)
        if sigmas_ptr is None:
            sigma = tl.exp(log_sigma + log_sigma_range * uniform(for_sigma))
        else:
            sigma = tl.load(sigmas_ptr + index)
        last = tl.sqrt(2.0 * cutoff) / sigma
        rows = tl.minimum((last / step_h).to(tl.int32) + 1, count_h)
        columns = tl.minimum((last / step_w).to(tl.int32) + 1, count_w)
        if tile + plane == 0:
            if proportions_ptr is None:
                fraction = proportion + proportion_range * uniform(for_proportion)
            else:
                fraction = tl.load(proportions_ptr + index)
            tl.store(states_ptr, upper_quantile(fraction))
            tl.store(states_ptr + 1, rows.to(tl.float32))
            tl.store(states_ptr + 2, columns.to(tl.float32))

        # 3. The coefficients: normal numbers times gains. The field then has a variance of about 1/16, so that float16
        #    holds the coefficients of any image.
        pixels = depth.to(tl.float32) * height.to(tl.float32) * width.to(tl.float32)
        variance = _expected_sum(sigma, step_d) * _expected_sum(sigma, step_h) * _expected_sum(sigma, step_w) - 1.0
        scale = 0.25 * tl.sqrt(pixels / variance)
        pair = (tile // tiles_k * _TILE + tl.arange(0, _TILE))[:, None]
        pair_w = (tile % tiles_k * _TILE + tl.arange(0, _TILE))[None, :]
        even_even = tl.zeros((_TILE, _TILE), tl.float32)
        even_odd, odd_even, odd_odd = even_even, even_even, even_even
        first_row, first_column = tile // tiles_k * (2 * _TILE), tile % tiles_k * (2 * _TILE)
        if (first_row < rows) & (first_column < columns) & (plane < count_d):
            a, b, c, d = tl.philox(seed, pair_w.to(tl.uint32), pair.to(tl.uint32), plane.to(tl.uint32), word)
            even_even, even_odd = normal_pair(a, b)
            odd_even, odd_odd = normal_pair(c, d)
            of_plane = _exponent(plane, count_d, sigma * step_d)
            of_even = of_plane + _exponent(2 * pair, rows, sigma * step_h)
            of_odd = of_plane + _exponent(2 * pair + 1, rows, sigma * step_h)
            of_even_w = _exponent(2 * pair_w, columns, sigma * step_w)
            of_odd_w = _exponent(2 * pair_w + 1, columns, sigma * step_w)
            even_even = _blurred(even_even, of_even + of_even_w, cutoff, scale)
            even_odd = _blurred(even_odd, of_even + of_odd_w, cutoff, scale)
            odd_even = _blurred(odd_even, of_odd + of_even_w, cutoff, scale)
            odd_odd = _blurred(odd_odd, of_odd + of_odd_w, cutoff, scale)
        squares = even_even * even_even + even_odd * even_odd + odd_even * odd_even + odd_odd * odd_odd
        tl.store(states_ptr + _HEADER + plane * tiles + tile, tl.sum(tl.sum(squares, 1), 0))
        column = first_column + tl.arange(0, 2 * _TILE)[None, :]
        dtype = workspace_ptr.dtype.element_ty
        tl.store(workspace_ptr + 2 * pair * K + column, tl.interleave(even_even, even_odd).to(dtype))
        tl.store(workspace_ptr + (2 * pair + 1) * K + column, tl.interleave(odd_even, odd_odd).to(dtype))


def launch_prepare(
    layout: Layout,
    dtype: torch.dtype,
    n: int,
    first: int,
    seed: Tensor,
    sigma: Range,
    proportion: Range,
    steps: Sequence[float],
    cutoff: float,
) -> Prepared:
    """Draw the coefficients of some masks, and make the tables that their products take.

    Args:
        layout: Of the workspace.
        dtype: Of the workspace, float16 or float32.
        n: Number of masks.
        first: Index of the first of them, among those of the seed.
        seed: One int64, on the device.
        sigma: Drawn log-uniformly, in any unit.
        proportion: Drawn uniformly.
        steps: Length of an angular frequency along each axis, in rad over the unit of sigma.
        cutoff: Gains count down to exp(-cutoff).
    """
    low, high, sigmas = sigma
    smallest, largest, proportions = proportion
    ends = layout.ends
    workspace = torch.empty(ends[2] * BLOCK + n * layout.coefficients, dtype=dtype, device=seed.device)
    states = torch.empty((n, HEADER + layout.parts), dtype=torch.float32, device=seed.device)
    with torch.cuda.device_of(seed):
        prepare_kernel[(ends[2] + n * layout.parts,)](
            workspace,
            states,
            seed,
            sigmas,
            proportions,
            *ends,
            first,
            layout.planes,
            layout.half,
            *layout.size,
            *layout.counts,
            *steps,
            cutoff,
            math.log(low),
            math.log(high / low),
            smallest,
            largest - smallest,
            PAIRS=layout.pairs,
            K=layout.k,
            num_warps=2,
        )
    return Prepared(layout, workspace, states)
