"""What the methods of the paper's Table 1 differ in: how they perturb the unlabelled images.

To add a method, write its perturbation, and name it in `MethodName` and `build_method`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import kornia.augmentation as K
import torch
from kornia.constants import DataKey, Resample
from torch import Tensor, nn
from torch.profiler import record_function

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp

MethodName = Literal[
    "supervised",
    "std_aug",
    "ict",
    "cutout",
    "cutmix",
    "cowout",
    "cowmix",
    "full",
    "cutout_square",
    "cutmix_fixed",
]
Predict = Callable[[Tensor], Tensor]


class Perturbed(NamedTuple):
    """What the student is shown, what the teacher expects it to say, and where that counts."""

    images: Tensor  # (B, 3, H, W)
    probabilities: Tensor  # (B, K, H, W)
    mask: Tensor | None = None  # (B, 1, H, W), as for consistency_loss: False where the student saw nothing
    valid: Tensor | None = None  # (B, 1, H, W), as for consistency_loss: False where there is no image


class Perturbation(Protocol):
    """Turn unlabelled images and the teacher's view of them into a task for the student."""

    def __call__(self, draw: Callable[[], Tensor], predict: Predict) -> Perturbed:
        """Perturb a batch.

        Args:
            draw: Returns the next unlabelled batch, (B, 3, H, W) in [0, 1].
            predict: The teacher's probabilities (B, K, H, W) for a batch.
        """


class Method(NamedTuple):
    """Which labels are used, and how unlabelled images are perturbed: not at all if None."""

    all_labels: bool = False
    perturb: Perturbation | None = None


@dataclass(frozen=True)
class Mix:
    """Mix the images of a batch, and the teacher's probabilities with the same masks (Listing 3)."""

    transform: nn.Module

    def __call__(self, draw: Callable[[], Tensor], predict: Predict) -> Perturbed:
        """Mix each image with another of the batch, or a batch of one with the next."""
        images = draw()
        partner = draw() if len(images) == 1 else None
        pair = None if partner is None else (partner, predict(partner))
        probabilities = predict(images)
        with record_function("cowmask"):
            return Perturbed(*self.transform(images, probabilities, partner=pair))


@dataclass(frozen=True)
class Erase:
    """Erase parts of the images; what is erased does not count in the loss (Listing 2)."""

    transform: CowOut | CutOut

    def __call__(self, draw: Callable[[], Tensor], predict: Predict) -> Perturbed:
        """Erase with one mask for each image."""
        images = draw()
        probabilities = predict(images)
        with record_function("cowmask"):
            mask = self.transform.sample(images)
            return Perturbed(self.transform(images, mask=mask), probabilities, mask=mask)


class Augment:
    """Move and recolour the images, and the teacher's probabilities with them (paper, appendix C.1)."""

    def __init__(self, size: tuple[int, int], translation: float) -> None:
        height, width = size
        # The paper's ranges of scaling, brightness and contrast are lost; its rotation is 45 degrees.
        self._transform = K.AugmentationSequential(
            K.RandomHorizontalFlip(),
            K.RandomAffine(45.0, translate=(translation / width, translation / height), scale=(0.8, 1.25), p=1.0),
            K.ColorJiggle(brightness=0.2, contrast=0.2, p=1.0),
            data_keys=["input", "mask", "mask"],
            extra_args={DataKey.MASK: {"resample": Resample.BILINEAR, "align_corners": False}},
        )

    def __call__(self, draw: Callable[[], Tensor], predict: Predict) -> Perturbed:
        """Map images and probabilities alike; what comes from outside the image is not valid."""
        images = draw()
        inside = torch.ones_like(images[:, :1])
        moved, probabilities, inside = self._transform(images, predict(images), inside)
        return Perturbed(moved, probabilities, valid=inside > 0.999)


def build_method(
    name: MethodName,
    size: tuple[int, int],
    sigma: tuple[float, float],
    proportion: tuple[float, float] | None = None,
    translation: float = 16.0,
) -> Method:
    """Build a method.

    Args:
        name: Which.
        size: Of the images, (height, width).
        sigma: Range of the cow masks' sigma, pixels.
        proportion: Range of the cow masks' proportion; None is the method's own (0.5 for CowMix, 0 to 1 for CowOut).
        translation: Largest one of `std_aug`, pixels.
    """
    perturb: dict[str, Callable[[], Perturbation]] = {
        "std_aug": lambda: Augment(size, translation),
        "ict": lambda: Mix(MixUp(alpha=0.1)),  # the authors' alpha
        "cutout": lambda: Erase(CutOut()),
        "cutmix": lambda: Mix(CutMix()),
        "cowout": lambda: Erase(CowOut(sigma, proportion or (0.0, 1.0))),
        "cowmix": lambda: Mix(CowMix(sigma, proportion or 0.5)),
        # As first published: a square of fixed size; a box of the image's shape. Both are cut at the border.
        "cutout_square": lambda: Erase(CutOut(area=0.25, aspect=1.0, clip=True)),
        "cutmix_fixed": lambda: Mix(CutMix(area=(0.0, 1.0), aspect=size[0] / size[1], clip=True)),
    }
    return Method(all_labels=name == "full", perturb=None if name in ("supervised", "full") else perturb[name]())
