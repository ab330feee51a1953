"""The spectral engine on a GPU: kernels draw the coefficients too, so a call is three launches, and waits for nothing.

1. The seed: one int64 of torch's generator, drawn on the device.
2. `kernels/prepare.py`: sigma, proportion and coefficients of each mask, thresholds, and tables of cosines.
3. `kernels/draw.py`: both products and the comparison.

Torch multiplies along the first of three axes. In float32, or with more coefficients than shared memory holds, the
kernel of the third launch does the last product alone, and torch does the others.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cowmask._engines import spectral
from cowmask._engines.gains import gain_cutoff, n_coefficients

Range = tuple[float, float, Tensor | None]  # low and high; or a value for each mask, (n,) float32 on the device


class Plan(NamedTuple):
    """What all calls share that draw masks of one size from one range of sigma."""

    layout: Any  # `kernels.prepare.Layout`
    tiles: Any  # `kernels.draw.Tiles`; None if torch does all products but the last
    dtype: torch.dtype
    steps: tuple[float, ...]  # from one angular frequency of an axis to the next, in rad over the unit of sigma
    cutoff: float  # gains count down to exp(-cutoff)
    bytes_each: int  # of the workspace, for a mask


@lru_cache(maxsize=256)
def plan(
    size: tuple[int, ...],
    spacing: tuple[float, ...],
    bounds_in_pixels: tuple[tuple[float, float], ...],
    precision: str,
    device: torch.device,
) -> Plan | None:
    """Plan masks for sigmas within bounds along each axis; None if their gains are not a true Gaussian's."""
    from cowmask.kernels import draw as kernels  # here, since everything works without Triton
    from cowmask.kernels.prepare import Layout

    gain = gain_cutoff(size, bounds_in_pixels)
    if gain is None:
        return None
    counts = [n_coefficients(length, low, gain) for length, (low, _) in zip(size, bounds_in_pixels, strict=True)]
    missing = (1,) * (3 - len(size))
    lengths, counts = (*missing, *size), [*missing, *counts]
    spacing = (spacing[0],) * len(missing) + spacing
    steps = tuple(math.pi / (length * step) for length, step in zip(lengths, spacing, strict=True))

    layout, tiles, dtype = Layout.of(lengths, counts, power_of_two=True), None, torch.float32
    if precision == "high":
        tiles, dtype = kernels.tiles(layout.pairs, device), torch.float16
    if tiles is None:
        layout = Layout.of(lengths, counts, power_of_two=False)
    # What a mask holds: its coefficients, and what each of torch's products makes of them.
    held = [layout.coefficients]
    held += [lengths[0] * 2 * layout.pairs * layout.k] * (lengths[0] > 1)
    held += [lengths[0] * 2 * layout.pairs * layout.columns] * (tiles is None)
    return Plan(layout, tiles, dtype, steps, -math.log(gain), dtype.itemsize * sum(held))


def draw(out: Tensor, plan: Plan, seed: Tensor, sigma: Range, proportion: Range) -> None:
    """Write masks (n, 1, *size) uint8 that depend on their indices and on the seed alone, one int64 on the device."""
    for rows in spectral.row_chunks(out.shape[0], plan.bytes_each):
        if rows == slice(0, out.shape[0]):
            _draw_rows(out, plan, 0, seed, sigma, proportion)
        else:
            _draw_rows(out[rows], plan, rows.start, seed, _of_rows(sigma, rows), _of_rows(proportion, rows))


def _draw_rows(out: Tensor, plan: Plan, first: int, seed: Tensor, sigma: Range, proportion: Range) -> None:
    from cowmask.kernels import draw as kernels
    from cowmask.kernels.prepare import launch_prepare

    layout, n = plan.layout, out.shape[0]
    prepared = launch_prepare(layout, plan.dtype, n, first, seed, sigma, proportion, plan.steps, plan.cutoff)
    depth = layout.size[0]
    if depth == 1 and plan.tiles is not None:
        kernels.launch_draw(out, prepared, plan.tiles)
        return
    coefficients = prepared.coefficients()  # (n, planes, 2 * pairs, k)
    if depth > 1:
        product = prepared.table_of_depth() @ coefficients.flatten(2)
        coefficients = product.view(n, depth, 2 * layout.pairs, layout.k)
    if plan.tiles is not None:
        kernels.launch_draw(out, prepared, plan.tiles, coefficients)
        return
    lines = coefficients @ prepared.table_of_width().T  # (n, depth, 2 * pairs, columns)
    kernels.launch_product(out.view(n, *layout.size), prepared.table_of_height(), lines, prepared.states)


def _of_rows(values: Range, rows: slice) -> Range:
    low, high, per_mask = values
    return low, high, None if per_mask is None else per_mask[rows]
