"""Two-sample tests of drawn masks against the oracle's.

Every comparison gives a p-value, and fails below `LEVEL`. `BUDGET` bounds how many the whole suite makes, so that it
raises a false alarm in fewer than 1 in 1,000 runs with other seeds (Bonferroni: whatever their dependence).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tests.reference import draw_cow_mask

FALSE_ALARMS = 1e-3
BUDGET = 1800
LEVEL = FALSE_ALARMS / BUDGET
LAGS = (1, 2, 3, 5, 8, 13)

Bools = NDArray[np.bool_]


def oracle_masks(
    n: int, size: Sequence[int], sigma: tuple[float, float], proportion: tuple[float, float], seed: int = 0
) -> Bools:
    """Draw n masks of Listing 1, (n, *size)."""
    rng = np.random.default_rng([seed, *size])
    return np.stack([draw_cow_mask(rng, size, sigma, proportion) for _ in range(n)])


def features(masks: Bools) -> dict[str, NDArray[np.float64]]:
    """Return what is compared: one number for each of the masks (n, *size), under each name."""
    n, *size = masks.shape
    found = {"area": masks.reshape(n, -1).mean(1)}
    boundary = np.zeros(n)
    for axis, length in enumerate(size, start=1):
        for lag in (lag for lag in LAGS if lag < length // 2):
            ahead, behind = (np.take(masks, range(*ends), axis) for ends in ((lag, length), (0, length - lag)))
            found[f"agreement at lag {lag} on axis {axis}"] = (ahead == behind).reshape(n, -1).mean(1)
        boundary += np.diff(masks, axis=axis).reshape(n, -1).sum(1)
    found["boundary length"] = boundary
    # The marginal probability map, at 5 places an axis, borders included: single pixels, and blocks around them.
    for place in itertools.product(range(5), repeat=len(size)):
        centre = [round(where * (length - 1) / 4) for where, length in zip(place, size, strict=True)]
        found[f"pixel {centre}"] = masks[(slice(None), *centre)].astype(float)
        block = tuple(
            slice(max(0, at - length // 8), at + length // 8 + 1) for at, length in zip(centre, size, strict=True)
        )
        found[f"block around {centre}"] = masks[(slice(None), *block)].reshape(n, -1).mean(1)
    return found


def p_values(ours: Bools, theirs: Bools) -> dict[str, float]:
    """Return one p-value a comparison: of means (Welch), and of the area's variance (Brown and Forsythe)."""
    a, b = features(ours), features(theirs)
    values = {name: float(stats.ttest_ind(a[name], b[name], equal_var=False).pvalue) for name in a}
    values["variance of the area"] = float(stats.levene(a["area"], b["area"], center="median").pvalue)
    return values


def assert_same_distribution(ours: Bools, theirs: Bools) -> int:
    """Check that no comparison fails; return how many there were."""
    values = p_values(ours, theirs)
    failed = {name: value for name, value in values.items() if not value > LEVEL}  # NaN fails
    assert not failed, f"differ: {failed}"
    return len(values)


def assert_rows_are_independent(masks: Bools) -> int:
    """Check that masks (n, *size) of proportion 0.5, n even, agree on half their pixels: neighbours, and the halves."""
    flat = masks.reshape(len(masks), -1)
    middle = len(flat) // 2
    pairs = {"neighbours": (flat[::2], flat[1::2]), "halves of the batch": (flat[:middle], flat[middle:])}
    agreement = {name: (a == b).mean(1) for name, (a, b) in pairs.items()}
    assert all(share.std() > 0 for share in agreement.values()), "are the same"
    values = {name: float(stats.ttest_1samp(share, 0.5).pvalue) for name, share in agreement.items()}
    assert all(value > LEVEL for value in values.values()), f"depend on each other: {values}"
    return len(values)
