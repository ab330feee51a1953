"""This library: the transforms of its core, and its adapters."""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.compare.roads import CLASSES, Batch, Library, Road
from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp

ADAPTER = "cowmask.integrations.torchvision"


class Core(Road):
    """A transform of the core, which takes images and targets in one call."""

    options: ClassVar[Sequence[str]] = ("p", "seed")
    transform: ClassVar[Callable[..., Any]]
    arguments: ClassVar[dict[str, Any]]

    def __init__(self, p: float = 1.0, seed: int | None = None) -> None:
        super().__init__(p, seed)
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def entry(self) -> Callable[..., Any]:
        return type(self).transform

    def made(self, batch: Batch) -> Any:
        """Return the transform for such images."""
        return self.entry()(**self.arguments, p=self.p, ndim=batch["images"].ndim - 2)

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        made = self.made(batch)
        return (made if self.generator is None else partial(made, generator=self.generator)), [*batch.values()]

    def twice(self, batch: Batch, other: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        made = self.made(batch)
        mask = made.sample(batch["images"])
        one, two = (self.result(made(*values.values(), mask=mask), values) for values in (batch, other))
        return one, two


class Mixing(Core):
    def with_partner(self, batch: Batch, partner: Batch) -> dict[str, Any]:
        return self.result(self.made(batch)(*batch.values(), partner=tuple(partner.values())), batch)


class CowMixRoad(Mixing):
    name, transform = "CowMix", CowMix
    arguments: ClassVar[dict[str, Any]] = {"sigma": (2, 6), "num_classes": CLASSES}


class CutMixRoad(Mixing):
    name, transform = "CutMix", CutMix
    arguments: ClassVar[dict[str, Any]] = {"num_classes": CLASSES}


class MixUpRoad(Mixing):
    name, transform = "MixUp", MixUp
    selects = False
    arguments: ClassVar[dict[str, Any]] = {"num_classes": CLASSES}


class CowOutRoad(Core):
    name, transform = "CowOut", CowOut
    mixes = False
    arguments: ClassVar[dict[str, Any]] = {"sigma": (2, 6), "proportion": 0.5}


class CutOutRoad(Core):
    name, transform = "CutOut", CutOut
    mixes = False
    arguments: ClassVar[dict[str, Any]] = {"area": 0.5}


class Adapter(Road):
    """A transform of the adapter to torchvision, for what comes in containers."""

    opens = True
    arguments: ClassVar[dict[str, Any]]

    def entry(self) -> Callable[..., Any]:
        return getattr(importlib.import_module(ADAPTER), self.name.rpartition(".")[2])

    def made(self) -> Any:
        """Return the transform."""
        return self.entry()(**self.arguments)

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        return self.made(), [*batch.values()]

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        from torchvision import tv_tensors

        return "images", self.made()({**values, "maps": tv_tensors.Mask(values["maps"])})

    def clips(self, videos: Tensor) -> Tensor:
        from torchvision import tv_tensors

        return self.made()(tv_tensors.Video(videos)).as_subclass(Tensor)


class AdaptedCowMix(Adapter):
    name, arguments = "integrations.torchvision.CowMix", CowMixRoad.arguments


class AdaptedCowOut(Adapter):
    name, arguments = "integrations.torchvision.CowOut", CowOutRoad.arguments
    mixes = False


def erase_one(image: Any) -> Any:
    """Erase from a single image."""
    return AdaptedCowOut().made()(image)


ROADS = (CowMixRoad, CutMixRoad, MixUpRoad, CowOutRoad, CutOutRoad)
LIBRARY = Library(
    package="cowmask",
    roads=(*ROADS, AdaptedCowMix, AdaptedCowOut),
    transforms=len(ROADS),
    mixes=sum(road.mixes for road in ROADS),
    tools={"one": erase_one},
)
