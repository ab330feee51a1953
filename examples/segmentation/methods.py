"""What the methods of the paper's Table 1 differ in: how they perturb the unlabelled images.

To add a method, write its perturbation and name it in `build_method`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from cowmask import CowMix, CutMix

MethodName = Literal["supervised", "cutmix", "cowmix", "full"]
Predict = Callable[[Tensor], Tensor]


class Perturbed(NamedTuple):
    """What the student is shown, and what the teacher expects it to say."""

    images: Tensor  # (B, 3, H, W)
    probabilities: Tensor  # (B, K, H, W)


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
        return Perturbed(*self.transform(images, predict(images), partner=pair))


def build_method(name: MethodName, sigma: tuple[float, float]) -> Method:
    """Build a method; `sigma` in pixels is the cow masks'."""
    match name:
        case "supervised":
            return Method()
        case "full":
            return Method(all_labels=True)
        case "cutmix":
            return Method(perturb=Mix(CutMix(area=0.5)))
        case "cowmix":
            return Method(perturb=Mix(CowMix(sigma=sigma)))
