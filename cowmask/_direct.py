"""The cow mask filter as the paper words it: white noise, blurred along each axis by a Gaussian. Plain torch.

The blur is `scipy.ndimage.gaussian_filter`'s (mode "reflect", which mirrors with the edge pixel repeated:
d c b a | a b c d | d c b a), for kernels of any width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

TRUNCATE = 4.0  # the taps end here, in sigmas: scipy's default, which Listing 1 uses
# Numbers held at once, if one mask needs no more: larger batches go in parts. A CPU is twice as fast inside its cache.
_WORKSPACE_CPU, _WORKSPACE = 2**20, 2**26


def n_taps(sigma: float) -> int:
    """Return how many distances from the centre, 0 included, hold the kernels of any sigma up to this one."""
    # One more than scipy's rule: no row's own cut, made on the device in float32, can then depend on this.
    return math.floor(TRUNCATE * sigma + 0.5) + 2


def taps(sigma: Tensor, count: int) -> Tensor:
    """Return the weights at distances 0 to `count` - 1 of blurs of `sigma` (n,) pixels, (n, count); the first is 1.

    Each row is cut at its own radius.
    """
    distance = torch.arange(count, device=sigma.device, dtype=sigma.dtype)
    sigma = sigma[:, None]
    weights = distance / sigma
    weights = weights.square_().mul_(-0.5).exp_()  # (n, count)
    return weights.mul_(distance <= (TRUNCATE * sigma + 0.5))


def thresholds(std: Tensor, proportion: Tensor) -> Tensor:
    """Return the thresholds (n,) above which `proportion` (n,) of zero-mean Gaussian fields of `std` (n,) lies."""
    # -ndtri(p) = sqrt(2) erfinv(1 - 2p). Its infinities at 0 and 1 are set directly, since inf * 0 is not a threshold.
    threshold = -torch.special.ndtri(proportion) * std
    threshold = threshold.masked_fill(proportion <= 0, math.inf)
    return threshold.masked_fill(proportion >= 1, -math.inf)


def is_gaussian(size: Sequence[int], in_pixels: Sequence[tuple[float, float]]) -> bool:
    """Tell whether a blur by any sigma between these ends, along each axis in pixels, is as good as a Gaussian's.

    Below a pixel it differs from that of a continuous field; above half an axis, what is left is what the taps' end and
    rounding add.
    """
    return all(low >= 1 and 2 * high <= length for length, (low, high) in zip(size, in_pixels, strict=True))


def write_above(out: Tensor, field: Tensor, threshold: Tensor | float = 0.0) -> None:
    """Write into a bool tensor where a field exceeds a threshold; the field is lost."""
    if field.device.type != "cpu":
        torch.gt(field, threshold, out=out)
    elif isinstance(threshold, float) and threshold == 0:
        out.copy_(field.relu_())  # torch is three times faster by way of floats than straight to bool
    else:
        out.copy_(field.gt_(threshold))


def cost(size: Sequence[int], largest: Sequence[float]) -> float:
    """Return about how many ns a pixel takes, for sigmas (pixels) up to `largest` along each axis.

    Fitted to 60 sizes and sigmas on two CPU cores: only the comparison with the other method's cost means anything.
    """
    return sum(4 + 0.035 * (2 * reach + block) for reach, block in _blocks(size, largest))


def masks(
    out: Tensor, noise: Tensor, sigmas: Sequence[Tensor], largest: Sequence[float], proportion: Tensor | None
) -> None:
    """Write the bool masks of noise, both (n, *size).

    `sigmas` holds sigma (n,) along each axis in pixels, and `largest` a bound of it. No proportion (n,) is one half.
    """
    size = noise.shape[1:]
    weights = [taps(sigma, n_taps(bound)) for sigma, bound in zip(sigmas, largest, strict=True)]
    # The largest of what is held at once: blocks of lines that overlap, and the band matrix they are multiplied by.
    held = max((2 * reach + block) * (size.numel() // block + block) for reach, block in _blocks(size, largest))
    at_once = max(1, (_WORKSPACE_CPU if noise.device.type == "cpu" else _WORKSPACE) // held)
    dims = tuple(range(1, noise.ndim))
    for start in range(0, len(out), at_once):
        rows = slice(start, start + at_once)
        # The blur keeps the mean. Taken out first, it does not drown a field that hardly varies.
        field = noise[rows] - noise[rows].mean(dims, keepdim=True)
        for axis, kernel in zip(dims, weights, strict=True):
            field = blur(field, kernel[rows], axis)
        threshold: Tensor | float = 0.0
        if proportion is not None:
            threshold = thresholds(field.square().mean(dims).sqrt(), proportion[rows]).view(-1, *[1] * len(dims))
        write_above(out[rows], field, threshold)


def blur(x: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Convolve axis `axis` >= 1 of x (n, *size) with a kernel for each of the n, given as its taps (n, count)."""
    # A band matrix for each of the n, times blocks of the mirrored axis that overlap: a batched product is fast
    # everywhere, where a convolution with a kernel per mask is not.
    n, length = len(x), x.shape[axis]
    kernel = _both_sides(_fold(weights, length))  # (n, 2 * reach + 1)
    kernel /= kernel.sum(1, keepdim=True)
    reach = kernel.shape[1] // 2
    block = _block(x[0].numel() // length, length, reach)
    n_blocks = math.ceil(length / block)
    band = torch.nn.functional.pad(kernel, (block - 1, block - 1)).unfold(1, block, 1).flip(2)
    source = mirrored(length, -reach, n_blocks * block + reach, x.device)
    lines = x.movedim(axis, -1)[..., source].unfold(-1, 2 * reach + block, block)  # (n, ..., n_blocks, 2 reach + block)
    blurred = lines.reshape(n, -1, 2 * reach + block) @ band  # (n, ..., block)
    return blurred.view(*lines.shape[:-2], -1)[..., :length].movedim(-1, axis)


def _blocks(size: Sequence[int], largest: Sequence[float]) -> list[tuple[int, int]]:
    """Return the reach of the kernel, and the block, along each axis."""
    reaches = [min(n_taps(sigma) - 1, length) for sigma, length in zip(largest, size, strict=True)]
    pixels = math.prod(size)
    return [(reach, _block(pixels // length, length, reach)) for length, reach in zip(size, reaches, strict=True)]


def _block(lines: int, length: int, reach: int) -> int:
    """Return how many pixels of a line to compute by one product: few copies of the pixels, and a small band matrix."""
    return min(length, max(64, min(reach, lines)))


def mirrored(length: int, start: int, stop: int, device: torch.device) -> Tensor:
    """Return the pixel at each of the positions from start to stop - 1 of an axis that is mirrored for ever."""
    position = torch.arange(start, stop, device=device) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)


def _fold(weights: Tensor, length: int) -> Tensor:
    """Return taps (n, at most length + 1) of the same effect: mirrored, an axis repeats after twice its length."""
    if weights.shape[1] <= length + 1:
        return weights
    distance = torch.arange(weights.shape[1], device=weights.device) % (2 * length)
    distance = torch.minimum(distance, 2 * length - distance)
    centre, side = weights[:, :1], 2 * weights[:, 1:]
    folded = weights.new_zeros(len(weights), length + 1).index_add_(1, distance, torch.cat((centre, side), 1))
    folded[:, 1:] /= 2  # what came to the centre came from both sides
    return folded


def _both_sides(weights: Tensor) -> Tensor:
    """Return whole kernels (n, 2 * count - 1) of taps (n, count)."""
    return torch.cat((weights[:, 1:].flip(1), weights), 1)
