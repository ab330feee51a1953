"""Any images, some of them with label maps, from folders of any layout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro
from torch import Tensor

from segmentation.data.checking import in_threads
from segmentation.data.datasets import DataError, Dataset
from segmentation.data.decoding import check_image, read_image
from segmentation.data.description import of_images, of_labels, of_others, of_sets
from segmentation.data.dividing import Division, divide
from segmentation.data.files import read_file
from segmentation.data.legends import Legend, find_legend
from segmentation.data.pairing import Pairs, Picture, find_images, find_pairs

IN_MEMORY = 2**30  # bytes of images and label maps, as they train

HeldOut = Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHARE|N|LIST|DIR|DIR DIR")]


@dataclass(frozen=True)
class FolderOptions:
    """Where images and label maps lie, and what the label maps mean."""

    images: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of images, with all folders in it."""
    labels: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of label maps. Each has the name of its image; images without a label map are unlabelled."""
    label_suffix: str = ""
    """What follows the image's name in that of its label map, as --label-suffix=_mask. Others are left out."""
    unlabelled: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of more images, without label maps."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME|NAME=ID|NAME=#RRGGBB...")] = ()
    """Names of the ids 0, 1, ... in turn, or of ids or colours; by default, the values found are the classes."""
    colours: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Text with a name and a colour (#rrggbb or three numbers) in each line. Label maps are then read by colour."""
    void: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID|#RRGGBB|rest...")] = ()
    """Pixels without a class: ids, colours, or rest for all that is no class; by default id 255, if it is no class."""
    val: HeldOut = ()
    """Labelled images to score by, not to train on: a share or number, drawn by the seed; a file with a name in each
    line; a folder that holds the folders images and labels; or two folders, of images and label maps. By default, a
    fifth of the labelled images."""
    test: HeldOut = ()
    """Labelled images to score by at the end, given like --val; by default, those of --val."""
    fit: Literal["resize", "crop"] = "resize"
    """resize all images to --size; or crop: train on parts of --size, cut at random from images in their own sizes."""


class FolderSplit:
    """Some of the pictures, resized if a size is given."""

    def __init__(
        self, pictures: Sequence[Picture], legend: Legend, size: tuple[int, int] | None, memory: "Memory"
    ) -> None:
        self.names = tuple(picture.name for picture in pictures)
        self.pictures = tuple(pictures)
        self._legend, self._size, self._memory = legend, size, memory

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) uint8."""
        path = self.pictures[index].image
        return self._memory.get(path, lambda: read_image(read_file(path), self._size))

    def check_image(self, index: int) -> None:
        """Raise a DataError if image `index` cannot be read."""
        if self._memory.room > 0:
            self.image(index)  # in memory before processes that read ahead are forked
        else:
            check_image(read_file(self.pictures[index].image))

    def label(self, index: int, full: bool = False) -> Tensor:  # noqa: ARG002 - scored at the size of training
        """Return label map `index`, (H, W) uint8 with VOID."""
        _, image, label = self.pictures[index]
        if label is None:
            raise DataError(f"{image} has no label map.", "are missing", str(image))
        return self._memory.get(label, lambda: self._legend.read(read_file(label), read_file(image), self._size))


class Memory:
    """What was read before, up to a number of bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._kept: dict[Path, Tensor] = {}

    def get(self, path: Path, read: Callable[[], Tensor]) -> Tensor:
        """Return what a file held; read it if that is not kept."""
        if path in self._kept:
            return self._kept[path]
        value = read()
        if value.nbytes <= self.room:
            self.room -= value.nbytes
            self._kept[path] = value
        return value


def load_folder(given: FolderOptions, size: tuple[int, int], seed: int, out: Path) -> tuple[Dataset, list[str]]:
    """Find images and label maps, and what they mean.

    Args:
        given: Where to look.
        size: Height and width to resize to, unless images are cropped.
        seed: Seed of the draw of images to score by.
        out: The run's folder, where their names will be written.

    Returns:
        The data set, and what was found and will be done with it, in sentences.

    Raises:
        DataError: The options do not fit what is there. What is wrong with single files is told by the check of all.
    """
    folders = _folders(given)
    division = _divide(given, folders, seed)
    sets = [division.train, *division.held.values()]
    every = [picture for some in sets for picture in some]
    files = [picture.label for picture in every if picture.label]
    legend = find_legend(files, given.classes, given.colours, given.void)
    memory, shape = Memory(IN_MEMORY), size if given.fit == "resize" else None
    train, val, *test = splits = [FolderSplit(some, legend, shape, memory) for some in sets]
    data = Dataset(
        folders[0].resolve().name,
        legend.classes,
        legend.colours,
        train,
        val,
        test[0] if test else val,
        tested_on="test set" if test else "validation set",
        own_sizes=shape is None,
        unlabelled=tuple(index for index, picture in enumerate(train.pictures) if not picture.label),
        problems=tuple(division.problems),
        lists=division.drawn,
    )
    notes = [
        of_images(every, shape),
        *of_others(folders),
        *of_labels(legend.classes, _whole_labels(splits)),
        *of_sets(division, seed, out),
    ]
    return data, notes


def _folders(given: FolderOptions) -> list[Path]:
    """Return all folders that are given, that of the images first."""
    if given.images is None or given.labels is None:
        raise DataError("--images takes the folder of your images, --labels the folder of their label maps.")
    held_out = [Path(word) for word in (*given.val, *given.test) if Path(word).is_dir()]
    return [given.images, given.labels, *([given.unlabelled] if given.unlabelled else []), *held_out]


def _divide(given: FolderOptions, folders: Sequence[Path], seed: int) -> Division:
    images, labels, *_ = folders
    pictures, problems = find_pairs(images, labels, given.label_suffix, folders)
    if given.unlabelled:
        known = {picture.image.resolve() for picture in pictures}
        more = find_images(given.unlabelled, folders).items()
        pictures += [Picture(f"{given.unlabelled}/{name}", path) for name, path in more if path.resolve() not in known]
    options = {"val": given.val} | ({"test": given.test} if given.test else {})
    find = partial(find_pairs, suffix=given.label_suffix, apart=folders)
    return divide(Pairs(pictures, problems), options, seed, find)


def _whole_labels(splits: Sequence[FolderSplit]) -> list[tuple[str, Tensor]]:
    """Return all label maps that can be read, by the images' names. The check of all files tells the others."""
    places = [(split, index) for split in splits for index in range(len(split.names)) if split.pictures[index].label]

    def read(place: tuple[FolderSplit, int]) -> Tensor | None:
        try:
            return place[0].label(place[1])
        except DataError:
            return None

    labels = zip(places, in_threads("Reading label maps", read, places), strict=True)
    return [(split.names[index], label) for (split, index), label in labels if label is not None]
