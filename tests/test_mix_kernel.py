"""The kernel that selects equals `torch.where` bit for bit. See `tests/kernels.py`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from cowmask import CowMix, CowOut, erase, mix
from cowmask.mixing import mix_batch
from tests.kernels import DEVICE, ON_GPU, marks, spy_on

pytestmark = marks
kernel = pytest.importorskip("cowmask.kernels.mix")

DTYPES = [torch.uint8, torch.bool, torch.int16, torch.bfloat16, torch.float32, torch.int64, torch.complex64]


def some(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randint(0, 100, shape, device=DEVICE).to(dtype)


def masks(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, device=DEVICE) < 0.5


def assert_same(found: Tensor, expected: Tensor, like: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert found.stride() == like.stride()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(23, 47), (16, 48), (1, 1), (5, 6, 7)])
def test_selects_and_erases(dtype: torch.dtype, size: tuple[int, ...]) -> None:
    formats = [torch.contiguous_format, torch.channels_last if len(size) == 2 else torch.channels_last_3d]
    for memory_format in formats:
        a, b = (some((2, 3, *size), dtype).to(memory_format=memory_format) for _ in range(2))
        for shape in ((2, 1, *size), (2, 3, *size), (1, 1, *size), (2, 1, *[1] * len(size))):
            mask = masks(shape).to(memory_format=memory_format)
            assert_same(mix(a, b, mask, backend="triton"), torch.where(mask, b, a), a)
            fill = some((3, *[1] * len(size)), dtype)
            # A fill by channel, only where channels are first: elsewhere each pixel would need a program of its own,
            # which takes the interpreter a minute.
            for value in (fill if a.is_contiguous() else fill[0], fill[0, 0]):
                assert_same(erase(a, mask, value, backend="triton"), torch.where(mask, a, value), a)
                assert_same(mix(a, value.expand_as(a), mask, backend="triton"), torch.where(mask, value, a), a)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_image_before_is_mixed_in(dtype: torch.dtype) -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x, mask = some((5, 3, 20, 28), dtype).to(memory_format=memory_format), masks((5, 1, 20, 28))
        (found,) = mix_batch([x], None, mask, backend="triton")
        assert_same(found, torch.where(mask, x.roll(1, 0), x), x)


def test_lazily_negated_and_conjugated_tensors_are_what_they_stand_for() -> None:
    x, y, mask = torch.randn(2, 1, 4, 6, dtype=torch.complex64, device=DEVICE), some((2, 1, 4, 6)), masks((2, 1, 4, 6))
    conjugated, negated = x.conj(), torch._neg_view(y)
    for a, b in ((conjugated, x), (x, conjugated), (negated, y), (y, negated)):
        assert torch.equal(mix(a, b, mask, backend="triton"), torch.where(mask, b, a))
    (found,) = mix_batch([conjugated], None, mask, backend="triton")
    assert torch.equal(found, torch.where(mask, conjugated.roll(1, 0), conjugated))


def test_the_result_is_laid_out_like_the_first() -> None:
    a, mask = some((2, 3, 6, 10)), masks((2, 1, 6, 10))
    b = some((2, 3, 6, 10)).to(memory_format=torch.channels_last)
    assert mix(a, b, mask, backend="triton").stride() == a.stride()
    assert mix(b, a, mask, backend="triton").stride() == b.stride()


def test_several_tensors_share_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = masks((4, 1, 20, 28))
    tensors = [some((4, 3, 20, 28)), some((4, 11, 20, 28), torch.bfloat16), some((4, 20, 28), torch.int64)]
    partners = [some(tuple(x.shape), x.dtype) for x in tensors]
    spy = spy_on(monkeypatch, kernel, "select_kernel")
    found = mix_batch(tensors, partners, mask, backend="triton")
    in_batch = mix_batch(tensors, None, mask, backend="triton")
    assert spy.launches == 6
    for x, y, one, other in zip(tensors, partners, found, in_batch, strict=True):
        its_mask = mask[:, 0] if x.ndim == 3 else mask
        assert_same(one, torch.where(its_mask, y, x), x)
        assert_same(other, torch.where(its_mask, x.roll(1, 0), x), x)


def strided(shape: list[int], layout: tuple[list[int], list[int]], dtype: torch.dtype) -> Tensor:
    """Return a tensor whose axes lie in memory in the given order, with a step between elements along each axis."""
    order, steps = layout
    big = some(tuple(shape[axis] * steps[axis] for axis in order), dtype)
    back = [order.index(axis) for axis in range(len(order))]
    return big.permute(back)[tuple(slice(None, None, step) for step in steps)]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[int], list[tuple[list[int], list[int]]], list[bool], torch.dtype]:
    """Draw a shape, the layouts of two tensors and a mask, and which axes of the mask are expanded."""
    ndim = draw(st.integers(1, 5))
    shape = draw(st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim))
    shape[draw(st.integers(0, ndim - 1))] *= draw(st.sampled_from([1, 1, 16, 40]))
    steps = st.lists(st.sampled_from([1, 1, 2]), min_size=ndim, max_size=ndim)
    three = [(draw(st.permutations(range(ndim))), draw(steps)) for _ in range(3)]
    return shape, three, draw(st.lists(st.booleans(), min_size=ndim, max_size=ndim)), draw(st.sampled_from(DTYPES))


@settings(max_examples=25)
@given(layouts())
def test_any_strides(layout: Any) -> None:
    shape, (first, second, third), expanded, dtype = layout
    a, b = strided(shape, first, dtype), strided(shape, second, dtype)
    mask = strided([1 if one else side for one, side in zip(expanded, shape, strict=True)], third, torch.bool)
    assert torch.equal(mix(a, b, mask, backend="triton"), torch.where(mask, b, a))
    if len(shape) > 1:
        (found,) = mix_batch([a], None, mask[:1].expand(shape[0], *mask.shape[1:]), backend="triton")
        assert torch.equal(found, torch.where(mask[:1], a.roll(1, 0), a))


@pytest.mark.parametrize("vector", [1, 8])  # rows of a length that 16 bytes do not divide, and of one that they do
def test_every_element_is_written_and_none_beyond(vector: int) -> None:
    side = 7 * vector
    x, y, mask = some((3, 2, 9, side)), some((3, 2, 9, side)), masks((3, 1, 9, side)).expand(3, 2, 9, side)
    buffer = torch.full((5, 2, 9, side), -7.0, device=DEVICE)
    out = buffer[1:4]
    plan = kernel.plan(out, x, y, mask, rolled=True)
    assert plan is not None
    kernel.launch_select(out, x, y, mask, plan, b_roll=2, out_roll=1)
    assert torch.equal(out, torch.where(mask, y.roll(-2, 0), x).roll(1, 0))
    assert (buffer[[0, 4]] == -7).all()


def test_gradients_of_both() -> None:
    a, b = (torch.randn(2, 2, 3, dtype=torch.float64, device=DEVICE, requires_grad=True) for _ in range(2))
    fill = torch.randn(2, 1, dtype=torch.float64, device=DEVICE, requires_grad=True)
    mask = torch.tensor([[[True, False, True]], [[False, False, True]]], device=DEVICE)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x, y: mix(x, y, mask, backend="triton"), (a, b), fast_mode=True)
        assert check(lambda x, y: erase(x, mask, y, backend="triton"), (a, fill), fast_mode=True)
        assert check(lambda x: mix_batch([x], None, mask, backend="triton")[0], (a,), fast_mode=True)
    labels = some((2, 3), torch.int64)
    mixed, targets = mix_batch([a, labels], [b.detach(), labels], mask, backend="triton")
    assert not targets.requires_grad
    mixed.sum().backward()
    assert a.grad is not None
    assert torch.equal(a.grad, (~mask).double().expand_as(a))
    assert b.grad is None


def test_what_is_not_selected_stays_out() -> None:
    mask = torch.tensor([True, False], device=DEVICE)
    a = torch.tensor([torch.nan, 1.0], device=DEVICE, requires_grad=True)
    b = torch.tensor([2.0, torch.nan], device=DEVICE, requires_grad=True)
    mixed = mix(a, b, mask, backend="triton")
    mixed.square().sum().backward()
    assert mixed.tolist() == [2.0, 1.0]
    assert a.grad is not None
    assert b.grad is not None
    assert (a.grad.tolist(), b.grad.tolist()) == ([0.0, 2.0], [4.0, 0.0])


@pytest.mark.skipif(ON_GPU, reason="counts the interpreter's reads")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_only_what_is_selected_is_read(memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime.interpreter import InterpreterBuilder

    read = {1: 0, 4: 0}  # number of elements read, by their bytes
    load = InterpreterBuilder.create_masked_load

    def counted(self: Any, pointers: Any, mask: Any, *others: Any) -> Any:
        read[pointers.get_element_ty().primitive_bitwidth // 8] += int(mask.data.sum())
        return load(self, pointers, mask, *others)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", counted)
    a, b = (some((2, 4, 64, 96)).to(memory_format=memory_format) for _ in range(2))
    mask = torch.zeros(2, 1, 64, 96, dtype=torch.bool)
    mask[0, :, 10:30, 8:48] = True  # whole vectors of 16 bytes
    mask[1] = True
    mix(a, b, mask, backend="triton")
    assert read[4] == a.numel()
    read[4] = 0
    # Now some vectors are read from both images: one of 4 elements in each channel of an image; with channels last,
    # none, since a vector holds the 4 channels of one pixel.
    mask[0, :, 10, 9] = False
    mix(a, b, mask, backend="triton")
    assert read[4] == a.numel() + (16 if memory_format == torch.contiguous_format else 0)


def test_the_names_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = spy_on(monkeypatch, kernel, "select_kernel")
    a, b, mask = some((2, 3, 16, 16)), some((2, 3, 16, 16)), masks((2, 1, 16, 16))
    for backend, launches in {"torch": 0, "auto": 2 * ON_GPU, "triton": 2}.items():
        spy.launches = 0
        mix(a, b, mask, backend=backend)
        erase(a, mask, backend=backend)
        assert spy.launches == launches
    with pytest.raises(ValueError, match="selects by a bool mask"):
        mix(a, b, mask.float(), backend="triton")
    with pytest.raises(ValueError, match='backend must be "auto", "torch" or "triton"'):
        erase(a, mask, backend="numba")
    with pytest.raises(ValueError, match="elements of 1 to 8 bytes"):
        mix(a.to(torch.complex128), b.to(torch.complex128), mask, backend="triton")
    shape = (2, 2, 2, 2, 2, 2, 2)
    x, many = some(shape), masks(shape).permute(6, 5, 4, 3, 2, 1, 0)
    with pytest.raises(ValueError, match="5 axes that cannot be merged"):
        mix(x, x, many, backend="triton")
    assert torch.equal(mix(x, x + 1, many), torch.where(many, x + 1, x))


@pytest.mark.skipif(not ON_GPU, reason="the transforms use the kernel on a GPU only")
def test_transforms_take_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = spy_on(monkeypatch, kernel, "select_kernel")
    x = torch.rand(4, 3, 32, 32, device=DEVICE)
    CowMix()(x, x)
    CowOut()(x)
    assert spy.launches == 3


def test_axes_are_merged() -> None:
    def merged(shape: tuple[int, ...], mask: tuple[int, ...], *, last: bool = False, rolled: bool = False) -> Any:
        x, its_mask = torch.empty(shape, device="meta"), torch.empty(mask, device="meta", dtype=torch.bool)
        if last:
            x = x.to(memory_format=torch.channels_last)
        plan = kernel.plan(x, x, x, its_mask.expand(shape), rolled=rolled)
        return [axis.size for axis in plan.outer], plan.inner.size, plan.repeat

    assert merged((4, 3, 8, 10), (4, 1, 8, 10)) == ([4, 3], 80, 1)
    assert merged((4, 3, 8, 10), (4, 1, 8, 10), last=True) == ([], 960, 3)
    assert merged((4, 3, 8, 10), (4, 1, 8, 10), last=True, rolled=True) == ([4], 240, 3)
    assert merged((4, 8, 10), (4, 8, 10)) == ([], 320, 1)
    assert merged((4, 3, 8, 10), (1, 1, 8, 10)) == ([12], 80, 1)
    assert merged((4, 3, 8, 10), (4, 1, 1, 1)) == ([], 960, 240)
    assert merged((2, 2**31), (2, 1)) == ([2], 2**31, 1)  # the kernel cannot count so many repeats in 32 bits


def test_short_axes_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cowmask._select.use_triton", lambda *_: True)
    spy = spy_on(monkeypatch, kernel, "select_kernel")
    x = some((3, 3, 16, 16)).to(memory_format=torch.channels_last)
    mask, fill = masks((3, 1, 16, 16)), some((3, 1, 1))
    fills = fill.expand_as(x)
    for b_roll, out_roll in ((0, 0), (2, 0), (0, 1), (2, 1)):
        (found,) = torch.ops.cowmask.select([fills], [x], [mask.expand_as(x)], b_roll, out_roll, "auto")
        assert_same(found, torch.where(mask, x.roll(-b_roll, 0), fills).roll(out_roll, 0), x)
    assert spy.launches == 0
    torch.ops.cowmask.select([x], [x], [mask.expand_as(x)], 2, 0, "auto")
    assert spy.launches == 1


def test_functional_transforms_are_left_to_torch() -> None:
    a, b, tangent = (torch.randn(3, 2, 16, 70, device=DEVICE) for _ in range(3))
    mask = torch.rand(3, 1, 16, 70, device=DEVICE) < 0.5
    calls: list[Callable[[str], Any]] = [
        lambda backend: torch.func.jvp(lambda x: mix(x, b, mask, backend=backend), (a,), (tangent,))[1],
        lambda backend: torch.func.vmap(lambda x: mix(x, b[0], mask[0], backend=backend))(a),
        lambda backend: torch.func.grad(lambda x: mix(x, b, mask, backend=backend).square().sum())(a),
        lambda backend: torch.func.grad(lambda x: erase(x, mask, backend=backend).square().sum())(a),
    ]
    for call in calls:
        assert torch.equal(call("auto"), call("torch"))
        with pytest.raises(ValueError, match=r'takes no torch\.func and no forward-mode derivatives: name "torch"'):
            call("triton")
    with forward_ad.dual_level(), pytest.raises(ValueError, match="no forward-mode"):
        mix(a, forward_ad.make_dual(b, tangent), mask, backend="triton")
