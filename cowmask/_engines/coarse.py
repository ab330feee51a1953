"""The coarse engine: draw noise on a grid as coarse as sigma, and blur it from there straight to pixels. On a CPU.

Noise on points that lie sigma apart gives a field of the same covariance as noise on the pixels, but for 2 exp(-pi^2),
1 part in 10,000, along each axis. That takes sigma squared times fewer random numbers. The cost of a pixel does not
grow with the image; the spectral engine's does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cowmask._engines.definition import TRUNCATE, Batch, mirrored, thresholds, write_thresholded
from cowmask._engines.tables import kept

_FEWEST_POINTS = 8  # on an axis of 8 pixels or more: with fewer, their spacing would show where sigma is large
_CLASSES_PER_OCTAVE = 8  # sigmas of a class share a grid, so that grids can be kept
_PIXELS_AT_ONCE = 2**20  # of a field


@dataclass(frozen=True, eq=False)
class Grid:
    """How an axis is computed: each block of pixels is a product of weights with the columns that reach it.

    An axis of 12 pixels in 2 blocks, with a point every 3 pixels and a reach of 1 point, rounded outward:

        pixels                         |0  1  2  3  4  5 |6  7  8  9  10 11|
        points                             0        1        2        3
        columns          1        0        0        1        2        3        3        2
        of block 0       [--------------------------------------------]
        of block 1                         [--------------------------------------------]

    Columns beyond the ends mirror the points. Each block begins `block_step` columns (here 2) after the block before.
    """

    length: int  # pixels
    points: int  # where noise is drawn, evenly spaced, at most sigma apart
    mirrored_index: Tensor  # the point of each column, (columns of all blocks,)
    blocks: int
    block_step: int  # columns from the start of one block to the start of the next
    exponents: Tensor  # minus half the squared distance from pixel to column, pixels^2, (blocks or 1, pixels, columns)

    @property
    def nbytes(self) -> int:
        return self.mirrored_index.nbytes + self.exponents.nbytes


def draw(out: Tensor, batch: Batch) -> None:
    """Write bool masks (n, *size), each on a grid that suits its own sigma."""
    for row, (mask, sigma) in enumerate(zip(out, batch.sigma.tolist(), strict=True)):
        in_pixels = [sigma / step for step in batch.spacing]
        grids = [_grid(*axis) for axis in zip(batch.size, in_pixels, strict=True)]
        noise = batch.draw_noise([grid.points for grid in grids])
        noise -= noise.mean()  # the blur keeps the mean, so the field's is zero
        threshold: Tensor | float = 0.0
        if batch.proportion is not None:
            threshold = thresholds(_std(noise, grids, in_pixels), batch.proportion[row])
        _write(mask, noise, grids, in_pixels, threshold)


def _write(
    mask: Tensor, noise: Tensor, grids: Sequence[Grid], sigma: Sequence[float], threshold: Tensor | float
) -> None:
    weights, columns = _blur_all_but_first_axis(noise, grids, sigma)
    pixels, lines = weights.shape[1], columns.shape[2]
    mask = mask.view(-1, lines)
    at_once = max(1, _PIXELS_AT_ONCE // (pixels * lines))  # blocks
    for start in range(0, len(columns), at_once):
        stop = start + at_once
        part = mask[start * pixels : stop * pixels]
        field = torch.bmm(weights[start:stop], columns[start:stop]).view(-1, lines)[: len(part)]
        write_thresholded(part, field, threshold)


def _std(noise: Tensor, grids: Sequence[Grid], sigma: Sequence[float]) -> Tensor:
    """Estimate the standard deviation of the field from its values at the points: a smooth field, of mean zero."""
    in_points = [axis_sigma * grid.points / grid.length for axis_sigma, grid in zip(sigma, grids, strict=True)]
    at_points = [_grid_at_its_points(grid.points, math.ceil(s)) for grid, s in zip(grids, in_points, strict=True)]
    values = torch.bmm(*_blur_all_but_first_axis(noise, at_points, in_points)).flatten(0, 1)[: grids[0].points]
    return values.square().mean().sqrt()


def _blur_all_but_first_axis(noise: Tensor, grids: Sequence[Grid], sigma: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return the two factors whose product blurs the first axis.

    They are weights (blocks, pixels, columns), and the noise, blurred along the other axes, (blocks, columns, lines).
    """
    # 1. Noise at the columns of all axes, mirrored beyond the ends.
    for axis, grid in enumerate(grids):
        noise = noise.index_select(axis, grid.mirrored_index)
    weights = torch.empty(0)  # for the type checker
    for axis in range(len(grids) - 1, -1, -1):
        # 2. The weights of this axis. An axis with the grid and sigma of the one before reuses them.
        grid, n_columns = grids[axis], noise.shape[-1]
        if axis == len(grids) - 1 or (grid, sigma[axis]) != (grids[axis + 1], sigma[axis + 1]):
            weights = torch.exp(grid.exponents * (1 / sigma[axis] ** 2))  # (blocks or 1, pixels, columns)
        # 3. The columns of each block, without a copy, though blocks overlap.
        lines = noise.numel() // n_columns
        strides = (grid.block_step, 1, n_columns)
        columns = noise.as_strided((grid.blocks, weights.shape[2], lines), strides)  # (blocks, columns, lines)
        if axis > 0:
            # 4. A blurred axis moves to the front, so that in the end all are in order.
            field = torch.bmm(weights.expand(grid.blocks, -1, -1), columns)  # (blocks, pixels, lines)
            noise = field.view(-1, *noise.shape[:-1])[: grid.length]
    return weights.expand(grids[0].blocks, -1, -1), columns


