import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from cowmask import box_masks, cow_masks
from cowmask._engines import coarse
from tests.agreement import DRAWING, METHODS
from tests.distribution import LEVEL
from tests.reference import cow_mask

every_method = pytest.mark.parametrize("method", METHODS)
every_drawing_method = pytest.mark.parametrize("method", DRAWING)


@every_method
@pytest.mark.parametrize(("size", "spacing"), [((64, 96), (4, 1)), ((96, 64), (1, 4)), ((30, 40, 50), (4, 2, 1))])
def test_spacing_gives_each_axis_its_own_sigma(size: tuple[int, ...], spacing: tuple[float, ...], method: str) -> None:
    noise = np.random.default_rng(0).normal(size=size)
    given = torch.from_numpy(noise)[None, None]
    ours = cow_masks(1, size, sigma=8, spacing=spacing, noise=given, method=method)
    assert np.mean(ours[0, 0].numpy() != cow_mask(noise, [8 / step for step in spacing], 0.5)) < 0.0003


@every_method
def test_a_row_does_not_depend_on_the_others(method: str) -> None:
    noise = torch.randn(8, 1, 101, 128, generator=torch.Generator().manual_seed(0))
    sigma, proportion = torch.linspace(1, 40, 8), torch.linspace(0.2, 0.8, 8)
    together = cow_masks(8, (101, 128), sigma, proportion, noise=noise, method=method)
    for row in range(8):
        one = slice(row, row + 1)
        alone = cow_masks(1, (101, 128), sigma[one], proportion[one], noise=noise[one], method=method)
        assert (together[one] != alone).sum() <= 2  # of 12,928: sums may run in another order


