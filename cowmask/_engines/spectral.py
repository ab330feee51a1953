"""The spectral engine: draw the few coefficients that the blur leaves, and transform them back. See also `fused`.

The blur, with its mirrored borders, is diagonal in the DCT-II: it multiplies each coefficient by a gain (`gains`).
Three things follow.

1. White noise is white in that basis too, so only the K lowest coefficients of each axis are drawn.
2. The blur becomes one small matrix product per axis.
3. Mean and variance of the field, and so its threshold, are known from the coefficients before the field exists.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from cowmask._engines import basis
from cowmask._engines.definition import Batch, given_noise, thresholds, write_thresholded
from cowmask._engines.gains import (
    CUTOFF_DRAWN_NOISE,
    gain_cutoff,
    gaussian_gains,
    n_coefficients,
    n_rows_kept,
    tap_gains,
)

WORKSPACE_BYTES = 2**26  # larger batches are split, down to one mask
PIXELS_PER_GROUP = 2**19  # on average, in a group that is worth its extra torch calls


def draw(out: Tensor, batch: Batch, *, triton: bool, precision: str) -> None:
    """Write bool masks (n, *size). Triton or torch computes the last product and the threshold."""
    if batch.sigma.device.type != "cpu":
        _draw_group(out, batch, triton, precision)
        return
    # On a CPU the sigmas can be looked at: each group gets as few coefficients as its own sigmas need.
    sigma = batch.sigma.tolist()
    groups = _group_by_sigma(sigma, math.prod(batch.size))
    if not groups:
        _draw_group(out, _with_bounds_of(batch, sigma), triton, precision)
    for group in groups:
        rows = torch.tensor(group, device="cpu")
        masks = torch.empty_like(out[: len(group)])
        _draw_group(masks, _with_bounds_of(batch.rows(rows), [sigma[row] for row in group]), triton, precision)
        out[rows] = masks


def _group_by_sigma(sigma: Sequence[float], pixels: int) -> list[list[int]]:
    """Group rows of `pixels` pixels each by similar sigma. The list is empty where grouping does not pay."""
    n_bins = min(4, len(sigma) * pixels // PIXELS_PER_GROUP)
    low, high = min(sigma), max(sigma)
    if n_bins < 2 or low == high:
        return []
    bins: list[list[int]] = [[] for _ in range(n_bins)]
    for row, value in enumerate(sigma):
        bins[min(n_bins - 1, int(n_bins * math.log(value / low) / math.log(high / low)))].append(row)
    return [rows for rows in bins if rows]


def _with_bounds_of(batch: Batch, sigma: Sequence[float]) -> Batch:
    return batch._replace(bounds_in_pixels=[(min(sigma) / step, max(sigma) / step) for step in batch.spacing])


def _draw_group(out: Tensor, batch: Batch, triton: bool, precision: str) -> None:
    size, bounds = batch.size, batch.bounds_in_pixels
    cutoff = None if batch.noise is not None else gain_cutoff(size, bounds)
    counts = [n_coefficients(length, low, cutoff) for length, (low, _) in zip(size, bounds, strict=True)]
    dtype = torch.float16 if precision == "high" else torch.float32
    # On a CPU, torch stores the field, too. On a GPU it is not counted: the kernel stores none.
    field_bytes = 4 * math.prod(size) if out.device.type == "cpu" else 0
    for rows in row_chunks(len(out), workspace(size, counts, dtype.itemsize) + field_bytes):
        chunk = batch if rows == slice(0, len(out)) else batch.rows(rows)  # slicing costs a small mask 5% of its time
        # 1. The gains, and with them the coefficients of the blurred field.
        if cutoff is None:
            gains = tap_gains(chunk.sigma, [high for _, high in bounds], batch.spacing, size, counts)
        else:
            gains = gaussian_gains(chunk.sigma, cutoff, batch.spacing, size, counts)
        if chunk.noise is None:
            coefficients = batch.draw_noise(gains.shape)
        else:
            coefficients = basis.analyse(given_noise(chunk.noise).to(out.device), counts)
        coefficients *= gains  # (n, *counts)
        # 2. The field and its threshold.
        if not triton:
            _write_by_torch(out[rows], coefficients, chunk.proportion)
            continue
        kept = n_rows_kept(gains)
        del gains  # it counts against the workspace
        coefficients, std = _to_unit_variance(coefficients, size, dtype)
        _write_by_kernel(out[rows], coefficients, std, kept, chunk.proportion)


def row_chunks(n: int, bytes_each: int) -> list[slice]:
    """Split n rows into the fewest chunks that fit the workspace, of about equal size."""
    at_once = max(1, WORKSPACE_BYTES // bytes_each)
    if n <= at_once:
        return [slice(0, n)]
    rows = math.ceil(n / math.ceil(n / at_once))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def _write_by_torch(out: Tensor, coefficients: Tensor, proportion: Tensor | None) -> None:
    """Write where the fields exceed their thresholds. The coefficients' means are overwritten."""
    size = out.shape[1:]
    if proportion is not None:
        # A field of mean -t exceeds 0 where the field of mean 0 exceeds t. The mean is the first coefficient.
        threshold = thresholds(field_std(coefficients, size), proportion)
        coefficients.flatten(1)[:, 0] = threshold * -math.sqrt(size.numel())  # writes into a view
    write_thresholded(out, basis.synthesise(coefficients, size))


