"""The processes of a run, one on each device."""

import sys
from collections.abc import Callable

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list


def processes() -> PartialState:
    """Return this process's rank and the number of processes, with or without a GPU."""
    return PartialState(cpu=not torch.accelerator.is_available())


def on_first(act: Callable[[], object]) -> None:
    """Let the first process do something while the others wait; if it raises an error, they end with it."""
    error: Exception | None = None
    if processes().is_main_process:
        try:
            act()
        except Exception as raised:
            error = raised
    has_failed = [error is not None]
    broadcast_object_list(has_failed)
    if error:
        raise error
    if has_failed[0]:
        sys.exit(1)  # the first process says why
