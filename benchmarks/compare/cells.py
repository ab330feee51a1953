"""Cells: the answers of probes, put together for a library."""

import importlib
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from textwrap import shorten

import numpy as np
import torch

from benchmarks.compare.probes import NoError, PartlyError
from benchmarks.compare.roads import Library, MissingError
from benchmarks.compare.rows import Beside, Row
from benchmarks.timing import first_line

LONGEST = 160  # characters of an error


@dataclass(frozen=True)
class Cell:
    """What a library does, and what came out where that is not all."""

    verdict: str
    """ "yes", "partly", "no", "not run", or a number."""
    reason: str = ""


def load(name: str) -> Library | str:
    """Return a library, or why it cannot be run here."""
    try:
        return importlib.import_module(f"benchmarks.compare.libraries.{name}").LIBRARY
    except ImportError as error:
        return f"not installed ({first_line(error)})"


def cell(library: Library | str, row: Row | Beside) -> Cell:
    """Run a row's probe for a library."""
    if isinstance(library, str):
        return Cell("not run", library)
    if isinstance(row, Beside):
        found = answer(partial(row.probe, library))
        return Cell(found.reason) if row.counts else found
    roads = [road for road in library.roads if row.about(road)]
    opens = row.containers and any(road.opens for road in roads)
    answers = {road.name: answer(partial(row.probe, road)) for road in roads if road.opens == opens}
    return together(answers, enough=row.enough, named=opens)


def answer(probe: Callable[[], str]) -> Cell:
    """Run one probe, from the same random numbers each time."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the libraries draw from it
    random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Cell("yes", probe())
    except PartlyError as error:
        return Cell("partly", str(error))
    except (NoError, MissingError) as error:
        return Cell("no", str(error))
    except Exception as error:
        said = f"{type(error).__name__}: {shorten(first_line(error), LONGEST, placeholder=' ...')}".rstrip(": .")
        return Cell("no", f"`{said}`")


def together(answers: Mapping[str, Cell], *, enough: bool, named: bool = False) -> Cell:
    """Return one cell for the roads of a library, by their names."""
    if not answers:
        return Cell("no", "has no such transform")
    yes = [name for name, found in answers.items() if found.verdict == "yes"]
    reason = next((found.reason for found in answers.values() if found.verdict != "yes"), "")
    if len(yes) == len(answers) or (yes and enough):
        extra = [f"by {', '.join(yes)}"] if named or len(yes) < len(answers) else []
        extra += dict.fromkeys(answers[name].reason for name in yes if answers[name].reason)
        return Cell("yes", "; ".join(extra))
    if yes:
        other = next(name for name in answers if name not in yes)
        return Cell("partly", f"{', '.join(yes)}; but {other}: {reason}")
    if any(found.verdict == "partly" for found in answers.values()):
        return Cell("partly", reason)
    return Cell("no", reason)
