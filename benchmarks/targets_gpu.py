"""What the library promises on an H100, and whether a run kept it."""

from collections.abc import Mapping, Sequence

from benchmarks.cases import Case, MaskCase, MixCase
from benchmarks.rivals import CONVOLUTIONS
from benchmarks.suites import Row, results_of
from benchmarks.tables import ratio
from benchmarks.timing import LAUNCHES, Launch

MASKS = MaskCase(n=256)
MASKS_A_SECOND = 1_000_000
CONVOLUTION_OVER_COWMASK = 50.0
MIXING = MixCase()
WHERE_OVER_MIX = 1.3
SHARE_OF_A_STEP = 0.01


def judge_masks(rows: Sequence[Row[Case]]) -> list[str]:
    """Judge 256 masks of the main case: how many a second, and how much faster than the best convolution."""
    results = results_of(rows, MASKS)
    rates: dict[Launch, float] = {}
    times: dict[Launch, float] = {}
    for launch in LAUNCHES:
        if "cowmask" in results and not isinstance(quartiles := results["cowmask"].times(launch), str):
            rates[launch] = MASKS.n / quartiles[1]
        ratios = [ratio(results, rival, "cowmask", launch) for rival in CONVOLUTIONS]
        if found := [value for value in ratios if value is not None]:
            times[launch] = min(found)
    return [
        _judged(f"masks a second, for {MASKS}", rates, MASKS_A_SECOND, "{:,.0f}"),
        _judged(f"best convolution over cowmask, for {MASKS}", times, CONVOLUTION_OVER_COWMASK, "{:.1f}"),
    ]


def judge_mixing(rows: Sequence[Row[Case]]) -> list[str]:
    """Judge mix in the main case: how much faster than torch.where with a ready mask."""
    ratios = {launch: ratio(results_of(rows, MIXING), "torch.where", "mix", launch) for launch in LAUNCHES}
    times = {launch: value for launch, value in ratios.items() if value is not None}
    return [_judged(f"torch.where over mix, for {MIXING}", times, WHERE_OVER_MIX, "{:.2f}")]


def judge_training(share: float | str) -> str:
    """Judge the share of masks and mixing in a training step; a str says why it was not measured."""
    if isinstance(share, str):
        return f"not measured: masks and mixing in a training step ({share})"
    verdict = "met" if share <= SHARE_OF_A_STEP else "NOT MET"
    return f"{verdict}: masks and mixing are {share:.2%} of a training step; at most {SHARE_OF_A_STEP:.0%}"


def _judged(what: str, values: Mapping[Launch, float], goal: float, form: str) -> str:
    if not values:
        return f"not measured: {what}"
    kept = [launch for launch, value in values.items() if value >= goal]
    verdict = "met" if len(kept) == len(values) else f"met as {kept[0]} only" if kept else "NOT MET"
    numbers = ", ".join(f"{form.format(value)} {launch}" for launch, value in values.items())
    return f"{verdict}: {what}: {numbers}; at least {form.format(goal)}"
