"""Cityscapes (Cordts et al. 2016), read as published."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segmentation.data.datasets import VOID, Dataset
from segmentation.data.decoding import image_size, read_image, read_label
from segmentation.data.files import Files

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
TRAIN_IDS = np.full(256, VOID, dtype=np.uint8)  # training label of each value in files
TRAIN_IDS[list(LABEL_IDS)] = range(len(CLASSES))

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
        return read_image(self._files, f"{IMAGES}/{self._stems[index]}{_IMAGE_END}", self._size)

    def label(self, index: int, full: bool = False) -> Tensor:
        """Return label map `index`, (H, W) uint8 with VOID; if `full`, in its published size."""
        label = TRAIN_IDS[read_label(self._files, _label_name(self._stems[index]))]
        if not full:
            label = np.array(Image.fromarray(label).resize(self._size[::-1], Image.Resampling.NEAREST))
        return torch.from_numpy(label)


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
    full_size = image_size(files, _label_name(_stems(files, "val")[0]))
    counts = len(train.names), len(val.names)
    notes = [
        f"Cityscapes: {counts[0]} training and {counts[1]} validation images; "
        f"the published set has {PUBLISHED[0]} and {PUBLISHED[1]}."
    ]
    dataset = Dataset("Cityscapes", CLASSES, COLOURS, train, val, val, "validation set", full_size)
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
