"""Classify images with few labels: CowMix, CowOut, CutMix, MixUp, or none, supervised and with a mean teacher.

pip install ".[examples]"
python examples/train_classification.py                          scikit-learn's digits, minutes
python examples/train_classification.py --trials 12              choose settings on validation images first
python examples/train_classification.py --data DIR --labelled 1000

DIR is CIFAR-10's folder cifar-10-batches-py. Repeat an interrupted command to continue. The script prints the accuracy
on the test images and writes metrics.json.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from tqdm import tqdm

from classification import report
from classification.data import Dataset, Images, choose_labelled, load_cifar10, load_digits
from classification.methods import ARRANGEMENTS, METHODS, TUNED, Arrangement, Method, Settings, trials, values_of
from classification.search import Trainings, Trial, tried
from classification.training import Job, Scores, train
from segmentation.errors import UserError, one_sentence
from segmentation.storage import locked, write_whole

ITERATIONS = {"digits": 600, "CIFAR-10": 20_000}
TIMED = 20  # iterations of each kind of training, to tell how long all will take
TRIAL_SEEDS = (1000, 1001)  # no training that is reported has these


class OptionsError(UserError):
    """An option is wrong; the message is one sentence for the user."""


@dataclass(frozen=True)
class Options:
    """Options of the comparison."""

    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of CIFAR-10, cifar-10-batches-py; by default, scikit-learn's digits."""
    method: Annotated[tuple[Method, ...], tyro.conf.arg(metavar="METHOD...")] = METHODS
    """none, mixup, cutmix, cowout, cowmix."""
    arrangement: Annotated[tuple[Arrangement, ...], tyro.conf.arg(metavar="ARRANGEMENT...")] = ARRANGEMENTS
    """supervised transforms labelled images; mean-teacher transforms unlabelled ones."""
    labelled: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N...")] = (50, 20)
    """Numbers of training images whose labels are used, equally many of each class."""
    seeds: int = 5
    """Trainings of each kind; a seed chooses labelled images, weights, batches and masks."""
    trials: int = 0
    """Settings to try for each method with the first number of labelled images; 0 takes those found on the digits."""
    iterations: int | None = None
    """Optimiser steps; by default 600 for the digits, 20,000 for CIFAR-10."""
    batch_size: int = 32
    """Labelled images in a batch; with a mean teacher, there are as many unlabelled ones."""
    width: int = 16
    """Channels of the network's first layers."""
    ema: float = 0.97
    """Share of its old weights that the teacher keeps in each step."""
    out: Path = Path("runs/classification")
    """Folder for metrics.json, and for trainings.json, from which an interrupted command continues."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        checks = {
            "method must name at least one": bool(self.method),
            "arrangement must name at least one": bool(self.arrangement),
            "labelled must be at least one number": bool(self.labelled),
            f"seeds must be from 1 to {TRIAL_SEEDS[0]}": 1 <= self.seeds <= TRIAL_SEEDS[0],
            "trials must be at least 0": self.trials >= 0,
            "iterations must be at least 1": self.iterations is None or self.iterations >= 1,
            "batch-size must be at least 2": self.batch_size >= 2,
            "width must be at least 1": self.width >= 1,
            "ema must be in [0, 1)": 0 <= self.ema < 1,
        }
        for rule, holds in checks.items():
            if not holds:
                raise OptionsError(f"--{rule}.")


def job_of(options: Options, data: Dataset, arrangement: Arrangement, method: Method) -> Job:
    """Return the training of seed 0 with the first number of labelled images, and the settings found on the digits."""
    return Job(
        arrangement,
        method,
        TUNED[arrangement, method],
        labelled=options.labelled[0],
        seed=0,
        iterations=options.iterations or ITERATIONS[data.name],
        batch_size=options.batch_size,
        width=options.width,
        ema=options.ema,
    )


def print_plan(options: Options, data: Dataset, jobs: Sequence[Job], total: int) -> None:
    """Say in one line what will be trained, and how long that takes at the pace of a few iterations of each kind."""
    few = Images(data.validation.pixels[:1], data.validation.labels[:1])
    train(data, replace(jobs[-1], iterations=1), few)  # warms up
    begun = time.perf_counter()
    for job in jobs:
        train(data, replace(job, iterations=TIMED), few)
    seconds = (time.perf_counter() - begun) / (TIMED * len(jobs)) * jobs[0].iterations * total
    duration = f"{seconds / 3600:.1f} hours" if seconds > 7200 else f"{max(seconds / 60, 1):.0f} min"
    labelled = " or ".join(map(str, options.labelled))
    print(
        f"{data.name}, {len(data.train):,} training images, {labelled} of them labelled: {total} trainings of "
        f"{jobs[0].iterations:,} iterations, about {duration} if none was done before."
    )


def chosen_settings(options: Options, trainings: Trainings, jobs: Sequence[Job]) -> tuple[list[Job], list[list[Trial]]]:
    """Give each job the best settings of its trials, or those found on the digits; return each job's trials, too."""
    if not options.trials:
        return list(jobs), []
    groups = [tried(trainings, job, trials(job.arrangement, job.method, options.trials), TRIAL_SEEDS) for job in jobs]
    best = [max(group, key=lambda trial: trial.mean).settings for group in groups]
    return [replace(job, settings=settings) for job, settings in zip(jobs, best, strict=True)], groups


