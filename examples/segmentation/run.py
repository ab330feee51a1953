"""What the trainers' commands share: train each method, print the scores and write them to metrics.json."""

import gc
import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from segmentation import outputs
from segmentation.config import Config, Options, Presets, parse
from segmentation.data.batches import labelled_images
from segmentation.data.checking import check, parts_of
from segmentation.data.datasets import Dataset
from segmentation.data.transductive import with_scored_images
from segmentation.distributed import on_first, processes
from segmentation.errors import one_sentence
from segmentation.evaluation import Scores, shares_of_gap
from segmentation.methods import build_methods
from segmentation.pictures import save_panel
from segmentation.storage import locked, naming, write_whole
from segmentation.trainer import Outcome, Trainer

Load = Callable[[Options], tuple[Dataset, list[str]]]  # returns also notes on the data for the user


def start(load: Load[Options], presets: Presets[Options], description: str | None) -> None:
    """Train by the command line."""
    with one_sentence("the same command with --resume"):
        main(parse(presets, description=description), load)


def main(config: Options, load: Load[Options]) -> None:
    """Train each method and report their scores."""
    with ExitStack() as stack:
        on_first(lambda: stack.enter_context(locked(config.out)))
        on_first(lambda: outputs.refuse_to_lose(config))
        data, notes = load(config)
        if config.score_on == "val":
            data = replace(data, test=data.val, tested_on="validation set")
        if config.transductive:
            data = with_scored_images(data)
        on_first(lambda: check(data.name, parts_of(data, labelled_by(config, data)), data.problems))
        options = outputs.options_of(config, data, processes().num_processes)
        on_first(lambda: outputs.begin(config, options))
        on_first(lambda: outputs.write_lists(config, data))
        on_first(lambda: print(*notes, sep="\n", end="\n" if notes else ""))
        outcomes: dict[str, Outcome] = {}
        for name in config.method:
            outcomes[name] = Trainer(config, data, name).fit()
            gc.collect()  # free this method's network, data workers and process group before the next method starts
        on_first(lambda: report(config, data, notes, outcomes))
    processes().destroy_process_group()  # a gloo thread that frees a tensor while Python exits would abort the process


def labelled_by(config: Config, data: Dataset) -> set[int]:
    """Return the training images whose label maps are read by any of the methods."""
    methods = build_methods(config.size, config.mask_sigma)
    return {
        index
        for name in config.method
        for index in labelled_images(data, config.labelled, config.seed, config.subset, methods[name].all_labels)
    }


def report(config: Config, data: Dataset, notes: list[str], outcomes: dict[str, Outcome]) -> None:
    """Print the table, and write metrics.json and the panel."""
    Console().print(results_table(config, data, outcomes))
    path, panel = config.out / outputs.METRICS, config.out / outputs.PANEL
    with naming(panel):
        save_panel(panel, data, {name: outcome.teacher.maps for name, outcome in outcomes.items()}, config)
    # Written last: a run that has metrics.json is finished.
    content = {"dataset": data.name, "tested_on": data.tested_on, "notes": notes, **metrics(config, data, outcomes)}
    write_whole(path, json.dumps(content, indent=2, default=str, allow_nan=False) + "\n")
    print(f"Written: {path}, {panel}, and a folder of logs and checkpoints for each method in {config.out}.")


def results_table(config: Config, data: Dataset, outcomes: dict[str, Outcome]) -> Table:
    """Lay out the teachers' scores, one column for each method."""
    size = size_of(config, data)
    table = Table(title=f"{data.name}, {data.tested_on} at {size}: intersection over union, %")
    table.add_column("class")
    for name in outcomes:
        table.add_column(name, justify="right")
    teachers = [outcome.teacher for outcome in outcomes.values()]
    for index, class_name in enumerate(data.classes):
        table.add_row(class_name, *[_percent(teacher.scores.per_class[index]) for teacher in teachers])
    table.add_section()
    table.add_row("mean (mIoU)", *[_percent(teacher.scores.miou) for teacher in teachers], style="bold")
    table.add_row("mean, student", *[_percent(outcome.student.scores.miou) for outcome in outcomes.values()])
    shares = shares_of_gap({name: outcome.teacher.scores.miou for name, outcome in outcomes.items()})
    if shares:
        closed = {name: f"{100 * share:.0f}%" for name, share in shares.items()}
        table.add_row("gap to full closed", *[closed.get(name, "") for name in outcomes])
    if data.full_size:
        full = [teacher.full.miou for teacher in teachers if teacher.full]
        table.add_row(f"mean at {_size(data.full_size)}", *map(_percent, full))
    return table


def size_of(config: Config, data: Dataset) -> str:
    """Return the size that images are scored at, in words."""
    return "their own sizes" if data.own_sizes else _size(config.size)


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def metrics(config: Config, data: Dataset, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Gather the options and the scores for metrics.json."""
    scores = {}
    for name, (student, teacher, _) in outcomes.items():
        scores[name] = {"size": size_of(config, data), **_named(teacher.scores, data)}
        scores[name]["student_miou"] = _number(student.scores.miou)
        if teacher.groups:
            scores[name]["groups"] = {group: _number(one.miou) for group, one in teacher.groups.items()}
        if teacher.full and data.full_size:
            scores[name]["full_resolution"] = {"size": _size(data.full_size), **_named(teacher.full, data)}
    seconds = {name: round(outcome.seconds, 1) for name, outcome in outcomes.items()}
    return {"torch": torch.__version__, "config": asdict(config), "seconds": seconds, "test": scores}


def _named(scores: Scores, data: Dataset) -> dict[str, Any]:
    iou = dict(zip(data.classes, map(_number, scores.per_class), strict=True))
    return {"miou": _number(scores.miou), "iou": iou}


def _number(score: float) -> float | None:
    # JSON has no NaN, the score of a class that is not in the test set, and of all if no pixel there has a label.
    return None if math.isnan(score) else score
