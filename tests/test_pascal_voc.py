"""examples/segmentation/data/pascal_voc.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.models.segmentation import DeepLabV3_ResNet101_Weights

from segmentation.data.datasets import VOID, DataError
from segmentation.data.pascal_voc import CLASSES, COLOURS, PascalVocSplit, load_pascal_voc, voc_colour
from tests.miniature import STRIP, make_pascal_voc, pack, palette, save_mat, save_palette_png
from tests.splits import assert_same

TRAIN = ("2007_000000", "2007_000001", "2007_000002", "2007_000003")
VAL = ("2008_000000", "2008_000001", "2008_000002", "2008_000003")
EXTRA = ("2009_000000", "2009_000001", "2009_000002", "2009_000003")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "pascal"
    make_pascal_voc(root)
    return root


@pytest.fixture
def voc(tree: Path) -> Path:
    return tree / "VOCdevkit/VOC2012"


@pytest.fixture
def sbd(tree: Path) -> Path:
    return tree / "benchmark_RELEASE/dataset"


def train_label(tree: Path, name: str) -> np.ndarray:
    data, _ = load_pascal_voc([tree])
    return data.train.label(data.train.names.index(name)).numpy()


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_classes_and_colours_are_the_published_ones() -> None:
    published = DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"]
    assert ["__background__", *CLASSES[1:]] == published
    assert CLASSES[0] == "background"
    known = {0: "#000000", 1: "#800000", 2: "#008000", 3: "#808000", 7: "#808080", 8: "#400000", 15: "#c08080"}
    assert {index: COLOURS[index] for index in known} == known
    assert COLOURS[20] == "#004080"
    assert voc_colour(VOID) == (224, 224, 192)
    assert [voc_colour(index) for index in range(256)] == [tuple(colour) for colour in palette().tolist()]


def test_the_training_set_is_that_of_both_without_vocs_validation_set(tree: Path) -> None:
    data, notes = load_pascal_voc([tree])
    assert data.train.names == TRAIN + EXTRA
    assert data.val.names == VAL
    assert data.test is data.val
    assert data.tested_on == "validation set"
    assert data.full_size is None
    assert notes == [
        "Pascal VOC: 2 of SBD's 8 images are in VOC's validation set and were removed; 8 training images are left.",
        "Pascal VOC: 8 training and 4 validation images; the published set has 10582 and 1449.",
    ]


def test_the_published_counts_need_no_note(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segmentation.data.pascal_voc.PUBLISHED", (8, 4))
    _, notes = load_pascal_voc([tree])
    assert len(notes) == 1


def test_lists_may_hold_blanks(tree: Path, voc: Path, sbd: Path) -> None:
    names, _ = load_pascal_voc([tree])
    for path in (voc / "ImageSets/Segmentation/val.txt", voc / "ImageSets/Segmentation/train.txt", sbd / "train.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"  \r\n\r\n \n"))
    blanks, _ = load_pascal_voc([tree])
    assert (blanks.train.names, blanks.val.names) == (names.train.names, names.val.names)


def test_images_keep_their_sizes(tree: Path, voc: Path) -> None:
    data, _ = load_pascal_voc([tree])
    shapes = set()
    for split in (data.train, data.val):
        for index, name in enumerate(split.names):
            stored = pixels_of(voc / "JPEGImages" / f"{name}.jpg")
            assert (split.image(index).permute(1, 2, 0).numpy() == stored).all()
            assert split.label(index).shape == stored.shape[:2]
            assert torch.equal(split.label(index, full=True), split.label(index))
            shapes.add(stored.shape[:2])
    assert shapes == {(64, 96), (96, 64), (40, 44)}


def test_labels_are_vocs_in_its_training_set_and_else_sbds(tree: Path, voc: Path) -> None:
    for name in TRAIN:
        label = train_label(tree, name)
        assert (label == pixels_of(voc / "SegmentationClass" / f"{name}.png")).all()
        assert (label == VOID).any()
    for name in EXTRA:
        drawn = np.arange(21).tolist()
        label = train_label(tree, name)
        assert np.unique(label[-STRIP:]).tolist() == drawn
        assert (label[-1] == np.arange(label.shape[1]) * 21 // label.shape[1]).all()
    data, _ = load_pascal_voc([tree])
    assert (data.val.label(0).numpy() == pixels_of(voc / "SegmentationClass" / f"{VAL[0]}.png")).all()
    (voc / "SegmentationClass" / f"{TRAIN[0]}.png").unlink()  # SBD has it, too
    with pytest.raises(DataError, match="1 of 8 label maps of VOC are missing"):
        load_pascal_voc([tree])


def test_a_palette_png_outside_vocs_training_list_is_not_used(tree: Path, voc: Path) -> None:
    save_palette_png(voc / "SegmentationClass" / f"{EXTRA[0]}.png", np.full((96, 64), 255, np.uint8))
    assert VOID not in train_label(tree, EXTRA[0])


def test_mat_files_are_read_value_by_value(tree: Path, sbd: Path) -> None:
    data, _ = load_pascal_voc([tree])
    height, width = data.train.image(4).shape[1:]
    label = np.random.default_rng(0).integers(0, 21, (height, width), dtype=np.uint8)
    save_mat(sbd / "cls" / f"{EXTRA[0]}.mat", label)
    assert (train_label(tree, EXTRA[0]) == label).all()
    savemat(sbd / "cls" / f"{EXTRA[0]}.mat", {"GTcls": {"Segmentation": label.astype(float)}})  # MATLAB's default
    assert (train_label(tree, EXTRA[0]) == label).all()
    assert data.train.label(4).dtype == torch.uint8


def test_images_that_only_sbd_holds_are_read_from_it(tree: Path, voc: Path, sbd: Path) -> None:
    (voc / "JPEGImages" / f"{EXTRA[1]}.jpg").unlink()
    data, _ = load_pascal_voc([tree])
    stored = pixels_of(sbd / "img" / f"{EXTRA[1]}.jpg")
    assert (data.train.image(5).permute(1, 2, 0).numpy() == stored).all()
    Image.new("RGB", (9, 9)).save(sbd / "img" / f"{EXTRA[0]}.jpg")  # not read, since VOC has one
    assert load_pascal_voc([tree])[0].train.image(4).shape != (3, 9, 9)


def test_archives_hold_the_same_pixels(tree: Path) -> None:
    lying, _ = load_pascal_voc([tree])
    voc_tar = pack(tree, ["VOCdevkit"], tree.parent / "VOCtrainval_11-May-2012.tar")
    sbd_tar = pack(tree, ["benchmark_RELEASE"], tree.parent / "benchmark.tar")
    both_zip = pack(tree, ["VOCdevkit", "benchmark_RELEASE"], tree.parent / "both.zip")
    for sources in ([voc_tar, sbd_tar], [both_zip], [tree / "benchmark_RELEASE/dataset", voc_tar]):
        packed, notes = load_pascal_voc(sources)
        assert len(notes) == 2
        assert_same(lying, packed)


def test_only_the_labels_asked_for_are_opened(tree: Path, voc: Path, sbd: Path) -> None:
    for path in [*(sbd / "cls").iterdir(), *(voc / "SegmentationClass").iterdir()]:
        if path.stem not in (TRAIN[1], EXTRA[1]):
            path.write_bytes(b"garbage")
    data, _ = load_pascal_voc([tree])
    for split in (data.train, data.val):
        for index in range(len(split.names)):
            split.image(index)
    data.train.label(1)
    data.train.label(5)
    with pytest.raises(DataError, match=rf"{TRAIN[0]}.png cannot be read as an image"):
        data.train.label(0)
    with pytest.raises(DataError, match=rf"{EXTRA[0]}.mat cannot be read as a MATLAB file"):
        data.train.label(4)


def test_one_message_lists_all_that_is_missing(tree: Path, voc: Path, sbd: Path) -> None:
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n")
    for path in (sbd / "val.txt", sbd / "cls" / f"{EXTRA[0]}.mat", voc / "SegmentationClass" / f"{TRAIN[1]}.png"):
        path.unlink()
    for name in (TRAIN[3], EXTRA[2]):
        (voc / "JPEGImages" / f"{name}.jpg").unlink()
    (sbd / "img" / f"{EXTRA[2]}.jpg").unlink()
    with pytest.raises(DataError) as caught:
        load_pascal_voc([tree])
    first, *lines, last = str(caught.value).splitlines()
    assert first == f"Pascal VOC is not complete in {tree}:"
    assert lines == [
        "- VOC2012/ImageSets/Segmentation/val.txt is missing or empty",
        "- benchmark_RELEASE/dataset/val.txt is missing or empty",
        f"- 2 of 7 images are missing, the first is VOC2012/JPEGImages/{TRAIN[3]}.jpg",
        f"- 1 of 4 label maps of VOC are missing, the first is VOC2012/SegmentationClass/{TRAIN[1]}.png",
        f"- 1 of 3 label maps of SBD are missing, the first is benchmark_RELEASE/dataset/cls/{EXTRA[0]}.mat",
    ]
    assert "VOCtrainval_11-May-2012.tar" in last


def test_a_missing_sbd_is_refused(voc: Path) -> None:
    message = r":\n- benchmark_RELEASE/dataset/train.txt is .*\n- benchmark_RELEASE/dataset/val.txt is .*\nExpected"
    with pytest.raises(DataError, match=message):
        load_pascal_voc([voc])


def test_validation_labels_are_vocs_alone(tree: Path, voc: Path) -> None:
    (voc / "SegmentationClass" / f"{VAL[0]}.png").unlink()  # SBD has it, without void
    with pytest.raises(DataError, match=rf"1 of 8 label maps of VOC are missing, .*{VAL[0]}.png"):
        load_pascal_voc([tree])


def test_validation_images_are_checked_too(tree: Path, voc: Path) -> None:
    (voc / "JPEGImages" / f"{VAL[1]}.jpg").unlink()
    with pytest.raises(DataError, match=rf"1 of 12 images are missing, the first is VOC2012/JPEGImages/{VAL[1]}.jpg"):
        load_pascal_voc([tree])


def test_a_list_of_something_else_is_refused(tree: Path, voc: Path) -> None:
    (voc / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"val.txt is no list of images"):
        load_pascal_voc([tree])


@pytest.mark.parametrize("value", [21, 254])
def test_unknown_values_are_refused(tree: Path, voc: Path, sbd: Path, value: int) -> None:
    for path in (voc / "SegmentationClass" / f"{TRAIN[0]}.png", sbd / "cls" / f"{EXTRA[0]}.mat"):
        label = train_label(tree, path.stem).copy()
        label[3, 4] = value
        save_mat(path, label) if path.suffix == ".mat" else save_palette_png(path, label)
        with pytest.raises(DataError, match=rf"{path.name} holds the id {value}: expected 0 to 20 and 255\."):
            train_label(tree, path.stem)


def test_labels_of_another_size_than_the_image_are_refused(tree: Path, voc: Path, sbd: Path) -> None:
    for path in (voc / "SegmentationClass" / f"{TRAIN[0]}.png", sbd / "cls" / f"{EXTRA[0]}.mat"):
        label = train_label(tree, path.stem)[:, :-1]
        save_mat(path, label) if path.suffix == ".mat" else save_palette_png(path, label)
        message = rf"{path.name} is no label map of its image: it is {label.shape[1]}x{label.shape[0]}, but .*jpg is"
        with pytest.raises(DataError, match=message):
            train_label(tree, path.stem)


def test_coloured_labels_are_refused(tree: Path, voc: Path) -> None:
    path = voc / "SegmentationClass" / f"{TRAIN[0]}.png"
    Image.fromarray(palette()[pixels_of(path)]).save(path)
    with pytest.raises(DataError, match=rf"{TRAIN[0]}.png is no label map: expected one channel .* mode is RGB"):
        train_label(tree, TRAIN[0])


def test_mat_files_of_something_else_are_refused(tree: Path, sbd: Path) -> None:
    path = sbd / "cls" / f"{EXTRA[0]}.mat"
    save_mat(path, np.zeros((96, 64), np.uint8), "GTinst")
    with pytest.raises(DataError, match=rf"{EXTRA[0]}.mat is no label map of SBD: expected the struct GTcls"):
        train_label(tree, EXTRA[0])
    for content in ({"Boundaries": 1}, np.zeros((96, 64))):
        savemat(path, {"GTcls": content})
        with pytest.raises(DataError, match=r"expected the struct GTcls with the field Segmentation"):
            train_label(tree, EXTRA[0])
    for number in (0.5, np.nan, -1, 256):
        savemat(path, {"GTcls": {"Segmentation": np.full((96, 64), number)}})
        with pytest.raises(
            DataError, match=rf"{EXTRA[0]}.mat holds the id {number}.*: expected whole numbers from 0 to"
        ):
            train_label(tree, EXTRA[0])
    for segmentation in (np.zeros((2, 96, 64)), "text", np.full((96, 64), "text", dtype=object)):
        savemat(path, {"GTcls": {"Segmentation": segmentation}})
        with pytest.raises(DataError, match=r"expected a matrix of numbers in Segmentation"):
            train_label(tree, EXTRA[0])


def test_damaged_mat_files_are_named_or_read(tree: Path, sbd: Path) -> None:
    data, _ = load_pascal_voc([tree])
    assert isinstance(data.train, PascalVocSplit)
    path = sbd / "cls" / f"{EXTRA[0]}.mat"
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 9):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :]):
            path.write_bytes(content)
            try:
                data.train.label(4)
            except DataError as error:
                assert f"{EXTRA[0]}.mat " in str(error)  # noqa: PT017 - some damage goes unnoticed
                refused += 1
    assert refused > len(whole) // 9
