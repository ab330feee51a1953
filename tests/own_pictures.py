"""A person's folders, and everything that can be wrong with them.

PYTHONPATH=examples python -m tests.own_pictures

prints what is said if nothing is wrong, as docs/own-pictures.md cites it, and the table of
docs/own-pictures-messages.md, what is said otherwise.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from segmentation.config import ConfigError, parse
from segmentation.data.checking import check, parts_of
from segmentation.data.datasets import DataError
from segmentation.data.folder import load_folder
from segmentation.data.street import CLASSES, street_scenes
from segmentation.presets import folder
from segmentation.run import labelled_by

Bytes = NDArray[np.uint8]
SIZE = (48, 64)
N, LABELLED = 12, 8  # images, the first of which have a label map
GIVEN = ("--images", "photos", "--labels", "painted", "--size", "48", "64", "--out", "run")
COLOURS = np.array([[70, 130, 180], [128, 64, 128], [70, 70, 70], [107, 142, 35], [0, 0, 142], [220, 20, 60]], np.uint8)
PALETTE = COLOURS.ravel().tolist()


def make(root: Path) -> tuple[Bytes, Bytes]:
    """Write photographs of street scenes to `photos`, and label maps of some to `painted`; return both."""
    images, labels = street_scenes(N, SIZE, 0)
    labels[:, :4] = 255
    for name in ("photos", "painted"):
        (root / name).mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(root / "photos" / f"img_{index:02}.jpg", quality=95)
    for index in range(LABELLED):
        save_ids(root / "painted" / f"img_{index:02}.png", labels[index])
    return images, labels


def save_ids(path: Path, ids: Bytes, palette: list[int] | None = None) -> None:
    picture = Image.fromarray(ids)
    if palette:
        picture.putpalette(palette + [0] * (768 - len(palette)))  # fewer colours would be stored in fewer bits
    picture.save(path)


def ids_of(path: Path) -> Bytes:
    with Image.open(path) as picture:
        return np.array(picture)


def label_maps(root: Path) -> list[Path]:
    return sorted((root / "painted").iterdir())


def photos(root: Path) -> list[Path]:
    return sorted((root / "photos").iterdir())


def paint(root: Path) -> None:
    """Turn the label maps into painted ones, black where they are void."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(COLOURS)] = COLOURS
    for path in label_maps(root):
        Image.fromarray(table[ids_of(path)]).save(path)


def list_colours(root: Path) -> list[str]:
    """Write a file that names the colours."""
    lines = [f"{name} {' '.join(map(str, colour))}" for name, colour in zip(CLASSES, COLOURS.tolist(), strict=True)]
    (root / "colours.txt").write_text("\n".join([*lines, "void 0 0 0"]))
    return ["--colours", "colours.txt"]


def add_suffix(root: Path) -> None:
    for path in label_maps(root):
        path.rename(path.with_stem(f"{path.stem}_mask"))


def said(root: Path, *words: str) -> str:
    """Return what is said of the folders in `root` before training: notes, or the error."""
    with contextlib.chdir(root):
        try:
            config = parse(folder, [*GIVEN, *words])
            data, notes = load_folder(config, config.size, config.seed, config.out)
            check(data.name, parts_of(data, labelled_by(config, data)), data.problems)
        except (ConfigError, DataError) as error:
            return str(error)
    return "\n".join(notes)


# --- what is wrong: each changes the folders and returns options ---


def no_image(root: Path) -> list[str]:
    for path in photos(root)[:2]:
        path.unlink()
    return []


def other_names(root: Path) -> list[str]:
    add_suffix(root)
    return []


def other_size(root: Path) -> list[str]:
    for path in label_maps(root)[:5]:
        save_ids(path, ids_of(path)[:40])
    return []


def turned(root: Path) -> list[str]:
    with Image.open(photos(root)[0]) as image:
        exif = Image.Exif()
        exif[Base.Orientation] = 3
        image.save(photos(root)[0], exif=exif)
    return []


def as_jpeg(root: Path) -> list[str]:
    for path in label_maps(root)[:4]:
        with Image.open(path) as label:
            label.save(path.with_suffix(".jpg"))
        path.unlink()
    return []


def unknown_id(root: Path) -> list[str]:
    for path in label_maps(root)[:3]:
        ids = ids_of(path)
        ids[10, 10] = 77
        save_ids(path, ids)
    return ["--classes", *CLASSES]


def blended(root: Path) -> list[str]:
    paint(root)
    for path in label_maps(root):
        with Image.open(path) as label:
            label.resize((96, 72), Image.Resampling.BILINEAR).resize(label.size).save(path)
    return []