@every_drawing_method
def test_values_are_numbers_ranges_or_one_for_each_mask(method: str) -> None:
    def draw(n: int, sigma: Any, proportion: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return cow_masks(n, (48, 64), sigma, proportion, method=method, generator=generator)[:, 0]

    # Every kind of number gives the same masks.
    expected = draw(4, 4.0, 0.5)
    for four in (4, np.float64(4), np.float32(4), np.int64(4), (4, 4), [4.0, 4.0], torch.full((4,), 4)):
        assert torch.equal(draw(4, four, 0.5), expected)
    # Each mask has its own values: its features grow with sigma, its area with the proportion.
    masks = draw(600, torch.linspace(1, 8, 600), torch.linspace(0, 1, 600))
    areas = masks.float().mean((1, 2))
    assert (areas - torch.linspace(0, 1, 600)).abs().mean() < 0.1
    middle = masks[200:400].chunk(2)
    assert boundary_length(middle[0]) > boundary_length(middle[1])
    # A range is drawn from anew for each mask: here the proportion, uniformly.
    areas = draw(600, 2, (0.2, 0.8)).float().mean((1, 2))
    assert abs(areas.mean() - 0.5) < 0.03
    assert abs(areas.std() - 0.6 / math.sqrt(12)) < 0.02


def boundary_length(masks: Tensor) -> float:
    return float(masks.diff(dim=1).float().mean() + masks.diff(dim=2).float().mean())


@every_method
def test_given_noise_is_read_as_it_comes_and_left_alone(method: str) -> None:
    noise = torch.randn(3, 1, 40, 50, dtype=torch.float64)
    expected = cow_masks(3, (40, 50), 4, noise=noise, method=method)
    before, state = noise.clone(), torch.get_rng_state()
    wide = torch.zeros(3, 2, 40, 100, dtype=torch.float64)
    wide[:, :1, :, ::2] = noise
    for same in (noise, noise.float(), noise.clone().requires_grad_(), wide[:, :1, :, ::2]):
        assert torch.equal(cow_masks(3, (40, 50), 4, noise=same, method=method), expected)
    assert torch.equal(noise, before)
    assert torch.equal(torch.get_rng_state(), state)
    shared = cow_masks(3, (40, 50), 4, noise=noise[:1].expand(3, 1, 40, 50), method=method)
    assert torch.equal(shared, expected[:1].expand(3, 1, 40, 50))
    assert (cow_masks(3, (40, 50), 4, noise=noise.half(), method=method) != expected).float().mean() < 0.01


@pytest.mark.parametrize(
    ("size", "sigma", "method"),
    [
        ((128, 96), (4, 16), "spectral"),
        ((300, 2000), (0.5, 1), "direct"),
        ((700, 600), (2, 4), "coarse"),
        ((4096,), (0.9, 2), "direct"),
        ((4096,), 99, "spectral"),
    ],
)
def test_auto_takes_the_method_that_should_be_faster(size: tuple[int, ...], sigma: Any, method: str) -> None:
    drawn = {
        name: cow_masks(2, size, sigma, method=name, generator=torch.Generator().manual_seed(0))
        for name in ("auto", *METHODS, *(("coarse",) if np.min(sigma) >= 1 and np.max(sigma) <= min(size) / 2 else ()))
    }
    assert [name for name in drawn if torch.equal(drawn[name], drawn["auto"])] == ["auto", method]


@pytest.mark.parametrize("size", [(150, 130), (40, 30, 36), (900,)])
def test_the_coarse_method_gives_the_same_masks_in_parts(
    size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> Tensor:
        return cow_masks(3, size, (1, 9), (0.2, 0.8), method="coarse", generator=torch.Generator().manual_seed(0))

    whole = drawn()
    for pixels in (1, 5000):
        monkeypatch.setattr(coarse, "_PIXELS_AT_ONCE", pixels)
        assert torch.equal(drawn(), whole)


def test_auto_uses_given_noise_where_it_would_draw_coarsely() -> None:
    noise = torch.randn(1, 1, 700, 600)
    given = [cow_masks(1, (700, 600), (3, 3), noise=noise, method=method) for method in ("auto", "spectral")]
    assert torch.equal(*given)


def test_the_coarse_method_blurs_each_axis_by_its_own_sigma() -> None:
    assert coarse._grid(128, 5.0) is coarse._grid(128, 5.0 / 1.05)  # so that the noise is the same
    drawn = [
        cow_masks(2, (128, 128), 5, spacing=spacing, method="coarse", generator=torch.Generator().manual_seed(0))
        for spacing in ((1, 1), (1, 1.05), (1.05, 1), (1.05, 1.05))
    ]
    for one, other in itertools.combinations(drawn, 2):
        assert 0 < (one != other).float().mean() < 0.05


def test_borders_carry_more_variance() -> None:
    marginal = cow_masks(4000, (64, 64), 8, 0.1).float().mean((0, 1))
    assert abs(marginal[0, 0] - 0.25) < 0.03
    assert abs(marginal[28:36, 28:36].mean() - 0.06) < 0.02


@every_drawing_method
def test_proportion_0_and_1_are_exact(method: str) -> None:
    proportion = torch.tensor([0.0, 1.0, 0.5])
    sizes = ((33, 47), (8,), (9, 8, 17), (1, 1), (1,), (1, 1, 1), (5, 1, 7))
    for size in sizes[:3] if method == "coarse" else sizes:
        masks = cow_masks(3, size, 4, proportion, method=method)
        assert not masks[0].any()
        assert masks[1].all()


@every_method
def test_a_field_without_variance_is_all_false(method: str) -> None:
    for size in ((1,), (1, 1), (1, 1, 1)):
        assert not cow_masks(50, size, 4, 0.999, method=method).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(7,), (300,), (32, 32), (61, 48), (20, 9, 17)])
@every_method
def test_constant_noise_is_all_false(method: str, size: tuple[int, ...], dtype: torch.dtype) -> None:
    levels = torch.tensor([0, 1, 0.1, -2.3, 1e6, 1e20], dtype=dtype)
    noise = levels.view(-1, 1, *[1] * len(size)).expand(-1, 1, *size)
    for sigma, proportion in itertools.product((0.5, 3, 16), (0.3, 0.5, 0.999)):
        assert not cow_masks(len(levels), size, sigma, proportion, noise=noise, method=method).any()
    assert cow_masks(len(levels), size, 3, 1.0, noise=noise, method=method).all()
    noise = noise.clone()
    noise[1].view(-1)[0] = 2  # the others stay constant
    assert cow_masks(len(levels), size, 3, noise=noise, method=method).flatten(1).any(1).tolist() == [
        *(False, True, False, False, False, False)
    ]


