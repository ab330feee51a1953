"""The benchmarks: that peers draw what they are compared with, and that a run measures and reports all it should."""

import json
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import gpu
from benchmarks.peers import MaskCell, listing_1, mask_peers
from benchmarks.suites import MixCell, Row, mask_cells, mask_methods, mix_cells, mix_methods, record, run
from benchmarks.tables import detail, overview
from benchmarks.targets import mask_targets, mix_targets, training_target
from benchmarks.timing import AbsentError, Method, Plan, Result, measure
from cowmask import cow_masks

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
CELL = MaskCell(16, (96, 128), (4.0, 4.0))
PEERS = ("listing 1", "conv2d, grouped", "kornia", "torchvision", "FFT")
ON_A_GPU = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
everywhere = pytest.mark.parametrize(
    ("name", "device"),
    [
        *((name, "cpu") for name in PEERS),
        *(pytest.param(name, "cuda", marks=ON_A_GPU) for name in (*PEERS[1:], "cuDNN, grouped", "cupyx")),
    ],
)
TIMES = [1.0, 2.0, 3.0]


def draw(name: str, cell: MaskCell, device: str = "cpu") -> Tensor:
    method = listing_1(cell) if name == "listing 1" else mask_peers(cell, torch.device(device))[name]
    if method == "not installed":
        pytest.skip(f"{name} is not installed")
    return called(method).cpu()


def called(method: Method | str) -> Tensor:
    assert isinstance(method, Method), method
    returned: Any = method.call()
    return torch.from_numpy(returned) if isinstance(returned, np.ndarray) else returned


def changes(drawn: Tensor) -> Tensor:
    """Return the share of the pixels of each mask that differ from the pixel before, (n,)."""
    return (drawn[..., 1:] != drawn[..., :-1]).flatten(1).float().mean(1)


@everywhere
def test_a_peer_draws_the_same_masks(name: str, device: str) -> None:
    drawn = draw(name, CELL, device)
    assert drawn.shape == (16, 1, 96, 128)
    assert drawn.dtype == torch.bool
    assert abs(float(drawn.float().mean()) - 0.5) < 0.03
    agreement = (drawn[1:] == drawn[:-1]).float().mean()
    assert 0.4 < float(agreement) < 0.6
    ours = changes(cow_masks(CELL.n, CELL.size, CELL.sigma))
    assert 0.85 < float(changes(drawn).mean() / ours.mean()) < 1.15


@everywhere
def test_a_peer_draws_a_sigma_for_each_mask(name: str, device: str) -> None:
    found = changes(draw(name, MaskCell(64, (64, 96), (1.0, 16.0)), device))
    assert found.max() > 5 * found.min()
    # 1 / (sqrt(2) pi sigma) of the pixels: 0.056 at 4, the median of log-uniform sigmas, and 0.026 at 8.5.
    assert 0.04 < found.median() < 0.075


@pytest.mark.parametrize("name", [name for name in PEERS if name != "listing 1"])
def test_a_peer_gives_floats_where_the_cell_does(name: str) -> None:
    drawn = draw(name, MaskCell(2, (24, 20), (2.0, 8.0), torch.float32))  # the taps are longer than the image
    assert drawn.dtype == torch.float32
    assert set(drawn.unique().tolist()) == {0.0, 1.0}


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    monkeypatch.delitem(sys.modules, "kornia.filters", raising=False)
    peers = mask_peers(CELL, CPU)
    assert peers["kornia"] == "not installed"
    assert peers["cuDNN, grouped"] == "needs CUDA"
    result = measure({"kornia": peers["kornia"]}, CPU, Plan(1))["kornia"]
    assert result.eager == "not installed"
    row = Row(CELL, {"cowmask": Result(TIMES, TIMES), "kornia": result})
    assert any(line.startswith("kornia") and line.endswith("not installed") for line in detail(row, "cowmask"))


