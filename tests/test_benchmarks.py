"""The benchmarks: rivals draw the same masks as cowmask, and a run measures and reports everything."""

import json
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import gpu, plain_training, targets_gpu
from benchmarks.candidates import mask_candidates, mix_candidates
from benchmarks.cases import MaskCase, MixCase
from benchmarks.gpu_suites import MASK_CASES, MIX_CASES, SMOKE_MASK_CASES, SMOKE_MIX_CASES
from benchmarks.rivals import listing_1, mask_rivals
from benchmarks.suites import Row, record, run
from benchmarks.tables import detail, overview
from benchmarks.timing import AbsentError, Candidate, Candidates, Plan, Result, measure
from cowmask import cow_masks
from tests import interpreter

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
CASE = MaskCase(16, (96, 128), (4.0, 4.0))
RIVALS = ("listing 1", "conv2d, grouped", "kornia", "torchvision", "FFT")
ON_A_GPU = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
everywhere = pytest.mark.parametrize(
    ("name", "device"),
    [
        *((name, "cpu") for name in RIVALS),
        *(pytest.param(name, "cuda", marks=ON_A_GPU) for name in (*RIVALS[1:], "cuDNN, grouped", "cupyx")),
    ],
)
TIMES = [1.0, 2.0, 3.0]


def draw(name: str, case: MaskCase, device: str = "cpu") -> Tensor:
    candidate = listing_1(case) if name == "listing 1" else mask_rivals(case, torch.device(device))[name]
    if candidate == "not installed":
        pytest.skip(f"{name} is not installed")
    return called(candidate).cpu()


def called(candidate: Candidate | str) -> Tensor:
    assert isinstance(candidate, Candidate), candidate
    returned: Any = candidate.call()
    return torch.from_numpy(returned) if isinstance(returned, np.ndarray) else returned


def changes(drawn: Tensor) -> Tensor:
    """Return the share of pixels that differ from their left neighbour, for each mask, (n,)."""
    return (drawn[..., 1:] != drawn[..., :-1]).flatten(1).float().mean(1)


@everywhere
def test_a_rival_draws_the_same_masks(name: str, device: str) -> None:
    drawn = draw(name, CASE, device)
    assert drawn.shape == (16, 1, 96, 128)
    assert drawn.dtype == torch.bool
    assert abs(float(drawn.float().mean()) - 0.5) < 0.03
    agreement = (drawn[1:] == drawn[:-1]).float().mean()
    assert 0.4 < float(agreement) < 0.6
    ours = changes(cow_masks(CASE.n, CASE.size, CASE.sigma))
    assert 0.85 < float(changes(drawn).mean() / ours.mean()) < 1.15


@everywhere
def test_a_rival_draws_a_sigma_for_each_mask(name: str, device: str) -> None:
    found = changes(draw(name, MaskCase(64, (64, 96), (1.0, 16.0)), device))
    assert found.max() > 5 * found.min()
    # 1 / (sqrt(2) pi sigma) of the pixels: 0.056 at 4, the median of log-uniform sigmas, and 0.026 at 8.5.
    assert 0.04 < found.median() < 0.075


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "listing 1"])
def test_a_rival_gives_floats_where_the_case_does(name: str) -> None:
    drawn = draw(name, MaskCase(2, (24, 20), (2.0, 8.0), torch.float32))  # the taps are longer than the image
    assert drawn.dtype == torch.float32
    assert set(drawn.unique().tolist()) == {0.0, 1.0}


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    monkeypatch.delitem(sys.modules, "kornia.filters", raising=False)
    rivals = mask_rivals(CASE, CPU)
    assert rivals["kornia"] == "not installed"
    assert rivals["cuDNN, grouped"] == "needs CUDA"
    result = measure({"kornia": rivals["kornia"]}, CPU, Plan(1))["kornia"]
    assert result.eager == "not installed"
    row = Row(CASE, {"cowmask": Result(TIMES, TIMES), "kornia": result})
    assert any(line.startswith("kornia") and line.endswith("not installed") for line in detail(row, "cowmask"))


