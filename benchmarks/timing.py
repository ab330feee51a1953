"""Timing, on the host and on a GPU: what every suite shares."""

import ctypes
import math
import random
import re
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

# On a GPU a region of calls is timed as a whole: at least so long that events resolve it, and no longer than this to
# rotate over buffers of so many times the cache.
SHORTEST, LONGEST = 2e-3, 50e-3  # seconds
MOST_CALLS, MOST_SETS, CACHES = 256, 64, 4

T = TypeVar("T")
Way = Literal["eager", "graph"]
WAYS: tuple[Way, ...] = ("eager", "graph")


class AbsentError(Exception):
    """A method cannot be timed here, or not in this way; the message says why."""


@dataclass(frozen=True)
class Method:
    """One way to do the work that is timed."""

    call: Callable[[], object]
    no_graph: str = ""
    """Why no CUDA graph of it is tried; empty if one is."""
    own_memory: bool = False
    """It allocates past torch, which then cannot tell its peak."""


@dataclass
class Result:
    """What was measured of a method; in words, why it was not."""

    eager: list[float] | str
    """Quartiles of the seconds a call takes."""
    graph: list[float] | str
    """The same, the calls replayed as a CUDA graph."""
    peak: int | None = None
    """Bytes allocated during a call, on top of what was before."""
    regions: int = 0
    """How many regions the quartiles are of."""
    calls: int = 0
    """How many calls a region holds."""
    cold: bool = False
    """It took too long to be called again: this was its first call, and its only one."""

    @property
    def seconds(self) -> list[float]:
        """The quartiles of eager calls; an error if there are none."""
        if isinstance(self.eager, str):
            raise AbsentError(self.eager)
        return self.eager

    def times(self, way: Way) -> list[float] | str:
        """Return the quartiles, of calls one by one or as a graph."""
        return self.eager if way == "eager" else self.graph


@dataclass(frozen=True)
class Plan:
    """How long and how often to time the methods of a cell."""

    rounds: int
    seconds: float = math.inf
    """For all methods together, warm-up apart. A method that has used its part of them is timed no more."""
    sets: int = 1
    """Sets of buffers that the calls rotate over, outputs included."""
    slowest: float = math.inf
    """Seconds of a first call from which on it stays the only one."""


def rotation(touched: int, device: torch.device) -> int:
    """Return how many sets of `touched` bytes it takes for none to be in the cache still when its turn comes."""
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0
    return min(MOST_SETS, max(2, math.ceil(CACHES * cache / touched)))


def measure(methods: Mapping[str, Method | str], device: torch.device, plan: Plan) -> dict[str, Result]:
    """Time the methods in interleaved rounds, first call by call, then as CUDA graphs.

    A method given as a str is absent, and that is why. One that fails leaves the others alone.
    """
    started = {name: _started(method, device, plan) for name, method in methods.items()}
    runs = {name: run for name, run in started.items() if isinstance(run, _Run)}
    eager = _interleaved({name: run.region for name, run in runs.items()}, plan)
    # Last of all: what a capture that fails leaves behind cannot spoil the calls above.
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
    """A method that is warm, and how many of its calls make a region."""

    def __init__(self, method: Method, device: torch.device, plan: Plan) -> None:
        self._method, self._device, self._sets = method, device, plan.sets
        kept: deque[object] = deque(maxlen=plan.sets)  # freed at once, an output would be the next one's memory
        self._call = lambda: kept.append(method.call())
        self.peak: int | None = None
        self.calls, self._first = 1, _seconds(self._call, 1, device)  # compiles, plans, makes tables
        self.cold = self._first > plan.slowest
        if self.cold:
            return
        if device.type == "cpu":
            self.peak = _peak_of_process(method.call)
        elif device.type == "cuda" and not method.own_memory:
            self.peak = _peak(self._call)
        once = _seconds(self._call, 1, device)
        self.calls = max(1, math.ceil(SHORTEST / once), min(plan.sets, int(LONGEST / once)))
        self.calls = min(MOST_CALLS, self.calls)

    def region(self) -> float:
        """Return the seconds of a call, the mean of a region."""
        return self._first if self.cold else _seconds(self._call, self.calls, self._device)

    def capture(self) -> Callable[[], float]:
        """Return the same, the region being a graph that is replayed."""
        if self._device.type != "cuda":
            raise AbsentError("needs CUDA")
        if self._method.no_graph:
            raise AbsentError(self._method.no_graph)
        graph = _captured(self._method.call, self.calls, self._sets)
        graph.replay()
        replays = math.ceil(SHORTEST / _seconds(graph.replay, 1, self._device))
        return lambda: _seconds(graph.replay, min(MOST_CALLS, replays), self._device) / self.calls


def _started(method: Method | str, device: torch.device, plan: Plan) -> _Run | str:
    return method if isinstance(method, str) else attempt(lambda: _Run(method, device, plan))


def attempt(action: Callable[[], T]) -> T | str:
    """Return what the action returns; if it fails, why."""
    try:
        return action()
    except AbsentError as absent:
        return str(absent)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return "out of memory"
    except Exception as error:  # any library's; the others are to be timed all the same
        return f"failed: {type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """Return what an error says, short enough for a table's note."""
    return next(iter(str(error).splitlines()), "")[:200]


def _interleaved(regions: Mapping[str, Callable[[], float]], plan: Plan) -> dict[str, list[float] | str]:
    part = plan.seconds / 2 / max(1, len(regions))  # half for calls, half for graphs
    samples: dict[str, list[float] | str] = {name: [] for name in regions}
    spent = dict.fromkeys(regions, 0.0)
    shuffle = random.Random(0)
    for _ in range(plan.rounds):
        # In another order each time: what one leaves in the caches is not always the same one's loss.
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
    """Return the seconds of a call, the mean of so many, by the device's own clock if it has one."""
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
    """Return how much the resident memory grows during a call, to some 100 KiB; None where Linux does not tell."""
    peak_reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not peak_reset.exists():
        return None
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # what earlier calls left would hide what this one needs
    peak_reset.write_text("5")  # the peak is now what is resident

    def resident(name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        return 1024 * int(found[1]) if found else 0

    before = resident("VmRSS")
    result = call()
    peak = resident("VmHWM")
    del result
    return max(0, peak - before)


_broken: list[torch.cuda.CUDAGraph] = []


def _captured(call: Callable[[], object], calls: int, sets: int) -> torch.cuda.CUDAGraph:
    """Return a graph of so many calls; refuse a call that waits for the device, without attempting the capture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode is called a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        raise AbsentError(f"cannot be captured: {first_line(error)}") from error
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph, kept = torch.cuda.CUDAGraph(), deque[object](maxlen=sets)
    try:
        # The outer one goes back to the stream of before, which a capture that fails does not.
        with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph):
            for _ in range(calls):
                kept.append(call())
    except Exception as error:
        graph.reset()
        _broken.append(graph)  # torch's allocator may still point to it
        raise AbsentError(f"cannot be captured: {first_line(error)}") from error
    return graph
