"""A data set of which data workers mix the batches, in a module that a spawned worker imports soon."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from cowmask.integrations.torchvision import CowMix

IMAGES, WORKERS, EPOCHS = 8, 2, 2


class Numbered(Dataset[tuple[Tensor, int]]):
    """Images that have their own index for each pixel."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((1, 16, 16), float(index)), index


class Collate:
    """Collates a batch and mixes it."""

    def __init__(self) -> None:
        self.mix: Callable[[Any], Any] = CowMix(sigma=3, num_classes=IMAGES)

    def __call__(self, batch: list[Any]) -> Any:
        return self.mix(default_collate(batch))


def masks_of_epochs(start: str, seed: int, persistent: bool = True) -> Tensor:
    """Return where images were mixed, (EPOCHS, IMAGES, 1, 16, 16) bool."""
    loader = DataLoader(
        Numbered(),
        batch_size=2,
        num_workers=WORKERS,
        collate_fn=Collate(),
        multiprocessing_context=start,
        persistent_workers=persistent,
        generator=torch.Generator().manual_seed(seed),
    )
    epochs = [torch.cat([images for images, _ in loader]) for _ in range(EPOCHS)]
    return torch.stack(epochs) != torch.arange(IMAGES).view(-1, 1, 1, 1)
