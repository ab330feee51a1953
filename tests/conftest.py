"""What every test file shares: the same numbers drawn on every run, and one thread a process."""

import os
import sys

import pytest
import torch
from hypothesis import settings

collect_ignore = ["mutants.py"]  # imports cosmic-ray, which only `make mutants` installs

# `make test` runs a process per core. The variables are for processes that tests start, and for inductor.
torch.set_num_threads(1)
os.environ |= {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # set before the kernels are imported, so that they run interpreted

settings.register_profile("same examples", derandomize=True, deadline=None)
settings.load_profile("same examples")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _forget_precision() -> None:
    # accelerate keeps the first precision of a process. The tests of cowmask itself run without accelerate.
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
