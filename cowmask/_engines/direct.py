"""The direct engine: blur white noise along each axis by a Gaussian, as the paper words it. Plain torch.

The kernel may be far wider than the image.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cowmask._engines.definition import Batch, given_noise, mirrored, n_taps, taps, thresholds, write_thresholded

# Larger batches are split, down to one mask. A CPU is twice as fast inside its cache.
_NUMBERS_AT_ONCE_CPU, _NUMBERS_AT_ONCE = 2**20, 2**26


def draw(out: Tensor, batch: Batch) -> None:
    """Write bool masks (n, *size)."""
    noise = batch.draw_noise(out.shape) if batch.noise is None else given_noise(batch.noise).to(out.device)
    kernels = [
        taps(batch.sigma / step, n_taps(high))
        for step, (_, high) in zip(batch.spacing, batch.bounds_in_pixels, strict=True)
    ]
    dims = tuple(range(1, out.ndim))
    at_once = _masks_at_once(batch, out.device)
    for start in range(0, len(out), at_once):
        rows = slice(start, start + at_once)
        # Taken out first, since the blur keeps the mean, which would drown a field that hardly varies.
        field = noise[rows] - noise[rows].mean(dims, keepdim=True)
        for axis, kernel in zip(dims, kernels, strict=True):
            field = blur(field, kernel[rows], axis)
        threshold: Tensor | float = 0.0
        if batch.proportion is not None:
            std = field.square().mean(dims).sqrt()
            threshold = thresholds(std, batch.proportion[rows]).view(-1, *[1] * len(dims))
        write_thresholded(out[rows], field, threshold)


def blur(x: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Convolve axis `axis` >= 1 of x (n, *size) with one kernel per row, given as its taps (n, count)."""
    # A convolution with a kernel per mask is slow; a batched product is fast everywhere. So each kernel becomes a band
    # matrix, and the axis is cut into blocks.
    n, length = len(x), x.shape[axis]
    # 1. The whole kernels, of sum 1.
    kernel = _both_sides(_fold(weights, length))  # (n, 2 * reach + 1)
    kernel /= kernel.sum(1, keepdim=True)
    # 2. Column j of the band matrix is the kernel, j places further down.
    reach = kernel.shape[1] // 2
    block = _block(x[0].numel() // length, length, reach)
    padded = torch.nn.functional.pad(kernel, (block - 1, block - 1))
    band = padded.unfold(1, block, 1).flip(2)  # (n, 2 reach + block, block)
    # 3. The mirrored axis, cut into blocks that overlap by 2 * reach.
    n_blocks = math.ceil(length / block)
    index = mirrored(length, -reach, n_blocks * block + reach, x.device)
    lines = x.movedim(axis, -1)[..., index].unfold(-1, 2 * reach + block, block)  # (n, ..., n_blocks, 2 reach + block)
    # 4. The products; the last block may reach beyond the axis.
    blurred = lines.reshape(n, -1, 2 * reach + block) @ band  # (n, ..., block)
    return blurred.view(*lines.shape[:-2], -1)[..., :length].movedim(-1, axis)


def cost(size: Sequence[int], bounds_in_pixels: Sequence[tuple[float, float]]) -> float:
    """Return about how many ns a pixel takes, for sigmas within these bounds along each axis, in pixels.

    Fitted to 60 sizes and sigmas on two CPU cores. Only the comparison with `spectral.cost` means anything.
    """
    return sum(4 + 0.035 * (2 * reach + block) for reach, block in _reaches_and_blocks(size, bounds_in_pixels))


def _masks_at_once(batch: Batch, device: torch.device) -> int:
    pixels = math.prod(batch.size)
    # What is held at once, at its largest: the overlapping blocks of an axis, and the band matrix.
    held = max(
        (2 * reach + block) * (pixels // block + block)
        for reach, block in _reaches_and_blocks(batch.size, batch.bounds_in_pixels)
    )
    return max(1, (_NUMBERS_AT_ONCE_CPU if device.type == "cpu" else _NUMBERS_AT_ONCE) // held)


def _reaches_and_blocks(size: Sequence[int], bounds_in_pixels: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Return, for each axis, the reach of the widest kernel and the pixels of a block."""
    reaches = [min(n_taps(high) - 1, length) for (_, high), length in zip(bounds_in_pixels, size, strict=True)]
    pixels = math.prod(size)
    return [(reach, _block(pixels // length, length, reach)) for length, reach in zip(size, reaches, strict=True)]


def _block(lines: int, length: int, reach: int) -> int:
    """Return how many pixels of a line to compute by one product, so that few pixels are copied twice."""
    return min(length, max(64, min(reach, lines)))


def _fold(weights: Tensor, length: int) -> Tensor:
    """Fold taps to at most length + 1 with the same effect on a mirrored axis, which repeats every 2 * length."""
    if weights.shape[1] <= length + 1:
        return weights
    distance = torch.arange(weights.shape[1], device=weights.device) % (2 * length)
    distance = torch.minimum(distance, 2 * length - distance)
    centre, side = weights[:, :1], 2 * weights[:, 1:]
    folded = weights.new_zeros(len(weights), length + 1).index_add_(1, distance, torch.cat((centre, side), 1))
    folded[:, 1:] /= 2  # back to one side; the centre keeps what reached it from both
    return folded


def _both_sides(weights: Tensor) -> Tensor:
    """Return whole kernels (n, 2 * count - 1) of taps (n, count)."""
    return torch.cat((weights[:, 1:].flip(1), weights), 1)
