"""examples/segmentation/data: datasets.py, camvid.py and street.py."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from segmentation import run
from segmentation.config import Config
from segmentation.data.batches import labelled_images
from segmentation.data.camvid import load_camvid
from segmentation.data.checking import check, parts_of
from segmentation.data.datasets import VOID, DataError, Dataset
from segmentation.data.street import CLASSES, load_street, street_scenes
from segmentation.data.transductive import with_scored_images
from segmentation.outputs import options_of
from tests.miniature import make_camvid
from tests.splits import assert_same
from train_camvid import load

SIZE = (48, 64)


@pytest.fixture(params=["png", "jpg"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make_camvid(tmp_path, 3, SIZE, request.param)
    return tmp_path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_camvid_is_read_as_it_lies(tree: Path) -> None:
    data = load_camvid(tree, SIZE)
    assert len(data.train.names) == 3
    assert data.train.image(0).shape == (3, *SIZE)
    assert data.train.image(0).dtype == torch.uint8
    stored = pixels_of(tree / "testannot" / "frame1.png")
    labels = data.test.label(1).numpy()
    assert (labels[stored == 11] == VOID).all()
    assert (labels[stored < 11] == stored[stored < 11]).all()
    frame = pixels_of(next((tree / "test").glob("frame1.*")))
    assert (data.test.image(1).permute(1, 2, 0).numpy() == frame).all()
    assert data.group is not None
    assert [data.group(name) for name in ("Seq05VD_f00000", "0001TP_008550")] == ["Seq05VD", "0001TP"]


def test_labels_are_resized_without_blending(tree: Path) -> None:
    half = load_camvid(tree, (24, 32))
    assert half.train.image(0).shape == (3, 24, 32)
    full = load_camvid(tree, SIZE).train.label(0)
    assert (half.train.label(0).view(24, 1, 32, 1) == full.view(24, 2, 32, 2)).any(3).any(1).all()
    assert torch.equal(half.train.label(0, full=True), full)


def test_labels_of_unlabelled_images_are_never_opened(tree: Path) -> None:
    for index in (0, 2):
        (tree / "trainannot" / f"frame{index}.png").unlink()
    data = load_camvid(tree, SIZE)
    data.train.label(1)
    with pytest.raises(DataError, match=r"frame2.png is missing"):
        data.train.label(2)


def test_damaged_data_is_reported_in_one_sentence(tree: Path) -> None:
    label = tree / "trainannot" / "frame0.png"
    Image.fromarray(np.full(SIZE, 40, np.uint8)).save(label)
    with pytest.raises(DataError, match=r"trainannot/frame0.png holds the id 40: expected 0 to 11\.$"):
        load_camvid(tree, SIZE).train.label(0)
    Image.new("L", (SIZE[1], SIZE[0] - 1)).save(label)
    with pytest.raises(DataError, match=r"trainannot/frame0.png is no label map of its image: it is 64x47, but "):
        load_camvid(tree, SIZE).train.label(0)
    frame = next((tree / "val").glob("frame1.*"))
    frame.write_bytes(frame.read_bytes()[:200])
    with pytest.raises(DataError, match=r"frame1\.\w+ cannot be read as an image"):
        load_camvid(tree, SIZE).val.image(1)
    for path in (tree / "val").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="val holds no frames"):
        load_camvid(tree, SIZE)
    shutil.rmtree(tree / "testannot")
    shutil.rmtree(tree / "val")
    with pytest.raises(DataError, match=r"val is missing"):
        load_camvid(tree, SIZE)
    with pytest.raises(DataError, match="is not a folder"):
        load_camvid(tree / "nowhere", SIZE)


def test_frames_without_a_label_map_are_unlabelled(tree: Path) -> None:
    assert load_camvid(tree, SIZE).unlabelled == ()
    for index in (0, 2):
        (tree / "trainannot" / f"frame{index}.png").unlink()
    data = load_camvid(tree, SIZE)
    assert data.unlabelled == (0, 2)
    assert len(data.train.names) == 3


def test_scored_images_come_to_the_unlabelled_ones(tree: Path) -> None:
    (tree / "trainannot" / "frame1.png").unlink()
    data = load_camvid(tree, SIZE)
    joined = with_scored_images(data)
    assert joined.unlabelled == (1, 3, 4, 5)
    assert joined.train.names == (*data.train.names, *data.test.names)
    assert joined.test is data.test
    for index, (split, within) in enumerate((split, i) for split in (data.train, data.test) for i in range(3)):
        assert torch.equal(joined.train.image(index), split.image(within))
        if index != 1:
            assert torch.equal(joined.train.label(index), split.label(within))
    assert labelled_images(joined, None, seed=0) == [0, 2]


@pytest.mark.parametrize("score_on", ["val", "test"])
def test_transductive_training_sees_the_images_that_are_scored(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score_on: Literal["val", "test"]
) -> None:
    def stop(_: Config, data: Dataset, name: str) -> None:
        seen.append(data)
        raise DataError(name)

    seen: list[Dataset] = []
    monkeypatch.setattr(run, "Trainer", stop)
    config = Config(data=(tree,), labelled=None, size=SIZE, out=tmp_path / "out", score_on=score_on, transductive=True)
    with pytest.raises(DataError, match="--method full needs a label map of every training image"):
        run.main(config, load)
    with pytest.raises(DataError, match="cowmix"):
        run.main(replace(config, method=("cowmix",)), load)
    scored = load_camvid(tree, SIZE).test if score_on == "test" else load_camvid(tree, SIZE).val
    assert seen[0].train.names[3:] == scored.names
    assert torch.equal(seen[0].train.image(3), scored.image(0))


def test_what_is_scored_may_change_unless_it_is_trained_on(tree: Path) -> None:
    data = load_camvid(tree, SIZE)
    for transductive in (False, True):
        one, other = (options_of(Config(score_on=part, transductive=transductive), data, 1) for part in ("val", "test"))
        assert (one == other) is not transductive


def test_what_people_leave_in_folders_changes_nothing(tree: Path) -> None:
    expected = load_camvid(tree, SIZE)
    check("CamVid", parts_of(expected, range(3)))  # reads all
    for folder in [path for path in tree.iterdir() if path.is_dir()]:
        for name in ("._frame0.png", ".DS_Store", "Thumbs.db", "README"):
            (folder / name).write_bytes(b"no picture")
    for path in [*tree.glob("*/frame1.*")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    for path in (tree / "valannot").glob("frame*"):
        with Image.open(path) as label:
            label.save(path.with_suffix(".tif"))
        path.unlink()
    Image.fromarray(pixels_of(tree / "trainannot" / "frame2.png").astype(np.uint16)).save(
        tree / "trainannot" / "frame2.png"
    )
    assert_same(expected, load_camvid(tree, SIZE))


@pytest.mark.skipif("CAMVID" not in os.environ, reason="needs CamVid in the folder CAMVID")
def test_real_camvid() -> None:
    data = load_camvid(Path(os.environ["CAMVID"]), (45, 60))
    assert [len(split.names) for split in (data.train, data.val, data.test)] == [367, 101, 233]
    values = set[int]().union(*(data.val.label(i).unique().tolist() for i in range(101)))
    assert values == {*range(11), VOID}


def test_street_scenes_follow_from_seed_and_index() -> None:
    images, labels = street_scenes(3, SIZE, seed=7)
    more_images, more_labels = street_scenes(5, SIZE, seed=7)
    assert (images == more_images[:3]).all()
    assert (labels == more_labels[:3]).all()
    assert (images[0] != street_scenes(1, SIZE, seed=8)[0][0]).any()


def test_street_scenes_hold_every_class() -> None:
    _, labels = street_scenes(40, SIZE, seed=0)
    shares = np.bincount(labels.ravel(), minlength=len(CLASSES)) / labels.size
    assert len(shares) == len(CLASSES)
    assert shares.min() > 0.015
    data = load_street(SIZE, 4, 2, 3)
    assert len(data.test.names) == 3
    assert data.test.image(2).shape == (3, *SIZE)
    assert data.test.label(2).shape == SIZE
    assert not torch.equal(data.train.image(0), data.val.image(0))
