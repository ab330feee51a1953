"""Training on the images that are scored at the end, without their label maps."""

from dataclasses import replace

from torch import Tensor

from segmentation.data.datasets import Dataset, Split


class _Joined:
    """Two splits, one after the other."""

    def __init__(self, first: Split, second: Split) -> None:
        self.names = (*first.names, *second.names)
        self._places = [(split, index) for split in (first, second) for index in range(len(split.names))]

    def image(self, index: int) -> Tensor:
        split, within = self._places[index]
        return split.image(within)

    def check_image(self, index: int) -> None:
        split, within = self._places[index]
        split.check_image(within)

    def label(self, index: int, full: bool = False) -> Tensor:
        split, within = self._places[index]
        return split.label(within, full)


def with_scored_images(data: Dataset) -> Dataset:
    """Return the data set with its test images also among the training images, as ones without a label map."""
    train = _Joined(data.train, data.test)
    added = range(len(data.train.names), len(train.names))
    return replace(data, train=train, unlabelled=(*data.unlabelled, *added))
