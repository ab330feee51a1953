"""timm.data."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from timm.data import Mixup, auto_augment
from timm.data.random_erasing import RandomErasing as Erasing
from torchvision.transforms.functional import to_pil_image, to_tensor

from benchmarks.compare.roads import CLASSES, Batch, Library, Road


class Mixing(Road):
    """Mixup in the mode that draws for each image."""

    options = ("p",)
    alphas: ClassVar[dict[str, float]]

    def entry(self) -> Callable[..., Any]:
        return Mixup

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        images, *targets = batch.values()
        mixup = Mixup(
            **self.alphas,
            prob=self.p,
            mode="elem",
            label_smoothing=0.0,
            num_classes=CLASSES,
            multi_label="soft" in batch,
        )
        return mixup, [images, *(targets or [torch.arange(len(images), device=images.device)])]

    def result(self, out: Any, batch: Batch) -> dict[str, Any]:
        return dict(zip(batch, out, strict=False))


class CutMix(Mixing):
    name = "Mixup(cutmix_alpha=1)"
    alphas: ClassVar[dict[str, float]] = {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}


class MixUp(Mixing):
    name, selects = "Mixup(mixup_alpha=1)", False
    alphas: ClassVar[dict[str, float]] = {"mixup_alpha": 1.0, "cutmix_alpha": 0.0}


class RandomErasing(Road):
    name, mixes = "RandomErasing", False
    options = ("p",)

    def entry(self) -> Callable[..., Any]:
        return Erasing

    def call(self, batch: Batch) -> tuple[Callable[..., Any], Sequence[Any]]:
        return Erasing(probability=self.p, device=batch["images"].device), [*batch.values()]


LIBRARY = Library(
    package="timm",
    roads=(CutMix, MixUp, RandomErasing),
    transforms=len(auto_augment.LEVEL_TO_ARG) + 3,  # the operations of its policies, and those above
    mixes=2,
    tools={
        "one": Erasing(probability=1.0, device="cpu"),
        "rotate": lambda image, _: (to_tensor(auto_augment.rotate(to_pil_image(image), 30)), None),
    },
)
