"""Whether Triton's interpreter, which runs the kernels without a GPU, can do so here."""

from importlib.util import find_spec

import numpy as np


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")[:2]))


def fails() -> bool:
    """Return whether Triton is older than 3.8 and NumPy is not: the interpreter then fails at a loop's bound."""
    if find_spec("triton") is None or version(np.__version__) < (2, 4):
        return False
    import triton

    return version(triton.__version__) < (3, 8)
