"""The last of the spectral method's products, with the threshold in its epilogue: the field never reaches memory."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = (64, 64)  # rows of the upper half, and columns, of a program
PAIRS = 32  # frequencies of each parity at a time
ALIGNED = 16  # elements, so that loads are as wide as they can be


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


def launch_draw(out: Tensor, basis: Tensor, lines: Tensor, threshold: Tensor, n_rows: Tensor) -> None:
    """Write bool masks `out` (n, *size), True where fields exceed their thresholds.

    Args:
        out: Bool, contiguous.
        basis: Even and odd cosines of the upper half of the first axis, (2, half, pairs); pairs a multiple of PAIRS.
        lines: What the cosines are multiplied by, (n, count, *line), of the same dtype, float16 or float32.
        threshold: (n,) float32.
        n_rows: How many of the `count` rows of each of the lines to read, int32 (n,); the rest is zero.
    """
    n, height, width, count = len(out), out.shape[1], math.prod(out.shape[2:]), lines.shape[1]
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
            n_rows,
            height,
            width,
            half,
            pairs,
            count,
            lines[0, 0].numel(),  # not `width`: there may be columns of zeros
            precision="ieee" if lines.dtype == torch.float32 else "tf32",
            block_h=block_h,
            block_w=block_w,
            block_k=PAIRS,
            num_warps=4,
            num_stages=3,
        )
