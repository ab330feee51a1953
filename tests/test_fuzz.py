"""The first cases of the fuzzer find nothing, and the fuzzer finds faults."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cowmask import _draw, mixing
from cowmask._checks import arguments
from tests.fuzz import cases
from tests.fuzz.cases import FaultError, is_ours, run
from tests.fuzz.images import Transform

CASES = 200
ANOTHER = torch.Generator()


@pytest.mark.parametrize("number", range(CASES))
def test_a_case_finds_no_fault(number: int) -> None:
    run(number)


def test_compiled_code_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    check, checked = Transform.check_compiled, []

    def spy(call: Transform) -> None:
        check(call)
        checked.append(call.name)

    monkeypatch.setattr(cases, "COMPILED_EVERY", 1)
    monkeypatch.setattr(Transform, "check_compiled", spy)
    list(map(run, range(20)))
    assert len(set(checked)) >= 3


def swapped(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, b, *others, **options: function(b, a, *others, **options)


def unchecked(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: given[1]


def unseeded(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **options: function(*given, **options) + torch.rand(1, generator=ANOTHER)


def untyped(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda result, _: result


@pytest.mark.parametrize(
    ("module", "name", "fault", "words"),
    [
        (mixing, "_where_or_lerp", swapped, "the result"),
        (arguments, "flag", unchecked, "is not refused"),
        (arguments, "positive_int", unchecked, "is refused by|is not refused"),
        (mixing, "like", untyped, "the result is <"),
        (_draw, "_values", unseeded, "gives other masks"),
    ],
)
def test_a_fault_is_found(
    module: Any, name: str, fault: Callable[..., Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    with pytest.raises(FaultError, match=words):
        list(map(run, range(CASES)))


def test_a_case_is_repeated_by_its_number() -> None:
    before = torch.get_rng_state()
    assert [run(number, seed=1) for number in range(5)] == [run(number, seed=1) for number in range(5)]
    assert not torch.equal(torch.get_rng_state(), before)


def test_torchs_own_errors_are_not_ours() -> None:
    for call in (lambda: torch.ones(2) + torch.ones(3), lambda: mixing.erase(torch.ones(2), torch.ones(3) > 0)):
        with pytest.raises((RuntimeError, ValueError)) as raised:
            call()
        assert is_ours(raised.value) == isinstance(raised.value, ValueError)
