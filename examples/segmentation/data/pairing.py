"""Find images and their label maps in folders of any layout, by their names."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from segmentation.data.checking import first_of
from segmentation.data.datasets import DataError
from segmentation.data.decoding import FORMATS
from segmentation.data.files import PICTURES, others_in, pictures_in


class Picture(NamedTuple):
    """An image, and its label map if it has one."""

    name: str
    image: Path
    label: Path | None = None


class Pairs(NamedTuple):
    """Images with their label maps, and what is wrong with other label maps."""

    pictures: list[Picture]  # in the order of the files' names
    problems: list[str]  # sentences


def find_images(folder: Path, apart: Collection[Path] = ()) -> dict[str, Path]:
    """Return the images in a folder and its folders, by their paths from that folder on, without suffix.

    Args:
        folder: Where to look.
        apart: Folders that are no part of it, even if they lie in it.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.")
    inside = [path for path in map(Path.resolve, apart) if folder.resolve() in path.parents]
    found = {
        name: path
        for name, path in pictures_in(folder, nested=True).items()
        if not any(path.resolve().is_relative_to(one) for one in inside)
    }
    if not found:
        others = in_words(others_in(folder))
        hint = f", but {others}: convert what is meant" if others else ""
        raise DataError(f"{folder} holds no pictures ({', '.join(FORMATS)}){hint}.")
    return found


def find_pairs(images: Path, labels: Path, suffix: str = "", apart: Collection[Path] = ()) -> Pairs:
    """Return images with their label maps, which may lie in one folder or in two.

    Args:
        images: Folder of images.
        labels: Folder of label maps.
        suffix: What follows the image's name in the name of its label map. Other files are no label maps.
        apart: Folders that are no part of these, even if they lie in them.

    Raises:
        DataError: A folder holds no pictures, or nothing tells label maps from images.
    """
    photos, files = (find_images(folder, {images, labels, *apart}) for folder in (images, labels))
    if images.resolve() == labels.resolve():
        if not suffix:
            raise DataError(f"{images} is given for images and for label maps: tell them by --label-suffix, as _mask.")
        photos = {name: path for name, path in photos.items() if not name.endswith(suffix)}
    files = {name: path for name, path in files.items() if name.endswith(suffix)}
    by_stem = defaultdict(list)
    for name in photos:
        by_stem[Path(name).name].append(name)
    owned: dict[str, list[Path]] = {name: [] for name in photos}
    lonely: list[Path] = []
    torn: list[Path] = []
    for name, path in files.items():
        own = without_kind(name.removesuffix(suffix))
        owners = [own] if own in photos else by_stem[Path(own).name]
        (owned[owners[0]] if len(owners) == 1 else torn if owners else lonely).append(path)
    several = [photos[name] for name, paths in owned.items() if len(paths) > 1]
    hint = _hint(lonely, by_stem.keys())
    problems = {
        f"{len(lonely)} of {len(files)} label maps in {labels} have no image in {images}{hint}": lonely,
        f"{len(torn)} label maps have the name of several images, so put each into a folder named as its image's": torn,
        f"several label maps for {len(several)} of {len(photos)} images, so keep one of each": several,
    }
    lines = [f"{said}: {first_of([str(path) for path in paths])}." for said, paths in problems.items() if paths]
    return Pairs([Picture(name, path, next(iter(owned[name]), None)) for name, path in photos.items()], lines)


def in_words(suffixes: Mapping[str, int]) -> str:
    """Return counts of suffixes as "12 .heic, 1 .txt"."""
    return ", ".join(f"{n} {suffix}" for suffix, n in sorted(suffixes.items(), key=lambda item: (-item[1], item[0])))


def without_kind(name: str) -> str:
    """Return the name of an image without its suffix, which some programs keep, as in x.jpg.png."""
    return Path(name).with_suffix("").as_posix() if Path(name).suffix.lower() in PICTURES else name


def _hint(lonely: Iterable[Path], stems: Collection[str]) -> str:
    """Return advice if what follows the name of an image is the same in many names."""
    rests: Counter[str] = Counter()
    for name in (path.stem for path in lonely):
        owner = next((name[:end] for end in range(len(name) - 1, 0, -1) if name[:end] in stems), None)
        rests.update([name.removeprefix(owner)] if owner else [])
    (rest, count), *_ = rests.most_common(1) or [("", 0)]
    return f" ({count} would with --label-suffix={rest})" if count else ""
