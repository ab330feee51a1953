"""examples/segmentation/data/checking.py: all that is wrong with the files, in one message."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from segmentation.data.camvid import load_camvid
from segmentation.data.checking import check, parts_of
from segmentation.data.cityscapes import load_cityscapes
from segmentation.data.datasets import VOID, DataError, Dataset
from segmentation.data.pascal_voc import load_pascal_voc
from segmentation.data.street import load_street
from tests.forked import run_script
from tests.miniature import make_cityscapes, make_pascal_voc, save_mat, save_palette_png
from tests.splits import MadeSplit, numbered

SIZE = (24, 32)
SCRIPT = Path(__file__).parents[1] / "examples" / "train_camvid.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a CamVid of six frames a split."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for folder, shape, top in ((split, (*SIZE, 3), 255), (f"{split}annot", SIZE, 11)):
            (tmp_path / folder).mkdir()
            for index in range(6):
                pixels = rng.integers(0, top, shape, np.uint8, endpoint=True)
                Image.fromarray(pixels).save(tmp_path / folder / f"f{index}.png")
    return tmp_path


def message(data: Dataset, labelled: tuple[int, ...] = (0, 1, 2)) -> list[str]:
    with pytest.raises(DataError) as caught:
        check(data.name, parts_of(data, labelled))
    return str(caught.value).splitlines()


def test_what_is_whole_passes(tree: Path) -> None:
    check("CamVid", parts_of(load_camvid(tree, SIZE), range(6)))
    check("scenes", parts_of(load_street(SIZE, 2, 1, 1), range(2)))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def enlarge(path: Path) -> None:
    Image.new("L", (64, 48)).save(path)


def paint(path: Path) -> None:
    Image.new("RGB", SIZE[::-1]).save(path)


def misname(path: Path) -> None:
    Image.new("L", SIZE[::-1], 200).save(path)


def test_one_message_has_all_problems_by_kind(tree: Path) -> None:
    for index in range(5):
        (tree / "testannot" / f"f{index}.png").unlink()
    for index in range(2):
        cut(tree / "train" / f"f{index + 3}.png")
        enlarge(tree / "valannot" / f"f{index}.png")
    misname(tree / "trainannot" / "f0.png")
    paint(tree / "testannot" / "f5.png")
    assert message(load_camvid(tree, SIZE)) == [
        "CamVid has files that cannot be used:",
        f"- {tree}/trainannot/f0.png holds the id 200: expected 0 to 11.",
        f"- 2 of 6 images of the training set cannot be read: {tree}/train/f3.png, {tree}/train/f4.png. The first: "
        f"{tree}/train/f3.png cannot be read as an image: image file is truncated, replace the file.",
        f"- 2 of 6 label maps of the validation set do not fit their images: {tree}/valannot/f0.png, "
        f"{tree}/valannot/f1.png. The first: {tree}/valannot/f0.png is no label map of its image: it is 64x48, but "
        f"{tree}/val/f0.png is 32x24 (width x height).",
        f"- 5 of 6 label maps of the test set are missing: {tree}/testannot/f0.png, {tree}/testannot/f1.png, "
        f"{tree}/testannot/f2.png and 2 more.",
        f"- {tree}/testannot/f5.png is no label map: expected one channel that holds ids, but its mode is RGB.",
    ]


@pytest.mark.parametrize("damage", [cut, enlarge, paint, misname])
@pytest.mark.parametrize("folder", ["trainannot", "valannot", "testannot"])
def test_one_problem_is_one_sentence(tree: Path, folder: str, damage: Callable[[Path], None]) -> None:
    damage(tree / folder / "f1.png")
    (said,) = message(load_camvid(tree, SIZE))
    assert said.startswith(f"{tree}/{folder}/f1.png ")


def test_label_maps_that_are_not_needed_are_never_opened(tree: Path) -> None:
    cut(tree / "trainannot" / "f3.png")
    enlarge(tree / "trainannot" / "f4.png")
    (tree / "trainannot" / "f5.png").unlink()
    data = load_camvid(tree, SIZE)
    check("CamVid", parts_of(data, (0, 1, 2)))
    assert len(message(data, (0, 1, 2, 3, 4, 5))) == 4


def test_an_image_that_cannot_be_read_is_told_once(tree: Path) -> None:
    (tree / "val" / "f2.png").write_bytes(b"%!PS-Adobe-3.0")
    (said,) = message(load_camvid(tree, SIZE))
    assert said.startswith(f"{tree}/val/f2.png cannot be read as an image: it is none of JPEG, ")


def train(tree: Path, out: Path, *words: str) -> CompletedProcess[str]:
    small = "--size 32 64 --encoder tu-lcnet_050 --encoder-weights none --iterations 2 --batch-size 2 --labelled 3"
    return run_script(SCRIPT, "--data", tree, "--out", out, *small.split(), *words)


def test_nothing_is_trained_on_data_that_cannot_be_used_up(tree: Path, tmp_path: Path) -> None:
    (tree / "testannot" / "f1.png").unlink()  # read after the last iteration
    done = train(tree, tmp_path / "out", "--method", "supervised")
    assert done.returncode == 1
    expected = f"train_camvid: 1 of 6 label maps of the test set are missing: {tree}/testannot/f1.png."
    assert done.stderr.splitlines() == [expected]
    assert not list(tmp_path.glob("out/**/log.csv"))


def test_frames_without_a_label_map_are_trained_on(tree: Path, tmp_path: Path) -> None:
    for index in (1, 3, 4):
        (tree / "trainannot" / f"f{index}.png").unlink()
    done = train(tree, tmp_path / "out", "--method", "supervised", "cowmix", "full")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "train_camvid: --method full needs a label map of every training image, but 3 of 6 have none, the first is f1: "
        "leave full out of --method."
    ]
    assert not list(tmp_path.glob("out/**/log.csv"))
    done = train(tree, tmp_path / "out", "--method", "cowmix")
    assert done.returncode == 0, done.stderr
    note = "CamVid: 3 of 6 training images have a label map; the others are unlabelled images."
    assert note in done.stdout.splitlines()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["notes"] == [note]


def test_published_data_sets_are_checked_too(tmp_path: Path) -> None:
    make_cityscapes(tmp_path)
    fine, photos = tmp_path / "gtFine/val/munster", tmp_path / "leftImg8bit/train/zurich"
    enlarge(fine / "munster_000001_000019_gtFine_labelIds.png")
    cut(photos / "zurich_000001_000019_leftImg8bit.png")
    _, *said = message(load_cityscapes([tmp_path], SIZE)[0], (0,))
    assert [line.split()[1].split("/")[-1] for line in said] == [
        "zurich_000001_000019_leftImg8bit.png",
        "munster_000001_000019_gtFine_labelIds.png",
    ]


def test_matlab_files_are_checked_too(tmp_path: Path) -> None:
    make_pascal_voc(tmp_path)
    data, _ = load_pascal_voc([tmp_path])
    save_mat(tmp_path / "benchmark_RELEASE/dataset/cls/2009_000001.mat", np.full((40, 44), 21, np.uint8))
    save_palette_png(tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2008_000003.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages/2009_000002.jpg").write_bytes(b"GIF89a")
    _, *said = message(data, (4, 5))
    assert [line.split()[1].split("/")[-1] for line in said] == [
        "2009_000001.mat",
        "2009_000002.jpg",
        "2008_000003.png",
    ]


def test_a_set_that_is_both_validation_and_test_set_is_looked_at_once() -> None:
    looked: list[int] = []
    split = numbered(3, SIZE)

    def look(index: int) -> Tensor:
        looked.append(index)
        return split.label(index)

    held_out = MadeSplit(3, split.image, look)
    data = Dataset("made", (), (), split, held_out, held_out, "validation set")
    check("made", parts_of(data, ()))
    assert sorted(looked) == [0, 1, 2]
    check("made", parts_of(replace(data, tested_on="test set", test=numbered(2, SIZE)), ()))
    assert len(looked) == 6


def test_an_error_of_the_program_is_not_hidden() -> None:
    def fail(_: int) -> Tensor:
        raise KeyError("no error in the data")

    split = numbered(2, SIZE)
    with pytest.raises(KeyError):
        check("made", parts_of(Dataset("made", (), (), MadeSplit(2, fail, fail), split, split), (VOID,)))
