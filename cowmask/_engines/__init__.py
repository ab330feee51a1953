"""Three ways to draw masks of one distribution, one file each with one entry `draw(out, batch, ...)`.

definition  what a cow mask is, and what an engine is told about a batch
direct      blurs noise, as Listing 1 does
spectral    draws the few coefficients that the blur leaves, in the basis where it is diagonal (basis, gains)
coarse      draws noise every sigma pixels, and blurs it straight to pixels; on a CPU only
"""

from functools import lru_cache

from cowmask._engines import coarse, direct, spectral
from cowmask._engines.definition import Batch, acts_as_gaussian

__all__ = ["Batch", "coarse", "direct", "fastest", "spectral"]


def fastest(batch: Batch) -> str:
    """Return the method that should take the least time."""
    drawn_on_cpu = batch.noise is None and batch.sigma.device.type == "cpu"
    return _fastest(len(batch.sigma), batch.size, tuple(batch.bounds_in_pixels), drawn_on_cpu=drawn_on_cpu)


@lru_cache(maxsize=256)
def _fastest(n: int, size: tuple[int, ...], bounds: tuple[tuple[float, float], ...], *, drawn_on_cpu: bool) -> str:
    if drawn_on_cpu and acts_as_gaussian(size, bounds):
        # The mean mask of a log-uniform sigma takes about as long as one of this sigma.
        typical = [low ** (2 / 3) * high ** (1 / 3) for low, high in bounds]
        return "spectral" if spectral.cost_drawn(n, size, typical) <= coarse.cost_drawn(size, typical) else "coarse"
    return "spectral" if spectral.cost(size, bounds) <= direct.cost(size, bounds) else "direct"
