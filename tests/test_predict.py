"""From a trained network to predictions: the saved file, and examples/predict.py."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from PIL import Image
from PIL.ExifTags import Base
from safetensors.torch import load_file, save_file

import predict
from segmentation.evaluation import segment
from segmentation.networks import CAFFE, NetworkError, build_network
from segmentation.networks.deeplab import LAYERS, blank_deeplab2
from segmentation.saved import FILE, Trained, load_network, save_network
from tests.forked import run_script

SCRIPT = Path(predict.__file__)
CLASSES, COLOURS = ("road", "sky", "tree"), ("#102030", "#ff0000", "#00ff80")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYERS, "tiny", (1, 1, 1, 1))


def trained(size: tuple[int, int] | None = None, kind: str = "unet") -> Trained:
    torch.manual_seed(0)
    if kind == "unet":
        network = build_network("unet", "tu-lcnet_050", "none", 3, (16, 16, 8, 8, 8))
    else:
        network = blank_deeplab2(CAFFE, "tiny", 3, stride_on_3x3=False)
    for module in network.modules():  # so that outputs of random weights vary
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.05)  # type: ignore[union-attr]
    return Trained(network.eval(), CLASSES, COLOURS, size)


def picture(path: Path, size: tuple[int, int] = (48, 40), mode: str = "RGB", orientation: int = 1) -> Image.Image:
    """Write a picture (width, height) and return it upright, as RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)  # smooth, for JPEG
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    image.save(path, exif=exif)
    turned = image.transpose(Image.Transpose.ROTATE_270) if orientation == 6 else image
    return turned.convert("RGB")


def expected(model: Trained, upright: Image.Image) -> torch.Tensor:
    """Return probabilities (K, H, W) in the image's own size."""
    image = torch.from_numpy(
        np.array(upright.resize(model.size[::-1], Image.Resampling.BILINEAR) if model.size else upright)
    )
    with torch.no_grad():
        logits = model.network(image.permute(2, 0, 1)[None] / 255)
        return torch.nn.functional.interpolate(logits, upright.size[::-1], mode="bilinear")[0].softmax(0)


@pytest.mark.parametrize("kind", ["unet", "deeplab2"])
def test_a_saved_network_is_the_same_network(tmp_path: Path, kind: str) -> None:
    model = trained((64, 96), kind)
    save_network(tmp_path / "run" / "cowmix" / FILE, model)
    for run in (tmp_path / "run", tmp_path / "run" / "cowmix", tmp_path / "run" / "cowmix" / FILE):
        loaded = load_network(run)
        assert (loaded.classes, loaded.colours, loaded.size) == (CLASSES, COLOURS, (64, 96))
        images = torch.rand(2, 3, 45, 60)
        with torch.no_grad():
            assert torch.equal(loaded.network(images), model.network(images))
        assert not loaded.network.training


def test_a_network_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_network(tmp_path / "two" / name / FILE, trained())
    path = tmp_path / "one" / FILE
    save_network(path, trained())
    whole, state = path.read_bytes(), load_file(path)
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]["segmentation"]
    description = json.loads(header)

    def with_description(**changes: Any) -> bytes:
        save_file(state, path, {"segmentation": json.dumps(description | changes)})
        return path.read_bytes()

    cases: dict[str, bytes] = {
        "cannot be read": whole[:-10],
        "cannot be read as": b"\x80\x04nonsense",
        "version 2": with_description(version=2),
        "does not describe": with_description(architecture={"network": "vgg"}),
        "negative dimension": with_description(architecture=description["architecture"] | {"n_classes": -1}),
        "4 names": with_description(classes=["a", "b", "c", "d"]),
    }
    del state["network.segmentation_head.0.bias"]
    cases["segmentation_head"] = with_description()
    save_file(state, path)
    cases["does not describe a network"] = path.read_bytes()
    for text, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(NetworkError, match=text) as caught:
            load_network(path)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(NetworkError, match=r"name one of .*a, .*b"):
        load_network(tmp_path / "two")
    with pytest.raises(NetworkError, match="holds no trained network"):
        load_network(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [None, (32, 64)])
