"""Results as text: one case in full, or many cases side by side."""

from collections.abc import Mapping, Sequence

from benchmarks.cases import Case, MixCase
from benchmarks.suites import Row
from benchmarks.timing import LAUNCHES, Launch, Result

Times = list[float] | str
NOTHING = "-"


def detail(row: Row[Case], base: str, launches: Sequence[Launch] = LAUNCHES) -> list[str]:
    """Return a table of all results of one case: microseconds, and ratios to the candidate `base`."""
    if row.problem:
        return [f"{row.case}: {row.problem}"]
    moved = row.case.moved if isinstance(row.case, MixCase) else {}
    table = [["", *(head for launch in launches for head in (launch, "quartiles", "ratio")), "MiB"]]
    table[0] += ["GB/s", "of copy"] if moved else []
    for name, result in row.results.items():
        line = [name]
        for launch in launches:
            line += [
                *_median_and_quartiles(result.times(launch), row.case.items),
                _format_ratio(row.results, name, base, launch),
            ]
        line.append(NOTHING if result.peak is None else f"{result.peak / 2**20:.1f}")
        if moved:
            seconds, copy = _seconds(result), _seconds(row.results["copy"])
            line.append(f"{moved[name] / seconds / 1e9:.1f}" if seconds and name in moved else NOTHING)
            line.append(f"{copy / seconds:.0%}" if copy and seconds else NOTHING)
        table.append(line)
    notes = ["", *(_note(result, launches) for result in row.results.values())]
    lines = [f"{line}  {note}".rstrip() for line, note in zip(_aligned(table), notes, strict=True)]
    return [f"{row.case}: microseconds, and ratios to {base}", *lines]


def overview(rows: Sequence[Row[Case]], base: str, launch: Launch) -> list[str]:
    """Return a table of medians over all cases: microseconds of the candidate `base`, and ratios to it."""
    others = [name for name in dict.fromkeys(name for row in rows for name in row.results) if name != base]
    table = [["", base, *others]]
    for row in rows:
        if row.problem:
            table.append([f"{row.case}: {row.problem}", *[NOTHING] * (len(others) + 1)])
        else:
            median = _median_and_quartiles(row.results[base].times(launch), row.case.items)[0]
            table.append([str(row.case), median, *(_format_ratio(row.results, name, base, launch) for name in others)])
    return [f"Microseconds of {base}, {launch}; of the others, ratios to {base}", *_aligned(table)]


def ratio(results: Mapping[str, Result], name: str, base: str, launch: Launch) -> float | None:
    """Return the median of a candidate over that of `base`, or None if either was not measured."""
    if name not in results or base not in results:
        return None
    times, base_times = (results[which].times(launch) for which in (name, base))
    return None if isinstance(times, str) or isinstance(base_times, str) else times[1] / base_times[1]


def _format_ratio(results: Mapping[str, Result], name: str, base: str, launch: Launch) -> str:
    value = ratio(results, name, base, launch)
    return NOTHING if value is None else f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def _seconds(result: Result) -> float | None:
    """Return the seconds of a call, of the graph if there is one, which does not wait for the host."""
    times = result.eager if isinstance(result.graph, str) else result.graph
    return None if isinstance(times, str) else times[1]


def _median_and_quartiles(times: Times, items: int) -> list[str]:
    if isinstance(times, str):
        return [NOTHING, NOTHING]
    first, median, third = (_format_time(at / items * 1e6) for at in times)
    return [median, f"{first} {third}"]


def _format_time(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _note(result: Result, launches: Sequence[Launch]) -> str:
    absent = [times for times in map(result.times, launches) if isinstance(times, str)]
    return "one call, not warm" if result.cold else absent[0] if absent else ""


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines
