"""The kernel of the last product, against Listing 1 and the spectral engine in torch. See `tests/kernels.py`."""

import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cowmask import cow_masks
from cowmask._engines import Batch, basis, gains, spectral
from tests.agreement import PRECISIONS, some_noise, wrong_pixels
from tests.kernels import DEVICE, marks, spy_on
from tests.reference import cow_mask

pytestmark = marks
draw = pytest.importorskip("cowmask.kernels.draw")

SAME_NOISE = [
    ((128, 96), 4.0),
    ((97, 131), 2.0),
    ((101, 64), 32.0),
    ((127, 53), 0.6),  # every coefficient is kept
    ((333, 512), 8.0),
    ((33, 32), 16.0),
    ((40, 53, 36), 3.0),
    ((32, 37, 41), 16.0),
    ((2048,), 5.0),
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("size", "sigma"), SAME_NOISE)
def test_same_masks_as_listing_1_from_the_same_noise(
    size: tuple[int, ...], sigma: float, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = spy_on(monkeypatch, draw, "product_kernel")
    noise = some_noise(size, pixels=200_000 if len(size) > 1 else 10_000)  # one axis makes for idle programs
    wrong = wrong_pixels(noise, sigma, 0.3, "spectral", backend="triton", precision=precision, device=DEVICE.type)
    assert spy.launches > 0
    assert wrong.sum() <= 0.0003 * noise.size, f"{1e6 * wrong.sum() / noise.size:.0f} ppm differ"
    assert wrong.max() <= max(6, 0.002 * math.prod(size))


def test_same_volumes_as_listing_1_from_the_same_noise_and_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = spy_on(monkeypatch, draw, "product_kernel")
    noise, spacing = some_noise((24, 40, 36), pixels=200_000), (4.0, 1.0, 2.0)
    given = torch.from_numpy(noise).to(DEVICE)
    ours = cow_masks(len(noise), (24, 40, 36), 8, 0.3, spacing=spacing, noise=given, backend="triton").cpu().numpy()
    theirs = np.stack([cow_mask(one[0], [8 / step for step in spacing], 0.3) for one in noise])[:, None]
    assert spy.launches > 0
    assert (ours != theirs).mean() <= 0.0003


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [(300,), (33, 48), (20, 9, 17)])
def test_constant_noise_is_all_false(size: tuple[int, ...], precision: str) -> None:
    for level, proportion in ((0.1, 0.5), (1e20, 0.999)):
        noise = torch.full((2, 1, *size), level, device=DEVICE)
        assert not cow_masks(2, size, 3, proportion, noise=noise, backend="triton", precision=precision).any()


EDGES = [1, 2, 15, 16, 31, 33, 63, 64, 65, 127, 128, 129, 130]


@pytest.mark.parametrize("side", EDGES)
@pytest.mark.parametrize("sigma", [0.3, 3.0])
def test_every_size_is_covered_and_nothing_beyond(side: int, sigma: float) -> None:
    for size in ((side, 70), (70, side), (side, side)):
        noise, sigmas = torch.randn(2, 1, *size, device=DEVICE), torch.full((2,), sigma, device=DEVICE)
        batch = Batch(size, [1.0, 1.0], sigmas, [(sigma, sigma)] * 2, None, noise, torch.randn)
        buffer = torch.full((4, *size), 77, dtype=torch.uint8, device=DEVICE)
        spectral.draw(buffer[1:3].view(torch.bool), batch, triton=True, precision="highest")
        expected = torch.empty(2, *size, dtype=torch.bool, device=DEVICE)
        spectral.draw(expected, batch, triton=False, precision="highest")
        assert (buffer[1:3] != expected.to(torch.uint8)).sum() <= 2  # rounding
        assert (buffer[[0, 3]] == 77).all()


def test_rows_beyond_a_masks_own_are_not_read() -> None:
    size, k = (256, 64), 160
    lines = torch.randn(3, 1, k, 64, device=DEVICE)
    n_rows, threshold = torch.tensor([160, 7, 0], device=DEVICE), torch.tensor([0.1, -0.2, 0.3], device=DEVICE)
    for row, count in enumerate(n_rows.tolist()):
        lines[row, :, count:] = 0
    expected = basis.dct_basis(256, k, DEVICE) @ lines > threshold[:, None, None, None]
    lines[1, :, 64:] = torch.nan  # beyond the 32 pairs of frequencies that are read at a time
    lines[2] = torch.nan
    found = torch.empty(3, 1, *size, dtype=torch.bool, device=DEVICE)
    cosines = basis.upper_half(256, k, torch.float32, draw.BLOCK_PAIRS, DEVICE)
    states = torch.stack((threshold, n_rows, n_rows, torch.full_like(threshold, math.prod(size))), 1)
    draw.launch_product(found, cosines, lines, states)
    assert (found != expected).sum() <= 2  # rounding


