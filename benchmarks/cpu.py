"""What the suites for a CPU share: their options, and what they do with what they found."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import suites
from benchmarks.record import RESULTS, environment, save

CPU = torch.device("cpu")
RUNS = Path(__file__).parents[1] / "runs" / "bench"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
SLOWEST = 3.0  # seconds: a call that takes longer is timed once


@dataclass(frozen=True)
class Options:
    """How to time, and where to write."""

    threads: int = 2
    """CPU threads of torch. Listing 1 uses one."""
    rounds: int = 15
    """Interleaved repeats, where the time allows."""
    budget: float = 240.0
    """Seconds, about; what is warmed up, or slow, comes on top."""
    save: str | None = None
    """Name of this machine: writes to benchmarks/results and docs/images, not to runs/bench."""

    @property
    def images(self) -> Path:
        """Where pictures go."""
        return RUNS if self.save is None else IMAGES


def measure(
    options: Options, cells: Sequence[suites.C], methods: Callable[[suites.C], suites.Methods]
) -> list[suites.Row[suites.C]]:
    """Time the methods of each cell on the CPU."""
    torch.set_num_threads(options.threads)
    deadline = time.monotonic() + options.budget
    return suites.run(cells, lambda cell, *_: methods(cell), CPU, options.rounds, deadline, slowest=SLOWEST)


def write(suite: str, options: Options, found: Mapping[str, Any]) -> Path:
    """Write what a suite found, with where, and return the file."""
    result = {"environment": environment(CPU), "rounds": options.rounds, **found}
    return save(suite, options.save or "here", result, RUNS if options.save is None else RESULTS)
