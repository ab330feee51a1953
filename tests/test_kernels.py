"""What both kernels share: how they are found, compilers, offsets, and compiled code. See `tests/kernels.py`."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cowmask import _backends, _draw, box_masks, cow_masks, erase, mix
from cowmask.mixing import mix_batch
from tests.kernels import DEVICE, ON_GPU, Recorder, marks

ROOT = Path(__file__).parents[1]
pytestmark = marks
mix_kernel = pytest.importorskip("cowmask.kernels.mix")
draw_kernel = pytest.importorskip("cowmask.kernels.draw")
prepare_kernel = pytest.importorskip("cowmask.kernels.prepare")
boxes_kernel = pytest.importorskip("cowmask.kernels.boxes")
resources = pytest.importorskip("tests.resources")


def arguments() -> tuple[Tensor, Tensor, Tensor]:
    shape = (3, 2, 16, 20)
    return (
        torch.randn(shape, device=DEVICE),
        torch.randn(shape, device=DEVICE),
        torch.rand(3, 1, 16, 20, device=DEVICE) < 0.5,
    )


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_compiles_whole(compiler: str) -> None:
    a, b, mask = arguments()

    def step(x: Tensor, y: Tensor) -> Tensor:
        drawn = cow_masks(3, (16, 20), 3, backend="triton", device=DEVICE)
        mixed = mix(x, y, drawn, backend="triton") + erase(x, mask, 0.5, backend="triton")
        return mixed + mix_batch([x], None, mask, backend="triton")[0]

    results = []
    for call in (step, torch.compile(step, fullgraph=True, backend=compiler)):
        x = a.clone().requires_grad_()
        torch.manual_seed(0)
        result = call(x, b)
        results.append((result, *torch.autograd.grad(result.square().sum(), x)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # opcheck's own
def test_the_operators_keep_torchs_rules() -> None:
    a, b, mask = arguments()
    mask = mask.expand_as(a)
    for x, y in ((a, b), (a.requires_grad_(), b.requires_grad_())):
        torch.library.opcheck(torch.ops.cowmask.select.default, ([x], [y], [mask], 2, 0, "triton"))


def test_fake_tensors() -> None:
    with FakeTensorMode():
        x = torch.empty(2, 3, 8, 8, device="cuda")
        masks = cow_masks(2, (8, 8), device="cuda")
        assert mix(x, x, masks).device.type == "cuda"
        assert mix_batch([x, x[:, 0]], None, masks)[1].shape == (2, 8, 8)
        assert erase(x.to(memory_format=torch.channels_last), masks).is_contiguous(memory_format=torch.channels_last)


def test_a_backend_that_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    a, b, mask = (x.cpu() for x in arguments())
    calls: list[Any] = [
        lambda: cow_masks(2, (8, 8), backend="triton", device="cpu"),
        lambda: mix(a, b, mask, backend="triton"),
        lambda: erase(a, mask, backend="triton"),
    ]
    before = torch.get_rng_state()
    for call in calls:
        with pytest.raises(RuntimeError, match="Triton computes on a GPU"):
            call()
    assert torch.equal(before, torch.get_rng_state())
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else find_spec(name))
    _backends._problem.cache_clear()
    try:
        for call in calls:
            with pytest.raises(RuntimeError, match="Triton is not installed"):
                call()
        assert not _backends.use_triton("auto", torch.device("cuda"))
    finally:
        _backends._problem.cache_clear()


def test_gpus_without_tensor_cores_that_triton_can_use_draw_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(_backends, "_problem", lambda *_: None)
    for number, (capability, expected) in enumerate({(7, 5): False, (8, 0): True, (12, 0): True}.items()):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        device = torch.device("cuda", 10 + number)  # answers are kept by device
        assert _backends.use_triton("auto", device, products=True) == expected
        assert _backends.use_triton("triton", device, products=True)
        assert _backends.use_triton("auto", device)


def test_cow_masks_ask_for_tensor_cores_and_boxes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def use_triton(*_: object, products: bool = False) -> bool:
        asked.append(products)
        return False

    monkeypatch.setattr(_draw, "use_triton", use_triton)
    cow_masks(1, (8, 8))
    box_masks(1, (8, 8))
    assert asked == [True, False]


def test_everything_works_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None; import torch, cowmask; x = torch.rand(2, 3, 8, 8); "
        "cowmask.CowMix()(x, x); cowmask.CowOut()(x); cowmask.mix(x, x, cowmask.cow_masks(2, (8, 8)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


without_gpu = pytest.mark.skipif(ON_GPU, reason="the interpreter tells which elements are read and written")


@without_gpu
@pytest.mark.parametrize("selected", [0, 1])
@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize(
    ("inner", "sizes"), [(2**32 + 100, (3, 2, 1, 1)), (1000, (3000, 100, 100, 60)), (5000, (3, 2, 1, 1))]
)
def test_mix_reaches_elements_beyond_2_to_the_31_and_none_beyond_the_last(
    inner: int, sizes: tuple[int, ...], repeat: int, selected: int
) -> None:
    inner_strides = {"out": 1, "a": 2**22, "b": 2**22 + 2, "mask": 2**22 + 4}
    strides = {name: [40_000_000 + 1000 * axis + n for axis in range(4)] for n, name in enumerate(inner_strides)}
    vectors, vector = 256, 4
    tile = vectors * vector
    n_tiles = -(-inner // tile)

    seen = Recorder({"out_ptr": "*i32", "a_ptr": "*i32", "b_ptr": "*i32", "mask_ptr": "*u8"}, {"mask_ptr": selected})
    seen.run(
        mix_kernel.select_kernel,
        program=math.prod(sizes) * n_tiles - 1,  # the last tile of the last row
        inner_size=inner,
        sizes=sizes,
        **{f"{name}_strides": (*strides[name], inner_strides[name]) for name in strides},
        b_roll=2,
        out_roll=1,
        REPEAT=repeat,
        A_IS_SCALAR=False,
        B_IS_SCALAR=False,
        VECTORS=vectors,
        VECTOR=vector,
    )

    lane = np.arange((n_tiles - 1) * tile, inner)
    last, *others = (size - 1 for size in sizes)

    def expected(name: str, index: int, lane: Any) -> list[int]:
        row = sum(one * stride for one, stride in zip((index, *others), strides[name], strict=True))
        return list(row + lane * inner_strides[name])

    (chosen,), (from_a,), (from_b,) = (seen.loads[name] for name in ("mask_ptr", "a_ptr", "b_ptr"))
    (written,) = seen.stores["out_ptr"]
    assert list(chosen) == expected("mask", last, lane // repeat)
    assert list(from_a) == ([] if selected else expected("a", last, lane))
    assert list(from_b) == (expected("b", 1, lane) if selected else [])  # row last + 2, round the end
    assert list(written) == expected("out", 0, lane)  # row last + 1, round the end


@without_gpu
def test_the_last_product_reaches_elements_beyond_2_to_the_31_and_none_beyond_the_last() -> None:
    height, width, line, count, index = 70_001, 80_010, 80_016, 30_001, 3  # the middle row is its own mirror image
    half, columns, rows, pairs = 35_001, -(-width // 64), -(-35_001 // 64), 15_008
    tensors = {"out_ptr": "*u8", "rows_ptr": "*fp16", "lines_ptr": "*fp16", "states_ptr": "*fp32"}
    seen = Recorder(tensors, {"states_ptr": count})
    seen.run(
        draw_kernel.product_kernel,
        program=index * rows * columns + rows * columns - 1,  # the last tile of a mask, so of the middle of the rows
        depth=1,
        height=height,
        width_in_units=width // 2,
        half=half,
        blocks_of_pairs=pairs // 32,
        count=count,
        line_in_units=line // 16,
        parts=3,
        pixels=float(height * width),
        PARTS=4,
        ALIGN=2,
        ALIGN_LINE=16,
        BLOCK_H=64,
        BLOCK_W=64,
        BLOCK_PAIRS=32,
    )

    column, row = np.arange((columns - 1) * 64, line), np.arange((rows - 1) * 64, half)
    pair = np.arange(pairs - 32, pairs)  # of the last step of the loop
    even_cosine, odd_cosine = seen.loads["rows_ptr"][-2:]
    assert list(even_cosine) == list((row[:, None] * pairs + pair).ravel())
    assert list(odd_cosine) == list(((half + row[:, None]) * pairs + pair).ravel())
    for parity, lines in enumerate(seen.loads["lines_ptr"][-2:]):
        frequency = 2 * pair[2 * pair + parity < count] + parity
        assert list(lines) == list(((index * count + frequency[:, None]) * line + column).ravel())
    assert sorted(np.concatenate(seen.loads["states_ptr"])) == [index * 6 + i for i in (0, 1, 3, 4, 5)]
    assert_rows_and_mirror_images(seen, index, height, width, row, column[column < width])


def assert_rows_and_mirror_images(
    seen: Recorder, index: int, height: int, width: int, row: np.ndarray[Any, Any], column: np.ndarray[Any, Any]
) -> None:
    """Check that the last stores are those of some rows of the upper half of a mask and of their mirror images."""
    upper, lower = seen.stores["out_ptr"][-2:]
    assert list(upper) == list(((index * height + row[:, None]) * width + column).ravel())
    mirrored = index * height + height - 1 - row[row < height // 2]
    assert list(lower) == list((mirrored[:, None] * width + column).ravel())


@without_gpu
def test_draw_reaches_elements_beyond_2_to_the_31_and_none_beyond_the_last() -> None:
    height, width, index, depth, pairs, k, half = 2_101, 80_010, 40_007, 5, 16, 64, 1_088
    strips = -(-width // 128)
    tensors = {"out_ptr": "*u8", "workspace_ptr": "*fp16", "coefficients_ptr": "*fp16", "states_ptr": "*fp32"}
    seen = Recorder(tensors, {"states_ptr": k})
    seen.run(
        draw_kernel.draw_kernel,
        program=index * strips + strips - 1,
        depth=depth,
        height=height,
        width_in_units=width // 2,
        rows_each=1_088,
        half=half,
        parts=1,
        columns_end=2_200_000,
        coefficients_start=3_300_000,
        pixels=float(depth * height * width),
        PAIRS=pairs,
        K=k,
        PARTS=1,
        ALIGN=2,
        BLOCK_H=64,
        BLOCK_W=128,
        BLOCK_K=32,
        STAGES=2,
    )

    first = 3_300_000 * 1024 + index * 2 * pairs * k
    columns = np.arange(32)
    for parity, steps in enumerate(np.split(np.array(seen.loads["coefficients_ptr"]), 2)):
        for step, loaded in enumerate(steps):
            rows = 2 * np.arange(pairs)[:, None] + parity
            assert list(loaded) == list((first + rows * k + 32 * step + columns).ravel())
    basis, cosines = seen.loads["workspace_ptr"][:4], seen.loads["workspace_ptr"][4:]
    column = np.arange((strips - 1) * 128, strips * 128)
    assert {int(place) for loaded in basis for place in loaded} == set((column[:, None] * k + np.arange(k)).ravel())
    rows = np.arange(half)
    place = 2_200_000 * 1024 + rows[:, None] * pairs + np.arange(pairs)
    assert list(np.concatenate(cosines[::2])) == list(place.ravel())
    assert list(np.concatenate(cosines[1::2])) == list((place + half * pairs).ravel())
    row = np.arange(1_024, (height + 1) // 2)
    assert_rows_and_mirror_images(seen, index, height, width, row, column[column < width])
    assert set(np.concatenate(seen.loads["states_ptr"])) == {index // depth * 4 + i for i in range(4)}


@without_gpu
@pytest.mark.parametrize("part", ["table", "coefficients"])
def test_prepare_writes_elements_beyond_2_to_the_31_and_none_beyond_the_last(part: str) -> None:
    pairs, k, planes, index, plane, tiles_end = 32, 64, 8, 70_000, 7, 2_200_000
    tiles = pairs // 16 * k // 32
    in_table = part == "table"
    tensors = {"workspace_ptr": "*fp16", "states_ptr": "*fp32", "seed_ptr": "*i64"}
    seen = Recorder(tensors, {"seed_ptr": 3})
    seen.run(
        prepare_kernel.prepare_kernel,
        program=tiles_end - 1 if in_table else tiles_end + (index * planes + plane) * tiles + tiles - 1,
        sigmas_ptr=None,
        proportions_ptr=None,
        columns_end=4,
        rows_end=8,
        tables_end=tiles_end,
        first=0,
        planes=planes,
        half=64,
        depth=10,
        height=64,
        width=128,
        count_d=planes,
        count_h=2 * pairs,
        count_w=k,
        step_d=0.1,
        step_h=0.1,
        step_w=0.1,
        cutoff=4.6,
        log_sigma=0.0,
        log_sigma_range=0.0,
        proportion=0.5,
        proportion_range=0.0,
        PAIRS=pairs,
        K=k,
    )

    if in_table:
        (written,) = seen.stores["workspace_ptr"]
        assert list(written) == list(range((tiles_end - 1) * 1024, tiles_end * 1024))
        assert not seen.stores["states_ptr"]
        return
    rows, columns = np.arange(32, 64), np.arange(32, 64)
    plane_start = tiles_end * 1024 + (index * planes + plane) * 2 * pairs * k
    for parity, written in enumerate(seen.stores["workspace_ptr"]):
        assert list(written) == list((plane_start + rows[parity::2, None] * k + columns).ravel())
    (sums,) = seen.stores["states_ptr"]
    assert list(sums) == [index * (planes * tiles + 3) + 3 + plane * tiles + tiles - 1]


@without_gpu
def test_boxes_reach_elements_beyond_2_to_the_31_and_none_beyond_the_last() -> None:
    depth, height, words, index = 3, 1_001, 1_010, 5_000  # of four pixels
    tiles_w, tiles_h = -(-words // 128), -(-depth * height // 32)
    seen = Recorder({"out_ptr": "*i32", "seed_ptr": "*i64"}, {})
    seen.run(
        boxes_kernel.boxes_kernel,
        program=(index + 1) * tiles_w * tiles_h - 1,
        areas_ptr=None,
        n_boxes=2,
        depth=depth,
        height=height,
        width_in_units=words // 2,
        area=0.2,
        area_range=0.5,
        relative_aspect=0.0,
        AXES=3,
        HAS_ASPECT=False,
        CLIP=False,
        ALIGN=8,
        WORD=4,
        ROWS=32,
        COLUMNS=128,
    )
    row, column = np.arange((tiles_h - 1) * 32, depth * height), np.arange((tiles_w - 1) * 128, words)
    (written,) = seen.stores["out_ptr"]
    assert list(written) == list(((index * depth * height + row[:, None]) * words + column).ravel())


def compiled(card: str, main_cases: str) -> list[Any]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    what = f"resources.compiled({card!r}, main_cases={main_cases})"
    command, root = [sys.executable, "-c", f"import json; from tests import resources; print(json.dumps({what}))"], ROOT
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr
    return [resources.Compiled(*row) for row in json.loads(done.stdout)]


def test_compiled_code_is_what_it_is_meant_to_be() -> None:
    rows = compiled(resources.HOPPER, "False")
    assert len({(row.kernel, row.case) for row in rows}) == 22
    for row in rows:
        is_odd = "odd" in row.case or "321" in row.case
        assert row.spilled == 0
        assert row.programs >= (1 if "1-4" in row.case else 2)
        if row.kernel == "mix":
            assert row.shared == 0
        if row.kernel in ("mix", "draw", "product"):
            assert "odd" in row.case or row.widest_load == 16
        if row.kernel != "constants":
            assert is_odd or row.widest_store == 16
        if row.kernel == "draw":
            assert row.matrix_product.startswith("m64")


@pytest.mark.parametrize("card", ["sm_80", "sm_86", "sm_89", "sm_120", "gfx90a", "gfx942", "gfx1100"])
def test_compiled_for_other_cards_too(card: str) -> None:
    rows = compiled(card, "True")
    counts = Counter(row.kernel for row in rows)
    if card.startswith("gfx"):  # that they compile is all that Triton tells
        assert counts == {"prepare": 3, "draw": 2, "product": 1, "boxes": 3, "constants": 1, "mix": 6}
        return
    assert counts == {"prepare": 3, "draw": 3, "boxes": 3, "constants": 1, "mix": 6}
    for row in rows:
        assert row.spilled <= (8 if (row.kernel, row.case, card) == ("mix", "uint8", "sm_120") else 0)
        assert row.programs >= (1 if "1-4" in row.case else 2)
        if row.kernel == "draw":
            assert row.matrix_product == "m16n8k16"
        elif row.kernel != "constants":
            assert "321" in row.case or "odd" in row.case or row.widest_store == 16


def test_mix_reads_less_twice_where_features_are_larger_and_elements_wider() -> None:
    rows = resources.sectors(n=2)
    read = torch.tensor([[images for images, _ in row.by_dtype.values()] for row in rows])
    assert (read.diff(dim=0) < 0).all()  # sigma grows
    assert (read.diff(dim=1) > 0).all()  # elements get narrower
    # Rice's formula for the smallest sigma: crossings of a threshold per pixel, at most.
    crossings = 1 / (math.sqrt(2) * math.pi * torch.tensor([row.sigma[0] for row in rows]))
    assert (read > 1).all()
    assert (read < 1 + crossings[:, None] * torch.tensor([8, 16, 32])).all()  # pixels in 32 bytes
