"""Where a suite ran, and the file it writes."""

import ctypes
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

RESULTS = Path(__file__).parent / "results"
LIBRARIES = (
    "triton",
    "kornia",
    "torchvision",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "segmentation_models_pytorch",
    "timm",
)


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Return versions, hardware, threads and the commit; for a CUDA device, also the card."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
        "commit": _output("git", "describe", "--always", "--dirty"),
        **({} if device is None else _versions()),
        **(_card(device) if device is not None and device.type == "cuda" else {}),
    }


def _card(device: torch.device) -> dict[str, Any]:
    card = torch.cuda.get_device_properties(device)
    return {
        "card": card.name,
        "memory, GiB": round(card.total_memory / 2**30, 1),
        "multiprocessors": card.multi_processor_count,
        "L2, MiB": round(card.L2_cache_size / 2**20, 1),
        "most bytes that L2 fetches at once": _fetch_granularity(),
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        "TF32 in cuDNN": torch.backends.cudnn.allow_tf32,
        "TF32 in products": torch.backends.cuda.matmul.allow_tf32,
    }


def _fetch_granularity() -> int | None:
    """Return cudaLimitMaxL2FetchGranularity, bytes; None if the driver does not tell."""
    torch.cuda.synchronize()  # makes the context that the driver is asked about
    with suppress(OSError, AttributeError):
        value = ctypes.c_size_t()
        if ctypes.CDLL("libcuda.so.1").cuCtxGetLimit(ctypes.byref(value), 5) == 0:
            return value.value
    return None


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), None)


def save(suite: str, machine: str, result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write a result to `<suite>--<machine>.json` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{suite}--{machine}.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return path
