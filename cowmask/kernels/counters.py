"""What kernels that draw share: random numbers that are counted, and functions of them that are the same on any card.

A number depends on a seed and a counter of four words, by Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3"). So a mask depends on its seed and its index alone, and never on how programs share the work.
"""

import triton
import triton.language as tl
from torch import Tensor

Range = tuple[float, float, Tensor | None]  # low and high; or a value for each mask, (n,) float32 on the device
OF_A_MASK = tl.constexpr(0xFFFFFFFF)  # first word of the counter of what a mask has once
EIGHTH_OF_A_TURN = tl.constexpr(0.7853981633974483)  # rad


@triton.jit
def uniform(bits):
    """Turn uint32 into numbers in [0, 1), multiples of 2^-24."""
    return (bits >> 8).to(tl.float32) * 5.960464477539063e-08


@triton.jit
def sine(angle):
    """Compute the sine of an angle of at most an eighth of a turn, in rad, to 1e-7."""
    z = angle * angle
    return angle + angle * z * (-1.6666654611e-1 + z * (8.3321608736e-3 - z * 1.9515295891e-4))


@triton.jit
def cosine(angle):
    """Compute the cosine of an angle of at most an eighth of a turn, in rad, to 1e-7."""
    z = angle * angle
    return 1.0 - 0.5 * z + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5))


@triton.jit
def direction(turn):
    """Compute the cosine and the sine of uint32 that count from 0 to a whole turn."""
    # The first two bits are quarters of a turn. The others, signed, are what to turn further: at most an eighth.
    quarter = turn >> 30
    rest = (turn << 2).to(tl.int32, bitcast=True).to(tl.float32) * (EIGHTH_OF_A_TURN / 2147483648.0)
    along, across = cosine(rest), sine(rest)
    is_odd = (quarter & 1) != 0
    x, y = tl.where(is_odd, across, along), tl.where(is_odd, along, across)
    return tl.where(((quarter + 1) & 2) != 0, -x, x), tl.where((quarter & 2) != 0, -y, y)


@triton.jit
def log_uniform(bits):
    """Turn uint32 into logarithms of numbers in (0, 1]."""
    return tl.log(tl.minimum((bits.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 1.0))


@triton.jit
def normal_pair(bits, turn):
    """Turn two uint32 into two independent standard normal numbers (Box and Muller 1958)."""
    radius = tl.sqrt(-2.0 * log_uniform(bits))
    x, y = direction(turn)
    return radius * x, radius * y


@triton.jit
def upper_quantile(p):
    """Compute what a standard normal number exceeds with probability p: infinities at 0 and 1, and 0 at one half.

    By Giles 2010, "Approximating the erfinv function". Below 1e-8, p counts as 1e-8.
    """
    w = -tl.log(tl.maximum(4.0 * p * (1.0 - p), 4e-8))  # -log(1 - x^2) for x = 1 - 2p; the tail's polynomial ends there
    a = w - 2.5
    central = 2.81022636e-08
    central = central * a + 3.43273939e-07
    central = central * a - 3.5233877e-06
    central = central * a - 4.39150654e-06
    central = central * a + 0.00021858087
    central = central * a - 0.00125372503
    central = central * a - 0.00417768164
    central = central * a + 0.246640727
    central = central * a + 1.50140941
    b = tl.sqrt(w) - 3.0
    tail = -0.000200214257
    tail = tail * b + 0.000100950558
    tail = tail * b + 0.00134934322
    tail = tail * b - 0.00367342844
    tail = tail * b + 0.00573950773
    tail = tail * b - 0.0076224613
    tail = tail * b + 0.00943887047
    tail = tail * b + 1.00167406
    tail = tail * b + 2.83297682
    quantile = 1.4142135623730951 * (1.0 - 2.0 * p) * tl.where(w < 5.0, central, tail)
    quantile = tl.where(p <= 0.0, float("inf"), quantile)
    return tl.where(p >= 1.0, -float("inf"), quantile)
