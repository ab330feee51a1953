"""monai.transforms."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from monai import transforms as M
from torch.nn.functional import one_hot

from benchmarks.compare.roads import CLASSES, Batch, Library, Road


class Mixing(Road):
    """A transform made for a batch of a given size, called with images and labels."""

    options = ("seed",)

    def __init__(self, p: float = 1.0, seed: int | None = None) -> None:
        super().__init__(p, seed)
        self.transform: Any = None

    def entry(self) -> Callable[..., Any]:
        return getattr(M, self.name)

    def made(self, batch: Batch) -> Any:
        """Return the transform, made at the first batch."""
        if self.transform is None:
            self.transform = self.entry()(batch_size=len(batch["images"]))
            if self.seed is not None:
                self.transform.set_random_state(seed=self.seed)
        return self.transform

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        values = dict(batch)
        if "labels" in batch:
            values["labels"] = one_hot(batch["labels"], CLASSES).float()
        if "maps" in batch:
            values["maps"] = batch["maps"][:, None]  # MONAI's maps have a channel
        return self.made(batch), [*values.values()]

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        found = super().result(out, batch)
        return {name: value[:, 0] if name == "maps" else value for name, value in found.items()}

    def twice(self, batch: Batch, other: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        transform = self.made(batch)
        one = self.result(transform(*batch.values()), batch)
        return one, self.result(transform(*other.values(), randomize=False), other)

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        return "images", getattr(M, f"{self.name}d")(keys=["images"], batch_size=len(values["images"]))(values)


class CutMix(Mixing):
    name = "CutMix"

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        mixing = M.CutMixd(keys=["images"], label_keys=["labels"], batch_size=len(values["images"]))
        return "images", mixing({**values, "labels": one_hot(values["labels"], CLASSES).float()})


class CutMixOnLabels(CutMix):
    """CutMix of the images alone, and then its `apply_on_labels`."""

    name = "CutMix.apply_on_labels"
    takes = ("labels",)

    def entry(self) -> Callable[..., Any]:
        return M.CutMix

    def __call__(self, batch: Batch) -> dict[str, Any]:
        _, (images, *targets) = self.call(batch)
        transform = self.made(batch)
        out = transform(images)
        return dict(zip(batch, (out, *map(transform.apply_on_labels, targets)), strict=True))


class MixUp(Mixing):
    name, selects = "MixUp", False


class CutOut(Mixing):
    name, mixes = "CutOut", False


def erase_one(image: Any) -> Any:
    """Erase from a single image, channels first."""
    dropout = M.RandCoarseDropout(holes=1, spatial_size=(8, 8), prob=1.0, fill_value=0)
    if isinstance(image, np.ndarray):  # (H, W, C)
        return np.asarray(dropout(image.transpose(2, 0, 1))).transpose(1, 2, 0)
    return dropout(image)


KINDS = {value for value in vars(M).values() if isinstance(value, type) and issubclass(value, M.Transform)}
ARRAY = {kind for kind in KINDS if not issubclass(kind, M.MapTransform)}  # each comes as one for dicts, too
LIBRARY = Library(
    package="monai",
    roads=(CutMix, CutMixOnLabels, MixUp, CutOut),
    transforms=len(ARRAY),
    mixes=2,
    tools={"one": erase_one, "rotate": lambda image, _: (M.Rotate(angle=0.5)(image), None)},
)
