"""What benchmarks.gpu runs on a card, suite by suite."""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import suites
from benchmarks.tables import detail, overview
from benchmarks.targets import mask_targets, mix_targets, training_target
from benchmarks.timing import WAYS, Plan, Result, attempt

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Options:
    """What every suite needs to know."""

    smoke: bool
    rounds: int

    @property
    def device(self) -> torch.device:
        """Where masks are drawn."""
        return torch.device("cpu" if self.smoke else "cuda")

    @property
    def backend(self) -> str:
        """What computes: a user's default, which on the CPU would not be Triton."""
        return "triton" if self.smoke else "auto"


class Outcome(NamedTuple):
    """What a suite found: for its file, and in words."""

    record: dict[str, Any]
    table: list[str]
    targets: list[str]
    good: bool = True


def run_tests(options: Options, deadline: float) -> Outcome:
    """Run the tests that need a GPU; in a smoke test, only collect them."""
    # Not the examples' tests: none of them needs a GPU, and all need the examples' libraries.
    examples = "|".join(path.stem for path in (ROOT / "examples").iterdir())
    of_examples = re.compile(rf"^(from|import) ({examples})\b", re.MULTILINE)
    files = [path for path in sorted((ROOT / "tests").glob("test_*.py")) if not of_examples.search(path.read_text())]
    command = [sys.executable, "-m", "pytest", "-m", "cuda", *map(str, files)]
    command += ["--collect-only"] if options.smoke else []
    seconds = deadline - time.monotonic()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        code, lines = None, [f"stopped after {seconds:.0f} s"]
    else:
        code, lines = done.returncode, (done.stdout + done.stderr).strip().splitlines()
    record = {"return code": code, "last line": lines[-1]} | ({"output": lines} if code else {})
    good = code == 0
    return Outcome(record, lines[-1 if good else -40 :], [f"{'met' if good else 'NOT MET'}: tests: {lines[-1]}"], good)


def run_masks(options: Options, deadline: float) -> Outcome:
    """Time masks against the other ways to them."""
    cells = suites.mask_cells(options.smoke)
    rows = suites.run(cells, suites.mask_methods, options.device, options.rounds, deadline, options.backend)
    ways = WAYS[:1] if options.smoke else WAYS
    tables = [*(detail(row, "cowmask") for row in rows[:2]), *(overview(rows, "cowmask", way) for way in ways)]
    return Outcome({"cells": suites.record(rows)}, _joined(tables), mask_targets(rows))


def run_mixing(options: Options, deadline: float) -> Outcome:
    """Time mixing against torch.where and a copy."""
    cells = suites.mix_cells(options.smoke)
    rows = suites.run(cells, suites.mix_methods, options.device, options.rounds, deadline, options.backend)
    return Outcome({"cells": suites.record(rows)}, _joined([detail(row, "mix") for row in rows]), mix_targets(rows))


def run_training(options: Options, _: float) -> Outcome:
    """Time a training step of the examples' trainer, with masks and without."""
    try:
        from benchmarks import training
        from segmentation.config import Config
        from segmentation.presets import CAMVID
    except ImportError as error:  # the examples need more than the library does
        problem = f"not run: {error}"
        return Outcome({"problem": problem}, [problem], [training_target(problem)])
    tiny = Config(encoder="tu-lcnet_050", size=(32, 64), batch_size=2)
    config = tiny if options.smoke else replace(CAMVID, precision="bf16")
    results, share, peak = training.compare(config, "cowmix", Plan(options.rounds))
    lines = [
        f"{name:<12}{1 / result.seconds[1]:8.2f} steps a second" + _memory(result) for name, result in results.items()
    ]
    record = {
        "options": training.options_of(config),
        "methods": {name: suites.written(result) for name, result in results.items()},
        "share of masks and mixing": share,
        "peak memory in all, bytes": peak,
    }
    return Outcome(record, lines, [training_target(share)])


def _memory(result: Result) -> str:
    return "" if result.peak is None else f", {result.peak / 2**20:,.0f} MiB at most in one"


def _joined(tables: Sequence[list[str]]) -> list[str]:
    return [line for table in tables for line in (*table, "")]


RUN = {"tests": run_tests, "masks": run_masks, "mixing": run_mixing, "training": run_training}


def run(suite: str, options: Options, deadline: float) -> Outcome:
    """Run one suite until about `deadline` (of time.monotonic()); one that fails leaves the others alone."""
    outcome = attempt(lambda: RUN[suite](options, deadline))
    if isinstance(outcome, str):
        return Outcome({"problem": outcome}, [outcome], [f"NOT MET: {suite}: {outcome}"], good=False)
    return outcome
