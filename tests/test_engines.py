"""The engines against Listing 1, with the same noise and without, and faulty engines that must be caught."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cowmask import cow_masks
from cowmask._engines import basis, coarse, direct, gains, spectral
from cowmask._engines.definition import n_taps, taps
from tests import agreement, distribution
from tests.agreement import DRAWING, METHODS, assert_agrees, some_noise

# size, sigma: H != W, odd, prime, sigma up to half the shorter side, and so small that every coefficient is kept.
SAME_NOISE = [
    ((4096,), 8.0),
    ((97,), 48.0),
    ((128, 96), 4.0),
    ((97, 131), 2.0),
    ((160, 256), 16.0),
    ((101, 64), 32.0),
    ((127, 53), 0.6),
    ((333, 512), 8.0),
    ((33, 32), 16.0),
    ((40, 53, 36), 3.0),
    ((32, 37, 41), 16.0),
]

Setting = tuple[tuple[int, ...], tuple[float, float], tuple[float, float]]  # size, sigma, proportion
DRAWN: list[Setting] = [
    ((64, 96), (4, 4), (0.2, 0.2)),
    ((97, 64), (2, 8), (0.2, 0.7)),
    ((48, 80), (16, 16), (0.8, 0.8)),
    ((160,), (3, 6), (0.3, 0.3)),
    ((20, 28, 24), (2, 2), (0.6, 0.6)),
]
SMALL: Setting = ((24, 32), (0.6, 0.9), (0.4, 0.4))  # below a pixel
SYMMETRIC: Setting = ((40, 56), (2, 12), (0.5, 0.5))
N_DRAWN = 3000


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("size", "sigma"), SAME_NOISE)
def test_same_noise_same_mask(size: tuple[int, ...], sigma: float, method: str) -> None:
    noise = some_noise(size)
    for proportion in (0.5, 0.1, 0.8):
        assert_agrees(noise, sigma, proportion, method)


@settings(max_examples=60)
@given(
    size=st.one_of(
        st.tuples(st.integers(32, 5000)),
        st.tuples(st.integers(32, 300), st.integers(32, 300)),
        st.tuples(st.integers(32, 48), st.integers(32, 48), st.integers(32, 48)),
    ),
    relative_sigma=st.floats(0.01, 0.5),
    proportion=st.floats(0.05, 0.95),
    method=st.sampled_from(METHODS),
)
def test_same_noise_same_mask_at_any_size(
    size: tuple[int, ...], relative_sigma: float, proportion: float, method: str
) -> None:
    assert_agrees(some_noise(size, pixels=250_000), max(0.2, relative_sigma * min(size)), proportion, method)


@settings(max_examples=100)
@given(
    size=st.lists(st.integers(1, 31), min_size=1, max_size=3).map(tuple),
    relative_sigma=st.floats(0.05, 0.5),
    proportion=st.floats(0.05, 0.95),
)
def test_same_noise_same_mask_in_tiny_images(size: tuple[int, ...], relative_sigma: float, proportion: float) -> None:
    noise, sigma = some_noise(size, pixels=20 * math.prod(size)), max(0.2, relative_sigma * min(size))
    assert agreement.wrong_pixels(noise, sigma, proportion, "direct").max() <= 1
    assert agreement.wrong_pixels(noise, sigma, proportion, "spectral").max() <= max(6, 0.003 * math.prod(size))


@settings(max_examples=30)
@given(
    size=st.lists(st.integers(8, 70), min_size=2, max_size=3).map(tuple),
    relative_sigma=st.floats(0.02, 0.5),
    proportion=st.floats(0.05, 0.95),
)
def test_direct_and_spectral_agree_with_each_other(
    size: tuple[int, ...], relative_sigma: float, proportion: float
) -> None:
    noise = torch.from_numpy(some_noise(size))
    sigma = max(0.2, relative_sigma * min(size))
    spectral, direct = (cow_masks(len(noise), size, sigma, proportion, noise=noise, method=name) for name in METHODS)
    assert (spectral != direct).float().mean() <= 0.0003


@pytest.mark.parametrize("sigma", [30, 100, 1e4])
def test_a_kernel_far_wider_than_the_image(sigma: float) -> None:
    for method in METHODS:
        masks = cow_masks(200, (21, 34), sigma, 0.3, method=method)
        assert 0.1 < masks.float().mean() < 0.6  # only areas are comparable: nothing but ripple is left


def draw(setting: Setting, method: str, n: int = N_DRAWN) -> distribution.Bools:
    size, sigma, proportion = setting
    generator = torch.Generator().manual_seed(len(method))
    return cow_masks(n, size, sigma, proportion, method=method, generator=generator)[:, 0].numpy()


@pytest.mark.parametrize(
    ("setting", "method"), [*itertools.product(DRAWN, DRAWING), *((SMALL, method) for method in METHODS)], ids=str
)
def test_drawn_masks_are_distributed_as_listing_1s(setting: Setting, method: str) -> None:
    distribution.assert_same_distribution(draw(setting, method), distribution.oracle(N_DRAWN, *setting))


@pytest.mark.parametrize("method", DRAWING)
def test_drawn_rows_are_independent(method: str) -> None:
    distribution.assert_rows_are_independent(draw(SYMMETRIC, method))


def test_no_more_comparisons_than_the_level_allows_for() -> None:
    sizes = [size for size, _, _ in (*DRAWN, SMALL)]
    few = [distribution.features(np.random.default_rng(0).random((50, *size)) < 0.5) for size in sizes]
    assert len(DRAWING) * (sum(len(distribution.p_values(one, one)) for one in few) + 2) <= distribution.BUDGET


@pytest.mark.parametrize(
    ("length", "sigma"), [(97, 1.0), (64, 1.5), (128, 4.0), (131, 7.3), (500, 5.0), (64, 16.0), (100, 50.0), (11, 3.0)]
)
@pytest.mark.parametrize("method", DRAWING)
def test_drawn_fields_have_the_covariance_of_listing_1s(length: int, sigma: float, method: str) -> None:
    """A Gaussian field is known by its covariance: that of any two pixels, to 3 in 10,000 of the variance."""
    blur = ndimage.gaussian_filter1d(np.eye(length), sigma, axis=1, mode="reflect")  # row i of white noise's pixel i
    expected, found = (covariance(fields) for fields in (blur, fields_of_each_number(method, length, sigma)))
    assert np.abs(found - expected).max() < 3e-4


def covariance(fields: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance between pixels of fields (numbers, length) less their means, scaled to a largest of 1."""
    fields = fields - fields.mean(1, keepdims=True)
    product = fields.T @ fields
    return product / product.max()


