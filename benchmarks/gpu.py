"""Everything the owner of a new card runs, in under 8 minutes: tests, masks, mixing and a training step.

python -m benchmarks.gpu [--help]
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.record import RESULTS, environment, save

# The suites, and their parts of the time.
SUITES = {"tests": 0.45, "masks": 0.3, "mixing": 0.1, "training": 0.15}


def _parser() -> argparse.ArgumentParser:
    # Not tyro: a machine with a GPU may have little beside torch.
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--smoke", action="store_true", help="run all of the logic, in little, on the CPU and by Triton's interpreter")
    add("--suites", nargs="+", choices=SUITES, default=list(SUITES), help="by default all")
    add("--rounds", type=int, help="interleaved repeats, where the time allows (default: 15, or 2 for --smoke)")
    add("--budget", type=float, default=400.0, help="seconds, about, for all suites (default: %(default)g)")
    add("--name", help="of the card, for the results; by default as its driver has it")
    add("--commit", help="for the results, where git cannot tell it")
    add("--out", type=Path, help="folder of the results (default: benchmarks/results; a temporary one for --smoke)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites, write what each found, and print the tables last."""
    given = _parser().parse_args(arguments)
    if given.smoke:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        print("benchmarks.gpu needs a CUDA device; --smoke runs its logic without one.", file=sys.stderr)
        return 2
    from benchmarks import gpu_suites  # only now: Triton reads the variable when it is first imported

    options = gpu_suites.Options(given.smoke, given.rounds or (2 if given.smoke else 15))
    card = "smoke" if given.smoke else torch.cuda.get_device_name()
    name = re.sub(r"[^a-z0-9]+", "-", (given.name or card).lower()).strip("-")
    folder = given.out or (Path(tempfile.mkdtemp(prefix="cowmask-smoke-")) if given.smoke else RESULTS)
    where = environment(options.device) | ({"commit": given.commit} if given.commit else {})

    begin, tables, targets, good = time.monotonic(), [], ["== targets, set for an H100"], True
    for index, suite in enumerate(given.suites):
        print(suite, file=sys.stderr)
        start = time.monotonic()
        parts = [SUITES[later] for later in given.suites[index:]]
        found = gpu_suites.run(suite, options, start + (begin + given.budget - start) * parts[0] / sum(parts))
        result = {"environment": where, "rounds": options.rounds, "seconds": round(time.monotonic() - start, 1)}
        path = save(f"gpu-{suite}", name, result | found.record, folder)
        tables += [f"== {suite}", *found.table, f"Written: {path}", ""]
        targets += found.targets
        good = good and found.good
    print("\n".join(tables + ([] if options.smoke else targets)))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
