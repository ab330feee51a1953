"""Mean intersection over union over a whole data set, image after image; void is not counted."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from math import ceil, prod
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

PIXELS_AT_ONCE = 2**20  # in a batch
IMAGES_AT_ONCE = 8


class Scores(NamedTuple):
    """Mean and per-class intersection over union, in [0, 1]; NaN for a class that is in neither map."""

    miou: float
    per_class: list[float]


class Evaluation(NamedTuple):
    """What a network scores on a split."""

    scores: Scores
    full: Scores | None  # at the size as published, if the data set asks for it
    maps: dict[int, Tensor]  # class maps (H, W) uint8 of the images asked for


class Example(NamedTuple):
    """An image to be scored."""

    number: int  # in the split
    image: Tensor  # (3, H, W) uint8
    label: Tensor  # (H, W) uint8
    full: Tensor | None  # label map of the size as published


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
    """Counts of pixels by class and prediction, from which scores follow."""

    def __init__(self, n_classes: int, device: torch.device | None = None) -> None:
        # A class that is in neither map has no score, rather than 0.
        self._metric = MulticlassJaccardIndex(
            n_classes, average="none", ignore_index=VOID, zero_division=float("nan"), validate_args=False
        ).to(device)

    def add(self, predictions: Tensor, labels: Tensor) -> None:
        """Count the pixels of class maps (B, H, W) and labels (B, H, W)."""
        self._metric.update(*(maps.to(self._metric.device, torch.long) for maps in (predictions, labels)))

    def scores(self) -> Scores:
        """Return the scores; in a distributed run, of what all processes counted."""
        per_class = self._metric.compute()
        return Scores(per_class.nanmean().item(), per_class.tolist())


def windows(length: int, window: int) -> list[int]:
    """Return where windows that overlap by at least a third begin, from the first to the last place."""
    room = length - window
    if room <= 0:
        return [0]
    return torch.linspace(0, room, ceil(room / (window * 2 / 3)) + 1).round().int().tolist()


def segment(network: nn.Module, images: Tensor, window: tuple[int, int] | None = None) -> Tensor:
    """Return scores of the classes (B, K, H, W): logits of whole images, or the mean probability over windows.

    Args:
        network: In eval().
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
    """Yield examples of one size after another."""
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
    """Score a network, each process a part of the split; what is held in memory does not grow with it.

    Args:
        network: Images in [0, 1] to logits; left in eval().
        data: What its classes are.
        split: To score.
        config: The window, if there is one, and who reads the images.
        accelerator: Its device and precision are the network's.
        keep: Images whose class maps are returned, as far as they are this process's: those of every
            `num_processes`-th image from its number on.
    """
    network.eval()
    device = accelerator.device
    # Images of any size would each be compiled for.
    eager = partial(torch.compiler.set_stance, "force_eager") if config.compile else nullcontext
    mine = range(accelerator.process_index, len(split.names), accelerator.num_processes)
    tally, full = Tally(len(data.classes), device), Tally(len(data.classes), device)
    maps: dict[int, Tensor] = {}
    for examples in _batches(data, split, mine, config):
        images = torch.stack([example.image for example in examples]).to(device) / 255
        with accelerator.autocast(), eager():
            seen = segment(network, images, config.window)
        predictions = seen.argmax(1).to(torch.uint8)
        tally.add(predictions, torch.stack([example.label for example in examples]))
        maps |= {
            example.number: one.cpu()
            for example, one in zip(examples, predictions, strict=True)
            if example.number in keep
        }
        for example, one in zip(examples, seen, strict=True):
            if example.full is not None:
                larger = F.interpolate(one[None], example.full.shape, mode="bilinear")
                full.add(larger.argmax(1), example.full[None])
    return Evaluation(tally.scores(), full.scores() if data.full_size else None, maps)
