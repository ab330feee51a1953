"""What the suites for a CPU share: options, timing and files."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import suites
from benchmarks.cases import C
from benchmarks.record import RESULTS, environment, save
from benchmarks.timing import Candidates

CPU = torch.device("cpu")
RUNS = Path(__file__).parents[1] / "runs" / "bench"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
SLOWEST = 3.0  # seconds; a candidate whose first call takes longer is timed once


@dataclass(frozen=True)
class Options:
    """How to time, and where to write."""

    threads: int = 2
    """CPU threads of torch. Listing 1 always uses one."""
    rounds: int = 15
    """Interleaved repeats, where the time allows."""
    budget: float = 240.0
    """Seconds, about, without warm-up and slow calls."""
    save: str | None = None
    """Name of this machine; results go to benchmarks/results and docs/images instead of runs/bench."""

    @property
    def images(self) -> Path:
        """Where pictures go."""
        return RUNS if self.save is None else IMAGES


def measure(options: Options, cases: Sequence[C], candidates: Callable[[C], Candidates]) -> list[suites.Row[C]]:
    """Time the candidates of each case on the CPU."""
    torch.set_num_threads(options.threads)
    deadline = time.monotonic() + options.budget
    return suites.run(cases, lambda case, *_: candidates(case), CPU, options.rounds, deadline, slowest=SLOWEST)


def write(suite: str, options: Options, found: Mapping[str, Any]) -> Path:
    """Write what a suite found, and where it ran; return the file."""
    result = {"environment": environment(CPU), "rounds": options.rounds, **found}
    return save(suite, options.save or "here", result, RUNS if options.save is None else RESULTS)
