"""Means over seeds, paired differences, and the table."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from classification.methods import Arrangement, Method
from classification.training import Scores

Runs = Mapping[Arrangement, Mapping[Method, Sequence[Scores]]]  # a run for each seed, in the same order everywhere


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation, which divides by n - 1; None for one value."""
    return stdev(values) if len(values) > 1 else None


def summary(runs: Sequence[Scores], plain: Sequence[Scores] | None) -> dict[str, Any]:
    """Return accuracies in percent, their means and standard deviations over seeds, and the gain over `plain`.

    Args:
        runs: Scores of a method, one for each seed.
        plain: Scores without a method, for the same seeds. The gain is the teachers' difference for a seed, averaged.
    """
    content: dict[str, Any] = {}
    for name in ("student", "teacher"):
        accuracies = [100 * getattr(run, name) for run in runs]
        content[name] = {"runs": accuracies, "mean": fmean(accuracies), "std": spread(accuracies)}
    if plain:
        gains = [100 * (run.teacher - other.teacher) for run, other in zip(runs, plain, strict=True)]
        error = None if (std := spread(gains)) is None else std / len(gains) ** 0.5
        content["gain"] = {"mean": fmean(gains), "standard_error": error}
    return content


def summaries(runs: Runs) -> dict[str, dict[str, dict[str, Any]]]:
    """Summarise the methods of each arrangement, against "none" if it was trained."""
    return {
        arrangement: {
            method: summary(scores, methods.get("none") if method != "none" else None)
            for method, scores in methods.items()
        }
        for arrangement, methods in runs.items()
    }


def rows(content: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[list[str]]:
    """Return the table's cells: arrangement, method, student, teacher, gain."""
    return [
        [
            arrangement,
            method,
            *(_cell(one[name]["mean"], one[name]["std"]) for name in ("student", "teacher")),
            _cell(one["gain"]["mean"], one["gain"]["standard_error"], "+") if "gain" in one else "",
        ]
        for arrangement, methods in content.items()
        for method, one in methods.items()
    ]


def table(content: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> Table:
    """Lay out summaries for the terminal."""
    caption = "mean ± std over seeds; gain: of the teacher over none with the same seed, ± standard error"
    result = Table(title=title, caption=caption)
    for i, heading in enumerate(("", "method", "student", "teacher", "gain")):
        result.add_column(heading, justify="right" if i > 1 else "left")
    for row in rows(content):
        result.add_row(*row)
    return result


def _cell(mean: float, error: float | None, sign: str = "") -> str:
    return f"{mean:{sign}.1f}" + ("" if error is None else f" ± {error:.1f}")
