"""What the library promises, on an H100 and on two threads of a CPU, and whether a run kept it."""

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


def mask_targets(rows: Sequence[Row[MaskCell | MixCell]]) -> list[str]:
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


def mix_targets(rows: Sequence[Row[MaskCell | MixCell]]) -> list[str]:
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


def _results(rows: Sequence[Row[MaskCell | MixCell]], cell: MaskCell | MixCell) -> Mapping[str, Result]:
    return next((row.results for row in rows if row.cell == cell), {})


def _judged(what: str, values: Mapping[Way, float], goal: float, form: str) -> str:
    if not values:
        return f"not measured: {what}"
    kept = [way for way, value in values.items() if value >= goal]
    verdict = "met" if len(kept) == len(values) else f"met as {kept[0]} only" if kept else "NOT MET"
    numbers = ", ".join(f"{form.format(value)} {way}" for way, value in values.items())
    return f"{verdict}: {what}: {numbers}; at least {form.format(goal)}"


# Of cowmask on a CPU: how many times its time another method takes at least, in the main cell and for a batch of one.
TIMES_LISTING_1, TIMES_LISTING_1_OF_ONE, TIMES_KORNIA = 40.0, 15.0, 20.0
COWMIX_OF_WHERE = 1.15  # at most, its masks included
GROWTH = 1.5  # at most, of the time per pixel from 512x512 to 2048x2048
OF_BEST = 1.2  # at most, of the best of our methods


def cpu_mask_targets(rows: Sequence[Row[MaskCell]], main: MaskCell) -> list[str]:
    """Judge the main cell, that "auto" is a good choice everywhere, and that large images cost no more per pixel."""
    in_main, of_one = _results(rows, main), _results(rows, replace(main, n=1))
    lines = [
        _at_least(f"times Listing 1, {main}", ratio(in_main, "Listing 1", "cowmask", "eager"), TIMES_LISTING_1),
        _at_least(f"times kornia, {main}", ratio(in_main, "kornia", "cowmask", "eager"), TIMES_KORNIA),
        _at_least("times Listing 1, one mask", ratio(of_one, "Listing 1", "cowmask", "eager"), TIMES_LISTING_1_OF_ONE),
    ]
    per_pixel = {}
    for row in rows:
        others = {name: ratio(row.results, name, "cowmask", "eager") for name in row.results if name != "cowmask"}
        times = {name: value for name, value in others.items() if value is not None}
        ours = {name: value for name, value in times.items() if name.startswith("cowmask")}
        peers = {name: value for name, value in times.items() if name not in ours}
        if ours:
            best = min(ours, key=ours.__getitem__)
            lines.append(_at_most(f"of {best}, {row.cell}", 1 / ours[best], OF_BEST))
        if peers:
            best = min(peers, key=peers.__getitem__)
            lines.append(_at_least(f"times {best}, the best peer, {row.cell}", peers[best], 1.0))
        if "cowmask" in row.results and row.cell.sigma == main.sigma and row.cell.n == main.n:
            height, width = row.cell.size
            per_pixel[height] = row.results["cowmask"].seconds[1] / (height * width)
    growth = per_pixel[2048] / per_pixel[512] if {512, 2048} <= per_pixel.keys() else None
    return ["Targets", *lines, _at_most("time per pixel at 2048x2048, of that at 512x512", growth, GROWTH)]


def cpu_mix_targets(rows: Sequence[Row[MaskCell | MixCell]]) -> list[str]:
    """Judge CowMix in the main cell: against torch.where with a ready mask, and against other libraries' CutMix."""
    found = _results(rows, MixCell())
    where = ratio(found, "CowMix", "torch.where", "eager")
    peers = ("torchvision, CutMix", "kornia, CutMix")
    return [
        "Targets",
        _at_most(f"CowMix, of torch.where, {MixCell()}", where, COWMIX_OF_WHERE),
        *(_at_least(f"times CowMix, {name}", ratio(found, name, "CowMix", "eager"), 1.0) for name in peers),
    ]


def _at_least(what: str, value: float | None, target: float) -> str:
    return _line(what, value, target, met=value is not None and value >= target, sign=">=")


def _at_most(what: str, value: float | None, target: float) -> str:
    return _line(what, value, target, met=value is not None and value <= target, sign="<=")


def _line(what: str, value: float | None, target: float, *, met: bool, sign: str) -> str:
    if value is None:
        return f"not measured: {what}"
    return f"{'met' if met else 'NOT MET'}: {what}: {value:.2f} ({sign} {target:g})"
