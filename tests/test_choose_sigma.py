"""examples/choose_sigma.py: the size of the objects in label maps, as a sigma."""

from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image

import choose_sigma
from choose_sigma import FACTORS, LAG_OVER_SIGMA, autocorrelation, half_length, products
from cowmask import cow_masks
from segmentation.data.datasets import DataError
from segmentation.data.street import load_street
from tests.forked import run_script

SCRIPT = Path(choose_sigma.__file__)


def draw_masks(n: int, size: tuple[int, int], sigma: float = 4.0) -> np.ndarray:
    """Return cow masks as label maps (n, H, W) uint8 of the classes 0 and 1."""
    return cow_masks(n, size, sigma, generator=torch.Generator().manual_seed(0))[:, 0].to(torch.uint8).numpy()


def save_scenes(folder: Path, size: tuple[int, int]) -> None:
    """Write the label maps of six built-in scenes into a subfolder."""
    split = load_street(size, 6, 1, 1).train
    (folder / "some").mkdir(parents=True)
    for index in range(6):
        Image.fromarray(split.label(index).numpy()).save(folder / "some" / f"{index}.png")


def run(*words: str) -> CompletedProcess[str]:
    return run_script(SCRIPT, *words)


def test_products_are_the_sums_they_say() -> None:
    x = torch.rand(2, 7, 30)
    expected = [(x[:, :, d:] * x[:, :, : 30 - d]).sum() + (x[:, d:] * x[:, : 7 - d]).sum() for d in range(7)]
    assert torch.allclose(products(x), torch.stack(expected).double(), atol=1e-5)


@pytest.mark.parametrize("sigma", [3.0, 8.0, 12.0])
def test_masks_taken_for_labels_tell_their_sigma(sigma: float) -> None:
    found = autocorrelation(draw_masks(100, (192, 256), sigma))
    assert found[0] == pytest.approx(1)
    assert half_length(found) / LAG_OVER_SIGMA == pytest.approx(sigma, rel=0.03)


def test_twice_the_resolution_is_twice_the_length() -> None:
    splits = [load_street(size, 24, 1, 1).train for size in ((64, 96), (128, 192))]  # drawn anew, with finer details
    once, twice = (half_length(autocorrelation(split.label(i).numpy() for i in range(24))) for split in splits)
    assert twice == pytest.approx(2 * once, rel=0.15)


def test_values_of_classes_and_void_do_not_matter() -> None:
    masks = draw_masks(40, (96, 96))
    expected = autocorrelation(masks)
    assert torch.allclose(autocorrelation(7 + 100 * masks), expected)
    covered = masks.copy()
    covered[:, :30] = 255
    below = autocorrelation(masks[:, 30:])
    assert torch.allclose(autocorrelation(covered)[:60], below[:60], atol=0.05)
    assert torch.equal(autocorrelation(np.where(covered == 255, 9, covered), void=(9,)), autocorrelation(covered))


def test_label_maps_without_classes_are_skipped() -> None:
    masks = draw_masks(10, (96, 96))
    assert torch.equal(autocorrelation([*masks, np.full((20, 20), 255, np.uint8)]), autocorrelation(masks))


def test_half_length_is_interpolated() -> None:
    curve = torch.tensor([1.0, 0.8, 0.6, 0.2], dtype=torch.float64)
    assert half_length(curve) == pytest.approx(2.25)
    with pytest.raises(DataError, match=r"does not fall to one half within 2 pixels"):
        half_length(curve[:3])


def test_label_maps_of_several_sizes_count_by_their_pixels() -> None:
    masks = draw_masks(30, (96, 128))
    found = autocorrelation([*masks[:15], *masks[15:, :64, :50]])
    assert len(found) == 50, "the curve does not end with the smallest map"
    assert half_length(found) / LAG_OVER_SIGMA == pytest.approx(4, rel=0.08)


def test_distances_between_no_two_labelled_pixels_are_unknown() -> None:
    labels = np.full((2, 64, 64), 255, np.uint8)
    labels[0, 10:30, 10:30], labels[1, 20:40, 20:40] = 0, 1  # the annotation ends here, not the object
    found = autocorrelation(labels)
    assert torch.allclose(found, torch.ones(20, dtype=torch.float64))
    with pytest.raises(DataError, match=r"within 19 pixels"):
        half_length(found)


@pytest.mark.parametrize("value", [0, 255])
def test_fewer_than_two_classes_are_refused(value: int) -> None:
    with pytest.raises(DataError, match="fewer than two classes"):
        autocorrelation([np.full((20, 20), value, np.uint8)])


def test_the_command_prints_the_range(tmp_path: Path) -> None:
    save_scenes(tmp_path, (128, 192))
    done = run(str(tmp_path), "--void", "255", "5")
    assert done.returncode == 0, done.stderr
    low, high = choose_sigma.main(tmp_path, (255, 5))
    assert low / high == pytest.approx(FACTORS[0] / FACTORS[1])
    assert done.stdout.splitlines()[0].startswith("6 label maps: ")
    assert done.stdout.splitlines()[1] == f"Proposed: sigma=({low:.3g}, {high:.3g}), in pixels of the label maps."


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    for folder, message in ((tmp_path, f"{tmp_path / 'bad.png'} cannot"), (tmp_path / "nowhere", str(tmp_path))):
        done = run(str(folder))
        assert done.returncode == 1
        assert done.stderr.startswith(f"choose_sigma: {message}")
        assert len(done.stderr.splitlines()) == 1


def test_pictures_that_are_no_label_maps_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.png")
    with pytest.raises(DataError, match=r"photo.png is no label map: expected one channel that holds ids"):
        choose_sigma.main(tmp_path)


def test_files_that_are_no_pictures_are_skipped(tmp_path: Path) -> None:
    save_scenes(tmp_path, (64, 96))
    expected = choose_sigma.main(tmp_path)
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (tmp_path / "some" / name).write_bytes(b"no picture")
    (tmp_path / "some" / "1.png").rename(tmp_path / "some" / "1.PNG")
    assert choose_sigma.main(tmp_path) == expected
