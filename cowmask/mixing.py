"""Apply masks: deterministic and differentiable."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from cowmask._backends import BACKENDS
from cowmask._checks import arguments, batches
from cowmask._operators import in_torch_func, operator
from cowmask._select import select, where
from cowmask._subclasses import like, plain


def mix(a: Tensor, b: Tensor, mask: Tensor, *, backend: str = "auto") -> Tensor:
    """Take `b` where the mask is True and `a` elsewhere.

        bool mask:      where(mask, b, a)
        floating mask:  a * (1 - mask) + b * mask

    Args:
        a: Any shape and dtype; floating for a floating mask. Usually images or class probabilities (B, C, *size).
        b: Of the shape, dtype and device of `a`.
        mask: Bool, or floating in [0, 1]; broadcasts to `a`, as (B, 1, *size) does, also for `a` (B, *size). The values
            are not checked, since that would wait for the device.
        backend: "torch"; "triton", for bool masks, a kernel that reads only the selected parts of `a` and `b`; or
            "auto", Triton on a GPU where it works.

    Returns:
        A new tensor like `a`, of its type (a tv_tensor stays one). The inputs are not modified.

    Raises:
        TypeError, ValueError: Dtypes, devices or shapes do not match, or the named backend cannot take them.
        RuntimeError: `backend="triton"` cannot be used here; the text says why.

    Convention:
        A bool mask selects: a NaN that is not selected reaches neither the result nor the gradient. A floating mask
        blends.

    Reference:
        French et al. 2019, section 3.3 and Listing 3.

    Example:
        >>> mix(torch.zeros(2), torch.ones(2), torch.tensor([True, False]))
        tensor([1., 0.])
    """
    batches.pair(a, b)
    mask = batches.mixing_mask(mask, a)
    (mixed,) = _mix_each_by([mask], [plain(a)], [plain(b)], backend)
    return like(mixed, a)


def erase(x: Tensor, mask: Tensor, fill: float | Tensor = 0.0, *, backend: str = "auto") -> Tensor:
    """Keep `x` where the mask is True and put `fill` elsewhere.

    Args:
        x: Any shape and dtype; floating for a floating mask.
        mask: As for `mix`.
        fill: A number, or a tensor on the device of `x` that broadcasts to it, such as (C, 1, 1) for one value per
            channel. It is converted to the dtype of `x`.
        backend: As for `mix`.

    Returns:
        A new tensor like `x`, of its type (a tv_tensor stays one). The inputs are not modified.

    Raises:
        TypeError, ValueError: Dtypes, devices or shapes do not match, or the named backend cannot take them.
        RuntimeError: `backend="triton"` cannot be used here; the text says why.

    Convention:
        True is kept, since the paper multiplies by the mask. A NaN that is erased reaches neither the result nor the
        gradient.

    Reference:
        French et al. 2019, section 3.3 and Listing 2.

    Example:
        >>> erase(torch.ones(2), torch.tensor([True, False]), fill=0.5)
        tensor([1.0000, 0.5000])
    """
    arguments.tensor("x", x)
    mask = batches.mixing_mask(mask, x)
    (erased,) = _mix_each_by([mask], [batches.fill_like(x, fill)], [plain(x)], backend)
    return like(erased, x)


def mix_batch(
    tensors: Sequence[Tensor],
    partners: Sequence[Tensor] | None,
    mask: Tensor,
    label_positions: Collection[int] = (),
    backend: str = "auto",
) -> list[Tensor]:
    """Mix images and dense targets by one mask, and labels by the area of the mask.

    Args:
        tensors: (B, ..., *size), with one axis between or none; or labels (B, K).
        partners: What each tensor is mixed with. None mixes image i with image i - 1 of the batch.
        mask: (B, 1, *size).
        label_positions: Which of the tensors are labels.
        backend: As for `mix`.
    """
    dense = [i for i in range(len(tensors)) if i not in label_positions]
    masks = [batches.mixing_mask(mask, tensors[i]) for i in dense]
    others = None if partners is None else [partners[i] for i in dense]
    mixed = dict(zip(dense, _mix_each_by(masks, [tensors[i] for i in dense], others, backend), strict=True))
    for i in label_positions:
        mixed[i] = _mix_labels(tensors[i], None if partners is None else partners[i], mask)
    return [mixed[i] for i in range(len(tensors))]


def _mix_each_by(
    masks: Sequence[Tensor], a: Sequence[Tensor], b: Sequence[Tensor] | None, backend: str
) -> list[Tensor]:
    """Mix each of `a` with one of `b`, or, where `b` is None, with itself rolled by one; each by its mask."""
    selects, device = masks[0].dtype == torch.bool, masks[0].device
    if arguments.choice("backend", backend, BACKENDS) == "triton" and not selects:
        raise ValueError(f'backend="triton" selects by a bool mask, got {masks[0].dtype}: try mask.bool()')
    by_kernel = selects and (backend == "triton" or (backend == "auto" and device.type == "cuda"))
    if by_kernel and _is_transformed(*a, *(b or ())):  # the operator would fail, or lose the tangents in silence
        if backend == "triton":
            raise ValueError('backend="triton" takes no torch.func and no forward-mode derivatives: name "torch"')
        by_kernel = False
    if by_kernel:
        b_roll = 0
        if b is None:
            b, b_roll = a, len(a[0]) - 1  # `select` rolls b back: by len - 1 back is by one forward
        a = [x.expand_as(y) for x, y in zip(a, b, strict=True)]  # a fill is smaller than its image
        masks = [mask.expand_as(y) for mask, y in zip(masks, b, strict=True)]
        return select(a, b, masks, b_roll, 0, backend)
    if b is None:
        return [mix_rolled(x, mask) for x, mask in zip(a, masks, strict=True)]
    return [_where_or_lerp(x, y, mask) for x, y, mask in zip(a, b, masks, strict=True)]


def _is_transformed(*tensors: Tensor) -> bool:
    """Tell whether torch.func (grad, vmap, jvp, ...) or forward-mode differentiation is at work."""
    if torch.compiler.is_compiling():
        return False
    return in_torch_func() or any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)


def _mix_labels(x: Tensor, other: Tensor | None, mask: Tensor) -> Tensor:
    """Mix labels (B, K) by the fraction of each image that comes from its partner."""
    taken = mask.flatten(1).mean(1, keepdim=True, dtype=torch.float32)  # (B, 1), 1 - lam
    (mixed,) = _mix_each_by([taken], [x], None if other is None else [other], "auto")
    return mixed


def _where_or_lerp(a: Tensor, b: Tensor, mask: Tensor, out: Tensor | None = None) -> Tensor:
    if mask.dtype == torch.bool:
        return where(mask, b, a, out=out)
    return torch.lerp(a, b, mask.to(a.dtype), out=out)


def mix_rolled(x: Tensor, mask: Tensor) -> Tensor:
    """Mix image i with image i - 1. A rolled copy is made only for what `_MixWithPrevious` cannot differentiate."""
    if mask.requires_grad or _is_transformed(x, mask):
        return _where_or_lerp(x, x.roll(1, 0), mask)
    return _MixWithPrevious.apply(x, mask)


_WITH_PREVIOUS = ((slice(1, None), slice(None, -1)), (slice(None, 1), slice(-1, None)))  # rows, and the rows before


class _MixWithPrevious(torch.autograd.Function):
    """Mix image i with image i - 1: select or blend."""

    @staticmethod
    def forward(x: Tensor, mask: Tensor) -> Tensor:
        out = torch.empty_like(x)
        mask = mask.expand(len(x), *mask.shape[1:])
        for images, previous in _WITH_PREVIOUS:
            _where_or_lerp(x[images], x[previous], mask[images], out=out[images])
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        mask, zero = mask.expand(len(grad), *mask.shape[1:]), grad.new_zeros(())
        out = _where_or_lerp(grad, zero, mask)
        for images, previous in _WITH_PREVIOUS:
            out[previous] += _where_or_lerp(zero, grad[images], mask[images])
        return out, None


@operator(
    "one_hot(Tensor labels, SymInt num_classes) -> Tensor",
    lambda labels, num_classes: labels.new_empty((len(labels), num_classes), dtype=torch.float32),
)
def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Return labels (B,) as (B, num_classes) float32."""
    # F.one_hot would read the labels back from a GPU to check them. There, scatter_ stops the kernel instead.
    labels = labels.long()
    if labels.device.type == "cpu" and not ((labels >= 0) & (labels < num_classes)).all():
        got = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"labels must be from 0 to num_classes - 1 = {num_classes - 1}, got {got}")
    zeros = torch.zeros(len(labels), num_classes, dtype=torch.float32, device=labels.device)
    return zeros.scatter_(1, labels[:, None], 1)
