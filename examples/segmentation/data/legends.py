"""What the values in a person's label maps mean: as the person says, or as found."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from segmentation.data.checking import first_of, in_threads
from segmentation.data.datasets import VOID, DataError
from segmentation.data.decoding import Encoded
from segmentation.data.files import read_file
from segmentation.data.label_maps import (
    TRANSPARENT,
    UNKNOWN,
    codes,
    hexadecimal,
    is_painted,
    palette_of,
    read_colours,
    read_ids,
    read_label,
    read_painted,
)
from segmentation.data.pascal_voc import voc_colour

MOST = 254  # classes
REST = "rest"  # --void for all that is no class
RARE = 1e-4  # share of the pixels; colours blended at the borders of objects have less
COUNTED = 1000  # values in a label map; a photograph has millions
WHITE, NEARLY_WHITE = 0xFFFFFF, 0xDDDDDD  # pictures show void as white

_NUMBERS = r"\d{1,3}[\s,;]+\d{1,3}[\s,;]+\d{1,3}"
_COLOUR = re.compile(rf"#(?P<hex>[0-9a-fA-F]{{6}})\b|^\s*{_NUMBERS}\b|\b{_NUMBERS}\s*$")

Values = Mapping[int, str]  # name of each id, or of each colour 0xRRGGBB


@dataclass(frozen=True)
class Legend:
    """The classes, and the values in label maps that stand for them."""

    classes: tuple[str, ...]
    colours: tuple[str, ...]  # one for each class, as #rrggbb
    meaning: Mapping[int, int]  # class, or VOID, of each id, or of each colour 0xRRGGBB
    painted: bool  # whether values are colours
    rest: int = UNKNOWN  # VOID if all other values are void, too

    def read(self, label: Encoded, image: Encoded, size: tuple[int, int] | None = None) -> Tensor:
        """Return a label map (H, W) uint8 with VOID that lies as its image, resized to (height, width) if given."""
        if self.painted:
            return read_painted(label, image, self.meaning, size, self.rest)
        return read_label(label, image, codes(self.meaning, self.rest), size)


class Survey(NamedTuple):
    """The values in a label map."""

    pixels: Mapping[int, int]  # how many have each value
    palette: Mapping[int, int]  # colour of each id, if the label map has a palette


def find_legend(files: Sequence[Path], classes: Sequence[str], colours: Path | None, void: Sequence[str]) -> Legend:
    """Find out what the values in label maps mean.

    Args:
        files: The label maps. Those that cannot be read are left out: the check of all files tells them.
        classes: NAME for the ids 0, 1, ... in turn, or NAME=ID, or NAME=#rrggbb; none takes the values found.
        colours: A file with a name and a colour in each line, in place of `classes`.
        void: Ids or colours of pixels without a class, or REST; none is 255 for ids, unless 255 is a class.

    Raises:
        DataError: What is given cannot be understood, or no classes are found.
    """
    if classes and colours:
        raise DataError("--classes and --colours both name the classes: give one of them.")
    named, by_colour = _listed(colours) if colours else _named(classes)
    painted = by_colour or (not named and _are_painted(files))
    empty = {_value(word, "--void", painted) for word in void if word != REST}
    if both := [named[value] for value in empty if value in named and named[value].lower() != "void"]:
        raise DataError(f"--void has the value of {', '.join(both)}: name it as a class or as void.")
    if not (void or painted or 255 in named):
        empty = {255}
    looks = list(in_threads("Surveying label maps", lambda path: _survey(path, painted), files))
    surveys = {path: look for path, look in zip(files, looks, strict=True) if look}
    found: Counter[int] = Counter()
    for survey in surveys.values():
        found.update(survey.pixels)
    named = named or _found(found, empty, painted)
    palette = {value: value for value in named} if painted else _palette(surveys)
    legend = _legend(named, empty, painted, palette, VOID if REST in void else UNKNOWN)
    if found and len(legend.classes) < 2:
        raise DataError(_too_few(found, legend))
    return legend


def _legend(named: Values, empty: set[int], painted: bool, palette: Mapping[int, int], rest: int) -> Legend:
    classes = list(dict.fromkeys(name for name in named.values() if name.lower() != "void"))
    if len(classes) > MOST:
        raise DataError(f"{len(classes)} classes are more than {MOST}, the most that a label map here can hold.")
    meaning = {value: classes.index(name) if name in classes else VOID for value, name in named.items()}
    first = {name: value for value, name in reversed(list(named.items()))}  # a class may have several values
    colours = [palette.get(first[name], _of_id(first[name])) for name in classes]
    shown = tuple(hexadecimal(NEARLY_WHITE if colour == WHITE else colour) for colour in colours)
    return Legend(tuple(classes), shown, meaning | dict.fromkeys(empty, VOID), painted, rest)


def _of_id(value: int) -> int:
    red, green, blue = voc_colour(value)
    return red << 16 | green << 8 | blue


def _named(words: Sequence[str]) -> tuple[dict[int, str], bool]:
    """Return the names of values that --classes gives, and whether values are colours."""
    by_colour = any("=#" in word for word in words)
    named: dict[int, str] = {}
    for index, word in enumerate(words):
        name, _, text = word.rpartition("=") if "=" in word else (word, "", str(index))
        value = _value(text, f"--classes {word}", by_colour)
        if value in named:
            raise DataError(f"--classes gives {text} to {named[value]} and to {name}: name each value once.")
        named[value] = name
    return named, by_colour


def _listed(path: Path) -> tuple[dict[int, str], bool]:
    """Return the names of colours in a file, of which each line has a name and #rrggbb or three numbers."""
    try:
        lines = read_file(path).content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text with a name and a colour in each line.") from error
    named: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _COLOUR.search(line)
        name = line.replace(match[0], " ", 1).strip(" \t,;:=\"'") if match else ""
        names_columns = number == 1 and not re.search(r"[#\d]", line)
        if not line.strip() or line.lstrip().startswith("# ") or names_columns:
            continue
        numbers = [int(part) for part in re.findall(r"\d+", match[0])] if match and not match["hex"] else []
        if not match or not name or max(numbers, default=0) > 255:
            raise DataError(
                f"{path}, line {number}: expected a name, and #rrggbb or three numbers up to 255: {line!r}."
            )
        value = int.from_bytes(bytes(numbers) or bytes.fromhex(match["hex"]))
        if value in named:
            raise DataError(
                f"{path} gives {hexadecimal(value)} to {named[value]} and to {name}: name each colour once."
            )
        named[value] = name
    if not named:
        raise DataError(f"{path} names no colours: expected a name and #rrggbb, or three numbers, in each line.")
    return named, True


