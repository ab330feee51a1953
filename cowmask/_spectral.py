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
# Where noise is drawn there is no mask to agree with, only its distribution. Damped below this amplitude, coefficients
# make up 1 part in 10,000 of the field's variance, unless sigma damps the first of them already.
_SMALLEST_DRAWN = 1e-2


def n_coefficients(length: int, sigma: float, smallest: float | None = None) -> int:
    """Return K, how many coefficients of an axis of `length` pixels a blur of `sigma` pixels or more leaves alive.

    They suit `gains`, or `gaussian_gains` down to the smallest given.
    """
    if smallest is not None:
        cutoff = math.sqrt(2 * math.log(1 / smallest))
        return min(length, _round_up(math.floor(cutoff * length / (math.pi * sigma)) + 1, 4))
    # At least one more than the last frequency kept: no row's own cut, made on the device in float32, can then depend
    # on K. In steps, here as above, so that sigmas that change with every call share tables.
    return min(length, _round_up(math.floor(_CUTOFF * length / (math.pi * sigma)) + _EXTRA + 2, 8))


def smallest_gain(size: Sequence[int], in_pixels: Sequence[tuple[float, float]]) -> float | None:
    """Return down to which amplitude a Gaussian's gains serve drawn noise as well as those of Listing 1's taps.

    None, if they do not.
    """
    if not _direct.is_gaussian(size, in_pixels):
        return None
    short = any(4 * high > length for length, (_, high) in zip(size, in_pixels, strict=True))
    return SMALLEST_GAIN if short else _SMALLEST_DRAWN


def cost(size: Sequence[int], counts: Sequence[int]) -> float:
    """Return about how many ns a pixel takes; see `_direct.cost`."""
    return 1.5 + (0.0115 * _products(size, counts) + 4 * math.prod(counts)) / math.prod(size)


def cost_drawn(n: int, size: Sequence[int], sigma: Sequence[float]) -> float:
    """Return about how many ns one of n drawn masks takes on a CPU, for a sigma along each axis in pixels."""
    counts = [n_coefficients(length, along, _SMALLEST_DRAWN) for length, along in zip(size, sigma, strict=True)]
    return 1e5 / n + 0.2 * math.prod(size) + 0.02 * _products(size, counts) + 5 * math.prod(counts)


def _products(size: Sequence[int], counts: Sequence[int]) -> int:
    return sum(math.prod((*counts[: axis + 1], *size[axis:])) for axis in range(len(size)))


def dct_basis(
    length: int, k: int, device: torch.device, dtype: torch.dtype = torch.float32, aligned: int = 1
) -> Tensor:
    """Return the first `k` orthonormal DCT-II vectors of an axis as columns, (length, k).

    Rows of zeros make their number a multiple of `aligned`.
    """
    return on(device, _dct_basis, length, k, dtype, aligned)


def tap_cosines(length: int, k: int, taps: int, device: torch.device) -> Tensor:
    """Return what a tap at distance j, and so at both sides, adds to the gain of coefficient l, (taps, k) float32."""
    return on(device, _tap_cosines, length, k, taps)


