"""Run cases; print each that finds a fault, by its number.

python -m tests.fuzz --cases 500000 --seed 0    (make fuzz)
python -m tests.fuzz --case 12345 --seed 0      one case, with the traceback of what it finds
TRITON_INTERPRET=1 python -m tests.fuzz         the Triton kernels, too, interpreted without a GPU
"""

import argparse
import sys
import time
from collections import Counter

import torch

from tests.fuzz.cases import FaultError, run


def main() -> None:
    """Run cases, and exit with status 1 if one finds a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the number of the first")
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.case is not None:
        print(f"case {arguments.case} of seed {arguments.seed}, of {run(arguments.case, arguments.seed)}: no fault")
        return
    counts: Counter[str] = Counter()
    faults, start = 0, time.perf_counter()
    for number in range(arguments.start, arguments.start + arguments.cases):
        if number % 50_000 == 49_999:
            print(f"at case {number:,}", flush=True)
        try:
            counts[run(number, arguments.seed)] += 1
        except FaultError as fault:
            faults += 1
            print(fault, flush=True)
    minutes = (time.perf_counter() - start) / 60
    print(f"{arguments.cases:,} cases of seed {arguments.seed} in {minutes:.1f} minutes: {faults} find a fault")
    print("no fault in:", ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
