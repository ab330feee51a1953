"""Choose the backend that computes: torch, or the Triton kernels."""

import importlib.util
import os
from functools import cache

import torch

BACKENDS = ("auto", "torch", "triton")


def use_triton(backend: str, device: torch.device, *, products: bool = False) -> bool:
    """Tell whether the Triton kernels compute on a device. Raise if they are asked for by name and cannot.

    `products` is for kernels that multiply matrices of float16, which "auto" leaves to torch on GPUs without tensor
    cores that Triton can use.
    """
    interpreted = os.environ.get("TRITON_INTERPRET", "0") == "1"
    if backend == "torch" or (backend == "auto" and (interpreted or device.type != "cuda")):
        return False
    problem = _problem(device.type, interpreted)
    if backend == "triton" and problem is not None:
        raise RuntimeError(f'backend="triton" cannot be used: {problem}')
    return problem is None and (backend == "triton" or not products or _multiplies(device))


@cache
def _multiplies(device: torch.device) -> bool:
    # Below 8.0, Triton multiplies by scalar instructions, and spills.
    return torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _problem(device_type: str, interpreted: bool) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if interpreted:
        return None
    if device_type != "cuda":
        return f"Triton computes on a GPU, got tensors on {device_type!r}; TRITON_INTERPRET=1 interprets its kernels"
    from triton.runtime import driver

    try:
        driver.active.get_current_target()  # needs a C compiler, which may be missing
    except Exception as error:
        return f"Triton found no GPU that it can use ({error})"
    return None
