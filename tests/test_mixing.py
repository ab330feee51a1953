from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp, erase, mix
from cowmask.mixing import mix_rolled

DTYPES = [torch.uint8, torch.int64, torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64]


def some(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randint(0, 100, shape).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mix_takes_b_where_the_mask_is_true(dtype: torch.dtype) -> None:
    a, b, mask = some((4, 3, 9, 7), dtype), some((4, 3, 9, 7), dtype), torch.rand(4, 1, 9, 7) < 0.5
    mixed, chosen = mix(a, b, mask), mask.expand_as(a)
    assert mixed.dtype == dtype
    assert torch.equal(mixed[chosen], b[chosen])
    assert torch.equal(mixed[~chosen], a[~chosen])


@pytest.mark.parametrize("dtype", DTYPES)
def test_erase_keeps_x_where_the_mask_is_true(dtype: torch.dtype) -> None:
    x, mask = some((4, 3, 9, 7), dtype), torch.rand(4, 1, 9, 7) < 0.5
    fill = torch.tensor([0, 1, 1], dtype=dtype).view(3, 1, 1)
    erased, kept = erase(x, mask, fill), mask.expand_as(x)
    assert erased.dtype == dtype
    assert torch.equal(erased[kept], x[kept])
    assert torch.equal(erased[~kept], fill.expand_as(x)[~kept])
    assert torch.equal(erase(x, mask), erase(x, mask, 0))


def test_floating_mask_blends() -> None:
    a, b, mask = torch.zeros(2, 3, 4), torch.ones(2, 3, 4), torch.rand(2, 1, 4)
    assert torch.allclose(mix(a, b, mask), mask.expand_as(a))
    assert torch.allclose(erase(b, mask), mask.expand_as(a))


def test_what_is_not_selected_stays_out() -> None:
    mask = torch.tensor([True, False])
    a = torch.tensor([torch.nan, 1.0], requires_grad=True)
    b = torch.tensor([2.0, torch.nan], requires_grad=True)
    mixed = mix(a, b, mask)
    assert mixed.tolist() == [2.0, 1.0]
    mixed.square().sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.tolist() == [0.0, 2.0]
    assert b.grad.tolist() == [4.0, 0.0]
    assert erase(a, ~mask, 5.0).tolist() == [5.0, 1.0]


INTEGERS = (torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_filled_exactly(dtype: torch.dtype) -> None:
    limits, x, mask = torch.iinfo(dtype), torch.zeros(2, 1, 3, 3, dtype=dtype), torch.zeros(2, 1, 3, 3).bool()
    for fill in {limits.min, limits.max, limits.max - 1, min(limits.max, 2**53 + 1)}:
        numbers: list[Any] = [fill, np.array(fill, str(dtype).removeprefix("torch."))[()]]
        for number in numbers:
            erased = [erase(x, mask, number), CowOut(fill=number)(x, mask=mask), CutOut(0, fill=number)(x, mask=mask)]
            assert all((result.flatten().tolist() == [fill] * 18) for result in erased)


def test_bools_are_filled_with_truth_values() -> None:
    for fill in (False, True, 0, 1, 0.0, 1.0):
        assert (erase(torch.tensor([not fill]), torch.tensor([False]), fill) == bool(fill)).all()


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.float64])
def test_gradients(mask_dtype: torch.dtype) -> None:
    a, b = (torch.randn(3, 2, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.rand(3, 1, 4, 5).round() if mask_dtype == torch.bool else torch.rand(3, 1, 4, 5)
    mask = mask.to(mask_dtype)
    assert torch.autograd.gradcheck(lambda x, y: mix(x, y, mask), (a, b))
    assert torch.autograd.gradcheck(lambda x: erase(x, mask, 0.5), (a,))
    assert torch.autograd.gradcheck(lambda x: mix_rolled(x, mask), (a,))
    assert torch.autograd.gradgradcheck(lambda x: mix_rolled(x, mask), (a,))
    assert torch.autograd.gradgradcheck(lambda x, y: mix(x, y, mask), (a, b))


def test_a_blending_mask_has_a_gradient_in_both_ways_of_mixing() -> None:
    x, mask = torch.randn(3, 2, 4, 5), torch.rand(3, 1, 4, 5, requires_grad=True)
    results = [torch.autograd.grad(mixed.square().sum(), mask)[0] for mixed in (mix(x, x.roll(1, 0), mask),)]
    results += [torch.autograd.grad(mix_rolled(x, mask).square().sum(), mask)[0]]
    assert torch.equal(*results)


def test_function_transforms() -> None:
    x, mask = torch.randn(3, 2, 4, 5), torch.rand(3, 1, 4, 5) < 0.5
    gradient = torch.func.grad(lambda y: mix_rolled(y, mask).square().sum())(x)
    assert torch.allclose(gradient, torch.func.grad(lambda y: mix(y, y.roll(1, 0), mask).square().sum())(x))


@pytest.mark.parametrize("mask", [torch.rand(3, 1, 4, 5) < 0.5, torch.rand(3, 1, 4, 5)], ids=["bool", "floating"])
def test_vmap_and_jvp_go_through_in_batch_mixing(mask: Tensor) -> None:
    x, tangent, several = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 5), torch.randn(3, 7, 2, 4, 5)
    found, expected = (
        torch.func.jvp(call, (x,), (tangent,))
        for call in (lambda y: mix_rolled(y, mask), lambda y: mix(y, y.roll(1, 0), mask))
    )
    assert torch.allclose(found[0], expected[0])
    assert torch.allclose(found[1], expected[1])
    mapped = torch.func.vmap(mix_rolled, in_dims=(1, None), out_dims=1)(several, mask)
    assert torch.allclose(mapped, torch.stack([mix_rolled(y, mask) for y in several.unbind(1)], 1))
    masks = torch.stack([mask, mask.flip(0)])
    mapped = torch.func.vmap(mix_rolled, in_dims=(None, 0))(x, masks)
    assert torch.allclose(mapped, torch.stack([mix_rolled(x, one) for one in masks]))


def test_jvp_of_a_blending_mask() -> None:
    x, mask, tangent = torch.randn(3, 2, 4, 5), torch.rand(3, 1, 4, 5), torch.randn(3, 1, 4, 5)
    found = torch.func.jvp(lambda weight: mix_rolled(x, weight), (mask,), (tangent,))[1]
    assert torch.allclose(found, tangent * (x.roll(1, 0) - x))


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: x[:, :, ::2, 1:],
    "transposed": lambda x: x.transpose(2, 3),
    "expanded over the batch": lambda x: x[:1].expand(x.shape),
    "expanded over channels": lambda x: x[:, :1].expand(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_gives_the_same_values(layout: str, dtype: torch.dtype) -> None:
    a, b = (LAYOUTS[layout](some((5, 3, 6, 8), dtype)) for _ in range(2))
    copies = a.clone(), b.clone()
    mask = torch.rand(5, 1, *a.shape[2:]) < 0.5
    assert torch.equal(mix(a, b, mask), mix(a.contiguous(), b.contiguous(), mask))
    assert torch.equal(mix(a, a, mask), a)
    assert torch.equal(erase(a, mask), erase(a.contiguous(), mask))
    for rows in (5, 1):  # one mask for each image, one for all
        assert torch.equal(mix_rolled(a, mask[:rows]), mix(a, a.roll(1, 0), mask[:rows]))
    if dtype.is_floating_point:
        weights = torch.rand(5, 1, *a.shape[2:])
        assert torch.equal(mix(a, b, weights), mix(a.contiguous(), b.contiguous(), weights))
        assert torch.equal(mix_rolled(a, weights), mix(a, a.roll(1, 0), weights))
    if layout == "channels_last":
        for mixed in (mix(a, b, mask), erase(a, mask), mix_rolled(a, mask)):
            assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(a, copies[0])
    assert torch.equal(b, copies[1])


@pytest.mark.parametrize("mask_shape", [(4, 1, 6, 8), (1, 1, 6, 8), (4, 3, 6, 8), (6, 8), (4, 1, 1, 1), ()])
def test_masks_broadcast(mask_shape: tuple[int, ...]) -> None:
    a, b, mask = torch.rand(4, 3, 6, 8), torch.rand(4, 3, 6, 8), torch.rand(mask_shape) < 0.5
    assert torch.equal(mix(a, b, mask), torch.where(mask.expand(a.shape), b, a))


def test_masks_with_a_channel_axis_serve_tensors_without_one() -> None:
    a, b, mask = torch.rand(4, 6, 8), torch.rand(4, 6, 8), torch.rand(4, 1, 6, 8) < 0.5
    assert torch.equal(mix(a, b, mask), torch.where(mask[:, 0], b, a))
    assert torch.equal(erase(a, mask), torch.where(mask[:, 0], a, 0))
    assert torch.equal(mix(a, b, mask.float()), torch.where(mask[:, 0], b, a))


def test_in_batch_mixing_keeps_out_what_is_not_selected() -> None:
    x = torch.rand(3, 1, 4, 4)
    x[0, 0, :2] = torch.nan
    x.requires_grad_()
    mask = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    mask[0, 0, :2] = True  # image 0 takes these from image 2, and image 1 takes nothing from image 0
    mixed = mix_rolled(x, mask)
    assert mixed.isfinite().all()
    mixed.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[0, 0, :2] == 0).all()
    assert torch.allclose(x.grad[2, 0, :2], 4 * x.detach()[2, 0, :2])  # used twice


def test_inputs_are_not_modified() -> None:
    a, b, mask = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4) < 0.5
    copies = [tensor.clone() for tensor in (a, b, mask)]
    mix(a, b, mask), erase(a, mask), mix_rolled(a, mask)
    assert all(torch.equal(x, y) for x, y in zip((a, b, mask), copies, strict=True))


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.float32])
def test_masks_drawn_in_inference_mode_are_taken(mask_dtype: torch.dtype) -> None:
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    with torch.inference_mode():
        mask = (torch.rand(2, 1, 4, 4) < 0.5).to(mask_dtype)
        fill = torch.rand(3, 1, 1)
    for result in (mix(x, 2 * x, mask), erase(x, mask, fill), CowMix()(x, mask=mask), CowOut()(x, mask=mask)):
        assert torch.autograd.grad(result.sum(), x)[0].sum() > 0


