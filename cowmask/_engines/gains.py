"""The blur in its own basis: the gain of each coefficient, and how many coefficients count.

Coefficient k of an axis of N pixels has the gain `g(k) = sum_j w_j cos(pi k j / N)`, where w are the blur's taps. A
true Gaussian has the gain `exp(-(pi k sigma / N)^2 / 2)`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cowmask._engines.basis import cached_on, cosines
from cowmask._engines.definition import acts_as_gaussian, n_taps, taps
from cowmask._engines.tables import kept

# Gains below the cutoff count as zero.
CUTOFF_GIVEN_NOISE = 1e-3  # masks agree with the full blur's on 99.99% of the pixels (docs/agreement.md)
CUTOFF_DRAWN_NOISE = 1e-2  # the field loses 1 part in 10,000 of its variance
# Kept beyond the cutoff. The taps end, so no gain is zero, and a large sigma leaves little else.
GUARD_COEFFICIENTS = 4
_ANGLE_AT_CUTOFF = math.sqrt(2 * math.log(1 / CUTOFF_GIVEN_NOISE))  # sigma times angular frequency, rad


def n_coefficients(length: int, sigma: float, cutoff: float | None = None) -> int:
    """Return K, how many coefficients of an axis count, for a sigma of `sigma` pixels or more.

    `cutoff` is that of `gaussian_gains`; None is for `tap_gains`.
    """
    # Rounded up to steps, so that different sigmas share tables.
    if cutoff is not None:
        angle = math.sqrt(2 * math.log(1 / cutoff))
        return min(length, _round_up(math.floor(angle * length / (math.pi * sigma)) + 1, 4))
    # One more than needed: `is_kept` cuts each row in float32, and its result must not depend on K.
    last = math.floor(_ANGLE_AT_CUTOFF * length / (math.pi * sigma)) + GUARD_COEFFICIENTS
    return min(length, _round_up(last + 2, 8))


def gain_cutoff(size: Sequence[int], bounds_in_pixels: Sequence[tuple[float, float]]) -> float | None:
    """Return the gain below which drawn coefficients can be dropped, or None if the blur needs Listing 1's own taps."""
    if not acts_as_gaussian(size, bounds_in_pixels):
        return None
    # Where sigma is a large part of an axis, few coefficients are left and each matters: then the lower cutoff.
    few = any(4 * high > length for length, (_, high) in zip(size, bounds_in_pixels, strict=True))
    return CUTOFF_GIVEN_NOISE if few else CUTOFF_DRAWN_NOISE


def gaussian_gains(
    sigma: Tensor, cutoff: float, spacing: Sequence[float], size: Sequence[int], counts: Sequence[int]
) -> Tensor:
    """Return the gains of an untruncated Gaussian, (n, *counts), set to zero below the cutoff.

    `sigma` (n,) is in units of the spacing. Takes far fewer torch calls than `tap_gains`.
    """
    exponents = cached_on(sigma.device, _exponents, tuple(spacing), tuple(size), tuple(counts))
    gains = sigma.square().view(-1, *[1] * len(size)) * exponents
    return torch.threshold_(gains.exp_(), cutoff, 0.0)


@kept
def _exponents(spacing: tuple[float, ...], size: tuple[int, ...], counts: tuple[int, ...]) -> Tensor:
    """Return the logarithms of an untruncated Gaussian's gains for sigma 1, (*counts); that of the mean is -inf."""
    total = torch.zeros(1, device="cpu", dtype=torch.float64)
    for step, length, k in zip(spacing, size, counts, strict=True):
        frequency = torch.arange(k, device="cpu", dtype=torch.float64) * (math.pi / (length * step))
        total = total[..., None] - frequency**2 / 2
    total.view(-1)[0] = -math.inf
    return total[0].float()


def tap_gains(
    sigma: Tensor, largest: Sequence[float], spacing: Sequence[float], size: Sequence[int], counts: Sequence[int]
) -> Tensor:
    """Return the gains of Listing 1's own taps, (n, *counts); that of the mean is zero.

    `sigma` (n,) is in units of the spacing, and `largest` bounds it along each axis in pixels.
    """
    # Axes that are alike share their gains: on a GPU a small call costs more than its arithmetic.
    gains_of: dict[tuple[Any, ...], Tensor] = {}
    product = torch.ones((), device=sigma.device)
    for axis, alike in enumerate(zip(spacing, largest, size, counts, strict=True)):
        if alike not in gains_of:
            step, high, length, k = alike
            gains_of[alike] = tap_gains_of_axis(sigma / step, high, length, k)
        product = product.unsqueeze(-1) * gains_of[alike].view(len(sigma), *[1] * axis, -1)
    product.flatten(1).select(1, 0).zero_()  # writes into a view
    return product


def tap_gains_of_axis(sigma: Tensor, largest: float, length: int, k: int) -> Tensor:
    """Return the gains (n, k) along one axis of blurs by `sigma` (n,) up to `largest` pixels, each cut at its own K."""
    count = _round_up(n_taps(largest), 32)  # in steps, so that different sigmas share tables
    gains = taps(sigma, count) @ cached_on(sigma.device, _tap_cosines, length, k, count)  # (n, k)
    return gains.div_(gains[:, :1].clone()).mul_(is_kept(sigma, length, k))  # the taps then sum to 1


@kept
def _tap_cosines(length: int, k: int, count: int) -> Tensor:
    """Return what the taps at distance j, one on each side, add to the gain of coefficient l, (count, k) float32."""
    table = 2 * cosines(range(count), range(k), length)
    table[0] /= 2  # the centre is one tap
    return table.float()


def is_kept(sigma: Tensor, length: int, k: int) -> Tensor:
    """Return which of the lowest `k` coefficients of an axis count for each sigma (n,) in pixels, bool (n, k)."""
    frequency = torch.arange(k, device=sigma.device, dtype=sigma.dtype)
    return (frequency - GUARD_COEFFICIENTS) * sigma[:, None] <= _ANGLE_AT_CUTOFF / math.pi * length


def n_rows_kept(gains: Tensor) -> Tensor:
    """Return how many rows along the first axis of the gains (n, *counts) may be other than zero, int32 (n,)."""
    rows = (gains.view(*gains.shape[:2], -1) != 0).any(2)
    return 1 + rows[:, 1:].sum(1, dtype=torch.int32)  # row 0 always counts, even if it holds only the mean's zero


def _round_up(value: int, step: int) -> int:
    return math.ceil(value / step) * step
