"""The engine that draws on a GPU in three launches: its numbers, its tables and its masks. See `tests/kernels.py`."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from cowmask import box_masks, cow_masks
from cowmask._engines import basis, fused, spectral
from cowmask._engines.gains import n_coefficients
from tests import distribution
from tests.agreement import PRECISIONS
from tests.kernels import DEVICE, ON_GPU, marks, spy_on

pytestmark = marks
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
counters = pytest.importorskip("cowmask.kernels.counters")
prepare = pytest.importorskip("cowmask.kernels.prepare")
draw = pytest.importorskip("cowmask.kernels.draw")
boxes = pytest.importorskip("cowmask.kernels.boxes")
constants = pytest.importorskip("cowmask.kernels.constants")

MANY = 4000 if ON_GPU else 120  # masks for a test of their distribution
BLOCK = tl.constexpr(1024)


def seed(value: int = 5) -> Tensor:
    return torch.tensor([value], device=DEVICE)


@triton.jit
def philox_kernel(out_ptr, key, a, b, c, d):  # type: ignore[no-untyped-def]
    zero = tl.zeros((1,), tl.uint32)
    words = tl.philox(
        key, zero + a.to(tl.uint32), zero + b.to(tl.uint32), zero + c.to(tl.uint32), zero + d.to(tl.uint32)
    )
    for word in tl.static_range(4):
        tl.store(out_ptr + word + tl.arange(0, 1), words[word].to(tl.int64))


@triton.jit
def functions_kernel(normals_ptr, directions_ptr, uniforms_ptr, quantiles_ptr, bits_ptr, turns_ptr, p_ptr):  # type: ignore[no-untyped-def]
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    bits, turns = tl.load(bits_ptr + index).to(tl.uint32), tl.load(turns_ptr + index).to(tl.uint32)
    normal, _ = counters.normal_pair(bits, turns)
    tl.store(normals_ptr + index, normal)
    x, y = counters.direction(turns)
    tl.store(directions_ptr + 2 * index, x)
    tl.store(directions_ptr + 2 * index + 1, y)
    tl.store(uniforms_ptr + index, counters.uniform(bits))
    tl.store(quantiles_ptr + index, counters.upper_quantile(tl.load(p_ptr + index)))


class Functions(NamedTuple):
    """What the kernels' functions make of numbers, in float64 on the CPU."""

    bits: Tensor
    turns: Tensor
    p: Tensor
    normals: Tensor
    directions: Tensor
    uniforms: Tensor
    quantiles: Tensor


