"""Results as text: one cell in full, many cells side by side."""

from collections.abc import Mapping, Sequence

from benchmarks.peers import MaskCell
from benchmarks.suites import MixCell, Row
from benchmarks.timing import WAYS, Result, Way

Times = list[float] | str
NOTHING = "-"


def detail(row: Row[MaskCell | MixCell], ours: str, ways: Sequence[Way] = WAYS) -> list[str]:
    """Return a table of all that was measured in one cell: microseconds, and how many times those of `ours`."""
    if row.problem:
        return [f"{row.cell}: {row.problem}"]
    moved = row.cell.moved if isinstance(row.cell, MixCell) else {}
    table = [["", *(head for way in ways for head in (way, "quartiles", "ratio")), "MiB"]]
    table[0] += ["GB/s", "of copy"] if moved else []
    for name, result in row.results.items():
        line = [name]
        for way in ways:
            line += [*_spread(result.times(way), row.cell.items), _ratio(row.results, name, ours, way)]
        line.append(NOTHING if result.peak is None else f"{result.peak / 2**20:.1f}")
        if moved:
            seconds, copy = _seconds(result), _seconds(row.results["copy"])
            line.append(f"{moved[name] / seconds / 1e9:.1f}" if seconds and name in moved else NOTHING)
            line.append(f"{copy / seconds:.0%}" if copy and seconds else NOTHING)
        table.append(line)
    notes = ["", *(_note(result, ways) for result in row.results.values())]
    lines = [f"{line}  {note}".rstrip() for line, note in zip(_aligned(table), notes, strict=True)]
    return [f"{row.cell}: microseconds, and how many times those of {ours}", *lines]


def overview(rows: Sequence[Row[MaskCell | MixCell]], ours: str, way: Way) -> list[str]:
    """Return a table of medians over all cells: microseconds of `ours`, and how many times that the others take."""
    others = [name for name in dict.fromkeys(name for row in rows for name in row.results) if name != ours]
    table = [["", ours, *others]]
    for row in rows:
        if row.problem:
            table.append([f"{row.cell}: {row.problem}", *[NOTHING] * (len(others) + 1)])
        else:
            median = _spread(row.results[ours].times(way), row.cell.items)[0]
            table.append([str(row.cell), median, *(_ratio(row.results, name, ours, way) for name in others)])
    return [f"Microseconds of {ours}, {way}, and how many times that the others take", *_aligned(table)]


def ratio(results: Mapping[str, Result], name: str, ours: str, way: Way) -> float | None:
    """Return how many times the median of `ours` another method takes; None if either was not measured."""
    if name not in results or ours not in results:
        return None
    theirs, base = (results[which].times(way) for which in (name, ours))
    return None if isinstance(theirs, str) or isinstance(base, str) else theirs[1] / base[1]


def _ratio(results: Mapping[str, Result], name: str, ours: str, way: Way) -> str:
    value = ratio(results, name, ours, way)
    return NOTHING if value is None else f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def _seconds(result: Result) -> float | None:
    """Return the seconds of a call on the device: if there is a graph, its, which does not wait for the host."""
    times = result.eager if isinstance(result.graph, str) else result.graph
    return None if isinstance(times, str) else times[1]


def _spread(times: Times, items: int) -> list[str]:
    if isinstance(times, str):
        return [NOTHING, NOTHING]
    first, median, third = (_short(at / items * 1e6) for at in times)
    return [median, f"{first} {third}"]


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _note(result: Result, ways: Sequence[Way]) -> str:
    absent = [times for times in map(result.times, ways) if isinstance(times, str)]
    return "one call, not warm" if result.cold else absent[0] if absent else ""


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines
