"""Distances between neighbouring patches, and how well they tell boundaries."""

import json
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

import patch_distance
from patch_distance import Options, OptionsError, Score, boundaries, crop, margin, measure
from segmentation.data.datasets import DataError
from segmentation.data.street import load_street
from tests.forked import run_script

SCRIPT = Path(patch_distance.__file__)
NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))
VOID = 255


class Images:
    """A split of given images and label maps."""

    def __init__(self, images: list[Tensor], labels: list[Tensor]) -> None:
        self.images, self.labels = images, labels
        self.names = tuple(str(i) for i in range(len(images)))

    def image(self, index: int) -> Tensor:
        return self.images[index]

    def check_image(self, index: int) -> None:
        """Do nothing: images are in memory."""

    def label(self, index: int, full: bool = False) -> Tensor:  # noqa: ARG002 - the protocol has it
        return self.labels[index]


def random_image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def direct_distance(image: Tensor, side: int) -> Tensor:
    """Compare patch by patch, as Figure 1 describes; NaN where a patch does not fit."""
    pixels, reach = image.double() / 255, side // 2
    height, width = image.shape[1:]

    def patch(row: int, column: int) -> Tensor | None:
        if not (reach <= row < height - reach and reach <= column < width - reach):
            return None
        return pixels[:, row - reach : row + reach + 1, column - reach : column + reach + 1]

    result = torch.full((height, width), torch.nan, dtype=torch.double)
    for row in range(height):
        for column in range(width):
            patches = [patch(row + down, column + right) for down, right in ((0, 0), *NEIGHBOURS)]
            known = [one for one in patches if one is not None]
            if len(known) == len(patches):
                distances = [(one - known[0]).norm() for one in known[1:]]
                result[row, column] = torch.stack(distances).mean() / (3 * side**2) ** 0.5
    return result


@pytest.mark.parametrize("side", [1, 3, 7, 15])
@pytest.mark.parametrize("size", [(17, 23), (22, 18)])
def test_fast_and_direct_distances_agree(side: int, size: tuple[int, int]) -> None:
    image = random_image(*size)
    direct, fast = direct_distance(image, side), patch_distance.patch_distance(image, side)
    torch.testing.assert_close(fast, crop(direct, margin(side)), atol=1e-5, rtol=0)
    assert direct.isfinite().sum() == fast.numel(), "pixels where whole patches fit are missing"


@pytest.mark.parametrize("axis", [1, 2])
def test_each_axis_alone(axis: int) -> None:
    image = torch.arange(0, 160, 10, dtype=torch.uint8).view(1, -1, 1).expand(3, 16, 16)
    distance = patch_distance.patch_distance(image if axis == 1 else image.mT, 5)
    torch.testing.assert_close(distance, torch.full((10, 10), 10 / 255 / 2, dtype=torch.double))


def test_distances_reach_from_0_to_1() -> None:
    board = (torch.arange(20)[:, None] + torch.arange(20)) % 2 * 255
    assert (patch_distance.patch_distance(board.byte().expand(3, -1, -1), 5) == 1).all()
    assert (patch_distance.patch_distance(torch.full((3, 20, 20), 200, dtype=torch.uint8), 5) == 0).all()


def test_sums_of_large_boxes_are_exact() -> None:
    image = random_image(240, 250)
    fast = patch_distance.patch_distance(image, 225)
    assert fast.shape == (240 - 225 - 1, 250 - 225 - 1)
    pixels = image.double() / 255
    patches = [pixels[:, 3 + down : 228 + down, 5 + right : 230 + right] for down, right in ((0, 0), *NEIGHBOURS)]
    expected = torch.stack([(one - patches[0]).square().mean().sqrt() for one in patches[1:]]).mean()
    torch.testing.assert_close(fast[3 - 1, 5 - 1], expected, atol=1e-12, rtol=0)


