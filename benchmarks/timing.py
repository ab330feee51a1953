"""What every suite shares: interleaved timing, and a record of where it ran."""

import json
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

RESULTS = Path(__file__).parent / "results"


def time_interleaved(methods: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of every call, (rounds,) per method, after one warm-up call each."""
    for call in methods.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, call in methods.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in seconds.items()}


def environment() -> dict[str, Any]:
    """Return versions, hardware, threads and the commit."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
    }


def save(suite: str, machine: str, result: Mapping[str, Any]) -> Path:
    """Write a result to `results/<suite>--<machine>.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{suite}--{machine}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path