@pytest.fixture(scope="module")
def functions() -> Functions:
    n = 16 * BLOCK.value
    bits, turns = torch.randint(2**32, (2, n), generator=torch.Generator().manual_seed(0))
    bits[:3], turns[:4] = torch.tensor([0, 2**31, 2**32 - 1]), torch.arange(4) * 2**30
    p = torch.cat((torch.linspace(0, 1, n // 2), torch.logspace(-7, -1, n // 2)))
    given = [x.to(DEVICE) for x in (bits, turns, p)]
    made = [torch.empty(size, device=DEVICE) for size in (n, 2 * n, n, n)]
    functions_kernel[(n // BLOCK.value,)](*made, *given)
    return Functions(bits, turns, p.double(), *(x.double().cpu() for x in made))


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, -1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_random_numbers_are_those_of_random123(counter: list[int], key: int, expected: str) -> None:
    out = torch.empty(4, dtype=torch.int64, device=DEVICE)
    philox_kernel[(1,)](out, torch.tensor(key).item(), *(torch.tensor(word).item() for word in counter))
    assert [f"{word:08x}" for word in out.tolist()] == expected.split()


def test_numbers_are_uniform_and_directions_and_normals_exact(functions: Functions) -> None:
    assert torch.equal(functions.uniforms, (functions.bits >> 8).double() / 2**24)
    turns = functions.turns.double()
    quarters, rest = torch.div(turns, 2**30, rounding_mode="floor"), turns % 2**30
    angle = (quarters * 2**30 + torch.where(rest < 2**29, rest, rest - 2**30)) * (2 * math.pi / 2**32)
    expected = torch.stack((angle.cos(), angle.sin()), 1)
    assert (functions.directions.view(-1, 2) - expected).abs().max() < 3e-7
    radius = (-2 * ((functions.bits.double() + 0.5) / 2**32).log()).sqrt()
    assert (functions.normals - radius * angle.cos()).abs().max() < 3e-5
    assert stats.kstest(functions.normals.numpy()[4:], "norm").pvalue > 1e-4


def test_thresholds_are_quantiles(functions: Functions) -> None:
    p, expected = functions.p, -torch.special.ndtri(functions.p)
    assert functions.quantiles[p == 0].eq(math.inf).all()
    assert functions.quantiles[p == 1].eq(-math.inf).all()
    inside = (p > 0) & (p < 1)
    assert (functions.quantiles - expected)[inside].abs().max() < 3e-6
    assert functions.quantiles[p == 0.5].eq(0).all()


def prepared(
    n: int,
    size: Sequence[int],
    sigma: tuple[float, float],
    proportion: tuple[float, float] = (0.0, 1.0),
    dtype: torch.dtype = torch.float16,
    first: int = 0,
) -> Any:
    counts = [n_coefficients(length, sigma[0], 0.01) for length in size]
    missing = 3 - len(size)
    lengths, counts = [1] * missing + list(size), [1] * missing + counts
    layout = prepare.Layout.of(lengths, counts, power_of_two=dtype == torch.float16)
    steps = [math.pi / length for length in lengths]
    return prepare.launch_prepare(
        layout, dtype, n, first, seed(), (*sigma, None), (*proportion, None), steps, math.log(100)
    )


def exact_basis(length: int, k: int, shape: tuple[int, int]) -> Tensor:
    """Return the orthonormal DCT-II vectors of an axis in float64, padded by zeros."""
    table = basis.cosines(range(1, 2 * length, 2), range(k), 2 * length) * math.sqrt(2 / length)
    table[:, 0] /= math.sqrt(2)
    padded = torch.zeros(shape, dtype=torch.float64)
    padded[:length, :k] = table[: shape[0]]
    return padded


@pytest.mark.parametrize("size", [(96, 130), (97, 61), (9, 31, 20), (200,)])
def test_tables_are_the_rounded_exact_ones(size: tuple[int, ...]) -> None:
    made = prepared(1, size, (2.0, 4.0))
    depth, height, width = made.layout.size
    of_depth, of_height, of_width = made.layout.counts
    expected = exact_basis(width, of_width, (made.layout.columns, made.layout.k)).half()
    assert torch.equal(made.table_of_width().cpu(), expected)
    rows = exact_basis(height, of_height, (2 * made.layout.half, 2 * made.layout.pairs))[: made.layout.half]
    even, odd = rows.unflatten(1, (-1, 2)).unbind(2)
    half = (height + 1) // 2
    assert torch.equal(made.table_of_height()[:, :half].cpu(), torch.stack((-even, odd)).half()[:, :half])
    if depth > 1:
        assert torch.equal(
            made.table_of_depth().cpu(), exact_basis(depth, of_depth, (depth, made.layout.planes)).half()
        )


def exact_masks(made: Any) -> Tensor:
    """Return the masks of prepared coefficients, by products in float64."""
    layout, size = made.layout, made.layout.size
    tables = [
        exact_basis(length, k, (length, padded))
        for length, k, padded in zip(size, layout.counts, (layout.planes, 2 * layout.pairs, layout.k), strict=True)
    ]
    states, coefficients = made.states.double().cpu(), made.coefficients().double().cpu()
    field = torch.einsum("da,hb,wc,nabc->ndhw", *tables, coefficients)
    std = (states[:, prepare.HEADER :].sum(1) / math.prod(size)).sqrt()
    return field > (states[:, 0] * std).view(-1, 1, 1, 1)


@pytest.mark.parametrize("tiles", [(64, 128, 4, 2), (32, 32, 4, 1)])
@pytest.mark.parametrize(
    ("size", "sigma"),
    [((130, 97), (4.0, 16.0)), ((290, 40), (2.0, 18.0)), ((20, 28, 24), (2.0, 4.0)), ((500,), (2.0, 9.0))],
)
def test_masks_are_those_of_the_coefficients(
    size: tuple[int, ...], sigma: tuple[float, float], tiles: tuple[int, ...]
) -> None:
    n = 64 if ON_GPU else 3
    made = prepared(n, size, sigma)
    coefficients, shape = None, made.layout.size
    if len(size) > 2:
        product = made.table_of_depth().float() @ made.coefficients().flatten(2).float()
        coefficients = product.half().view(n, shape[0], 2 * made.layout.pairs, made.layout.k)
    buffer = torch.full((n + 2, *shape), 77, dtype=torch.uint8, device=DEVICE)
    draw.launch_draw(buffer[1:-1], made, draw.Tiles(*tiles), coefficients)
    assert (buffer[[0, -1]] == 77).all()
    assert (buffer[1:-1] <= 1).all()
    wrong = (buffer[1:-1].cpu() != exact_masks(made).to(torch.uint8)).sum()
    assert wrong <= max(4, 150e-6 * math.prod(size) * n)


def test_coefficients_are_normal_numbers_times_gains() -> None:
    made = prepared(40, (64, 48), (3.0, 3.0), dtype=torch.float32)
    coefficients = made.coefficients()[:, 0].double().cpu()
    angles = [torch.arange(count) * 3 * math.pi / length for count, length in ((96, 64), (32, 48))]
    exponent = (angles[0][: coefficients.shape[1], None] ** 2 + angles[1] ** 2) / 2
    kept = exponent < math.log(100)
    kept[0, 0] = False
    assert (coefficients[:, ~kept] == 0).all()
    normal = coefficients[:, kept] / (-exponent[kept]).exp()
    assert stats.kstest((normal / normal.std()).flatten().numpy(), "norm").pvalue > 1e-4
    between = np.corrcoef(normal.T.numpy())
    assert np.abs(between - np.eye(len(between))).max() < 0.7  # of 40 numbers
    assert 0.5 < (made.states[:, prepare.HEADER :].sum(1).mean() / (64 * 48) * 16).item() < 2


def test_a_mask_depends_on_the_seed_and_on_its_index_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(n: int, sigma: Any = (4, 9), proportion: Any = (0.2, 0.8), **options: Any) -> Tensor:
        torch.manual_seed(3)
        return cow_masks(n, (60, 80), sigma, proportion, backend="triton", device=DEVICE, **options)

    whole = drawn(5)
    assert not any(torch.equal(whole[i], whole[j]) for i in range(5) for j in range(i))
    assert torch.equal(drawn(3), whole[:3])
    same = [drawn(5, precision="highest"), drawn(5, (2, 4.5), spacing=(0.5, 0.5))]
    monkeypatch.setattr(spectral, "WORKSPACE_BYTES", 2**12)
    same.append(drawn(5))
    for other in same:
        assert (other != whole).float().mean() < 0.0003
    monkeypatch.undo()
    more = drawn(5, torch.full((5,), 4.0), torch.full((5,), 0.5))
    monkeypatch.setattr(draw, "TILES_HOPPER", {})
    monkeypatch.setattr(draw, "TILES", {})
    fused.plan.cache_clear()
    try:
        assert (drawn(5, 4.0, 0.5) != more).float().mean() < 0.0003
    finally:
        fused.plan.cache_clear()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [(60, 81), (9, 20, 24), (300,)])
def test_sigma_and_proportion_are_drawn_in_their_ranges(size: tuple[int, ...], precision: str) -> None:
    n = 300 if ON_GPU else 3
    options: dict[str, Any] = {"backend": "triton", "precision": precision, "device": DEVICE}
    areas = cow_masks(n, size, 2, (0.4, 0.6), **options).flatten(1).float().mean(1)
    assert areas.min() > 0.2
    assert areas.max() < 0.8
    assert areas.std() > 0.005
    proportions = torch.tensor([0.0, 1.0, 0.5]).repeat(n)
    masks = cow_masks(len(proportions), size, torch.linspace(2, 5, len(proportions)), proportions, **options)
    areas = masks.flatten(1).float().mean(1).cpu()
    assert areas[proportions != 0.5].equal(proportions[proportions != 0.5])
    assert ((areas > 0.1) & (areas < 0.9))[proportions == 0.5].all()


@pytest.mark.parametrize(("sigma", "proportion"), [((4.0, 4.0), (0.2, 0.2)), ((2.0, 8.0), (0.2, 0.7))])
def test_masks_are_distributed_as_listing_1s(sigma: tuple[float, float], proportion: tuple[float, float]) -> None:
    size = (64, 96)
    masks = cow_masks(MANY, size, sigma, proportion, backend="triton", device=DEVICE)[:, 0].cpu().numpy()
    distribution.assert_same_distribution(masks, distribution.oracle(3000, size, sigma, proportion))


def test_rows_are_independent() -> None:
    masks = cow_masks(MANY, (40, 56), (2, 12), backend="triton", device=DEVICE)[:, 0].cpu().numpy()
    distribution.assert_rows_are_independent(masks)


@pytest.mark.parametrize("expected", [{"fused": 1}, {"product": 1}])
def test_what_shared_memory_does_not_hold_is_multiplied_by_torch(
    expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spies = {"fused": spy_on(monkeypatch, draw, "draw_kernel"), "product": spy_on(monkeypatch, draw, "product_kernel")}
    size, precision = (48, 64), "high" if "fused" in expected else "highest"
    cow_masks(2, size, 3, backend="triton", precision=precision, device=DEVICE)
    assert {name: spy.launches for name, spy in spies.items() if spy.launches} == expected


def test_what_is_no_gaussian_blur_is_drawn_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = spy_on(monkeypatch, prepare, "prepare_kernel")
    cow_masks(2, (32, 32), 0.7, backend="triton", device=DEVICE)
    cow_masks(2, (32, 32), 30, backend="triton", device=DEVICE)
    assert spy.launches == 0


BOXES: list[dict[str, Any]] = [
    {},
    {"aspect": 1.5},
    {"aspect": 0.5, "clip": True},
    {"n_boxes": 3},
    {"n_boxes": 2, "clip": True},
]


@pytest.mark.parametrize("options", BOXES, ids=str)
def test_boxes_are_distributed_as_those_of_torch(options: dict[str, Any]) -> None:
    size, area = (21, 33), (0.2, 0.6)
    same_boxes(size, area, options)


@pytest.mark.parametrize("size", [(40,), (8, 9, 10)])
def test_boxes_of_other_numbers_of_axes(size: tuple[int, ...]) -> None:
    same_boxes(size, (0.1, 0.9), {})


def drawn_boxes(n: int, size: tuple[int, ...], area: Any, options: dict[str, Any]) -> Tensor:
    given = {"aspect": None, "n_boxes": 1, "clip": False} | options
    buffer = torch.full((n + 2, 1, *size), 77, dtype=torch.uint8, device=DEVICE)
    boxes.launch_boxes(buffer[1:-1], seed(), area, given["aspect"], given["n_boxes"], clip=given["clip"])
    assert (buffer[[0, -1]] == 77).all()
    assert (buffer[1:-1] <= 1).all()
    return buffer[1:-1, 0].bool().cpu()


def extents(masks: Tensor) -> list[Tensor]:
    """Return the covered share of each mask, and for each axis the share that is covered and where that begins."""
    along = [
        masks.movedim(axis, 1).reshape(len(masks), length, -1).any(2).float()
        for axis, length in enumerate(masks.shape[1:], start=1)
    ]
    return [masks.flatten(1).float().mean(1), *(one.mean(1) for one in along), *(one.argmax(1) for one in along)]


def same_boxes(size: tuple[int, ...], area: tuple[float, float], options: dict[str, Any]) -> None:
    theirs = box_masks(4000, size, area, device="cpu", **options)[:, 0]
    ours = drawn_boxes(MANY, size, (*area, None), options)
    for one, other in zip(extents(ours), extents(theirs), strict=True):
        assert stats.ks_2samp(one.numpy(), other.numpy()).pvalue > 1e-4
    spread = (ours.float().mean(0) - theirs.float().mean(0)).abs().max()
    assert spread < 5 * math.sqrt(0.25 / MANY + 0.25 / 4000)


def test_boxes_of_given_areas_are_as_large_and_as_round_as_they_say() -> None:
    areas = torch.tensor([0.0, 1.0, 0.25, 0.5])
    found = drawn_boxes(4, (32, 64), (0.0, 1.0, areas.to(DEVICE)), {"aspect": 0.5}).float().mean((1, 2))
    assert found[:3].tolist() == [0.0, 1.0, 0.25]
    assert abs(found[3] - 0.5) < 0.03


@pytest.mark.parametrize("alpha", [0.2, 1.0, 30.0])
def test_constants_are_beta_numbers(alpha: float) -> None:
    out = torch.full((4002,), 77.0, device=DEVICE)
    constants.launch_constants(out[1:-1], seed(), alpha)
    assert (out[[0, -1]] == 77).all()
    found = out[1:-1].double().cpu()
    # Float32 is coarse near 1, so compare the smaller of x and 1 - x, from 1e-6 on.
    folded = torch.minimum(found, 1 - found).numpy()
    expected = stats.beta(alpha, alpha)
    below, inside = expected.cdf(1e-6), folded[folded > 1e-6]
    assert stats.kstest(inside, lambda x: (expected.cdf(x) - below) / (0.5 - below)).pvalue > 1e-4
    assert abs(len(inside) / len(folded) - (1 - 2 * below)) < 0.04
    assert abs((found > 0.5).double().mean() - 0.5) < 0.04