def on(device: torch.device, table: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Return a table, made by a function that caches it on the CPU, on a device."""
    return table(*arguments) if device.type == "cpu" else _copied(device, table, *arguments)


@cache  # for good: a captured CUDA graph may point to them
def _copied(device: torch.device, table: Callable[..., Tensor], *arguments: Any) -> Tensor:
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError("cowmask has no tables yet for masks of this size and sigma: draw once before the capture")
    return table(*arguments).to(device)


@lru_cache(maxsize=128)
def _dct_basis(length: int, k: int, dtype: torch.dtype, aligned: int) -> Tensor:
    table = _cosines(range(1, 2 * length, 2), range(k), 2 * length) * math.sqrt(2 / length)
    table[:, 0] /= math.sqrt(2)
    return torch.nn.functional.pad(table, (0, 0, 0, -length % aligned)).to(dtype)


@lru_cache(maxsize=128)
def _exponents(spacing: tuple[float, ...], size: tuple[int, ...], counts: tuple[int, ...]) -> Tensor:
    """Return what a squared sigma, in units of the spacing, is multiplied by for the logarithm of the gains."""
    total = torch.zeros(1, device="cpu", dtype=torch.float64)
    for step, length, k in zip(spacing, size, counts, strict=True):
        frequency = torch.arange(k, device="cpu", dtype=torch.float64) * (math.pi / (length * step))
        total = total[..., None] - frequency**2 / 2
    total.view(-1)[0] = -math.inf
    return total[0].float()


@lru_cache(maxsize=32)
def _tap_cosines(length: int, k: int, taps: int) -> Tensor:
    table = 2 * _cosines(range(taps), range(k), length)
    table[0] /= 2
    return table.float()


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
    return gains.div_(gains[:, :1].clone()).mul_(alive(sigma, length, k))  # the DC coefficient keeps its size


def gains(
    sigma: Tensor, largest: Sequence[float], spacing: Sequence[float], size: Sequence[int], counts: Sequence[int]
) -> Tensor:
    """Return the gains of coefficients, (n, *counts), for blurs by `sigma` (n,) in units of the spacing.

    They are those of Listing 1's own taps, with `largest` a bound of sigma along each axis in pixels. That of the DC
    coefficient is zero, and so is the mean of the fields.
    """
    found: dict[tuple[Any, ...], Tensor] = {}  # by what an axis has: small calls are what a GPU waits for
    product = torch.ones((), device=sigma.device)
    for axis, its in enumerate(zip(spacing, largest, size, counts, strict=True)):
        step, high, length, k = its
        if its not in found:
            found[its] = transfer(sigma / step, high, length, k)
        product = product.unsqueeze(-1) * found[its].view(len(sigma), *[1] * axis, -1)
    product.flatten(1).select(1, 0).zero_()  # a view
    return product


def gaussian_gains(
    sigma: Tensor, smallest: float, spacing: Sequence[float], size: Sequence[int], counts: Sequence[int]
) -> Tensor:
    """Return the same for a Gaussian without end, down to the smallest: a fraction of the calls."""
    exponents = on(sigma.device, _exponents, tuple(spacing), tuple(size), tuple(counts))
    gains = sigma.square().view(-1, *[1] * len(size)) * exponents
    return torch.threshold_(gains.exp_(), smallest, 0.0)


def n_alive(gains: Tensor) -> Tensor:
    """Return up to which index along their first axis the gains (n, *counts) are not all zero, int32 (n,)."""
    rows = (gains.view(*gains.shape[:2], -1) != 0).any(2)
    return 1 + rows[:, 1:].sum(1, dtype=torch.int32)  # the first may hold the DC coefficient only


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


def std(coefficients: Tensor, size: Sequence[int]) -> Tensor:
    """Return the standard deviation (n,) of fields of mean zero, by Parseval."""
    return torch.linalg.vector_norm(coefficients.flatten(1), dim=1) / math.sqrt(math.prod(size))


def masks(out: Tensor, coefficients: Tensor, threshold: Tensor | None) -> None:
    """Write bool masks (n, *size), True where fields of mean zero exceed a threshold (n,), or zero."""
    if threshold is not None:
        coefficients.flatten(1)[:, 0] = threshold * -math.sqrt(out[0].numel())  # the mean; a view: they are contiguous
    _direct.write_above(out, synthesise(coefficients, out.shape[1:]))


def workspace(size: Sequence[int], counts: Sequence[int], itemsize: int) -> int:
    """Return how many bytes one mask takes up until the last product, of numbers of `itemsize` bytes.

    At first they are float32, and there are their gains.
    """
    held = [math.prod((*counts[:axis], *size[axis:])) for axis in range(len(size), 0, -1)]  # after each product
    return max(9 * held[0], *(itemsize * (before + after) for before, after in pairwise(held)), 0)


def _product(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Multiply `matrix` (out, in) into axis `axis` >= 1 of x."""
    if axis == x.ndim - 1:
        return (x.view(-1, x.shape[-1]) @ matrix.T).view(*x.shape[:-1], -1)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    flat = x.reshape(math.prod(before), x.shape[axis], math.prod(after))
    product = torch.mm(matrix, flat[0]) if len(flat) == 1 else torch.bmm(matrix.expand(len(flat), -1, -1), flat)
    return product.view(*before, -1, *after)
