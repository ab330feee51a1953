"""CamVid (Brostow et al. 2008), read from a folder in the SegNet tutorial's layout."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segmentation.data.datasets import VOID, DataError, Dataset, read_picture

CLASSES = (
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
COLOURS = (
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


class CamVidSplit:
    """One split of CamVid: frames in `ROOT/SPLIT`, label maps with the same names in `ROOT/SPLITannot`."""

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
        self._labels: dict[int, Tensor] = {}  # those already read

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) uint8."""
        return self._images[index]

    def label(self, index: int, full: bool = False) -> Tensor:
        """Return label map `index`, (H, W) uint8 with VOID; if `full`, in its published size."""
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
        if label.ndim != 2 or label.max() > len(CLASSES):
            raise DataError(
                f"{path} is no CamVid label map: expected one channel with 0 to {len(CLASSES) - 1} for the "
                f"classes and {len(CLASSES)} for void."
            )
        return torch.from_numpy(np.where(label == len(CLASSES), np.uint8(VOID), label))


def load_camvid(root: Path, size: tuple[int, int]) -> Dataset:
    """Read CamVid, resized to (height, width).

    Raises:
        DataError: If a folder is missing or holds no frames.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: --data takes the folder that holds CamVid's train, val and test.")
    train, val, test = (CamVidSplit(root, split, size) for split in ("train", "val", "test"))
    return Dataset("CamVid", CLASSES, COLOURS, train, val, test)
