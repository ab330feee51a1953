"""The suites of benchmarks.gpu, on a card and in a smoke test."""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import suites, targets_gpu
from benchmarks.candidates import mask_candidates, mix_candidates
from benchmarks.cases import MaskCase, MixCase, one_axis_at_a_time
from benchmarks.tables import detail, overview
from benchmarks.timing import LAUNCHES, Launch, Plan, Result, attempt

ROOT = Path(__file__).parents[1]
MASK_CASES = one_axis_at_a_time(
    MaskCase(),
    n=(256, 1, 4, 16),
    size=((128, 128), (256, 256), (1024, 1024), (2048, 2048)),
    sigma=((1.0, 4.0), (8.0, 32.0)),
    dtype=(torch.float32,),
)
SMOKE_MASK_CASES = one_axis_at_a_time(
    MaskCase(3, (32, 48), (2.0, 4.0)), n=(1,), size=((24, 24),), sigma=((4.0, 8.0),), dtype=(torch.float32,)
)
MIX_CASES = one_axis_at_a_time(MixCase(), batch=(4, 64), dtype=(torch.uint8, torch.bfloat16), channels_last=(True,))
SMOKE_MIX_CASES = one_axis_at_a_time(
    MixCase(4, (24, 32)), batch=(2,), dtype=(torch.uint8, torch.bfloat16), channels_last=(True,)
)


@dataclass(frozen=True)
class Options:
    """What the suites run, and where."""

    smoke: bool
    rounds: int
    device: torch.device
    backend: str
    mask_cases: Sequence[MaskCase]
    mix_cases: Sequence[MixCase]
    launches: Sequence[Launch]
    """Which tables of masks to print."""


CARD = Options(
    smoke=False,
    rounds=15,
    device=torch.device("cuda"),
    backend="auto",
    mask_cases=MASK_CASES,
    mix_cases=MIX_CASES,
    launches=LAUNCHES,
)
SMOKE = Options(
    smoke=True,
    rounds=2,
    device=torch.device("cpu"),
    backend="triton",  # "auto" would not choose Triton on a CPU
    mask_cases=SMOKE_MASK_CASES,
    mix_cases=SMOKE_MIX_CASES,
    launches=("eager",),
)


class Outcome(NamedTuple):
    """What a suite found, for its file and for the screen."""

    record: dict[str, Any]
    table: list[str]
    targets: list[str]
    good: bool = True


def run_tests(options: Options, deadline: float) -> Outcome:
    """Run the tests that need a GPU; in a smoke test, only collect them."""
    # Without the examples' tests: none needs a GPU, and all need the examples' libraries.
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
    """Time masks against other implementations."""
    rows = suites.run(options.mask_cases, mask_candidates, options.device, options.rounds, deadline, options.backend)
    tables = [detail(row, "cowmask") for row in rows[:2]]
    tables += [overview(rows, "cowmask", launch) for launch in options.launches]
    tables.insert(0, targets_gpu.masks_a_second(rows))
    return Outcome({"cells": suites.record(rows)}, _joined(tables), targets_gpu.judge_masks(rows))


def run_mixing(options: Options, deadline: float) -> Outcome:
    """Time mixing against torch.where and a copy."""
    rows = suites.run(options.mix_cases, mix_candidates, options.device, options.rounds, deadline, options.backend)
    tables = [detail(row, "mix") for row in rows]
    return Outcome({"cells": suites.record(rows)}, _joined(tables), targets_gpu.judge_mixing(rows))


def run_training(options: Options, _: float) -> Outcome:
    """Time training steps with and without masks: by the examples' trainer, or a plain one where it cannot run."""
    try:
        from benchmarks import training
        from segmentation.config import Config
        from segmentation.presets import CAMVID
    except ImportError as error:
        from benchmarks import plain_training

        setting = plain_training.SMOKE if options.smoke else plain_training.CARD
        results, share, peak = plain_training.compare(setting, options.device, Plan(options.rounds))
        described = {
            "trainer": f"plain, since {error}",
            **{name: str(value) for name, value in asdict(setting).items()},
        }
    else:
        tiny = Config(encoder="tu-lcnet_050", encoder_weights="none", size=(32, 64), batch_size=2)
        config = tiny if options.smoke else replace(CAMVID, precision="bf16")
        results, share, peak = training.compare(config, "cowmix", Plan(options.rounds))
        described = training.options_of(config)
    lines = [
        f"{name:<12}{1 / result.seconds[1]:8.2f} steps a second" + _memory(result) for name, result in results.items()
    ]
    record = {
        "options": described,
        "methods": {name: suites.written(result) for name, result in results.items()},
        "share of masks and mixing": share,
        "peak memory in all, bytes": peak,
    }
    return Outcome(record, lines, [targets_gpu.judge_training(share)])


def _memory(result: Result) -> str:
    return "" if result.peak is None else f", {result.peak / 2**20:,.0f} MiB at most in one"


def _joined(tables: Sequence[list[str]]) -> list[str]:
    return [line for table in tables for line in (*table, "")]


RUN = {"tests": run_tests, "masks": run_masks, "mixing": run_mixing, "training": run_training}


def run(suite: str, options: Options, deadline: float) -> Outcome:
    """Run one suite until about `deadline`, by time.monotonic(). A suite that fails leaves the others alone."""
    outcome = attempt(lambda: RUN[suite](options, deadline))
    if isinstance(outcome, str):
        return Outcome({"problem": outcome}, [outcome], [f"NOT MET: {suite}: {outcome}"], good=False)
    return outcome
