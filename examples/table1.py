"""The paper's Table 1: every method on ten subsets of 30 labelled CamVid frames, beside the paper's numbers.

pip install ".[examples]"
python examples/table1.py -- --data DIR --encoder-weights imagenet
python examples/table1.py --subsets 3 -- --data DIR --encoder-weights FILE --size 120 160 --iterations 300
python examples/table1.py --help

Arguments after -- go to train_camvid.py. Repeat an interrupted command to continue. The script writes
table1.json, table1.md and table1.png.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from segmentation.campaigns import runner
from segmentation.campaigns.plots import save_comparison
from segmentation.campaigns.runner import Summary
from segmentation.evaluation import shares_of_gap
from segmentation.methods import MethodName
from segmentation.storage import locked

# Table 1: mean and standard deviation of 10 runs of 300 epochs. Standard augmentation was stopped after 50 epochs and
# CutMix after 100, since they did not converge.
PAPER: dict[MethodName, Summary] = {
    "supervised": Summary((), 48.66, 1.80),
    "std_aug": Summary((), 46.24, 2.21),
    "ict": Summary((), 48.29, 2.01),
    "cutout": Summary((), 53.09, 2.56),
    "cutmix": Summary((), 50.95, 2.49),
    "cowout": Summary((), 52.93, 1.35),
    "cowmix": Summary((), 55.06, 1.74),
    "full": Summary((), 64.19, 0.41),
}
TITLES: dict[MethodName, str] = {
    "supervised": "Sup. baseline",
    "std_aug": "Std. aug.",
    "ict": "ICT",
    "cutout": "Cutout",
    "cutout_square": "Cutout, square",
    "cutmix": "CutMix",
    "cutmix_fixed": "CutMix, fixed",
    "cowout": "CowOut",
    "cowmix": "CowMix",
    "full": "Fully sup.",
}
HEADINGS = ("", "paper, mIoU %", "here, mIoU %", "paper, gap closed %", "here, gap closed %")


@dataclass(frozen=True)
class Options(runner.Options):
    """Options of the table; options of the trainings follow --."""

    method: Annotated[tuple[MethodName, ...], tyro.conf.arg(metavar="METHOD...")] = tuple(PAPER)
    """Methods to train: the columns of Table 1; also cutout_square and cutmix_fixed, the original shapes."""
    out: Path = Path("runs/table1")
    """Folder for table1.json, table1.md and table1.png, and for each method's runs, METHOD/SUBSET."""


def gap_closed(scores: Mapping[MethodName, Summary]) -> dict[MethodName, float]:
    """Return how much of the gap from supervised to full each other method closes, in percent; empty without a gap."""
    shares = shares_of_gap({name: score.mean for name, score in scores.items()})
    return {name: 100 * shares[name] for name in scores if name in shares}


def rows(scores: Mapping[MethodName, Summary]) -> list[list[str]]:
    """Return the table's cells: method, mIoU in the paper and here, gap closed in the paper and here."""
    columns = [
        *({name: str(score) for name, score in source.items()} for source in (PAPER, scores)),
        *({name: f"{share:.1f}" for name, share in gap_closed(source).items()} for source in (PAPER, scores)),
    ]
    return [[TITLES.get(name, name), *(column.get(name, "") for column in columns)] for name in scores]


def rich_table(cells: Sequence[Sequence[str]], title: str) -> Table:
    """Lay out the cells for the terminal."""
    table = Table(title=title)
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if i else "left")
    for row in cells:
        table.add_row(*row)
    return table


def plot(path: Path, scores: Mapping[MethodName, Summary], title: str) -> None:
    """Draw the scores beside the paper's, and below them the gap closed where it is known."""
    panels: dict[str, dict[str, list[Summary | None]]] = {
        "mIoU, %": {"paper": [PAPER.get(name) for name in scores], "here": list(scores.values())}
    }
    if gap_closed(scores):
        shares = {"paper": gap_closed(PAPER), "here": gap_closed(scores)}
        panels["gap between supervised\nand fully sup. closed, %"] = {
            source: [Summary((), known[name], None) if name in known else None for name in scores]
            for source, known in shares.items()
        }
    save_comparison(path, title, [TITLES.get(name, name).replace(" ", "\n") for name in scores], panels)


def report(options: Options, scores: Mapping[MethodName, Summary], origin: Mapping[str, Any]) -> None:
    """Print the table, and write it as JSON, Markdown and a plot."""
    content = dict(origin)
    for key, source in {"test": scores, "paper": PAPER}.items():
        shares = gap_closed(source)
        content[key] = {name: score._asdict() | {"gap_closed": shares.get(name)} for name, score in source.items()}
    (options.out / "table1.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    title = f"{origin['dataset']}, {origin['tested_on']}; subsets of labelled frames: {options.subsets} (paper: 10)"
    cells = rows(scores)
    (options.out / "table1.md").write_text(f"{title}\n\n{runner.markdown([HEADINGS, *cells])}")
    plot(options.out / "table1.png", scores, title)
    Console().print(rich_table(cells, title))
    print(f"Written: table1.json, table1.md and table1.png in {options.out}.")


def main(options: Options, passed: Sequence[str], command: Sequence[str] = runner.TRAINER) -> None:
    """Train what is not trained yet by `command` with the arguments `passed`, and report."""
    jobs = {name: runner.subset_jobs(options.out / name, name, options.subsets, passed) for name in options.method}
    every = [job for group in jobs.values() for job in group]
    with locked(options.out):
        runner.run(every, options.at_once, command)
    report(options, {name: runner.gather(group) for name, group in jobs.items()}, runner.provenance(every, passed))


if __name__ == "__main__":
    runner.start(main, Options, __doc__)
