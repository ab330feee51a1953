"""train_cityscapes.py and train_pascal_voc.py on miniature data sets in the official formats."""

import gc
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, get_args

import pytest
import torch
from PIL import Image

from segmentation.config import Config
from segmentation.data import cityscapes, pascal_voc
from segmentation.data.datasets import Dataset
from segmentation.evaluation import evaluate, shares_of_gap
from segmentation.methods import MethodName
from segmentation.networks.deeplab import LAYERS
from segmentation.presets import CITYSCAPES, PASCAL_VOC
from segmentation.trainer import Trainer
from tests.forked import run_script
from tests.miniature import make_camvid, make_cityscapes, make_pascal_voc, pack

EXAMPLES = Path(__file__).parent.parent / "examples"
UNET: dict[str, Any] = {
    "network": "unet",
    "encoder": "tu-lcnet_050",
    "decoder_channels": (16, 16, 8, 8, 8),
    "encoder_weights": "none",
}
DEEPLAB: dict[str, Any] = {"network": "deeplab2", "encoder": "tiny", "encoder_weights": "none"}
TINY: dict[str, Any] = {
    "batch_size": 2,
    "labelled": 3,
    "workers": 0,
    "iterations": 2,
    "threshold": 0.01,
    "adversarial_start": 0.5,
}


@pytest.fixture(autouse=True)
def _free_networks() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    make_cityscapes(root, 4, 2, (64, 128))
    make_pascal_voc(root)
    return root


@pytest.fixture(scope="module", params=["cityscapes", "pascal_voc"])
def task(request: pytest.FixtureRequest, tree: Path) -> tuple[Config, Dataset]:
    """Return the paper's options, made small, and the data."""
    if request.param == "cityscapes":
        return replace(CITYSCAPES, size=(32, 64), **TINY), cityscapes.load_cityscapes([tree], (32, 64))[0]
    return replace(PASCAL_VOC, size=(48, 48), **TINY), pascal_voc.load_pascal_voc([tree])[0]


@pytest.mark.parametrize("network", [UNET, DEEPLAB], ids=["unet", "deeplab2"])
@pytest.mark.parametrize("name", get_args(MethodName))
def test_every_method_trains_every_network(
    task: tuple[Config, Dataset],
    network: dict[str, Any],
    name: MethodName,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LAYERS, "tiny", (1, 1, 1, 1))  # residual blocks: a ResNet-101 of 33 takes seconds
    config, data = task
    trainer = Trainer(replace(config, out=tmp_path, **network), data, name)
    before = [parameter.detach().clone() for parameter in trainer.student.parameters() if parameter.requires_grad]
    for trainer.progress.iteration in range(2):
        scalars = trainer.step()
        assert all(value.isfinite() for value in scalars.values())
    after = [parameter for parameter in trainer.student.parameters() if parameter.requires_grad]
    changed = sum(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert changed > 0.9 * len(before)
    losses = {"supervised": 1, "full": 1, "adversarial": 4}.get(name, 2)
    assert sum(key.startswith("loss/") and key != "loss/discriminator" for key in scalars) == losses


@pytest.mark.parametrize("window", [None, (48, 48)])
def test_the_official_validation_sets_are_scored(task: tuple[Config, Dataset], tmp_path: Path, window: Any) -> None:
    config, data = task
    trainer = Trainer(replace(config, out=tmp_path, window=window, **UNET), data, "supervised")
    found = evaluate(trainer.student, data, data.test, trainer.config, trainer.accelerator, keep=[0])
    assert len(found.scores.per_class) == len(data.classes)
    assert 0 <= found.scores.miou <= 1
    assert found.maps[0].shape == data.test.image(0).shape[1:]
    assert (found.full is not None) == (data.name == "Cityscapes")


def run(script: str, out: Path, **options: str) -> CompletedProcess[str]:
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", *value.split())]
    return run_script(EXAMPLES / script, *words, "--out", out)


SMALL = {
    "workers": "0",
    "encoder": "tu-lcnet_050",
    "encoder_weights": "none",
    "iterations": "2",
    "batch_size": "2",
    "labelled": "3",
}


def test_cityscapes_by_command(tree: Path, tmp_path: Path) -> None:
    zips = [pack(tree, [part], tmp_path / f"{part}_trainvaltest.zip") for part in ("leftImg8bit", "gtFine")]
    sources = " ".join(str(path) for path in zips)
    done = run("train_cityscapes.py", tmp_path, data=sources, size="32 64", method="supervised cowmix", **SMALL)
    assert done.returncode == 0, done.stderr
    assert "4 training and 2 validation images" in done.stdout
    assert "mean at 128x64" in done.stdout
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert set(report["test"]) == {"supervised", "cowmix"}
    for scores in report["test"].values():
        assert set(scores["iou"]) == set(scores["full_resolution"]["iou"]) == set(cityscapes.CLASSES)
        assert scores["size"] == "64x32"
        assert scores["full_resolution"]["size"] == "128x64"
        assert scores["full_resolution"]["iou"] != scores["iou"]
        assert 0 <= scores["full_resolution"]["miou"] <= 1
    with Image.open(tmp_path / "panel.png") as panel:
        assert panel.width > 1000


def test_camvid_by_command_is_also_scored_by_street(tmp_path: Path) -> None:
    make_camvid(tmp_path / "data")
    done = run("train_camvid.py", tmp_path / "out", data=str(tmp_path / "data"), size="32 64", method="cowmix", **SMALL)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())["test"]["cowmix"]
    assert set(scores["groups"]) == {"frame0", "frame1", "frame2", "frame3"}  # the miniature's streets, a frame each
    assert all(0 <= score <= 1 for score in scores["groups"].values())


