"""Cow masks of noise drawn on a grid as coarse as sigma, and blurred from there straight to pixels. On the CPU.

A Gaussian lets through little of what is finer than itself. A field made from white noise on points that lie sigma
apart has the covariance of one made from noise on the pixels, but for 2 exp(-pi^2), 1 part in 10,000 along each axis.
So there are sigma squared times fewer random numbers; and since a block of pixels needs only the points around it, the
cost of a pixel does not grow with the image, as it does with the spectral method.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cowmask import _direct

_FEWEST = 8  # points along an axis, if it has as many pixels: fewer would show where sigma is a large part of it
_PER_OCTAVE = 8  # how finely sigma is told apart in choosing a grid, so that grids can be kept
_AT_ONCE = 2**20  # pixels of a field that exist at once


@dataclass(frozen=True, eq=False)
class Grid:
    """How an axis is computed: pixels in blocks, each a product with the places around it; the ends are mirrored."""

    length: int
    """Pixels."""
    points: int
    """Where noise is drawn, at equal distances of at most sigma."""
    source: Tensor
    """The point at each place, (places of all blocks,): those beyond the ends are mirrored."""
    blocks: int
    """How many blocks there are."""
    step: int
    """Places from a block's first to that of the next: blocks overlap."""
    exponents: Tensor
    """Minus half the squared distance of pixel from place, pixels squared, (blocks or 1, pixels, places)."""


def cost(size: Sequence[int], sigma: Sequence[float]) -> float:
    """Return about how many ns a mask takes, for a sigma along each axis in pixels; see `_spectral.cost_drawn`."""
    grids = [_grid(*axis) for axis in zip(size, sigma, strict=True)]
    numbers = [math.prod([grid.points for grid in grids[:axis]]) * math.prod(size[axis:]) for axis in range(len(size))]
    products = sum(count * (4 + grid.exponents.shape[2]) for count, grid in zip(numbers, grids, strict=True))
    return 1.1e5 + 0.2 * math.prod(size) + 0.02 * products + 4 * math.prod(grid.points for grid in grids)


def masks(
    out: Tensor,
    sigmas: Sequence[Sequence[float]],
    proportion: Tensor | None,
    white: Callable[[Sequence[int]], Tensor],
) -> None:
    """Write bool masks (n, *size), each of its own sigma along each axis, pixels; no proportion (n,) is one half.

    `white` draws standard normal numbers of a shape.
    """
    for row, (mask, sigma) in enumerate(zip(out, sigmas, strict=True)):
        grids = [_grid(*axis) for axis in zip(mask.shape, sigma, strict=True)]
        noise = white([grid.points for grid in grids])
        noise -= noise.mean()  # the blur keeps it: the field's is zero
        threshold: Tensor | float = 0.0
        if proportion is not None:
            threshold = _direct.thresholds(_std(noise, grids, sigma), proportion[row])
        _write(mask, noise, grids, sigma, threshold)


