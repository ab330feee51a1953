"""How well trained networks predict the training images that they saw without label maps.

pip install ".[examples]"
python examples/unlabelled.py --base RUNS/supervised/[0-4] --other RUNS/cowmix/[0-4] --data DIR

On those images a mean teacher teaches: where OTHER predicts them better than BASE, it learned from them; whether that
carries over to other images, the test set tells. Folders are of runs of one method, of the built-in scenes or, with
--data, of CamVid, whose training images all have published label maps. The n-th BASE and OTHER must have used the same
ones. The script prints a table of means over the pairs, and writes all scores to --out.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix
from tqdm import tqdm

from segmentation.campaigns.records import difference
from segmentation.campaigns.runner import markdown
from segmentation.config import Config
from segmentation.data.batches import labelled_images
from segmentation.data.datasets import VOID, DataError, Dataset
from segmentation.errors import one_sentence
from segmentation.evaluation import segment
from segmentation.outputs import read_report
from segmentation.saved import Trained, load_network
from segmentation.storage import write_whole
from train_camvid import load

MEASURES = ("iou", "precision", "recall")
Scores = dict[str, list[float | None]]  # of each class, by measure


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of unlabelled.py."""

    base: tuple[Path, ...]
    """Folders of runs of one method."""
    other: tuple[Path, ...]
    """Folders of the runs that are compared with them, as many."""
    data: Path | None = None
    """Folder of CamVid; by default the built-in scenes."""
    out: Path = Path("unlabelled.json")
    """JSON to write."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if not self.base or len(self.base) != len(self.other):
            raise DataError(f"--base and --other must be as many, got {len(self.base)} and {len(self.other)}.")


@torch.no_grad()
def confusion(trained: Trained, data: Dataset, indices: Sequence[int]) -> Tensor:
    """Return how many pixels of each class (rows) in training images are predicted as each class (columns)."""
    counts = MulticlassConfusionMatrix(len(data.classes), ignore_index=VOID, validate_args=False)
    for index in indices:
        prediction = segment(trained.network, data.train.image(index)[None] / 255).argmax(1)
        counts.update(prediction, data.train.label(index)[None].long())
    return counts.compute().double()


def scores_of(counts: Tensor) -> Scores:
    """Return IoU, precision and recall of each class, in percent, of a confusion matrix; None without such pixels."""
    hits, predicted, labelled = counts.diagonal(), counts.sum(0), counts.sum(1)
    shares = (hits / (predicted + labelled - hits), hits / predicted, hits / labelled)
    return {
        name: [None if math.isnan(share) else round(100 * share, 2) for share in of_classes.tolist()]
        for name, of_classes in zip(MEASURES, shares, strict=True)
    }


def score(folder: Path, data: Dataset, labelled: Sequence[int]) -> Scores:
    """Return the scores of a run on all training images but those with these indices."""
    trained = load_network(folder)
    if trained.classes != data.classes:
        raise DataError(f"{folder} predicts other classes than those of {data.name}: {', '.join(trained.classes)}.")
    unlabelled = sorted(set(range(len(data.train.names))) - {*labelled, *data.unlabelled})
    return scores_of(confusion(trained, data, unlabelled))


def chosen_by(folder: Path) -> dict[str, Any]:
    """Return the options of a run by which its labelled images are chosen, and its images' size."""
    report = read_report(folder)
    if report is None:
        raise DataError(f"{folder} holds no metrics.json of a finished run.")
    if "full" in report["test"]:
        raise DataError(f"{folder} was trained with the label maps of all images: it saw none without one.")
    return {name: report["config"][name] for name in ("size", "labelled", "seed", "subset")}


def table(classes: Sequence[str], pairs: Sequence[tuple[Scores, Scores]]) -> str:
    """Lay out the means over pairs as Markdown: IoU, the gain with its standard error, precision and recall."""
    lines = [["", "base", "other", "other - base", "precision", "recall"]]
    for row in ("mean", *classes):
        cells = []
        for measure in MEASURES:
            base, other = (
                {
                    number: statistics.fmean(known)
                    for number, pair in enumerate(pairs)
                    if (known := _known(pair[side][measure], row, classes))
                }
                for side in (0, 1)
            )
            means = [f"{statistics.fmean(one.values()):.1f}" if one else "none" for one in (base, other)]
            cells += [*means, str(difference(other, base) or "")] if measure == "iou" else [" to ".join(means)]
        lines.append([row, *cells])
    return markdown(lines)


def _known(of_classes: Sequence[float | None], row: str, classes: Sequence[str]) -> list[float]:
    chosen = of_classes if row == "mean" else [of_classes[classes.index(row)]]
    return [share for share in chosen if share is not None]


def main(options: Options) -> None:
    """Score all runs, print the table and write the scores."""
    pairs = list(zip(options.base, options.other, strict=True))
    chosen = [chosen_by(base) for base, _ in pairs]
    for (base, other), by_base in zip(pairs, chosen, strict=True):
        if (by_other := chosen_by(other)) != by_base:
            raise DataError(f"{base} and {other} used other images: {by_base} and {by_other}.")
    scores = []
    for pair, by in zip(tqdm(pairs, desc="Scoring", unit="pair", disable=None), chosen, strict=True):
        data, _ = load(Config(data=(options.data,) if options.data else (), size=tuple(by["size"])))
        labelled = labelled_images(data, by["labelled"], by["seed"], by["subset"])
        scores.append((score(pair[0], data, labelled), score(pair[1], data, labelled)))
    print(table(data.classes, scores))
    content = {"dataset": data.name, "classes": data.classes, "chosen by": chosen}
    content["pairs"] = [{"base": base, "other": other} for base, other in scores]
    write_whole(options.out, json.dumps(content) + "\n")
    print(f"Written: {options.out}.")


if __name__ == "__main__":
    with one_sentence("the same command"):
        main(tyro.cli(Options, description=__doc__))
