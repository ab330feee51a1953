"""A small census finds no difference from Listing 1; it finds other masks than those asked for."""

import numpy as np
import pytest

from tests.census import FALSE_ALARMS, SETTINGS, Sample, Setting, comparisons, drawn, listing_1, runs

N = 600
LEVEL = FALSE_ALARMS / 1000  # the tests make fewer comparisons
DEFAULT, WIDE, SIGNALS = SETTINGS[0], SETTINGS[3], SETTINGS[6]


@pytest.fixture(scope="module")
def default_masks() -> Sample:
    return listing_1(DEFAULT, N, seed=0)


@pytest.mark.parametrize("setting", [WIDE, SIGNALS], ids=str)
def test_masks_of_each_method_are_listing_1s(setting: Setting) -> None:
    theirs = listing_1(setting, N, seed=0)
    for method in setting.methods():
        values = comparisons(drawn(setting, method, N, seed=0), theirs)
        assert min(values.values()) > LEVEL, (method, values)


@pytest.mark.parametrize("method", DEFAULT.methods())
def test_default_masks_of_each_method_are_listing_1s(method: str, default_masks: Sample) -> None:
    assert min(comparisons(drawn(DEFAULT, method, N, seed=0), default_masks).values()) > LEVEL


@pytest.mark.parametrize(
    "other",
    [
        DEFAULT._replace(sigma=(5, 20)),
        DEFAULT._replace(proportion=(0.53, 0.53)),
        DEFAULT._replace(proportion=(0.3, 0.7)),
    ],
    ids=str,
)
def test_other_masks_are_found_out(other: Setting, default_masks: Sample) -> None:
    values = comparisons(drawn(other, "auto", N, seed=0), default_masks)
    assert min(values.values()) < LEVEL


def test_runs_are_counted() -> None:
    line = np.array([[1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0]], dtype=bool)  # the first has no beginning in sight
    assert {name: count.tolist() for name, count in runs(line).items()} == {
        "runs of 1 on axis 1": [5],
        "runs of 2 on axis 1": [2],
        "runs of 3 on axis 1": [2],
        "runs of 5 on axis 1": [0],
        "runs of 8 on axis 1": [0],
    }