def _write(
    mask: Tensor, noise: Tensor, grids: Sequence[Grid], sigma: Sequence[float], threshold: Tensor | float
) -> None:
    weights, blocks = _last_product(noise, grids, sigma)
    pixels, lines = weights.shape[1], blocks.shape[2]
    mask = mask.view(-1, lines)
    at_once = max(1, _AT_ONCE // (pixels * lines))
    for start in range(0, len(blocks), at_once):
        stop = start + at_once
        part = mask[start * pixels : stop * pixels]
        field = torch.bmm(weights[start:stop], blocks[start:stop]).view(-1, lines)[: len(part)]
        _direct.write_above(part, field, threshold)


def _std(noise: Tensor, grids: Sequence[Grid], sigma: Sequence[float]) -> Tensor:
    """Return the standard deviation of a field of mean zero: it is smooth, so that of its values at the points."""
    in_points = [along * grid.points / grid.length for along, grid in zip(sigma, grids, strict=True)]
    at_points = [_at_points(grid.points, math.ceil(along)) for grid, along in zip(grids, in_points, strict=True)]
    values = torch.bmm(*_last_product(noise, at_points, in_points)).flatten(0, 1)[: grids[0].points]
    return values.square().mean().sqrt()


def _last_product(noise: Tensor, grids: Sequence[Grid], sigma: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Blur noise along all axes but the first.

    For that, return weights (blocks, pixels, places) and the noise at them (blocks, places, lines); their product is
    the field, in blocks of the first axis.
    """
    weights = torch.empty(0)
    for axis, grid in enumerate(grids):
        noise = noise.index_select(axis, grid.source)
    for axis in range(len(grids) - 1, -1, -1):
        grid, last, places = grids[axis], axis == len(grids) - 1, noise.shape[-1]
        if last or grid is not grids[axis + 1] or sigma[axis] != sigma[axis + 1]:
            weights = torch.exp(grid.exponents * (1 / sigma[axis] ** 2))
        lines = noise.numel() // places
        blocks = noise.as_strided((grid.blocks, weights.shape[2], lines), (grid.step, 1, places))
        if axis > 0:
            # The last axis is blurred and comes first then, so that in the end they are in order.
            field = torch.bmm(weights.expand(grid.blocks, -1, -1), blocks)
            noise = field.view(-1, *noise.shape[:-1])[: grid.length]
    return weights.expand(grids[0].blocks, -1, -1), blocks


def _grid(length: int, sigma: float) -> Grid:
    return _grid_of_class(length, math.floor(_PER_OCTAVE * math.log2(sigma)))


@lru_cache(maxsize=256)
def _grid_of_class(length: int, sigma_class: int) -> Grid:
    """Return the grid for any sigma of a class, the one whose products should be the fastest."""
    low, high = (2 ** (octaves / _PER_OCTAVE) for octaves in (sigma_class, sigma_class + 1))

    def layout(n_blocks: int) -> tuple[int, int, float]:
        # Whole blocks of points, so that all blocks of pixels can be alike.
        points = n_blocks * math.ceil(max(length / low, min(length, _FEWEST)) / n_blocks)
        return points, n_blocks, _direct.TRUNCATE * high * points / length

    def cost_of(n_blocks: int) -> float:
        points, _, reach = layout(n_blocks)
        pixels = math.ceil(length / n_blocks)
        alike = 1.0 if pixels * n_blocks == length else 1.1  # else each has weights of its own
        return n_blocks * (pixels * (4 + alike * (points / n_blocks + 2 * reach)) + 100)

    return _laid_out(length, *layout(min(range(1, length // 12 + 2), key=cost_of)))


@lru_cache(maxsize=256)
def _at_points(points: int, sigma: int) -> Grid:
    """Return the grid whose pixels are its points, for any sigma up to this one, in points."""
    return _laid_out(points, points, math.ceil(points / 32), _direct.TRUNCATE * sigma)


def _laid_out(length: int, points: int, n_blocks: int, reach: float) -> Grid:
    """Return the grid in so many blocks, in which a pixel is reached by this many points on either side."""
    pixels, scale = math.ceil(length / n_blocks), points / length
    step = round(pixels * scale)
    # Where blocks begin and end, in points from the first place that all of them would have if `step` were exact.
    begin = min((block * pixels + 0.5) * scale - block * step for block in range(n_blocks))
    end = max((min(block * pixels + pixels, length) - 0.5) * scale - block * step for block in range(n_blocks))
    first, last = math.floor(begin - reach - 0.5), math.ceil(end + reach - 0.5)
    places = last - first + 1
    source = _direct.mirrored(points, first, first + (n_blocks - 1) * step + places, torch.device("cpu"))

    block = torch.arange(n_blocks, dtype=torch.float64, device="cpu")[:, None, None]
    pixel = block * pixels + torch.arange(pixels, dtype=torch.float64, device="cpu")[:, None] + 0.5
    place = block * step + torch.arange(places, dtype=torch.float64, device="cpu") + first + 0.5
    exponents = (-0.5 * (pixel - place / scale) ** 2).float()  # (blocks, pixels, places)
    alike = n_blocks * pixels == length and n_blocks * step == points
    return Grid(length, points, source, n_blocks, step, exponents[:1].clone() if alike else exponents)
