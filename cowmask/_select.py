"""The differentiable operator that selects by masks in several tensors, by the Triton kernel or by torch."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from cowmask._backends import use_triton
from cowmask._operators import operator

Tensors = Sequence[Tensor]
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def _empty(a: Tensors, b: Tensors, *_: Any) -> list[Tensor]:
    # Copy the memory layout of `a`, unless `a` is an expanded scalar (a fill value); then copy that of `b`.
    return [torch.empty_like(y if 0 in x.stride() else x) for x, y in zip(a, b, strict=True)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG001
    _, _, masks, ctx.b_roll, ctx.out_roll, ctx.backend = inputs
    ctx.save_for_backward(*masks)


def _gradients(ctx: Any, grads: Tensors) -> tuple[Any, ...]:
    """Pass the gradient on to `a` where the mask is False and to `b` where the mask is True."""
    masks, zeros = ctx.saved_tensors, [grad.new_zeros(()).expand_as(grad) for grad in grads]
    of_a: Any = [None] * len(masks)
    of_b: Any = [None] * len(masks)
    needs_a, needs_b, *_ = ctx.needs_input_grad
    # Forward, out[i + out_roll] takes b[i + b_roll]. So the gradient of b is the same selection with the rolls swapped.
    if any(needs_a):
        unrolled = [grad.roll(-ctx.out_roll, 0) if ctx.out_roll else grad for grad in grads]
        of_a = select(unrolled, zeros, masks, 0, 0, ctx.backend)
    if any(needs_b):
        of_b = select(zeros, grads, masks, ctx.out_roll, ctx.b_roll, ctx.backend)
    return of_a, of_b, [None] * len(masks), None, None, None


@operator(
    "select(Tensor[] a, Tensor[] b, Tensor[] masks, SymInt b_roll, SymInt out_roll, str backend) -> Tensor[]",
    _empty,
    gradients=(_save, _gradients),
)
def select(a: Tensors, b: Tensors, masks: Tensors, b_roll: int, out_roll: int, backend: str) -> list[Tensor]:
    """Return `where(mask, b.roll(-b_roll, 0), a).roll(out_roll, 0)` for each a, b and bool mask of one shape.

    `backend="auto"` selects by torch where the kernel cannot, or would be slow.
    """
    outputs = _empty(a, b)
    for tensors in zip(outputs, a, b, masks, strict=True):
        if not _by_kernel(*tensors, b_roll, out_roll, backend):
            _by_torch(*tensors, b_roll, out_roll)
    return outputs


def _by_kernel(out: Tensor, a: Tensor, b: Tensor, mask: Tensor, b_roll: int, out_roll: int, backend: str) -> bool:
    """Select by the kernel and return True. Return False where torch has to, or should, select."""
    if not use_triton(backend, out.device):
        return False
    from cowmask.kernels import mix

    plan = mix.plan(out, a, b, mask, rolled=b_roll != 0 or out_roll != 0)
    if plan is None and backend == "triton":
        raise ValueError(
            f'backend="triton" takes elements of 1 to 8 bytes and {mix.OUTER_AXES + 1} axes that cannot be merged, got '
            f"{a.dtype} of shape {tuple(a.shape)} and strides {a.stride()} and {b.stride()}: try .contiguous()"
        )
    if plan is None or not (plan.is_worthwhile() or backend == "triton"):
        return False
    mix.launch_select(out, a, b, mask, plan, b_roll=b_roll, out_roll=out_roll)
    return True


def _by_torch(out: Tensor, a: Tensor, b: Tensor, mask: Tensor, b_roll: int, out_roll: int) -> None:
    if not b_roll and not out_roll:
        where(mask, b, a, out=out)
        return
    n = len(out)
    # Between these rows, neither index wraps round the end of the batch: slices serve, and no rolled copy is made.
    for start, end in pairwise(sorted({0, n - b_roll, n - out_roll, n})):
        rows, from_b, to_out = (
            slice(first, first + end - start) for first in (start, (start + b_roll) % n, (start + out_roll) % n)
        )
        where(mask[rows], b[from_b], a[rows], out=out[to_out])


def where(mask: Tensor, b: Tensor, a: Tensor, out: Tensor | None = None) -> Tensor:
    """Return `torch.where(mask, b, a, out=out)`, of uint16, uint32 and uint64, too, which torch 2.11 refuses."""
    signed = _SIGNED.get(a.dtype)
    if signed is None:
        return torch.where(mask, b, a, out=out)
    out = None if out is None else out.view(signed)
    return torch.where(mask, b.view(signed), a.view(signed), out=out).view(a.dtype)
