"""Apply masks: deterministic and differentiable."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cowmask import _checks, _tensors
from cowmask._backends import BACKENDS
from cowmask._operators import operator
from cowmask._select import select


def mix(a: Tensor, b: Tensor, mask: Tensor, *, backend: str = "auto") -> Tensor:
    """Take `b` where the mask is True and `a` elsewhere.

        bool mask:      where(mask, b, a)
        floating mask:  a * (1 - mask) + b * mask

    Args:
        a: Any shape and dtype; floating for a floating mask. Usually images or class probabilities (B, C, *size).
        b: Of the shape, dtype and device of `a`.
        mask: Bool, or floating in [0, 1] (not checked: that would wait for the device); broadcasts to `a`, as
            (B, 1, *size) does.
        backend: "torch", or "triton" for a bool mask: a kernel that reads of `a` and `b` only what is selected.
            "auto" takes Triton on a GPU where it works.

    Returns:
        A new tensor like `a`. The inputs are not modified.

    Raises:
        TypeError, ValueError: dtypes, devices or shapes do not go together, or are not for the backend named.
        RuntimeError: `backend="triton"` cannot be used here; the text says why.

    Convention:
        A bool mask selects: a NaN that is not selected stays out, of the gradient too. A floating one blends.

    Reference:
        French et al. 2019, section 3.3 and Listing 3.

    Example:
        >>> mix(torch.zeros(2), torch.ones(2), torch.tensor([True, False]))
        tensor([1., 0.])
    """
    _check_pair(a, b)
    _tensors.mixing_mask(mask, a)
    return _mix_each([a], [b], [mask], backend)[0]


def erase(x: Tensor, mask: Tensor, fill: float | Tensor = 0.0, *, backend: str = "auto") -> Tensor:
    """Keep `x` where the mask is True and put `fill` elsewhere.

    Args:
        x: Any shape and dtype; floating for a floating mask.
        mask: Bool, or floating in [0, 1] (not checked: that would wait for the device); broadcasts to `x`.
        fill: A number, or a tensor on the device of `x` that broadcasts to it, such as (C, 1, 1) for one value per
            channel. It takes the dtype of `x`.
        backend: As for `mix`.

    Returns:
        A new tensor like `x`. The inputs are not modified.

    Raises:
        TypeError, ValueError: dtypes, devices or shapes do not go together, or are not for the backend named.
        RuntimeError: `backend="triton"` cannot be used here; the text says why.

    Convention:
        True is kept (the paper multiplies by the mask). A NaN that is erased stays out, of the gradient too.

    Reference:
        French et al. 2019, section 3.3 and Listing 2.

    Example:
        >>> erase(torch.ones(2), torch.tensor([True, False]), fill=0.5)
        tensor([1.0000, 0.5000])
    """
    _checks.tensor("x", x)
    _tensors.mixing_mask(mask, x)
    return _mix_each([fill_like(x, fill)], [x], [mask], backend)[0]


def mix_together(
    tensors: Sequence[Tensor], partners: Sequence[Tensor] | None, mask: Tensor, backend: str = "auto"
) -> list[Tensor]:
    """Mix tensors by one mask (B, 1, *size), each with its partner, or image i with image i - 1 of the batch.

    The tensors are (B, ..., *size), with one axis between or none.
    """
    masks = [mask[:, 0] if x.ndim == mask.ndim - 1 else mask for x in tensors]
    for x, its_mask in zip(tensors, masks, strict=True):
        _tensors.mixing_mask(its_mask, x)
    return _mix_each(tensors, partners, masks, backend)


def _mix_each(a: Sequence[Tensor], b: Sequence[Tensor] | None, masks: Sequence[Tensor], backend: str) -> list[Tensor]:
    """Mix each of `a`, with one of `b` or, if that is None, with itself rolled by one."""
    selects, device = masks[0].dtype == torch.bool, masks[0].device
    if _checks.choice("backend", backend, BACKENDS) == "triton" and not selects:
        raise ValueError(f'backend="triton" selects by a bool mask, got {masks[0].dtype}: try mask.bool()')
    if selects and (backend == "triton" or (backend == "auto" and device.type == "cuda")):
        whole, b_roll = (a, len(a[0]) - 1) if b is None else (b, 0)
        a, masks = ([x.expand_as(like) for x, like in zip(given, whole, strict=True)] for given in (a, masks))
        return select(a, whole, masks, b_roll, 0, backend)
    if b is None:
        return [mix_with_previous(x, mask) for x, mask in zip(a, masks, strict=True)]
    return [_mix(x, y, mask) for x, y, mask in zip(a, b, masks, strict=True)]


def mix_with_previous(x: Tensor, mask: Tensor) -> Tensor:
    """Return `mix(x, x.roll(1, 0), mask)` without the rolled copy: image i is mixed with image i - 1."""
    return _mix(x, x.roll(1, 0), mask) if mask.requires_grad else _MixWithPrevious.apply(x, mask)


_WITH_PREVIOUS = ((slice(1, None), slice(None, -1)), (slice(None, 1), slice(-1, None)))  # rows, and those before them


class _MixWithPrevious(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, mask: Tensor) -> Tensor:
        out = torch.empty_like(x)
        mask = mask.expand(len(x), *mask.shape[1:])
        for images, previous in _WITH_PREVIOUS:
            _mix(x[images], x[previous], mask[images], out=out[images])
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        mask, zero = mask.expand(len(grad), *mask.shape[1:]), grad.new_zeros(())
        out = _mix(grad, zero, mask)
        for images, previous in _WITH_PREVIOUS:
            out[previous] += _mix(zero, grad[images], mask[images])
        return out, None


def mix_labels(x: Tensor, other: Tensor | None, mask: Tensor) -> Tensor:
    """Mix labels (B, K) by the fraction of each image that comes from its partner."""
    taken = mask.flatten(1).mean(1, keepdim=True, dtype=torch.float32)  # (B, 1), 1 - lam
    return mix(x, x.roll(1, 0) if other is None else other, taken)


@operator(
    "one_hot(Tensor labels, SymInt num_classes) -> Tensor",
    lambda labels, num_classes: labels.new_empty((len(labels), num_classes), dtype=torch.float32),
)
def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Return labels (B,) as (B, num_classes) float32."""
    # Not F.one_hot, which reads the labels back from a GPU to check them: there scatter_ stops the kernel instead.
    labels = labels.long()
    if labels.device.type == "cpu" and not ((labels >= 0) & (labels < num_classes)).all():
        came = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"labels must be from 0 to num_classes - 1 = {num_classes - 1}, got {came}")
    zeros = torch.zeros(len(labels), num_classes, dtype=torch.float32, device=labels.device)
    return zeros.scatter_(1, labels[:, None], 1)


