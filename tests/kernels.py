"""What the tests of the kernels share: where they run, and what proves that they did.

Without a GPU they are interpreted, on the CPU (`TRITON_INTERPRET=1`, see `conftest.py`).
"""

from typing import Any

import pytest
import torch

pytest.importorskip("triton")

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
marks = [pytest.mark.cuda] if ON_GPU else []


class Spy:
    """A kernel that counts its launches."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.launches = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.launches += 1
        return self.kernel[grid]


def spy_on(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Spy:
    spy = Spy(getattr(module, name))
    monkeypatch.setattr(module, name, spy)
    return spy
