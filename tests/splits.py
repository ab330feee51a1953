"""Splits of a data set, for tests."""

from collections.abc import Callable

import torch
from torch import Tensor

from segmentation.data.datasets import Dataset


class MadeSplit:
    """Images and label maps by functions of the index."""

    def __init__(
        self,
        n: int,
        image: Callable[[int], Tensor],
        label: Callable[[int], Tensor],
        full: Callable[[int], Tensor] | None = None,
    ) -> None:
        self.names = tuple(str(index) for index in range(n))
        self.image, self._label, self._full = image, label, full or label

    def check_image(self, index: int) -> None:
        self.image(index)

    def label(self, index: int, full: bool = False) -> Tensor:
        return (self._full if full else self._label)(index)


def numbered(n: int, size: tuple[int, int]) -> MadeSplit:
    """Return images of one colour, their number."""
    return MadeSplit(
        n,
        lambda index: torch.full((3, *size), index, dtype=torch.uint8),
        lambda index: torch.full(size, index % 4, dtype=torch.uint8),
    )


def assert_same(one: Dataset, other: Dataset) -> None:
    """Check that training and validation sets hold the same images and label maps under the same names."""
    assert one.unlabelled == other.unlabelled
    for a, b, unlabelled in ((one.train, other.train, one.unlabelled), (one.val, other.val, ())):
        assert a.names == b.names
        for index in range(len(a.names)):
            assert torch.equal(a.image(index), b.image(index))
            assert index in unlabelled or torch.equal(a.label(index), b.label(index))
