"""Masks on a CPU: cowmask, by each of its methods, against the other ways to them.

python -m benchmarks.masks [--help]
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import tyro

from benchmarks import suites
from benchmarks.cpu import CPU, Options, measure, write
from benchmarks.peers import MaskCell, listing_1, mask_peers
from benchmarks.plots import draw
from benchmarks.suites import Row
from benchmarks.tables import detail, overview
from benchmarks.targets import cpu_mask_targets
from benchmarks.timing import Method
from cowmask import cow_masks

MAIN = MaskCell(16, (512, 512), (4.0, 16.0))
MOST_PIXELS = 2**26  # of a cell
AXES: dict[str, Callable[[MaskCell], float]] = {
    "size": lambda cell: math.sqrt(math.prod(cell.size)),
    "batch": lambda cell: cell.n,
    "sigma": lambda cell: math.sqrt(math.prod(cell.sigma)),
}
OURS = ("cowmask", "cowmask, spectral", "cowmask, coarse", "cowmask, direct")


def cells() -> list[MaskCell]:
    """Return the main cell, then one axis at a time around it; the largest images in smaller batches."""
    sides = (32, 64, 128, 256, 1024, 2048, 4096)
    return [
        MAIN,
        *(replace(MAIN, n=n) for n in (1, 4, 64)),
        *(replace(MAIN, sigma=sigma) for sigma in ((8.0, 32.0), (1.0, 4.0))),
        *(replace(MAIN, size=(side, side), n=min(MAIN.n, MOST_PIXELS // side**2)) for side in sides),
    ]


def methods(cell: MaskCell) -> suites.Methods:
    """Return what is compared: every call draws one batch of bool masks."""

    def ours(method: str) -> Method:
        return Method(lambda: cow_masks(cell.n, cell.size, cell.sigma, method=method, device=CPU, dtype=cell.dtype))

    peers = {name: peer for name, peer in mask_peers(cell, CPU).items() if name not in ("cuDNN, grouped", "cupyx")}
    if cell.touched > 2**24:
        peers["torchvision"] = "left out: a call takes minutes"
    by_method = zip(OURS, ("auto", "spectral", "coarse", "direct"), strict=True)
    return {name: ours(method) for name, method in by_method} | {"Listing 1": listing_1(cell)} | peers


def along(rows: Sequence[Row[MaskCell]], axis: str) -> list[Row[MaskCell]]:
    """Return the rows of the cells on one axis, in its order."""
    value = AXES[axis]
    others = [other for other in AXES.values() if other is not value]
    # The largest images come in smaller batches.
    on_axis = [
        row
        for row in rows
        if all(other(row.cell) == other(MAIN) for other in others)
        or (axis == "size" and row.cell.sigma == MAIN.sigma and row.cell.size != MAIN.size)
    ]
    return sorted(on_axis, key=lambda row: value(row.cell))


def main(options: Options) -> None:
    """Time the methods, print tables and targets, and draw plots."""
    rows = measure(options, cells(), methods)
    tables = [detail(rows[0], "cowmask", ["eager"]), overview(rows, "cowmask", "eager"), cpu_mask_targets(rows, MAIN)]
    print("\n".join(line for table in tables for line in (*table, "")))
    print(f"Written: {write('masks', options, {'cells': suites.record(rows)})}")
    for axis, value in AXES.items():
        print(f"Written: {draw(along(rows, axis), axis, value, options.images / f'masks-over-{axis}.png')}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
