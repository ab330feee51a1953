"""Log-log plots of time per mask."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks.cases import MaskCase
from benchmarks.suites import Row

LABELS = {
    "size": "side of the image, pixels",
    "batch": "masks in a batch",
    "sigma": "sigma, pixels (middle of its range)",
}


def draw(rows: Sequence[Row[MaskCase]], axis: str, value: Callable[[MaskCase], float], path: Path) -> Path:
    """Draw the median time of a mask over one axis of the cases, a line for each candidate, quartiles as a band."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for index, name in enumerate(dict.fromkeys(name for row in rows for name in row.results)):
        found = [(value(row.case), row.results[name].eager, row.case.items) for row in rows if name in row.results]
        points = [(x, [at / n * 1e3 for at in times]) for x, times, n in found if not isinstance(times, str)]
        if not points:
            continue
        places = [x for x, _ in points]
        low, median, high = ([times[at] for _, times in points] for at in range(3))
        ours = name.startswith("cowmask")
        (line,) = axes.plot(
            places,
            median,
            "o-" if ours else "s--",
            label=name,
            color=f"C{index}",
            linewidth=2.5 if name == "cowmask" else 1.2,
            markersize=4,
            zorder=3 if ours else 2,
        )
        axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    ticks = sorted({value(row.case) for row in rows})
    axes.set(xscale="log", yscale="log", xlabel=LABELS[axis], ylabel="milliseconds per mask")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
