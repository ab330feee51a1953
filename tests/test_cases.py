"""examples/cases.py: where one network predicts better than another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import cases
from cases import Case, Options, choose, compare, summary
from segmentation import pictures
from segmentation.config import Config
from segmentation.data.camvid import load_camvid
from segmentation.data.datasets import VOID, DataError, Dataset
from segmentation.networks import build_network
from segmentation.saved import Trained, save_network
from tests.miniature import make_camvid
from tests.test_campaign import is_shaded

SIZE = (32, 64)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    make_camvid(tmp_path / "camvid")
    return load_camvid(tmp_path / "camvid", SIZE)


def predicting(maps: list[torch.Tensor], n_classes: int) -> Trained:
    """Return a network that predicts the given class maps, one after the other."""
    coming = iter(maps)

    class Oracle(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.shape == (1, 3, *SIZE)
            assert images.is_floating_point()
            assert images.max() <= 1
            return torch.nn.functional.one_hot(next(coming).long(), n_classes).movedim(-1, 0)[None].float()

    return Trained(Oracle(), (), (), SIZE)  # type: ignore[arg-type]


def test_gain_is_that_of_an_images_miou(data: Dataset) -> None:
    truth = [data.test.label(i) for i in range(4)]
    right = [label.where(label != VOID, 0) for label in truth]
    n = len(data.classes)
    wrong = [(label + 1) % n for label in right]
    networks = predicting([right[0], wrong[1], right[2], wrong[3]], n), predicting([wrong[0], *right[1:]], n)
    found = list(compare(networks, data))
    assert [case.number for case in found] == [0, 1, 2, 3]
    assert found[2].gain == 0
    assert found[0].gain < -90
    assert min(found[1].gain, found[3].gain) > 90
    assert found[3].maps[1].equal(right[3].to(torch.uint8))


def test_images_without_a_label_are_left_out(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    right = [torch.zeros(SIZE)] * 4
    read = data.test.label
    monkeypatch.setattr(data.test, "label", lambda i: torch.full_like(read(i), VOID) if i == 1 else read(i))
    networks = predicting(right, len(data.classes)), predicting(right, len(data.classes))
    assert [case.number for case in compare(networks, data)] == [0, 2, 3]


def test_gains_fall_and_losses_grow() -> None:
    maps = torch.zeros(1), torch.zeros(1)
    made = [Case(i, gain, maps) for i, gain in enumerate((1.0, -2.0, 5.0, -7.0, 0.0))]
    assert [case.gain for case in choose(made, 1)] == [5.0, -7.0]
    assert [case.gain for case in choose(made, 2)] == [5.0, 1.0, -2.0, -7.0]
    assert [case.number for case in choose(made, 9)] == [2, 0, 1, 3]  # no case twice


def test_summary() -> None:
    text = summary([1.0, 2.0, 3.0, -10.0])
    assert text.startswith("3 of 4 test images gain; mean -1.0 points")
    assert "quartiles -7.2, +1.5, +2.8" in text


@pytest.fixture
def runs(tmp_path: Path, data: Dataset) -> tuple[Path, Path]:
    places = tmp_path / "supervised", tmp_path / "cowmix"
    for seed, place in enumerate(places):
        torch.manual_seed(seed)
        network = build_network("unet", "tu-lcnet_050", "none", len(data.classes), (16, 16, 8, 8, 8)).eval()
        save_network(place / "network.safetensors", Trained(network, data.classes, data.colours, SIZE))
    return places


def test_panel(tmp_path: Path, runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "panel.png"
    cases.main(Options(*runs, data=tmp_path / "camvid", rows=2, names=("supervised", "CowMix"), out=out))
    assert " of 4 test images gain; mean " in capsys.readouterr().out
    assert is_shaded(out)
    with Image.open(out) as panel:
        assert panel.height > 2 * panel.width * SIZE[0] / SIZE[1] / 4  # four rows of four columns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (64, 64)}, r"resized to one size, not to \(32, 64\) and \(64, 64\)"),
        ({"size": None}, r"resized to one size, not to \(32, 64\) and None"),
        ({"classes": tuple("abcdefghijk")}, "predicts other classes than those of CamVid"),
    ],
)
def test_networks_must_be_of_one_kind(
    tmp_path: Path, runs: tuple[Path, Path], data: Dataset, change: dict[str, Any], message: str
) -> None:
    network = build_network("unet", "tu-lcnet_050", "none", len(data.classes), (16, 16, 8, 8, 8)).eval()
    description = {"classes": data.classes, "colours": data.colours, "size": SIZE} | change
    save_network(runs[1] / "network.safetensors", Trained(network, **description))
    with pytest.raises(DataError, match=message):
        cases.main(Options(*runs, data=tmp_path / "camvid", out=tmp_path / "panel.png"))


def test_names_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--names must differ"):
        cases.main(Options(tmp_path, tmp_path, names=("cowmix", "cowmix")))


def test_rows_are_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--rows must be at least 1"):
        cases.main(Options(tmp_path, tmp_path, rows=0))


def test_rows_of_a_panel_are_in_order_whoever_predicted_them(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = {i: torch.full(SIZE, i) for i in (0, 2, 1, 3)}  # as two processes return them
    drawn: list[Any] = []
    monkeypatch.setattr(pictures, "save_predictions", lambda *arguments: drawn.extend(arguments))
    config = Config(size=SIZE)
    pictures.save_panel(Path("panel.png"), data, {"cowmix": maps}, config)
    _, _, predictions, more = drawn
    assert list(predictions["cowmix"]) == [0, 1, 2, 3]
    for i, mixed in enumerate(more["mixed image"]):
        own, partner = (data.test.image(j).float() / 255 for j in (i, (i - 1) % 4))
        pixels = torch.from_numpy(mixed).permute(2, 0, 1)
        assert ((pixels == own).all(0) | (pixels == partner).all(0)).all()