def _write_by_kernel(out: Tensor, coefficients: Tensor, std: Tensor, n_rows: Tensor, proportion: Tensor | None) -> None:
    """Write where the fields of `std` (n,), 0 or 1, exceed their thresholds, without storing the fields."""
    from cowmask.kernels import draw as kernel  # here, since everything works without Triton

    size, k = out.shape[1:], coefficients.shape[1]
    threshold = torch.zeros_like(std) if proportion is None else thresholds(torch.ones_like(std), proportion)
    states = torch.stack((threshold, n_rows, n_rows, std * size.numel()), 1)
    lines = basis.synthesise(coefficients, size, first=2, aligned=kernel.ALIGNED if len(size) == 2 else 1)
    cosines = basis.upper_half(size[0], k, coefficients.dtype, kernel.BLOCK_PAIRS, out.device)
    out, lines = (x.view(len(out), 1, x.shape[1], -1) for x in (out.view(torch.uint8), lines))
    kernel.launch_product(out, cosines, lines, states)


def _to_unit_variance(coefficients: Tensor, size: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return coefficients scaled to fields of std 1, and the std that results, (n,): 0 where all of them are 0.

    Half precision then holds the coefficients, and their products with cosines, to 11 bits.
    """
    std = field_std(coefficients, size)
    scale = std.clamp(min=torch.finfo(torch.float32).tiny).view(-1, *[1] * len(size))
    return torch.div(coefficients, scale, out=torch.empty_like(coefficients, dtype=dtype)), (std > 0).to(std.dtype)


def field_std(coefficients: Tensor, size: Sequence[int]) -> Tensor:
    """Return the standard deviation (n,) of the zero-mean fields of coefficients (n, *counts), by Parseval."""
    return torch.linalg.vector_norm(coefficients.flatten(1), dim=1) / math.sqrt(math.prod(size))


def workspace(size: Sequence[int], counts: Sequence[int], itemsize: int) -> int:
    """Return the bytes that one mask takes up before the last product, whose factors have `itemsize` bytes a number."""
    held = [math.prod((*counts[:axis], *size[axis:])) for axis in range(len(size), 0, -1)]  # after each product
    coefficients_and_gains = 9 * held[0]  # float32, and a bool to count rows
    return max([coefficients_and_gains, *(itemsize * (before + after) for before, after in pairwise(held))])


def cost(size: Sequence[int], bounds_in_pixels: Sequence[tuple[float, float]]) -> float:
    """Return about how many ns a pixel takes, for sigmas within these bounds along each axis, in pixels.

    Fitted to 60 sizes and sigmas on two CPU cores. Only the comparison with `direct.cost` means anything.
    """
    counts = [n_coefficients(length, low) for length, (low, _) in zip(size, bounds_in_pixels, strict=True)]
    return 1.5 + (0.0115 * _multiplications(size, counts) + 4 * math.prod(counts)) / math.prod(size)


def cost_drawn(n: int, size: Sequence[int], sigma: Sequence[float]) -> float:
    """Return about how many ns one of n masks of drawn noise takes on a CPU, for a sigma along each axis in pixels.

    Only the comparison with `coarse.cost_drawn` means anything.
    """
    counts = [n_coefficients(*axis, CUTOFF_DRAWN_NOISE) for axis in zip(size, sigma, strict=True)]
    return 1e5 / n + 0.2 * math.prod(size) + 0.02 * _multiplications(size, counts) + 5 * math.prod(counts)


def _multiplications(size: Sequence[int], counts: Sequence[int]) -> int:
    return sum(math.prod((*counts[: axis + 1], *size[axis:])) for axis in range(len(size)))
