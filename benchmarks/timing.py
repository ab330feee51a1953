"""Timing on the host and on a GPU: what every suite shares."""

import ctypes
import math
import random
import re
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

# A region of calls is timed as a whole. CUDA events resolve it if it is long enough; if not too long, it goes round all
# sets of buffers, which together hold CACHES times the cache.
SHORTEST, LONGEST = 2e-3, 50e-3  # seconds
MOST_CALLS, MOST_SETS, CACHES = 256, 64, 4

T = TypeVar("T")
Launch = Literal["eager", "graph"]
LAUNCHES: tuple[Launch, ...] = ("eager", "graph")


class AbsentError(Exception):
    """A candidate cannot be timed here, or not by this launch; the message says why."""


@dataclass(frozen=True)
class Candidate:
    """One way to do the work that is timed."""

    call: Callable[[], object]
    no_graph: str = ""
    """Why the call is not captured as a CUDA graph; empty if it is."""
    own_memory: bool = False
    """The call allocates memory past torch, so its peak is not known."""


Candidates = Mapping[str, Candidate | str]  # by name; a str says why the candidate is absent


@dataclass
class Result:
    """Measurements of a candidate; a str says why there is none."""

    eager: list[float] | str
    """Quartiles of the seconds of a call launched from Python."""
    graph: list[float] | str
    """Quartiles of the seconds of a call in a CUDA graph."""
    peak: int | None = None
    """Bytes allocated during a call."""
    regions: int = 0
    """Regions timed."""
    calls: int = 0
    """Calls in a region."""
    cold: bool = False
    """The first call was too slow to be repeated."""

    @property
    def seconds(self) -> list[float]:
        """The quartiles of eager calls; AbsentError if there are none."""
        if isinstance(self.eager, str):
            raise AbsentError(self.eager)
        return self.eager

    def times(self, launch: Launch) -> list[float] | str:
        """Return the quartiles of eager calls or of a graph."""
        return self.eager if launch == "eager" else self.graph


@dataclass(frozen=True)
class Plan:
    """How long and how often to time the candidates of a case."""

    rounds: int
    seconds: float = math.inf
    """Time for all candidates together; a candidate stops after its part."""
    sets: int = 1
    """Sets of buffers that successive calls rotate over."""
    slowest: float = math.inf
    """Seconds; a slower first call is not repeated."""


def rotation(touched: int, device: torch.device) -> int:
    """Return how many sets of `touched` bytes it takes for a set to leave the cache before its next turn."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0
    return min(MOST_SETS, max(2, math.ceil(CACHES * cache / touched)))


def measure(candidates: Candidates, device: torch.device, plan: Plan) -> dict[str, Result]:
    """Time the candidates in interleaved rounds, first call by call, then as CUDA graphs.

    A candidate that fails leaves the others alone. Warm-ups come first; those that do not begin in half of the time are
    left out, except for the first.
    """
    begin = time.perf_counter()
    started: dict[str, _Run | str] = {}
    for name, candidate in candidates.items():
        late = bool(started) and time.perf_counter() - begin > plan.seconds / 2
        started[name] = "out of time" if late else _start(candidate, device, plan)
    plan = replace(plan, seconds=max(0.0, plan.seconds - (time.perf_counter() - begin)))
    runs = {name: run for name, run in started.items() if isinstance(run, _Run)}
    eager = _interleaved({name: run.region for name, run in runs.items()}, plan)
    # Captures come last: what a failed capture leaves behind would spoil the eager calls.
    captured = {name: attempt(run.capture) for name, run in runs.items()}
    replays = {name: region for name, region in captured.items() if not isinstance(region, str)}
    graph = {name: why for name, why in captured.items() if isinstance(why, str)} | _interleaved(replays, plan)
    results = {}
    for name, run in started.items():
        if isinstance(run, _Run):
            samples = eager[name]
            count = 0 if isinstance(samples, str) else len(samples)
            results[name] = Result(_quartiles(samples), _quartiles(graph[name]), run.peak, count, run.calls, run.cold)
        else:
            results[name] = Result(run, run)
    return results


class _Run:
    """A candidate that is warm, and how many of its calls make a region."""

    def __init__(self, candidate: Candidate, device: torch.device, plan: Plan) -> None:
        self._candidate, self._device, self._sets = candidate, device, plan.sets
        # Freed at once, an output would pass its cached memory on to the next.
        kept: deque[object] = deque(maxlen=plan.sets)
        self._call = lambda: kept.append(candidate.call())
        self.peak: int | None = None
        self.calls, self._first = 1, _seconds(self._call, 1, device)  # compiles, plans, makes tables
        self.cold = self._first > plan.slowest
        if self.cold:
            return
        if device.type == "cpu":
            self.peak = _peak_of_process(candidate.call)
        elif device.type == "cuda" and not candidate.own_memory:
            self.peak = _peak(self._call)
        once = _seconds(self._call, 1, device)
        self.calls = max(1, math.ceil(SHORTEST / once), min(plan.sets, int(LONGEST / once)))
        self.calls = min(MOST_CALLS, self.calls)

    def region(self) -> float:
        """Time a region of eager calls; return the mean seconds of a call."""
        return self._first if self.cold else _seconds(self._call, self.calls, self._device)

    def capture(self) -> Callable[[], float]:
        """Capture a region as a CUDA graph; return a function that times its replays."""
        if self._device.type != "cuda":
            raise AbsentError("needs CUDA")
        if self._candidate.no_graph:
            raise AbsentError(self._candidate.no_graph)
        graph = _captured(self._candidate.call, self.calls, self._sets)
        graph.replay()
        replays = math.ceil(SHORTEST / _seconds(graph.replay, 1, self._device))
        return lambda: _seconds(graph.replay, min(MOST_CALLS, replays), self._device) / self.calls


def _start(candidate: Candidate | str, device: torch.device, plan: Plan) -> _Run | str:
    return candidate if isinstance(candidate, str) else attempt(lambda: _Run(candidate, device, plan))


def attempt(action: Callable[[], T]) -> T | str:
    """Return what the action returns, or a str that says why it failed."""
    try:
        return action()
    except AbsentError as absent:
        return str(absent)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return "out of memory"
    except Exception as error:  # a library may raise anything
        return f"failed: {type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, cut to fit a table."""
    return next(iter(str(error).splitlines()), "")[:200]


