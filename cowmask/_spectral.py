"""The cow mask filter in its own basis: cosine tables, transfer function, choice of K, threshold. Plain torch.

A Gaussian blur with half-sample symmetric borders (`scipy.ndimage.gaussian_filter`, mode "reflect") is diagonal in the
DCT-II: coefficient k of an axis of N pixels is multiplied by `g(k) = sum_j w_j cos(pi k j / N)`, w being the blur's own
taps. White noise is white in that basis too, so only the K lowest coefficients of each axis are needed, and mean and
variance of the blurred field are known from them before the field exists.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from cowmask import _direct

# Coefficients damped below this amplitude are left out, except for a few: the taps end, so no coefficient vanishes, and
# where sigma is a large part of the side there is not much else. Masks then agree with the full blur's on 99.99% of the
# pixels, at sigma up to half the shorter side. (With none: 99.975% at 1e-3, and up to 0.3% of one mask wrong at 3e-4.)
SMALLEST_GAIN = 1e-3
_CUTOFF = math.sqrt(2 * math.log(1 / SMALLEST_GAIN))  # sigma times angular frequency, rad
_EXTRA = 4


def n_coefficients(length: int, sigma: float) -> int:
    """Return K, how many coefficients of an axis of `length` pixels a blur of `sigma` pixels or more leaves alive."""
    # At least one more than the last frequency kept: no row's own cut, made on the device in float32, can then depend
    # on K. In steps, so that sigmas that change with every call share tables.
    return min(length, _round_up(math.floor(_CUTOFF * length / (math.pi * sigma)) + _EXTRA + 2, 8))


def cost(size: Sequence[int], counts: Sequence[int]) -> float:
    """Return about how many ns a pixel takes; see `_direct.cost`."""
    products = sum(math.prod((*counts[: axis + 1], *size[axis:])) for axis in range(len(size)))
    return 1.5 + (0.0115 * products + 4 * math.prod(counts)) / math.prod(size)


def dct_basis(
    length: int, k: int, device: torch.device, dtype: torch.dtype = torch.float32, aligned: int = 1
) -> Tensor:
    """Return the first `k` orthonormal DCT-II vectors of an axis as columns, (length, k).

    Rows of zeros make their number a multiple of `aligned`.
    """
    return on(device, _dct_basis, length, k, dtype, aligned)


def tap_cosines(length: int, k: int, taps: int, device: torch.device) -> Tensor:
    """Return `cos(pi j l / length)` for tap j and coefficient l, (taps, k) float32."""
    return on(device, _tap_cosines, length, k, taps)


def on(device: torch.device, table: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Return a table, made by a function that caches it on the CPU, on a device."""
    return table(*arguments) if device.type == "cpu" else _copied(device, table, *arguments)


@cache  # for good: a captured CUDA graph may point to them
def _copied(device: torch.device, table: Callable[..., Tensor], *arguments: Any) -> Tensor:
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError("cowmask has no tables yet for masks of this size and sigma: draw once before the capture")
    return table(*arguments).to(device)


@lru_cache(maxsize=32)
def _dct_basis(length: int, k: int, dtype: torch.dtype, aligned: int) -> Tensor:
    table = _cosines(range(1, 2 * length, 2), range(k), 2 * length) * math.sqrt(2 / length)
    table[:, 0] /= math.sqrt(2)
    return torch.nn.functional.pad(table, (0, 0, 0, -length % aligned)).to(dtype)


@lru_cache(maxsize=32)
def _tap_cosines(length: int, k: int, taps: int) -> Tensor:
    return _cosines(range(taps), range(k), length).float()


def _round_up(value: int, step: int) -> int:
    return math.ceil(value / step) * step


def _cosines(rows: range, columns: range, period: int) -> Tensor:
    """Return `cos(pi row column / period)` in float64 on the CPU; reduced in integers, so exact at any size."""
    row, column = (torch.tensor(numbers, device="cpu", dtype=torch.int64) for numbers in (rows, columns))
    angles = (row[:, None] * column) % (2 * period)
    return torch.cos(angles.to(torch.float64) * (math.pi / period))


def transfer(sigma: Tensor, largest: float, length: int, k: int) -> Tensor:
    """Return the gains `g`, (n, k), of `n` blurs of `sigma` (n,) pixels, at most `largest`, each cut at its own K."""
    count = _round_up(_direct.n_taps(largest), 32)  # in steps, as above
    gains = _direct.taps(sigma, count) @ tap_cosines(length, k, count, sigma.device)  # (n, k)
    return gains * alive(sigma, length, k)


def alive(sigma: Tensor, length: int, k: int) -> Tensor:
    """Return which of the lowest `k` coefficients of an axis are kept, bool (n, k): for each sigma (n,) the first."""
    frequency = torch.arange(k, device=sigma.device, dtype=sigma.dtype)
    return (frequency - _EXTRA) * sigma[:, None] <= _CUTOFF / math.pi * length


def analyse(noise: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the lowest DCT-II coefficients, (n, *counts), of noise (n, *size)."""
    for axis, k in enumerate(counts, start=1):
        noise = _product(dct_basis(noise.shape[axis], k, noise.device).T, noise, axis)
    return noise


def synthesise(coefficients: Tensor, size: Sequence[int], *, first: int = 1, aligned: int = 1) -> Tensor:
    """Return the fields (n, *size) of the coefficients (n, *counts), or what they are along the axes from `first` on.

    Columns of zeros make the width a multiple of `aligned`.
    """
    # Last axis first: it is done while the other axes still have K entries, and the largest product is a batched one.
    for axis in range(len(size), first - 1, -1):
        k, rows = coefficients.shape[axis], aligned if axis == len(size) else 1
        basis = dct_basis(size[axis - 1], k, coefficients.device, coefficients.dtype, rows)
        coefficients = _product(basis, coefficients, axis)
    return coefficients


def filter_(coefficients: Tensor, gains: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Blur white coefficients (n, *counts) in place by the gains along each axis; return their fields' std (n,).

    The fields have mean zero: the DC coefficient is dropped.
    """
    n, dims = len(coefficients), len(size)
    for axis, gain in enumerate(gains, start=1):
        coefficients *= gain.view(n, *[-1 if other == axis else 1 for other in range(1, dims + 1)])
    coefficients.flatten(1)[:, 0] = 0  # a view: they are contiguous
    norm = torch.linalg.vector_norm(coefficients.flatten(1), dim=1)
    return norm / math.sqrt(math.prod(size))  # by Parseval


def masks(out: Tensor, coefficients: Tensor, threshold: Tensor, size: Sequence[int]) -> None:
    """Write bool masks (n, *size), True where the fields of coefficients (n, *counts) exceed a threshold (n,)."""
    torch.gt(synthesise(coefficients, size), threshold.view(-1, *[1] * len(size)), out=out)


def workspace(size: Sequence[int], counts: Sequence[int], itemsize: int) -> int:
    """Return how many bytes one mask takes up until the last product, of numbers of `itemsize` bytes.

    At first there are also the float32 numbers that they are made from.
    """
    held = [math.prod((*counts[:axis], *size[axis:])) for axis in range(len(size), 0, -1)]  # after each product
    return max((4 + itemsize) * held[0], *(itemsize * (before + after) for before, after in pairwise(held)), 0)


def _product(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Multiply `matrix` (out, in) into axis `axis` >= 1 of x."""
    if axis == x.ndim - 1:
        return x @ matrix.T
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    flat = x.reshape(math.prod(before), x.shape[axis], math.prod(after))
    return (matrix @ flat).view(*before, -1, *after)
