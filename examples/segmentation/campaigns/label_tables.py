"""The paper's Tables 2, 3, 5 and 6: mIoU by number of labelled images, and IoU by class for the fewest."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro
from rich.console import Console
from rich.markdown import Markdown

from segmentation.campaigns import runner
from segmentation.campaigns.plots import save_curves
from segmentation.campaigns.runner import Job, Summary
from segmentation.methods import MethodName
from segmentation.storage import locked

PAPER = Path(__file__).parent / "paper_tables.csv"
RowName = Literal[
    "hung-supervised", "hung-adversarial", "deeplab2-supervised", "deeplab2-cowmix", "unet-supervised", "unet-cowmix"
]
FULL = "mIoU at full resolution"
Cells = Mapping[tuple[str, int, str], Summary]  # by row, number of labelled images, and class or "mIoU" or FULL


class Row(NamedTuple):
    """A row of the tables."""

    title: str
    method: MethodName
    baseline: str | None  # the gain is counted from this row
    arguments: tuple[str, ...]


_DEEPLAB, _UNET = ("--network", "deeplab2"), ("--network", "unet")
ROWS: dict[RowName, Row] = {
    "hung-supervised": Row("Hung et al., baseline", "supervised", None, (*_DEEPLAB, "--recipe", "hung")),
    "hung-adversarial": Row(
        "Hung et al., semi-supervised", "adversarial", "hung-supervised", (*_DEEPLAB, "--recipe", "hung")
    ),
    "deeplab2-supervised": Row("DeepLab v2, baseline", "supervised", None, _DEEPLAB),
    "deeplab2-cowmix": Row("DeepLab v2, CowMix", "cowmix", "deeplab2-supervised", _DEEPLAB),
    "unet-supervised": Row("U-Net, baseline", "supervised", None, _UNET),
    "unet-cowmix": Row("U-Net, CowMix", "cowmix", "unet-supervised", _UNET),
}


@dataclass(frozen=True)
class Options:
    """Options of the tables; options of the trainings, such as --data, follow --."""

    labelled: tuple[int, ...]
    """Numbers of labelled images, the columns."""
    out: Path
    """Folder for the tables and the plot, and for each training, ROW/LABELLED/SEED."""
    row: Annotated[tuple[RowName, ...], tyro.conf.arg(metavar="ROW...")] = tuple(ROWS)
    """Rows to train."""
    seeds: int = 5
    """Runs for each cell, with seeds from 0; each seed chooses its labelled images."""
    unet_weights: Annotated[str, tyro.conf.arg(metavar="imagenet|none|FILE")] = "imagenet"
    """Weights of the U-Net's encoder."""
    deeplab_weights: Annotated[str, tyro.conf.arg(metavar="imagenet|none|FILE")] = "imagenet"
    """Weights of DeepLab v2; for the paper's, pre-trained on COCO, give their file."""
    at_once: int = 1
    """Trainings to run at the same time, on shared cores or a shared GPU."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if not self.labelled or min(self.labelled) < 1:
            raise runner.CampaignError("--labelled must be numbers of at least 1.")
        if self.seeds < 1 or self.at_once < 1:
            raise runner.CampaignError("--seeds and --at-once must be at least 1.")


class LabelTables(NamedTuple):
    """Two tables of one data set."""

    number: int  # the paper's table by number of labels
    detail: int  # the paper's table by class
    trainer: str  # file name of the training script
    all_labels: int  # images in the published training set


def paper(table: int) -> Cells:
    """Return the numbers of a table in the paper, and of its table by class."""
    with PAPER.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["table"]) == table]
    return {
        (row["row"], int(row["labelled"]), row["class"]): Summary(
            (), float(row["mean"]), float(row["std"]) if row["std"] else None
        )
        for row in rows
    }


def jobs(tables: LabelTables, options: Options, passed: Sequence[str]) -> dict[tuple[RowName, int], list[Job]]:
    """Return the trainings for each cell; as in the paper, adversarial training never has all labels."""
    weights = {"unet": options.unet_weights, "deeplab2": options.deeplab_weights}
    cells = {}
    for name in options.row:
        row = ROWS[name]
        for labelled in sorted(options.labelled):
            if row.method == "adversarial" and labelled == tables.all_labels:
                continue
            own = (*row.arguments, "--encoder-weights", weights[row.arguments[1]], "--labelled", str(labelled))
            cells[name, labelled] = [
                runner.job(
                    options.out / name / str(labelled) / str(seed), row.method, (*own, "--seed", str(seed)), passed
                )
                for seed in range(options.seeds)
            ]
    return cells


def gather(cells: Mapping[tuple[RowName, int], Sequence[Job]]) -> dict[tuple[str, int, str], Summary]:
    """Summarise mIoU and scores by class, in percent, over the runs of each cell."""
    found: dict[tuple[str, int, str], Summary] = {}
    for (name, labelled), runs in cells.items():
        scores = [report["test"][job.method] for job in runs if (report := job.report())]
        found[name, labelled, "mIoU"] = runner.gather(runs)
        if full := [runner.percent(score["full_resolution"]) for score in scores if "full_resolution" in score]:
            found[name, labelled, FULL] = runner.summarise(full)
        found |= {(name, labelled, class_name): score for class_name, score in runner.gather_classes(runs).items()}
    return found


def over_labels(cells: Cells, known: Cells, options: Options) -> list[list[str]]:
    """Return the lines of Table 2 or 3: for each row the scores and gains, in the paper and here."""
    columns = sorted(options.labelled)
    lines = [["labelled images", *map(str, columns)]]
    for name in options.row:
        row = ROWS[name]
        for source, where in ((known, "paper"), (cells, "here")):
            of_row = [source.get((name, n, "mIoU")) for n in columns]
            lines.append([f"{row.title}, {where}", *map(_written, of_row)])
            full = [source.get((name, n, FULL)) for n in columns]
            if any(full):
                lines.append([f"at full resolution, {where}", *map(_written, full)])
            if row.baseline:
                below = [source.get((row.baseline, n, "mIoU")) for n in columns]
                gains = [
                    f"{one.mean - base.mean:+.2f}" if one and base else ""
                    for one, base in zip(of_row, below, strict=True)
                ]
                lines.append([f"gain, {where}", *gains])
    return lines


def per_class(cells: Cells, known: Cells, options: Options) -> list[list[str]]:
    """Return the lines of Table 5 or 6: with the fewest labels, and for baselines also with the most."""
    few, most = min(options.labelled), max(options.labelled)
    columns = [(name, few) for name in options.row]
    if most > few:
        columns += [(name, most) for name in options.row if ROWS[name].method == "supervised"]
    classes = [name for name in dict.fromkeys(class_name for _, _, class_name in cells) if name != FULL]
    titles = [f"{ROWS[name].title}, {n} labels, {where}" for name, n in columns for where in ("paper", "here")]
    lines = [["class", *titles]]
    for class_name in classes:
        pairs = [(source.get((name, n, class_name))) for name, n in columns for source in (known, cells)]
        lines.append([class_name, *map(_written, pairs)])
    return lines


def _written(score: Summary | None) -> str:
    return "" if score is None else str(score)


def main(tables: LabelTables, options: Options, passed: Sequence[str], command: Sequence[str] = ()) -> None:
    """Train what is not trained yet with the arguments `passed`, and write both tables.

    By default, `command` is the trainer of the tables.
    """
    cells = jobs(tables, options, passed)
    every = [job for group in cells.values() for job in group]
    with locked(options.out):
        runner.run(every, options.at_once, command or runner.trainer(tables.trainer))
    found, known = gather(cells), paper(tables.number)
    origin: dict[str, Any] = runner.provenance(every, passed)
    sizes = sorted({score["size"] for job in every if (report := job.report()) for score in report["test"].values()})
    tested = f"{origin['dataset']}, {origin['tested_on']}"
    title = f"{tested}, mIoU in percent at {', '.join(sizes)}; runs: {options.seeds} (paper: 5)"
    over = f"{title}\n\n{runner.markdown(over_labels(found, known, options))}"
    (options.out / f"table{tables.number}.md").write_text(over)
    detail = runner.markdown(per_class(found, known, options))
    title_of_detail = f"{tested}, intersection over union in percent"
    (options.out / f"table{tables.detail}.md").write_text(f"{title_of_detail}\n\n{detail}")
    content = origin | {
        "test": [{"row": r, "labelled": n, "class": c, **s._asdict()} for (r, n, c), s in found.items()]
    }
    (options.out / f"table{tables.number}.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    curves = {
        ROWS[name].title: {
            where: {n: one for n in options.labelled if (one := source.get((name, n, "mIoU")))}
            for where, source in (("paper", known), ("here", found))
        }
        for name in options.row
    }
    save_curves(options.out / f"table{tables.number}.png", title, curves)
    Console().print(Markdown(over))
    written = (f"table{tables.number}.md, .json and .png", f"table{tables.detail}.md")
    print(f"Written: {' and '.join(written)} in {options.out}.")