def _mix(a: Tensor, b: Tensor, mask: Tensor, out: Tensor | None = None) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.where(mask, b, a) if out is None else torch.where(mask, b, a, out=out)
    return torch.lerp(a, b, mask.to(a.dtype), out=out)


def _check_pair(a: Tensor, b: Tensor) -> None:
    _checks.tensor("a", a)
    _checks.tensor("b", b)
    for name in ("shape", "dtype", "device"):
        if getattr(a, name) != getattr(b, name):
            raise ValueError(f"a and b must have the same {name}, got {getattr(a, name)} and {getattr(b, name)}")


def fill_like(x: Tensor, fill: float | Tensor) -> Tensor:
    """Return `fill` as a tensor of the dtype of x that broadcasts to it."""
    if not isinstance(fill, Tensor):
        return x.new_full((), _checks.fits("fill", fill, x.dtype))
    if _checks.tensor("fill", fill).device != x.device:
        raise ValueError(f"fill is on {fill.device}, but x is on {x.device}")
    if fill.dtype != x.dtype and (not x.dtype.is_floating_point or fill.dtype.is_complex):
        raise TypeError(f"fill of {fill.dtype} does not fit x of {x.dtype}: try fill.to({x.dtype})")
    if not _tensors.broadcasts(fill, x):
        raise ValueError(f"fill of shape {tuple(fill.shape)} does not broadcast to {tuple(x.shape)}: try (C, 1, 1)")
    return fill.to(x.dtype)
