"""Cases of what torchvision's v2.CutMix and v2.MixUp promise, and the batches that they are tried with.

The images of a batch are constant, each of another value. So the mean of a mixed image tells how much of it came from
its partner.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

Make = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """A promise of the transform of a name."""

    name: str
    words: str
    check: Callable[[Make], None]

    def __str__(self) -> str:
        return f"{self.name}: {self.words}"

    def run(self, library: Any) -> None:
        """Raise if the transform of a library breaks the promise."""
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.check(getattr(library, self.name))


PROMISES: list[Case] = []  # of torchvision
WISHES: list[Case] = []  # of users of torchvision


def case(
    over: Mapping[str, Any] | None = None, names: tuple[str, ...] = ("CutMix", "MixUp"), cases: list[Case] = PROMISES
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the decorated function to the cases: for each name, and for each value that it is tried over."""

    def add(check: Callable[..., None]) -> Callable[..., None]:
        words = check.__name__.replace("_", " ")
        checks: dict[str, Callable[[Make], None]] = {words: check}
        if over:
            checks = {f"{words}: {key}": partial(check, value=value) for key, value in over.items()}
        cases.extend(Case(name, *item) for name in names for item in checks.items())
        return check

    return add


wish = partial(case, names=("CutMix",), cases=WISHES)

CLASSES = 5
LABELS = torch.tensor([3, 0, 1, 1])
ONE_HOT = torch.eye(CLASSES)[LABELS]
SIZE = (4, 3, 24, 36)


def images(shape: tuple[int, ...] = SIZE, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return images (B, ...) of the values 8, 16, 24, ..., which every dtype holds exactly."""
    values = (8 * torch.arange(1, shape[0] + 1)).to(dtype)
    return values.view(-1, *[1] * (len(shape) - 1)).expand(shape).clone()


def shares(mixed: Tensor) -> Tensor:
    """Return the share (B,) of each image that came from the one before, of images that `images` made."""
    own = 8 * torch.arange(1, len(mixed) + 1)
    return (mixed.double().flatten(1).mean(1) - own) / (own.roll(1) - own)


def expect_mixed(call: Callable[[], tuple[Any, Any]], labels: Tensor = LABELS) -> None:
    """Check that a call mixes images, and labels by the same shares."""
    one_hot = (torch.eye(CLASSES)[labels] if labels.ndim == 1 else labels).double()
    for _ in range(20):  # since a box may be too small to see
        mixed, soft = call()
        taken = shares(mixed)[:, None]
        assert ((taken > -0.01) & (taken < 1.01)).all()
        assert torch.allclose(soft.double(), one_hot * (1 - taken) + one_hot.roll(1, 0) * taken, atol=0.03)
        if taken.max() > 0.05:
            return
    raise AssertionError("nothing is mixed")
