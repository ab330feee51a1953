"""Select between two tensors by a mask, reading only the one that is selected.

Where masks have features larger than the 32 bytes that a GPU reads at once, that moves about the bytes of one input and
one output; `torch.where` moves both inputs.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

OUTER = 4  # axes beside the innermost
_ELEMENTS = 2048  # of a program: 16 of a thread
_SHORT = 64  # elements of an innermost axis, below which most of a program is idle
_MOST_REPEATS = 2**30  # counted in 32 bits
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@triton.jit
def select_kernel(
    out,
    a,
    b,
    mask,
    inner,
    out_step,
    a_step,
    b_step,
    mask_step,
    size_0,
    size_1,
    size_2,
    size_3,
    out_0,
    out_1,
    out_2,
    out_3,
    a_0,
    a_1,
    a_2,
    a_3,
    b_0,
    b_1,
    b_2,
    b_3,
    mask_0,
    mask_1,
    mask_2,
    mask_3,
    b_roll,
    out_roll,
    repeat: tl.constexpr,
    a_constant: tl.constexpr,
    b_constant: tl.constexpr,
    vectors: tl.constexpr,
    vector: tl.constexpr,
):
    """Compute `out = where(mask, b, a)` for one part of the innermost axis, by integers of any one width.

    An axis has one stride in each tensor, in elements. On the first, b is read and out written `b_roll` and `out_roll`
    further on, round the end. Along the innermost, an element of the mask stands for `repeat` of the others'.
    """
    tiles = tl.cdiv(inner, vectors * vector)
    row = tl.program_id(0) // tiles
    # In 64 bits, for tensors of any size: indices before they are multiplied by strides.
    start = (tl.program_id(0) % tiles).to(tl.int64) * (vectors * vector)
    index_3 = (row % size_3).to(tl.int64)
    row //= size_3
    index_2 = (row % size_2).to(tl.int64)
    row //= size_2
    index_1 = (row % size_1).to(tl.int64)
    index_0 = (row // size_1).to(tl.int64)
    b_index = index_0 + b_roll
    b_index = tl.where(b_index >= size_0, b_index - size_0, b_index)
    out_index = index_0 + out_roll
    out_index = tl.where(out_index >= size_0, out_index - size_0, out_index)
    a += index_0 * a_0 + index_1 * a_1 + index_2 * a_2 + index_3 * a_3 + start * a_step
    b += b_index * b_0 + index_1 * b_1 + index_2 * b_2 + index_3 * b_3 + start * b_step
    out += out_index * out_0 + index_1 * out_1 + index_2 * out_2 + index_3 * out_3 + start * out_step
    mask += index_0 * mask_0 + index_1 * mask_1 + index_2 * mask_2 + index_3 * mask_3 + start // repeat * mask_step

    # A row for each vector of 16 bytes: it is read whole if any of it is selected.
    lane = tl.arange(0, vectors)[:, None] * vector + tl.arange(0, vector)[None, :]
    inside = lane < inner - start
    pixel = ((start % repeat).to(tl.int32) + lane) // repeat
    chosen = tl.load(mask + pixel.to(tl.int64) * mask_step, mask=inside, other=0)
    some_a = tl.min(chosen, 1, keep_dims=True) == 0
    some_b = tl.max(chosen, 1, keep_dims=True) != 0
    lane = lane.to(tl.int64)
    first = tl.load(a) if a_constant else tl.load(a + lane * a_step, mask=inside & some_a)
    second = tl.load(b) if b_constant else tl.load(b + lane * b_step, mask=inside & some_b)
    tl.store(out + lane * out_step, tl.where(chosen != 0, second, first), mask=inside)


class _Axis(NamedTuple):
    size: int
    strides: tuple[int, ...]  # of out, a, b and the mask

    def holds(self, inner: "_Axis", tensors: slice) -> bool:
        """Tell whether this axis and one inside it are one axis of those tensors."""
        pairs = zip(self.strides[tensors], inner.strides[tensors], strict=True)
        return all(outer == inner.size * step for outer, step in pairs)


class Plan(NamedTuple):
    """How the kernel goes through tensors: outer axes, and the innermost one."""

    outer: list[_Axis]
    inner: _Axis
    repeat: int

    def is_fast(self) -> bool:
        """Tell whether it is the way to go, where there is another."""
        return self.inner.size >= _SHORT or not self.outer


def plan(out: Tensor, a: Tensor, b: Tensor, mask: Tensor, *, rolled: bool) -> Plan | None:
    """Merge the axes of four tensors of one shape into as few as there can be; if `rolled`, all but the first.

    None if that is too many, or if elements are neither of 1, 2, 4 nor 8 bytes.
    """
    strides = zip(*(tensor.stride() for tensor in (out, a, b, mask)), strict=True)
    axes = [_Axis(size, steps) for size, steps in zip(out.shape, strides, strict=True)]
    first, rest = (axes[:1], axes[1:]) if rolled else ([], axes)
    merged: list[_Axis] = []
    for axis in sorted((axis for axis in rest if axis.size > 1), key=lambda axis: -axis.strides[0]):
        size = merged.pop().size if merged and merged[-1].holds(axis, slice(None)) else 1
        merged.append(_Axis(size * axis.size, axis.strides))
    inner, repeat = merged.pop() if merged else _Axis(1, (0, 0, 0, 0)), 1
    one_mask = inner.strides[3] == 0 and inner.size < _MOST_REPEATS
    if merged and one_mask and merged[-1].holds(inner, slice(3)):  # channels last
        repeat, pixels = inner.size, merged.pop()
        inner = _Axis(pixels.size * repeat, (*inner.strides[:3], pixels.strides[3]))
    outer = first + merged
    return Plan(outer, inner, repeat) if len(outer) <= OUTER and out.element_size() in _INTEGERS else None


def select(out: Tensor, a: Tensor, b: Tensor, mask: Tensor, how: Plan, *, b_roll: int = 0, out_roll: int = 0) -> None:
    """Compute `out = where(mask, b.roll(-b_roll, 0), a).roll(out_roll, 0)`, for tensors of one shape and `plan`."""
    if out.numel() == 0:
        return
    size = out.element_size()
    tensors = [tensor.view(_INTEGERS[size]) for tensor in (out, a, b)]  # whatever they hold is moved as it is
    padding = [_Axis(1, (0, 0, 0, 0))] * (OUTER - len(how.outer))
    outer = how.outer + padding
    strides = [axis.strides[position] for position in range(4) for axis in outer]
    programs = math.prod(axis.size for axis in outer) * triton.cdiv(how.inner.size, _ELEMENTS)
    _, a_step, b_step, _ = how.inner.strides
    with torch.cuda.device_of(out):
        select_kernel[(programs,)](
            *tensors,
            mask.view(torch.uint8),
            how.inner.size,
            *how.inner.strides,
            *(axis.size for axis in outer),
            *strides,
            b_roll,
            out_roll,
            repeat=how.repeat,
            a_constant=a_step == 0,
            b_constant=b_step == 0,
            vectors=_ELEMENTS * size // 16,
            vector=16 // size,
        )
