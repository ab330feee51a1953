"""Masks that are constant over each image, of a symmetric Beta distribution, drawn in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from cowmask.kernels.counters import direction, log_uniform

_BLOCK = 128


@triton.jit(do_not_specialize=["n"])
def constants_kernel(out_ptr, seed_ptr, n, alpha, BLOCK: tl.constexpr):
    """Write Beta(alpha, alpha) numbers.

    Args:
        out_ptr: Numbers (n,), float32.
        seed_ptr: One int64.
        n: How many.
        alpha: Above 0.
        BLOCK: Numbers of a program.
    """
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    word = index.to(tl.uint32)
    a, b, c, d = tl.philox(tl.load(seed_ptr), word * 0, word * 0, word * 0, word)
    # Beta(alpha + 1, alpha + 1) by Ulrich 1984: (1 + rho) / 2, without rejection.
    log_square = log_uniform(a) / (alpha + 0.5)
    # 1 - exp(x), also where x is small.
    square = tl.where(
        log_square > -1e-2, -log_square * (1 + log_square * (0.5 + log_square / 6)), 1 - tl.exp(log_square)
    )
    cosine, _ = direction(b)
    rho = tl.sqrt(square) * cosine
    # That is X / (X + Y) of Gamma(alpha + 1) numbers. Times uniform^(1 / alpha), those are Gamma(alpha) numbers.
    # The weight is kept as a logit, since the powers underflow for a small alpha.
    logit = tl.log((1 + rho) / (1 - rho)) + (log_uniform(c) - log_uniform(d)) / alpha
    small = tl.exp(-tl.abs(logit))  # never overflows
    tl.store(out_ptr + index, tl.where(logit > 0, 1.0, small) / (1 + small), mask=index < n)


def launch_constants(out: Tensor, seed: Tensor, alpha: float) -> None:
    """Fill float32 `out` (n,) with Beta(alpha, alpha) numbers of the seed, one int64 on the device."""
    n = out.shape[0]
    with torch.cuda.device_of(out):
        constants_kernel[(-(-n // _BLOCK),)](out, seed, n, alpha, BLOCK=_BLOCK)