def test_predictions_are_the_networks_in_the_images_own_size(tmp_path: Path, size: tuple[int, int] | None) -> None:
    model = trained(size)
    save_network(tmp_path / FILE, model)
    folder, out = tmp_path / "photos", tmp_path / "out"
    uprights = {
        "one": picture(folder / "one.PNG"),
        "nested/two": picture(folder / "nested" / "two.jpg", (40, 56), orientation=6),
        "grey": picture(folder / "grey.tif", (48, 40), "L"),
        "extra": picture(tmp_path / "extra.webp"),
    }
    with Image.open(folder / "nested" / "two.jpg") as stored:  # JPEG changes pixels
        uprights["nested/two"] = stored.transpose(Image.Transpose.ROTATE_270)
    with Image.open(tmp_path / "extra.webp") as stored:
        uprights["extra"] = stored.convert("RGB")
    (folder / ".DS_Store").write_bytes(b"0")
    places = (folder, tmp_path / "extra.webp")
    assert predict.main(predict.Options(tmp_path, places, out, batch_size=3, device="cpu")) == []
    pixels = np.zeros(3)
    for name, upright in uprights.items():
        probabilities = expected(model, upright)
        with (
            Image.open(out / "labels" / f"{name}.png") as labels,
            Image.open(out / "confidence" / f"{name}.png") as sure,
        ):
            assert labels.mode == "P"
            assert labels.size == upright.size
            found = torch.from_numpy(np.array(labels))
            # Batches may round otherwise than single images.
            chosen = probabilities.gather(0, found[None].long())[0]
            assert (probabilities.amax(0) - chosen).max() < 1e-4
            assert (255 * chosen - torch.from_numpy(np.array(sure))).abs().max() < 0.6
            pixels += np.bincount(found.flatten(), minlength=3)
            where = np.array(labels.convert("RGB"))
        palette = np.array([[0x10, 0x20, 0x30], [0xFF, 0, 0], [0, 0xFF, 0x80]])
        assert (where == palette[found]).all()
        with Image.open(out / "overlays" / f"{name}.jpg") as overlay:
            half = (np.array(upright, dtype=float) + where) / 2
            assert np.abs(np.array(overlay, dtype=float) - half).mean() < 8  # JPEG
    with (out / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(CLASSES)
    assert np.allclose([float(row["share"]) for row in rows], pixels / pixels.sum(), atol=1e-4)


def test_windows_take_large_images_as_they_are(tmp_path: Path) -> None:
    model = trained((32, 32))
    save_network(tmp_path / FILE, model)
    upright = picture(tmp_path / "large.png", (80, 70))
    predict.main(predict.Options(tmp_path, (tmp_path / "large.png",), tmp_path / "out", window=(32, 48), device="cpu"))
    image = torch.from_numpy(np.array(upright)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        mean = segment(model.network, image, (32, 48))[0]
    with Image.open(tmp_path / "out" / "labels" / "large.png") as labels:
        assert (np.array(labels) == mean.argmax(0).numpy()).mean() > 0.999


def test_the_command_predicts_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    save_network(tmp_path / FILE, trained())
    picture(tmp_path / "photos" / "good.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    done = run_script(SCRIPT, tmp_path, tmp_path / "photos", "--out", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 1
    assert "bad.png cannot be read as an image" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "labels" / "good.png").is_file()
    picture(tmp_path / "good.jpg")
    done = run_script(SCRIPT, tmp_path, tmp_path / "photos", tmp_path / "good.jpg", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "would both be predicted as good" in done.stderr


def test_a_loaded_network_exports(tmp_path: Path) -> None:
    save_network(tmp_path / FILE, trained())
    network = load_network(tmp_path).network
    images = torch.rand(2, 3, 64, 96)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(network, (images,), dynamic_shapes=(batch,)).module()
    more = torch.rand(5, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(exported(more), network(more), atol=1e-5)


def test_a_loaded_network_exports_to_onnx(tmp_path: Path) -> None:
    network, images = trained().network, torch.rand(2, 3, 64, 96)
    torch.onnx.export(network, (images,), tmp_path / "network.onnx", dynamo=True)
    (found,) = ReferenceEvaluator(str(tmp_path / "network.onnx")).run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = network(images).numpy()
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()  # random weights give huge outputs