@pytest.mark.parametrize("dual", ["x", "mask"])
def test_forward_mode_goes_through_in_batch_mixing(dual: str) -> None:
    x, mask, tangent = torch.randn(3, 1, 4, 5), torch.rand(3, 1, 4, 5), torch.randn(3, 1, 4, 5)
    with forward_ad.dual_level():
        x = forward_ad.make_dual(x, tangent) if dual == "x" else x
        mask = forward_ad.make_dual(mask, tangent) if dual == "mask" else mask
        found, expected = mix_rolled(x, mask), mix(x, x.roll(1, 0), mask)
        assert torch.allclose(*(forward_ad.unpack_dual(mixed).tangent for mixed in (found, expected)))


def test_drawing_inside_vmap_is_refused_and_given_masks_are_not() -> None:
    several, mask = torch.rand(7, 4, 3, 8, 9), torch.rand(4, 1, 8, 9) < 0.5
    labels = torch.eye(4).expand(7, 4, 4)
    for transform in (CutMix(), CowMix(), MixUp(), CowOut()):
        with pytest.raises(RuntimeError, match=r"vmap would draw one mask for all: .* pass mask="):
            torch.func.vmap(transform, randomness="different")(several)
    images, mixed = torch.func.vmap(lambda x, y: CutMix()(x, y, mask=mask))(several, labels)
    for row in range(7):
        expected = CutMix()(several[row], labels[row], mask=mask)
        assert torch.equal(images[row], expected[0])
        assert torch.allclose(mixed[row], expected[1])


def test_drawing_inside_grad_draws() -> None:
    x = torch.rand(4, 3, 8, 9)
    torch.manual_seed(0)
    gradient = torch.func.grad(lambda y: CutMix()(y).square().sum())(x)
    torch.manual_seed(0)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(CutMix()(leaf).square().sum(), leaf)
    assert torch.allclose(gradient, expected)
