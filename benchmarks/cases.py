"""Cases: what a call draws or mixes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch


@dataclass(frozen=True)
class MaskCase:
    """A batch of masks to draw."""

    n: int = 64
    size: tuple[int, int] = (512, 512)
    sigma: tuple[float, float] = (4.0, 16.0)
    """Range of the log-uniform sigma, pixels."""
    dtype: torch.dtype = torch.bool

    def __str__(self) -> str:
        low, high = self.sigma
        size = "x".join(map(str, self.size))
        return f"{self.n} of {size}, sigma {low:g}-{high:g}, {str(self.dtype).removeprefix('torch.')}"

    @property
    def items(self) -> int:
        """Masks that one call draws."""
        return self.n

    @property
    def touched(self) -> int:
        """Bytes of the masks."""
        return self.n * math.prod(self.size) * self.dtype.itemsize


@dataclass(frozen=True)
class MixCase:
    """A batch of images to mix: three channels, bool masks of the default sigma."""

    batch: int = 16
    size: tuple[int, int] = (512, 512)
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        layout = ", channels last" if self.channels_last else ""
        return f"{self.batch}x3x{size}, {str(self.dtype).removeprefix('torch.')}{layout}"

    @property
    def items(self) -> int:
        """One: the time of a call is not divided."""
        return 1

    @property
    def mask_bytes(self) -> int:
        """Bytes of the masks, one a pixel."""
        return self.batch * math.prod(self.size)

    @property
    def image_bytes(self) -> int:
        """Bytes of one batch of images."""
        return 3 * self.mask_bytes * self.dtype.itemsize

    @property
    def touched(self) -> int:
        """Bytes of two batches of images, their masks and the output."""
        return 3 * self.image_bytes + self.mask_bytes

    @property
    def moved(self) -> dict[str, float]:
        """Bytes that each candidate has to move at least."""
        images, mask = self.image_bytes, self.mask_bytes
        return {
            "copy": 2 * images,
            "torch.where": 3 * images + mask,  # reads both batches
            "torch.where, out=": 3 * images + mask,
            "torch.where, whole mask": 3 * images + 3 * mask,  # a byte for each element, not for each pixel
            "mix": 2 * images + mask,  # reads only the pixels it selects
            "CowMix, mask=": 2 * images + mask,
            "CowMix": 2 * images + 2 * mask,
            "torch.where, 0": 2 * images + mask,
            "erase": 1.5 * images + mask,  # half of the image is kept
        }


Case = MaskCase | MixCase
C = TypeVar("C", bound=Case)


def one_axis_at_a_time(main: C, **axes: Sequence[Any]) -> list[C]:
    """Return the main case, then a variant of it for each value of each named field."""
    return [main, *(replace(main, **{field: value}) for field, values in axes.items() for value in values)]