def test_measuring_leaves_out_what_fails_and_nothing_else() -> None:
    def fails() -> None:
        raise ValueError("too large\nfor this")

    calls: list[int] = []
    found = measure({"fails": Method(fails), "runs": Method(lambda: calls.append(0))}, CPU, Plan(rounds=5))
    assert found["fails"].eager == "failed: ValueError: too large"
    with pytest.raises(AbsentError, match="too large"):
        _ = found["fails"].seconds
    first, median, third = found["runs"].seconds
    assert 0 < first <= median <= third
    assert found["runs"].graph == "needs CUDA"
    assert (found["runs"].regions, len(calls)) == (5, 3 + 5 * found["runs"].calls)


def test_a_method_without_time_left_is_timed_once() -> None:
    found = measure({"slow": Method(lambda: None)}, CPU, Plan(rounds=5, seconds=0.0))
    assert found["slow"].regions == 1


def test_outputs_stay_alive_for_a_round_of_the_buffers() -> None:
    alive: list[int] = []
    drawn: list[weakref.ref[Tensor]] = []

    def call() -> Tensor:
        alive.append(sum(ref() is not None for ref in drawn))
        drawn.append(weakref.ref(out := torch.empty(1)))
        return out

    measure({"draws": Method(call)}, CPU, Plan(rounds=8, sets=4))
    assert max(alive) == 4


def test_mixing_rotates_over_its_buffers_and_all_methods_agree() -> None:
    cell = MixCell(2, (8, 16))
    methods = mix_methods(cell, CPU, 3, "torch")
    outputs = {name: [called(method).clone() for _ in range(4)] for name, method in methods.items()}
    assert outputs.keys() == cell.moved.keys()
    for found in outputs.values():
        assert found[0].shape == (2, 3, 8, 16)
    for name in ("copy", "torch.where", "mix", "erase"):
        first, second, third, again = outputs[name]
        assert torch.equal(first, again)
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)
    for name, same in (("torch.where, out=", "torch.where"), ("mix", "torch.where"), ("erase", "torch.where, 0")):
        assert all(map(torch.equal, outputs[name], outputs[same]))


def test_cells_cover_every_axis_one_at_a_time() -> None:
    main, *others = mask_cells()
    assert main == MaskCell(64, (512, 512), (4.0, 16.0), torch.bool)
    for name, values in {
        "n": {1, 4, 16, 256},
        "size": {(128, 128), (256, 256), (1024, 1024), (2048, 2048)},
        "sigma": {(1.0, 4.0), (8.0, 32.0)},
        "dtype": {torch.float32},
    }.items():
        assert values == {getattr(cell, name) for cell in others} - {getattr(main, name)}
    for cells in (mask_cells(), mix_cells(), mask_cells(smoke=True), mix_cells(smoke=True)):
        for cell in cells[1:]:
            fields = cell.__dataclass_fields__
            assert sum(getattr(cell, name) != getattr(cells[0], name) for name in fields) == 1


def test_cells_without_time_or_methods_are_reported() -> None:
    def methods(*_: Any) -> dict[str, Method | str]:
        raise RuntimeError("no room")

    (late,) = run([CELL], mask_methods, CPU, 1, deadline=0.0)
    (failed,) = run([CELL], methods, CPU, 1, deadline=float("inf"))
    assert late.problem == "out of time"
    assert failed.problem == "failed: RuntimeError: no room"
    assert [written["problem"] for written in record([late, failed])] == [late.problem, failed.problem]
    for lines in (
        detail(late, "cowmask"),
        overview([late, Row(CELL, {"cowmask": Result(TIMES, TIMES)})], "cowmask", "eager"),
    ):
        assert any("out of time" in line for line in lines)


def test_tables_give_ratios_of_medians_and_bandwidths() -> None:
    cell = MixCell(2, (100, 100))
    results = {
        "copy": Result([1e-5] * 3, [1e-6] * 3),
        "mix": Result([1e-5, 2e-5, 9e-5], "cannot be captured", peak=2**20),
        "torch.where": Result([0.0, 3e-5, 1.0], [4e-6] * 3),
    }
    _, _, _, mix_line, where_line = detail(Row(cell, results), "mix")
    assert mix_line.split()[:5] == ["mix", "20.0", "10.0", "90.0", "1.00x"]
    assert mix_line.endswith("1.0   25.0       5%  cannot be captured")  # (2 * 240,000 + 20,000) bytes in 20 us
    assert "1.50x" in where_line
    assert where_line.endswith("185.0      25%")
    (_, _, line) = overview([Row(cell, results)], "mix", "eager")
    assert line.split()[-3:] == ["20.0", "0.50x", "1.50x"]


