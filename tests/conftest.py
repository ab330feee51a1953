"""What every test file shares: each test draws the same numbers on every run."""

import os

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported: without a GPU, they run interpreted

settings.register_profile("same examples", derandomize=True, deadline=None)
settings.load_profile("same examples")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
