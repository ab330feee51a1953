"""A case: a random call, known by its number and seed."""

import linecache
import random
import warnings
from pathlib import Path

import torch

import cowmask
from tests.fuzz.calls import Call
from tests.fuzz.draws import BoxMasks, CowMasks
from tests.fuzz.images import Erase, Erasing, Mix, Mixing
from tests.fuzz.training import Loss, Teacher
from tests.fuzz.values import copied, described, same_bits

PACKAGE = Path(cowmask.__file__).parent
KINDS: tuple[type[Call], ...] = (CowMasks, BoxMasks, Mix, Erase, Mixing, Mixing, Erasing, Loss, Teacher)
GOOD = 0.7  # the share of calls without a bad argument
COMPILED_EVERY = 1000  # cases, since compiling takes a second


class FaultError(Exception):
    """What a case has found."""


def run(number: int, seed: int = 0) -> str:
    """Run a case, and return the name of what it called.

    Raises:
        FaultError: A good call failed, gave a wrong result or changed its input; or a bad one was not refused.
    """
    rng = random.Random(f"{seed} {number}")
    torch.default_generator.manual_seed(rng.getrandbits(48))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one image in a batch, and torch's own
        call = rng.choice(KINDS)(rng, compiled=number % COMPILED_EVERY == 0)
        found = _in_good_call(call) if rng.random() < GOOD else _in_bad_call(call, rng)
    if found:
        raise FaultError(f"case {number} of seed {seed}: {call}: {found}")
    return call.name


def _in_good_call(call: Call) -> str:
    before = [copied(x) for x in call.tensors()]
    try:
        call.check()
    except Exception as error:
        return _one_line(error)
    changed = [x for x, copy in zip(call.tensors(), before, strict=True) if not same_bits(x, copy)]
    return f"{described(changed)} changed" if changed else ""


def _in_bad_call(call: Call, rng: random.Random) -> str:
    spoiled = call.spoil(rng)
    call.seed_generators()
    before = torch.get_rng_state()
    try:
        call.make()
    except Exception as error:
        if not is_ours(error):
            return f"{spoiled} is refused by {_one_line(error)}"
        return "" if torch.equal(torch.get_rng_state(), before) else f"{spoiled} is refused after something is drawn"
    return f"{spoiled} is not refused"


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def is_ours(error: BaseException) -> bool:
    """Tell whether a `raise` of cowmask's own made an error of a type that the docs name."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or type(error) not in (ValueError, TypeError, RuntimeError):
        return False
    file = last.tb_frame.f_code.co_filename
    return Path(file).is_relative_to(PACKAGE) and linecache.getline(file, last.tb_lineno).strip().startswith("raise ")
