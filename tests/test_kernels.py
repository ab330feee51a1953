"""What concerns both kernels: how they are found, compilers, and offsets. See `tests/kernels.py`."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cowmask import _backends, cow_masks, erase, mix
from cowmask.mixing import mix_together
from tests.kernels import DEVICE, ON_GPU, marks

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
        return mixed + mix_together([x], None, mask, "triton")[0]

    results = []
    for call in (step, torch.compile(step, fullgraph=True, backend=compiler)):
        x = a.clone().requires_grad_()
        torch.manual_seed(0)
        result = call(x, b)
        results.append((result, *torch.autograd.grad(result.square().sum(), x)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the check's own
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
        assert mix_together([x, x[:, 0]], None, masks)[1].shape == (2, 8, 8)
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


def addresses(monkeypatch: pytest.MonkeyPatch, program: int, launch: Callable[[], object], value: int) -> list[Any]:
    """Return the addresses of all reads and writes, in turn, of one program of a kernel; it touches no memory.

    All that it reads is `value`.
    """
    from triton.runtime.interpreter import InterpreterBuilder

    found: list[Any] = []
    load = InterpreterBuilder.create_masked_load

    def note(pointers: Any, mask: Any) -> None:
        found.append(pointers.data[np.broadcast_to(mask.data, pointers.data.shape)].astype(object))

    def read(builder: Any, pointers: Any, mask: Any, _: object, *others: Any) -> Any:
        note(pointers, mask)
        nothing = type(mask)(np.zeros_like(mask.data), mask.dtype)
        handle = load(builder, pointers, nothing, None, *others)
        handle.data[...] = value
        return handle

    def write(_: object, pointers: Any, __: object, mask: Any, *others: object) -> None:  # noqa: ARG001
        note(pointers, mask)

    def set_program(builder: Any, *_: int) -> None:
        builder.grid_idx = (program, 0, 0)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", read)
    monkeypatch.setattr(InterpreterBuilder, "create_masked_store", write)
    monkeypatch.setattr(InterpreterBuilder, "set_grid_idx", set_program)
    launch()
    return found


without_gpu = pytest.mark.skipif(ON_GPU, reason="asks the interpreter for addresses")


@without_gpu
@pytest.mark.parametrize("selected", [0, 1])
@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize(("inner", "sizes"), [(2**32 + 100, (3, 2, 1, 1)), (1000, (3000, 100, 100, 60))])
def test_mix_reaches_elements_beyond_2_to_the_31_and_none_beyond_the_last(
    inner: int, sizes: tuple[int, ...], repeat: int, selected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    elements, mask = torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.uint8)
    tile = 256 * 4
    n_tiles, steps = -(-inner // tile), [1, 2**22, 2**22 + 2, 2**22 + 4]  # of out, a, b and the mask
    strides = [[40_000_000 + 1000 * axis + which for axis in range(4)] for which in range(4)]
    found = addresses(
        monkeypatch,
        math.prod(sizes) * n_tiles - 1,
        lambda: mix_kernel.select_kernel[(1,)](
            *(elements, elements, elements, mask, inner, *steps, *sizes, *chain(*strides), 2, 1),
            repeat=repeat, a_constant=False, b_constant=False, vectors=256, vector=4,
        ),
        value=selected,
    )  # fmt: skip
    place = np.arange((n_tiles - 1) * tile, inner).astype(object)
    first, *others = (size - 1 for size in sizes)

    def expected(which: int, index: int, where: Any) -> list[int]:
        row = sum(one * stride for one, stride in zip((index, *others), strides[which], strict=True))
        return list(row + where * steps[which])

    size, base = elements.element_size(), elements.data_ptr()
    chosen, from_a, from_b, written = found
    assert list(chosen - mask.data_ptr()) == expected(3, first, place // repeat)
    assert list((from_a - base) // size) == ([] if selected else expected(1, first, place))
    assert list((from_b - base) // size) == (expected(2, 1, place) if selected else [])  # 2 further on, round the end
    assert list((written - base) // size) == expected(0, 0, place)


@without_gpu
def test_draw_reaches_elements_beyond_2_to_the_31_and_none_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    half_floats, single, byte = (torch.zeros(1, dtype=dtype) for dtype in (torch.float16, torch.float32, torch.uint8))
    alive = torch.zeros(1, dtype=torch.int32)
    height, width, line, count, index = 70_001, 80_010, 80_016, 30_001, 3  # the middle row is its own mirror image
    half, columns, rows, pairs = 35_001, -(-width // 64), -(-35_001 // 64), 15_008
    found = addresses(
        monkeypatch,
        index * rows * columns + rows * columns - 1,  # the last tile of a mask, so of the middle of the rows
        lambda: draw_kernel.draw_kernel[(1,)](
            *(byte, half_floats, half_floats, single, alive, height, width, half, pairs, count, line),
            precision="tf32", block_h=64, block_w=64, block_k=32,
        ),
        value=count,
    )  # fmt: skip
    column, row = np.arange((columns - 1) * 64, line).astype(object), np.arange((rows - 1) * 64, half).astype(object)
    base = half_floats.data_ptr()
    even_cosine, odd_cosine, even_line, odd_line = ((addresses - base) // 2 for addresses in found[-7:-3])
    pair = np.arange(pairs - 32, pairs).astype(object)
    assert list(even_cosine) == list((row[:, None] * pairs + pair).ravel())
    assert list(odd_cosine) == list(((half + row[:, None]) * pairs + pair).ravel())
    for parity, lines in ((0, even_line), (1, odd_line)):
        frequency = 2 * pair[2 * pair + parity < count] + parity
        assert list(lines) == list(((index * count + frequency[:, None]) * line + column).ravel())
    column = column[column < width]
    assert list(found[-2] - byte.data_ptr()) == list(((index * height + row[:, None]) * width + column).ravel())
    mirrored = index * height + height - 1 - row[row < height // 2]
    assert list(found[-1] - byte.data_ptr()) == list((mirrored[:, None] * width + column).ravel())


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
    read = torch.tensor([[images for images, _ in row.by_dtype.values()] for row in resources.sectors(n=2)])
    assert (read.diff(dim=0) < 0).all()  # sigma grows
    assert (read.diff(dim=1) > 0).all()  # elements get narrower
    assert ((read > 1) & (read < 2)).all()
