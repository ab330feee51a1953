"""The tables that engines keep on the CPU."""

import gc
import multiprocessing
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cowmask import cow_masks
from cowmask._engines import basis, coarse, gains, tables

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    tables.forget()
    yield
    tables.forget()


@tables.kept
def table(megabytes: float, number: int = 0) -> Tensor:
    """Return a table of this size."""
    return torch.full((int(megabytes * MEGABYTE),), number % 256, dtype=torch.uint8)


def held() -> int:
    """Return the bytes of all dense tensors in this process, but for small ones."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is Tensor and one.device.type == "cpu"]
    found = [one for one in tensors if one.layout == torch.strided and not one.is_nested]  # others are of other tests
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in found}
    return sum(nbytes for nbytes in storages.values() if nbytes >= 2**16)


def test_a_table_is_computed_once() -> None:
    assert table(1) is table(1)
    assert table(1, 1) is not table(1)
    assert basis._dct_basis(40, 8, torch.float32, 1) is basis._dct_basis(40, 8, torch.float32, 1)
    assert coarse._grid(40, 4.1) is coarse._grid(40, 4.2)


def test_the_oldest_tables_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BYTES", 3 * MEGABYTE)
    first, second, third = table(1, 1), table(1, 2), table(1, 3)
    fourth = table(1, 4)
    assert (table(1, 2), table(1, 3), table(1, 4)) == (second, third, fourth)
    assert table(1, 1) is not first


def test_a_table_larger_than_all_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BYTES", 3 * MEGABYTE)
    small = table(1)
    assert table(4) is not table(4)
    assert table(1) is small


def test_small_tables_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BYTES", MEGABYTE)
    for number in range(100):
        table(1e-5, number)
    assert len(tables._kept) == 16


@pytest.mark.parametrize("method", ["spectral", "direct", "coarse"])
def test_masks_of_many_sizes_hold_no_more_than_allowed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BYTES", 2 * MEGABYTE)
    before = held()
    for length in range(3000, 3012):  # each takes a table of some 0.4 MB in the spectral method
        cow_masks(1, (length,), 100.0, method=method)
        noise = None if method == "coarse" else torch.randn(1, 1, length)
        cow_masks(1, (length,), 90.0, method=method, noise=noise)
    assert tables._kept or method == "direct"
    assert held() - before <= tables.BYTES


def test_all_that_keeps_tables_is_bounded_by_bytes() -> None:
    calls = {
        basis._dct_basis: (40, 8, torch.float32, 1),
        basis._upper_half: (40, 8, torch.float32, 16),
        gains._exponents: ((1.0,), (40,), (8,)),
        gains._tap_cosines: (40, 8, 32),
        coarse._grid_of_class: (40, 16),
        coarse._grid_at_its_points: (10, 2),
    }
    for compute, arguments in calls.items():
        found = compute(*arguments)
        assert any(one is found for one in tables._kept.values())


def draw_all(n: int = 20) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [cow_masks(1, (20 + length, 30), 3, method="spectral", generator=generator) for length in range(n)]


def test_threads_may_drop_what_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = draw_all()
    monkeypatch.setattr(tables, "BYTES", 2**17)  # two tables
    found: list[list[Tensor]] = []
    threads = [threading.Thread(target=lambda: found.append(draw_all())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    assert all(torch.equal(*pair) for masks in found for pair in zip(masks, expected, strict=True))
    table(1e-5)
    assert len(tables._kept) <= 2


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_a_thread_computes_tables_draws() -> None:
    stop = threading.Event()

    def compute() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            table(0.01, number)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for _ in range(5):
            child = multiprocessing.get_context("fork").Process(target=table, args=(0.01, -1))
            child.start()
            child.join(60)
            code = child.exitcode
            child.kill()
            assert code == 0
    finally:
        stop.set()
        thread.join()
