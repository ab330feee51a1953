"""Check numbers, ranges, sizes, dtypes and devices."""

import math
import numbers
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from cowmask import _subclasses
from cowmask._operators import in_torch_func, operator

# A number, a (low, high) range, or a CPU tensor (n,) of per-mask values.
Values = float | tuple[float, float] | list[float] | Tensor

# `Values` after `values` has checked them: (low, high), the range to draw from, and None; or anything and a tensor (n,)
# float32. A compiler cannot read the tensor's values. So `bounds` checks them later, inside the operator that draws.
RangeAndValues = tuple[tuple[float, float], Tensor | None]


@dataclass(frozen=True)
class Interval:
    """Where an argument's values must lie: from `low` to `high`, both included unless `open_low`."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}" if self.low > -math.inf else ""
        high = f"at most {self.high:g}" if self.high < math.inf else ""
        limits = " and ".join(limit for limit in (low, high) if limit)
        return f"finite, {limits}" if limits else "finite"

    def check(self, name: str, smallest: float, largest: float) -> None:
        above = smallest > self.low if self.open_low else smallest >= self.low
        # Worded so that NaN, which compares as False, is refused.
        if not (above and largest <= self.high and -math.inf < smallest and largest < math.inf):
            ends = (reprlib.repr(end) if isinstance(end, int) else f"{end:g}" for end in (smallest, largest))
            got = " to ".join(dict.fromkeys(ends))
            raise ValueError(f"{name} must be {self}, got {got}")


POSITIVE = Interval(0, open_low=True)
FRACTION = Interval(0, 1)
FILL = "a number, or a tensor that broadcasts, such as (C, 1, 1)"
LARGEST_COUNT = torch.iinfo(torch.int64).max  # that torch takes
DTYPES = (
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32),
    *(torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex32, torch.complex64, torch.complex128),
)
# In pixels. A smaller sigma changes nothing, and a larger one leaves nothing. Both would overflow somewhere.
SIGMA = Interval(1e-3, 1e4)


def is_number(value: object) -> bool:
    # The usual types come first: Real alone takes much longer.
    return isinstance(value, (float, int, numbers.Real)) and not isinstance(value, bool)


def is_integer(value: object) -> bool:
    return isinstance(value, (int, numbers.Integral, torch.SymInt)) and not isinstance(value, bool)


def number(name: str, value: Any, interval: Interval, what: str = "a number") -> float:
    if not is_number(value):
        raise TypeError(f"{name} must be {what}, got {describe(value)}")
    try:
        as_float = float(value)
    except OverflowError:
        as_float = math.inf
    interval.check(name, as_float, as_float)
    return as_float


def fill_value(name: str, value: Any, dtype: torch.dtype) -> float:
    """Check a number to fill a tensor of `dtype` with. Integer dtypes must hold it exactly."""
    value = int(value) if isinstance(value, bool) and dtype == torch.bool else value
    if dtype.is_floating_point or dtype.is_complex:
        limits = torch.finfo(dtype)
        return number(name, value, Interval(limits.min, limits.max), FILL)
    number(name, value, Interval(), FILL)
    whole = _as_int(value)  # never as a float, which holds integers up to 2^53
    if whole != value:
        raise ValueError(f"{name} must be a whole number for tensors of {dtype}, got {float(value):g}")
    interval = FRACTION if dtype == torch.bool else Interval(torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    interval.check(name, whole, whole)
    return whole


def positive_int(name: str, value: Any) -> int:
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer, got {describe(value)}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    if value > LARGEST_COUNT:
        raise ValueError(f"{name} must be below 2^63, got {reprlib.repr(value)}")
    return _as_int(value)


def _as_int(value: Any) -> int:
    # int() would turn a compiler's symbol into a constant.
    return cast(int, value) if isinstance(value, torch.SymInt) else int(value)


def image_size(size: Any) -> tuple[int, ...]:
    if not is_sequence(size):
        raise TypeError(f"size must be a tuple of 1 to 3 lengths in pixels, as (height, width), got {describe(size)}")
    if not 1 <= len(size) <= 3:
        raise ValueError(f"size must have 1 to 3 axes, got {len(size)}: {tuple(size)}")
    return tuple(positive_int(f"size[{axis}]", length) for axis, length in enumerate(size))


def values(name: str, value: Any, interval: Interval, n: int | None = None) -> RangeAndValues:
    """Check a number, a (low, high) range, or a CPU tensor of `n` values. `bounds` checks the tensor's values later."""
    if isinstance(value, Tensor):
        return (0.0, 0.0), _per_mask_values(name, tensor(name, value), n)
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(
                f"{name} as a range must be (low, high), got {len(value)} values: "
                "for one value per mask pass torch.tensor([...])"
            )
        low, high = (number(f"{name}[{end}]", item, interval) for end, item in enumerate(value))
        if low > high:
            raise ValueError(f"{name} as a range must be (low, high) with low <= high, got {value}")
        return (low, high), None
    if not is_number(value):
        raise TypeError(
            f"{name} must be a number, a (low, high) range or a CPU tensor of per-mask values, got {describe(value)}"
        )
    same = number(name, value, interval)
    return (same, same), None