@settings(max_examples=100)
@given(x=st.floats(0.01, 0.99), sigma=st.floats(0.5, 12))
def test_the_threshold_is_the_oracles(x: float, sigma: float) -> None:
    """The area is the oracle's to one pixel at any proportion, so both have the same inverse error function."""
    noise = np.random.default_rng(1).normal(size=(31, 44))
    ours = cow_masks(1, (31, 44), sigma, x, noise=torch.from_numpy(noise)[None, None], method="direct")
    assert abs(int(ours.sum()) - int(cow_mask(noise, sigma, x).sum())) <= 1


@pytest.mark.parametrize("size", [(1,), (257,), (1, 1), (1, 50), (37, 41), (5, 9, 17)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_shapes_and_dtypes(size: tuple[int, ...], dtype: torch.dtype) -> None:
    methods = DRAWING if min(size) >= 8 else METHODS
    drawn = [cow_masks(3, size, (1, 4), dtype=dtype, method=method) for method in methods]
    for masks in (*drawn, box_masks(3, size, dtype=dtype)):
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
    # A corner is covered if the centre lies within half a side of it: at 8 or 9 of 32 places per axis.
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
    assert 0.3 < areas.mean() < 0.38  # four boxes of 0.1 that sometimes overlap
    assert not box_masks(2, (8, 8), 0.0).any()
    assert box_masks(2, (8, 8), 1.0).all()


def at_every_centre(size: tuple[int, int], height: int, width: int) -> list[np.ndarray]:
    """Return the masks of a box around each pixel in turn, cut at the border as in the original Cutout and CutMix."""
    masks = []
    for y, x in np.ndindex(size):
        mask = np.zeros(size, bool)
        mask[max(y - height // 2, 0) : y + height // 2, max(x - width // 2, 0) : x + width // 2] = True
        masks.append(mask)
    return masks


def original_cutmix(size: tuple[int, int], area: float) -> list[np.ndarray]:
    """Return the masks that Yun et al.'s code (`rand_bbox`) may draw, all equally likely."""
    height, width = (int(length * math.sqrt(area)) for length in size)
    return at_every_centre(size, height, width)


@pytest.mark.parametrize(
    ("originals", "area", "aspect"),
    [(at_every_centre((10, 12), 4, 4), 16 / 120, 1.0), (original_cutmix((16, 8), 0.25), 0.25, 2.0)],
    ids=["Cutout", "CutMix"],
)
def test_clipped_boxes_are_the_original_ones(originals: list[np.ndarray], area: float, aspect: float) -> None:
    """Exactly the boxes of the original code are drawn, all equally often (chi-squared test)."""
    places = {mask.tobytes(): index for index, mask in enumerate(originals)}
    assert len(places) == len(originals)
    generator = torch.Generator().manual_seed(0)
    masks = box_masks(30_000, originals[0].shape, area, aspect, clip=True, generator=generator)[:, 0].numpy()
    counts = np.bincount([places[mask.tobytes()] for mask in masks], minlength=len(originals))
    assert stats.chisquare(counts).pvalue > LEVEL


def test_a_clipped_box_of_odd_side_is_centred_on_its_pixel() -> None:
    masks = box_masks(9000, (9,), 3 / 9, clip=True)[:, 0].float().mean(0)
    expected = torch.tensor([2, 3, 3, 3, 3, 3, 3, 3, 2]) / 9  # a pixel is covered by centres at most one pixel away
    assert (masks - expected).abs().max() < 0.03


def test_boxes_of_any_number_of_axes_share_their_area_evenly() -> None:
    masks = box_masks(1500, (30, 40, 50), 0.2, generator=torch.Generator().manual_seed(0))[:, 0]
    sides = torch.stack([masks.any(others[0]).any(others[1]).sum(1) for others in ((3, 2), (3, 1), (2, 1))], 1)
    assert torch.equal(sides.prod(1), masks.sum((1, 2, 3)))
    assert abs(masks.float().mean() - 0.2) < 0.01
    exponents = (sides / torch.tensor([30, 40, 50])).log() / math.log(0.2)
    assert (exponents.mean(0) - 1 / 3).abs().max() < 0.03
    assert (box_masks(50, (1000,), 0.3).float().mean(2) == 0.3).all()
