"""Run many trainings, each in its own process and folder, and gather their scores.

After an interruption or a failed training, the same command continues the campaign.
"""

import json
import os
import shlex
import signal
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT, Popen
from threading import Lock
from typing import Any, NamedTuple

import tyro
from tqdm import tqdm

from segmentation import outputs
from segmentation.errors import UserError, one_sentence
from segmentation.storage import StorageError, read_json, write_whole

SUBSETS = 10  # lines of camvid_subsets.txt


def trainer(script: str) -> tuple[str, str]:
    """Return the command of a training script in examples/."""
    return sys.executable, str(Path(__file__).parents[2] / script)


TRAINER = trainer("train_camvid.py")


class CampaignError(UserError):
    """A campaign cannot be run or finished; the message is for the user."""


@dataclass(frozen=True)
class Options:
    """Options of every campaign."""

    subsets: int = SUBSETS
    """Runs of each kind: one for each subset of labelled frames from 0; the subset's number is the seed."""
    at_once: int = 1
    """Trainings to run at the same time, on shared cores or a shared GPU."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if not 1 <= self.subsets <= SUBSETS:
            raise CampaignError(f"--subsets must be from 1 to {SUBSETS}.")
        if self.at_once < 1:
            raise CampaignError("--at-once must be at least 1.")


@dataclass(frozen=True)
class Job:
    """One training of one method: its folder, and its arguments without --out and --resume."""

    folder: Path
    method: str
    arguments: tuple[str, ...]

    def report(self) -> dict[str, Any] | None:
        """Return the content of metrics.json, or None if the training is not finished."""
        report = outputs.read_report(self.folder)
        return report if report and self.method in report["test"] else None


class Summary(NamedTuple):
    """mIoU of runs in percent, their mean, and their standard deviation (None for one run)."""

    runs: tuple[float, ...]
    mean: float
    std: float | None

    def __str__(self) -> str:
        """Format mean and standard deviation as the paper does."""
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")


def summarise(runs: Sequence[float]) -> Summary:
    """Summarise at least one run; the standard deviation divides by n - 1."""
    return Summary(tuple(runs), statistics.fmean(runs), statistics.stdev(runs) if len(runs) > 1 else None)


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line at `--` into a campaign's own options and the trainer's."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def start(main: Callable[[Any, Sequence[str]], None], options: type[Any], description: str | None) -> None:
    """Run a campaign's `main` with the command line's options; on an error, print one message and exit with 1."""
    with one_sentence("the same command"):
        own, passed = split_arguments(sys.argv[1:])
        main(tyro.cli(options, args=own, description=description), passed)


def job(folder: Path, method: str, own: Sequence[str], passed: Sequence[str]) -> Job:
    """Return a training.

    Args:
        folder: Folder of this training alone.
        method: Method to train.
        own: Arguments that the campaign sets.
        passed: Arguments from the user.

    Raises:
        CampaignError: If the user passes an option that the campaign sets.
    """
    words = ("--method", method, *own)
    for name in (word.split("=")[0].replace("_", "-") for word in passed):
        if name.startswith("--") and {name, name.replace("--no-", "--")} & {*words, "--out", "--resume", "--overwrite"}:
            raise CampaignError(f"{name} is set for each training by itself: leave it out after the --.")
    return Job(folder, method, (*words, *passed))


def subset_jobs(
    folder: Path, method: str, subsets: int, passed: Sequence[str], varied: Sequence[str] = ()
) -> list[Job]:
    """Return a method's trainings, one for each subset; the subset's number is also seed and folder name.

    Args:
        folder: Folder of the method.
        method: Method to train.
        subsets: Number of subsets.
        passed: Arguments of train_camvid.py from the user.
        varied: Arguments that the campaign sets.
    """
    return [
        job(folder / str(i), method, ("--subset", str(i), "--seed", str(i), *varied), passed) for i in range(subsets)
    ]


def percent(score: Mapping[str, Any]) -> float:
    """Return the mIoU of a score in metrics.json, in percent."""
    if score["miou"] is None:
        raise CampaignError("a training has no score, since no pixel of its test set has a label.")
    return 100 * float(score["miou"])


def gather(jobs: Sequence[Job]) -> Summary:
    """Summarise the teachers' test mIoU of finished jobs."""
    return summarise([percent(report["test"][job.method]) for job in jobs if (report := job.report())])


