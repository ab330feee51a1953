"""Pascal VOC 2012 (Everingham et al. 2012), its training set augmented with SBD (Hariharan et al. 2011)."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from torch import Tensor

from segmentation.data.datasets import VOID, DataError, Dataset
from segmentation.data.decoding import OTHER_KIND, Encoded, Header, check_image, read_header, read_image
from segmentation.data.files import Files
from segmentation.data.label_maps import as_bytes, codes, read_ids, to_label

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def voc_colour(index: int) -> tuple[int, int, int]:
    """Return a label's colour in VOC's palette: its bits, lowest first, go to red, green, blue in turn from the top."""
    red, green, blue = (
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)
    )
    return red, green, blue


COLOURS = tuple("#{:02x}{:02x}{:02x}".format(*voc_colour(index)) for index in range(len(CLASSES)))
IDS = codes({**{i: i for i in range(len(CLASSES))}, VOID: VOID})
PUBLISHED = (10582, 1449)  # training and validation images
VOC, SBD = "VOC2012", "benchmark_RELEASE"
VOC_TRAIN, VOC_VAL = (f"{VOC}/ImageSets/Segmentation/{split}.txt" for split in ("train", "val"))
SBD_TRAIN, SBD_VAL = (f"{SBD}/dataset/{split}.txt" for split in ("train", "val"))
LAYOUT = (
    f"{VOC}/{{JPEGImages/NAME.jpg,SegmentationClass/NAME.png,ImageSets/Segmentation/{{train,val}}.txt}}, as in "
    f"VOCtrainval_11-May-2012.tar, and {SBD}/dataset/{{img/NAME.jpg,cls/NAME.mat,train.txt,val.txt}}, as in SBD's "
    "benchmark.tgz once it is unpacked."
)


class PascalVocSplit:
    """Images of VOC and SBD in their own sizes; images and label maps are read on demand."""

    def __init__(self, files: Files, names: Sequence[str], labels: Sequence[str]) -> None:
        self.names = tuple(names)
        self._files, self._labels = files, tuple(labels)
        self._images = tuple(_image_name(files, name) for name in names)

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) uint8."""
        return read_image(self._image(index))

    def check_image(self, index: int) -> None:
        """Raise a DataError if image `index` cannot be read."""
        check_image(self._image(index))

    def label(self, index: int, full: bool = False) -> Tensor:  # noqa: ARG002 - never resized
        """Return label map `index`, (H, W) uint8 with VOID."""
        name = self._labels[index]
        file = self._files.encoded(name)
        ids, header = _read_mat(file) if name.endswith(".mat") else read_ids(file)
        return to_label(ids, header, read_header(self._image(index)), IDS)

    def _image(self, index: int) -> Encoded:
        return self._files.encoded(self._images[index])


def load_pascal_voc(sources: Sequence[Path]) -> tuple[Dataset, list[str]]:
    """Open VOC 2012 and SBD.

    The training set has all images of SBD and of VOC's training set, except those in VOC's validation set.

    Args:
        sources: Folders, zips or uncompressed tars that hold `VOC2012` and `benchmark_RELEASE`.

    Returns:
        The data set, tested on VOC's validation set, and notes for the user.

    Raises:
        DataError: If files are missing; one message lists all of them.
    """
    files = Files(sources, (VOC, SBD))
    lists = {file: _names_in(files, file) for file in (VOC_TRAIN, VOC_VAL, SBD_TRAIN, SBD_VAL)}
    voc_train, val, sbd = lists[VOC_TRAIN], lists[VOC_VAL], lists[SBD_TRAIN] | lists[SBD_VAL]
    train = (sbd | voc_train) - val
    train_labels = {name: _train_label(name, voc_train) for name in sorted(train)}
    val_labels = {name: _voc_label(name) for name in sorted(val)}
    labels = [*train_labels.values(), *val_labels.values()]
    missing = [
        *(f"{file} is missing or empty" for file, names in lists.items() if not names),
        *files.lacking([_image_name(files, name) for name in sorted(train | val)], "images"),
        *files.lacking([name for name in labels if name.startswith(VOC)], "label maps of VOC"),
        *files.lacking([name for name in labels if name.startswith(SBD)], "label maps of SBD"),
    ]
    files.require("Pascal VOC", missing, LAYOUT)
    notes = [
        f"Pascal VOC: {len(sbd & val)} of SBD's {len(sbd)} images are in VOC's validation set and were removed; "
        f"{len(train)} training images are left."
    ]
    if (len(train), len(val)) != PUBLISHED:
        notes.append(
            f"Pascal VOC: {len(train)} training and {len(val)} validation images; "
            f"the published set has {PUBLISHED[0]} and {PUBLISHED[1]}."
        )
    train_split = PascalVocSplit(files, list(train_labels), list(train_labels.values()))
    val_split = PascalVocSplit(files, list(val_labels), list(val_labels.values()))
    return Dataset(
        "Pascal VOC", CLASSES, COLOURS, train_split, val_split, val_split, "validation set", own_sizes=True
    ), notes


def _names_in(files: Files, file: str) -> set[str]:
    if file not in files:
        return set()
    try:
        lines = files.read(file).decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{files.where(file)} is no list of images: {error}.") from error
    return {line.strip() for line in lines} - {""}


def _image_name(files: Files, name: str) -> str:
    of_voc, of_sbd = f"{VOC}/JPEGImages/{name}.jpg", f"{SBD}/dataset/img/{name}.jpg"
    return of_sbd if of_sbd in files and of_voc not in files else of_voc


def _voc_label(name: str) -> str:
    return f"{VOC}/SegmentationClass/{name}.png"


def _train_label(name: str, voc_train: set[str]) -> str:
    """Return the label map's name: VOC's, which has void borders, for VOC's training set; else SBD's."""
    return _voc_label(name) if name in voc_train else f"{SBD}/dataset/cls/{name}.mat"


def _read_mat(file: Encoded) -> tuple[NDArray[np.uint8], Header]:
    """Return the label map in one of SBD's MATLAB files."""
    stream: Any = BytesIO(file.content)  # SciPy reads it, though the types of SciPy 1.17 say otherwise
    try:
        variables = loadmat(stream, variable_names=["GTcls"])
    except Exception as error:  # on damaged files SciPy raises almost any exception
        raise DataError(f"{file.where} cannot be read as a MATLAB file: {error}.", where=file.where) from error
    try:
        label = np.asarray(variables["GTcls"]["Segmentation"][0, 0])
    except (KeyError, IndexError, ValueError) as error:
        problem = "expected the struct GTcls with the field Segmentation"
        raise DataError(f"{file.where} is no label map of SBD: {problem}.", OTHER_KIND, file.where) from error
    if label.ndim != 2 or label.dtype.kind not in "buif":
        problem = "expected a matrix of numbers in Segmentation"
        raise DataError(f"{file.where} is no label map of SBD: {problem}.", OTHER_KIND, file.where)
    return as_bytes(label, file.where), Header(file.where, label.shape[::-1])
