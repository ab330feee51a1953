"""What every suite does: time the candidates of each case, and record the results."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from benchmarks.cases import C, Case, MixCase
from benchmarks.timing import Candidates, Plan, Result, attempt, measure, rotation

C_co = TypeVar("C_co", bound=Case, covariant=True)


@dataclass(frozen=True)
class Row(Generic[C_co]):
    """The results of one case."""

    case: C_co
    results: Mapping[str, Result]
    problem: str = ""
    """Why there are no results."""


def run(
    cases: Sequence[C],
    candidates: Callable[[C, torch.device, int, str], Candidates],
    device: torch.device,
    rounds: int,
    deadline: float,
    backend: str = "auto",
    slowest: float = math.inf,
) -> list[Row[C]]:
    """Time all cases, each in an equal part of the time left.

    Args:
        cases: What to draw or mix.
        candidates: Returns the candidates of a case, given the device, the number of buffer sets, and the backend.
        device: Where to time.
        rounds: Interleaved repeats, if the time allows.
        deadline: When to stop, about; by time.monotonic().
        backend: For `candidates`.
        slowest: Seconds; a slower first call is not repeated.
    """
    rows: list[Row[C]] = []
    for index, case in enumerate(cases):
        left = deadline - time.monotonic()
        if left <= 0:
            rows.append(Row(case, {}, "out of time"))
            continue
        print(f"  {case}", file=sys.stderr)
        sets = rotation(case.touched, device)
        found = attempt(partial(candidates, case, device, sets, backend))
        if isinstance(found, str):
            rows.append(Row(case, {}, found))
            continue
        plan = Plan(rounds, left / (len(cases) - index), sets, slowest)
        rows.append(Row(case, measure(found, device, plan)))
        del found  # makes room for the next case
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def results_of(rows: Sequence[Row[Case]], case: Case) -> Mapping[str, Result]:
    """Return the results of one case; none if the case was not run."""
    return next((row.results for row in rows if row.case == case), {})


def record(rows: Sequence[Row[Case]]) -> list[dict[str, Any]]:
    """Return the results for a JSON file, times in microseconds an item."""
    # Files written before have "cell" for case and "method" for candidate.
    return [
        {
            "cell": {
                name: str(value) if isinstance(value, torch.dtype) else value
                for name, value in asdict(row.case).items()
            }
        }
        | ({"bytes moved at least": row.case.moved} if isinstance(row.case, MixCase) else {})
        | ({"problem": row.problem} if row.problem else {})
        | {"methods": {name: written(result, row.case.items) for name, result in row.results.items()}}
        for row in rows
    ]


def written(result: Result, items: int = 1) -> dict[str, Any]:
    """Return one result for a JSON file, times divided by `items`."""
    times = {
        f"{name}, microseconds": values if isinstance(values, str) else [round(at / items * 1e6, 4) for at in values]
        for name, values in (("eager", result.eager), ("graph", result.graph))
    }
    counts = {"regions": result.regions, "calls in a region": result.calls}
    return times | {"peak memory, bytes": result.peak} | counts | ({"one cold call": True} if result.cold else {})
