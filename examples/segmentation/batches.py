"""Batches for ever: which images come next, on which process."""

from collections.abc import Iterator
from pathlib import Path

import kornia.augmentation as K
import torch
from torch import Tensor

from segmentation.datasets import DataError

SUBSETS = Path(__file__).parent / "camvid_subsets.txt"


def shuffled_batches(n: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of indices below `n` for ever, every index once in each pass."""
    generator = torch.Generator().manual_seed(seed)
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < batch_size:
            queue = torch.cat([queue, torch.randperm(n, generator=generator)])
        batch, queue = queue[:batch_size], queue[batch_size:]
        yield batch


def labelled_subset(n: int, labelled: int, seed: int) -> list[int]:
    """Return which `labelled` of `n` images the seed stands for, in order."""
    if labelled > n:
        raise DataError(f"--labelled {labelled} is more than the {n} images of the training set.")
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:labelled]
    return sorted(chosen.tolist())


def listed_subset(names: tuple[str, ...], subset: int) -> list[int]:
    """Return the images of one line of camvid_subsets.txt, so that everyone has the same."""
    lines = [line.split() for line in SUBSETS.read_text().splitlines() if not line.startswith("#")]
    if not 0 <= subset < len(lines):
        raise DataError(f"--subset must be from 0 to {len(lines) - 1}, got {subset}.")
    missing = sorted(set(lines[subset]) - set(names))
    if missing:
        raise DataError(f"--subset {subset} needs CamVid's training frame {missing[0]}, which is not in the data.")
    return sorted(names.index(name) for name in lines[subset])


class Batches:
    """Shuffled batches of one process, on its device, flipped at random."""

    def __init__(
        self, data: tuple[Tensor, ...], batch_size: int, seed: int, device: torch.device, rank: int = 0, world: int = 1
    ) -> None:
        """Serve images (N, 3, H, W) uint8, and labels (N, H, W) uint8 if `data` has them.

        The `world` processes share each global batch of `batch_size * world`.
        """
        self.device, self.drawn = device, 0
        self._data = [_resident(tensor, device) for tensor in data]
        self._indices = shuffled_batches(len(data[0]), batch_size * world, seed)
        self._mine = slice(rank, None, world)
        self._flip = K.AugmentationSequential(K.RandomHorizontalFlip(), data_keys=["input", "mask"][: len(data)])

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint keeps."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where as many batches had been drawn."""
        while self.drawn < state["drawn"]:
            next(self._indices)
            self.drawn += 1

    def draw(self) -> tuple[Tensor, ...]:
        """Return images (B, 3, H, W) in [0, 1], and labels (B, H, W) if there are any."""
        indices = next(self._indices)[self._mine]
        self.drawn += 1
        images, *labels = (self._take(tensor, indices) for tensor in self._data)
        flipped = self._flip(images / 255, *(maps[:, None] for maps in labels))
        images, *labels = flipped if isinstance(flipped, list) else [flipped]
        return images.contiguous(memory_format=torch.channels_last), *(maps[:, 0].long() for maps in labels)

    def _take(self, data: Tensor, indices: Tensor) -> Tensor:
        """Return rows of the data on the device, float; a GPU is not waited for."""
        if data.device == self.device:
            indices = indices.pin_memory() if self.device.type == "cuda" else indices
            return data[indices.to(self.device, non_blocking=True)].float()
        rows = data[indices]
        rows = rows.pin_memory() if self.device.type == "cuda" else rows
        return rows.to(self.device, non_blocking=True).float()


def _resident(data: Tensor, device: torch.device) -> Tensor:
    """Keep decoded data on a GPU if they take no more than a quarter of what is free there."""
    fits = device.type == "cuda" and data.nbytes < torch.cuda.mem_get_info(device)[0] / 4
    return data.to(device) if fits else data
