"""Data sets as decoded tensors: CamVid from a folder, and the built-in street scenes."""

from collections.abc import Sequence
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
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class DataError(Exception):
    """The data set is missing or damaged; the message is one sentence for the user."""


class Split(Protocol):
    """Images that are decoded at once, and labels that are read only for the images asked for."""

    images: Tensor  # (N, 3, H, W) uint8
    names: tuple[str, ...]  # of the images

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Return the label maps (len(indices), H, W) uint8, VOID where there is none."""


@dataclass(frozen=True)
class Dataset:
    """Three splits and what their labels mean."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split


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
        pixels = [_read(path, "RGB", size, Image.Resampling.BILINEAR) for path in self._frames]
        self.images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Return the label maps (len(indices), H, W) uint8, VOID where there is none."""
        maps = []
        for index in indices:
            path = self._label_folder / f"{self._frames[index].stem}.png"
            if not path.is_file():
                raise DataError(f"{path} is missing: every labelled frame needs a label map of its name.")
            maps.append(_read(path, None, self._size, Image.Resampling.NEAREST))
            if maps[-1].ndim != 2 or maps[-1].max() > len(CAMVID_CLASSES):
                raise DataError(
                    f"{path} is no CamVid label map: expected one channel with 0 to {len(CAMVID_CLASSES) - 1} for the "
                    f"classes and {len(CAMVID_CLASSES)} for void."
                )
        labels = torch.from_numpy(np.stack(maps))
        return labels.masked_fill(labels == len(CAMVID_CLASSES), VOID)


class StreetSplit:
    """Procedural street scenes, drawn from a seed."""

    def __init__(self, n: int, size: tuple[int, int], seed: int) -> None:
        images, labels = street.street_scenes(n, size, seed)
        self.images, self._labels = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
        self.names = tuple(f"street-{seed}-{index}" for index in range(n))

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Return the label maps (len(indices), H, W) uint8."""
        return self._labels[torch.as_tensor(indices)]


def load_camvid(root: Path, size: tuple[int, int]) -> Dataset:
    """Read CamVid (Brostow et al. 2008) in the SegNet tutorial's layout, resized to (height, width)."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: --data takes the folder that holds CamVid's train, val and test.")
    splits = {name: CamVidSplit(root, name, size) for name in ("train", "val", "test")}
    return Dataset("CamVid", CAMVID_CLASSES, **splits)


def load_street(size: tuple[int, int], n_train: int = 368, n_val: int = 48, n_test: int = 120) -> Dataset:
    """Draw the built-in street scenes at (height, width); the same ones every time."""
    splits = {
        name: StreetSplit(n, size, seed)
        for seed, (name, n) in enumerate({"train": n_train, "val": n_val, "test": n_test}.items())
    }
    return Dataset("street scenes", street.CLASSES, **splits)


def _read(path: Path, mode: str | None, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    try:
        with Image.open(path) as file:
            image = file.convert(mode) if mode else file
            return np.asarray(image.resize(size[::-1], resampling))
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image: {error}.") from error
