"""examples/segmentation/data/cityscapes.py."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader

from segmentation.data.cityscapes import CLASSES, COLOURS, TRAIN_IDS, load_cityscapes
from segmentation.data.datasets import VOID, DataError, Split
from tests.miniature import make_cityscapes, pack
from tests.splits import assert_same

SIZE = (64, 128)


@pytest.fixture(scope="module")
def published_labels() -> Any:
    module = pytest.importorskip("cityscapesscripts.helpers.labels", reason="needs the table of cityscapesscripts")
    return module.labels


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "cityscapes"
    root.mkdir()
    make_cityscapes(root)
    return root


def pack_both(tree: Path, suffix: str) -> list[Path]:
    kinds = ("leftImg8bit", "gtFine")
    return [pack(tree, ["README", "license.txt", kind], tree.parent / f"{kind}_trainvaltest{suffix}") for kind in kinds]


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_classes_are_the_published_ones(published_labels: Any) -> None:
    trained = sorted((label.trainId, label) for label in published_labels if 0 <= label.trainId < VOID)
    assert tuple(label.name for _, label in trained) == CLASSES
    assert tuple("#{:02x}{:02x}{:02x}".format(*label.color) for _, label in trained) == COLOURS
    train_ids = {label.id: label.trainId for label in published_labels if label.id >= 0}
    assert {label_id: TRAIN_IDS[label_id] for label_id in train_ids} == train_ids
    assert TRAIN_IDS[VOID] == VOID


def test_cityscapes_is_read_as_it_lies(tree: Path, published_labels: Any) -> None:
    data, notes = load_cityscapes([tree], SIZE)
    assert notes == ["Cityscapes: 4 training and 2 validation images; the published set has 2975 and 500."]
    assert data.train.names == (
        "aachen_000000_000019",
        "aachen_000002_000019",
        "zurich_000001_000019",
        "zurich_000003_000019",
    )
    assert data.test is data.val
    assert data.val.names == ("frankfurt_000000_000019", "munster_000001_000019")
    assert data.tested_on == "validation set"
    assert data.full_size == SIZE
    photo = pixels_of(tree / "leftImg8bit/train/zurich/zurich_000001_000019_leftImg8bit.png")
    assert (data.train.image(2).permute(1, 2, 0).numpy() == photo).all()
    stored = pixels_of(tree / "gtFine/val/munster/munster_000001_000019_gtFine_labelIds.png")
    label = data.val.label(1)
    assert label.dtype == torch.uint8
    for published in published_labels[:-1]:
        assert (label.numpy()[stored == published.id] == published.trainId).all()
    assert set(label.unique().tolist()) == {*range(19), VOID}


def test_the_published_counts_need_no_note(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segmentation.data.cityscapes.PUBLISHED", (4, 2))
    assert load_cityscapes([tree], SIZE)[1] == []


def test_labels_are_resized_without_blending(tree: Path) -> None:
    whole, half = (load_cityscapes([tree], size)[0].val for size in (SIZE, (32, 64)))
    assert half.image(0).shape == (3, 32, 64)
    assert half.label(0).shape == (32, 64)
    blocks = whole.label(0).view(32, 2, 64, 2)
    assert (half.label(0).view(32, 1, 64, 1) == blocks).any(3).any(1).all()
    assert torch.equal(half.label(0, full=True), whole.label(0))


def test_the_full_size_is_that_of_the_first_validation_label(tree: Path) -> None:
    data, _ = load_cityscapes([tree], (16, 32))
    assert data.full_size == SIZE
    assert data.val.label(0, full=True).shape == SIZE


def test_archives_hold_the_same_pixels(tree: Path) -> None:
    lying, _ = load_cityscapes([tree], SIZE)
    for sources in (
        pack_both(tree, ".zip"),
        pack_both(tree, ".tar"),
        [tree / "gtFine", tree / "leftImg8bit"],
        [tree.parent],
    ):
        packed, _ = load_cityscapes(sources, SIZE)
        assert_same(lying, packed)


class Pairs(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """A split's images with their label maps, for the workers of a loader."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.split.image(index), self.split.label(index)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_the_main_process_reads(tree: Path, start: str) -> None:
    splits = [load_cityscapes(pack_both(tree, suffix), SIZE)[0].train for suffix in (".zip", ".tar")]
    pairs: ConcatDataset[tuple[Tensor, Tensor]] = ConcatDataset([Pairs(split) for split in splits for _ in range(10)])
    expected = [pairs[index] for index in range(len(pairs))]
    got = list(DataLoader(pairs, batch_size=None, num_workers=2, multiprocessing_context=start))
    for (image, label), (expected_image, expected_label) in zip(got, expected, strict=True):
        assert torch.equal(image, expected_image)
        assert torch.equal(label, expected_label)


