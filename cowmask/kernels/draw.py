"""The last of the spectral method's products, with the threshold in its epilogue: the field never reaches memory."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from cowmask import _spectral

_TILE = (64, 64)  # rows of the upper half, and columns, of a program
_PAIRS = 32  # frequencies of each parity at a time
_ALIGNED = 16  # elements, so that loads are as wide as they can be


@triton.jit
def draw_kernel(
    out,
    basis,
    lines,
    threshold,
    alive,
    height,
    width,
    half,
    pairs,
    count,
    line,
    precision: tl.constexpr,
    block_h: tl.constexpr,
    block_w: tl.constexpr,
    block_k: tl.constexpr,
):
    """Compute `out[i] = basis @ lines[i] > threshold[i]` for a tile of rows of the upper half, and their mirror images.

    Of `lines` (n, count, line), only the first `alive[i]` rows are not zero. Cosines of even frequencies are even about
    the middle, those of odd ones odd: `basis` (2, half, pairs) holds both for the upper half of the rows, and the sum
    and the difference of their products are a row and its mirror image.
    """
    tiles_w = tl.cdiv(width, block_w)
    tiles_h = tl.cdiv(half, block_h)
    program = tl.program_id(0)
    column = (program % tiles_w * block_w + tl.arange(0, block_w))[None, :]
    row = (program // tiles_w % tiles_h * block_h + tl.arange(0, block_h))[:, None]
    # In 64 bits, for masks of any size: indices before they are multiplied by strides.
    index = (program // (tiles_w * tiles_h)).to(tl.int64)

    lines += index * count * line + column
    even = tl.zeros((block_h, block_w), tl.float32)
    odd = tl.zeros((block_h, block_w), tl.float32)
    for start in range(0, (tl.load(alive + index) + 1) // 2, block_k):
        pair = start + tl.arange(0, block_k)
        cosine = basis + row * pairs + pair[None, :]
        frequency = 2 * pair[:, None]
        source = lines + frequency.to(tl.int64) * line
        even_cosine = tl.load(cosine, mask=row < half, other=0)
        odd_cosine = tl.load(cosine + half * pairs, mask=row < half, other=0)
        even_line = tl.load(source, mask=(frequency < count) & (column < line), other=0)
        odd_line = tl.load(source + line, mask=(frequency + 1 < count) & (column < line), other=0)
        even = tl.dot(even_cosine, even_line, even, input_precision=precision)
        odd = tl.dot(odd_cosine, odd_line, odd, input_precision=precision)

    limit = tl.load(threshold + index)
    out += index * height * width + column
    upper = (even + odd > limit).to(tl.uint8)
    lower = (even - odd > limit).to(tl.uint8)
    tl.store(out + row.to(tl.int64) * width, upper, mask=(row < half) & (column < width))
    mirrored = (height - 1 - row).to(tl.int64)
    tl.store(out + mirrored * width, lower, mask=(row < height // 2) & (column < width))


def of_unit_variance(coefficients: Tensor, std: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return coefficients (n, *counts) scaled to fields of std 1, and that std (n,): 0 if they are all 0.

    Half precision then holds them, and their products with cosines, to 11 bits.
    """
    scale = std.clamp(min=torch.finfo(torch.float32).tiny).view(-1, *[1] * (coefficients.ndim - 1))
    return torch.div(coefficients, scale, out=torch.empty_like(coefficients, dtype=dtype)), (std > 0).to(std.dtype)


def masks(out: Tensor, coefficients: Tensor, threshold: Tensor, alive: Tensor, size: Sequence[int]) -> None:
    """Write bool masks (n, *size), True where the fields of coefficients (n, *counts) exceed a threshold (n,).

    The coefficients are float16 or float32, and zero from `alive` (n,) on along the first axis.
    """
    device, dtype, n = coefficients.device, coefficients.dtype, len(coefficients)
    height, width, count = size[0], math.prod(size[1:]), coefficients.shape[1]
    lines = _spectral.synthesise(coefficients, size, first=2, aligned=_ALIGNED if len(size) == 2 else 1)
    basis = _spectral.on(device, _upper_half, height, count, dtype)
    half, pairs = basis.shape[1:]
    block_h, block_w = (
        min(tile, max(16, triton.next_power_of_2(side))) for tile, side in zip(_TILE, (half, width), strict=True)
    )
    programs = n * triton.cdiv(half, block_h) * triton.cdiv(width, block_w)
    with torch.cuda.device_of(out):
        draw_kernel[(programs,)](
            out.view(torch.uint8),
            basis,
            lines,
            threshold,
            alive,
            height,
            width,
            half,
            pairs,
            count,
            lines[0, 0].numel(),  # not `width`: there may be columns of zeros
            precision="ieee" if dtype == torch.float32 else "tf32",
            block_h=block_h,
            block_w=block_w,
            block_k=_PAIRS,
            num_warps=4,
            num_stages=3,
        )


@lru_cache(maxsize=32)
def _upper_half(length: int, k: int, dtype: torch.dtype) -> Tensor:
    """Return even and odd DCT-II vectors for the upper half of an axis, (2, half, pairs), filled up with zeros."""
    upper = _spectral.dct_basis(length, k, torch.device("cpu"))[: (length + 1) // 2]
    upper = torch.nn.functional.pad(upper, (0, -k % (2 * _PAIRS)))
    return upper.unflatten(1, (-1, 2)).permute(2, 0, 1).to(dtype).contiguous()
