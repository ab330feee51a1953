"""What runs leave in --out: nothing of an earlier run, and nothing of the user's, is lost unless asked for."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segmentation import checkpoints, tracking
from segmentation.checkpoints import Checkpoints, Options, differing
from segmentation.config import Config
from segmentation.data.datasets import Dataset
from segmentation.saved import FILE
from segmentation.storage import StorageError, read_json, write_whole

OPTIONS, METRICS, PANEL = "options.json", "metrics.json", "panel.png"

# Options that may change when a run is resumed.
_FREE_TO_CHANGE = {
    "data",
    "method",
    "out",
    "resume",
    "overwrite",
    "score_on",
    "evaluate_every",
    "checkpoint_every",
    "workers",
}


def options_of(config: Config, data: Dataset, world: int) -> Options:
    """Return what a training and the one that goes on with it have in common, on `world` processes."""
    free = _FREE_TO_CHANGE - ({"score_on"} if config.transductive else set())  # it then says which images are seen
    options = {key: str(value) for key, value in asdict(config).items() if key not in free}
    images = repr((data.name, data.train.names, data.unlabelled)).encode()
    return options | {"processes": str(world), "training images": hashlib.sha256(images).hexdigest()[:16]}


def read_report(out: Path) -> dict[str, Any] | None:
    """Return the content of metrics.json; None if it is missing or damaged, since a resumed run writes it again."""
    try:
        report = read_json(out / METRICS, dict)
        is_whole = {"dataset", "tested_on", "torch"} <= report.keys()
        is_whole &= all(isinstance(scores["miou"], float | None) for scores in report["test"].values())
    except (StorageError, AttributeError, KeyError, TypeError):
        return None
    return report if is_whole else None


def what_is_there(folder: Path) -> str:
    """Return in words how far a method's training came; empty if there is nothing to lose."""
    if (folder / FILE).exists():
        return "finished"
    if found := checkpoints.found(folder):
        return f"stopped after {found[-1].name}"
    return "stopped before its first checkpoint" if tracking.has_scalars(folder) else ""


def refuse_to_lose(config: Config) -> None:
    """Refuse to replace a run without --overwrite.

    Raises:
        StorageError: If --out holds one, and neither --resume nor --overwrite is given.
    """
    if config.resume:
        _refuse_to_lose_scores(config)
        return
    there = [f"{name} {what}" for name in config.method if (what := what_is_there(config.out / name))]
    there += [name for name in (METRICS, PANEL) if (config.out / name).exists()]
    if there and not config.overwrite:
        raise StorageError(
            f"{config.out} holds a run ({', '.join(there)}): add --resume to go on with it, --overwrite to replace it, "
            "or choose another --out."
        )


def _refuse_to_lose_scores(config: Config) -> None:
    """Refuse to replace scores of methods that --method does not name."""
    report = read_report(config.out) or {"test": ()}
    if others := sorted(set(report["test"]) - set(config.method)):
        raise StorageError(
            f"{config.out / METRICS} holds scores of {', '.join(others)}: name them after --method, too, or choose "
            "another --out."
        )


def begin(config: Config, options: Options) -> None:
    """Make each method's folder ready: for going on with --resume, else empty of what a run writes.

    Raises:
        StorageError: If a run cannot be resumed; nothing is changed then.
    """
    folders = [config.out / name for name in config.method]
    going_on = [folder for folder in folders if config.resume and what_is_there(folder)]
    for folder in going_on:
        _refuse_other_options(folder, options)
        Checkpoints(folder, options).check()
    if config.overwrite:
        for name in (METRICS, PANEL):
            (config.out / name).unlink(missing_ok=True)
    for folder in folders:
        if folder in going_on:
            continue
        _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / OPTIONS, json.dumps(options, indent=2) + "\n")


def write_lists(config: Config, data: Dataset) -> None:
    """Write the names that the data set wants to be known after the run, a text file for each list."""
    for name, lines in data.lists.items():
        write_whole(config.out / f"{name}.txt", "".join(f"{line}\n" for line in lines))


def _refuse_other_options(folder: Path, options: Options) -> None:
    """Refuse to resume a training that cannot be resumed with these options."""
    try:
        others = differing(read_json(folder / OPTIONS, dict), options)
    except StorageError as error:
        raise StorageError(
            f"{str(error).rstrip('.')}, so that nobody knows how {folder} was trained: put its {OPTIONS} back, or give "
            "--overwrite to start anew."
        ) from error
    if others:
        raise StorageError(
            f"{folder} was begun with other options ({others}): give the same to --resume, --overwrite to "
            "start anew, or choose another --out."
        )
    if what_is_there(folder) == "finished" and not checkpoints.found(folder):
        raise StorageError(
            f"{folder} holds {FILE} of a finished training without its checkpoint: give --overwrite to start anew, "
            "or choose another --out."
        )


def _clear(folder: Path) -> None:
    """Remove what a training writes, and nothing else."""
    checkpoints.remove(folder)
    tracking.remove(folder)
    for name in (OPTIONS, FILE):
        (folder / name).unlink(missing_ok=True)
