"""What a call is: a public name, random arguments, and what must hold of the result."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.fuzz.values import described

CONTEXTS: dict[str, Callable[[], Any]] = {
    "": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


class Call(ABC):
    """A call of a public name with random arguments.

    Args:
        rng: Where all that is random comes from, but for the values of tensors: those come from torch.
        compiled: Whether compiled code must do the same.
    """

    function: Any

    def __init__(self, rng: Random, *, compiled: bool) -> None:
        self.rng, self.compiled = rng, compiled
        self.seed = rng.getrandbits(60)
        self.context = rng.choice(list(CONTEXTS))
        self.arguments: dict[str, Any] = {}
        self.bad: dict[str, Sequence[Any]] = {}  # by argument, values that must be refused
        self.fill_in()

    @abstractmethod
    def fill_in(self) -> None:
        """Set the arguments, and which values of each are bad."""

    @abstractmethod
    def check(self) -> None:
        """Make the call, and check the result."""

    @property
    def name(self) -> str:
        return str(self.function.__name__)

    def may_take_a_generator(self) -> None:
        if self.rng.random() < 0.5:
            self.arguments["generator"] = torch.Generator()
        self.bad["generator"] = (3, "x", np.random.default_rng(0), object())

    def make(self) -> Any:
        """Make the call. It draws the same numbers each time."""
        self.seed_generators()
        with CONTEXTS[self.context]():
            return self.call(**self.arguments)

    def seed_generators(self) -> None:
        # torch.manual_seed would take longer than many calls do: it looks for all devices.
        torch.default_generator.manual_seed(self.seed)
        if isinstance(self.arguments.get("generator"), torch.Generator):
            self.arguments["generator"].manual_seed(self.seed)

    def call(self, **arguments: Any) -> Any:
        return self.function(**arguments)

    def spoil(self, rng: Random) -> str:
        """Make one argument bad, and return its name."""
        name = rng.choice(list(self.bad))
        self.arguments[name] = rng.choice(list(self.bad[name]))
        return name

    def tensors(self) -> Iterator[Tensor]:
        for value in self.arguments.values():
            yield from (x for x in (value if isinstance(value, (tuple, list)) else (value,)) if isinstance(x, Tensor))

    def __str__(self) -> str:
        words = ", ".join(f"{name}={described(value)}" for name, value in self.arguments.items())
        return f"{self.name}({words})" + (f" in {self.context}" if self.context else "")