def test_measuring_leaves_out_what_fails_and_nothing_else() -> None:
    def fails() -> None:
        raise ValueError("too large\nfor this")

    calls: list[int] = []
    found = measure({"fails": Candidate(fails), "runs": Candidate(lambda: calls.append(0))}, CPU, Plan(rounds=5))
    assert found["fails"].eager == "failed: ValueError: too large"
    with pytest.raises(AbsentError, match="too large"):
        _ = found["fails"].seconds
    first, median, third = found["runs"].seconds
    assert 0 < first <= median <= third
    assert found["runs"].graph == "needs CUDA"
    assert (found["runs"].regions, len(calls)) == (5, 3 + 5 * found["runs"].calls)


def test_a_candidate_without_time_left_is_timed_once() -> None:
    found = measure({"slow": Candidate(lambda: None)}, CPU, Plan(rounds=5, seconds=0.0))
    assert found["slow"].regions == 1


def test_outputs_stay_alive_for_a_round_of_the_buffers() -> None:
    alive: list[int] = []
    drawn: list[weakref.ref[Tensor]] = []

    def call() -> Tensor:
        alive.append(sum(ref() is not None for ref in drawn))
        drawn.append(weakref.ref(out := torch.empty(1)))
        return out

    measure({"draws": Candidate(call)}, CPU, Plan(rounds=8, sets=4))
    assert max(alive) == 4


def test_mixing_rotates_over_its_buffers_and_all_candidates_agree() -> None:
    case = MixCase(2, (8, 16))
    candidates = mix_candidates(case, CPU, 3, "torch")
    outputs = {name: [called(one).clone() for _ in range(4)] for name, one in candidates.items()}
    assert outputs.keys() == case.moved.keys()
    for found in outputs.values():
        assert found[0].shape == (2, 3, 8, 16)
    for name in ("copy", "torch.where", "mix", "erase"):
        first, second, third, again = outputs[name]
        assert torch.equal(first, again)
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)
    for name, same in (("torch.where, out=", "torch.where"), ("mix", "torch.where"), ("erase", "torch.where, 0")):
        assert all(map(torch.equal, outputs[name], outputs[same]))


def test_cases_cover_every_axis_one_at_a_time() -> None:
    main, *others = MASK_CASES
    assert main == MaskCase(64, (512, 512), (4.0, 16.0), torch.bool)
    for name, values in {
        "n": {1, 4, 16, 256},
        "size": {(128, 128), (256, 256), (1024, 1024), (2048, 2048)},
        "sigma": {(1.0, 4.0), (8.0, 32.0)},
        "dtype": {torch.float32},
    }.items():
        assert values == {getattr(case, name) for case in others} - {getattr(main, name)}
    for cases in (MASK_CASES, MIX_CASES, SMOKE_MASK_CASES, SMOKE_MIX_CASES):
        for case in cases[1:]:
            fields = case.__dataclass_fields__
            assert sum(getattr(case, name) != getattr(cases[0], name) for name in fields) == 1


def test_cases_without_time_or_candidates_are_reported() -> None:
    def fail(*_: Any) -> Candidates:
        raise RuntimeError("no room")

    (late,) = run([CASE], mask_candidates, CPU, 1, deadline=0.0)
    (failed,) = run([CASE], fail, CPU, 1, deadline=float("inf"))
    assert late.problem == "out of time"
    assert failed.problem == "failed: RuntimeError: no room"
    assert [written["problem"] for written in record([late, failed])] == [late.problem, failed.problem]
    for lines in (
        detail(late, "cowmask"),
        overview([late, Row(CASE, {"cowmask": Result(TIMES, TIMES)})], "cowmask", "eager"),
    ):
        assert any("out of time" in line for line in lines)


def test_tables_give_ratios_of_medians_and_bandwidths() -> None:
    case = MixCase(2, (100, 100))
    results = {
        "copy": Result([1e-5] * 3, [1e-6] * 3),
        "mix": Result([1e-5, 2e-5, 9e-5], "cannot be captured", peak=2**20),
        "torch.where": Result([0.0, 3e-5, 1.0], [4e-6] * 3),
    }
    _, _, _, mix_line, where_line = detail(Row(case, results), "mix")
    assert mix_line.split()[:5] == ["mix", "20.0", "10.0", "90.0", "1.00x"]
    assert mix_line.endswith("1.0   25.0       5%  cannot be captured")  # (2 * 240,000 + 20,000) bytes in 20 us
    assert "1.50x" in where_line
    assert where_line.endswith("185.0      25%")
    (_, _, line) = overview([Row(case, results)], "mix", "eager")
    assert line.split()[-3:] == ["20.0", "0.50x", "1.50x"]


