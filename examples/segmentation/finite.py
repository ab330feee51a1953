"""Notice numbers that are not finite any more, without waiting for the device."""

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from torch import Tensor


class Watch:
    """Count the iterations until a loss or a weight is NaN or infinite, on the device."""

    waits: bool  # whether to read the count is to wait for the device

    def __init__(self, accelerator: Accelerator, done: int) -> None:
        """Begin after `done` iterations."""
        self._accelerator = accelerator
        self.waits = accelerator.device.type != "cpu"
        self._count = torch.full((1,), done, device=accelerator.device)
        self._sound = torch.ones(1, dtype=torch.bool, device=accelerator.device)

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Note the losses of the next iteration, and the weights where they are about to be saved."""
        device = self._sound.device  # some buffers, such as counters, stay on the CPU
        self._sound &= torch.stack([tensor.isfinite().all().to(device) for tensor in tensors]).all()
        self._count += self._sound

    def count(self) -> int:
        """Return how many iterations all numbers of all processes were finite in."""
        return int(self._accelerator.gather(self._count).min().item())
