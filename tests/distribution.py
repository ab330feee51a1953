"""Two-sample tests of drawn masks against the oracle's.

Each comparison gives a p-value and fails below `LEVEL`. The whole suite makes at most `BUDGET` comparisons, so with
other seeds fewer than 1 run in 1,000 raises a false alarm (Bonferroni's bound, which needs no independence).
"""

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tests.reference import draw_cow_mask

FALSE_ALARMS = 1e-3
BUDGET = 1800
LEVEL = FALSE_ALARMS / BUDGET
LAGS = (1, 2, 3, 5, 8, 13)

Bools = NDArray[np.bool_]
Features = dict[str, NDArray[np.float64]]


@cache
def oracle(n: int, size: tuple[int, ...], sigma: tuple[float, float], proportion: tuple[float, float]) -> Features:
    """Draw n masks of Listing 1 and return their features. Many tests compare with the same ones."""
    rng = np.random.default_rng([0, *size])
    return features(np.stack([draw_cow_mask(rng, size, sigma, proportion) for _ in range(n)]))


def features(masks: Bools) -> Features:
    """Return the features that are compared, by name: one number for each of the masks (n, *size)."""
    n, *size = masks.shape

    def share(pixels: Bools) -> NDArray[np.float64]:
        flat = pixels.reshape(n, -1)
        return np.count_nonzero(flat, axis=1) / flat.shape[1]

    found = {"area": share(masks)}
    boundary = np.zeros(n)
    for axis, length in enumerate(size, start=1):
        along = np.moveaxis(masks, axis, -1)
        for lag in (lag for lag in LAGS if lag < length // 2):
            found[f"agreement at lag {lag} on axis {axis}"] = share(along[..., lag:] == along[..., :-lag])
        boundary += np.count_nonzero((along[..., 1:] != along[..., :-1]).reshape(n, -1), axis=1)
    found["boundary length"] = boundary
    # The map of marginal probabilities at 5 places per axis, borders included: single pixels and blocks around them.
    for place in itertools.product(range(5), repeat=len(size)):
        centre = [round(where * (length - 1) / 4) for where, length in zip(place, size, strict=True)]
        found[f"pixel {centre}"] = masks[(slice(None), *centre)].astype(float)
        block = tuple(
            slice(max(0, at - length // 8), at + length // 8 + 1) for at, length in zip(centre, size, strict=True)
        )
        found[f"block around {centre}"] = share(masks[(slice(None), *block)])
    return found


def p_values(ours: Features, theirs: Features) -> dict[str, float]:
    """Return one p-value per comparison: of means (Welch), and of the area's variance (Brown and Forsythe)."""
    values = {name: float(stats.ttest_ind(ours[name], theirs[name], equal_var=False).pvalue) for name in ours}
    values["variance of the area"] = float(stats.levene(ours["area"], theirs["area"], center="median").pvalue)
    return values


def assert_same_distribution(masks: Bools, theirs: Features) -> int:
    """Check that no comparison of masks (n, *size) with the oracle's features fails; return their number."""
    values = p_values(features(masks), theirs)
    failed = {name: value for name, value in values.items() if not value > LEVEL}  # NaN fails
    assert not failed, f"differ: {failed}"
    return len(values)


def assert_rows_are_independent(masks: Bools) -> int:
    """Check that masks agree on half their pixels: neighbours in the batch, and its two halves.

    The masks are (n, *size) with n even, of proportion 0.5.
    """
    flat = masks.reshape(len(masks), -1)
    middle = len(flat) // 2
    pairs = {"neighbours": (flat[::2], flat[1::2]), "halves of the batch": (flat[:middle], flat[middle:])}
    agreement = {name: (a == b).mean(1) for name, (a, b) in pairs.items()}
    assert all(share.std() > 0 for share in agreement.values()), "are the same"
    values = {name: float(stats.ttest_1samp(share, 0.5).pvalue) for name, share in agreement.items()}
    assert all(value > LEVEL for value in values.values()), f"depend on each other: {values}"
    return len(values)
