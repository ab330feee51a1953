"""segmentation/campaigns/label_tables.py, table2.py and table3.py, with a trainer that only records its arguments."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import table2
import table3
from segmentation.campaigns import label_tables, runner
from segmentation.campaigns.label_tables import PAPER, ROWS, LabelTables, RowName
from segmentation.campaigns.plots import save_curves
from segmentation.campaigns.runner import CampaignError, Summary
from segmentation.data import cityscapes, pascal_voc
from tests.forked import run_script

EXAMPLES = Path(runner.__file__).parents[2]
# A trainer whose scores follow from labels and seed. CowMix is 5 points above supervised; for seed 0, "sky" is missing.
FAKE = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
for name in ("method", "network", "labelled", "seed", "out", "recipe", "encoder-weights"):
    parser.add_argument("--" + name, default="")
parser.add_argument("--resume", action="store_true")
o, other = parser.parse_known_args()
score = 0.3 + int(o.labelled) / 1000 + int(o.seed) / 100 + 0.05 * (o.method != "supervised")
iou = {"road": score, "sky": score / 2 if o.seed != "0" else None}
test = {"size": "1024x512", "miou": score, "full_resolution": {"miou": score - 0.01}, "iou": iou}
told = [o.network, o.recipe, o.encoder_weights, *other]
report = {"dataset": "Cityscapes", "tested_on": "validation set", "torch": "2.11", "told": told}
report["test"] = {o.method: test}
(pathlib.Path(o.out) / "metrics.json").write_text(json.dumps(report))
"""


@pytest.fixture
def fake(tmp_path: Path) -> list[str]:
    (tmp_path / "fake_trainer.py").write_text(FAKE)
    return [sys.executable, str(tmp_path / "fake_trainer.py")]


def test_the_tables_beside_the_papers(tmp_path: Path, fake: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    rows: tuple[RowName, ...] = ("unet-supervised", "unet-cowmix", "hung-adversarial")
    options = table2.Options(labelled=(372, 100), row=rows, seeds=2, deeplab_weights="coco.pth", out=out)
    label_tables.main(LabelTables(2, 5, "train_cityscapes.py", 372), options, ["--data", "d"], fake)
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (out / "table2.md").read_text().splitlines()[2:]
    ]
    assert lines[0] == ["labelled images", "100", "372"]
    assert lines[2:] == [
        ["U-Net, baseline, paper", "43.83 ± 0.99", "54.76 ± 0.50"],
        ["U-Net, baseline, here", "40.50 ± 0.71", "67.70 ± 0.71"],
        ["at full resolution, here", "39.50 ± 0.71", "66.70 ± 0.71"],
        ["U-Net, CowMix, paper", "51.98 ± 2.76", "61.48 ± 1.84"],
        ["gain, paper", "+8.15", "+6.72"],
        ["U-Net, CowMix, here", "45.50 ± 0.71", "72.70 ± 0.71"],
        ["at full resolution, here", "44.50 ± 0.71", "71.70 ± 0.71"],
        ["gain, here", "+5.00", "+5.00"],
        ["Hung et al., semi-supervised, paper", "", "58.80"],
        ["gain, paper", "", "+3.30"],
        ["Hung et al., semi-supervised, here", "45.50 ± 0.71", ""],  # never trained with all labels
        ["at full resolution, here", "44.50 ± 0.71", ""],
        ["gain, here", "", ""],
    ]
    detail = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (out / "table5.md").read_text().splitlines()[2:]
    ]
    assert detail[0][1:3] == ["U-Net, baseline, 100 labels, paper", "U-Net, baseline, 100 labels, here"]
    assert [line[:3] for line in detail[2:]] == [
        ["mIoU", "43.83 ± 0.99", "40.50 ± 0.71"],
        ["road", "95.12 ± 0.25", "40.50 ± 0.71"],
        ["sky", "87.47 ± 1.40", "20.50"],  # one run has this class
    ]
    assert detail[0][-1] == "U-Net, baseline, 372 labels, here"
    told = json.loads((out / "hung-adversarial" / "100" / "1" / "metrics.json").read_text())["told"]
    assert told == ["deeplab2", "hung", "coco.pth", "--data", "d"]
    told = json.loads((out / "unet-cowmix" / "372" / "0" / "metrics.json").read_text())["told"]
    assert told == ["unet", "", "imagenet", "--data", "d"]
    content = json.loads((out / "table2.json").read_text())
    assert content["dataset"] == "Cityscapes"
    assert {"row": "unet-cowmix", "labelled": 100, "class": "mIoU"}.items() <= content["test"][2 * 4].items()
    assert "67.70 ± 0.71" in capsys.readouterr().out
    assert (out / "table2.png").exists()


@pytest.mark.parametrize(
    ("number", "classes", "options"),
    [(2, cityscapes.CLASSES, table2.Options()), (3, pascal_voc.CLASSES, table3.Options())],
)
def test_the_papers_numbers_agree_with_one_another(
    number: int, classes: tuple[str, ...], options: label_tables.Options
) -> None:
    """The mean over the classes of Table 5 or 6 is the score in Table 2 or 3."""
    known = label_tables.paper(number)
    assert {row for row, _, _ in known} == set(ROWS)
    assert {n for _, n, _ in known} == set(options.labelled)
    checked = 0
    for (row, labelled, _), overall in [item for item in known.items() if item[0][2] == "mIoU"]:
        means = [one.mean for name in classes if (one := known.get((row, labelled, name)))]
        if means:
            assert len(means) == len(classes)
            # The scores of Hung et al. are rounded.
            assert sum(means) / len(means) == pytest.approx(overall.mean, abs=0.08 if "hung" in row else 0.006)
            checked += 1
    assert checked == {2: 6, 3: 9}[number]
    with PAPER.open() as file:
        assert all(0 <= float(row["mean"]) <= 100 for row in csv.DictReader(file))


@pytest.mark.parametrize("changed", [{"labelled": ()}, {"labelled": (0, 5)}, {"seeds": 0}, {"at_once": 0}])
def test_options_that_make_no_sense_are_refused(changed: dict[str, int]) -> None:
    with pytest.raises(CampaignError, match="must be"):
        table3.Options(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("script", ["table2.py", "table3.py"])
def test_the_commands_say_what_is_wrong_in_one_line(script: str) -> None:
    done = run_script(EXAMPLES / script, "--", "--labelled", "3")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith(f"{script.removesuffix('.py')}: --labelled is set")


def test_curves_show_what_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close: Callable[..., None] = plt.close
    monkeypatch.setattr(plt, "close", lambda _: None)
    points = {100: Summary((), 40, 3), 372: Summary((), 50, None)}
    save_curves(tmp_path / "a.png", "", {"x": {"paper": points, "here": {100: Summary((), 30, 1)}}})
    axis = plt.gcf().axes[0]
    shown = [list(zip(*container[0].get_data(), strict=True)) for container in axis.containers]
    assert shown == [[(100, 30)], [(100, 40), (372, 50)]]
    close("all")
