"""Mixing on a CPU: mix and CowMix against torch.where and other libraries' CutMix.

pip install ".[examples]"
python -m benchmarks.mixing [--help]
"""

from collections.abc import Callable
from itertools import cycle

import torch
import tyro
from torch import Tensor

from benchmarks import suites, targets_cpu
from benchmarks.candidates import mix_candidates
from benchmarks.cases import MixCase, one_axis_at_a_time
from benchmarks.cpu import CPU, Options, measure, write
from benchmarks.rivals import mix_rivals
from benchmarks.tables import detail
from benchmarks.timing import Candidate, Candidates
from cowmask import CutMix

CASES = one_axis_at_a_time(MixCase(), batch=(8, 4))
SETS = 2  # of inputs and outputs that successive calls rotate over


def candidates(case: MixCase) -> Candidates:
    """Return what is compared; every call mixes one batch."""
    images = cycle([torch.rand(case.batch, 3, *case.size) for _ in range(SETS)])

    def of_images(mixes: Callable[[Tensor], object]) -> Candidate:
        return Candidate(lambda: mixes(next(images)))

    others: dict[str, Callable[[Tensor], object] | str] = {"CutMix": CutMix(), **mix_rivals()}
    return {
        **mix_candidates(case, CPU, SETS, "auto"),
        **{name: other if isinstance(other, str) else of_images(other) for name, other in others.items()},
    }


def main(options: Options) -> None:
    """Time the candidates, print tables and targets."""
    rows = measure(options, CASES, candidates)
    tables = [*(detail(row, "torch.where", ["eager"]) for row in rows), targets_cpu.judge_mixing(rows)]
    print("\n".join(line for table in tables for line in (*table, "")))
    print(f"Written: {write('mixing', options, {'cells': suites.record(rows)})}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