def _grid(length: int, sigma: float) -> Grid:
    return _grid_of_class(length, math.floor(_CLASSES_PER_OCTAVE * math.log2(sigma)))


@kept
def _grid_of_class(length: int, sigma_class: int) -> Grid:
    """Return the grid whose products should be the fastest, of those that suit any sigma of a class."""
    low, high = (2 ** (octaves / _CLASSES_PER_OCTAVE) for octaves in (sigma_class, sigma_class + 1))

    def layout(n_blocks: int) -> tuple[int, int, float]:
        # The same number of points in each block, so that blocks can share their weights.
        points = n_blocks * math.ceil(max(length / low, min(length, _FEWEST_POINTS)) / n_blocks)
        return points, n_blocks, TRUNCATE * high * points / length

    def cost_of(n_blocks: int) -> float:
        points, _, reach = layout(n_blocks)
        pixels = math.ceil(length / n_blocks)
        weight = 1.0 if pixels * n_blocks == length else 1.1  # weights that blocks cannot share cost a tenth more
        return n_blocks * (pixels * (4 + weight * (points / n_blocks + 2 * reach)) + 100)

    return _build_grid(length, *layout(min(range(1, length // 12 + 2), key=cost_of)))


@kept
def _grid_at_its_points(points: int, sigma: int) -> Grid:
    """Return the grid whose pixels are its points, for any sigma up to this one, in points."""
    return _build_grid(points, points, math.ceil(points / 32), TRUNCATE * sigma)


def _build_grid(length: int, points: int, n_blocks: int, reach: float) -> Grid:
    """Return a grid in which the points up to `reach` points away contribute to a pixel."""
    pixels, scale = math.ceil(length / n_blocks), points / length
    block_step = round(pixels * scale)
    # 1. The first and last column that any block needs, if column 0 of block b is at point b * block_step. Blocks
    #    differ where `block_step` had to be rounded.
    begin = min((block * pixels + 0.5) * scale - block * block_step for block in range(n_blocks))
    end = max((min(block * pixels + pixels, length) - 0.5) * scale - block * block_step for block in range(n_blocks))
    first, last = math.floor(begin - reach - 0.5), math.ceil(end + reach - 0.5)
    # 2. The point of each column.
    columns = last - first + 1
    index = mirrored(points, first, first + (n_blocks - 1) * block_step + columns, torch.device("cpu"))
    # 3. The distances, in float64: positions may be large, and their differences small.
    block = torch.arange(n_blocks, dtype=torch.float64, device="cpu")[:, None, None]
    pixel = block * pixels + torch.arange(pixels, dtype=torch.float64, device="cpu")[:, None] + 0.5
    column = block * block_step + torch.arange(columns, dtype=torch.float64, device="cpu") + first + 0.5
    exponents = (-0.5 * (pixel - column / scale) ** 2).float()  # (blocks, pixels, columns)
    blocks_are_alike = n_blocks * pixels == length and n_blocks * block_step == points
    return Grid(length, points, index, n_blocks, block_step, exponents[:1].clone() if blocks_are_alike else exponents)


def cost_drawn(size: Sequence[int], sigma: Sequence[float]) -> float:
    """Return about how many ns a mask takes, for a sigma along each axis in pixels.

    Only the comparison with `spectral.cost_drawn` means anything.
    """
    grids = [_grid(*axis) for axis in zip(size, sigma, strict=True)]
    outputs = [math.prod([grid.points for grid in grids[:axis]]) * math.prod(size[axis:]) for axis in range(len(size))]
    operations = sum(count * (4 + grid.exponents.shape[2]) for count, grid in zip(outputs, grids, strict=True))
    return 1.1e5 + 0.2 * math.prod(size) + 0.02 * operations + 4 * math.prod(grid.points for grid in grids)
