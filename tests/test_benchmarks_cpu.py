"""The benchmarks' suites for a CPU."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import targets_cpu
from benchmarks.cases import MaskCase, MixCase
from benchmarks.suites import Row
from benchmarks.tables import detail
from benchmarks.timing import Candidate, Candidates, Plan, Result, measure

CPU = torch.device("cpu")
CASE = MaskCase(16, (96, 128), (4.0, 4.0))
TIMES = [1.0, 2.0, 3.0]


def test_a_slow_candidate_is_called_once() -> None:
    calls: list[int] = []
    candidates: Candidates = {"slow": Candidate(lambda: calls.append(0)), "none": "not installed"}
    found = measure(candidates, CPU, Plan(rounds=5, slowest=0.0))
    assert (len(calls), found["slow"].cold, found["slow"].peak) == (1, True, None)
    assert len(set(found["slow"].seconds)) == 1
    lines = detail(Row(CASE, {"cowmask": Result(TIMES, TIMES), **found}), "cowmask", ["eager"])
    assert lines[3].endswith("one call, not warm")
    assert lines[4].endswith("not installed")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a process")
def test_the_peak_is_what_a_call_needs_beyond_what_it_found() -> None:
    kept = torch.ones(2**23)  # 32 MiB that are allocated before the call
    needs = {"16 MiB": lambda: torch.ones(2**22), "48 MiB": lambda: (kept + 1).sum() + torch.ones(2**22).sum()}
    found = measure({name: Candidate(call) for name, call in needs.items()}, CPU, Plan(rounds=1))
    assert 15 * 2**20 < (found["16 MiB"].peak or 0) < 18 * 2**20
    assert 31 * 2**20 < (found["48 MiB"].peak or 0) < 52 * 2**20


def test_the_suites_for_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for library in ("tyro", "matplotlib", "kornia", "torchvision"):
        pytest.importorskip(library)
    from benchmarks import cpu, masks, mixing

    main = MaskCase(2, (24, 32), (1.0, 2.0))
    others = [replace(main, n=1), replace(main, sigma=(2.0, 4.0)), replace(main, size=(48, 64))]
    monkeypatch.setattr(masks, "MAIN", main)
    monkeypatch.setattr(masks, "CASES", [main, *others])
    monkeypatch.setattr(mixing, "CASES", [MixCase(2, (24, 32))])
    monkeypatch.setattr(cpu, "RUNS", tmp_path)
    options = cpu.Options(threads=torch.get_num_threads(), rounds=2)
    masks.main(options)
    mixing.main(options)
    expected = {"masks": list(masks.candidates(main)), "mixing": list(mixing.candidates(mixing.CASES[0]))}
    out = capsys.readouterr().out
    for suite, names in expected.items():
        found = json.loads((tmp_path / f"{suite}--here.json").read_text())
        assert {"torch", "kornia", "commit", "threads"} <= found["environment"].keys()
        for row in found["cells"]:
            assert list(row["methods"]) == names
            for name, method in row["methods"].items():
                assert len(method["eager, microseconds"]) == 3, f"{name}: {method}"
                assert name in out
    assert [row.case for row in masks.along([Row(case, {}) for case in (main, *others)], "size")] == [main, others[2]]
    for axis in masks.AXES:
        assert (tmp_path / f"masks-over-{axis}.png").stat().st_size > 10_000


def test_cases_for_a_cpu_cover_every_axis() -> None:
    pytest.importorskip("tyro")
    from benchmarks import masks

    cases = masks.CASES
    assert cases[0] == MaskCase(16, (512, 512), (4.0, 16.0))
    assert {case.size[0] for case in cases} == {32, 64, 128, 256, 512, 1024, 2048, 4096}
    assert {case.n for case in cases if case.size == (512, 512)} == {1, 4, 16, 64}
    assert {case.sigma for case in cases} == {(4.0, 16.0), (8.0, 32.0), (1.0, 4.0)}
    assert max(case.touched for case in cases) == 2**26
    rows = [Row(case, {}) for case in cases]
    # The main case is on all three axes.
    assert sum(len(masks.along(rows, axis)) for axis in masks.AXES) == len(cases) + 2


def test_targets_of_a_cpu_are_judged() -> None:
    main = MaskCase(16, (512, 512), (4.0, 16.0))

    def results(**milliseconds: float) -> dict[str, Result]:
        names = {"ours": "cowmask", "spectral": "cowmask, spectral", "listing": "Listing 1", "kornia": "kornia"}
        return {names[key]: Result([value / 1e3] * 3, "needs CUDA") for key, value in milliseconds.items()}

    rows = [
        Row(main, results(ours=2, spectral=1, listing=90, kornia=39)),
        Row(replace(main, n=1), results(ours=2, spectral=4, listing=28, kornia=1.5)),
        Row(replace(main, size=(2048, 2048)), results(ours=49)),
    ]
    lines = targets_cpu.judge_masks(rows, main)
    assert lines[1:4] == [
        "met: Listing 1 over cowmask, for 16 of 512x512, sigma 4-16, bool: 45.00 (>= 40)",
        "NOT MET: kornia over cowmask, for 16 of 512x512, sigma 4-16, bool: 19.50 (>= 20)",
        "NOT MET: Listing 1 over cowmask, for one mask: 14.00 (>= 15)",
    ]
    assert "NOT MET: cowmask over cowmask, spectral, for 16 of 512x512, sigma 4-16, bool: 2.00 (<= 1.2)" in lines
    assert "NOT MET: kornia, the best rival, over cowmask, for 1 of 512x512, sigma 4-16, bool: 0.75 (>= 1)" in lines
    assert lines[-1] == "NOT MET: time per pixel, 2048x2048 over 512x512: 1.53 (<= 1.5)"
    assert targets_cpu.judge_masks([], main)[-1].startswith("not measured")
    mixed = {"CowMix": Result([1.2] * 3, ""), "torch.where": Result([1.0] * 3, "")}
    where, torchvision, _ = targets_cpu.judge_mixing([Row(MixCase(), mixed)])[1:]
    assert where.startswith("NOT MET: CowMix over torch.where")
    assert torchvision.startswith("not measured")
