"""Everything to run on a new card, in under 8 minutes: tests, masks, mixing and a training step.

pip install ".[examples,test]"
python -m benchmarks.gpu [--help]
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.record import RESULTS, environment, save

# The suites, and their shares of the time.
SUITES = {"tests": 0.45, "masks": 0.3, "mixing": 0.1, "training": 0.15}


def _parser() -> argparse.ArgumentParser:
    # argparse, not tyro: a machine with a GPU may have little besides torch.
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--smoke", action="store_true", help="run small cases on the CPU, kernels by Triton's interpreter")
    add("--suites", nargs="+", choices=SUITES, default=list(SUITES), help="by default all")
    add("--tune", action="store_true", help="instead, time the tiles of the kernel that draws, for `kernels/draw.py`")
    add("--rounds", type=int, help="interleaved repeats, if the time allows (default: 15, or 2 for --smoke)")
    add("--budget", type=float, default=400.0, help="seconds for all suites, about (default: %(default)g)")
    add("--name", help="name of the card in the results (default: the driver's)")
    add("--commit", help="commit in the results, if git cannot tell it")
    add("--out", type=Path, help="folder of the results (default: benchmarks/results; a temporary one for --smoke)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites; write and print the results of each; then print the targets."""
    given = _parser().parse_args(arguments)
    if given.smoke:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        print("benchmarks.gpu needs a CUDA device; --smoke runs its logic without one.", file=sys.stderr)
        return 2
    if given.tune:
        return subprocess.run([sys.executable, "-m", "cowmask.kernels.tune"], check=False).returncode
    from benchmarks import gpu_suites  # imports Triton, which reads TRITON_INTERPRET then

    options = gpu_suites.SMOKE if given.smoke else gpu_suites.CARD
    options = replace(options, rounds=given.rounds or options.rounds)
    card = "smoke" if given.smoke else torch.cuda.get_device_name()
    name = re.sub(r"[^a-z0-9]+", "-", (given.name or card).lower()).strip("-")
    folder = given.out or (Path(tempfile.mkdtemp(prefix="cowmask-smoke-")) if given.smoke else RESULTS)
    where = environment(options.device) | ({"commit": given.commit} if given.commit else {})

    begin, targets, good = time.monotonic(), ["== targets, set for an H100"], True
    for index, suite in enumerate(given.suites):
        print(suite, file=sys.stderr)
        start = time.monotonic()
        shares = [SUITES[later] for later in given.suites[index:]]
        found = gpu_suites.run(suite, options, start + (begin + given.budget - start) * shares[0] / sum(shares))
        result = {"environment": where, "rounds": options.rounds, "seconds": round(time.monotonic() - start, 1)}
        path = save(f"gpu-{suite}", name, result | found.record | {"targets": found.targets}, folder)
        # At once, so that a run that is stopped has said what it found.
        print(*(f"== {suite}", *found.table, f"Written: {path}", ""), sep="\n", flush=True)
        targets += found.targets
        good = good and found.good
    if not options.smoke:
        print("\n".join(targets))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
