"""The methods of the paper's tables: what each does with unlabelled images. CONTRIBUTING.md says how to add one."""

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
    "cow_and_box",
    "cutout_square",
    "cutmix_fixed",
    "adversarial",
]
VALID_ABOVE = 0.999  # a pixel is valid if more than this share of it comes from an image


class Taught(NamedTuple):
    """Unlabelled images and the teacher's predictions for them."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    valid: Tensor  # (B, 1, H, W) bool, False outside of the image
    probabilities: Tensor  # (B, K, H, W)


class Perturbed(NamedTuple):
    """Images for the student and the predictions expected for them; `valid` and `mask` are for `consistency_loss`."""

    images: Tensor  # (B, 3, H, W)
    probabilities: Tensor  # (B, K, H, W)
    valid: Tensor  # (B, 1, H, W) bool, False outside of the image
    mask: Tensor | None = None  # (B, 1, H, W), False where the image is erased


class Perturbation(Protocol):
    """Turn what the teacher saw and predicted into what the student sees and should predict."""

    @property
    def mixes(self) -> bool:
        """Whether images are mixed; a batch of one then needs a partner."""

    def __call__(self, batch: Taught, partner: Taught | None = None) -> Perturbed:
        """Perturb a batch; if it is mixed, with its partner, or within the batch if there is none."""


class Method(NamedTuple):
    """Which labels a method uses, and what it does with unlabelled images; by default it uses none."""

    all_labels: bool = False
    perturb: Perturbation | None = None  # for consistency with the teacher
    adversarial: bool = False  # see adversarial.py


@dataclass(frozen=True)
class Mix:
    """Mix images, and the teacher's predictions by the same masks (Listing 3)."""

    transform: nn.Module
    mixes = True

    def __call__(self, batch: Taught, partner: Taught | None = None) -> Perturbed:
        """Mix each image with its partner, or with the one before it in the batch."""
        images, valid, probabilities = batch
        other = None if partner is None else (partner.images, partner.probabilities, partner.valid.float())
        with record_function("cowmask"):
            mixed, expected, inside = self.transform(images, probabilities, valid.float(), partner=other)
            return Perturbed(mixed, expected, inside > VALID_ABOVE)


@dataclass(frozen=True)
class Erase:
    """Erase parts of the images; erased pixels do not count in the loss (Listing 2)."""

    transform: CowOut | CutOut
    mixes = False

    def __call__(self, batch: Taught, partner: Taught | None = None) -> Perturbed:  # noqa: ARG002
        """Erase by one mask for each image."""
        with record_function("cowmask"):
            mask = self.transform.sample(batch.images)
            return Perturbed(self.transform(batch.images, mask=mask), batch.probabilities, batch.valid, mask)


class Choice:
    """One of several perturbations for each batch, drawn at random."""

    def __init__(self, *choices: Perturbation) -> None:
        self._choices = choices
        self.mixes = any(choice.mixes for choice in choices)

    def __call__(self, batch: Taught, partner: Taught | None = None) -> Perturbed:
        """Perturb the whole batch by one of the choices."""
        return self._choices[int(torch.randint(len(self._choices), ()))](batch, partner)


class Augment:
    """Move and recolour the images; move the teacher's predictions with them (paper, appendix C.1)."""

    mixes = False

    def __init__(self, size: tuple[int, int], translation: float) -> None:
        height, width = size
        # The paper's rotation is 45 degrees. We could not recover its ranges of scaling, brightness and contrast.
        self._transform = K.AugmentationSequential(
            K.RandomHorizontalFlip(),
            K.RandomAffine(45.0, translate=(translation / width, translation / height), scale=(0.8, 1.25), p=1.0),
            K.ColorJiggle(brightness=0.2, contrast=0.2, p=1.0),
            data_keys=["input", "mask", "mask"],
            extra_args={DataKey.MASK: {"resample": Resample.BILINEAR, "align_corners": False}},
        )

    def __call__(self, batch: Taught, partner: Taught | None = None) -> Perturbed:  # noqa: ARG002
        """Move images and predictions alike; pixels from outside of the image are not valid."""
        moved, expected, inside = self._transform(batch.images, batch.probabilities, batch.valid.float())
        return Perturbed(moved, expected, inside > VALID_ABOVE)


def build_methods(
    size: tuple[int, int],
    sigma: tuple[float, float],
    proportion: tuple[float, float] | None = None,
    translation: float = 16.0,
    fill: float | Tensor = 0.0,
) -> dict[MethodName, Method]:
    """Build every method.

    Args:
        size: Height and width of the images.
        sigma: Range of the cow masks' sigma, pixels.
        proportion: Range of the cow masks' proportion; None is 0.5 for CowMix and 0 to 1 for CowOut.
        translation: Largest translation of `std_aug`, pixels.
        fill: Colour of what is erased, in [0, 1]: a number, or a tensor (3, 1, 1). The trainers pass the mean colour of
            the network's normalisation: an erased pixel is then 0 for the network. Black is up to two deviations below.
    """
    return {
        "supervised": Method(),
        "std_aug": Method(perturb=Augment(size, translation)),
        "ict": Method(perturb=Mix(MixUp(alpha=0.1))),  # the authors' alpha
        "cutout": Method(perturb=Erase(CutOut(fill=fill))),
        "cutmix": Method(perturb=Mix(CutMix())),
        "cowout": Method(perturb=Erase(CowOut(sigma, proportion or (0.0, 1.0), fill=fill))),
        "cowmix": Method(perturb=Mix(CowMix(sigma, proportion or 0.5))),
        "full": Method(all_labels=True),
        "cow_and_box": Method(perturb=Choice(Mix(CowMix(sigma, proportion or 0.5)), Mix(CutMix()))),
        # As first published: a square of fixed size; a box of the image's shape. Both are cut at the border.
        "cutout_square": Method(perturb=Erase(CutOut(area=0.25, aspect=1.0, clip=True, fill=fill))),
        "cutmix_fixed": Method(perturb=Mix(CutMix(area=(0.0, 1.0), aspect=size[0] / size[1], clip=True))),
        "adversarial": Method(adversarial=True),
    }