def test_pascal_voc_by_command_on_deeplab(tree: Path, tmp_path: Path) -> None:
    """Train with data workers, score by windows."""
    options = SMALL | {"network": "deeplab2", "encoder": "resnet50", "workers": "1", "window": "64 64"}
    data = f"{tree / 'VOCdevkit'} {pack(tree, ['benchmark_RELEASE'], tmp_path / 'benchmark.tar')}"
    done = run("train_pascal_voc.py", tmp_path, data=data, size="48 48", recipe="hung", method="adversarial", **options)
    assert done.returncode == 0, done.stderr
    assert "were removed" in done.stdout
    assert "Pascal VOC, validation set at their own sizes" in " ".join(done.stdout.split())
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert set(report["test"]["adversarial"]["iou"]) == set(pascal_voc.CLASSES)
    assert report["config"]["optimizer"] == "sgd"
    assert "2 of SBD's 8 images" in report["notes"][0]
    with Image.open(tmp_path / "panel.png") as panel:
        assert panel.width > 800


@pytest.mark.parametrize("script", ["train_cityscapes.py", "train_pascal_voc.py"])
def test_incomplete_data_are_reported_before_training(script: str, tmp_path: Path) -> None:
    done = run(script, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script.removesuffix('.py')}: --data takes what holds")
    done = run(script, tmp_path, data=str(tmp_path))
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("- ")]) == 4
    assert "Traceback" not in done.stderr


def test_damaged_files_are_reported_in_one_line_before_training(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, 4, 2, (64, 128))
    for image in (tmp_path / "leftImg8bit" / "train").rglob("*.png"):
        image.write_bytes(image.read_bytes()[:300])
    done = run("train_cityscapes.py", tmp_path / "out", data=str(tmp_path), size="32 64", **SMALL | {"workers": "1"})
    assert done.returncode == 1
    first = r"\S+_leftImg8bit.png cannot be read as an image: .*\n"
    said = r"4 of 4 images of the training set cannot be read: \S+.png, \S+, \S+ and 1 more\. The first: "
    assert re.fullmatch(f"train_cityscapes: {said}{first}", done.stderr)
    assert not list(tmp_path.glob("out/**/log.csv"))


def test_the_share_of_the_gap_needs_both_ends_and_a_gap() -> None:
    scores = {"supervised": 0.5, "cowmix": 0.55, "cutmix": 0.45, "full": 0.7}
    assert shares_of_gap(scores) == pytest.approx({"cowmix": 0.25, "cutmix": -0.25})
    assert shares_of_gap({"supervised": 0.5, "cowmix": 0.55}) == {}
    assert shares_of_gap(scores | {"full": 0.5}) == {}
    assert shares_of_gap(scores | {"full": float("nan")}) == {}