def _value(text: str, option: str, painted: bool) -> int:
    """Return an id, or a colour."""
    if painted and re.fullmatch("#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16)
    if not painted and text.isdecimal() and int(text) < 256:
        return int(text)
    expected = "colours, as #ff8000, since label maps are read by colour" if painted else "ids from 0 to 255"
    raise DataError(f"{option}: expected {expected}, got {text or 'nothing'}.")


def _are_painted(files: Sequence[Path]) -> bool:
    """Return whether all label maps are painted rather than hold ids; refuse a mixture."""
    kinds: dict[bool, list[Path]] = {True: [], False: []}
    for path in files:
        try:
            kinds[is_painted(read_file(path))].append(path)
        except DataError:
            continue
    if kinds[True] and kinds[False]:
        raise DataError(
            f"{len(kinds[True])} label maps are painted ({kinds[True][0]} is) and {len(kinds[False])} hold ids "
            f"({kinds[False][0]} does): save all alike, or give --colours FILE to read all by their colours."
        )
    return bool(kinds[True])


def _survey(path: Path, painted: bool) -> Survey | None:
    try:
        file = read_file(path)
        values, _ = read_colours(file) if painted else read_ids(file)
        found, counts = (part[:COUNTED].tolist() for part in np.unique(values, return_counts=True))
        palette = {} if painted else palette_of(file)
    except DataError:
        return None
    return Survey(dict(zip(found, counts, strict=True)), {value: palette[value] for value in found if value in palette})


def _found(found: Counter[int], empty: set[int], painted: bool) -> dict[int, str]:
    """Return names for the values found."""
    values = sorted(found.keys() - empty - {TRANSPARENT})
    rare = [value for value in values if found[value] < RARE * found.total()]
    kind, option = ("colours", "--colours") if painted else ("ids", "--classes")
    if len(values) > MOST or len(rare) > max(8, len(values) / 2):
        n = f"more than {MOST}" if len(values) > MOST else len(values)
        raise DataError(
            f"the label maps hold {n} {kind}, of which {len(rare)} cover less than {RARE:.2%} of the pixels each: were "
            f"{kind} blended at the borders of objects? Name the classes by {option}, and give --void {REST} to leave "
            "the others out."
        )
    return {value: hexadecimal(value) if painted else f"class {value}" for value in values}


def _palette(surveys: Mapping[Path, Survey]) -> dict[int, int]:
    """Return the colours of ids in the label maps' palettes; refuse palettes that differ in an id that occurs."""
    first: dict[int, tuple[int, Path]] = {}
    for path, survey in surveys.items():
        for value, colour in survey.palette.items():
            known, where = first.setdefault(value, (colour, path))
            if known != colour:
                raise DataError(
                    f"the palettes of {where} and {path} differ: the id {value} is {hexadecimal(known)} and "
                    f"{hexadecimal(colour)}. Give --colours FILE to read label maps by their colours."
                )
    return {value: colour for value, (colour, _) in first.items()}


def _too_few(found: Counter[int], legend: Legend) -> str:
    values = [hexadecimal(value) if legend.painted else str(value) for value in sorted(found)]
    hint = "give --classes background=0 object=255" if set(found) == {0, 255} else "see --classes and --void"
    kind = "colours" if legend.painted else "ids"
    return f"the label maps hold the {kind} {first_of(values)}, which are not two classes beside void: {hint}."
