"""Select between two tensors by a mask, and read only the selected one.

A GPU reads 32 bytes at once. Where the features of the mask are larger than that, the kernel moves about the bytes of
one input and one output; `torch.where` moves both inputs.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

OUTER_AXES = 4  # beside the innermost
_VECTOR_BYTES = 16  # what one instruction reads
_VECTORS = 512  # in a tile: two per thread
_WARPS = 8
_SHORTEST_INNER = 64  # elements; on a shorter innermost axis, most of each program is idle
_MOST_REPEATS = 2**30  # the kernel counts them in 32 bits
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


@triton.jit(do_not_specialize=["sizes", "b_roll", "out_roll"])
def select_kernel(
    out_ptr,
    a_ptr,
    b_ptr,
    mask_ptr,
    inner_size,
    sizes,
    out_strides,
    a_strides,
    b_strides,
    mask_strides,
    b_roll,
    out_roll,
    REPEAT: tl.constexpr,
    A_IS_SCALAR: tl.constexpr,
    B_IS_SCALAR: tl.constexpr,
    VECTORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Compute `out = where(mask, b, a)` for one tile of the innermost axis.

    The tensors have one shape: outer axes, of which the first is the batch, and the innermost axis. All strides are in
    elements. Along the batch, row i reads b[i + b_roll] and writes out[i + out_roll], modulo the batch size. Along the
    innermost axis, one mask element covers `REPEAT` elements of the images (channels-last).

    Args:
        out_ptr, a_ptr, b_ptr: Elements as integers of one width, 1 to 8 bytes.
        mask_ptr: Bytes; 0 selects a, any other b.
        inner_size: Elements of the innermost axis, counted in the images.
        sizes: Of the outer axes, a tuple.
        *_strides: Along the outer axes and the innermost one, tuples. The mask's last stride is from one mask element
            to the next.
        b_roll, out_roll: Rows, from 0 to the batch size.
        REPEAT: Elements of the images per mask element.
        A_IS_SCALAR, B_IS_SCALAR: Whether that input has one value along the innermost axis, so that it is read once.
        VECTORS, VECTOR: A tile has VECTORS vectors of VECTOR elements; a vector has 16 bytes.
    """
    # 1. Which outer row, and which tile of the innermost axis, is this program's?
    n_outer: tl.constexpr = len(sizes)
    tiles = tl.cdiv(inner_size, VECTORS * VECTOR)
    row = tl.program_id(0) // tiles
    # An index becomes 64 bits wide before it is multiplied by a stride, since the product may pass 2^31.
    start = (tl.program_id(0) % tiles).to(tl.int64) * (VECTORS * VECTOR)

    # 2. Where does that tile start in each tensor?
    a_ptr += start * a_strides[n_outer]
    b_ptr += start * b_strides[n_outer]
    out_ptr += start * out_strides[n_outer]
    mask_ptr += start // REPEAT * mask_strides[n_outer]
    for axis in tl.static_range(n_outer - 1, -1, -1):
        index = (row % sizes[axis]).to(tl.int64)
        row //= sizes[axis]
        b_index = index
        out_index = index
        if axis == 0:  # b and out wrap round the end of the batch
            b_index += b_roll
            b_index = tl.where(b_index >= sizes[0], b_index - sizes[0], b_index)
            out_index += out_roll
            out_index = tl.where(out_index >= sizes[0], out_index - sizes[0], out_index)
        a_ptr += index * a_strides[axis]
        b_ptr += b_index * b_strides[axis]
        out_ptr += out_index * out_strides[axis]
        mask_ptr += index * mask_strides[axis]

    # 3. Read the mask; then read only the image it selects, in vectors of 16 bytes.
    lane = tl.arange(0, VECTORS)[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]  # (VECTORS, VECTOR)
    inside = lane < inner_size - start
    mask_lane = ((start % REPEAT).to(tl.int32) + lane) // REPEAT
    chosen = tl.load(mask_ptr + mask_lane.to(tl.int64) * mask_strides[n_outer], mask=inside, other=0)
    # A vector is read whole if any of its elements is selected, so that one load instruction takes 16 bytes.
    any_from_a = tl.min(chosen, 1, keep_dims=True) == 0  # (VECTORS, 1)
    any_from_b = tl.max(chosen, 1, keep_dims=True) != 0
    lane = lane.to(tl.int64)
    from_a = tl.load(a_ptr) if A_IS_SCALAR else tl.load(a_ptr + lane * a_strides[n_outer], mask=inside & any_from_a)
    from_b = tl.load(b_ptr) if B_IS_SCALAR else tl.load(b_ptr + lane * b_strides[n_outer], mask=inside & any_from_b)
    tl.store(out_ptr + lane * out_strides[n_outer], tl.where(chosen != 0, from_b, from_a), mask=inside)


