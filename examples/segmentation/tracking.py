"""Logs: TensorBoard by accelerate's tracker, and the same scalars as a CSV file; the time that a run will take."""

import csv
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, TensorBoardTracker
from tqdm import tqdm

from segmentation.storage import write_whole

_LOG, _BOARD = "log.csv", "tensorboard"
_HEADING = "step,name,value"
_SCALAR = re.compile(r"([0-9]{1,12}),([\w/]+),(-?[0-9.e+-]+|-?inf|nan)")
LONG = 60.0  # seconds, worth a line


class CSVTracker(GeneralTracker):
    """Append one line (step, name, value) for every scalar."""

    name = "csv"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, path: Path, start: int) -> None:
        """Continue at step `start`: drop what an interrupted run logged after that step, and lines without a scalar."""
        super().__init__(_blank=True)
        self._path = path
        lines = _lines(path)
        scalars = [scalar for line in lines if (scalar := _SCALAR.fullmatch(line))]
        if len(scalars) < len(lines):
            print(f"{path}: {len(lines) - len(scalars)} lines hold no scalar and are dropped.")
        kept = [line[0] for line in scalars if int(line[1]) <= start and not line[2].startswith("test/")]
        write_whole(path, "".join(f"{line}\n" for line in (_HEADING, *kept)))

    @property
    def tracker(self) -> Path:
        """The CSV file."""
        return self._path

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        """Append the scalars."""
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows((step, name, value) for name, value in values.items())


def _lines(path: Path) -> list[str]:
    """Return the lines after the heading; none if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").split("\n")
    return [line for line in lines if line not in (_HEADING, "")]


def trackers(folder: Path, start: int) -> list[GeneralTracker]:
    """Return loggers that write to `folder` and continue at step `start`."""
    board = TensorBoardTracker(run_name=_BOARD, logging_dir=folder, purge_step=start + 1)
    board.start()
    return [board, CSVTracker(folder / _LOG, start)]


def has_scalars(folder: Path) -> bool:
    """Return whether anything was logged in a folder."""
    return bool(_lines(folder / _LOG))


def remove(folder: Path) -> None:
    """Remove the logs from a folder, and nothing else."""
    (folder / _LOG).unlink(missing_ok=True)
    for events in (folder / _BOARD).glob("events.out.tfevents.*"):
        events.unlink()
    with suppress(OSError):  # it is not there, or holds files of the user's
        (folder / _BOARD).rmdir()


def print_duration(bar: "tqdm[Any]") -> None:
    """Print how long the iterations left will take at the pace of those done, if that is long."""
    progress = bar.format_dict
    left = progress["total"] - progress["n"]
    seconds = left * progress["elapsed"] / (progress["n"] - progress["initial"])
    if seconds > LONG:
        words = f"{seconds / 3600:.1f} hours" if seconds > 7200 else f"{seconds / 60:.0f} minutes"
        bar.write(f"{bar.desc}: about {words} for the {left:,} iterations left, at the pace of the first ones.")