def bounds(name: str, limits: Sequence[float], per_mask: Tensor | None, interval: Interval) -> tuple[float, float]:
    """Return the smallest and the largest value that can be drawn. The values of a tensor are checked here."""
    if per_mask is None:
        return limits[0], limits[1]
    low, high = per_mask.min().item(), per_mask.max().item()
    interval.check(name, low, high)
    return low, high


def spacing_per_axis(value: Any, dims: int | None = None) -> list[float]:
    """Check one number per axis. `dims` is None where the number of axes is not known yet."""
    if value is None:
        return [1.0] * (dims or 1)
    if not is_sequence(value):
        raise TypeError(f"spacing must be a tuple of one number per axis, got {describe(value)}")
    if len(value) != dims if dims is not None else not 1 <= len(value) <= 3:
        raise ValueError(f"spacing must have one number per axis: expected {dims or '1 to 3'}, got {len(value)}")
    return [number(f"spacing[{axis}]", item, POSITIVE) for axis, item in enumerate(value)]


def sigma_in_pixels(sigma: tuple[float, float], spacing: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return the bounds of sigma along each axis, in pixels, of bounds in units of the spacing."""
    in_pixels = tuple([(sigma[0] / step, sigma[1] / step) for step in spacing])
    for axis, (low, high) in enumerate(in_pixels):
        SIGMA.check("sigma" if spacing[axis] == 1 else f"sigma / spacing[{axis}], in pixels,", low, high)
    return in_pixels


# Of a transform, each with where its numbers must lie.
SETTINGS = {
    "sigma": POSITIVE,
    "proportion": FRACTION,
    "area": FRACTION,
    "aspect": POSITIVE,
    "alpha": POSITIVE,
    "p": FRACTION,
}


def setting(name: str, value: Any) -> float | list[float] | Tensor | None:
    """Check a setting of a transform. Return a number as a float, and a range as a list of floats.

    How many masks there will be is not known yet.
    """
    if name in ("sigma", "proportion", "area"):
        limits, per_mask = values(name, value, SETTINGS[name])
        bounds(name, limits, per_mask, SETTINGS[name])
        if per_mask is not None:
            return per_mask
        return limits[0] if is_number(value) else list(limits)
    return None if name == "aspect" and value is None else number(name, value, SETTINGS[name])


def fill_setting(value: Any) -> float | None:
    """Check the fill of a transform. Return a number as a float, or as an integer if a float would round it.

    The result is None for a tensor.
    """
    if isinstance(value, Tensor):
        tensor("fill", value)
        return None
    as_float = number("fill", value, Interval(), FILL)
    exact = _as_int(value) if is_integer(value) else as_float
    return as_float if as_float == exact else exact


def cow_settings(sigma: Any, spacing: Any) -> None:
    """Check what `CowMix` and `CowOut` hold. How many masks and axes there will be is not known yet."""
    sigma_in_pixels(bounds("sigma", *values("sigma", sigma, POSITIVE), POSITIVE), spacing_per_axis(spacing))


def box_settings(n_boxes: Any, clip: Any) -> None:
    """Check what `CutMix` and `CutOut` hold."""
    positive_int("n_boxes", n_boxes)
    flag("clip", clip)


def spatial_axes(value: Any) -> int:
    if is_integer(value) and 1 <= value <= 3:
        return int(value)
    raise ValueError(f"ndim must be 1 (signals), 2 (images) or 3 (volumes), got {describe(value)}")


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {describe(value)}")
    return value


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        *others, last = (f'"{one}"' for one in choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {describe(value)}")
    return value


def noise(value: Any, shape: tuple[int, ...]) -> Tensor | None:
    if value is None:
        return None
    if not tensor("noise", value).dtype.is_floating_point:
        raise TypeError(f"noise must be a floating tensor, got {describe(value)}")
    if value.shape != shape:
        raise ValueError(f"noise must have shape (n, 1, *size) = {shape}, got {tuple(value.shape)}")
    return _subclasses.plain(value).detach()  # else torch would give the masks the noise's type


def draw_device(generator: Any, device: Any, noise: Tensor | None = None) -> torch.device:
    """Return where to draw: on `device` if given, else where the noise is, else the generator, else torch's default."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {describe(generator)}")
    if device is not None:
        target = _device(device)
    elif noise is not None:
        target = noise.device
    else:
        # Not torch.get_default_device(), which Dynamo cannot trace.
        target = generator.device if generator is not None else torch.empty(0).device
    for name, source in (("generator", generator), ("noise", noise)):
        if source is not None and source.device.type != target.type:
            raise ValueError(
                f"{name} is on {source.device}, but the masks are drawn on {target}: "
                f"make it with device={str(target)!r}"
            )
    return target


def _device(device: Any) -> torch.device:
    try:
        return torch.device(device)
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f'device must be a torch.device or a string such as "cuda:0", got {describe(device)}'
        ) from error


