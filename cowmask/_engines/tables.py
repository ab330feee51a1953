"""Keep the tables that engines compute on the CPU, up to a number of bytes; the oldest are dropped first.

There is no lock, since a forked child could inherit it locked. Each step on the dictionary is atomic. Threads that miss
the same table at once each compute it.
"""

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, Protocol, TypeVar

BYTES = 2**27  # of all tables
_FEWEST_BYTES = 2**16  # that a table counts for, so that there are never many


class _Table(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Table)

_kept: dict[tuple[Hashable, ...], Any] = {}  # by function and arguments


def kept(compute: Callable[..., T]) -> Callable[..., T]:
    """Keep what a function of positional arguments returns: a tensor, or another object with `nbytes`."""

    @wraps(compute)
    def find(*arguments: Hashable) -> T:
        key = (compute, *arguments)
        table: T | None = _kept.get(key)
        if table is None:
            table = compute(*arguments)
            if table.nbytes <= BYTES:
                _kept[key] = table
                _drop_oldest()
        return table

    return find


def forget() -> None:
    """Drop all tables."""
    _kept.clear()


def _drop_oldest() -> None:
    tables = [(key, max(table.nbytes, _FEWEST_BYTES)) for key, table in list(_kept.items())]
    excess = sum(nbytes for _, nbytes in tables) - BYTES
    for key, nbytes in tables:
        if excess <= 0:
            break
        _kept.pop(key, None)
        excess -= nbytes
