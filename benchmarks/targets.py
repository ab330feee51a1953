"""What the library promises on an H100, and whether a run kept it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.peers import CONVOLUTIONS, MaskCell
from benchmarks.suites import MixCell, Row
from benchmarks.tables import ratio
from benchmarks.timing import WAYS, Result, Way

MASKS_A_SECOND = 1_000_000
TIMES_A_CONVOLUTION = 50.0
TIMES_WHERE = 1.3
SHARE_OF_A_STEP = 0.01


def mask_targets(rows: Sequence[Row]) -> list[str]:
    """Judge 256 masks of the main cell: how many a second, and how much faster than the best convolution."""
    cell = replace(MaskCell(), n=256)
    results = _results(rows, cell)
    rates: dict[Way, float] = {}
    times: dict[Way, float] = {}
    for way in WAYS:
        if "cowmask" in results and not isinstance(quartiles := results["cowmask"].times(way), str):
            rates[way] = cell.n / quartiles[1]
        ratios = [ratio(results, peer, "cowmask", way) for peer in CONVOLUTIONS]
        if found := [value for value in ratios if value is not None]:
            times[way] = min(found)
    return [
        _judged(f"masks a second, {cell}", rates, MASKS_A_SECOND, "{:,.0f}"),
        _judged(f"times the best convolution, {cell}", times, TIMES_A_CONVOLUTION, "{:.1f}"),
    ]


def mix_targets(rows: Sequence[Row]) -> list[str]:
    """Judge mix in the main cell: how much faster than torch.where with a ready mask."""
    cell = MixCell()
    results = _results(rows, cell)
    ratios = {way: ratio(results, "torch.where", "mix", way) for way in WAYS}
    times = {way: value for way, value in ratios.items() if value is not None}
    return [_judged(f"times torch.where, {cell}", times, TIMES_WHERE, "{:.2f}")]


def training_target(share: float | str) -> str:
    """Judge the share of masks and mixing in a training step."""
    if isinstance(share, str):
        return f"not measured: masks and mixing in a training step ({share})"
    verdict = "met" if share <= SHARE_OF_A_STEP else "NOT MET"
    return f"{verdict}: masks and mixing are {share:.2%} of a training step; at most {SHARE_OF_A_STEP:.0%}"


def _results(rows: Sequence[Row], cell: MaskCell | MixCell) -> Mapping[str, Result]:
    return next((row.results for row in rows if row.cell == cell), {})


def _judged(what: str, values: Mapping[Way, float], goal: float, form: str) -> str:
    if not values:
        return f"not measured: {what}"
    kept = [way for way, value in values.items() if value >= goal]
    verdict = "met" if len(kept) == len(values) else f"met as {kept[0]} only" if kept else "NOT MET"
    numbers = ", ".join(f"{form.format(value)} {way}" for way, value in values.items())
    return f"{verdict}: {what}: {numbers}; at least {form.format(goal)}"
