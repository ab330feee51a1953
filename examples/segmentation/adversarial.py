"""Adversarial semi-supervised segmentation (Hung et al. 2018), the rival of the paper's Tables 2 and 3.

A discriminator tells label maps from predictions, pixel by pixel. The student learns to pass for a label map, and where
it passes in an unlabelled image, its own prediction is its label. The settings are those of the authors' public code.
Unlike it, the discriminator learns from labelled images alone, as their paper has it, and from the same ones as the
student; and unlabelled images come from the whole training set, as for the other methods.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from segmentation.data.datasets import VOID
from segmentation.methods import Draw
from segmentation.objectives import Seen, View

LABELLED, UNLABELLED, SELF_TAUGHT = "loss/adversarial_labelled", "loss/adversarial_unlabelled", "loss/self_taught"
WEIGHTS = {LABELLED: 0.01, UNLABELLED: 0.001, SELF_TAUGHT: 0.1}
CONFIDENT = 0.2  # probability of being a label from which on the student's prediction is taken for one
# Of the discriminator's Adam, and of its rate's decay.
LEARNING_RATE, BETAS, POWER = 1e-4, (0.9, 0.99), 0.9


class Shown(NamedTuple):
    """Unlabelled images, as they are."""

    images: Tensor  # (B, 3, H, W)
    valid: Tensor  # (B, 1, H, W) bool
    is_late: bool  # whether the student's own predictions are taken for labels by now


class Discriminator(nn.Sequential):
    """Tell label maps from predictions: (B, K, H, W) probabilities to (B, 1, H, W) logits, above 0 for a label map."""

    def __init__(self, n_classes: int, width: int = 64) -> None:
        widths = [n_classes, width, 2 * width, 4 * width, 8 * width, 1]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        super().__init__(*layers[:-1])

    def forward(self, maps: Tensor) -> Tensor:
        """Return logits at the maps' size, which is at least 32x32."""
        return F.interpolate(super().forward(maps), maps.shape[-2:], mode="bilinear")


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """Return label maps (B, H, W) as probabilities (B, K, H, W); void is of no class."""
    return F.one_hot(labels.where(labels != VOID, n_classes), n_classes + 1).movedim(-1, 1)[:, :n_classes].float()


class Adversarial:
    """The losses of the student against the discriminator, and the discriminator's own training."""

    weights: Mapping[str, float] = WEIGHTS
    learns = True

    def __init__(self, n_classes: int, draw: Draw, accelerator: Accelerator, iterations: int, start: int) -> None:
        """Build the discriminator.

        Args:
            n_classes: Classes K.
            draw: Returns the next unlabelled batch.
            accelerator: Of the trainer; its checkpoints hold what is built here, too.
            iterations: Of the run.
            start: Iteration from which on the student learns from its own predictions.
        """
        self._draw, self._start, self._accelerator = draw, start, accelerator
        network = Discriminator(n_classes)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=BETAS)
        self._scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, iterations, POWER)
        self._discriminator, self._optimizer = accelerator.prepare(network, optimizer)
        accelerator.register_for_checkpointing(self._scheduler)

    def draw(self, iteration: int) -> Shown:
        """Return unlabelled images as they are."""
        return Shown(*self._draw(), iteration >= self._start)

    def counts(self, drawn: Shown) -> list[Tensor]:
        """Return how many pixels are valid, and 1: the tasks of all processes are counted, too."""
        valid = drawn.valid.sum()
        return [valid, torch.ones_like(valid)]

    def losses(self, seen: Seen, drawn: Shown, labelled: Tensor, totals: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return how badly the student passes for a label map, and how far it is from its own confident predictions."""
        world, (valid, tasks) = self._accelerator.num_processes, totals
        known, inside = seen.targets != VOID, drawn.valid[:, 0]
        losses = {LABELLED: (F.softplus(-self._judge(seen.labelled)) * known).sum() / labelled * world}
        judged = self._judge(seen.unlabelled)
        losses[UNLABELLED] = (F.softplus(-judged) * inside).sum() / valid.clamp(min=1) * world
        if not drawn.is_late:
            return losses
        trusted = (judged.detach().sigmoid() >= CONFIDENT) & inside
        targets = seen.unlabelled.detach().argmax(1).where(trusted, VOID)
        total = self._accelerator.reduce(trusted.sum())
        entropy = F.cross_entropy(seen.unlabelled, targets, ignore_index=VOID, reduction="sum")
        # The trusted pixels are known only now, so their mean is over this task of all processes: tasks weigh the same.
        losses[SELF_TAUGHT] = entropy / total.clamp(min=1) * world * world / tasks
        return losses

    def _judge(self, logits: Tensor) -> Tensor:
        """Return the discriminator's logits (B, H, W); gradients flow to the student only."""
        network = self._accelerator.unwrap_model(self._discriminator)
        with frozen(network), self._accelerator.autocast():
            return network(logits.softmax(1)).float()[:, 0]

    def finish(self, views: Sequence[View], labelled: Tensor, totals: Sequence[Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Train the discriminator on the labelled images' predictions and label maps."""
        loss = accuracy = torch.zeros((), device=self._accelerator.device)
        share = self._accelerator.num_processes / labelled / 2  # of a pixel, which is shown twice
        for view in views:
            last = view is views[-1]
            maps = torch.cat([view.logits.softmax(1), one_hot(view.targets, view.logits.shape[1])])
            with nullcontext() if last else self._accelerator.no_sync(self._discriminator):
                with self._accelerator.autocast():
                    logits = self._discriminator(maps).float()[:, 0]
                sign = torch.ones_like(logits)
                sign[: len(view.targets)] = -1  # predictions
                known = (view.targets != VOID).repeat(2, 1, 1)
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
    """Record no gradients for the network's parameters."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
