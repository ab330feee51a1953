"""Faults injected into a tiny training: what is said, how it ends, and whether it goes on as if nothing had happened.

`python -m tests.faults` injects all of them and prints the table; `tests/test_faults.py` injects each. A new fault is
one more entry of FAULTS.
"""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))  # where pytest finds them, too

from segmentation.trainer import Trainer
from tests.forked import run_on_cpu
from tests.miniature import make_camvid

SCRIPT = Path(__file__).parents[1] / "examples" / "train_camvid.py"
OPTIONS = (
    "--method cowmix --size 32 64 --encoder tu-lcnet_050 --encoder-weights none --decoder-channels 16 16 8 8 8 "
    "--iterations 6 --checkpoint-every 2 --evaluate-every 3 --batch-size 2 --labelled 3 --threshold 0.2"
)


def nothing(*_: object) -> None:
    """Neither damage nor mend."""


@dataclass(frozen=True)
class Fault:
    """What a user's files, options or machine do to one command.

    The command runs in a folder with a data set in `data` and, in `out`, a training of 6 iterations that was killed
    in its last one: it has checkpoints of iterations 2 and 4.
    """

    name: str  # for the table
    says: str  # regular expression of all that the command says, the last line of standard error
    damage: Callable[[Path], object] = nothing  # gets that folder, before the command
    during: Callable[[], object] = nothing  # called in the process that trains; pickled, so a function of a module
    options: str = "--resume"
    fresh: bool = False  # whether `out` is not there yet
    status: int = 1
    mend: Callable[[Path], object] = nothing  # does what was said; then the command with --resume goes on


class Outcome(NamedTuple):
    """What became of a fault."""

    said: str  # last line of standard error
    status: int
    has_traceback: bool
    goes_on: bool  # whether the mended training ends with the weights and scores of an undisturbed one


def train(root: Path, options: str, during: Callable[[], object] = nothing) -> tuple[int, str]:
    """Train in a process of its own; return its exit status and what it wrote to standard error."""
    words = f"{OPTIONS} --data {root / 'data'} --out {root / 'out'} {options}".split()
    done = run_on_cpu(SCRIPT, *words, before=during)
    return done.returncode, done.stderr


def end_of(root: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the teacher's weights and the scores at the end of a training."""
    weights = torch.load(root / "out" / "cowmix" / "teacher.pt", weights_only=True)
    return weights, json.loads((root / "out" / "metrics.json").read_text())["test"]


def is_same(one: tuple[dict[str, torch.Tensor], Any], other: tuple[dict[str, torch.Tensor], Any]) -> bool:
    """Return whether two trainings ended alike, bit for bit."""
    return one[1] == other[1] and all(torch.equal(value, other[0][name]) for name, value in one[0].items())


class Bench:
    """Folders to inject faults into."""

    def __init__(self, root: Path) -> None:
        """Train undisturbed, and until killed, in folders below `root`."""
        self._root = root
        whole, self._killed = root / "whole", root / "killed"
        make_camvid(whole / "data")
        shutil.copytree(whole / "data", self._killed / "data")
        status, said = train(whole, "")
        assert status == 0, said
        status, said = train(self._killed, "", partial(at_step, 6, die))
        assert status == -signal.SIGKILL, said
        self._expected = end_of(whole)

    def inject(self, fault: Fault) -> Outcome:
        """Run the command with a fault, mend it, and run the command with --resume."""
        with TemporaryDirectory(dir=self._root) as folder:
            root = Path(folder)
            shutil.copytree(self._killed, root, dirs_exist_ok=True)
            if fault.fresh:
                shutil.rmtree(root / "out")
            fault.damage(root)
            status, said = train(root, fault.options, fault.during)
            fault.mend(root)
            goes_on = train(root, "--resume")[0] == 0 and is_same(end_of(root), self._expected)
            last = (said.replace(str(root), "").strip().splitlines() or [""])[-1]
            return Outcome(last, status, "Traceback" in said, goes_on)


def die() -> None:
    """Kill this process, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(number: int, act: Callable[[], object]) -> None:
    """Let something happen in this process when a training comes to its step `number`, from 1."""
    step, steps = Trainer.step, iter(range(1, number))

    def watched(trainer: Trainer) -> dict[str, torch.Tensor]:
        if next(steps, None) is None:
            act()
        return step(trainer)

    pytest.MonkeyPatch().setattr(Trainer, "step", watched)


FAULTS = [
    Fault(
        "other options",
        r"other options \(seed\)",
        options="--resume --seed 1",
    ),
    Fault(
        "no data",
        r"/data is not a folder",
        damage=lambda root: (root / "data").rename(root / "moved"),
        mend=lambda root: (root / "moved").rename(root / "data"),
    ),
]


def main() -> None:
    """Inject all faults and print the table."""
    print("| fault | what is said | exit status | goes on with `--resume` |\n| --- | --- | ---: | --- |")
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for fault in FAULTS:
            outcome = bench.inject(fault)
            as_meant = re.search(fault.says, outcome.said) and outcome.status == fault.status
            ended = f"{outcome.status}{'' if as_meant else ' (not as meant)'}{', traceback' * outcome.has_traceback}"
            end = "yes, the same weights" if outcome.goes_on else "NO"
            print(f"| {fault.name} | {outcome.said} | {ended} | {end} |", flush=True)


if __name__ == "__main__":
    main()
