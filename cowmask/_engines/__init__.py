"""Ways to draw masks of one distribution, one file each with one entry `draw(out, ...)`.

definition  what a cow mask is, and what an engine is told about a batch
direct      blurs noise, as Listing 1 does
spectral    draws the few coefficients that the blur leaves, in the basis where it is diagonal (basis, gains)
fused       does the same on a GPU, in three launches
coarse      draws noise every sigma pixels, and blurs it straight to pixels; on a CPU only
"""

from functools import lru_cache

import torch

from cowmask._engines import coarse, direct, fused, spectral
from cowmask._engines.definition import Batch, acts_as_gaussian
from cowmask._engines.gains import n_coefficients

__all__ = ["Batch", "coarse", "direct", "fastest", "fused", "spectral"]

_MOST_COEFFICIENTS_ON_GPU = 1024  # along an axis; with more, the spectral method's products take too long


def fastest(
    n: int, size: tuple[int, ...], bounds: tuple[tuple[float, float], ...], device: torch.device, *, drawn: bool
) -> str:
    """Return the method that should take the least time.

    Args:
        n: Number of masks.
        size: Lengths of the axes.
        bounds: Of sigma along each axis, in pixels.
        device: Where the masks are.
        drawn: Whether their noise is drawn, and not given.
    """
    return _fastest(n, size, bounds, on_cpu=device.type == "cpu", drawn=drawn)


@lru_cache(maxsize=256)
def _fastest(
    n: int, size: tuple[int, ...], bounds: tuple[tuple[float, float], ...], *, on_cpu: bool, drawn: bool
) -> str:
    if not on_cpu:
        counts = [n_coefficients(length, low) for length, (low, _) in zip(size, bounds, strict=True)]
        return "spectral" if max(counts) <= _MOST_COEFFICIENTS_ON_GPU else "direct"
    if drawn and acts_as_gaussian(size, bounds):
        # The mean mask of a log-uniform sigma takes about as long as one of this sigma.
        typical = [low ** (2 / 3) * high ** (1 / 3) for low, high in bounds]
        return "spectral" if spectral.cost_drawn(n, size, typical) <= coarse.cost_drawn(size, typical) else "coarse"
    return "spectral" if spectral.cost(size, bounds) <= direct.cost(size, bounds) else "direct"
