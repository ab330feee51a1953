"""FMix, which is no package: its repository has to be on the path."""

from collections.abc import Callable, Sequence
from typing import Any

from implementations.lightning import FMix as Mask
from torch.nn.functional import one_hot

from benchmarks.compare.roads import CLASSES, Batch, Library, MissingError, Road


class FMix(Road):
    """The class for PyTorch Lightning, which mixes images, and mixes labels in its loss."""

    name = "FMix"

    def __init__(self, p: float = 1.0, seed: int | None = None) -> None:
        super().__init__(p, seed)
        self.fmix: Any = None

    def entry(self) -> Callable[..., Any]:
        return Mask

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        if batch.keys() - {"images", "labels", "soft"}:
            raise MissingError(f"takes images alone: {self.called()}")
        self.fmix = Mask(size=tuple(batch["images"].shape[2:]))
        return self.fmix, [batch["images"]]

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        found = {"images": out}
        for name in batch.keys() & {"labels", "soft"}:
            target = one_hot(batch[name], CLASSES).float() if name == "labels" else batch[name]
            found[name] = self.fmix.lam * target + (1 - self.fmix.lam) * target[self.fmix.index]  # as its loss does
        return found


LIBRARY = Library(package="", roads=(FMix,), transforms=1, mixes=1)
