"""albumentations, which takes single images as NumPy arrays (H, W, C)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import albumentations as A
import numpy as np
import torch
from torch import Tensor

from benchmarks.compare.roads import Batch, Library, Road, subclasses

KEYS = {"images": "image", "maps": "mask", "probs": "mask", "labels": "label", "soft": "label"}
HOLE = {"num_holes_range": (1, 1), "hole_height_range": (0.4, 0.6), "hole_width_range": (0.4, 0.6)}


class PerImage(Road):
    """A transform in Compose, called for each image of a batch."""

    options = ("p", "seed")

    def entry(self) -> Callable[..., Any]:
        return getattr(A, self.name)

    def made(self, batch: Batch) -> Any:
        """Return the transform for such images."""
        raise NotImplementedError

    def samples(self, batch: Batch) -> list[dict[str, Any]]:
        """Return what Compose gets for each image."""
        return [
            {KEYS[key]: as_array(values[i], channels=key in ("images", "probs")) for key, values in batch.items()}
            for i in range(len(batch["images"]))
        ]

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        compose = A.Compose([self.made(batch)], seed=self.seed)
        return (lambda samples: [compose(**sample) for sample in samples]), [self.samples(batch)]

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        return {key: torch.stack([as_tensor(sample[KEYS[key]]) for sample in out]) for key in batch}

    def twice(self, batch: Batch, other: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        compose = A.ReplayCompose([self.made(batch)])
        ones = [compose(**sample) for sample in self.samples(batch)]
        pairs = zip(ones, self.samples(other), strict=True)
        twos = [A.ReplayCompose.replay(one["replay"], **sample) for one, sample in pairs]
        return self.result(ones, batch), self.result(twos, other)

    def mapping(self, values: Batch) -> tuple[str, dict[str, Any]]:
        function, (samples,) = self.call({"images": values["images"]})
        out = function([{**sample, "name": values["name"]} for sample in samples])
        return "images", {**out[0], **self.result(out, {"images": values["images"]})}


class CoarseDropout(PerImage):
    name, mixes = "CoarseDropout", False

    def made(self, _: Batch) -> Any:
        return A.CoarseDropout(**HOLE, p=self.p)

    def clips(self, videos: Tensor) -> Tensor:
        compose = A.Compose([A.CoarseDropout(**HOLE, p=1)])
        outs = [compose(images=clip.movedim(1, -1).numpy())["images"] for clip in videos]
        return torch.stack([torch.as_tensor(out).movedim(-1, 1) for out in outs])


class Mosaic(PerImage):
    """Mosaic of an image and of the images before it in the batch, or in a second batch."""

    name = "Mosaic"

    def made(self, batch: Batch) -> Any:
        size = tuple(batch["images"].shape[2:])
        return A.Mosaic(grid_yx=(2, 2), target_size=size, cell_shape=size, p=self.p)

    def samples(self, batch: Batch) -> list[dict[str, Any]]:
        return self.with_others(batch, super().samples(batch))

    def with_others(self, batch: Batch, others: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return samples with what is mixed into each of them."""
        own = super().samples(batch)
        return [{**sample, "mosaic_metadata": [others[i - 1]]} for i, sample in enumerate(own)]

    def with_partner(self, batch: Batch, partner: Batch) -> dict[str, Any]:
        function, _ = self.call(batch)
        return self.result(function(self.with_others(batch, super().samples(partner))), batch)


class CoarseDropout3D(PerImage):
    """Erases from volumes (D, H, W, C)."""

    name, mixes = "CoarseDropout3D", False

    def made(self, _: Batch) -> Any:
        return A.CoarseDropout3D(**HOLE, hole_depth_range=(0.4, 0.6), p=self.p)

    def samples(self, batch: Batch) -> list[dict[str, Any]]:
        return [{"volume": as_array(volume, channels=True)} for volume in batch["images"]]

    def result(self, out: Any, _: Batch) -> dict[str, Any]:
        return {"images": torch.stack([as_tensor(sample["volume"]) for sample in out])}


def as_array(x: Tensor, channels: bool) -> np.ndarray:
    """Return (C, *size), or any other shape without channels, as an array with channels last."""
    array = (x.movedim(0, -1) if channels and x.ndim > 1 else x).detach().numpy()
    return array.astype(np.int32) if array.dtype == np.int64 else array  # OpenCV has no int64


def as_tensor(array: Any) -> Tensor:
    """Return an array with channels last as a tensor with channels first."""
    x = torch.as_tensor(np.array(array))
    return x.movedim(-1, 0) if x.ndim > 2 else x


def with_boxes(transform: Any, image: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Change an image with bounding boxes."""
    compose = A.Compose([transform], bbox_params=A.BboxParams("pascal_voc", label_fields=["label"]))
    out = compose(image=as_array(image, channels=True), bboxes=corners.numpy(), label=np.arange(len(corners)))
    return as_tensor(out["image"]), torch.as_tensor(out["bboxes"])


def points(image: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Erase from an image with key points."""
    compose = A.Compose([A.CoarseDropout(**HOLE, p=1)], keypoint_params=A.KeypointParams("xy"))
    out = compose(image=as_array(image, channels=True), keypoints=places.numpy())
    return as_tensor(out["image"]), torch.as_tensor(out["keypoints"])


LIBRARY = Library(
    package="albumentations",
    roads=(Mosaic, CoarseDropout, CoarseDropout3D),
    transforms=subclasses(A, A.BasicTransform),
    mixes=subclasses(A.augmentations.mixing.transforms, A.BasicTransform),
    tools={
        "one": lambda image: A.CoarseDropout(**HOLE, p=1)(image=image)["image"],
        "boxes": partial(with_boxes, A.CoarseDropout(**HOLE, p=1)),
        "points": points,
        "rotate": partial(with_boxes, A.Rotate((30, 30), p=1)),
    },
)