def mask_dtype(dtype: Any) -> torch.dtype:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {describe(dtype)}")
    if dtype not in (torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.bool or floating of 16 to 64 bits, got {dtype}")
    return dtype


def tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {describe(value)}")
    if value.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got a nested one: try {name}.to_padded_tensor(0)")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {value.layout}: try {name}.to_dense()")
    if _subclasses.is_wrapper(value):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a plain tensor, got {kind}: pass the tensor in it, of a DTensor .to_local()")
    if value.dtype not in DTYPES:  # quantised, float8, and others for which torch has storage but no arithmetic
        hint = "dequantize" if value.is_quantized else "float"
        raise TypeError(f"{name} must be of a dtype that torch computes with, got {value.dtype}: try {name}.{hint}()")
    return value


def unit_range(x: Tensor, name: str, hint: str) -> None:
    """Check that a tensor's values are in [0, 1], with some tolerance. On a GPU, and inside torch.func, do nothing."""
    if not in_torch_func():
        _unit_range(x.detach(), name, hint)


@operator("check_unit_range(Tensor x, str name, str hint) -> ()", lambda *_: None)
def _unit_range(x: Tensor, name: str, hint: str) -> None:
    # Values are read on a CPU only, where reading waits for nothing. As an operator, since a compiler cannot read them.
    if x.device.type == "cpu" and ((x < -0.01) | (x > 1.01)).any():  # 16-bit softmax exceeds 1 a little
        raise ValueError(f"{name} must be in [0, 1], got {x.min():g} to {x.max():g}: {hint}")


def _per_mask_values(name: str, value: Tensor, n: int | None) -> Tensor:
    if value.device.type != "cpu":
        # On the CPU, checking the values and choosing K from them waits for no device.
        raise ValueError(f"{name} as per-mask values must be a CPU tensor, got one on {value.device}: pass it as made")
    if value.ndim != 1 or not len(value):
        raise ValueError(
            f"{name} as per-mask values must have shape (n,), got {tuple(value.shape)}: "
            "for one value pass a plain number"
        )
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} as per-mask values must hold numbers, got {value.dtype}")
    if n is not None and len(value) != n:
        raise ValueError(f"{name} holds {len(value)} per-mask values, but {n} masks are asked for")
    return _subclasses.plain(value).detach().to(torch.float32)


def is_sequence(value: object) -> bool:
    return isinstance(value, (tuple, Sequence)) and not isinstance(value, (str, bytes, bytearray, memoryview))


def describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} {value.dtype}"
    return f"{type(value).__name__} {reprlib.repr(value)}"  # reprlib cuts it short before it is written out
