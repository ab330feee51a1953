"""The examples run by command, as a user runs them."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import minimal
from cowmask import MeanTeacher
from tests.forked import run_script
from tests.pages import blocks

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPT = EXAMPLES / "train_camvid.py"


def test_train_camvid_writes_what_it_says(tmp_path: Path) -> None:
    tiny = ["--iterations", "2", "--batch-size", "2", "--size", "32", "64"]
    tiny += ["--encoder", "tu-lcnet_050", "--encoder-weights", "none"]
    done = run_script(SCRIPT, *tiny, "--method", "supervised", "cowmix", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "built-in procedural street scenes" in done.stdout
    assert "mIoU" in done.stdout
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert set(report["test"]) == {"supervised", "cowmix"}
    for scores in report["test"].values():
        assert 0 <= scores["miou"] <= 1
        assert set(scores["iou"]) == {"sky", "road", "building", "tree", "car", "person"}
    with Image.open(tmp_path / "panel.png") as panel:
        assert panel.width > 500
    again = run_script(
        SCRIPT, *tiny, "--method", "supervised", "cowmix", "--out", tmp_path, "--resume", "--score-on", "val"
    )
    assert again.returncode == 0, again.stderr
    assert "street scenes, validation set at 64x32" in again.stdout
    other = json.loads((tmp_path / "metrics.json").read_text())
    for name, scores in report["test"].items():
        assert other["test"][name]["miou"] != scores["miou"]
        assert other["seconds"][name] == report["seconds"][name] > 0


def test_a_missing_data_set_is_one_sentence(tmp_path: Path) -> None:
    done = run_script(SCRIPT, "--data", tmp_path / "nowhere", "--out", tmp_path)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines() == [
        f"train_camvid: {tmp_path / 'nowhere'} is not a folder: --data takes the folder that holds CamVid's train, val "
        "and test."
    ]


def test_minimal_loop_trains() -> None:
    lines = (EXAMPLES / "minimal.py").read_text().splitlines()
    assert len(lines) < 120
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in minimal.make_network().modules())
    assert minimal.train(10.0, iterations=240) > 0.3  # one class for every pixel gives 0.2


def test_readme_loop_trains_as_printed() -> None:
    (code,) = (block.code for block in blocks("README.md") if "MeanTeacher" in block.code)
    student = minimal.make_network()
    generator = torch.Generator().manual_seed(0)
    x, y = minimal.draw_shapes(4, generator)
    x_unlabelled, _ = minimal.draw_shapes(6, generator)
    before = F.cross_entropy(student(x), y)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    names = {"student": student, "optimizer": optimizer, "batches": [(x, y, x_unlabelled)] * 100}
    exec(compile(code, "README.md", "exec"), names)
    teacher = names["teacher"]
    assert isinstance(teacher, MeanTeacher)
    assert teacher.n_averaged == 100
    assert F.cross_entropy(teacher(x), y) < before / 2
