"""Endless batches of crops, shared among processes."""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import kornia.augmentation as K
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from segmentation.data.datasets import VOID, DataError, Dataset, Split

SUBSETS = Path(__file__).parent / "camvid_subsets.txt"
GREY = (124, 116, 104)  # ImageNet's mean colour, for pixels outside an image


class Shard(NamedTuple):
    """The part of every global batch that one process takes, and the device it goes to."""

    device: torch.device
    rank: int = 0  # of this process
    world: int = 1  # processes


class LabelledBatch(NamedTuple):
    """Images and their label maps."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    targets: Tensor  # (B, H, W) int64, VOID where nothing is known


class UnlabelledBatch(NamedTuple):
    """Images without labels."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    valid: Tensor  # (B, 1, H, W) bool, False outside the image


def shuffled_batches(n: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Yield batches of indices below `n` without end, every index once in each pass."""
    generator = torch.Generator().manual_seed(seed)
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < batch_size:
            queue = torch.cat([queue, torch.randperm(n, generator=generator)])
        batch, queue = queue[:batch_size], queue[batch_size:]
        yield batch


def labelled_images(
    data: Dataset, labelled: int | None, seed: int, subset: int | None = None, every: bool = False
) -> list[int]:
    """Return the sorted indices of the training images whose label maps a method uses.

    Args:
        data: Its training images without label maps are never chosen.
        labelled: How many are drawn; for one seed, fewer are a subset of more. None takes all.
        seed: Seed of the draw.
        subset: The line of camvid_subsets.txt to take instead.
        every: Take all training images instead.

    Raises:
        DataError: If there are not as many label maps.
    """
    names = data.train.names
    with_label = sorted(set(range(len(names))) - set(data.unlabelled))
    if every and data.unlabelled:
        raise DataError(
            f"--method full needs a label map of every training image, but {len(data.unlabelled)} of {len(names)} have "
            f"none, the first is {names[data.unlabelled[0]]}: leave full out of --method."
        )
    if every:
        return with_label
    if subset is not None:
        return listed_subset(names, subset)
    if labelled is None:
        return with_label
    if labelled > len(with_label):
        raise DataError(f"--labelled {labelled} is more than the {len(with_label)} training images with label maps.")
    chosen = torch.randperm(len(with_label), generator=torch.Generator().manual_seed(seed))[:labelled]
    return sorted(with_label[position] for position in chosen.tolist())


def listed_subset(names: tuple[str, ...], subset: int) -> list[int]:
    """Return the indices of the images on one line of camvid_subsets.txt, the same for everyone."""
    lines = [line.split() for line in SUBSETS.read_text().splitlines() if not line.startswith("#")]
    if not 0 <= subset < len(lines):
        raise DataError(f"--subset must be from 0 to {len(lines) - 1}, got {subset}.")
    missing = sorted(set(lines[subset]) - set(names))
    if missing:
        raise DataError(f"--subset {subset} needs CamVid's training frame {missing[0]}, which is not in the data.")
    return sorted(names.index(name) for name in lines[subset])


def recolour(strength: float) -> nn.Module:
    """Return a transform that changes the colours of four images in five (B, 3, H, W), each in its own way.

    Args:
        strength: Brightness, contrast and saturation change by factors from 1 - strength to 1 + strength, the hue by up
            to half of strength, in turns. 0.5 is usual for a student's view.
    """
    return K.ColorJitter(strength, strength, strength, strength / 2, p=0.8)


class Crops(TorchDataset[tuple[Tensor, Tensor]]):
    """Random crops of one size, from a split's images and label maps scaled at random."""

    def __init__(
        self, split: Split, chosen: Sequence[int], size: tuple[int, int], scale: tuple[float, float], labelled: bool
    ) -> None:
        """Serve the chosen images of a split.

        Args:
            split: Source of the images.
            chosen: Indices of the images.
            size: Height and width of the crops.
            scale: Range of the factor by which images are scaled first.
            labelled: Whether to read label maps; else labels in the image are 0.
        """
        self._split, self._chosen, self._size, self._scale, self._labelled = split, chosen, size, scale, labelled

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._chosen)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Return a crop (3, H, W) and its label map (H, W), both uint8; VOID outside the image.

        Args:
            key: Number of the chosen image; seed and position in the stream, which set scale and crop.
        """
        which, *randomness = key
        index = self._chosen[which]
        image = self._split.image(index)
        label = self._split.label(index) if self._labelled else torch.zeros(image.shape[1:], dtype=torch.uint8)
        if self._scale == (1, 1) and image.shape[1:] == self._size:
            return image, label
        rng = np.random.default_rng(randomness)
        factor = rng.uniform(*self._scale)
        if factor != 1:
            sides = [max(1, round(side * factor)) for side in label.shape]
            image = resize(image, sides, antialias=True)
            label = resize(label[None], sides, InterpolationMode.NEAREST_EXACT)[0]
        return self._cut(image, label, rng)

    def _cut(self, image: Tensor, label: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cut a window at random; an image smaller than the window lies somewhere in it."""
        taken, filled = [], []  # rows and columns: in the image, in the window
        for side, cut in zip(label.shape, self._size, strict=True):
            start = int(rng.integers(min(0, side - cut), max(0, side - cut) + 1))
            taken.append(slice(max(0, start), min(side, start + cut)))
            filled.append(slice(max(0, -start), min(cut, side - start)))
        window = torch.tensor(GREY, dtype=torch.uint8).view(3, 1, 1).repeat(1, *self._size)
        labels = torch.full(self._size, VOID, dtype=torch.uint8)
        window[:, *filled] = image[:, *taken]
        labels[*filled] = label[*taken]
        return window, labels


