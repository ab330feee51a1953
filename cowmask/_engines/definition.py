"""What a cow mask is (French et al. 2019, Listing 1). Every engine computes this; coarse only in distribution.

    field = blur(noise, sigma)                                            taps, mirrored
    mask  = field - mean > sqrt(2) * erfinv(1 - 2 * proportion) * std     thresholds, write_thresholded

The blur is `scipy.ndimage.gaussian_filter`. Taps end at four sigmas. Borders mirror the image with the edge pixel
repeated (mode "reflect": d c b a | a b c d | d c b a).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

TRUNCATE = 4.0  # sigmas at which the taps end: scipy's default, which Listing 1 uses
DrawNoise = Callable[[Sequence[int]], Tensor]  # draws standard normal numbers of a shape


class Batch(NamedTuple):
    """The cow masks of one call: everything an engine needs, already checked. (A dataclass is slower to make.)"""

    size: tuple[int, ...]
    spacing: Sequence[float]
    sigma: Tensor  # (n,), in units of the spacing
    bounds_in_pixels: Sequence[tuple[float, float]]  # of sigma along each axis; known without waiting for a device
    proportion: Tensor | None  # (n,); None means one half for all masks, whose threshold is zero
    noise: Tensor | None  # (n, 1, *size); None means that the engine draws its own
    draw_noise: DrawNoise

    def rows(self, rows: slice | Tensor) -> "Batch":
        """Return some of the masks. The bounds stay those of the whole batch."""
        proportion, noise = (x if x is None else x[rows] for x in (self.proportion, self.noise))
        return self._replace(sigma=self.sigma[rows], proportion=proportion, noise=noise)


def given_noise(noise: Tensor) -> Tensor:
    """Return noise (n, 1, *size) as float32 (n, *size). Constant noise becomes 0, of which a blur leaves exactly 0."""
    noise = noise[:, 0].float()
    low, high = noise.flatten(1).aminmax(dim=1)
    return noise * (low < high).view(-1, *[1] * (noise.ndim - 1))


def taps(sigma: Tensor, count: int) -> Tensor:
    """Return the unnormalised weights of blurs by `sigma` (n,) pixels at distances 0 to `count` - 1, (n, count).

    Each row is cut at its own radius.
    """
    distance = torch.arange(count, device=sigma.device, dtype=sigma.dtype)
    sigma = sigma[:, None]
    weights = distance / sigma
    weights = weights.square_().mul_(-0.5).exp_()  # (n, count)
    return weights.mul_(distance <= (TRUNCATE * sigma + 0.5))


def n_taps(sigma: float) -> int:
    """Return a `count` for `taps` that is enough for any sigma up to this one."""
    # One more than scipy's rule: `taps` cuts each row in float32, and its result must not depend on this count.
    return math.floor(TRUNCATE * sigma + 0.5) + 2


def mirrored(length: int, start: int, stop: int, device: torch.device) -> Tensor:
    """Return the pixel at each position from `start` to `stop` - 1 of an axis that is mirrored without end."""
    position = torch.arange(start, stop, device=device) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)


def acts_as_gaussian(size: Sequence[int], bounds_in_pixels: Sequence[tuple[float, float]]) -> bool:
    """Tell whether the blur by any sigma within the bounds, one pair per axis, is as good as a true Gaussian.

    Below one pixel, the pixels show. Above half an axis, the end of the taps shows.
    """
    return all(low >= 1 and 2 * high <= length for length, (low, high) in zip(size, bounds_in_pixels, strict=True))


def thresholds(std: Tensor, proportion: Tensor) -> Tensor:
    """Return the level that a fraction `proportion` of a zero-mean Gaussian field of `std` exceeds, for (n,) fields."""
    # -ndtri(p) = sqrt(2) erfinv(1 - 2p). The infinities of ndtri at 0 and 1 are set directly, since inf * 0 is NaN.
    threshold = -torch.special.ndtri(proportion) * std
    threshold = threshold.masked_fill(proportion <= 0, math.inf)
    return threshold.masked_fill(proportion >= 1, -math.inf)


def write_thresholded(out: Tensor, field: Tensor, threshold: Tensor | float = 0.0) -> None:
    """Write into the bool tensor `out` where the field exceeds the threshold. The field is overwritten."""
    if field.device.type != "cpu":
        torch.gt(field, threshold, out=out)
    elif isinstance(threshold, float) and threshold == 0:
        out.copy_(field.relu_())  # bool(relu(x)) is x > 0; on a CPU, gt straight to bool takes three times as long
    else:
        out.copy_(field.gt_(threshold))