def fields_of_each_number(method: str, length: int, sigma: float) -> NDArray[np.float64]:
    """Return what each of the normal numbers drawn for a field of one axis adds to it, (numbers, length)."""
    one = torch.full((1,), sigma)
    if method == "direct":
        weights = taps(one, n_taps(sigma)).expand(length, -1)
        return direct.blur(torch.eye(length), weights, 1).double().numpy()
    if method == "spectral":
        cutoff = gains.gain_cutoff([length], [(sigma, sigma)])
        assert cutoff is not None
        k = gains.n_coefficients(length, sigma, cutoff)
        gain = gains.gaussian_gains(one, cutoff, [1.0], [length], [k])
        return basis.synthesise(torch.diag(gain[0]), [length]).double().numpy()
    assert method == "coarse"
    grid = coarse._grid(length, sigma)
    factors = [coarse._blur_all_but_first_axis(unit, [grid], [sigma]) for unit in torch.eye(grid.points)]
    fields = [torch.bmm(*pair).flatten() for pair in factors]
    return torch.stack(fields)[:, :length].double().numpy()


@pytest.mark.parametrize("proportion", [0.5, torch.linspace(0.3, 0.6, 7)], ids=["one half", "for each"])
def test_masks_of_similar_sigma_go_together_and_back_to_their_places(
    proportion: float | Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sigmas, size = torch.tensor([3.0, 20.0, 4.0, 9.0, 3.1, 14.0, 5.0]), (64, 70)
    noise = torch.randn(7, 1, *size)

    def drawn(given: Tensor | None) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return cow_masks(7, size, sigmas, proportion, noise=given, method="spectral", generator=generator)

    whole = drawn(noise)
    seen: list[int] = []
    write = spectral._write_by_torch

    def spy(out: Tensor, *others: Any) -> None:
        seen.append(len(out))
        write(out, *others)

    monkeypatch.setattr(spectral, "_write_by_torch", spy)
    monkeypatch.setattr(spectral, "PIXELS_PER_GROUP", 1)
    assert (drawn(noise) != whole).sum() <= 7  # rounding
    assert seen == [3, 1, 1, 2]
    changes = drawn(None).float().diff().abs().mean((1, 2, 3))
    assert changes[sigmas < 6].min() > changes[sigmas > 6].max()


def test_each_row_is_cut_at_its_own_coefficients_and_taps() -> None:
    sigmas, length = torch.tensor([1.5, 4.0, 30.0]), 100
    together = gains.tap_gains_of_axis(sigmas, 50.0, length, length)
    for sigma, row in zip(sigmas, together, strict=True):
        k = gains.n_coefficients(length, float(sigma))
        alone = gains.tap_gains_of_axis(sigma[None], float(sigma), length, k)[0]
        assert torch.allclose(row[:k], alone, atol=1e-6)
        assert not row[k:].any()
    assert (together != 0).sum(1).diff().max() < 0  # fewer for larger sigmas


class Fault(NamedTuple):
    """What stands in for one function of an engine, and the checks below that must catch it."""

    method: str
    module: ModuleType
    function: str
    stand_in: Callable[..., Any]  # takes the function, and then the function's arguments
    caught_by: set[str]


def mirror_without_the_edge(_: object, length: int, start: int, stop: int, device: torch.device) -> Tensor:
    position = torch.arange(start, stop, device=device) % (2 * length - 2)
    return torch.minimum(position, 2 * length - 2 - position)


def keep_the_mean(tap_gains: Callable[..., Tensor], *arguments: Any) -> Tensor:
    product = tap_gains(*arguments)
    product.flatten(1)[:, 0] = 1
    return product


def write_the_negative(write: Callable[..., None], out: Tensor, field: Tensor, *threshold: Any) -> None:
    write(out, -field, *(-level for level in threshold))


FAULTS = {
    "K too small": Fault(
        "spectral",
        spectral,
        "n_coefficients",
        lambda n_coefficients, length, sigma, *cutoff: n_coefficients(length, 2 * sigma, *cutoff),
        {"same noise"},
    ),
    "sigma 3% off": Fault(
        "direct",
        direct,
        "taps",
        lambda taps, sigma, count: taps(1.03 * sigma, count),
        {"same noise", "distribution"},
    ),
    "one mask for two rows": Fault(
        "spectral",
        basis,
        "synthesise",
        lambda synthesise, coefficients, *others: synthesise(
            coefficients[torch.arange(len(coefficients)) // 2 * 2], *others
        ),
        {"same noise", "independence"},
    ),
    "Parseval including the mean": Fault("spectral", spectral, "tap_gains", keep_the_mean, {"same noise"}),
    "< for >": Fault("spectral", spectral, "write_thresholded", write_the_negative, {"same noise", "distribution"}),
    "sigma squared 6% off": Fault(
        "spectral",
        spectral,
        "gaussian_gains",
        lambda gaussian_gains, sigma, *others: gaussian_gains(1.03 * sigma, *others),
        {"distribution"},
    ),
    "points too far apart": Fault(
        "coarse", coarse, "_grid", lambda grid, length, sigma: grid(length, 1.7 * sigma), {"distribution"}
    ),
    "the points' variance for the pixels'": Fault(
        "coarse", coarse, "_std", lambda _, noise, *__: noise.square().mean().sqrt(), {"distribution"}
    ),
    "mirrored without the edge pixel": Fault(
        "direct", direct, "mirrored", mirror_without_the_edge, {"same noise", "distribution"}
    ),
}


def checks(method: str) -> dict[str, Callable[[], object]]:
    """Return this file's checks of a method by name."""
    same_noise = {"same noise": lambda: assert_agrees(some_noise((101, 64)), 4.0, 0.2, method)}
    return (same_noise if method in METHODS else {}) | {
        "distribution": lambda: [
            distribution.assert_same_distribution(draw(setting, method), distribution.oracle(N_DRAWN, *setting))
            for setting in DRAWN[:3]
        ],
        "independence": lambda: distribution.assert_rows_are_independent(draw(SYMMETRIC, method)),
    }


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_engine_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    stand_in = partial(fault.stand_in, getattr(fault.module, fault.function))
    monkeypatch.setattr(fault.module, fault.function, stand_in)
    for check in fault.caught_by:
        with pytest.raises(AssertionError):
            checks(fault.method)[check]()
