"""Semi-supervised segmentation of street scenes by the methods of the paper's Table 1.

python examples/train_camvid.py                                  built-in scenes, a few minutes on a laptop
python examples/train_camvid.py --data DIR --encoder-weights imagenet
python examples/train_camvid.py --help
"""

import json
import math
import sys
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from segmentation.checkpoints import write_whole
from segmentation.config import Config, ConfigError, parse
from segmentation.datasets import DataError, Dataset, load_camvid, load_street
from segmentation.networks import NetworkError
from segmentation.pictures import save_panel
from segmentation.trainer import Outcome, Trainer, processes


def load(config: Config) -> Dataset:
    """Read CamVid, or draw the built-in scenes where there is none."""
    if config.data is not None:
        return load_camvid(config.data, config.size)
    if processes().is_main_process:
        print("No --data given: training on the built-in procedural street scenes.")
    return load_street(config.size)


def results_table(data: Dataset, outcomes: dict[str, Outcome], size: tuple[int, int]) -> Table:
    """Lay out the teachers' scores, a column for each method."""
    table = Table(title=f"{data.name}, test set at {size[1]}x{size[0]}: intersection over union, %")
    table.add_column("class")
    for name in outcomes:
        table.add_column(name, justify="right")
    for index, class_name in enumerate(data.classes):
        table.add_row(class_name, *[f"{100 * outcome.teacher.per_class[index]:.1f}" for outcome in outcomes.values()])
    table.add_section()
    table.add_row("mean (mIoU)", *[f"{100 * outcome.teacher.miou:.1f}" for outcome in outcomes.values()], style="bold")
    table.add_row("mean, student", *[f"{100 * outcome.student.miou:.1f}" for outcome in outcomes.values()])
    return table


def metrics(config: Config, data: Dataset, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Gather the options and the scores for metrics.json."""
    scores = {
        name: {
            "miou": outcome.teacher.miou,
            # None for a class that the test set has not: JSON knows no NaN.
            "iou": {
                class_name: None if math.isnan(value) else value
                for class_name, value in zip(data.classes, outcome.teacher.per_class, strict=True)
            },
            "student_miou": outcome.student.miou,
        }
        for name, outcome in outcomes.items()
    }
    return {"dataset": data.name, "torch": torch.__version__, "config": asdict(config), "test": scores}


def main(config: Config) -> None:
    """Train each method and show how they compare."""
    data = load(config)
    if processes().is_main_process and not config.resume:
        for name in ("metrics.json", "panel.png"):  # of an earlier run
            (config.out / name).unlink(missing_ok=True)
    outcomes: dict[str, Outcome] = {name: Trainer(config, data, name).fit() for name in config.method}
    if processes().is_main_process:
        report_on(config, data, outcomes)
    processes().destroy_process_group()


def report_on(config: Config, data: Dataset, outcomes: dict[str, Outcome]) -> None:
    """Print the table, and write metrics.json and the panel."""
    Console().print(results_table(data, outcomes, config.size))
    report = config.out / "metrics.json"
    config.out.mkdir(parents=True, exist_ok=True)
    write_whole(report, json.dumps(metrics(config, data, outcomes), indent=2, default=str) + "\n")
    panel = config.out / "panel.png"
    predictions = {name: outcome.predictions for name, outcome in outcomes.items()}
    save_panel(panel, data, predictions, config.mask_sigma, config.seed)
    print(f"Written: {report}, {panel}, and a folder of logs and checkpoints for each method in {config.out}.")


if __name__ == "__main__":
    try:
        main(parse(description=__doc__))
    except (ConfigError, DataError, NetworkError) as error:
        sys.exit(f"train_camvid: {error}")
