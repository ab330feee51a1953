"""examples/unlabelled.py: what networks know of the training images that they saw without label maps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import unlabelled
from segmentation.data.camvid import load_camvid
from segmentation.data.datasets import VOID, DataError
from segmentation.networks import build_network
from segmentation.saved import Trained, save_network
from tests.miniature import make_camvid
from unlabelled import Options, Scores, scores_of, table

SIZE = (32, 64)


def test_scores_of_a_confusion_matrix() -> None:
    counts = torch.tensor([[6.0, 2.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
    assert scores_of(counts) == {
        "iou": [66.67, 50.0, None],
        "precision": [85.71, 60.0, None],
        "recall": [75.0, 75.0, None],
    }


def test_the_table_has_means_over_pairs() -> None:
    base: Scores = {"iou": [20.0, 40.0], "precision": [50.0, None], "recall": [10.0, 30.0]}
    better = base | {"iou": [24.0, 48.0], "precision": [60.0, 70.0]}
    best = base | {"iou": [28.0, 48.0]}
    assert table(("sky", "sea"), [(base, better), (base, best)]).splitlines()[2:] == [
        "| mean | 30.0 | 37.0 | +7.0 ± 1.0 (2) | 50.0 to 57.5 | 20.0 to 20.0 |",
        "| sky | 20.0 | 26.0 | +6.0 ± 2.0 (2) | 50.0 to 55.0 | 10.0 to 10.0 |",
        "| sea | 40.0 | 48.0 | +8.0 ± 0.0 (2) | none to 70.0 | 30.0 to 30.0 |",
    ]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    make_camvid(tmp_path / "camvid")
    data = load_camvid(tmp_path / "camvid", SIZE)
    folders = tmp_path / "supervised", tmp_path / "cowmix"
    for folder in folders:
        network = build_network("unet", "tu-lcnet_050", "none", len(data.classes), (16, 16, 8, 8, 8)).eval()
        trained = Trained(network, data.classes, data.colours, SIZE)
        (folder / folder.name).mkdir(parents=True)
        save_network(folder / folder.name / "network.safetensors", trained)
        report(folder)
    return folders


def report(folder: Path, method: str = "", **options: Any) -> None:
    config = {"size": SIZE, "labelled": 2, "seed": 0, "subset": None} | options
    content = {"dataset": "CamVid", "tested_on": "test set", "torch": "2.14", "config": config}
    (folder / "metrics.json").write_text(json.dumps(content | {"test": {method or folder.name: {"miou": 0.5}}}))


def test_only_images_without_label_maps_are_scored(
    tmp_path: Path, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def predict(_: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images.new_zeros(1, 11, *SIZE)  # always the first class

    seen: list[torch.Tensor] = []
    monkeypatch.setattr(unlabelled, "segment", predict)
    monkeypatch.setattr(unlabelled, "labelled_images", lambda _, *by: [0, 2] if by == (2, 0, None) else [])
    out = tmp_path / "unlabelled.json"
    unlabelled.main(Options(base=runs[:1], other=runs[1:], data=tmp_path / "camvid", out=out))
    data = load_camvid(tmp_path / "camvid", SIZE)
    expected = [data.train.image(i)[None] / 255 for i in range(len(data.train.names)) if i not in (0, 2)]
    assert len(seen) == 2 * len(expected)
    assert all(torch.equal(one, other) for one, other in zip(seen, expected * 2, strict=True))
    labels = torch.stack([data.train.label(i) for i in range(len(data.train.names)) if i not in (0, 2)])
    share = ((labels == 0).sum() / (labels != VOID).sum()).item()
    scores = json.loads(out.read_text())["pairs"][0]["other"]
    assert scores["iou"][0] == scores["precision"][0] == pytest.approx(100 * share, abs=0.01)
    assert scores["recall"][:2] == [100, 0]
    assert "| mean |" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"seed": 1}, {"subset": 3}, {"labelled": 3}, {"size": [64, 64]}])
def test_pairs_must_have_used_the_same_images(tmp_path: Path, runs: tuple[Path, Path], options: dict[str, Any]) -> None:
    report(runs[1], **options)
    with pytest.raises(DataError, match="used other images"):
        unlabelled.main(Options(base=runs[:1], other=runs[1:], data=tmp_path / "camvid", out=tmp_path / "out.json"))


def test_folders_come_in_pairs_of_finished_runs(tmp_path: Path, runs: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="must be as many, got 2 and 1"):
        Options(base=runs, other=runs[1:])
    report(runs[0], "full")
    with pytest.raises(DataError, match="was trained with the label maps of all images"):
        unlabelled.main(Options(base=runs[:1], other=runs[1:], data=tmp_path / "camvid", out=tmp_path / "out.json"))
    (runs[0] / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"holds no metrics\.json of a finished run"):
        unlabelled.main(Options(base=runs[:1], other=runs[1:], data=tmp_path / "camvid", out=tmp_path / "out.json"))
