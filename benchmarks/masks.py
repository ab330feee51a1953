"""Masks on a CPU: cowmask, by each of its methods, against other implementations.

pip install ".[examples]"
python -m benchmarks.masks [--help]
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import tyro

from benchmarks import suites, targets_cpu
from benchmarks.candidates import cowmask_candidate
from benchmarks.cases import MaskCase, one_axis_at_a_time
from benchmarks.cpu import CPU, Options, measure, write
from benchmarks.plots import draw
from benchmarks.rivals import listing_1, mask_rivals
from benchmarks.suites import Row
from benchmarks.tables import detail, overview
from benchmarks.timing import Candidates

MAIN = MaskCase(16, (512, 512), (4.0, 16.0))
MOST_PIXELS = 2**26  # of a case
CASES = [
    *one_axis_at_a_time(MAIN, n=(1, 4, 64), sigma=((8.0, 32.0), (1.0, 4.0))),
    *(
        replace(MAIN, size=(side, side), n=min(MAIN.n, MOST_PIXELS // side**2))
        for side in (32, 64, 128, 256, 1024, 2048, 4096)
    ),
]
AXES: dict[str, Callable[[MaskCase], float]] = {
    "size": lambda case: math.sqrt(math.prod(case.size)),
    "batch": lambda case: case.n,
    "sigma": lambda case: math.sqrt(math.prod(case.sigma)),
}
METHODS = {
    "cowmask": "auto",
    "cowmask, spectral": "spectral",
    "cowmask, coarse": "coarse",
    "cowmask, direct": "direct",
}


def candidates(case: MaskCase) -> Candidates:
    """Return what is compared; every call draws one batch of masks."""
    rivals = mask_rivals(case, CPU)
    del rivals["cuDNN, grouped"], rivals["cupyx"]
    if case.touched > 2**24:
        rivals["torchvision"] = "left out: a call takes minutes"
    ours = {name: cowmask_candidate(case, CPU, method=method) for name, method in METHODS.items()}
    return ours | {"Listing 1": listing_1(case)} | rivals


def along(rows: Sequence[Row[MaskCase]], axis: str) -> list[Row[MaskCase]]:
    """Return the rows of the cases on one axis, sorted along it."""
    value = AXES[axis]
    others = [other for other in AXES.values() if other is not value]
    on_axis = [
        row
        for row in rows
        if all(other(row.case) == other(MAIN) for other in others)
        # The largest images come in smaller batches, but belong to the axis of sizes.
        or (axis == "size" and row.case.sigma == MAIN.sigma and row.case.size != MAIN.size)
    ]
    return sorted(on_axis, key=lambda row: value(row.case))


def main(options: Options) -> None:
    """Time the candidates, print tables and targets, and draw plots."""
    rows = measure(options, CASES, candidates)
    targets = targets_cpu.judge_masks(rows, MAIN)
    tables = [detail(rows[0], "cowmask", ["eager"]), overview(rows, "cowmask", "eager"), targets]
    print("\n".join(line for table in tables for line in (*table, "")))
    print(f"Written: {write('masks', options, {'cells': suites.record(rows)})}")
    for axis, value in AXES.items():
        print(f"Written: {draw(along(rows, axis), axis, value, options.images / f'masks-over-{axis}.png')}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
