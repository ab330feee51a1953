"""Logs: TensorBoard by accelerate's own tracker, and the same scalars as a CSV file."""

import csv
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, TensorBoardTracker, on_main_process


class CSVTracker(GeneralTracker):
    """Append one line (step, name, value) for every scalar."""

    name = "csv"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def tracker(self) -> Path:
        """The file."""
        return self._path

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Nothing: the options stand in metrics.json."""

    @on_main_process
    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        """Append the scalars."""
        new = not self._path.exists()
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(("step", "name", "value"))
            writer.writerows((step, name, value) for name, value in values.items())


def trackers(folder: Path) -> list[GeneralTracker]:
    """Return the loggers of a run whose files lie in `folder`."""
    return [TensorBoardTracker(run_name="tensorboard", logging_dir=folder), CSVTracker(folder / "log.csv")]
