import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cowmask import box_masks, cow_masks
from tests.reference import cow_mask


def test_spacing_gives_each_axis_its_own_sigma() -> None:
    noise = np.random.default_rng(0).normal(size=(64, 96))
    ours = cow_masks(1, (64, 96), sigma=8, spacing=(4, 1), noise=torch.from_numpy(noise)[None, None])
    assert np.mean(ours[0, 0].numpy() != cow_mask(noise, (2, 8), 0.5)) < 0.0003


def test_row_does_not_depend_on_the_others() -> None:
    noise = torch.randn(8, 1, 201, 256, generator=torch.Generator().manual_seed(0))
    sigma, proportion = torch.linspace(2, 16, 8), torch.linspace(0.2, 0.8, 8)
    together = cow_masks(8, (201, 256), sigma, proportion, noise=noise)
    alone = [
        cow_masks(1, (201, 256), sigma[row : row + 1], proportion[row : row + 1], noise=noise[row : row + 1])
        for row in range(8)
    ]
    assert (together != torch.cat(alone)).sum() <= 2  # of 411,648: sums may be ordered otherwise


def test_proportion_0_and_1_are_exact() -> None:
    proportion = torch.tensor([0.0, 1.0, 0.5])
    for size in ((33, 47), (1, 1)):
        masks = cow_masks(3, size, 4, proportion)
        assert not masks[0].any()
        assert masks[1].all()
    assert not cow_masks(1, (1, 1), 4, 0.999).any()  # a field without variance


@pytest.mark.parametrize("size", [(1,), (257,), (1, 1), (1, 50), (37, 41), (5, 9, 17)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.bfloat16, torch.float64])
def test_shapes_and_dtypes(size: tuple[int, ...], dtype: torch.dtype) -> None:
    for masks in (cow_masks(3, size, (1, 4), dtype=dtype), box_masks(3, size, dtype=dtype)):
        assert masks.shape == (3, 1, *size)
        assert masks.dtype == dtype
        assert ((masks == 0) | (masks == 1)).all()


@pytest.mark.parametrize("draw", [cow_masks, box_masks])
def test_only_the_given_generator_is_used(draw) -> None:  # type: ignore[no-untyped-def]
    before = torch.get_rng_state()
    first, second = (draw(4, (32, 48), generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, draw(4, (32, 48), generator=torch.Generator().manual_seed(6)))
    assert not torch.equal(first[0], first[1])


def test_autocast_and_default_dtype_change_nothing() -> None:
    def draw() -> Tensor:
        return cow_masks(4, (64, 48), generator=torch.Generator().manual_seed(0))

    plain = draw()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain, draw())
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(plain, draw())
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):  # nothing of ours may be made there
        assert cow_masks(2, (43, 59), (3, 5), device="cpu").any()


def test_tables_made_in_inference_mode_serve_in_training() -> None:
    with torch.inference_mode():
        cow_masks(2, (51, 52), 3)
    x = torch.randn(2, 1, 51, 52, requires_grad=True)
    (x * cow_masks(2, (51, 52), 3)).sum().backward()
    assert x.grad is not None


def box_sides(mask: Tensor) -> tuple[int, int]:
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


def test_boxes_cover_their_area_at_uniform_places() -> None:
    masks = box_masks(2000, (60, 90), 0.3, generator=torch.Generator().manual_seed(0))[:, 0]
    areas = masks.float().mean((1, 2))
    assert (areas - 0.3).abs().max() < 0.02  # sides are rounded to pixels
    sides = torch.tensor([box_sides(mask) for mask in masks])
    assert torch.equal(sides.prod(1), masks.sum((1, 2)))  # each is one box
    # height = 0.3^u with u uniform: the logarithm of the relative height is uniform.
    u = (sides[:, 0] / 60).log() / math.log(0.3)
    assert torch.quantile(u, torch.tensor([0.25, 0.5, 0.75])).sub(torch.tensor([0.25, 0.5, 0.75])).abs().max() < 0.05
    marginal = masks.float().mean(0)
    assert torch.allclose(marginal, marginal.flip(0), atol=0.07)  # 4.5 standard errors of a difference
    assert torch.allclose(marginal, marginal.flip(1), atol=0.07)


