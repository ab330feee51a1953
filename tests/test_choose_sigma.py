"""examples/choose_sigma.py: the size of what is in images, as a sigma."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import choose_sigma
from choose_sigma import (
    FACTORS,
    LAG_OVER_SIGMA,
    SHORTER_SIDE,
    Correlation,
    Options,
    SigmaError,
    image_correlation,
    label_correlation,
    look,
    products,
    reduced,
)
from cowmask import cow_masks
from segmentation.data.datasets import DataError
from segmentation.data.street import load_street

SCRIPT = Path(choose_sigma.__file__)


def test_products_are_the_sums_they_say() -> None:
    x = torch.rand(2, 7, 30)
    expected = [(x[:, :, d:] * x[:, :, : 30 - d]).sum() + (x[:, d:] * x[:, : 7 - d]).sum() for d in range(6)]
    assert torch.allclose(products(x, 6), torch.stack(expected).double(), atol=1e-5)


@pytest.mark.parametrize("sigma", [3.0, 8.0, 12.0])
def test_masks_taken_for_labels_tell_their_sigma(sigma: float) -> None:
    masks = cow_masks(100, (192, 256), sigma=sigma, generator=torch.Generator().manual_seed(0))[:, 0]
    found = label_correlation(masks.to(torch.uint8).numpy())
    assert found.values[0] == pytest.approx(1)
    assert found.length() / LAG_OVER_SIGMA == pytest.approx(sigma, rel=0.03)


def test_blurred_noise_taken_for_images_tells_its_blur() -> None:
    rng = np.random.default_rng(0)
    fields = (gaussian_filter(rng.normal(size=(160, 200, 3)), (5, 5, 0)) for _ in range(60))
    images = [np.clip(128 + 500 * field, 0, 255).astype(np.uint8) for field in fields]
    found = image_correlation(images)
    assert found.length() == pytest.approx(2 * 5 * math.sqrt(math.log(2)), rel=0.03)


def test_twice_the_resolution_is_twice_the_sigma() -> None:
    for proposed in ("labels", "images"):
        ends = []
        for size in ((64, 96), (128, 192)):  # drawn anew, with finer details
            split, scale = load_street(size, 24, 1, 1).train, 1.0
            if proposed == "labels":
                found = label_correlation(split.label(i).numpy() for i in range(24))
            else:
                found = image_correlation(reduced(split.image(i).permute(1, 2, 0).numpy()) for i in range(24))
                scale = size[0] / SHORTER_SIDE
            ends.append(choose_sigma.propose(found, proposed, scale).sigma)
        for once, twice in zip(*ends, strict=True):
            assert twice == pytest.approx(2 * once, rel=0.15)


def test_what_classes_there_are_and_where_there_is_none_does_not_matter() -> None:
    masks = cow_masks(40, (96, 96), sigma=4.0, generator=torch.Generator().manual_seed(0))[:, 0].to(torch.uint8).numpy()
    expected = label_correlation(masks).values
    assert torch.allclose(label_correlation(7 + 100 * masks).values, expected)
    covered = masks.copy()
    covered[:, :30] = 255
    below = label_correlation(masks[:, 30:]).values
    assert torch.allclose(label_correlation(covered).values[:60], below[:60], atol=0.05)
    assert torch.equal(
        label_correlation(np.where(covered == 255, 9, covered), void=(9,)).values, label_correlation(covered).values
    )


def test_where_a_curve_falls_to_a_level() -> None:
    curve = Correlation(torch.tensor([1.0, 0.8, 0.6, 0.2], dtype=torch.float64))
    assert curve.length() == pytest.approx(2.25)
    assert curve.length(0.8) == pytest.approx(1)
    with pytest.raises(SigmaError, match=r"does not fall to 0.1 within 3 pixels"):
        curve.length(0.1)


def test_images_of_several_sizes_count_by_their_pixels() -> None:
    masks = (
        cow_masks(30, (96, 128), sigma=4.0, generator=torch.Generator().manual_seed(0))[:, 0].to(torch.uint8).numpy()
    )
    found = label_correlation([*masks[:15], *masks[15:, :64, :50]])
    assert len(found.values) == 50, "the smallest of them is not where it ends"
    assert found.length() / LAG_OVER_SIGMA == pytest.approx(4, rel=0.08)


def test_distances_that_no_two_labelled_pixels_have_are_not_known() -> None:
    labels = np.full((2, 64, 64), 255, np.uint8)
    labels[0, 10:30, 10:30], labels[1, 20:40, 20:40] = 0, 1  # the annotation ends here, not what it is of
    found = label_correlation(labels)
    assert torch.allclose(found.values, torch.ones(20, dtype=torch.float64))
    with pytest.raises(SigmaError, match=r"does not fall to 0.5 within 19 pixels"):
        found.length()


@pytest.mark.parametrize("label", [np.zeros((20, 20), np.uint8), np.full((20, 20), 255, np.uint8)])
def test_labels_that_tell_nothing_are_refused(label: np.ndarray) -> None:
    with pytest.raises(SigmaError):
        label_correlation([label])
    with pytest.raises(SigmaError, match="of one colour"):
        image_correlation([np.stack([label] * 3, axis=-1)])


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    split = load_street((128, 192), 6, 1, 1).train
    for index in range(6):
        for kind, picture in (("images", split.image(index).permute(1, 2, 0)), ("labels", split.label(index))):
            path = tmp_path / kind / "some" / f"{index}.{'jpg' if kind == 'images' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.numpy()).save(path)
    return tmp_path / "images", tmp_path / "labels"


@pytest.mark.parametrize("source", ["labels", "images"])
def test_the_command(folders: tuple[Path, Path], tmp_path: Path, source: str) -> None:
    images, labels = folders
    ranges = {}
    for size in ((128, 192), (64, 96)):
        words = [str(images), "--out", str(tmp_path / "out.json"), "--size", *map(str, size)]
        done = run(*words, *(("--labels", str(labels)) if source == "labels" else ()))
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / "out.json").read_text())
        low, high = ranges[size] = found["proposed sigma, pixels"]
        proposed = f"Proposed: sigma=({low:.3g}, {high:.3g}), in pixels of images of {size[1]}x{size[0]}."
        assert proposed in done.stdout
        assert (found["source"], found["images"]) == (source, 6)
        assert low / high == pytest.approx(FACTORS[source][0] / FACTORS[source][1])
        assert str(tmp_path) not in (tmp_path / "out.json").read_text()
    assert ranges[128, 192] == pytest.approx([2 * end for end in ranges[64, 96]], rel=0.05)


def test_what_is_wrong_is_told_in_one_line(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = folders
    done = run(str(images), "--labels", str(images))
    assert done.returncode == 1
    assert done.stderr.startswith(f"choose_sigma: {images / 'some' / '0.jpg'} is no label map: expected one channel")
    assert len(done.stderr.splitlines()) == 1
    bad = tmp_path / "bad" / "bad.png"
    bad.parent.mkdir()
    bad.write_text("no picture")
    for size in ((), ("--size", "40", "40")):  # from its header, or read as a whole
        done = run(str(bad.parent), *size)
        assert done.returncode == 1
        assert done.stderr.startswith("choose_sigma: ")
        assert str(bad) in done.stderr
        assert len(done.stderr.splitlines()) == 1
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "empty", "holds no images"), (tmp_path / "nowhere", "is not a folder")):
        with pytest.raises(SigmaError, match=message):
            look(Options(folder))
    with pytest.raises(SigmaError, match="no image has a label map of its name: some/0, 0"):
        look(Options(images, labels / "some"))
    with pytest.raises(SigmaError, match="at least 16 pixels"):
        Options(images, size=(8, 40))


def test_images_without_label_maps_are_left_out(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    complete = look(Options(images, labels))
    for index in range(3):
        (labels / "some" / f"{index}.png").unlink()
    assert (complete[2], look(Options(images, labels))[2]) == (6, 3)


def test_label_maps_have_the_size_of_their_images(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    path = labels / "some" / "3.png"
    with Image.open(path) as file:
        half = file.resize((96, 64))
    half.save(path)
    with pytest.raises(SigmaError, match=r"3.png is of 96x64 pixels, its image of 192x128: give --size"):
        look(Options(images, labels))
    assert look(Options(images, labels, size=(64, 96)))[2] == 6


def test_two_images_of_one_name_are_refused(folders: tuple[Path, Path]) -> None:
    images, _ = folders
    Image.new("RGB", (20, 20)).save(images / "some" / "3.png")
    with pytest.raises(SigmaError, match=r"two images of one name: 3.jpg and 3.png"):
        look(Options(images))


def test_images_of_16_bits_are_refused(tmp_path: Path) -> None:
    Image.new("I;16", (20, 20)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        look(Options(tmp_path))


def test_label_maps_of_one_bit_and_of_a_palette_are_read(tmp_path: Path) -> None:
    masks = cow_masks(3, (64, 64), sigma=4.0, generator=torch.Generator().manual_seed(0))[:, 0].numpy()
    found = []
    for mode in ("1", "P"):
        (tmp_path / mode).mkdir()
        for index, mask in enumerate(masks):
            picture = Image.fromarray(mask if mode == "1" else mask.astype(np.uint8))
            if mode == "P":
                picture.putpalette([200, 0, 0, 90, 0, 10])
            assert picture.mode == mode
            picture.save(tmp_path / mode / f"{index}.png")
        found.append(look(Options(tmp_path / mode, tmp_path / mode))[1].values)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], label_correlation(masks.astype(np.uint8)).values)
