"""What both kernels share: how they are found, compilers, offsets, and compiled code. See `tests/kernels.py`."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cowmask import _backends, cow_masks, erase, mix
from cowmask.mixing import mix_batch
from tests.kernels import DEVICE, ON_GPU, Recorder, marks

pytestmark = marks
mix_kernel = pytest.importorskip("cowmask.kernels.mix")
draw_kernel = pytest.importorskip("cowmask.kernels.draw")
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
def test_draw_reaches_elements_beyond_2_to_the_31_and_none_beyond_the_last() -> None:
    height, width, line, count, index = 70_001, 80_010, 80_016, 30_001, 3  # the middle row is its own mirror image
    half, columns, rows, pairs = 35_001, -(-width // 64), -(-35_001 // 64), 15_008
    seen = Recorder(
        {"out": "*u8", "basis": "*fp16", "lines": "*fp16", "threshold": "*fp32", "alive": "*i32"}, {"alive": count}
    )
    seen.run(
        draw_kernel.draw_kernel,
        program=index * rows * columns + rows * columns - 1,  # the last tile of a mask, so of the middle of the rows
        height=height,
        width=width,
        half=half,
        pairs=pairs,
        count=count,
        line=line,
        precision="tf32",
        block_h=64,
        block_w=64,
        block_k=32,
    )

    column, row = np.arange((columns - 1) * 64, line), np.arange((rows - 1) * 64, half)
    pair = np.arange(pairs - 32, pairs)  # of the last step of the loop
    even_cosine, odd_cosine = seen.loads["basis"][-2:]
    assert list(even_cosine) == list((row[:, None] * pairs + pair).ravel())
    assert list(odd_cosine) == list(((half + row[:, None]) * pairs + pair).ravel())
    for parity, lines in enumerate(seen.loads["lines"][-2:]):
        frequency = 2 * pair[2 * pair + parity < count] + parity
        assert list(lines) == list(((index * count + frequency[:, None]) * line + column).ravel())
    column = column[column < width]
    upper, lower = seen.stores["out"]
    assert list(upper) == list(((index * height + row[:, None]) * width + column).ravel())
    mirrored = index * height + height - 1 - row[row < height // 2]
    assert list(lower) == list((mirrored[:, None] * width + column).ravel())


def test_compiled_code_is_what_it_is_meant_to_be() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    code = "import json; from tests import resources; print(json.dumps(resources.compiled()))"
    command, root = [sys.executable, "-c", code], Path(__file__).parents[1]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root).stdout
    rows = [resources.Compiled(*row) for row in json.loads(printed)]
    assert len({(row.kernel, row.case) for row in rows}) == 14
    for row in rows:
        is_odd = "odd" in row.case
        assert row.spilled == 0
        assert row.programs >= 2
        assert is_odd or row.widest_load == 16
        assert is_odd or "321" in row.case or row.widest_store == 16
        if row.kernel == "mix":
            assert row.shared == 0
        if row.kernel == "draw" and row.case.endswith("high"):
            assert row.matrix_product.startswith("m")


def test_mix_reads_less_twice_where_features_are_larger_and_elements_wider() -> None:
    rows = resources.sectors(n=2)
    read = torch.tensor([[images for images, _ in row.by_dtype.values()] for row in rows])
    assert (read.diff(dim=0) < 0).all()  # sigma grows
    assert (read.diff(dim=1) > 0).all()  # elements get narrower
    # Rice's formula for the smallest sigma: crossings of a threshold per pixel, at most.
    crossings = 1 / (math.sqrt(2) * math.pi * torch.tensor([row.sigma[0] for row in rows]))
    assert (read > 1).all()
    assert (read < 1 + crossings[:, None] * torch.tensor([8, 16, 32])).all()  # pixels in 32 bytes