def test_targets_are_judged_by_both_launches() -> None:
    case = replace(MaskCase(), n=256)
    results = {
        "cowmask": Result([1.5e-4] * 3, [1.5e-4] * 3),
        "kornia": Result([9e-3] * 3, "no"),
        "conv2d, grouped": Result([12e-3] * 3, [6e-3] * 3),
        "FFT": Result([1e-4] * 3, [1e-4] * 3),  # no convolution
    }
    one = {"cowmask": Result([2e-4] * 3, [1e-5] * 3)}
    rows = [Row(case, results), Row(replace(case, n=1), one), Row(replace(case, n=2), {}, "out of time")]
    rate, single, convolution = targets_gpu.judge_masks(rows)
    assert rate.startswith("met as eager only: ")  # 1,000,000 eager, 2,000,000 as a graph
    assert "1,706,667 eager" in rate
    assert single.startswith("NOT MET: 1 of 512x512")
    assert "200 us eager; at most 100" in single
    assert convolution.startswith("met as eager only: ")
    assert "60.0 eager (at least 50.0), 40.0 graph" in convolution
    assert all(line.startswith("not measured") for line in targets_gpu.judge_masks([]))
    head, first, _, last = targets_gpu.masks_a_second(rows)
    assert head.startswith("Masks a second")
    assert first.endswith("bool: 1,706,667 eager, 1,706,667 graph")
    assert last.endswith("bool: out of time")
    slow = {"mix": Result(TIMES, TIMES), "torch.where": Result(TIMES, TIMES)}
    (line,) = targets_gpu.judge_mixing([Row(MixCase(), slow)])
    assert line.startswith("NOT MET")
    assert targets_gpu.judge_training(0.004).startswith("met")
    assert targets_gpu.judge_training(0.006).startswith("NOT MET")
    assert targets_gpu.judge_training("not run").startswith("not measured")


def test_warm_ups_count_as_time() -> None:
    def slow() -> None:
        time.sleep(0.02)

    found = measure({"first": Candidate(slow), "second": Candidate(slow)}, CPU, Plan(rounds=5, seconds=0.01))
    assert found["first"].regions == 1
    assert found["second"].eager == "out of time"


def test_a_training_on_torch_alone() -> None:
    results, share, peak = plain_training.compare(plain_training.SMOKE, CPU, Plan(1))
    assert results.keys() == {"supervised", "cowmix"}
    assert all(result.seconds[0] > 0 for result in results.values())
    assert isinstance(share, float)
    assert 0 < share < 1
    assert peak > 0


def test_without_a_gpu_it_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "benchmarks.gpu needs a CUDA device; --smoke runs its logic without one."
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(interpreter.fails(), reason="Triton < 3.8 interprets with NumPy < 2.4")
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
        "masks": (SMOKE_MASK_CASES, mask_candidates(CASE, CPU, 1, "auto")),
        "mixing": (SMOKE_MIX_CASES, MixCase().moved),
    }
    for suite, (cases, names) in expected.items():
        rows = found[f"gpu-{suite}--smoke.json"]["cells"]
        assert len(rows) == len(cases)
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
    candidates: Candidates = {
        "waits": Candidate(lambda: torch.rand(size, device=device).sum().item()),
        "draws": Candidate(lambda: torch.rand(size, device=device) > 0.5),
        "is not tried": Candidate(lambda: torch.rand(size, device=device), no_graph="not tried"),
    }
    found = measure(candidates, device, Plan(rounds=2, sets=3))
    assert "cannot be captured" in found["waits"].graph
    assert found["is not tried"].graph == "not tried"
    assert not isinstance(found["draws"].graph, str)
    assert all(result.seconds[0] > 0 and result.peak is not None for result in found.values())
    assert (found["draws"].peak or 0) >= 4 * 64 * 64 * 5  # floats, and then bools
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    ours = {name: one for name, one in mask_candidates(CASE, device, 2, "auto").items() if name.startswith("cowmask")}
    for name, result in measure(ours, device, Plan(rounds=1, sets=2)).items():
        assert not isinstance(result.graph, str), f"{name}: {result.graph}"
