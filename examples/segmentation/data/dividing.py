"""Divide labelled images into those that train and those that score."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from segmentation.data.checking import first_of
from segmentation.data.datasets import DataError
from segmentation.data.files import read_file
from segmentation.data.pairing import Pairs, Picture, without_kind

_NUMBER = r"\d+|\d*\.\d+"


@dataclass(frozen=True)
class Division:
    """Which pictures train and which score."""

    train: list[Picture]
    held: dict[str, list[Picture]]  # by option
    drawn: dict[str, list[str]]  # names of the images that the seed chose, by option
    problems: list[str]  # sentences


def divide(
    found: Pairs, options: Mapping[str, Sequence[str]], seed: int, find: Callable[[Path, Path], Pairs]
) -> Division:
    """Take the images to score by from the labelled ones, or from folders of their own.

    Args:
        found: Images, some of them with label maps.
        options: Words of --val and --test: a share or number, a list, one folder, two folders; none is a fifth.
        seed: Seed of the draw. For one seed, fewer are among more.
        find: Pairs the images in one folder with the label maps in another.

    Raises:
        DataError: The words are none of these, or no labelled image is left to train on, or to score by.
    """
    labelled = [picture for picture in found.pictures if picture.label]
    problems = list(found.problems)
    held: dict[str, list[Picture]] = {}
    for option, words in options.items():
        if not _is_number(words):
            held[option], more = _named(option, words, labelled, find)
            problems += more
    pool = _without(labelled, held)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed)).tolist()
    drawn = {option: words for option, words in options.items() if option not in held}
    for option, words in drawn.items():
        n = _count(option, words, len(labelled))
        chosen, order = sorted(order[:n]), order[n:]
        held[option] = [pool[position] for position in chosen]
    train = _without(found.pictures, held)
    if not all(held.values()) or not any(picture.label for picture in train):
        few = f"Labelled images found: {len(labelled)}, too few to train on some and to score by others."
        raise DataError("\n".join([*problems, few]))
    in_order = {option: held[option] for option in options}
    return Division(train, in_order, {option: [one.name for one in held[option]] for option in drawn}, problems)


def _without(pictures: Sequence[Picture], held: Mapping[str, Sequence[Picture]]) -> list[Picture]:
    taken = {picture.image.resolve() for some in held.values() for picture in some}
    return [picture for picture in pictures if picture.image.resolve() not in taken]


def _is_number(words: Sequence[str]) -> bool:
    return not words or (len(words) == 1 and re.fullmatch(_NUMBER, words[0]) is not None)


def _count(option: str, words: Sequence[str], labelled: int) -> int:
    """Return how many images to draw: by default a fifth, at least two, at most half."""
    if not words:
        return min(max(2, round(labelled / 5)), labelled // 2)
    n = round(float(words[0]) * labelled) if "." in words[0] else int(words[0])
    if not 0 < n <= labelled:
        raise DataError(f"--{option} {words[0]} is {n} of the {labelled} labelled images: expected a part of them.")
    return n


def _named(
    option: str, words: Sequence[str], labelled: Sequence[Picture], find: Callable[[Path, Path], Pairs]
) -> Pairs:
    """Return the pictures on a list or in folders."""
    paths = [Path(word) for word in words]
    if len(paths) == 1 and paths[0].is_file():
        return Pairs(_listed(paths[0], labelled), [])
    if len(paths) == 1 and paths[0].is_dir():
        paths = [paths[0] / "images", paths[0] / "labels"]
    if len(paths) != 2 or not all(path.is_dir() for path in paths):
        raise DataError(
            f"--{option} {' '.join(words)}: expected a share as 0.2, a number of images, a file with a name in each "
            "line, a folder that holds the folders images and labels, or two folders."
        )
    pictures, problems = find(*paths)
    bare = [str(picture.image) for picture in pictures if not picture.label]
    if bare:
        problems.append(f"{len(bare)} of {len(pictures)} images for --{option} have no label map: {first_of(bare)}.")
    return Pairs([picture for picture in pictures if picture.label], problems)


def _listed(path: Path, labelled: Sequence[Picture]) -> list[Picture]:
    """Return the labelled images that a file names, with or without suffix."""
    try:
        lines = [line.strip() for line in read_file(path).content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no list of images: {error}.") from error
    by_name = {picture.name: picture for picture in labelled}
    names = list(dict.fromkeys(without_kind(line) for line in lines if line))
    unknown = [name for name in names if name not in by_name]
    if not names:
        raise DataError(f"{path} is empty: expected the name of a labelled image in each line.")
    if unknown:
        raise DataError(f"{len(unknown)} of {len(names)} names in {path} are no labelled images: {first_of(unknown)}.")
    return [by_name[name] for name in names]
