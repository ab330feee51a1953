"""Mean intersection over union over a whole data set; void is not counted."""

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from segmentation.datasets import VOID, Split


class Scores(NamedTuple):
    """Mean and per-class intersection over union, in [0, 1]."""

    miou: float
    per_class: list[float]


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, device: torch.device, batch_size: int = 8) -> Tensor:
    """Return class maps (N, H, W) uint8 on the CPU for images (N, 3, H, W) uint8; the network is left in eval()."""
    network.eval()
    batches = [network(batch.to(device) / 255).argmax(1).to("cpu", torch.uint8) for batch in images.split(batch_size)]
    return torch.cat(batches)


def score(predictions: Tensor, labels: Tensor, n_classes: int, device: torch.device | None = None) -> Scores:
    """Score class maps (N, H, W) against labels (N, H, W); in a distributed run, those of all processes together."""
    # A class that is in neither has no score, rather than 0.
    metric = MulticlassJaccardIndex(n_classes, average="none", ignore_index=VOID, zero_division=float("nan")).to(device)
    metric.update(predictions.to(metric.device, torch.long), labels.to(metric.device, torch.long))
    per_class = metric.compute()  # sums the confusion matrices of all processes
    return Scores(per_class.nanmean().item(), per_class.tolist())


def evaluate(network: nn.Module, split: Split, n_classes: int, accelerator: Accelerator) -> tuple[Scores, Tensor]:
    """Score a network, each process a part of the split.

    Returns:
        The scores, the same on every process, and this one's class maps: of every `num_processes`-th image from its
        number on, (N / num_processes, H, W) uint8.
    """
    mine = range(accelerator.process_index, len(split.images), accelerator.num_processes)
    with accelerator.autocast():
        predictions = predict(network, split.images[mine], accelerator.device)
    return score(predictions, split.labels(mine), n_classes, accelerator.device), predictions
