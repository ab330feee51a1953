"""What the library promises on two threads of a CPU, and whether a run kept it."""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.cases import Case, MaskCase, MixCase
from benchmarks.suites import Row, results_of
from benchmarks.tables import ratio

# Ratios of times, at least, in the main case and for one mask.
LISTING_1_OVER_COWMASK, LISTING_1_OVER_COWMASK_OF_ONE, KORNIA_OVER_COWMASK = 40.0, 15.0, 20.0
# Ratios of times, at most.
COWMIX_OVER_WHERE = 1.15  # masks drawn
GROWTH = 1.5  # time per pixel at 2048x2048 over 512x512
COWMASK_OVER_BEST_METHOD = 1.2
MIXING = MixCase()


def judge_masks(rows: Sequence[Row[MaskCase]], main: MaskCase) -> list[str]:
    """Judge the main case, the choice of "auto" in every case, and the time per pixel of large images."""
    in_main, of_one = results_of(rows, main), results_of(rows, replace(main, n=1))
    listing_1, kornia = (ratio(in_main, name, "cowmask", "eager") for name in ("Listing 1", "kornia"))
    listing_1_of_one = ratio(of_one, "Listing 1", "cowmask", "eager")
    return [
        "Targets: ratios of times",
        _at_least(f"Listing 1 over cowmask, for {main}", listing_1, LISTING_1_OVER_COWMASK),
        _at_least(f"kornia over cowmask, for {main}", kornia, KORNIA_OVER_COWMASK),
        _at_least("Listing 1 over cowmask, for one mask", listing_1_of_one, LISTING_1_OVER_COWMASK_OF_ONE),
        *(line for row in rows for line in _judge_case(row)),
        _at_most("time per pixel, 2048x2048 over 512x512", _growth(rows, main), GROWTH),
    ]


def judge_mixing(rows: Sequence[Row[Case]]) -> list[str]:
    """Judge CowMix in the main case, against torch.where with a ready mask and other libraries' CutMix."""
    found = results_of(rows, MIXING)
    where = ratio(found, "CowMix", "torch.where", "eager")
    rivals = ("torchvision, CutMix", "kornia, CutMix")
    return [
        "Targets: ratios of times",
        _at_most(f"CowMix over torch.where, for {MIXING}", where, COWMIX_OVER_WHERE),
        *(_at_least(f"{name} over CowMix", ratio(found, name, "CowMix", "eager"), 1.0) for name in rivals),
    ]


def _judge_case(row: Row[MaskCase]) -> list[str]:
    """Compare "auto" with the best of cowmask's methods and with the best rival, where they were measured."""
    ratios = {name: ratio(row.results, name, "cowmask", "eager") for name in row.results if name != "cowmask"}
    times = {name: value for name, value in ratios.items() if value is not None}
    ours = {name: value for name, value in times.items() if name.startswith("cowmask")}
    rivals = {name: value for name, value in times.items() if name not in ours}
    lines = []
    if ours:
        best = min(ours, key=ours.__getitem__)
        lines.append(_at_most(f"cowmask over {best}, for {row.case}", 1 / ours[best], COWMASK_OVER_BEST_METHOD))
    if rivals:
        best = min(rivals, key=rivals.__getitem__)
        lines.append(_at_least(f"{best}, the best rival, over cowmask, for {row.case}", rivals[best], 1.0))
    return lines


def _growth(rows: Sequence[Row[MaskCase]], main: MaskCase) -> float | None:
    """Return the time per pixel at 2048x2048 over that at 512x512, or None if either was not measured."""
    per_pixel = {}
    for row in rows:
        if "cowmask" in row.results and row.case.sigma == main.sigma and row.case.n == main.n:
            height, width = row.case.size
            per_pixel[height] = row.results["cowmask"].seconds[1] / (height * width)
    return per_pixel[2048] / per_pixel[512] if {512, 2048} <= per_pixel.keys() else None


def _at_least(what: str, value: float | None, target: float) -> str:
    return _judged(what, value, target, met=value is not None and value >= target, sign=">=")


def _at_most(what: str, value: float | None, target: float) -> str:
    return _judged(what, value, target, met=value is not None and value <= target, sign="<=")


def _judged(what: str, value: float | None, target: float, *, met: bool, sign: str) -> str:
    if value is None:
        return f"not measured: {what}"
    return f"{'met' if met else 'NOT MET'}: {what}: {value:.2f} ({sign} {target:g})"
