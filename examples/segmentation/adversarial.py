"""Adversarial semi-supervised segmentation (Hung et al. 2018), the rival of the paper's Tables 2 and 3.

A discriminator tells label maps from predictions, pixel by pixel. The student learns to pass for a label map. Where
its prediction for an unlabelled image passes, the prediction becomes the label. Settings are those of the authors'
public code, but for two. The discriminator learns from labelled images alone, as in their paper, and from the student's
batches. Unlabelled images come from the whole training set, as for the other methods.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from segmentation.checkpoints import Stateful
from segmentation.data.batches import LabelledBatch
from segmentation.data.datasets import VOID
from segmentation.objectives import Draw, LabelledLogits, StudentLogits, Totals, one_hot

LABELLED, UNLABELLED, SELF_TAUGHT = "loss/adversarial_labelled", "loss/adversarial_unlabelled", "loss/self_taught"
WEIGHTS = {LABELLED: 0.01, UNLABELLED: 0.001, SELF_TAUGHT: 0.1}
CONFIDENT = 0.2  # at least this probability of being a label makes a prediction a label
LEARNING_RATE, BETAS, POWER = 1e-4, (0.9, 0.99), 0.9  # of the discriminator's Adam; POWER is its decay's


class AdversarialBatch(NamedTuple):
    """An unlabelled batch, as it is."""

    images: Tensor  # (B, 3, H, W)
    valid: Tensor  # (B, 1, H, W) bool
    is_late: bool  # whether the student learns from its own predictions by now


class Discriminator(nn.Sequential):
    """Judge maps of probabilities (B, K, H, W) by logits (B, 1, H, W), above 0 for label maps."""

    def __init__(self, n_classes: int, width: int = 64) -> None:
        widths = [n_classes, width, 2 * width, 4 * width, 8 * width, 1]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        super().__init__(*layers[:-1])

    def forward(self, maps: Tensor) -> Tensor:
        """Return logits of the maps' size, which must be at least 32x32."""
        return F.interpolate(super().forward(maps), maps.shape[-2:], mode="bilinear")


class Adversarial:
    """The losses of the student against the discriminator, and the discriminator's own training."""

    weights: Mapping[str, float] = WEIGHTS
    trains_itself = True

    def __init__(self, n_classes: int, draw: Draw, accelerator: Accelerator, iterations: int, start: int) -> None:
        """Build the discriminator.

        Args:
            n_classes: Classes K.
            draw: Returns the next unlabelled batch.
            accelerator: The trainer's.
            iterations: Optimiser steps of the run.
            start: First iteration at which the student learns from its own predictions.
        """
        self._draw, self._start, self._accelerator = draw, start, accelerator
        network = Discriminator(n_classes)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=BETAS)
        self._scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, iterations, POWER)
        self._discriminator, self._optimizer = accelerator.prepare(network, optimizer)
        self.parts: Mapping[str, Stateful] = {
            "discriminator": network,
            "discriminator optimizer": self._optimizer,
            "discriminator scheduler": self._scheduler,
        }

    def draw(self, iteration: int, labelled: LabelledBatch) -> AdversarialBatch:  # noqa: ARG002
        """Return an unlabelled batch as it is."""
        return AdversarialBatch(*self._draw(), iteration >= self._start)

    def counts(self, drawn: AdversarialBatch) -> tuple[Tensor, Tensor]:
        """Return the number of valid pixels, and 1 for the batch."""
        valid = drawn.valid.sum()
        return valid, torch.ones_like(valid)

    def losses(self, logits: StudentLogits, drawn: AdversarialBatch, totals: Totals) -> dict[str, Tensor]:
        """Return the losses of not passing for a label map, and of differing from its own confident predictions."""
        known, inside = logits.targets != VOID, drawn.valid[:, 0]  # (B, H, W)
        missed = F.softplus(-self._judge(logits.labelled)) * known
        losses = {LABELLED: totals.mean(missed.sum(), totals.labelled)}
        judged = self._judge(logits.unlabelled)  # (B, H, W)
        losses[UNLABELLED] = totals.mean((F.softplus(-judged) * inside).sum(), totals.valid)
        if not drawn.is_late:
            return losses
        trusted = (judged.detach().sigmoid() >= CONFIDENT) & inside
        targets = logits.unlabelled.detach().argmax(1).where(trusted, VOID)
        entropy = F.cross_entropy(logits.unlabelled, targets, ignore_index=VOID, reduction="sum")
        # Trusted pixels are known only now: their mean is over this batch of all processes; batches weigh the same.
        n_trusted = self._accelerator.reduce(trusted.sum())
        losses[SELF_TAUGHT] = totals.mean(entropy, n_trusted) * totals.world / totals.extra
        return losses

    def _judge(self, logits: Tensor) -> Tensor:
        """Return the discriminator's logits (B, H, W); only the student gets gradients."""
        network = self._accelerator.unwrap_model(self._discriminator)
        with frozen(network), self._accelerator.autocast():
            return network(logits.softmax(1)).float()[:, 0]

    def after_step(self, labelled: Sequence[LabelledLogits], totals: Totals) -> dict[str, Tensor]:
        """Train the discriminator on the labelled images' predictions and label maps."""
        loss = accuracy = torch.zeros((), device=self._accelerator.device)
        share = totals.world / totals.labelled.clamp(min=1) / 2  # of a pixel, which counts in two maps
        for batch in labelled:
            last = batch is labelled[-1]
            maps = torch.cat([batch.logits.softmax(1), one_hot(batch.targets, batch.logits.shape[1])])  # (2B, K, H, W)
            with nullcontext() if last else self._accelerator.no_sync(self._discriminator):
                with self._accelerator.autocast():
                    logits = self._discriminator(maps).float()[:, 0]  # (2B, H, W)
                sign = torch.ones_like(logits)
                sign[: len(batch.targets)] = -1  # predictions
                known = (batch.targets != VOID).repeat(2, 1, 1)
                part = (F.softplus(-sign * logits) * known).sum() * share
                self._accelerator.backward(part)
            loss = loss + part.detach()
            accuracy = accuracy + ((sign * logits > 0) & known).sum() * share
        self._optimizer.step()
        self._optimizer.zero_grad()
        if not self._optimizer.step_was_skipped:  # by the gradient scaler of fp16
            self._scheduler.step()
        return {"loss/discriminator": loss, "discriminator/accuracy": accuracy}


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Keep gradients from the network's parameters."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