def runs_on_test(options: Options, trainings: Trainings, jobs: Sequence[Job], labelled: int) -> report.Runs:
    """Train each job with all seeds and a number of labelled images, and score it on the test images."""
    runs: dict[Arrangement, dict[Method, list[Scores]]] = {job.arrangement: {} for job in jobs}
    for job in jobs:
        seeds = (replace(job, labelled=labelled, seed=seed) for seed in range(options.seeds))
        runs[job.arrangement][job.method] = [trainings.scores(one, "test") for one in seeds]
    return runs


def main(options: Options) -> None:
    """Choose settings, train, and print and write the results."""
    data = load_cifar10(options.data) if options.data else load_digits()
    for n in options.labelled:
        choose_labelled(data.train.labels, n, data.classes, 0)  # an error now rather than after hours
    jobs = [
        job_of(options, data, arrangement, method) for arrangement in options.arrangement for method in options.method
    ]
    total = len(jobs) * (options.trials * len(TRIAL_SEEDS) + options.seeds * len(options.labelled))
    print_plan(options, data, jobs, total)
    with tqdm(total=total, disable=None) as bar:
        trainings = Trainings(options.out / "trainings.json", data, bar.update)
        jobs, groups = chosen_settings(options, trainings, jobs)
        runs = {n: runs_on_test(options, trainings, jobs, n) for n in options.labelled}
    summaries = {n: report.summaries(scores) for n, scores in runs.items()}
    for n, content in summaries.items():
        title = f"{data.name}, {n} of {len(data.train):,} training images labelled: test accuracy, %"
        Console().print(report.table(content, title))
    path = options.out / "metrics.json"
    write_whole(path, json.dumps(metrics(options, data, jobs, groups, summaries), indent=1, allow_nan=False) + "\n")
    print(f"Written: {path}.")


def metrics(
    options: Options, data: Dataset, jobs: Sequence[Job], groups: Sequence[Sequence[Trial]], summaries: dict[int, Any]
) -> dict[str, Any]:
    """Gather options, settings, trials and scores for metrics.json, without the user's paths."""
    kept = {name: value for name, value in asdict(options).items() if name not in ("data", "out")}
    return {
        "dataset": data.name,
        "torch": torch.__version__,
        "options": kept | {"iterations": jobs[0].iterations},
        "settings": {f"{job.arrangement}, {job.method}": used(job, job.settings) for job in jobs},
        "trials": {
            f"{job.arrangement}, {job.method}": [[used(job, one.settings), one.accuracies] for one in group]
            for job, group in zip(jobs, groups, strict=False)  # there may be none
        },
        "test": summaries,
    }


def used(job: Job, settings: Settings) -> dict[str, Any]:
    """Return those settings that a job's method reads."""
    return {name: getattr(settings, name) for name in values_of(job.arrangement, job.method)}


if __name__ == "__main__":
    with one_sentence("the same command"):
        options = tyro.cli(Options, description=__doc__)
        with locked(options.out):
            main(options)