def test_targets_are_judged_by_both_ways() -> None:
    cell = replace(MaskCell(), n=256)
    results = {
        "cowmask": Result([1e-4] * 3, [1e-4] * 3),
        "kornia": Result([6e-3] * 3, "no"),
        "conv2d, grouped": Result([8e-3] * 3, [4e-3] * 3),
        "FFT": Result([1e-4] * 3, [1e-4] * 3),  # no convolution
    }
    rate, convolution = mask_targets([Row(cell, results)])
    assert rate.startswith("met: ")
    assert "2,560,000 eager" in rate
    assert convolution.startswith("met as eager only: ")
    assert "60.0 eager, 40.0 graph" in convolution
    assert all(line.startswith("not measured") for line in mask_targets([]))
    slow = {"mix": Result(TIMES, TIMES), "torch.where": Result(TIMES, TIMES)}
    (line,) = mix_targets([Row(MixCell(), slow)])
    assert line.startswith("NOT MET")
    assert training_target(0.009).startswith("met")
    assert training_target(0.011).startswith("NOT MET")
    assert training_target("not run").startswith("not measured")


def test_without_a_gpu_it_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "benchmarks.gpu needs a CUDA device; --smoke runs its logic without one."
    ]
    assert not list(tmp_path.iterdir())


def test_smoke_runs_everything(tmp_path: Path) -> None:
    for library in ("triton", "kornia", "torchvision", "segmentation_models_pytorch"):
        pytest.importorskip(library)
    command = [sys.executable, "-m", "benchmarks.gpu", "--smoke", "--rounds", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert found.keys() == {f"gpu-{suite}--smoke.json" for suite in gpu.SUITES}
    assert found["gpu-tests--smoke.json"]["return code"] == 0
    expected: dict[str, tuple[Sequence[Any], Mapping[str, Any]]] = {
        "masks": (mask_cells(True), mask_methods(CELL, CPU, 1, "auto")),
        "mixing": (mix_cells(True), MixCell().moved),
    }
    for suite, (cells, names) in expected.items():
        rows = found[f"gpu-{suite}--smoke.json"]["cells"]
        assert len(rows) == len(cells)
        for row in rows:
            assert row["methods"].keys() == names.keys()
            for name, method in row["methods"].items():
                times = method["eager, microseconds"]
                assert len(times) == 3 or times in ("needs CUDA", "not installed"), f"{name}: {times}"
                assert name in done.stdout
            assert len(row["methods"]["mix" if suite == "mixing" else "cowmask"]["eager, microseconds"]) == 3
    training = found["gpu-training--smoke.json"]
    assert 0 < training["share of masks and mixing"] < 1
    assert training["methods"].keys() == {"supervised", "cowmix"}
    for result in found.values():
        assert {"torch", "triton", "commit"} <= result["environment"].keys()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_graphs_are_timed_and_what_waits_is_refused() -> None:
    device, size = torch.device("cuda"), (4, 64, 64)
    methods: dict[str, Method | str] = {
        "waits": Method(lambda: torch.rand(size, device=device).sum().item()),
        "draws": Method(lambda: torch.rand(size, device=device) > 0.5),
        "is not tried": Method(lambda: torch.rand(size, device=device), no_graph="not tried"),
    }
    found = measure(methods, device, Plan(rounds=2, sets=3))
    assert "cannot be captured" in found["waits"].graph
    assert found["is not tried"].graph == "not tried"
    assert not isinstance(found["draws"].graph, str)
    assert all(result.seconds[0] > 0 and result.peak is not None for result in found.values())
    assert (found["draws"].peak or 0) >= 4 * 64 * 64 * 5  # floats, and then bools
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    ours = {name: m for name, m in mask_methods(CELL, device, 2, "auto").items() if name.startswith("cowmask")}
    for name, result in measure(ours, device, Plan(rounds=1, sets=2)).items():
        assert not isinstance(result.graph, str), f"{name}: {result.graph}"