def test_only_the_labels_asked_for_are_opened(tree: Path) -> None:
    data, _ = load_cityscapes([tree], SIZE)
    labels = sorted((tree / "gtFine/train").rglob("*_labelIds.png"))
    for path in labels[:-1]:
        path.write_bytes(b"garbage")
    data, _ = load_cityscapes([tree], SIZE)
    for index in range(4):
        data.train.image(index)
    data.train.label(3)
    with pytest.raises(DataError, match=r"aachen_000000_000019_gtFine_labelIds.png cannot be read as an image"):
        data.train.label(0)


def test_one_message_lists_all_that_is_missing(tree: Path) -> None:
    city = tree / "gtFine/train/zurich"
    for path in city.glob("*_labelIds.png"):
        path.unlink()
    for path in (tree / "leftImg8bit/val").rglob("*.png"):
        path.unlink()
    for path in (tree / "gtFine/val").rglob("*_labelIds.png"):
        path.unlink()
    with pytest.raises(DataError) as caught:
        load_cityscapes([tree], SIZE)
    first, *lines, last = str(caught.value).splitlines()
    assert first == f"Cityscapes is not complete in {tree}:"
    assert lines == [
        "- 2 of 4 label maps of train are missing, the first is "
        "gtFine/train/zurich/zurich_000001_000019_gtFine_labelIds.png",
        "- leftImg8bit/val is missing or holds no images CITY/NAME_leftImg8bit.png",
        "- gtFine/val is missing or holds no label maps CITY/NAME_gtFine_labelIds.png",
    ]
    assert "leftImg8bit/{train,val}/CITY/NAME_leftImg8bit.png" in last
    with pytest.raises(DataError, match=r"no folder or archive:\n- leftImg8bit/train is .*\n- gtFine/train is "):
        load_cityscapes([], SIZE)


def test_one_zip_alone_is_not_complete(tree: Path) -> None:
    images, labels = pack_both(tree, ".zip")
    with pytest.raises(DataError, match=r"leftImg8bit_trainvaltest.zip:\n- gtFine/train is .*\n- gtFine/val is .*\nE"):
        load_cityscapes([images], SIZE)
    with pytest.raises(DataError, match=r":\n- leftImg8bit/train is .*\n- leftImg8bit/val is .*\nExpected"):
        load_cityscapes([labels], SIZE)


def test_a_damaged_image_is_named_by_archive_and_member(tree: Path) -> None:
    photo = tree / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    photo.write_bytes(photo.read_bytes()[:-400])
    (tree / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png").write_bytes(photo.read_bytes())
    data, _ = load_cityscapes(pack_both(tree, ".zip"), SIZE)
    message = r"leftImg8bit_trainvaltest.zip: leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png cannot be"
    with pytest.raises(DataError, match=message):
        data.train.image(0)
    with pytest.raises(DataError, match=r"gtFine_trainvaltest.zip: .*_labelIds.png is no label map"):
        data.train.label(0)


@pytest.mark.parametrize("stored", [34, 254])
def test_ids_that_are_not_published_are_refused(tree: Path, stored: int) -> None:
    path = tree / "gtFine/val/munster/munster_000001_000019_gtFine_labelIds.png"
    Image.fromarray(np.full(SIZE, stored, np.uint8)).save(path)
    with pytest.raises(DataError, match=rf"{path.name} holds the id {stored}: expected 0 to 33 and 255\.$"):
        load_cityscapes([tree], SIZE)[0].val.label(1)


def test_labels_of_another_size_than_the_image_are_refused(tree: Path) -> None:
    path = tree / "gtFine/val/munster/munster_000001_000019_gtFine_labelIds.png"
    Image.fromarray(pixels_of(path)[::2, ::2]).save(path)
    data, _ = load_cityscapes([tree], SIZE)
    for full in (False, True):
        with pytest.raises(DataError, match=rf"{path.name} is no label map of its image: it is 64x32, but .* 128x64 "):
            data.val.label(1, full)


def test_a_split_is_small_to_send(tree: Path) -> None:
    data, _ = load_cityscapes(pack_both(tree, ".zip"), SIZE)
    data.train.image(0)
    assert len(pickle.dumps(data)) < 20_000
