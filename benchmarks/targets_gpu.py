"""What the library promises on an H100, and whether a run kept it."""

from collections.abc import Mapping, Sequence

from benchmarks.cases import Case, MaskCase, MixCase
from benchmarks.rivals import CONVOLUTIONS
from benchmarks.suites import Row, results_of
from benchmarks.tables import ratio
from benchmarks.timing import LAUNCHES, Launch, Result

MASKS, ONE_MASK = MaskCase(n=256), MaskCase(n=1)
MASKS_A_SECOND: dict[Launch, float] = {"eager": 1_000_000, "graph": 2_000_000}
SECONDS_OF_ONE_MASK = 100e-6  # eager
CONVOLUTION_OVER_COWMASK = 50.0
MIXING = MixCase()
WHERE_OVER_MIX = 1.2
SHARE_OF_A_STEP = 0.005


def judge_masks(rows: Sequence[Row[Case]]) -> list[str]:
    """Judge 256 masks of the main case: how many a second, and how much faster than a convolution; and one mask."""
    results, one = results_of(rows, MASKS), results_of(rows, ONE_MASK)
    rates = {launch: MASKS.n / seconds for launch, seconds in _medians(results, "cowmask").items()}
    ratios: dict[Launch, float] = {}
    for launch in LAUNCHES:
        found = [ratio(results, rival, "cowmask", launch) for rival in CONVOLUTIONS]
        if known := [value for value in found if value is not None]:
            ratios[launch] = min(known)
    eager = _medians(one, "cowmask").get("eager")
    return [
        _judged(f"masks a second, for {MASKS}", rates, MASKS_A_SECOND, "{:,.0f}"),
        f"not measured: {ONE_MASK}"
        if eager is None
        else f"{_verdict(eager <= SECONDS_OF_ONE_MASK)}: {ONE_MASK} takes {eager * 1e6:.0f} us eager; at most "
        f"{SECONDS_OF_ONE_MASK * 1e6:.0f}",
        _judged(f"best convolution over cowmask, for {MASKS}", ratios, _both(CONVOLUTION_OVER_COWMASK), "{:.1f}"),
    ]


def masks_a_second(rows: Sequence[Row[Case]]) -> list[str]:
    """Say how many masks cowmask draws a second, for each case."""
    lines = []
    for row in rows:
        rates = [f"{row.case.items / at:,.0f} {launch}" for launch, at in _medians(row.results, "cowmask").items()]
        lines.append(f"  {row.case}: {', '.join(rates) or row.problem or 'not measured'}")
    return ["Masks a second by cowmask (calls from Python, and in a CUDA graph):", *lines]


def judge_mixing(rows: Sequence[Row[Case]]) -> list[str]:
    """Judge mix in the main case: how much faster than torch.where with a ready mask."""
    ratios = {launch: ratio(results_of(rows, MIXING), "torch.where", "mix", launch) for launch in LAUNCHES}
    times = {launch: value for launch, value in ratios.items() if value is not None}
    return [_judged(f"torch.where over mix, for {MIXING}", times, _both(WHERE_OVER_MIX), "{:.2f}")]


def judge_training(share: float | str) -> str:
    """Judge the share of masks and mixing in a training step; a str says why it was not measured."""
    if isinstance(share, str):
        return f"not measured: masks and mixing in a training step ({share})"
    verdict = _verdict(share <= SHARE_OF_A_STEP)
    return f"{verdict}: masks and mixing are {share:.2%} of a training step; at most {SHARE_OF_A_STEP:.1%}"


def _medians(results: Mapping[str, Result], name: str) -> dict[Launch, float]:
    """Return the median seconds of a call of a candidate, by launch; those that were measured."""
    if name not in results:
        return {}
    times = {launch: results[name].times(launch) for launch in LAUNCHES}
    return {launch: quartiles[1] for launch, quartiles in times.items() if not isinstance(quartiles, str)}


def _both(goal: float) -> dict[Launch, float]:
    return dict.fromkeys(LAUNCHES, goal)


def _verdict(met: bool) -> str:
    return "met" if met else "NOT MET"


def _judged(what: str, values: Mapping[Launch, float], goals: Mapping[Launch, float], form: str) -> str:
    if not values:
        return f"not measured: {what}"
    kept = [launch for launch, value in values.items() if value >= goals[launch]]
    verdict = "met" if len(kept) == len(values) else f"met as {kept[0]} only" if kept else "NOT MET"
    numbers = ", ".join(
        f"{form.format(value)} {launch} (at least {form.format(goals[launch])})" for launch, value in values.items()
    )
    return f"{verdict}: {what}: {numbers}"
