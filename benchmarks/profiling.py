"""The share of masks and mixing in a training step, and the memory of a process; by torch alone."""

import resource
import sys
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile, record_function


def share_of_masks(step: Callable[[], object], device: torch.device, steps: int) -> float:
    """Return the share of what runs under `record_function("cowmask")` in the device time of a step."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            with record_function("step"):
                step()
    ranges = {
        event.key: event.device_time_total if on_gpu else event.cpu_time_total
        for event in profiler.key_averages()
        if event.device_type.name == "CPU" and event.key in ("step", "cowmask")
    }
    if not on_gpu:
        return ranges.get("cowmask", 0.0) / ranges["step"]
    # Not the range of the step: the backward pass launches its kernels from another thread.
    kernels = [event for event in profiler.key_averages() if event.device_type.name == "CUDA"]
    return ranges.get("cowmask", 0.0) / sum(
        event.self_device_time_total for event in kernels if not event.is_user_annotation
    )


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process, bytes: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
