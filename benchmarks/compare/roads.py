"""A road: one documented way to use one transform of a library."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

CLASSES = 8  # as many as the images of a batch, so that the label of an image is its place in the batch

Batch = Mapping[str, Any]
"""What a road takes and returns: `images` (B, C, H, W) first, then at most one of
`labels`  (B,) int64; (B, CLASSES) floating when they come out,
`soft`    (B, CLASSES) float32, the same when they come out,
`maps`    (B, H, W) int64, segmentation maps,
`probs`   (B, CLASSES, H, W) float32, probability maps.
"""


class MissingError(Exception):
    """The library has no road for what is asked; the message says what there is instead."""


class Road:
    """A transform, with the arguments that it needs. Each library's file has a class for each road.

    Args:
        p: Probability of a change.
        seed: Seed of the road's own random numbers; None takes those that all share.
    """

    name: ClassVar[str]  # for the page
    mixes: ClassVar[bool] = True  # else erases
    selects: ClassVar[bool] = True  # else blends
    takes: ClassVar[Sequence[str]] = ("labels", "maps")  # the targets that it is made for
    opens: ClassVar[bool] = False  # made for containers, such as dicts
    options: ClassVar[Sequence[str]] = ()  # which of p and seed the library has

    def __init__(self, p: float = 1.0, seed: int | None = None) -> None:
        self.p, self.seed = p, seed
        wanted = {"p"} if p != 1 else {"seed"} if seed is not None else set()
        if wanted - set(self.options):
            raise MissingError(f"no argument for it: {self.made_with()}")

    def entry(self) -> Callable[..., Any]:
        """Return what the library's users make the transform with."""
        raise NotImplementedError

    def made_with(self) -> str:
        """Return the arguments that the transform is made with, as its code says."""
        entry: Any = self.entry()
        return f"`{entry.__name__}({', '.join(inspect.signature(entry).parameters)})`"

    def called(self) -> str:
        """Return the arguments that the transform is called with."""
        entry: Any = self.entry()
        call = entry.forward if issubclass(entry, torch.nn.Module) else entry.__call__
        _, *names = inspect.signature(call).parameters  # without self
        return f"`{entry.__name__}(...)({', '.join(names)})`"

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        """Return what a user calls, and what with."""
        raise NotImplementedError

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        """Return what came out by the names of the batch."""
        return dict(zip(batch, out if isinstance(out, list | tuple) else (out,), strict=True))

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """Send a batch down the road."""
        function, arguments = self.call(batch)
        return self.result(function(*arguments), batch)

    def twice(self, batch: Batch, other: Batch) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ARG002
        """Send two batches down the road with the same masks."""
        raise MissingError(f"no argument for it: {self.called()}")

    def with_partner(self, batch: Batch, partner: Batch) -> dict[str, Any]:  # noqa: ARG002
        """Mix a batch with another batch."""
        raise MissingError(f"no argument for it: {self.called()}")

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:  # noqa: ARG002
        """Give the road a dict of images, of labels or maps, and of an unknown entry under the key "name".

        Returns:
            The key of the images, and the dict that came out.
        """
        raise MissingError(f"takes no dict: {self.called()}")

    def clips(self, videos: Tensor) -> Tensor:
        """Send videos (B, T, C, H, W) down the road."""
        return self({"images": videos})["images"]


@dataclass(frozen=True)
class Library:
    """A library, its roads, and what it does beside them."""

    package: str
    """The name by which pip installs it; empty if it is no package."""
    roads: Sequence[type[Road]]
    """The usual one first."""
    transforms: int
    """How many transforms it has."""
    mixes: int
    """How many of them mix images."""
    tools: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """What the last table of the page asks for, by name; see `beside.py`."""


def subclasses(module: Any, *parents: type) -> int:
    """Return how many public classes of a module come of one of the parents, base classes left out."""
    found = {value for name, value in vars(module).items() if isinstance(value, type) and not name.startswith("_")}
    return sum(issubclass(one, parents) and one not in parents and "Base" not in one.__name__ for one in found)
