"""Every fault of tests/faults.py is met by one sentence, and the training goes on."""

import re
from pathlib import Path

import pytest

from tests.faults import FAULTS, Bench, Fault


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault: Fault, bench: Bench) -> None:
    outcome = bench.inject(fault)
    assert re.search(fault.says, outcome.said), outcome.said
    assert outcome.status == fault.status
    assert not outcome.has_traceback
    assert outcome.goes_on


def test_the_page_on_reliability_has_the_table_of_the_faults() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reliability.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.split("| ---: | --- |\n")[1].split("\n\n")[0].splitlines()]
    assert [row[0] for row in rows] == [fault.name for fault in FAULTS]
    for fault, (_, said, status, goes_on) in zip(FAULTS, rows, strict=True):
        assert re.search(fault.says, said)
        assert (int(status), goes_on) == (fault.status, "yes, the same weights")
