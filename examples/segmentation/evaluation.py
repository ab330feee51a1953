"""Mean intersection over union over a whole data set; void is not counted."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from segmentation.datasets import VOID


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


def score(predictions: Tensor, labels: Tensor, n_classes: int) -> Scores:
    """Score class maps (N, H, W) against labels (N, H, W)."""
    # A class that is in neither has no score, rather than 0.
    metric = MulticlassJaccardIndex(n_classes, average="none", ignore_index=VOID, zero_division=float("nan"))
    per_class = metric(predictions.long(), labels.long())
    return Scores(per_class.nanmean().item(), per_class.tolist())