def test_a_row_is_the_same_whatever_the_others_are() -> None:
    noise, sigmas = torch.randn(3, 1, 200, 90, device=DEVICE), torch.tensor([2.0, 9.0, 30.0])
    together = cow_masks(3, (200, 90), sigmas, noise=noise, backend="triton", precision="highest")
    for row in range(3):
        alone = cow_masks(
            1, (200, 90), float(sigmas[row]), noise=noise[row, None], backend="triton", precision="highest"
        )
        assert (alone != together[row]).sum() <= 1  # rounding


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_a_row_is_the_same_in_whatever_chunk_it_is(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> Tensor:
        sigmas, proportions = torch.tensor([20.0, 2.0, 9.0, 4.0, 3.0]), torch.linspace(0.2, 0.8, 5)
        return cow_masks(5, (200, 80), sigmas, proportions, noise=noise, method="spectral", backend=backend)

    noise = torch.randn(5, 1, 200, 80, device=DEVICE)
    whole = drawn()
    for workspace in (2**14, 2**17):
        monkeypatch.setattr(spectral, "WORKSPACE_BYTES", workspace)
        assert (drawn() != whole).sum() <= 5  # rounding


def test_what_the_workspace_does_not_count_is_freed_before_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[weakref.ref[Tensor]] = []
    launched: list[bool] = []
    tap_gains, scale, launch = gains.tap_gains, spectral._to_unit_variance, draw.launch_product

    def remember_gains(*arguments: Any) -> Tensor:
        made = tap_gains(*arguments)
        freed.append(weakref.ref(made))
        return made

    def remember_coefficients(coefficients: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        freed.append(weakref.ref(coefficients))
        return scale(coefficients, *others)

    def look(*arguments: Tensor) -> None:
        launched.append(all(tensor() is None for tensor in freed))
        launch(*arguments)

    monkeypatch.setattr(spectral, "tap_gains", remember_gains)
    monkeypatch.setattr(spectral, "_to_unit_variance", remember_coefficients)
    monkeypatch.setattr(draw, "launch_product", look)
    cow_masks(2, (64, 70), 4, 0.3, noise=torch.randn(2, 1, 64, 70, device=DEVICE), backend="triton")
    assert launched == [True]
    assert len(freed) == 2


def test_chunks_fit_into_the_workspace() -> None:
    for size, sigma in (((512, 512), 4.0), ((2048, 1024), 1.0), ((128, 128, 128), 2.0), ((4096,), 1.0)):
        counts = [gains.n_coefficients(length, sigma) for length in size]
        each = spectral.workspace(size, counts, 2)
        assert each >= 2 * math.prod(counts) + 2 * counts[0] * math.prod(size[1:]) or len(size) == 1
        for n in (1, 7, 300):
            chunks = spectral.row_chunks(n, each)
            assert [row for chunk in chunks for row in range(n)[chunk]] == list(range(n))
            for rows in (chunk.stop - chunk.start for chunk in chunks):
                assert rows * each <= spectral.WORKSPACE_BYTES or rows == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_none_and_fields_without_variance(precision: str) -> None:
    options: dict[str, Any] = {"backend": "triton", "precision": precision, "device": DEVICE}
    proportions = torch.tensor([0.0, 1.0, 0.5])
    areas = cow_masks(3, (40, 50), 3, proportions, **options).float().mean((1, 2, 3)).tolist()
    assert areas[:2] == [0, 1]
    assert 0.2 < areas[2] < 0.8
    for proportion in (0.0, 0.3, 0.9):
        assert not cow_masks(2, (1, 1), 3, proportion, **options).any()
    assert cow_masks(2, (1, 1), 3, 1.0, **options).all()
    flat = torch.zeros(2, 1, 33, 20, device=DEVICE)
    assert not cow_masks(2, (33, 20), 3, torch.tensor([0.5, 0.9]), noise=flat, **options).any()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_of_the_noise_does_not_matter(scale: float) -> None:
    noise = torch.randn(2, 1, 64, 64, device=DEVICE)
    expected, scaled = (cow_masks(2, (64, 64), 4, noise=x, backend="triton") for x in (noise, scale * noise))
    assert (expected != scaled).float().mean() < 0.0003


def test_highest_precision_multiplies_as_float32_does_whatever_torch_is_set_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library: Any = torch.backends.cuda if DEVICE.type == "cuda" else torch.backends.mkldnn
    settings, seen = library.matmul, []
    # Their sum is 1. In float32 it is 0 in two of three orders.
    factors = torch.tensor([[[1e9, -1e9, 1.0], [1e9, 1.0, -1e9], [1.0, 1e9, -1e9]]], device=DEVICE)
    synthesise, ones = basis.synthesise, torch.ones(1, 3, 1, device=DEVICE)
    noise = torch.randn(1, 1, 32, 32, device=DEVICE)

    def spy(*arguments: Any, **options: Any) -> Tensor:
        exact = [bool((product == 1).all()) for product in (factors @ ones, factors[0] @ ones[0])]
        seen.append((settings.fp32_precision, *exact))
        return synthesise(*arguments, **options)

    monkeypatch.setattr(basis, "synthesise", spy)
    before = settings.fp32_precision
    try:
        for setting in ("tf32", "ieee"):
            settings.fp32_precision = setting
            for backend in ("torch", "triton"):
                for precision in PRECISIONS:
                    cow_masks(1, (32, 32), 3, noise=noise, backend=backend, precision=precision, method="spectral")
    finally:
        settings.fp32_precision = before
    assert seen == [("tf32", False, False), ("tf32", True, True)] * 2 + [("ieee", False, False)] * 4


def test_the_names_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    noise, spy = torch.randn(2, 1, 48, 40, device=DEVICE), spy_on(monkeypatch, draw, "product_kernel")
    for backend, launches in {"torch": 0, "auto": DEVICE.type == "cuda", "triton": 1}.items():
        spy.launches = 0
        cow_masks(2, (48, 40), 3, noise=noise, backend=backend)
        assert spy.launches == launches
    with pytest.raises(ValueError, match="spectral method only"):
        cow_masks(2, (48, 40), 3, backend="triton", method="direct", device=DEVICE)
    with pytest.raises(ValueError, match='backend must be "auto", "torch" or "triton"'):
        cow_masks(2, (48, 40), 3, backend="cuda", device=DEVICE)
    with pytest.raises(ValueError, match='precision must be "high" or "highest"'):
        cow_masks(2, (48, 40), 3, precision="tf32", device=DEVICE)
