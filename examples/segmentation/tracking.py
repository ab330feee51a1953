"""Logs: TensorBoard by accelerate's tracker, and the same scalars as a CSV file."""

import csv
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, TensorBoardTracker

from segmentation.checkpoints import write_whole


class CSVTracker(GeneralTracker):
    """Append one line (step, name, value) for every scalar."""

    name = "csv"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, path: Path, start: int) -> None:
        """Continue at step `start`: drop what an interrupted run logged after that step."""
        super().__init__(_blank=True)
        self._path = path
        kept: list[tuple[str, ...]] = [("step", "name", "value")]
        if path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == 3]  # the last line may be cut short
            kept += [tuple(row) for row in rows[1:] if int(row[0]) <= start and not row[1].startswith("test/")]
        write_whole(path, "".join(",".join(row) + "\n" for row in kept))

    @property
    def tracker(self) -> Path:
        """The CSV file."""
        return self._path

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        """Append the scalars."""
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows((step, name, value) for name, value in values.items())


def trackers(folder: Path, start: int) -> list[GeneralTracker]:
    """Return loggers that write to `folder` and continue at step `start`."""
    board = TensorBoardTracker(run_name="tensorboard", logging_dir=folder, purge_step=start + 1)
    board.start()
    return [board, CSVTracker(folder / "log.csv", start)]