def _interleaved(regions: Mapping[str, Callable[[], float]], plan: Plan) -> dict[str, list[float] | str]:
    part = plan.seconds / 2 / max(1, len(regions))  # half for eager calls, half for graphs
    samples: dict[str, list[float] | str] = {name: [] for name in regions}
    spent = dict.fromkeys(regions, 0.0)
    shuffle = random.Random(0)
    for _ in range(plan.rounds):
        # Shuffled, so that no candidate always meets the caches left by the same other one.
        for name, region in shuffle.sample(sorted(regions.items()), len(regions)):
            so_far = samples[name]
            if isinstance(so_far, str) or spent[name] > part:
                continue
            start = time.perf_counter()
            sample = attempt(region)
            spent[name] += time.perf_counter() - start
            if isinstance(sample, str):
                samples[name] = sample
            else:
                so_far.append(sample)
    return samples


def _quartiles(samples: list[float] | str) -> list[float] | str:
    return samples if isinstance(samples, str) else [float(at) for at in np.percentile(samples, [25, 50, 75])]


def _seconds(call: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return the mean seconds of a call over `calls` calls, by CUDA events on a GPU."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / calls


def _peak(call: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_of_process(call: Callable[[], object]) -> int | None:
    """Return by how many bytes resident memory grows during a call, to some 100 KiB; None if not on Linux."""
    peak_reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not peak_reset.exists():
        return None
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # freed memory that is still held would hide what the call needs
    peak_reset.write_text("5")  # sets VmHWM, the peak, to the current VmRSS

    def resident(name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        return 1024 * int(found[1]) if found else 0

    before = resident("VmRSS")
    result = call()
    peak = resident("VmHWM")
    del result
    return max(0, peak - before)


_broken: list[torch.cuda.CUDAGraph] = []  # kept alive: torch's allocator may still point to them


def _captured(call: Callable[[], object], calls: int, sets: int) -> torch.cuda.CUDAGraph:
    """Return a CUDA graph of `calls` calls.

    Raises:
        AbsentError: A call waits for the device, or the capture fails.
    """
    # 1. Refuse a call that waits for the device before its capture can fail.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        raise AbsentError(f"cannot be captured: {first_line(error)}") from error
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # 2. Warm up on another stream, as torch asks for.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    # 3. Capture. The outer context restores the stream, which a failed capture does not.
    graph, kept = torch.cuda.CUDAGraph(), deque[object](maxlen=sets)
    try:
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph):
            for _ in range(calls):
                kept.append(call())
    except Exception as error:
        graph.reset()
        _broken.append(graph)
        raise AbsentError(f"cannot be captured: {first_line(error)}") from error
    return graph