def gather_classes(jobs: Sequence[Job]) -> dict[str, Summary]:
    """Summarise the IoU of each class over at least one finished job, in percent, without classes that no run has."""
    scores = [report["test"][job.method]["iou"] for job in jobs if (report := job.report())]
    known = {name: [100 * one[name] for one in scores if one[name] is not None] for name in scores[0]}
    return {name: summarise(runs) for name, runs in known.items() if runs}


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lay out lines as a Markdown table; the first line is its heading, the first column is aligned left."""
    heading, *body = lines
    ruled = [heading, ["---", *["---:"] * (len(heading) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in ruled)


def provenance(jobs: Sequence[Job], passed: Sequence[str]) -> dict[str, Any]:
    """Return data set, what was scored, PyTorch version and arguments of finished jobs, for a campaign's JSON file."""
    reports = [report for job in jobs if (report := job.report())]
    names = {name: sorted({report[name] for report in reports}) for name in ("dataset", "tested_on", "torch")}
    return {name: ", ".join(values) for name, values in names.items()} | {"arguments": list(passed)}


class _Children:
    """Running processes; `stop` ends them all and lets no other start."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[Popen[bytes]] = set()
        self._is_stopped = False

    def train(self, job: Job, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with self._lock:
            if self._is_stopped:
                return
            job.folder.mkdir(parents=True, exist_ok=True)
            write_whole(job.folder / "job.json", json.dumps(job.arguments) + "\n")
            words = [*command, *job.arguments, "--out", str(job.folder), "--resume"]
            with (job.folder / "log.txt").open("ab") as log:
                process = Popen(words, stdout=log, stderr=STDOUT, env=environment)
            self._running.add(process)
        process.wait()
        with self._lock:
            self._running.remove(process)

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            for process in self._running:
                process.terminate()


def _refuse_other_runs(job: Job) -> None:
    """Raise an error if the job's folder holds a run with other arguments or of another command."""
    record = job.folder / "job.json"
    if record.exists():
        try:
            begun = read_json(record, list)
        except StorageError as error:
            raise CampaignError(f"{record} is damaged: take another --out, or delete {job.folder}.") from error
        if begun != list(job.arguments):
            raise CampaignError(
                f"{job.folder} was begun with other arguments: take another --out, or delete it.\n"
                f"  then: {shlex.join(begun)}\n  now:  {shlex.join(job.arguments)}"
            )
    elif (job.folder / outputs.METRICS).exists():
        raise CampaignError(f"{job.folder} holds a run of another command (no job.json): take another --out.")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run(
    jobs: Sequence[Job], at_once: int, command: Sequence[str] = TRAINER, note: Callable[[], None] = lambda: None
) -> None:
    """Train all jobs without a metrics.json; each writes log.txt in its folder.

    Args:
        jobs: Jobs in the order to start them, each with its own folder.
        at_once: Processes at the same time.
        command: The trainer, to which arguments are appended.
        note: Called before the first training, and whenever one is done.

    Raises:
        CampaignError: Before any training, if a folder holds another run; after all trainings, if some failed.
    """
    for job in jobs:
        _refuse_other_runs(job)
    note()
    waiting = [job for job in jobs if job.report() is None]
    # By default each process would use all cores, and processes would wait for one another.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = ({"OMP_NUM_THREADS": str(max(1, cores // at_once))} if at_once > 1 else {}) | dict(os.environ)
    children, failed = _Children(), []
    signal.signal(signal.SIGINT, _interrupt)  # a shell's background jobs ignore SIGINT by default
    signal.signal(signal.SIGTERM, _interrupt)  # else the trainings would outlive this process
    bar = tqdm(total=len(jobs), initial=len(jobs) - len(waiting), desc="trainings", dynamic_ncols=True)
    with bar, ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(children.train, job, command, environment): job for job in waiting}
        try:
            for future in as_completed(futures):
                future.result()  # raises if the training could not start
                if futures[future].report() is None:
                    failed.append(futures[future])
                    bar.set_postfix(failed=len(failed))
                else:
                    bar.update()
                    note()
        except BaseException:  # mainly Ctrl-C: the pool would wait for all trainings
            children.stop()
            raise
    if failed:
        logs = "".join(f"\n  {job.folder / 'log.txt'}" for job in jobs if job in failed)
        raise CampaignError(
            f"{len(failed)} of {len(jobs)} trainings failed; the same command goes on with them. Their logs:{logs}"
        )
