"""Mean intersection over union of a whole data set. Void pixels are not counted."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from math import ceil, nan, prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchmetrics.classification import MulticlassJaccardIndex

from segmentation.config import Config
from segmentation.data.datasets import VOID, Dataset, Split

PIXELS_AT_ONCE = 2**20  # at most in a batch
IMAGES_AT_ONCE = 8


class Scores(NamedTuple):
    """Intersection over union in [0, 1], mean and per class; NaN for a class in neither map."""

    miou: float
    per_class: list[float]


class Evaluation(NamedTuple):
    """A network's scores on a split, and some of its predictions."""

    scores: Scores
    full: Scores | None  # at the published size, if the data set has one
    groups: dict[str, Scores]  # of the images of each group, if the data set has any
    maps: dict[int, Tensor]  # class maps (H, W) uint8 of some images, by index


class Example(NamedTuple):
    """An image to score."""

    number: int  # index in the split
    image: Tensor  # (3, H, W) uint8
    label: Tensor  # (H, W) uint8
    full: Tensor | None  # label map of the published size


class _Examples(TorchDataset[Example]):
    def __init__(self, split: Split, indices: Sequence[int], full: bool) -> None:
        self._split, self._indices, self._full = split, indices, full

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Example:
        index = self._indices[position]
        full = self._split.label(index, full=True) if self._full else None
        return Example(index, self._split.image(index), self._split.label(index), full)


class Tally:
    """A confusion matrix: counts of pixels by class and prediction."""

    def __init__(self, n_classes: int, device: torch.device | None = None) -> None:
        # A class in neither map has no score, rather than 0.
        self._metric = MulticlassJaccardIndex(
            n_classes, average="none", ignore_index=VOID, zero_division=float("nan"), validate_args=False
        ).to(device)

    def add(self, predictions: Tensor, labels: Tensor) -> None:
        """Count the pixels of class maps (B, H, W) and labels (B, H, W)."""
        self._metric.update(*(maps.to(self._metric.device, torch.long) for maps in (predictions, labels)))

    def scores(self) -> Scores:
        """Return the scores, over all processes."""
        per_class = self._metric.compute()
        return Scores(per_class.nanmean().item(), per_class.tolist())


def windows(length: int, window: int) -> list[int]:
    """Return the starts of windows that cover the length and overlap by at least a third."""
    room = length - window
    if room <= 0:
        return [0]
    return torch.linspace(0, room, ceil(room / (window * 2 / 3)) + 1).round().int().tolist()


def segment(network: nn.Module, images: Tensor, window: tuple[int, int] | None = None) -> Tensor:
    """Return class scores (B, K, H, W): logits of whole images, or mean probabilities over windows.

    Args:
        network: Images to logits, in eval mode.
        images: (B, 3, H, W) in [0, 1].
        window: Height and width of the windows; None for whole images.
    """
    if window is None:
        return network(images).float()
    total: Tensor | None = None
    covered = images.new_zeros(images.shape[-2:])
    for top in windows(images.shape[-2], window[0]):
        for left in windows(images.shape[-1], window[1]):
            place = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            probabilities = network(images[place]).float().softmax(1)
            if total is None:
                total = images.new_zeros(len(images), probabilities.shape[1], *images.shape[-2:])
            total[place] += probabilities
            covered[place] += 1
    assert total is not None  # there is always a window
    return total / covered


def _batches(data: Dataset, split: Split, indices: Sequence[int], config: Config) -> Iterator[list[Example]]:
    """Yield batches of examples; the images of each have one size."""
    at_once = max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // prod(config.size)))
    examples = _Examples(split, indices, data.full_size is not None)
    loader = DataLoader(examples, at_once, num_workers=config.workers, collate_fn=list, generator=torch.Generator())
    for batch in loader:
        for _, alike in groupby(batch, key=lambda example: example.image.shape):
            yield list(alike)


@torch.no_grad()
def evaluate(
    network: nn.Module,
    data: Dataset,
    split: Split,
    config: Config,
    accelerator: Accelerator,
    keep: Collection[int] = (),
) -> Evaluation:
    """Score a network, each process on its part of the split; memory does not grow with the split.

    Args:
        network: Images in [0, 1] to logits; it is left in eval mode.
        data: Gives classes and published size.
        split: Images to score.
        config: Window, size and workers.
        accelerator: Gives device and precision. Process r scores images r, r + `num_processes`, ...
        keep: Images whose class maps are returned, each by the process that scores it.
    """
    network.eval()
    device = accelerator.device
    # Compiled code would be built again for every size of image.
    eager = partial(torch.compiler.set_stance, "force_eager") if config.compile else nullcontext
    mine = range(accelerator.process_index, len(split.names), accelerator.num_processes)
    tally, full = Tally(len(data.classes), device), Tally(len(data.classes), device)
    group_of = [data.group(name) for name in split.names] if data.group else []
    groups = {name: Tally(len(data.classes), device) for name in sorted(set(group_of))}
    maps: dict[int, Tensor] = {}
    for examples in _batches(data, split, mine, config):
        images = torch.stack([example.image for example in examples]).to(device) / 255
        with accelerator.autocast(), eager():
            seen = segment(network, images, config.window)
        predictions = seen.argmax(1).to(torch.uint8)
        tally.add(predictions, torch.stack([example.label for example in examples]))
        for example, one in zip(examples, predictions, strict=True):
            if groups:
                groups[group_of[example.number]].add(one[None], example.label[None])
        maps |= {
            example.number: one.cpu()
            for example, one in zip(examples, predictions, strict=True)
            if example.number in keep
        }
        for example, one in zip(examples, seen, strict=True):
            if example.full is not None:
                larger = F.interpolate(one[None], example.full.shape, mode="bilinear")
                full.add(larger.argmax(1), example.full[None])
    by_group = {name: one.scores() for name, one in groups.items()}
    return Evaluation(tally.scores(), full.scores() if data.full_size else None, by_group, maps)


def shares_of_gap(mious: Mapping[str, float]) -> dict[str, float]:
    """Return how much of the gap between supervised training and training with all labels each other method closes.

    Without both, or without a gap, there are no shares.
    """
    supervised, full = (mious.get(name, nan) for name in ("supervised", "full"))
    if not full > supervised:
        return {}
    others = {name: miou for name, miou in mious.items() if name not in ("supervised", "full")}
    return {name: (miou - supervised) / (full - supervised) for name, miou in others.items()}
