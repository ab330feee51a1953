"""Plots of campaigns: mean and standard deviation of mIoU."""

from collections.abc import Mapping, Sequence
from itertools import cycle, product
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segmentation.campaigns.runner import Summary

# The colour-blind can distinguish the palette of Okabe and Ito; the grey is lighter than all of its colours.
_HERE, _PAPER, _BASELINE = "#0072B2", "#BBBBBB", "#D55E00"
_LINES = ("#D55E00", "#CC79A7", "#0072B2", "#56B4E9", "#009E73", "#E69F00")
_WIDTH = 0.4  # width of a bar; a group of bars is 1 wide


def save_comparison(
    path: Path, title: str, names: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[Summary | None]]]
) -> None:
    """Draw the methods' scores in the paper and here as bars from 0, side by side.

    Args:
        path: PNG to write.
        title: Title of the figure.
        names: Names of the methods, one for each pair of bars.
        panels: One or two panels from the top, by label of the vertical axis: under "paper" and "here" a score or None
            for each method.
    """
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(max(6.5, 1.15 * len(names) + 1.2), 1.4 + 2.5 * len(panels)),
        sharex=True,
        squeeze=False,
        height_ratios=(3, 2)[: len(panels)],
        layout="constrained",
    )
    for axis, (label, panel) in zip(axes.flat, panels.items(), strict=True):
        for shift, source, colour in ((-_WIDTH / 2, "paper", _PAPER), (_WIDTH / 2, "here", _HERE)):
            known = {x + shift: score for x, score in enumerate(panel[source]) if score is not None}
            _bars(axis, known, colour, source)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.margins(y=0.15)  # room for the numbers
        axis.set_ylabel(label)
    axes.flat[0].set_title(f"{title}\nerror bars: ± 1 standard deviation")
    axes.flat[-1].set(xticks=range(len(names)), xticklabels=names, xlim=(-0.6, len(names) - 0.4))
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def _bars(axis: Axes, scores: Mapping[float, Summary], colour: str, label: str) -> None:
    """Draw bars at the given positions, with their heights as numbers at their ends."""
    axis.bar(list(scores), [score.mean for score in scores.values()], _WIDTH, color=colour, label=label)
    for x, (_, mean, std) in scores.items():
        if std is not None:
            axis.errorbar(x, mean, std, color="black", capsize=3, linewidth=1)
        side, alignment = (1, "bottom") if mean >= 0 else (-1, "top")
        end = (x, mean + side * (std or 0))
        axis.annotate(
            f"{mean:.1f}", end, (0, 3 * side), textcoords="offset points", ha="center", va=alignment, fontsize=8
        )


def save_sweep(
    path: Path, title: str, label: str, values: Mapping[str, Summary], references: Mapping[str, Summary]
) -> None:
    """Draw mIoU for each value of a parameter, like the paper's Figures 8 to 10.

    Each bar reaches from one standard deviation below the mean to one above; a line marks the mean. The axis therefore
    need not begin at 0. One run has a line without a bar.

    Args:
        path: PNG to write.
        title: Title of the figure.
        label: Label of the horizontal axis: the parameter.
        values: mIoU in percent for each value.
        references: mIoU in percent of methods that do not depend on the parameter, drawn as lines across the figure.
    """
    figure, axis = plt.subplots(figsize=(max(6.5, 0.8 * len(values) + 2), 4), layout="constrained")
    for x, score in enumerate(values.values()):
        std = score.std or 0.0
        axis.bar(x, 2 * std, 0.6, bottom=score.mean - std, color=_HERE, alpha=0.45)
        axis.hlines(score.mean, x - 0.3, x + 0.3, color=_HERE, linewidth=2.5)
    for style, (name, score) in zip(cycle(("--", ":")), references.items(), strict=False):
        axis.axhline(score.mean, color=_BASELINE, linestyle=style, label=name)
        if score.std is not None:
            axis.axhspan(score.mean - score.std, score.mean + score.std, color=_BASELINE, alpha=0.15, linewidth=0)
    axis.set(xlabel=label, ylabel="mIoU, %")
    has_bars = any(score.std is not None for score in values.values())
    shown = "bars: mean ± 1 standard deviation" if has_bars else "one run for each value"
    axis.set_title(f"{title}\n{shown}; the axis does not begin at 0")
    axis.set_xticks(range(len(values)), list(values))
    axis.use_sticky_edges = False  # bars do not start at the frame, so leave a margin below them
    axis.margins(y=0.1)
    if references:
        figure.legend(loc="outside lower center", ncols=len(references), frameon=False)
    _save(figure, path)


def save_curves(path: Path, title: str, curves: Mapping[str, Mapping[str, Mapping[int, Summary]]]) -> None:
    """Draw scores over the number of labelled images.

    Args:
        path: PNG to write.
        title: Title of the figure.
        curves: Scores in percent by row of the table, then by "paper" or "here", then by number of labels.
    """
    numbers = sorted({n for sources in curves.values() for points in sources.values() for n in points})
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for colour, (name, sources) in zip(cycle(_LINES), curves.items(), strict=False):
        for source, style in (("here", {"marker": "o"}), ("paper", {"linestyle": "--", "alpha": 0.6})):
            points = sources[source]
            if points:
                heights = [score.mean for score in points.values()]
                axis.errorbar(
                    list(points),
                    heights,
                    [score.std or 0 for score in points.values()],
                    color=colour,
                    capsize=3,
                    label=f"{name}, {source}",
                    **style,
                )
    axis.set_xscale("log")
    axis.set_xticks(numbers, [f"{n:,}" for n in numbers])
    axis.minorticks_off()
    axis.set(xlabel="labelled images", ylabel="mIoU, %")
    axis.set_title(f"{title}\nerror bars: ± 1 standard deviation; the vertical axis does not begin at 0")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _save(figure, path)


def save_progress(path: Path, title: str, curves: Mapping[str, Mapping[str, Sequence[Mapping[int, float]]]]) -> None:
    """Draw scores on the validation set over iterations, in panels.

    Args:
        path: PNG to write.
        title: Title of the figure.
        curves: By panel and line, the scores in percent by iteration, one mapping for each seed.
    """
    begun = {panel: {name: seeds for name, seeds in lines.items() if seeds} for panel, lines in curves.items()}
    shown = {panel: lines for panel, lines in begun.items() if lines}
    columns = min(2, len(shown)) or 1
    rows = -(-len(shown) // columns) or 1
    beside = any(len(lines) > 4 for lines in shown.values())  # a long legend in its panel would hide lines
    width = (9 if beside else 6) * columns
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, 3.5 * rows + 1), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (panel, lines) in zip(axes.flat, shown.items(), strict=False):
        looks = cycle(product(("-", "--", ":"), _LINES))
        for (style, colour), (name, seeds) in zip(looks, lines.items(), strict=False):
            for one in seeds:
                axis.plot(list(one), list(one.values()), style, color=colour, alpha=0.3, linewidth=1)
            steps = sorted(set.intersection(*map(set, seeds)))
            means = [sum(one[step] for one in seeds) / len(seeds) for step in steps]
            axis.plot(steps, means, style, color=colour, marker="o", markersize=3, label=f"{name} ({len(seeds)})")
        axis.set_title(panel, fontsize=10)
        axis.set(xlabel="iterations", ylabel="validation mIoU, %")
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if beside else {}
        axis.legend(frameon=False, fontsize=8, **place)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    heading = fill(title, 12 * width)
    figure.suptitle(f"{heading}\nthin: one seed, bold: their mean; the vertical axis does not begin at 0", fontsize=10)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