class Batches:
    """Shuffled batches for one process, on its device, flipped and recoloured at random."""

    def __init__(
        self, crops: Crops, batch_size: int, seed: int, shard: Shard, workers: int = 0, colour: float = 0.0
    ) -> None:
        """Serve `batch_size` images at a time.

        Args:
            crops: Source of the images.
            batch_size: Images for this process; the global batch has `batch_size * world`.
            seed: Seed of order, scales and crops: the same on all processes.
            shard: The part of each global batch that this process takes, and its device.
            workers: Processes that read images ahead; 0 reads images on demand.
            colour: Strength of random changes of colour; 0 for none.
        """
        self.shard, self.drawn = shard, 0
        self._crops, self._batch_size, self._seed, self._workers = crops, batch_size, seed, workers
        self._coming: Iterator[list[Tensor]] | None = None
        changes = [K.RandomHorizontalFlip(), *([recolour(colour)] if colour else [])]
        self._augment = K.AugmentationSequential(*changes, data_keys=["input", "mask"])

    def state_dict(self) -> dict[str, int]:
        """Return the state for a checkpoint."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the number of batches in a state."""
        self.drawn, self._coming = state["drawn"], None

    def close(self) -> None:
        """Stop reading ahead."""
        self._coming = None

    def _keys(self) -> Iterator[list[tuple[int, int, int]]]:
        """Yield the keys of this process's images, one list for each batch."""
        world = self.shard.world * self._batch_size
        positions = count()
        for indices in shuffled_batches(len(self._crops), world, self._seed):
            keys = [(index, self._seed, next(positions)) for index in indices.tolist()]
            yield keys[self.shard.rank :: self.shard.world]

    def _load(self) -> Iterator[list[Tensor]]:
        loader = DataLoader(
            self._crops,
            batch_sampler=islice(self._keys(), self.drawn, None),
            num_workers=self._workers,
            pin_memory=self.shard.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from the masks' generator
        )
        return iter(loader)

    def draw(self) -> LabelledBatch:
        """Return images and label maps."""
        if self._coming is None:
            self._coming = self._load()
        images, labels = (part.to(self.shard.device, non_blocking=True).float() for part in next(self._coming))
        self.drawn += 1
        images, labels = self._augment(images / 255, labels[:, None])
        return LabelledBatch(images.contiguous(memory_format=torch.channels_last), labels[:, 0].long())

    def draw_unlabelled(self) -> UnlabelledBatch:
        """Return images, and which pixels are inside them."""
        images, labels = self.draw()
        return UnlabelledBatch(images, labels[:, None] != VOID)
