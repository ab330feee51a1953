"""kornia.augmentation."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import kornia.augmentation as K
import torch
from kornia.augmentation.base import _AugmentationBase, _BasicAugmentationBase
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.compare.roads import CLASSES, Batch, Library, Road, subclasses

KEYS = {"images": "input", "labels": "class", "soft": "class", "maps": "mask", "probs": "mask"}


class Augmentation(Road):
    """A transform called directly, with the data keys of what it gets."""

    options = ("p",)
    arguments: ClassVar[dict[str, Any]] = {}

    def entry(self) -> Callable[..., Any]:
        return getattr(K, self.name)

    def made(self, batch: Batch) -> Any:
        """Return the transform for such a batch."""
        return self.entry()(**self.arguments, p=self.p, data_keys=[KEYS[name] for name in batch])

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        return self.made(batch), [*batch.values()]

    def twice(self, batch: Batch, other: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        transform: Any
        (transform, values), (_, others) = self.call(batch), self.call(other)
        one = self.result(transform(*values), batch)
        return one, self.result(transform(*others, params=transform._params), other)

    def clips(self, videos: Tensor) -> Tensor:
        made = self.made({"images": videos})
        return K.VideoSequential(made, data_format="BTCHW", same_on_frame=True)(videos)

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        sequence = K.AugmentationSequential(self.made({"images": values["images"]}), data_keys=None)
        return "image", sequence({"image": values["images"], "label": values["labels"], "name": values["name"]})


class RandomCutMixV2(Augmentation):
    name = "RandomCutMixV2"
    arguments: ClassVar[dict[str, Any]] = {"use_correct_lambda": True}

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        found = super().result(out, batch)
        return {name: as_weights(value[0]) if name == "labels" else value for name, value in found.items()}


class RandomMixUpV2(Augmentation):
    name, selects = "RandomMixUpV2", False

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        found = super().result(out, batch)
        # Its weight is the partner's, unlike CutMix's.
        return {name: as_weights(value[:, [1, 0, 2]]) if name == "labels" else value for name, value in found.items()}


class RandomTransplantation(Augmentation):
    """Pastes a class of the partner's segmentation map. It needs such maps; here, the classes are rings."""

    name = "RandomTransplantation"
    takes = ("maps",)

    def typed(self, batch: Batch) -> dict[str, Any]:
        """Return a batch with segmentation maps, the first of its targets."""
        images, *_ = values = dict(batch)
        return values if "maps" in batch else {images: batch[images], "maps": rings(batch[images]), **values}

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        typed = self.typed(batch)
        return self.made(typed), [*typed.values()]

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        found = dict(zip(self.typed(batch), out, strict=True))
        return {name: found[name] for name in batch}

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        images, made = values["images"], self.made({"images": values["images"], "maps": values["maps"]})
        sequence = K.AugmentationSequential(made, data_keys=None)
        return "image", sequence({"image": images, "mask": rings(images), "name": values["name"]})


class RandomErasing(Augmentation):
    name, mixes = "RandomErasing", False

    def made(self, batch: Batch) -> Any:
        erasing = K.RandomErasing(scale=(0.3, 0.5), p=self.p)
        keys = [KEYS[name] for name in batch]
        return erasing if keys == ["input"] else K.AugmentationSequential(erasing, data_keys=keys)


def as_weights(rows: Tensor) -> Tensor:
    """Return kornia's class output (B, 3), the label, the partner's and the weight of the label, as (B, CLASSES)."""
    own, other = (one_hot(column.long(), CLASSES).float() for column in (rows[:, 0], rows[:, 1]))
    return rows[:, 2:] * own + (1 - rows[:, 2:]) * other


def rings(images: Tensor) -> Tensor:
    """Return segmentation maps (B, *size) of three rings, round another point of each image."""
    n, _, *size = images.shape
    axes = torch.meshgrid(*(torch.linspace(0, 1, length) for length in size), indexing="ij")
    centres = torch.linspace(0.2, 0.8, n).view(-1, *[1] * len(size))
    distance = torch.stack([(axis - centres) ** 2 for axis in axes]).sum(0).sqrt()
    return (4 * distance).clamp(max=2).long().to(images.device)


def boxes(image: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Put an image together with itself, with bounding boxes."""
    mosaic = K.RandomMosaic(p=1.0, data_keys=["input", "bbox_xyxy"])
    out, left = mosaic(image[None].repeat(4, 1, 1, 1), corners[None].repeat(4, 1, 1))
    return out[0], left[0]


def points(image: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Erase from an image with key points."""
    erasing = K.AugmentationSequential(K.RandomErasing(scale=(0.4, 0.6), p=1.0), data_keys=["input", "keypoints"])
    out, left = erasing(image[None], places[None])
    return out[0], left[0]


def rotate(image: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Turn an image with bounding boxes."""
    turning = K.AugmentationSequential(K.RandomRotation((30.0, 30.0), p=1.0), data_keys=["input", "bbox_xyxy"])
    out, turned = turning(image[None], corners[None])
    return out[0], turned[0]


LIBRARY = Library(
    package="kornia",
    roads=(RandomCutMixV2, RandomMixUpV2, RandomTransplantation, RandomErasing),
    transforms=subclasses(K, _BasicAugmentationBase, _AugmentationBase),
    mixes=subclasses(K, K.MixAugmentationBaseV2),
    tools={
        "one": K.RandomErasing(p=1.0),
        "boxes": boxes,
        "points": points,
        "rotate": rotate,
    },
)
