"""Every fault of tests/faults.py is met by one sentence, and the training goes on."""

import re

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
