"""What a step asks of the student besides the labels: consistency with the teacher."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from cowmask import consistency_loss
from segmentation.config import Config
from segmentation.methods import Draw, Perturbation, Perturbed, Predict

S = TypeVar("S")  # what is drawn for a task, with .images, which the student is shown


class Seen(NamedTuple):
    """A task's images as the student saw them."""

    labelled: Tensor  # (B, K, H, W) logits of the labelled images, float32
    targets: Tensor  # (B, H, W)
    unlabelled: Tensor  # (B, K, H, W) logits of the others


class View(NamedTuple):
    """A task's labelled images as the student saw them, without gradients."""

    logits: Tensor  # (B, K, H, W) float32
    targets: Tensor  # (B, H, W)


class Objective(Protocol[S]):
    """Losses on unlabelled images.

    A step has one task or, if gradients are accumulated, several. Losses and other scalars are a task's part of the
    step's: summed over tasks and averaged over processes they are the whole.
    """

    weights: Mapping[str, float]  # of the losses
    learns: bool  # whether it learns something itself, from views

    def draw(self, iteration: int) -> S:
        """Return the unlabelled part of a task."""

    def counts(self, drawn: S) -> list[Tensor]:
        """Return numbers of pixels, which are then added up over tasks and processes for the denominators."""

    def losses(self, seen: Seen, drawn: S, labelled: Tensor, totals: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the task's losses before their weights.

        Args:
            seen: By the student.
            drawn: By `draw`.
            labelled: Labelled pixels, of all tasks and processes.
            totals: The counts, of all tasks and processes.
        """

    def finish(self, views: Sequence[View], labelled: Tensor, totals: Sequence[Tensor]) -> dict[str, Tensor]:
        """Learn what the objective itself learns, after the student's step, and return scalars."""


class Consistency:
    """What the student sees in perturbed images is what the teacher sees in them as they are (mean teacher)."""

    weights: Mapping[str, float]
    learns = False

    def __init__(self, config: Config, perturb: Perturbation, draw: Draw, predict: Predict, world: int) -> None:
        """Compare the student with the teacher.

        Args:
            config: Weight, threshold and kind of confidence.
            perturb: The method.
            draw: Returns the next unlabelled batch.
            predict: The teacher's probabilities.
            world: Processes.
        """
        self.weights = {"loss/consistency": config.consistency_weight}
        self._per_pixel, self._threshold = config.confidence == "pixel", config.threshold
        self._perturb, self._draw, self._predict, self._world = perturb, draw, predict, world

    def draw(self, iteration: int) -> Perturbed:  # noqa: ARG002 - from the first one on
        """Return perturbed images and what the teacher expects."""
        return self._perturb(self._draw, self._predict)

    def counts(self, drawn: Perturbed) -> list[Tensor]:
        """Return how many pixels are valid, and how many of them confident."""
        confident = (drawn.probabilities.amax(1, keepdim=True) > self._threshold) & drawn.valid
        return [drawn.valid.sum(), confident.sum()]

    def losses(self, seen: Seen, drawn: Perturbed, labelled: Tensor, totals: Sequence[Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the consistency loss."""
        # The mean confidence is over all tasks and processes, so it comes from `totals`, and not from the loss itself,
        # which without a threshold has none.
        distance = consistency_loss(
            seen.unlabelled,
            drawn.probabilities,
            drawn.mask,
            valid=drawn.valid,
            threshold=self._threshold if self._per_pixel else 0.0,
            per_pixel=self._per_pixel,
        )
        share = drawn.valid.sum() / totals[0].clamp(min=1) * self._world
        factor = 1.0 if self._per_pixel else self._confidence(totals)
        return {"loss/consistency": distance * share * factor}

    def finish(self, views: Sequence[View], labelled: Tensor, totals: Sequence[Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the mean confidence."""
        return {"confidence": self._confidence(totals)}

    def _confidence(self, totals: Sequence[Tensor]) -> Tensor:
        valid, confident = totals
        return torch.as_tensor(confident / valid.clamp(min=1))
