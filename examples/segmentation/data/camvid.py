"""CamVid (Brostow et al. 2008), read from a folder in the SegNet tutorial's layout."""

from pathlib import Path

from torch import Tensor

from segmentation.data.datasets import VOID, DataError, Dataset
from segmentation.data.decoding import read_image
from segmentation.data.files import pictures_in, read_file
from segmentation.data.label_maps import codes, read_label

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
IDS = codes({**{i: i for i in range(len(CLASSES))}, len(CLASSES): VOID})


class CamVidSplit:
    """One split of CamVid: frames in `ROOT/SPLIT`, label maps with the same names in `ROOT/SPLITannot`.

    What was read is kept in memory, resized.
    """

    def __init__(self, root: Path, split: str, size: tuple[int, int]) -> None:
        folder, label_folder = root / split, root / f"{split}annot"
        for one in (folder, label_folder):
            if not one.is_dir():
                raise DataError(
                    f"{one} is missing: expected CamVid with the folders train, trainannot, val, valannot, "
                    f"test and testannot in {root}."
                )
        frames, labels = pictures_in(folder), pictures_in(label_folder)
        if not frames:
            raise DataError(f"{folder} holds no frames: expected pictures such as PNG or JPEG.")
        self.names = tuple(frames)
        self.unlabelled = tuple(index for index, name in enumerate(frames) if name not in labels)
        self._size = size
        self._frame_files = tuple(frames.values())
        self._label_files = tuple(labels.get(name, label_folder / f"{name}.png") for name in frames)
        self._images: dict[int, Tensor] = {}
        self._labels: dict[int, Tensor] = {}

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) uint8."""
        if index not in self._images:
            self._images[index] = read_image(read_file(self._frame_files[index]), self._size)
        return self._images[index]

    def check_image(self, index: int) -> None:
        """Raise a DataError if image `index` cannot be read."""
        self.image(index)  # in memory before processes that read ahead are forked

    def label(self, index: int, full: bool = False) -> Tensor:
        """Return label map `index`, (H, W) uint8 with VOID; if `full`, in its published size."""
        if full:
            return self._read_label(index, None)
        if index not in self._labels:
            self._labels[index] = self._read_label(index, self._size)
        return self._labels[index]

    def _read_label(self, index: int, size: tuple[int, int] | None) -> Tensor:
        label, frame = (read_file(files[index]) for files in (self._label_files, self._frame_files))
        return read_label(label, frame, IDS, size)


def street(name: str) -> str:
    """Return the sequence that a frame is from, such as Seq05VD: each was filmed in other streets."""
    return name.partition("_")[0]


def load_camvid(root: Path, size: tuple[int, int]) -> Dataset:
    """Read CamVid, resized to (height, width).

    Raises:
        DataError: If a folder is missing or holds no frames.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: --data takes the folder that holds CamVid's train, val and test.")
    train, val, test = (CamVidSplit(root, split, size) for split in ("train", "val", "test"))
    return Dataset("CamVid", CLASSES, COLOURS, train, val, test, group=street, unlabelled=train.unlabelled)
