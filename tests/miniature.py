"""Miniature data sets in the exact layouts and formats of the published ones."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from segmentation.data.street import street_scenes

Bytes = NDArray[np.uint8]
CAMVID_IDS = np.array([0, 3, 1, 5, 8, 9], dtype=np.uint8)  # of street.CLASSES
CITY_IDS = np.array([23, 7, 11, 21, 26, 24], dtype=np.uint8)  # of street.CLASSES
VOC_IDS = np.array([0, 0, 0, 0, 7, 15], dtype=np.uint8)
N_CAMVID_IDS, N_CITY_IDS, N_VOC_IDS = 12, 34, 21
STRIP = 8  # rows in which every class occurs


def make_camvid(root: Path, n: int = 4, size: tuple[int, int] = (32, 64), suffix: str = "png") -> None:
    """Write the folders of the SegNet tutorial's CamVid, `n` frames in each split, of a format."""
    for seed, split in enumerate(("train", "val", "test")):
        images, labels = draw(n, size, seed, CAMVID_IDS, N_CAMVID_IDS)
        for folder, pictures, kind in ((root / split, images, suffix), (root / f"{split}annot", labels, "png")):
            folder.mkdir(parents=True)
            for index, picture in enumerate(pictures):
                Image.fromarray(picture).save(folder / f"frame{index}.{kind}")


def make_cityscapes(root: Path, n_train: int = 4, n_val: int = 2, size: tuple[int, int] = (64, 128)) -> None:
    """Write `leftImg8bit` and `gtFine` with all that the published folders hold beside the images."""
    (root / "README").write_text("Cityscapes in miniature\n")
    (root / "license.txt").write_text("none\n")
    cities = {"train": ("aachen", "zurich"), "val": ("frankfurt", "munster")}
    for seed, (split, n) in enumerate({"train": n_train, "val": n_val}.items()):
        images, labels = draw(n, size, seed, CITY_IDS, N_CITY_IDS)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            city = cities[split][index % 2]
            name = f"{city}_{index:06}_000019"
            photos, fine = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
            photos.mkdir(parents=True, exist_ok=True)
            fine.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(photos / f"{name}_leftImg8bit.png")
            Image.fromarray(label).save(fine / f"{name}_gtFine_labelIds.png")
            Image.fromarray(label.astype(np.uint16) * 1000).save(fine / f"{name}_gtFine_instanceIds.png")
            Image.fromarray(np.stack([label] * 4, axis=2)).save(fine / f"{name}_gtFine_color.png")
            polygons = {"imgHeight": size[0], "imgWidth": size[1], "objects": []}
            (fine / f"{name}_gtFine_polygons.json").write_text(json.dumps(polygons))


def make_pascal_voc(
    root: Path,
    n_train: int = 4,
    n_val: int = 4,
    n_extra: int = 4,
    sizes: Sequence[tuple[int, int]] = ((64, 96), (96, 64), (40, 44)),
) -> None:
    """Write `VOCdevkit/VOC2012` and `benchmark_RELEASE/dataset`.

    Args:
        root: The folder to write to.
        n_train: Images in VOC's training set; every second one, from the first on, is in SBD too.
        n_val: Images in VOC's validation set; every second one, from the first on, is in SBD too.
        n_extra: Images that only SBD labels; VOC holds them without a label.
        sizes: Heights and widths, taken in turn.
    """
    train, val, extra = (
        [f"{year}_{index:06}" for index in range(n)] for year, n in ((2007, n_train), (2008, n_val), (2009, n_extra))
    )
    shared = [*train[::2], *val[::2], *extra]
    for index, name in enumerate([*train, *val, *extra]):
        images, labels = draw(1, sizes[index % len(sizes)], 100 + index, VOC_IDS, N_VOC_IDS)
        _write_voc(root / "VOCdevkit/VOC2012", name, images[0], None if name in extra else labels[0])
        if name in shared:
            _write_sbd(root / "benchmark_RELEASE/dataset", name, images[0], labels[0])
    lists = root / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    for path, names in (
        (lists / "train.txt", train),
        (lists / "val.txt", val),
        (lists / "trainval.txt", sorted([*train, *val])),
        (root / "benchmark_RELEASE/dataset/train.txt", shared[::2]),
        (root / "benchmark_RELEASE/dataset/val.txt", shared[1::2]),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names))


def draw(n: int, size: tuple[int, int], seed: int, ids: Bytes, n_ids: int) -> tuple[Bytes, Bytes]:
    """Draw street scenes with a published data set's ids, and a strip below that holds each of them."""
    images, classes = street_scenes(n, size, seed)
    labels = ids[classes]
    strip = np.arange(size[1]) * n_ids // size[1]
    labels[:, -STRIP:] = strip
    images[:, -STRIP:] = palette()[strip * 7 % 256]  # a colour for each id
    return images, labels


def palette() -> Bytes:
    """Return VOC's palette (256, 3)."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1]  # the lowest first
    channels = [np.pad(bits[:, channel::3], ((0, 0), (0, 8 - bits[:, channel::3].shape[1]))) for channel in range(3)]
    return np.stack([np.packbits(channel, axis=1)[:, 0] for channel in channels], axis=1)


def with_borders(label: Bytes) -> Bytes:
    """Return a label map with VOC's void, 255, at the left edge of every object."""
    bordered = label.copy()
    bordered[:, 1:][label[:, 1:] != label[:, :-1]] = 255
    return bordered


def save_palette_png(path: Path, label: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(label)
    picture.putpalette(palette().tobytes())
    picture.save(path)


def save_mat(path: Path, label: Bytes, struct: str = "GTcls") -> None:
    """Write an annotation of SBD."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((N_VOC_IDS - 1, 1), dtype=object)
    for index in range(N_VOC_IDS - 1):
        boundaries[index, 0] = csc_matrix(label == index + 1)
    present = np.unique(label[label > 0])[:, None]
    content = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": present}
    savemat(path, {struct: content}, do_compression=True)


def pack(root: Path, parts: Sequence[str], archive: Path) -> Path:
    """Put files and folders of `root` into a zip, or into a tar that is compressed if its name says so."""
    if archive.suffix == ".zip":
        with ZipFile(archive, "w", ZIP_DEFLATED) as file:
            for part in parts:
                top = root / part
                for path in [top, *sorted(top.rglob("*"))]:
                    file.write(path, path.relative_to(root))
        return archive
    compressions = {".tar": "w:", ".tgz": "w:gz", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}
    mode = compressions[archive.suffix]
    with tarfile.open(archive, mode, format=tarfile.GNU_FORMAT) as tar:  # type: ignore[call-overload]
        for part in parts:
            tar.add(root / part, part)
    return archive


def _write_voc(root: Path, name: str, image: Bytes, label: Bytes | None) -> None:
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation><filename>{name}.jpg</filename></annotation>\n")
    if label is not None:
        save_palette_png(root / "SegmentationClass" / f"{name}.png", with_borders(label))
        save_palette_png(root / "SegmentationObject" / f"{name}.png", with_borders((label > 0).astype(np.uint8)))


def _write_sbd(root: Path, name: str, image: Bytes, label: Bytes) -> None:
    (root / "img").mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / "img" / f"{name}.jpg", quality=95)
    save_mat(root / "cls" / f"{name}.mat", label)
    save_mat(root / "inst" / f"{name}.mat", (label > 0).astype(np.uint8), "GTinst")