def test_boundaries_are_where_a_neighbour_has_another_class() -> None:
    label = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.uint8)
    on_boundary, counts = boundaries(label)
    expected = torch.tensor([[0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert torch.equal(on_boundary, expected)
    assert counts.all()


def test_pixels_in_or_beside_void_do_not_count() -> None:
    label = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 1, VOID], [0, 0, 1, 1, 1]], dtype=torch.uint8)
    on_boundary, counts = boundaries(label)
    assert torch.equal(counts, torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]).bool())
    assert torch.equal(on_boundary, torch.tensor([[0, 1, 1, 0, 0]] * 3).bool())


def blocks(seed: int) -> Tensor:
    """Return a label map (64, 64) of blocks of 8 pixels, classes 0 to 4."""
    coarse = torch.randint(0, 5, (8, 8), generator=torch.Generator().manual_seed(seed))
    return coarse.repeat_interleave(8, 0).repeat_interleave(8, 1).byte()


def test_where_all_edges_are_boundaries_the_plain_gradient_predicts_them_all() -> None:
    labels = [blocks(seed) for seed in range(3)]
    split = Images([(50 * label).expand(3, -1, -1) for label in labels], labels)
    scores = measure(split, [1, 15])
    for region in ("own", "common"):
        plain, patches = (scores[side][region].summary() for side in (1, 15))
        for way in ("pooled", "per_image"):
            assert plain[way] == 1
            assert 0.4 < patches[way] < 0.85  # type: ignore[operator]
    foreign = scores[1]["other_image"].summary()["pooled"]
    assert foreign is not None
    assert foreign < 1


