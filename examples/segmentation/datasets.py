"""Data sets as decoded tensors: CamVid from a folder, and the built-in street scenes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segmentation import street

VOID = 255  # the label of pixels that are neither trained on nor counted
CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
CAMVID_COLOURS = (
    "#8fc7ea",
    "#9a5b4f",
    "#c9c9a0",
    "#80508c",
    "#e79ad0",
    "#5f9636",
    "#e6c229",
    "#6a6fb3",
    "#1f3fa8",
    "#dc143c",
    "#17b3b3",
)
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class DataError(Exception):
    """The data set is missing or damaged; the message is one sentence for the user."""


class Split(Protocol):
    """Images by index, and labels that are read only for the images asked for."""

    names: tuple[str, ...]  # of the images

    def image(self, index: int) -> Tensor:
        """Return an image, (3, H, W) uint8."""

    def label(self, index: int, full: bool = False) -> Tensor:
        """Return a label map uint8, VOID where there is none: (H, W), or if `full` of the size as published."""


@dataclass(frozen=True)
class Dataset:
    """Three splits and what their labels mean."""

    name: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]  # of the classes in pictures, as #rrggbb
    train: Split
    val: Split  # looked at while training
    test: Split  # scored at the end
    tested_on: str = "test set"
    full_size: tuple[int, int] | None = None  # height and width as published, if scores are counted at it too
    own_sizes: bool = False  # images are not resized, and scored as they are


class CamVidSplit:
    """One split of CamVid: frames in `DIR/split`, label maps of the same names in `DIR/splitannot`."""

    def __init__(self, root: Path, split: str, size: tuple[int, int]) -> None:
        self._size = size
        self._label_folder = root / f"{split}annot"
        for folder in (root / split, self._label_folder):
            if not folder.is_dir():
                raise DataError(
                    f"{folder} is missing: expected CamVid with the folders train, trainannot, val, valannot, "
                    f"test and testannot in {root}."
                )
        self._frames = sorted(path for path in (root / split).iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES)
        if not self._frames:
            raise DataError(f"{root / split} holds no PNG or JPEG frames.")
        self.names = tuple(path.stem for path in self._frames)
        pixels = [read_picture(path, "RGB", size, Image.Resampling.BILINEAR) for path in self._frames]
        self._images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
        self._labels: dict[int, Tensor] = {}  # those read so far

    def image(self, index: int) -> Tensor:
        """Return an image, (3, H, W) uint8."""
        return self._images[index]

    def label(self, index: int, full: bool = False) -> Tensor:
        """Return a label map uint8, VOID where there is none: (H, W), or if `full` of the size as published."""
        if full:
            return self._read_label(index, None)
        if index not in self._labels:
            self._labels[index] = self._read_label(index, self._size)
        return self._labels[index]

    def _read_label(self, index: int, size: tuple[int, int] | None) -> Tensor:
        path = self._label_folder / f"{self.names[index]}.png"
        if not path.is_file():
            raise DataError(f"{path} is missing: every labelled frame needs a label map of its name.")
        label = read_picture(path, None, size, Image.Resampling.NEAREST)
        if label.ndim != 2 or label.max() > len(CAMVID_CLASSES):
            raise DataError(
                f"{path} is no CamVid label map: expected one channel with 0 to {len(CAMVID_CLASSES) - 1} for the "
                f"classes and {len(CAMVID_CLASSES)} for void."
            )
        return torch.from_numpy(np.where(label == len(CAMVID_CLASSES), np.uint8(VOID), label))


class StreetSplit:
    """Procedural street scenes, drawn from a seed."""

    def __init__(self, n: int, size: tuple[int, int], seed: int) -> None:
        images, labels = street.street_scenes(n, size, seed)
        self._images, self._labels = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
        self.names = tuple(f"street-{seed}-{index}" for index in range(n))

    def image(self, index: int) -> Tensor:
        """Return an image, (3, H, W) uint8."""
        return self._images[index]

    def label(self, index: int, full: bool = False) -> Tensor:  # noqa: ARG002 - they are drawn at one size
        """Return an image's label map (H, W) uint8."""
        return self._labels[index]


def load_camvid(root: Path, size: tuple[int, int]) -> Dataset:
    """Read CamVid (Brostow et al. 2008) in the SegNet tutorial's layout, resized to (height, width)."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: --data takes the folder that holds CamVid's train, val and test.")
    train, val, test = (CamVidSplit(root, split, size) for split in ("train", "val", "test"))
    return Dataset("CamVid", CAMVID_CLASSES, CAMVID_COLOURS, train, val, test)


def load_street(size: tuple[int, int], n_train: int = 368, n_val: int = 48, n_test: int = 120) -> Dataset:
    """Draw the built-in street scenes at (height, width); the same ones every time."""
    train, val, test = (StreetSplit(n, size, seed) for seed, n in enumerate((n_train, n_val, n_test)))
    return Dataset("street scenes", street.CLASSES, street.COLOURS, train, val, test)


def read_picture(
    path: Path, mode: str | None, size: tuple[int, int] | None, resampling: Image.Resampling
) -> np.ndarray:
    """Return an image file as an array, converted to a mode of Pillow's and resized to (height, width) if given."""
    try:
        with Image.open(path) as file:
            if mode and file.mode.startswith(("I", "F")):  # Pillow would cut off all above 255
                raise DataError(f"{path} has more than 8 bits a channel: save it with 8.")
            image = file.convert(mode) if mode else file
            return np.asarray(image.resize(size[::-1], resampling) if size else image)
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image: {error}.") from error
