"""Say what folders of images hold, and what will be done with it."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from segmentation.data.checking import first_of, in_threads
from segmentation.data.datasets import VOID, DataError
from segmentation.data.decoding import read_header
from segmentation.data.dividing import Division
from segmentation.data.files import others_in, read_file
from segmentation.data.pairing import Picture, in_words

STRETCHED = 1.5  # change of an image's width relative to its height that is worth a word
ROUGH = 20  # fewer images give a rough score
LISTED = 3  # different sizes

Size = tuple[int, int]  # width and height


def of_images(pictures: Sequence[Picture], size: Size | None) -> str:
    """Say how many images there are, in which sizes, and what is done to them.

    Args:
        pictures: All images.
        size: Height and width to resize to; None if images are cropped.
    """
    sizes = Counter(look for look in in_threads("Reading sizes", _size, pictures) if look)
    labelled = sum(picture.label is not None for picture in pictures)
    text = f"{len(pictures)} images, {labelled} of them with a label map, {_of_sizes(sizes)}."
    if not size:
        return f"{text} Training images are cut from them at random; images are scored in their own sizes."
    ratios = [width / height * size[0] / size[1] for width, height in sizes]
    stretch = max((max(ratio, 1 / ratio) for ratio in ratios), default=1.0)
    hint = (
        f"; the shape of some changes by a factor of {stretch:.1f} (see --size, --fit crop)"
        if stretch > STRETCHED
        else ""
    )
    return f"{text} All are resized to {_x(size[::-1])}{hint}."


def of_others(folders: Iterable[Path]) -> list[str]:
    """Say what is left out."""
    outer = {folder.resolve() for folder in folders}
    outer = {folder for folder in outer if not outer.intersection(folder.parents)}
    others = sum((others_in(folder) for folder in outer), Counter[str]())
    return [f"Left out, by their suffixes: {in_words(others)}."] if others else []


def of_labels(classes: Sequence[str], labels: Collection[tuple[str, Tensor]]) -> list[str]:
    """Say which classes there are, and how much of each.

    Args:
        classes: Their names.
        labels: Label maps (H, W) as they are trained on, each with its name.
    """
    counts = torch.zeros(256, dtype=torch.long)
    empty = []
    for name, label in labels:
        pixels = torch.bincount(label.flatten().long(), minlength=256)
        counts += pixels
        empty += [name] if pixels[VOID] == label.numel() else []
    total, void = int(counts.sum()), int(counts[VOID])
    shares = [f"{name} {_percent(int(n), total - void)}" for name, n in zip(classes, counts, strict=False)]
    lines = [
        f"{len(classes)} classes, by share of the labelled pixels: {', '.join(shares)}. "
        f"Void are {_percent(void, total)} of all pixels."
    ]
    if empty:
        lines.append(f"{len(empty)} label maps are void alone, as they are trained on: {first_of(empty)}.")
    return lines


def of_sets(division: Division, seed: int, out: Path) -> list[str]:
    """Say which images train and which score."""
    labelled = sum(picture.label is not None for picture in division.train)
    lines = [f"{labelled} images with and {len(division.train) - labelled} without a label map train."]
    for option, pictures in division.held.items():
        title = {"val": "during training", "test": "at the end"}[option]
        if len(division.held) == 1:
            title = "during training and at the end: there is no test set, and nothing is chosen by these scores"
        drawn = f", drawn by --seed {seed} and listed in {out / option}.txt," if option in division.drawn else ""
        rough = (
            ". So few give a rough score, but do not take many labels from training" if len(pictures) < ROUGH else ""
        )
        lines.append(f"{len(pictures)} labelled images{drawn} score {title}{rough}.")
    return lines


def _size(picture: Picture) -> Size | None:
    try:
        return read_header(read_file(picture.image)).upright
    except DataError:  # told by the check of all files
        return None


def _of_sizes(sizes: Counter[Size]) -> str:
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    if len(sizes) > LISTED:
        return f"in {len(sizes)} sizes from {_x(ordered[0])} to {_x(ordered[-1])}"
    if len(sizes) == 1:
        return f"all of {_x(ordered[0])}"
    return " and ".join(f"{sizes[size]} of {_x(size)}" for size in ordered) or "none of which can be read"


def _x(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.1f} %"