class _Axis(NamedTuple):
    size: int
    strides: tuple[int, ...]  # of out, a, b and the mask

    def merges_with(self, inner: "_Axis", tensors: slice) -> bool:
        """Tell whether this axis and the next one inside it form a single axis in the given tensors."""
        pairs = zip(self.strides[tensors], inner.strides[tensors], strict=True)
        return all(outer_stride == inner.size * inner_stride for outer_stride, inner_stride in pairs)


class Plan(NamedTuple):
    """The axes that the kernel goes through: outer ones, the innermost, and its elements per mask element."""

    outer: tuple[_Axis, ...]
    inner: _Axis
    repeat: int

    def is_worthwhile(self) -> bool:
        """Tell whether the kernel should run where torch could select instead."""
        return self.inner.size >= _SHORTEST_INNER or not self.outer


def plan(out: Tensor, a: Tensor, b: Tensor, mask: Tensor, *, rolled: bool) -> Plan | None:
    """Merge the axes of four tensors of one shape into as few as possible; if `rolled`, all but the first.

    Returns:
        The plan; None if too many axes are left, or if elements have a width other than 1, 2, 4 or 8 bytes.
    """
    if out.element_size() not in _INTEGERS:
        return None
    return _plan(out.shape, (out.stride(), a.stride(), b.stride(), mask.stride()), rolled)


@lru_cache(maxsize=1024)  # plans take longer to make than to find, and a training needs few of them
def _plan(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...], rolled: bool) -> Plan | None:
    # 1. Order the axes as out has them in memory. A rolled axis stays by itself, since its indices wrap round.
    axes = [_Axis(size, steps) for size, steps in zip(shape, zip(*strides, strict=True), strict=True)]
    first, rest = (axes[:1], axes[1:]) if rolled else ([], axes)
    rest = sorted((axis for axis in rest if axis.size > 1), key=lambda axis: -axis.strides[0])

    # 2. Merge each axis with the one before it where all four tensors allow that.
    merged: list[_Axis] = []
    for axis in rest:
        size = merged.pop().size if merged and merged[-1].merges_with(axis, slice(None)) else 1
        merged.append(_Axis(size * axis.size, axis.strides))
    inner = merged.pop() if merged else _Axis(1, (0, 0, 0, 0))

    # 3. Channels last: the pixels and channels of the images merge, and one mask element serves all channels.
    repeat = 1
    one_mask = inner.strides[3] == 0 and inner.size < _MOST_REPEATS
    if merged and one_mask and merged[-1].merges_with(inner, slice(3)):
        pixels, repeat = merged.pop(), inner.size
        inner = _Axis(pixels.size * repeat, (*inner.strides[:3], pixels.strides[3]))
    outer = (*first, *merged)
    return Plan(outer, inner, repeat) if len(outer) <= OUTER_AXES else None


def launch_select(
    out: Tensor, a: Tensor, b: Tensor, mask: Tensor, plan: Plan, *, b_roll: int = 0, out_roll: int = 0
) -> None:
    """Compute `out = where(mask, b.roll(-b_roll, 0), a).roll(out_roll, 0)` for the four tensors of `plan`."""
    if out.numel() == 0:
        return
    element_size = out.element_size()
    vector = _VECTOR_BYTES // element_size
    images = [tensor.view(_INTEGERS[element_size]) for tensor in (out, a, b)]  # bits are moved, not interpreted
    sizes = tuple(axis.size for axis in plan.outer)
    strides = zip(*(axis.strides for axis in (*plan.outer, plan.inner)), strict=True)
    programs = math.prod(sizes) * -(-plan.inner.size // (_VECTORS * vector))  # rounded up
    _, a_stride, b_stride, _ = plan.inner.strides
    with torch.cuda.device_of(out):
        select_kernel[(programs,)](
            *images,
            mask.view(torch.uint8),
            plan.inner.size,
            sizes,
            *strides,
            b_roll,
            out_roll,
            REPEAT=plan.repeat,
            A_IS_SCALAR=a_stride == 0,
            B_IS_SCALAR=b_stride == 0,
            VECTORS=_VECTORS,
            VECTOR=vector,
            num_warps=_WARPS,
        )
