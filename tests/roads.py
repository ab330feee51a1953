"""Roads as benchmarks.compare has them, each with one fault that a probe has to find (or, where it says so, none)."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.compare.libraries.cowmask import CowMixRoad, CutMixRoad
from benchmarks.compare.roads import Batch, Road
from cowmask import CowMix
from cowmask._operators import operator


class Broken(CowMixRoad):
    """CowMix; each test breaks one thing of what comes out."""

    def __call__(self, batch: Batch) -> dict[str, Any]:
        return self.broken(super().__call__(batch), batch)

    def broken(self, out: dict[str, Any], _: Batch) -> dict[str, Any]:
        return out


class Replaces(Broken):
    """Puts other values in the place of one of the results."""

    replacing: dict[str, Callable[[Batch, Batch], Any]]

    def broken(self, out: dict[str, Any], batch: Batch) -> dict[str, Any]:
        return out | {name: make(out, batch) for name, make in self.replacing.items()}


def replaces(**replacing: Callable[[Batch, Batch], Any]) -> type[Road]:
    return type("Broken", (Replaces,), {"replacing": replacing})


class OneMask(CowMixRoad):
    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        made, x = self.made(batch), batch["images"]
        return partial(made, mask=made.sample(x)[:1].expand(len(x), 1, *x.shape[2:])), [*batch.values()]


class OneP(CowMixRoad):
    def __call__(self, batch: Batch) -> dict[str, Any]:
        return CowMixRoad()(batch) if torch.rand(()) < self.p else dict(batch)


class EvenBatches(Broken):
    def broken(self, out: dict[str, Any], batch: Batch) -> dict[str, Any]:
        assert len(batch["images"]) % 2 == 0
        return out


class NoPartner(CowMixRoad):
    def with_partner(self, batch: Batch, _: Batch) -> dict[str, Any]:
        return self(batch)


class SharedNumbers(CowMixRoad):
    def __init__(self, p: float = 1.0, seed: int | None = None) -> None:
        super().__init__(p)
        if seed is not None:
            torch.manual_seed(seed)


class OneSeed(CowMixRoad):
    def __init__(self, p: float = 1.0, seed: int | None = None) -> None:
        super().__init__(p, None if seed is None else 0)


class DrawsAnew(CowMixRoad):
    def twice(self, batch: Batch, other: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        return self(batch), self(other)


class Copied(CowMixRoad):
    """Its generator is copied to each worker."""

    options = ("p",)

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p)
        self.generator = torch.Generator().manual_seed(torch.initial_seed())


class Unseeded(CowMixRoad):
    options = ("p",)

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p)
        torch.seed()


class GraphBreak(CowMixRoad):
    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        made = self.made(batch)
        return (lambda x, *targets: made(x * (2 if x.max() > 9 else 1), *targets)), [*batch.values()]


class Constant(CowMixRoad):
    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        made = self.made(batch)
        return partial(made, mask=made.sample(batch["images"])), [*batch.values()]


class Reads(Broken):
    def broken(self, out: dict[str, Any], _: Batch) -> dict[str, Any]:
        return out | {"images": out["images"] * out["images"].max().item()}


@cache
def reader() -> Callable[[Tensor], Tensor]:
    """Return an operator that reads a value; it is registered once, and pytest imports this module twice."""

    @operator("reads_a_value(Tensor x) -> Tensor", torch.empty_like)
    def reads_a_value(x: Tensor) -> Tensor:
        return x * x.max().item()

    return reads_a_value


class ReadsInside(Broken):
    def broken(self, out: dict[str, Any], _: Batch) -> dict[str, Any]:
        return out | {"images": reader()(out["images"])}


class InPlace(Broken):
    def broken(self, out: dict[str, Any], batch: Batch) -> dict[str, Any]:
        return out | {"images": batch["images"].copy_(out["images"])}


class Slices(CowMixRoad):
    """One mask for all slices of a volume."""

    def __call__(self, batch: Batch) -> dict[str, Any]:
        x = batch["images"]
        return {"images": CowMix((2, 6))(x.flatten(1, 2)).view_as(x)}


class Frames(CowMixRoad):
    """A mask for each frame of a video."""

    def clips(self, videos: Tensor) -> Tensor:
        partner = videos.roll(1, 0).flatten(0, 1)
        return CowMix((2, 6))(videos.flatten(0, 1), partner=partner).view_as(videos)


class OneFrame(CowMixRoad):
    def clips(self, videos: Tensor) -> Tensor:
        made, frames = CowMix((2, 6)), videos.shape[1]
        mask = made.sample(videos[:, 0]).repeat_interleave(frames, 0)
        return made(videos.flatten(0, 1), partner=videos.roll(1, 0).flatten(0, 1), mask=mask).view_as(videos)


class Opens(CowMixRoad):
    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        return "images", {**values, **self({name: values[name] for name in ("images", "labels")})}


class Loses(Opens):
    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        key, out = super().mapping(values)
        return key, {name: x for name, x in out.items() if name != "name"}


class OneCorner(CutMixRoad):
    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        x = batch["images"]
        lengths = torch.randint(1, x.shape[-1], (len(x), 1, 1, 1))
        mask = (torch.arange(x.shape[-1]) < lengths).expand(-1, 1, *x.shape[2:])
        return partial(self.made(batch), mask=mask), [*batch.values()]
