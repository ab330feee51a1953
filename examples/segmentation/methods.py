"""What the methods of the paper's Table 1 differ in: one consistency step each.

To add a method, write its step and name it in `build_method`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cowmask import CowMix, CutMix, consistency_loss

MethodName = Literal["supervised", "cutmix", "cowmix", "full"]


class Consistency(NamedTuple):
    """The unsupervised loss of one step, and the share of pixels that the teacher is sure of."""

    loss: Tensor
    confidence: Tensor


class ConsistencyStep(Protocol):
    """Compare the student on perturbed images with the teacher on clean ones."""

    def __call__(self, student: nn.Module, teacher: nn.Module, draw: Callable[[], Tensor]) -> Consistency:
        """Return the loss; `draw` returns the next unlabelled batch, (B, 3, H, W) in [0, 1]."""


class Method(NamedTuple):
    """Which labels are used, and what is done with the unlabelled images: nothing if `step` is None."""

    all_labels: bool = False
    step: ConsistencyStep | None = None


@dataclass(frozen=True)
class MixStep:
    """The student on mixed images should say what the teacher says of their parts (Listing 3)."""

    transform: nn.Module
    threshold: float

    def __call__(self, student: nn.Module, teacher: nn.Module, draw: Callable[[], Tensor]) -> Consistency:
        """Mix images and the teacher's probabilities with one mask."""
        images = draw()
        with torch.no_grad():
            probabilities = teacher(images).softmax(1)
        mixed, target = self.transform(images, probabilities)
        loss = consistency_loss(student(mixed), target, threshold=self.threshold)
        return Consistency(loss, (target.amax(1) > self.threshold).float().mean())


def build_method(name: MethodName, sigma: tuple[float, float], threshold: float) -> Method:
    """Build a method; `sigma` in pixels is the cow masks', `threshold` the confidence that counts."""
    match name:
        case "supervised":
            return Method()
        case "full":
            return Method(all_labels=True)
        case "cutmix":
            return Method(step=MixStep(CutMix(area=0.5), threshold))
        case "cowmix":
            return Method(step=MixStep(CowMix(sigma=sigma), threshold))