def test_random_labels_are_predicted_by_chance() -> None:
    images = [random_image(100, 100, seed) for seed in range(4)]
    labels = [random_image(100, 100, 10 + seed)[0] // 200 for seed in range(4)]
    scores = measure(Images(images, labels), [1, 3])
    for regions in scores.values():
        for score in regions.values():
            summary = score.summary()
            assert summary["pooled"] == pytest.approx(0.5, abs=0.02)
            assert summary["per_image"] == pytest.approx(0.5, abs=0.02)


def test_regions_are_where_patches_fit() -> None:
    labels = [blocks(0)]
    scores = measure(Images([random_image(64, 64)], labels), [1, 31])
    pixels = {side: {name: score.summary()["pixels"] for name, score in one.items()} for side, one in scores.items()}
    assert pixels == {
        1: {"own": 62**2, "common": 32**2, "other_image": 0},
        31: {"own": 32**2, "common": 32**2, "other_image": 0},  # there is no other image
    }


def test_areas_are_those_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    score, every = Score(), []
    for i in range(3):
        distance = torch.rand(50, 60, generator=generator).double() ** (3 + i)
        on_boundary = torch.rand(50, 60, generator=generator) < 0.1 + 0.6 * distance
        counts = torch.rand(50, 60, generator=generator) < 0.8
        score.add(distance, on_boundary, counts)
        every.append((distance[counts], on_boundary[counts].long()))
    summary = score.summary()
    error = summary["pooled_error_at_most"]
    assert error is not None
    assert error < 1e-3
    distances, truths = (torch.cat(parts) for parts in zip(*every, strict=True))
    pooled = binary_auroc(distances, truths).item()
    assert summary["pooled"] == pytest.approx(pooled, abs=error + 1e-6)
    per_image = sum(binary_auroc(*one).item() for one in every) / 3
    assert summary["per_image"] == pytest.approx(per_image, abs=1e-3)
    assert summary["per_image"] != pytest.approx(pooled, abs=1e-3)


def test_equal_distances_predict_by_chance() -> None:
    score = Score()
    score.add(torch.full((5, 5), 0.3), torch.eye(5).bool(), torch.ones(5, 5).bool())
    assert score.summary()["pooled"] == score.summary()["pooled_error_at_most"] == 0.5


def test_images_without_boundaries_have_no_area() -> None:
    distance, nowhere = torch.rand(5, 5), torch.zeros(5, 5, dtype=torch.bool)
    score = Score()
    score.add(distance, nowhere, ~nowhere)
    summary = score.summary()
    assert summary["pooled"] is summary["per_image"] is None
    score.add(torch.eye(5), torch.eye(5).bool(), ~nowhere)
    assert score.summary()["per_image"] == 1
    assert score.summary()["images"] == 1


def run(*arguments: str) -> CompletedProcess[str]:
    return run_script(SCRIPT, *arguments)


def save_camvid(root: Path) -> None:
    """Write a CamVid of two frames a split, their label maps with void."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for i in range(2):
            label = rng.integers(0, 12, (5, 7), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(label).save(root / f"{split}annot" / f"{i}.png")
            Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(root / split / f"{i}.png")


def test_the_command_writes_picture_and_numbers(tmp_path: Path) -> None:
    save_camvid(tmp_path / "camvid")
    small = ["--size", "40", "56", "--patch", "5", "21", "--contrast", "1", "--split", "test", "--index", "1"]
    done = run("--data", str(tmp_path / "camvid"), *small, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "21x21" in done.stdout
    with Image.open(tmp_path / "out" / "patch-distance.png") as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert picture.width > 900
    for colour in ((230, 0, 0), (204, 204, 204)):  # boundaries, and where patches do not fit
        assert (np.abs(colours.astype(int) - colour).max(1) < 2).mean() > 0.01
    text = (tmp_path / "out" / "patch-distance.json").read_text()
    assert str(tmp_path) not in text
    report = json.loads(text)
    assert (report["dataset"], report["split"], report["images"], report["drawn"]) == ("CamVid", "test", 2, "1")
    assert report["torch"] == torch.__version__
    assert report["command"].startswith("python examples/patch_distance.py --data DIR --split test --index 1 ")
    assert list(report["areas"]) == ["1", "5", "21"]
    for regions in report["areas"].values():
        assert list(regions) == ["own", "common", "other_image"]
        assert all(0 <= region["pooled"] <= 1 for region in regions.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": (4,)}, "odd numbers"),
        ({"patch": (-1,)}, "odd numbers"),
        ({"patch": ()}, "at least one"),
        ({"size": (226, 300)}, "225 pixels and their neighbours do not fit in images of 300x226"),
        ({"scenes": 0}, "at least 1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, tuple[int, ...] | int], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Options(**options)  # type: ignore[arg-type]


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    done = run("--data", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"patch_distance: {tmp_path / 'nowhere'} is not a folder")
    assert len(done.stderr.splitlines()) == 1


def test_all_that_is_wrong_with_the_data_is_one_message(tmp_path: Path) -> None:
    save_camvid(tmp_path)
    (tmp_path / "valannot" / "0.png").unlink()
    Image.new("L", (56, 40), 12).save(tmp_path / "valannot" / "1.png")
    options = Options(data=tmp_path, size=(40, 56), patch=(3,), contrast=(), split="val", out=tmp_path / "out")
    with pytest.raises(DataError) as caught:
        patch_distance.main(options)
    assert str(caught.value).splitlines() == [
        "CamVid has files that cannot be used:",
        f"- 1 of 2 label maps of val are missing: {tmp_path}/valannot/0.png.",
        f"- {tmp_path}/valannot/1.png holds the id 12: expected 0 to 11.",
    ]


def test_an_index_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="from 0 to 1, the last of val"):
        patch_distance.main(
            Options(size=(40, 56), patch=(3,), contrast=(), scenes=2, split="val", index=2, out=tmp_path)
        )
    assert not list(tmp_path.iterdir())


def test_the_image_drawn_is_the_one_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(patch_distance, "draw", lambda _, image, label, sides: drawn.append((image, label, sides)))
    options = Options(size=(40, 56), patch=(3,), contrast=(), scenes=3, split="val", index=1, out=tmp_path)
    patch_distance.main(options)
    scenes = load_street(options.size, 1, 3, 1).val
    torch.testing.assert_close(drawn, [(scenes.image(1), scenes.label(1), (3,))])
