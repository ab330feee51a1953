"""Trainings that are kept, so that none is repeated, and the choice of settings on the validation images."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch

from classification.data import Dataset
from classification.methods import Settings
from classification.training import Job, Scores, train
from segmentation.storage import read_json, write_whole

Part = Literal["validation", "test"]


class Trainings:
    """Scores of the trainings done so far, in a file that is written after each."""

    def __init__(self, path: Path, data: Dataset, note: Callable[[], object]) -> None:
        """Go on with the file at `path`, if there is one; `note` is called after each training."""
        self._path, self._data, self._note = path, data, note
        self._scores: dict[str, list[float]] = read_json(path, dict) if path.exists() else {}

    def scores(self, job: Job, part: Part) -> Scores:
        """Train, unless this job was done before, and return the accuracies on one part of the data."""
        key = json.dumps({"data": self._data.name, "part": part, "torch": torch.__version__, **asdict(job)})
        if key not in self._scores:
            self._scores[key] = list(train(self._data, job, getattr(self._data, part)))
            write_whole(self._path, json.dumps(self._scores, indent=1) + "\n")
        self._note()
        return Scores(*self._scores[key])


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and the teacher's accuracy on the validation images, for each seed."""

    settings: Settings
    accuracies: list[float]

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return fmean(self.accuracies)


def tried(trainings: Trainings, job: Job, settings: Sequence[Settings], seeds: Sequence[int]) -> list[Trial]:
    """Train with each of the settings and seeds in place of the job's, without a look at the test images."""
    return [
        Trial(one, [trainings.scores(replace(job, settings=one, seed=seed), "validation").teacher for seed in seeds])
        for one in settings
    ]
