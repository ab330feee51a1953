"""The page: tables of cells, and notes that say what came out."""

import importlib.util
import subprocess
import textwrap
from collections.abc import Mapping
from datetime import date
from importlib import metadata

from benchmarks.compare.cells import Cell
from cowmask import __version__

WIDTH = 118
NAMES = {
    "cowmask": "cowmask",
    "torchvision": "torchvision",
    "kornia": "kornia",
    "timm": "timm",
    "monai": "MONAI",
    "albumentations": "albumentations",
    "fmix": "FMix",
}
Found = Mapping[str, Mapping[str, Mapping[str, Cell]]]
"""Cells by table, title and library."""


def render(found: Found, head: str, foot: str) -> str:
    """Return the page; its first paragraph stands where `head` has {found}."""
    first = "What cowmask and other libraries of augmentations do, found by running them"
    parts = [head.replace("{found}", _wrapped(f"{first} on {date.today()}: {_versions()}.", ""))]
    number = 0
    for title, rows in found.items():
        lines = [f"## {title}\n", f"| | {' | '.join(NAMES.values())} |", "|---" * (len(NAMES) + 1) + "|"]
        notes = []
        for name, cells in rows.items():
            note = _note(cells)
            number += bool(note)
            lines.append(
                f"| {name}{f' ({number})' if note else ''} | {' | '.join(cells[key].verdict for key in NAMES)} |"
            )
            notes += [_wrapped(f"{number}. {name}. {note}")] if note else []
        parts.append("\n".join([*lines, "", *notes]))
    return "\n\n".join([*parts, foot]).rstrip() + "\n"


def _note(cells: Mapping[str, Cell]) -> str:
    """Return what came out, by library; those that say the same stand together."""
    said: dict[str, list[str]] = {}
    for key, name in NAMES.items():
        if cells[key].reason and cells[key].verdict != "not run":
            said.setdefault(cells[key].reason, []).append(name)
    return " ".join(f"**{', '.join(names)}**: {reason}." for reason, names in said.items())


def _wrapped(text: str, indent: str = "    ") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _versions() -> str:
    found = [f"{name} {_version(key)}" for key, name in NAMES.items()]
    return ", ".join([*found, f"torch {metadata.version('torch')}"])


def _version(key: str) -> str:
    """Return a package's version, or the commit of FMix, which is a clone on the path."""
    if key != "fmix":
        try:
            return __version__ if key == "cowmask" else metadata.version(key)
        except metadata.PackageNotFoundError:
            return "(not installed)"
    clone = importlib.util.find_spec("implementations")
    folder = next(iter((clone and clone.submodule_search_locations) or []), None)
    if folder is None:
        return "(not there)"
    done = subprocess.run(["git", "-C", folder, "describe", "--always"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
