"""What a step asks of the student besides the labels: consistency with the teacher."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cowmask import consistency_loss
from segmentation.checkpoints import Stateful
from segmentation.config import Config, ConfigError
from segmentation.data.batches import LabelledBatch, UnlabelledBatch, recolour
from segmentation.data.datasets import VOID
from segmentation.methods import Perturbation, Perturbed, Taught

Draw = Callable[[], UnlabelledBatch]  # the next unlabelled batch
Predict = Callable[[Tensor], Tensor]  # images (B, 3, H, W) to the teacher's probabilities (B, K, H, W)
Drawn = TypeVar("Drawn")  # an objective's record of a batch; the student sees its .images


class StudentLogits(NamedTuple):
    """The student's logits for one batch, float32."""

    labelled: Tensor  # (B, K, H, W)
    targets: Tensor  # (B, H, W), of the labelled images
    unlabelled: Tensor  # (B, K, H, W)


class LabelledLogits(NamedTuple):
    """The student's logits for one batch's labelled images, without gradients."""

    logits: Tensor  # (B, K, H, W) float32
    targets: Tensor  # (B, H, W)


class Totals(NamedTuple):
    """Counts over all accumulated batches and all processes of a step."""

    labelled: Tensor  # pixels with a label
    valid: Tensor  # valid pixels of the unlabelled images
    extra: Tensor  # confident pixels, or batches: the objective decides
    world: int  # processes

    def mean(self, total: Tensor, count: Tensor) -> Tensor:
        """Return a batch's part of the step's mean, from the batch's sum and the step's count."""
        return total / count.clamp(min=1) * self.world  # DDP averages over processes


class Objective(Protocol[Drawn]):
    """Losses on unlabelled images, and the training of the network that computes them, if any.

    Losses and scalars are a batch's part of the step's: summed over batches, averaged over processes, they make it up.
    """

    weights: Mapping[str, float]  # by loss
    trains_itself: bool  # whether `after_step` needs labelled logits
    parts: Mapping[str, Stateful]  # what it adds to checkpoints

    def draw(self, iteration: int, labelled: LabelledBatch) -> Drawn:
        """Return the unlabelled part of a batch; `labelled` is the other part."""

    def counts(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Return a batch's part of `valid` and `extra` in `Totals`."""

    def losses(self, logits: StudentLogits, drawn: Drawn, totals: Totals) -> dict[str, Tensor]:
        """Return a batch's losses before their weights."""

    def after_step(self, labelled: Sequence[LabelledLogits], totals: Totals) -> dict[str, Tensor]:
        """Train the objective's own network on the logits of all batches, and return scalars."""


class Consistency:
    """Ask the student to predict for perturbed images what the teacher predicts for the originals."""

    weights: Mapping[str, float]
    trains_itself = False
    parts: Mapping[str, Stateful] = {}

    def __init__(self, config: Config, perturb: Perturbation, draw: Draw, predict: Predict) -> None:
        """Take weight, distance, threshold and kind of confidence from `config`."""
        self.weights, self._distance = {"loss/consistency": config.consistency_weight}, config.distance
        self._per_pixel, self._threshold = config.confidence == "pixel", config.threshold
        self._perturb, self._draw, self._predict = perturb, draw, predict
        self._views, self._mix_labelled = config.views, config.mix_labelled
        self._recolour = recolour(config.student_colour) if config.student_colour else nn.Identity()
        if config.mix_labelled and not perturb.mixes:
            raise ConfigError("--mix-labelled needs methods that mix images, such as cowmix.")

    def draw(self, iteration: int, labelled: LabelledBatch) -> Perturbed:  # noqa: ARG002
        """Return perturbed images and the predictions expected for them."""
        batch, partner = self._taught(self._draw()), None
        if self._mix_labelled:
            images, targets = labelled
            expected = one_hot(targets, batch.probabilities.shape[1])
            partner = Taught(images, (targets != VOID)[:, None], expected)
        elif self._perturb.mixes and len(batch.images) == 1:
            partner = self._taught(self._draw())
        views = [self._perturb(batch, partner) for _ in range(self._views)]
        images, probabilities, valid = (torch.cat(parts) for parts in zip(*(view[:3] for view in views), strict=True))
        masks = [view.mask for view in views if view.mask is not None]
        return Perturbed(self._recolour(images), probabilities, valid, torch.cat(masks) if masks else None)

    def _taught(self, batch: UnlabelledBatch) -> Taught:
        return Taught(batch.images, batch.valid, self._predict(batch.images))

    def counts(self, drawn: Perturbed) -> tuple[Tensor, Tensor]:
        """Return the numbers of valid pixels and of confident ones."""
        confident = (drawn.probabilities.amax(1, keepdim=True) > self._threshold) & drawn.valid
        return drawn.valid.sum(), confident.sum()

    def losses(self, logits: StudentLogits, drawn: Perturbed, totals: Totals) -> dict[str, Tensor]:
        """Return the consistency loss."""
        # The mean confidence is that of the whole step: consistency_loss, which knows one batch, gets no threshold.
        distance = consistency_loss(
            logits.unlabelled,
            drawn.probabilities,
            drawn.mask,
            valid=drawn.valid,
            threshold=self._threshold if self._per_pixel else 0.0,
            per_pixel=self._per_pixel,
            distance=self._distance,
        )
        share = totals.mean(drawn.valid.sum(), totals.valid)  # of this batch in the step
        factor = 1.0 if self._per_pixel else self._confidence(totals)
        return {"loss/consistency": distance * share * factor}

    def after_step(self, labelled: Sequence[LabelledLogits], totals: Totals) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the mean confidence."""
        return {"confidence": self._confidence(totals)}

    def _confidence(self, totals: Totals) -> Tensor:
        return torch.as_tensor(totals.extra / totals.valid.clamp(min=1))


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """Return label maps (B, H, W) as probabilities (B, K, H, W), all 0 where void."""
    return F.one_hot(labels.where(labels != VOID, n_classes), n_classes + 1).movedim(-1, 1)[:, :n_classes].float()
