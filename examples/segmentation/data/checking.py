"""Look at all files that a run will read, before its first step."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from os import cpu_count
from typing import TypeVar

from tqdm import tqdm

from segmentation.data.datasets import DataError, Dataset, Split

SHOWN = 3  # files of each kind of problem
THREADS = min(8, cpu_count() or 1)  # each holds one picture in memory

Place = TypeVar("Place")
Seen = TypeVar("Seen")


@dataclass(frozen=True, eq=False)
class Part:
    """What is read of a split: all images, and some label maps."""

    title: str  # as "the test set"
    split: Split
    labelled: Collection[int]  # indices of the images whose label maps are read


def parts_of(data: Dataset, labelled: Collection[int]) -> list[Part]:
    """Return what training reads: all images, the label maps of some training images, and all others."""
    held_out = {"the validation set": data.val, f"the {data.tested_on}": data.test}
    return [
        Part("the training set", data.train, labelled),
        *(Part(title, split, range(len(split.names))) for title, split in held_out.items()),
    ]


def check(title: str, parts: Sequence[Part], known: Sequence[str] = ()) -> None:
    """Look at the images and label maps of some parts of a data set.

    Args:
        title: Name of the data set.
        parts: Where to look.
        known: Sentences on what is wrong beside these parts' files.

    Raises:
        DataError: If any cannot be used. One message has all of them, by their number and the first names.
    """
    places = [(part, index) for part in parts for index in range(len(part.split.names))]
    groups: dict[tuple[Part, str, str], list[DataError]] = defaultdict(list)
    looks = in_threads(f"Checking {title}", lambda place: _problems(*place), places)
    for (part, _), problems in zip(places, looks, strict=True):
        for kind, error in problems.items():
            groups[part, kind, error.fault].append(error)
    lines = [*known, *(_line(*group, errors) for group, errors in groups.items())]
    if len(lines) == 1:
        raise DataError(lines[0])
    if lines:
        raise DataError(f"{title} has files that cannot be used:" + "".join(f"\n- {line}" for line in lines))


def in_threads(title: str, look: Callable[[Place], Seen], places: Sequence[Place]) -> Iterator[Seen]:
    """Yield what a function returns for each place, in their order; after two seconds with a progress bar."""
    with ThreadPool(THREADS) as pool:
        yield from tqdm(pool.imap(look, places), title, len(places), leave=False, delay=2, disable=None)


def first_of(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _problems(part: Part, index: int) -> dict[str, DataError]:
    """Return what is wrong with an image and with its label map."""
    found: dict[str, DataError] = {}
    reads: dict[str, Callable[[int], object]] = {"images": part.split.check_image, "label maps": part.split.label}
    for kind, read in reads.items():
        try:
            if kind == "images" or index in part.labelled:
                read(index)
        except DataError as error:
            if not found or error.where != found["images"].where:  # a label map is compared with its image
                found[kind] = error
    return found


def _line(part: Part, kind: str, fault: str, errors: Sequence[DataError]) -> str:
    if len(errors) == 1 and fault != "are missing":
        return str(errors[0])
    total = len(part.split.names if kind == "images" else part.labelled)
    names = first_of([error.where for error in errors])
    line = f"{len(errors)} of {total} {kind} of {part.title} {fault}: {names}."
    return line if fault == "are missing" else f"{line} The first: {errors[0]}"