def stray(root: Path) -> list[str]:
    paint(root)
    for index, path in enumerate(label_maps(root)):
        picture = ids_of(path)
        picture[10, 10:14] = [(10 * index + shade, 1, 1) for shade in range(4)]
        Image.fromarray(picture).save(path)
    return []


def unknown_colour(root: Path) -> list[str]:
    paint(root)
    colours = list_colours(root)
    for path in label_maps(root)[:2]:
        picture = ids_of(path)
        picture[5:9, 5:9] = (255, 0, 0)
        save_ids(path, picture)
    return colours


def half_painted(root: Path) -> list[str]:
    paint(root)
    for path in label_maps(root)[:3]:
        save_ids(path, np.zeros(SIZE, np.uint8))
    return []


def other_palettes(root: Path) -> list[str]:
    for index, path in enumerate(label_maps(root)):
        save_ids(path, ids_of(path), PALETTE if index else PALETTE[::-1])
    return []


def black_and_white(root: Path) -> list[str]:
    for path in label_maps(root):
        save_ids(path, np.where(ids_of(path) == 1, np.uint8(255), np.uint8(0)))
    return []


def one_label(root: Path) -> list[str]:
    for path in label_maps(root)[1:]:
        path.unlink()
    return []


def two_labels(root: Path) -> list[str]:
    shutil.copy(label_maps(root)[0], root / "painted" / "img_00.jpg.png")
    return []


def two_images(root: Path) -> list[str]:
    Image.new("RGB", (64, 48)).save(root / "photos" / "img_03.png")
    return []


def same_folder(_: Path) -> list[str]:
    return ["--labels", "photos"]


def damaged(root: Path) -> list[str]:
    for path in photos(root)[-3:]:
        path.write_bytes(b"")
    photos(root)[0].write_bytes(b"%!PS-Adobe-3.0")
    return []


def sixteen_bit(root: Path) -> list[str]:
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(root / "photos" / "scan.tif")
    return []


def telephone(root: Path) -> list[str]:
    for path in photos(root):
        path.rename(path.with_suffix(".HEIC"))
    return []


def unknown_names(root: Path) -> list[str]:
    (root / "val.txt").write_text("img_02.jpg\nimg_11\nholiday\n")
    return ["--val", "val.txt"]


def nothing_to_score(root: Path) -> list[str]:
    (root / "later" / "images").mkdir(parents=True)
    return ["--val", "later"]


def all_held_out(_: Path) -> list[str]:
    return ["--val", "8"]


def full(_: Path) -> list[str]:
    return ["--method", "cowmix", "full"]


def nowhere(_: Path) -> list[str]:
    return ["--labels", "labels"]


def several(root: Path) -> list[str]:
    other_size(root)
    damaged(root)
    save_ids(root / "painted" / "extra.png", np.zeros(SIZE, np.uint8))
    return [*unknown_id(root), "--val", "0.25"]


FAULTS: dict[str, Callable[[Path], list[str]]] = {
    "label maps without an image": no_image,
    "names that differ": other_names,
    "label maps of another size": other_size,
    "an image that EXIF turns by 180 degrees, its label map not": turned,
    "label maps saved as JPEG": as_jpeg,
    "an id that no class has": unknown_id,
    "colours blended at the borders of objects": blended,
    "a few pixels of stray colours": stray,
    "a colour that no class has": unknown_colour,
    "some label maps painted, some of ids": half_painted,
    "palettes that differ": other_palettes,
    "black and white masks": black_and_white,
    "a single label map": one_label,
    "two label maps of one image": two_labels,
    "two images of one name": two_images,
    "images and label maps in one folder": same_folder,
    "empty files, other files with an image's suffix": damaged,
    "an image of 16 bits": sixteen_bit,
    "pictures of another format": telephone,
    "names on a list that are not there": unknown_names,
    "a validation set without label maps": nothing_to_score,
    "all label maps held out": all_held_out,
    "`full` with unlabelled images": full,
    "a folder that is not there": nowhere,
    "several things at once": several,
}


def example() -> str:
    """Return what is said if nothing is wrong."""
    return _said_of(lambda _: ["--classes", *CLASSES, "--out", "runs/folder"])


def row(fault: str) -> str:
    """Return what is said of a fault, as a line of a Markdown table."""
    return f"| {fault} | {_said_of(FAULTS[fault]).replace(chr(10), '<br>').replace('|', '&#124;')} |"


def _said_of(spoil: Callable[[Path], list[str]]) -> str:
    with TemporaryDirectory() as root:
        make(Path(root))
        return said(Path(root), *spoil(Path(root)))


if __name__ == "__main__":
    print(example(), "", "| what is wrong | what is said |", "|---|---|", *map(row, FAULTS), sep="\n")
