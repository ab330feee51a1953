"""What the methods of the paper's tables differ in: what they do with the unlabelled images.

To add a method, write its perturbation, and name it in `MethodName` and `build_method`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import kornia.augmentation as K
from kornia.constants import DataKey, Resample
from torch import Tensor, nn
from torch.profiler import record_function

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp
from segmentation.data.batches import UnlabelledBatch

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
    "adversarial",
]
Draw = Callable[[], UnlabelledBatch]
Predict = Callable[[Tensor], Tensor]
INSIDE = 0.999  # of a pixel, above which it is an image's


class Perturbed(NamedTuple):
    """What the student is shown, what the teacher expects it to say, and where that counts."""

    images: Tensor  # (B, 3, H, W)
    probabilities: Tensor  # (B, K, H, W)
    valid: Tensor  # (B, 1, H, W) bool, as for consistency_loss: False where there is no image
    mask: Tensor | None = None  # (B, 1, H, W), as for consistency_loss: False where the student saw nothing


class Perturbation(Protocol):
    """Turn unlabelled images and the teacher's view of them into a task for the student."""

    def __call__(self, draw: Draw, predict: Predict) -> Perturbed:
        """Perturb a batch.

        Args:
            draw: Returns the next unlabelled batch.
            predict: The teacher's probabilities (B, K, H, W) for a batch.
        """


class Method(NamedTuple):
    """Which labels are used, and what is done with unlabelled images: nothing, unless one of the others is given."""

    all_labels: bool = False
    perturb: Perturbation | None = None  # for consistency with the teacher
    adversarial: bool = False  # see adversarial.py


@dataclass(frozen=True)
class Mix:
    """Mix the images of a batch, and the teacher's probabilities with the same masks (Listing 3)."""

    transform: nn.Module

    def __call__(self, draw: Draw, predict: Predict) -> Perturbed:
        """Mix each image with another of the batch, or a batch of one with the next."""
        images, valid = draw()
        partner = None
        if len(images) == 1:
            other, there = draw()
            partner = other, predict(other), there.float()
        probabilities = predict(images)
        with record_function("cowmask"):
            images, probabilities, inside = self.transform(images, probabilities, valid.float(), partner=partner)
            return Perturbed(images, probabilities, inside > INSIDE)


@dataclass(frozen=True)
class Erase:
    """Erase parts of the images; what is erased does not count in the loss (Listing 2)."""

    transform: CowOut | CutOut

    def __call__(self, draw: Draw, predict: Predict) -> Perturbed:
        """Erase with one mask for each image."""
        images, valid = draw()
        probabilities = predict(images)
        with record_function("cowmask"):
            mask = self.transform.sample(images)
            return Perturbed(self.transform(images, mask=mask), probabilities, valid, mask)


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

    def __call__(self, draw: Draw, predict: Predict) -> Perturbed:
        """Map images and probabilities alike; what comes from outside the image is not valid."""
        images, valid = draw()
        moved, probabilities, inside = self._transform(images, predict(images), valid.float())
        return Perturbed(moved, probabilities, inside > INSIDE)


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
    own = None if name in ("supervised", "full", "adversarial") else perturb[name]()
    return Method(all_labels=name == "full", perturb=own, adversarial=name == "adversarial")
