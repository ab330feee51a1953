"""torchvision.transforms.v2."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.compare.roads import CLASSES, Batch, Library, Road, subclasses


class Mixing(Road):
    """CutMix or MixUp, which take images and labels; a share of batches by RandomApply."""

    options = ("p",)

    def entry(self) -> Callable[..., Any]:
        return getattr(v2, self.name)

    def made(self) -> Any:
        """Return the transform."""
        transform = self.entry()(num_classes=CLASSES)
        return transform if self.p == 1 else v2.RandomApply([transform], p=self.p)

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        typed = as_types(batch)
        if not typed.keys() & {"labels", "soft"}:
            typed["labels"] = torch.arange(len(batch["images"]), device=batch["images"].device)  # it has to have some
            return self.made(), [typed["images"], typed["labels"], *list(typed.values())[1:-1]]
        return self.made(), [*typed.values()]

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        targets = out[1:] if batch.keys() & {"labels", "soft"} else out[2:]
        return dict(zip(batch, (out[0], *targets), strict=True))

    def twice(self, batch: Batch, other: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        transform, labels = self.made(), torch.arange(len(batch["images"]))
        drawn = transform.make_params([batch["images"]]) | {"labels": labels, "batch_size": len(labels)}
        return replayed(transform, drawn, batch), replayed(transform, drawn, other)

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        return "images", self.made()({name: values[name] for name in ("images", "labels", "name")})

    def clips(self, videos: Tensor) -> Tensor:
        return self.made()(tv_tensors.Video(videos), torch.arange(len(videos)))[0].as_subclass(Tensor)


class CutMix(Mixing):
    name = "CutMix"


class MixUp(Mixing):
    name, selects = "MixUp", False


class RandomErasing(Road):
    name, mixes = "RandomErasing", False
    options = ("p",)

    def entry(self) -> Callable[..., Any]:
        return v2.RandomErasing

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        return v2.RandomErasing(p=self.p), [*as_types(batch).values()]

    def twice(self, batch: Batch, other: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        transform = v2.RandomErasing(p=1)
        drawn = transform.make_params([batch["images"]])
        return replayed(transform, drawn, batch), replayed(transform, drawn, other)

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        return "images", v2.RandomErasing(p=1)({name: values[name] for name in ("images", "labels", "name")})


def replayed(transform: Any, drawn: dict[str, Any], batch: Batch) -> dict[str, Any]:
    """Change the images of a batch by parameters that were drawn before."""
    return {"images": transform.transform(batch["images"], drawn)}


def as_types(batch: Batch) -> dict[str, Any]:
    """Return a batch with its maps as tv_tensors.Mask."""
    return {key: tv_tensors.Mask(x) if key in ("maps", "probs") else x for key, x in batch.items()}


def with_boxes(transform: Any, image: Tensor, corners: Tensor) -> Any:
    """Change an image with bounding boxes."""
    size = (image.shape[-2], image.shape[-1])
    return transform(tv_tensors.Image(image), tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size))


def points(image: Tensor, places: Tensor) -> Any:
    """Erase from an image with key points."""
    size = (image.shape[-2], image.shape[-1])
    return ERASING(tv_tensors.Image(image), tv_tensors.KeyPoints(places, canvas_size=size))


ERASING = v2.RandomErasing(p=1, scale=(0.4, 0.6))
LIBRARY = Library(
    package="torchvision",
    roads=(CutMix, MixUp, RandomErasing),
    transforms=subclasses(v2, v2.Transform),
    mixes=2,
    tools={
        "one": ERASING,
        "boxes": partial(with_boxes, ERASING),
        "points": points,
        "rotate": partial(with_boxes, v2.RandomRotation((30, 30))),
    },
)