def test_box_aspect_is_height_over_width() -> None:
    for mask in box_masks(50, (100, 200), (0.1, 0.3), aspect=0.5)[:, 0]:
        height, width = box_sides(mask)
        assert abs(width - 2 * height) <= 2
    tall = box_masks(50, (100, 200), 0.5, aspect=4.0)[:, 0]  # would be 200 high
    assert tall.any(2).all()
    assert (tall.float().mean((1, 2)) == 0.5).all()


def test_clipped_boxes_have_uniform_centres() -> None:
    masks = box_masks(4000, (32, 32), 0.25, aspect=1, clip=True, generator=torch.Generator().manual_seed(0))[:, 0]
    # A corner is covered if the centre lies within half a side of it: 8 of 32 places an axis, or 9.
    assert abs(masks[:, 0, 0].float().mean() - (9 / 32) ** 2) < 0.02
    assert abs(masks[:, 16, 16].float().mean() - (16 / 32) ** 2) < 0.04
    assert masks.float().mean((1, 2)).max() == 0.25


def test_boxes_reach_every_border() -> None:
    masks = box_masks(2000, (20, 30), 0.1, aspect=1, generator=torch.Generator().manual_seed(0))[:, 0]
    edges = torch.stack([masks[:, 0].any(1), masks[:, -1].any(1)]).float().mean(1)
    assert (edges - 1 / 13).abs().max() < 0.03  # a side of 8 has 13 places in 20


def test_several_boxes_are_united() -> None:
    masks = box_masks(500, (64, 64), 0.4, n_boxes=4, generator=torch.Generator().manual_seed(0))
    areas = masks.float().mean((1, 2, 3))
    assert areas.max() < 0.45
    assert 0.3 < areas.mean() < 0.38  # four of 0.1 that overlap now and then
    assert not box_masks(2, (8, 8), 0.0).any()
    assert box_masks(2, (8, 8), 1.0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n": 0}, ValueError, "n must be at least 1"),
        ({"n": 2.0}, TypeError, "n must be an integer"),
        ({"size": 64}, TypeError, "size must be a sequence"),
        ({"size": (4, 4, 4, 4)}, ValueError, "1 to 3 axes"),
        ({"size": (4, 0)}, ValueError, r"size\[1\] must be at least 1"),
        ({"sigma": 0}, ValueError, "sigma must be finite, above 0"),
        ({"sigma": float("nan")}, ValueError, "sigma must be finite"),
        ({"sigma": (8, 4)}, ValueError, "low <= high"),
        ({"sigma": (4, 8, 16)}, ValueError, "got 3 values"),
        ({"sigma": "big"}, TypeError, "sigma must be a number"),
        ({"sigma": torch.tensor([1.0, 2.0, 3.0])}, ValueError, "3 per-mask values, but 2 masks"),
        ({"proportion": 1.5}, ValueError, "at least 0 and at most 1"),
        ({"proportion": torch.ones(2, 1)}, ValueError, r"shape \(n,\)"),
        ({"spacing": (1, 1, 1)}, ValueError, "one number per axis"),
        ({"noise": torch.randn(2, 16, 16)}, ValueError, "noise must have shape"),
        ({"noise": torch.ones(2, 1, 16, 16, dtype=torch.int)}, TypeError, "noise must be a floating tensor"),
        ({"method": "fft"}, ValueError, "method must be"),
        ({"generator": 3}, TypeError, "generator must be a torch.Generator"),
        ({"device": "meta", "generator": torch.Generator()}, ValueError, "generator is on cpu"),
        ({"dtype": torch.int64}, ValueError, "dtype must be torch.bool or floating"),
    ],
)
def test_cow_masks_refuse_bad_input_and_draw_nothing(
    arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    before = torch.get_rng_state()
    with pytest.raises(error, match=words):
        cow_masks(**({"n": 2, "size": (16, 16)} | arguments))  # type: ignore[arg-type]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"area": 1.1}, ValueError, "area must be finite"),
        ({"aspect": 0}, ValueError, "aspect must be finite, above 0"),
        ({"aspect": (0.5, 2)}, TypeError, "aspect must be a number"),
        ({"size": (16,), "aspect": 1}, ValueError, "two axes"),
        ({"n_boxes": 0}, ValueError, "n_boxes must be at least 1"),
    ],
)
def test_box_masks_refuse_bad_input(arguments: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        box_masks(**({"n": 2, "size": (16, 16)} | arguments))  # type: ignore[arg-type]
