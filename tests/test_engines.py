"""Both methods against Listing 1, with the same noise and without, and wrong engines that must be caught."""

import inspect
import itertools
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cowmask import _coarse, _direct, _draw, _spectral, cow_masks
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
    """Return the covariance of pixels less their mean, of fields that each independent number adds, by the largest."""
    fields = fields - fields.mean(1, keepdims=True)
    product = fields.T @ fields
    return product / product.max()


def fields_of_each_number(method: str, length: int, sigma: float) -> NDArray[np.float64]:
    """Return what each of the normal numbers drawn for a field of one axis adds to it, (numbers, length)."""
    one = torch.full((1,), sigma)
    if method == "direct":
        weights = _direct.taps(one, _direct.n_taps(sigma)).expand(length, -1)
        return _direct.blur(torch.eye(length), weights, 1).double().numpy()
    if method == "spectral":
        smallest = _spectral.smallest_gain([length], [(sigma, sigma)])
        assert smallest is not None
        k = _spectral.n_coefficients(length, sigma, smallest)
        gains = _spectral.gaussian_gains(one, smallest, [1.0], [length], [k])
        return _spectral.synthesise(torch.diag(gains[0]), [length]).double().numpy()
    grid = _coarse._grid(length, sigma)
    fields = [torch.bmm(*_coarse._last_product(unit, [grid], [sigma])).flatten() for unit in torch.eye(grid.points)]
    return torch.stack(fields)[:, :length].double().numpy()


@pytest.mark.parametrize("proportion", [0.5, torch.linspace(0.3, 0.6, 7)], ids=["one half", "for each"])
def test_masks_of_like_sigma_go_together_and_back_to_their_places(
    proportion: float | torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sigmas, size = torch.tensor([3.0, 20.0, 4.0, 9.0, 3.1, 14.0, 5.0]), (64, 70)
    noise = torch.randn(7, 1, *size)

    def drawn(given: torch.Tensor | None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return cow_masks(7, size, sigmas, proportion, noise=given, method="spectral", generator=generator)

    whole = drawn(noise)
    seen: list[int] = []
    masks = _spectral.masks

    def spy(out: torch.Tensor, *others: torch.Tensor) -> None:
        seen.append(len(out))
        masks(out, *others)

    monkeypatch.setattr(_spectral, "masks", spy)
    monkeypatch.setattr(_draw, "GROUP", 1)
    assert (drawn(noise) != whole).sum() <= 7  # rounding
    assert seen == [3, 1, 1, 2]
    changes = drawn(None).float().diff().abs().mean((1, 2, 3))
    assert changes[sigmas < 6].min() > changes[sigmas > 6].max()


def test_each_row_is_cut_at_its_own_coefficients_and_taps() -> None:
    sigmas, length = torch.tensor([1.5, 4.0, 30.0]), 100
    together = _spectral.transfer(sigmas, 50.0, length, length)
    for sigma, row in zip(sigmas, together, strict=True):
        k = _spectral.n_coefficients(length, float(sigma))
        alone = _spectral.transfer(sigma[None], float(sigma), length, k)[0]
        assert torch.allclose(row[:k], alone, atol=1e-6)
        assert not row[k:].any()
    assert (together != 0).sum(1).diff().max() < 0  # fewer for larger sigmas


@dataclass(frozen=True)
class Wrong:
    """An engine with one fault: what is changed where, and which of the checks below must catch it."""

    method: str
    module: ModuleType
    function: str
    changes: dict[str, str]
    caught_by: set[str]


WRONG = {
    "K too small": Wrong(
        "spectral",
        _spectral,
        "n_coefficients",
        {"math.floor(_CUTOFF * length": "math.floor(0.5 * _CUTOFF * length"},
        {"same noise"},
    ),
    "sigma 3% off": Wrong(
        "direct",
        _direct,
        "taps",
        {"weights = distance / sigma": "weights = distance / (1.03 * sigma)"},
        {"same noise", "distribution"},
    ),
    "one mask for two rows": Wrong(
        "spectral",
        _spectral,
        "masks",
        {"synthesise(coefficients,": "synthesise(coefficients[torch.arange(len(out)) // 2 * 2],"},
        {"same noise", "independence"},
    ),
    "Parseval including the DC": Wrong(
        "spectral",
        _spectral,
        "gains",
        {"    product.flatten(1).select(1, 0).zero_()  # a view\n": ""},
        {"same noise"},
    ),
    "< for >": Wrong(
        "spectral",
        _direct,
        "write_above",
        {"field.relu_()": "field.neg_().relu_()", "field.gt_(": "field.lt_("},
        {"same noise", "distribution"},
    ),
    "sigma squared 6% off": Wrong(
        "spectral",
        _spectral,
        "gaussian_gains",
        {"sigma.square()": "1.06 * sigma.square()"},
        {"distribution"},
    ),
    "points too far apart": Wrong(
        "coarse",
        _coarse,
        "_grid",
        {"math.log2(sigma)": "math.log2(1.7 * sigma)"},
        {"distribution"},
    ),
    "the points' variance for the pixels'": Wrong(
        "coarse",
        _coarse,
        "_std",
        {"values.square()": "noise.square()"},
        {"distribution"},
    ),
    "mirrored without the edge pixel": Wrong(
        "direct",
        _direct,
        "mirrored",
        {"% (2 * length)": "% (2 * length - 2)", "2 * length - 1 - position": "2 * length - 2 - position"},
        {"same noise", "distribution"},
    ),
}


def checks(method: str) -> dict[str, Callable[[], object]]:
    """Return the checks of this file by name, as they are made of one method."""
    same_noise = {"same noise": lambda: assert_agrees(some_noise((101, 64)), 4.0, 0.2, method)}
    return (same_noise if method in METHODS else {}) | {
        "distribution": lambda: [
            distribution.assert_same_distribution(draw(setting, method), distribution.oracle(N_DRAWN, *setting))
            for setting in DRAWN[:3]
        ],
        "independence": lambda: distribution.assert_rows_are_independent(draw(SYMMETRIC, method)),
    }


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_engine_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = WRONG[name]
    source = textwrap.dedent(inspect.getsource(getattr(wrong.module, wrong.function)))
    for old, new in wrong.changes.items():
        assert source.count(old) == 1, "the engine has changed: so must this"
        source = source.replace(old, new)
    namespace = dict(vars(wrong.module))
    exec(source, namespace)
    monkeypatch.setattr(wrong.module, wrong.function, namespace[wrong.function])
    for check in wrong.caught_by:
        with pytest.raises(AssertionError):
            checks(wrong.method)[check]()
