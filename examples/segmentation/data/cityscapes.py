"""Cityscapes (Cordts et al. 2016), read as published."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from segmentation.data.datasets import VOID, Dataset
from segmentation.data.decoding import Encoded, check_image, read_header, read_image
from segmentation.data.files import Files
from segmentation.data.label_maps import codes, read_label

CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
COLOURS = (
    "#804080",
    "#f423e8",
    "#464646",
    "#66669c",
    "#be9999",
    "#999999",
    "#faaa1e",
    "#dcdc00",
    "#6b8e23",
    "#98fb98",
    "#4682b4",
    "#dc143c",
    "#ff0000",
    "#00008e",
    "#000046",
    "#003c64",
    "#005064",
    "#0000e6",
    "#770b20",
)
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # each class's value in files
N_IDS = 34  # the others are void, as is 255, which the official scripts write for -1
TRAIN_IDS = codes(dict.fromkeys((*range(N_IDS), 255), VOID) | {stored: i for i, stored in enumerate(LABEL_IDS)})

PUBLISHED = (2975, 500)  # training and validation images
IMAGES, LABELS = "leftImg8bit", "gtFine"
_IMAGE_END, _LABEL_END = "_leftImg8bit.png", "_gtFine_labelIds.png"
LAYOUT = (
    f"{IMAGES}/{{train,val}}/CITY/NAME{_IMAGE_END} and {LABELS}/{{train,val}}/CITY/NAME{_LABEL_END}, "
    "as leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of cityscapes-dataset.com hold them."
)


class CityscapesSplit:
    """One split of Cityscapes; images and label maps are read on demand."""

    def __init__(self, files: Files, split: str, size: tuple[int, int]) -> None:
        self._files, self._size = files, size
        self._stems = tuple(_stems(files, split))
        self.names = tuple(stem.split("/")[-1] for stem in self._stems)

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) uint8."""
        return read_image(self._image(index), self._size)

    def check_image(self, index: int) -> None:
        """Raise a DataError if image `index` cannot be read."""
        check_image(self._image(index))

    def label(self, index: int, full: bool = False) -> Tensor:
        """Return label map `index`, (H, W) uint8 with VOID; if `full`, in its published size."""
        file = self._files.encoded(_label_name(self._stems[index]))
        return read_label(file, self._image(index), TRAIN_IDS, None if full else self._size)

    def _image(self, index: int) -> Encoded:
        return self._files.encoded(f"{IMAGES}/{self._stems[index]}{_IMAGE_END}")


def load_cityscapes(sources: Sequence[Path], size: tuple[int, int]) -> tuple[Dataset, list[str]]:
    """Open Cityscapes with its fine annotations.

    Args:
        sources: The folder that holds `leftImg8bit` and `gtFine`, or these two folders, or their two zips.
        size: Height and width to resize images and label maps to.

    Returns:
        The data set, tested on the official validation set, and notes for the user.

    Raises:
        DataError: If files are missing; one message lists all of them.
    """
    files = Files(sources, (IMAGES, LABELS))
    files.require("Cityscapes", [*_missing(files, "train"), *_missing(files, "val")], LAYOUT)
    train, val = (CityscapesSplit(files, split, size) for split in ("train", "val"))
    width, height = read_header(files.encoded(_label_name(_stems(files, "val")[0]))).size
    counts = len(train.names), len(val.names)
    notes = [
        f"Cityscapes: {counts[0]} training and {counts[1]} validation images; "
        f"the published set has {PUBLISHED[0]} and {PUBLISHED[1]}."
    ]
    dataset = Dataset("Cityscapes", CLASSES, COLOURS, train, val, val, "validation set", (height, width))
    return dataset, notes if counts != PUBLISHED else []


def _stems(files: Files, split: str) -> list[str]:
    """Return SPLIT/CITY/NAME for each image of a split."""
    names = files.under(f"{IMAGES}/{split}")
    return [name.removeprefix(f"{IMAGES}/").removesuffix(_IMAGE_END) for name in names if name.endswith(_IMAGE_END)]


def _label_name(stem: str) -> str:
    return f"{LABELS}/{stem}{_LABEL_END}"


def _missing(files: Files, split: str) -> list[str]:
    stems = _stems(files, split)
    lines = [] if stems else [f"{IMAGES}/{split} is missing or holds no images CITY/NAME{_IMAGE_END}"]
    if not any(name.endswith(_LABEL_END) for name in files.under(f"{LABELS}/{split}")):
        return [*lines, f"{LABELS}/{split} is missing or holds no label maps CITY/NAME{_LABEL_END}"]
    return lines + files.lacking([_label_name(stem) for stem in stems], f"label maps of {split}")
