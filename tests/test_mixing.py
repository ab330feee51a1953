import pytest
import torch

from cowmask import erase, mix
from cowmask.mixing import mix_with_previous

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
    fill = torch.tensor([0, 1, 1]).view(3, 1, 1)
    erased, kept = erase(x, mask, fill), mask.expand_as(x)
    assert erased.dtype == dtype
    assert torch.equal(erased[kept], x[kept])
    assert torch.equal(erased[~kept], fill.to(dtype).expand_as(x)[~kept])
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


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.float64])
def test_gradients(mask_dtype: torch.dtype) -> None:
    a, b = (torch.randn(3, 2, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.rand(3, 1, 4, 5).round() if mask_dtype == torch.bool else torch.rand(3, 1, 4, 5)
    mask = mask.to(mask_dtype)
    assert torch.autograd.gradcheck(lambda x, y: mix(x, y, mask), (a, b))
    assert torch.autograd.gradcheck(lambda x: erase(x, mask, 0.5), (a,))
    assert torch.autograd.gradcheck(lambda x: mix_with_previous(x, mask), (a,))


def test_a_blending_mask_has_a_gradient_in_both_ways_of_mixing() -> None:
    x, mask = torch.randn(3, 2, 4, 5), torch.rand(3, 1, 4, 5, requires_grad=True)
    results = [torch.autograd.grad(mixed.square().sum(), mask)[0] for mixed in (mix(x, x.roll(1, 0), mask),)]
    results += [torch.autograd.grad(mix_with_previous(x, mask).square().sum(), mask)[0]]
    assert torch.equal(*results)


def test_function_transforms() -> None:
    x, mask = torch.randn(3, 2, 4, 5), torch.rand(3, 1, 4, 5) < 0.5
    gradient = torch.func.grad(lambda y: mix_with_previous(y, mask).square().sum())(x)
    assert torch.allclose(gradient, torch.func.grad(lambda y: mix(y, y.roll(1, 0), mask).square().sum())(x))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "expanded"])
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.float32])
def test_mix_with_previous_equals_mixing_with_the_rolled_batch(layout: str, mask_dtype: torch.dtype) -> None:
    x = torch.rand(5, 3, 6, 8)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "sliced":
        x = x[:, :, ::2, 1:]
    elif layout == "expanded":
        x = x[:1].expand(5, 3, 6, 8)
    for rows in (5, 1):  # one mask for each image, one for all
        mask = (torch.rand(rows, 1, *x.shape[2:]) < 0.5).to(mask_dtype)
        assert torch.equal(mix_with_previous(x, mask), mix(x, x.roll(1, 0), mask))


def test_inputs_are_not_modified() -> None:
    a, b, mask = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4) < 0.5
    copies = [tensor.clone() for tensor in (a, b, mask)]
    mix(a, b, mask), erase(a, mask), mix_with_previous(a, mask)
    assert all(torch.equal(x, y) for x, y in zip((a, b, mask), copies, strict=True))


@pytest.mark.parametrize(
    ("a", "b", "mask", "error", "words"),
    [
        (torch.ones(2, 3), torch.ones(2, 4), torch.ones(2, 3).bool(), ValueError, "same shape"),
        (torch.ones(2, 3), torch.ones(2, 3).half(), torch.ones(2, 3).bool(), ValueError, "same dtype"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.ones(3, 3).bool(), ValueError, "does not broadcast"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.ones(1, 2, 3).bool(), ValueError, "does not broadcast"),
        (torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3).int(), TypeError, r"try mask.bool\(\)"),
        (torch.ones(2).byte(), torch.ones(2).byte(), torch.ones(2), TypeError, "blends floating tensors only"),
        (torch.ones(2), [1, 2], torch.ones(2).bool(), TypeError, "b must be a tensor"),
    ],
)
def test_mix_refuses_bad_input(a: object, b: object, mask: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        mix(a, b, mask)  # type: ignore[arg-type]


def test_erase_refuses_bad_fill() -> None:
    x, mask = torch.ones(2, 3, 4, 4), torch.ones(2, 1, 4, 4).bool()
    with pytest.raises(ValueError, match=r"try \(C, 1, 1\)"):
        erase(x, mask, torch.ones(3))
    with pytest.raises(TypeError, match="fill must be a number"):
        erase(x, mask, "black")  # type: ignore[arg-type]
