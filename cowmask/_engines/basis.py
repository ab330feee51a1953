"""The basis in which the blur is diagonal, the DCT-II: its cosines, and products with them.

Tables are made on the CPU. They are kept there and on each device that has asked for them.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from cowmask._engines.tables import kept


def analyse(noise: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the lowest DCT-II coefficients, (n, *counts), of noise (n, *size)."""
    for axis, k in enumerate(counts, start=1):
        noise = _product(dct_basis(noise.shape[axis], k, noise.device).T, noise, axis)
    return noise


def synthesise(coefficients: Tensor, size: Sequence[int], *, first: int = 1, aligned: int = 1) -> Tensor:
    """Return the fields (n, *size) of coefficients (n, *counts).

    Axes before `first` stay coefficients. Columns of zeros make the width a multiple of `aligned`.
    """
    # From the last axis to the first: the last product, the largest, is then a batched one.
    for axis in range(len(size), first - 1, -1):
        k, multiple = coefficients.shape[axis], aligned if axis == len(size) else 1
        basis = dct_basis(size[axis - 1], k, coefficients.device, coefficients.dtype, multiple)
        coefficients = _product(basis, coefficients, axis)
    return coefficients


def dct_basis(
    length: int, k: int, device: torch.device, dtype: torch.dtype = torch.float32, aligned: int = 1
) -> Tensor:
    """Return the first `k` orthonormal DCT-II vectors of an axis as columns, (length, k).

    Rows of zeros make the number of rows a multiple of `aligned`.
    """
    return cached_on(device, _dct_basis, length, k, dtype, aligned)


def upper_half(length: int, k: int, dtype: torch.dtype, pairs: int, device: torch.device) -> Tensor:
    """Return the upper half of the first `k` DCT-II vectors, minus the even ones and the odd ones, (2, half, k / 2).

    Columns of zeros make k / 2 a multiple of `pairs`.
    """
    return cached_on(device, _upper_half, length, k, dtype, pairs)


def cached_on(device: torch.device, table: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Return `table(*arguments)` on a device. On the CPU `table` keeps its result itself; copies are kept here."""
    return table(*arguments) if device.type == "cpu" else _copy_on_device(device, table, *arguments)


@cache  # never evicted: a captured CUDA graph may point to the copies
def _copy_on_device(device: torch.device, table: Callable[..., Tensor], *arguments: Any) -> Tensor:
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise RuntimeError("cowmask has no tables yet for masks of this size and sigma: draw once before the capture")
    return table(*arguments).to(device)


@kept
def _dct_basis(length: int, k: int, dtype: torch.dtype, aligned: int) -> Tensor:
    table = cosines(range(1, 2 * length, 2), range(k), 2 * length) * math.sqrt(2 / length)
    table[:, 0] /= math.sqrt(2)
    return torch.nn.functional.pad(table, (0, 0, 0, -length % aligned)).to(dtype)


@kept
def _upper_half(length: int, k: int, dtype: torch.dtype, pairs: int) -> Tensor:
    upper = _dct_basis(length, k, torch.float32, 1)[: (length + 1) // 2]
    upper = torch.nn.functional.pad(upper, (0, -k % (2 * pairs)))
    even, odd = upper.unflatten(1, (-1, 2)).unbind(2)
    return torch.stack((-even, odd)).to(dtype)


def cosines(rows: range, columns: range, period: int) -> Tensor:
    """Return `cos(pi row column / period)` in float64 on the CPU."""
    row, column = (torch.tensor(numbers, device="cpu", dtype=torch.int64) for numbers in (rows, columns))
    angles = (row[:, None] * column) % (2 * period)  # in integers, so exact at any size
    return torch.cos(angles.to(torch.float64) * (math.pi / period))


def _product(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Multiply `matrix` (out, in) into axis `axis` >= 1 of x (n, ..., in, ...)."""
    if axis == x.ndim - 1:
        return (x.view(-1, x.shape[-1]) @ matrix.T).view(*x.shape[:-1], -1)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    flat = x.reshape(math.prod(before), x.shape[axis], math.prod(after))  # (n ..., in, ...)
    product = torch.mm(matrix, flat[0]) if len(flat) == 1 else torch.bmm(matrix.expand(len(flat), -1, -1), flat)
    return product.view(*before, -1, *after)
