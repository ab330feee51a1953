"""Tensors of every dtype and layout, what is bad, and how results are compared."""

import os
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests import interpreter

NAN, INF = float("nan"), float("inf")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and not interpreter.fails()  # calls the kernels, too
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WIDE_FLOATS = (torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64)
DTYPES = (*FLOATS, *INTEGERS, torch.bool, torch.complex64, torch.complex128)

NOT_NUMBERS: tuple[Any, ...] = ("x", True, 1j, object(), b"1", {}, NAN, INF, 10**400)
NOT_VALUES = (*NOT_NUMBERS, None, (0.7, 0.2), (0.1,), (0.1, 0.2, 0.3), (0.1, "x"), [NAN, 1], np.array([0.1, 0.2]))
NOT_FRACTIONS = (*NOT_VALUES, -0.1, 1.1, (0.1, 1.1))
NOT_COUNTS = (0, -1, 2**70, -(2**70), 2.0, "2", True, NAN, torch.ones(2))
NOT_FLAGS = (0, 1, "yes", None, torch.tensor(True))
NOT_TENSORS = ("x", 3, [1.0, 2.0], np.ones((2, 3, 4, 4)), object())


class Annotated(Tensor):
    """A tensor with attributes, as tv_tensors and MetaTensor are."""


def odd_tensors(like: Tensor) -> list[Any]:
    """Return what is no tensor, and tensors of the same shape that hold their values in ways that no function takes."""
    x = torch.ones(like.shape if like.ndim and like.numel() else (2, 3, 8, 8))
    sparse = x.to(like.dtype if like.dtype in (*WIDE_FLOATS, torch.bool) else x.dtype).to_sparse()
    quantised = torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
    return [sparse, quantised, torch.nested.nested_tensor([x, x]), *NOT_TENSORS]


def bad_per_mask(n: int) -> list[Tensor]:
    """Return tensors that hold no value between 0 and 1 for each of n masks."""
    good = torch.full((n,), 0.5)
    return [
        *(torch.full(shape, 0.5) for shape in ((n + 1,), (n, 1), (), (0,))),
        *(torch.full((n,), value) for value in (NAN, -1.0, INF, 0.5j)),
        good.to("meta"),
        good > 0,
    ]


def sizes(rng: Random, dims: int) -> tuple[int, ...]:
    return tuple(rng.choice((1, 2, 3, rng.randint(4, 40 if dims < 3 else 12))) for _ in range(dims))


def values(rng: Random, n: int, low: float, high: float) -> Any:
    """Return a number, a range or, for n masks, a tensor."""
    a, b = sorted(rng.choice((low, high, rng.uniform(low, high))) for _ in range(2))
    per_mask = torch.empty(n, dtype=torch.float64).uniform_(a, b).to(rng.choice(WIDE_FLOATS)).clamp(low, high)
    return rng.choice((a, np.float64(b), (a, b), [a, b], (a, a), per_mask, annotated(per_mask)))


def numbers(rng: Random, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return any numbers: integers of random bits, floating ones with NaN and infinities now and then."""
    if dtype == torch.bool:
        return torch.rand(*shape) < 0.5
    if dtype in INTEGERS:
        return torch.randint(0, 256, (*shape, dtype.itemsize), dtype=torch.uint8).view(dtype).squeeze(-1)
    x = (10 * torch.randn(*shape, dtype=torch.complex64 if dtype.is_complex else torch.float32)).to(dtype)
    if rng.random() < 0.3:
        x[torch.rand(*shape) < 0.1] = rng.choice((NAN, INF, -INF, -0.0))
    return x


def annotated(x: Tensor) -> Tensor:
    return x.as_subclass(Annotated)


def laid_out(rng: Random, x: Tensor) -> Tensor:
    """Return the same values in another layout, or as another type."""
    layout = rng.choice(("as they are", "channels last", "sliced", "transposed", "offset", "conjugate", "annotated"))
    if layout == "channels last" and x.ndim in (4, 5):
        return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    if layout == "sliced" and x.ndim:
        return x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])[..., ::2].copy_(x)
    if layout == "transposed" and x.ndim > 1:
        return x.mT.contiguous().mT
    if layout == "offset":
        return x.new_zeros(x.numel() + 1)[1:].view(x.shape).copy_(x)
    if layout == "conjugate" and x.is_complex():
        return x.conj().resolve_conj().conj()
    return annotated(x) if layout == "annotated" else x


def copied(x: Tensor) -> Tensor:
    """Return the values as a plain, contiguous tensor."""
    return x.detach().as_subclass(Tensor).resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def described(value: Any) -> str:
    if isinstance(value, Tensor):
        kind = "" if type(value) is Tensor else f"{type(value).__name__} "
        return f"<{kind}{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')} strides {value.stride()}>"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(described, value))})"
    return "<Generator>" if isinstance(value, torch.Generator) else " ".join(repr(value).split())[:100]


def must(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def same_bits(x: Tensor, y: Tensor) -> bool:
    """Tell whether two tensors are equal bit for bit, NaN and signs of zeros included."""
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    return torch.equal(*(copied(one).reshape(-1).view(torch.uint8) for one in (x, y)))


def must_be_close(ours: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Check a floating result against one in float64, relative to what is above 1."""
    ours = copied(ours).double()
    difference = (ours - expected).abs() / expected.abs().clamp(min=1)
    wrong = ~((difference <= tolerance) | (ours == expected) | (ours.isnan() & expected.isnan()))
    must(not wrong.any(), f"{what} differs by up to {difference[wrong].amax() if wrong.any() else 0:g}")
