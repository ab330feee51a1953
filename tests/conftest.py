"""What every test file shares: each test draws the same numbers on every run."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("same examples", derandomize=True, deadline=None)
settings.load_profile("same examples")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
