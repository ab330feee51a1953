"""Mixing on a CPU: mix and CowMix against torch.where and other libraries' CutMix.

python -m benchmarks.mixing [--help]
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import torch
import tyro
from torch import Tensor

from benchmarks import suites
from benchmarks.cpu import CPU, Options, measure, write
from benchmarks.peers import mix_peers
from benchmarks.suites import MixCell
from benchmarks.tables import detail
from benchmarks.targets import cpu_mix_targets
from benchmarks.timing import Method
from cowmask import CutMix

CELLS = [replace(MixCell(), batch=batch) for batch in (16, 8, 4)]
SETS = 2  # of inputs and outputs that the calls rotate over


def methods(cell: MixCell) -> suites.Methods:
    """Return what mixes a batch."""
    images = cycle([torch.rand(cell.batch, 3, *cell.size) for _ in range(SETS)])

    def of_images(mixes: Callable[[Tensor], object]) -> Method:
        return Method(lambda: mixes(next(images)))

    others: dict[str, Callable[[Tensor], object] | str] = {"CutMix": CutMix(), **mix_peers()}
    return {
        **suites.mix_methods(cell, CPU, SETS, "auto"),
        **{name: other if isinstance(other, str) else of_images(other) for name, other in others.items()},
    }


def main(options: Options) -> None:
    """Time the methods, print tables and targets."""
    rows = measure(options, CELLS, methods)
    tables = [*(detail(row, "torch.where", ["eager"]) for row in rows), cpu_mix_targets(rows)]
    print("\n".join(line for table in tables for line in (*table, "")))
    print(f"Written: {write('mixing', options, {'cells': suites.record(rows)})}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
