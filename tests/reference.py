"""Listing 1 of the paper in NumPy and SciPy: the one oracle of the tests and the baseline of the benchmarks.

Two things differ from the listing as printed. It compares an undefined name (`noise_smooth`), here the blurred noise.
And it thresholds at the p-quantile, which leaves 1 - p of the pixels True where the text says p: here `proportion` is
the expected fraction of True pixels, the same thing at 0.5.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import erfinv


def cow_mask(noise: NDArray[np.float64], sigma: float | Sequence[float], proportion: float) -> NDArray[np.bool_]:
    """Blur one noise image of any number of axes and threshold it; True is the paper's 1."""
    smooth = gaussian_filter(noise, sigma)  # mode "reflect", truncated at 4 sigma
    threshold = np.sqrt(2) * erfinv(1 - 2 * proportion) * smooth.std() + smooth.mean()
    return smooth > threshold


def draw_cow_mask(
    rng: np.random.Generator, size: Sequence[int], sigma: tuple[float, float], proportion: tuple[float, float]
) -> NDArray[np.bool_]:
    """Draw one mask as Listing 1 does: sigma log-uniform, proportion uniform, white noise."""
    drawn_sigma = np.exp(rng.uniform(np.log(sigma[0]), np.log(sigma[1])))
    drawn_proportion = rng.uniform(*proportion)
    return cow_mask(rng.normal(size=size), drawn_sigma, drawn_proportion)
