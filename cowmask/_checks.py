"""Argument validation. Everything is checked before anything is drawn: errors name what was expected and what came."""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

Values = float | tuple[float, float] | Tensor  # a number, a (low, high) range, or a CPU tensor (n,) of per-mask values


# A checked `Values`: the two ends of the range to draw from, or none and a tensor (n,) float32. The values in a tensor
# are not read before `ends` does so, inside the operator that draws: a compiler cannot read them.
Checked = tuple[list[float], Tensor | None]


@dataclass(frozen=True)
class Bounds:
    """What an argument's values must lie in; the ends belong to it unless `open_low`."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}" if self.low > -math.inf else ""
        high = f"at most {self.high:g}" if self.high < math.inf else ""
        return ", ".join(part for part in ("finite", " and ".join(bound for bound in (low, high) if bound)) if part)

    def check(self, name: str, smallest: float, largest: float | None = None) -> None:
        largest = smallest if largest is None else largest
        above = smallest > self.low if self.open_low else smallest >= self.low
        if not (above and largest <= self.high and -math.inf < smallest and largest < math.inf):  # NaN is refused too
            came = f"{smallest:g}" if smallest == largest else f"{smallest:g} to {largest:g}"
            raise ValueError(f"{name} must be {self}, got {came}")


POSITIVE = Bounds(0, open_low=True)
FRACTION = Bounds(0, 1)
# A smaller sigma (pixels) changes nothing, a larger one blurs all to nothing; both would overflow somewhere.
SIGMA = Bounds(1e-3, 1e4)


def is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def number(name: str, value: Any, bounds: Bounds) -> float:
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {_describe(value)}")
    bounds.check(name, float(value))
    return float(value)


def fits(name: str, value: Any, dtype: torch.dtype) -> float:
    """Check a number that a tensor of `dtype` is to hold, exactly where it holds integers."""
    if dtype == torch.bool:
        bounds = FRACTION
    else:
        limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
        bounds = Bounds(limits.min, limits.max)
    value = number(name, value, bounds)
    if not dtype.is_floating_point and not value.is_integer():
        raise ValueError(f"{name} must be a whole number for tensors of {dtype}, got {value:g}")
    return value


def count(name: str, value: Any, low: int = 1) -> int:
    if not isinstance(value, (numbers.Integral, torch.SymInt)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {_describe(value)}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return cast(int, value) if isinstance(value, torch.SymInt) else int(value)  # a compiler's symbol stays one


def image_size(size: Any) -> tuple[int, ...]:
    if not isinstance(size, Sequence) or isinstance(size, str):
        raise TypeError(
            f"size must be a sequence of 1 to 3 lengths in pixels, as (height, width), got {_describe(size)}"
        )
    if not 1 <= len(size) <= 3:
        raise ValueError(f"size must have 1 to 3 axes, got {len(size)}: {tuple(size)}")
    return tuple(count(f"size[{axis}]", length) for axis, length in enumerate(size))


def values(name: str, value: Any, bounds: Bounds, n: int | None = None) -> Checked:
    """Check a number, a (low, high) range or a CPU tensor of `n` per-mask values."""
    if isinstance(value, Tensor):
        return [], _per_mask_values(name, value, n)
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name} as a range must be (low, high), got {len(value)} values: {value}")
        low, high = (number(f"{name}[{end}]", item, bounds) for end, item in enumerate(value))
        if low > high:
            raise ValueError(f"{name} as a range must be (low, high) with low <= high, got {value}")
        return [low, high], None
    if not is_number(value):
        raise TypeError(
            f"{name} must be a number, a (low, high) range or a CPU tensor of per-mask values, got {_describe(value)}"
        )
    return [number(name, value, bounds)] * 2, None


def ends(name: str, checked: Checked, bounds: Bounds) -> tuple[float, float]:
    """Return the smallest and the largest value there can be, and check those that only a tensor holds."""
    (low, high), per_mask = checked[0] or (0.0, 0.0), checked[1]
    if per_mask is not None:
        low, high = per_mask.min().item(), per_mask.max().item()
        bounds.check(name, low, high)
    return low, high


def spacing(value: Any, dims: int | None = None) -> list[float]:
    """Check one number per axis; `dims` is None where the number of axes is not known yet."""
    if value is None:
        return [1.0] * (dims or 1)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"spacing must be a sequence of one number per axis, got {_describe(value)}")
    if dims is not None and len(value) != dims:
        raise ValueError(f"spacing must have one number per axis: expected {dims}, got {len(value)}")
    return [number(f"spacing[{axis}]", item, POSITIVE) for axis, item in enumerate(value)]


def sigma_in_pixels(sigma: tuple[float, float], steps: Sequence[float]) -> list[tuple[float, float]]:
    """Return the smallest and the largest sigma along each axis, in pixels."""
    in_pixels = [(sigma[0] / step, sigma[1] / step) for step in steps]
    for axis, (low, high) in enumerate(in_pixels):
        SIGMA.check("sigma" if steps[axis] == 1 else f"sigma / spacing[{axis}], in pixels,", low, high)
    return in_pixels


def cow_settings(sigma: Any, proportion: Any, steps: Any) -> None:
    """Check what a transform holds, before it is known for how many masks and axes."""
    ends("proportion", values("proportion", proportion, FRACTION), FRACTION)
    sigma_in_pixels(ends("sigma", values("sigma", sigma, POSITIVE), POSITIVE), spacing(steps))


def box_settings(area: Any, aspect: Any, n_boxes: Any, clip: Any) -> None:
    """Check what a transform holds, likewise."""
    ends("area", values("area", area, FRACTION), FRACTION)
    count("n_boxes", n_boxes)
    flag("clip", clip)
    if aspect is not None:
        number("aspect", aspect, POSITIVE)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {_describe(value)}")
    return value


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        *others, last = (f'"{one}"' for one in choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {value!r}")
    return value


def noise(value: Any, shape: tuple[int, ...]) -> Tensor | None:
    if value is None:
        return None
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        raise TypeError(f"noise must be a floating tensor, got {value.dtype if isinstance(value, Tensor) else value!r}")
    if value.shape != shape:
        raise ValueError(f"noise must have shape (n, 1, *size) = {shape}, got {tuple(value.shape)}")
    return value.detach()


def draw_device(generator: Any, device: Any, noise: Tensor | None = None) -> torch.device:
    """Return where to draw: the device asked for, else that of the noise, of the generator, torch's default."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {_describe(generator)}")
    if device is not None:
        target = torch.device(device)
    elif noise is not None:
        target = noise.device
    else:
        # Not torch.get_default_device(), which no compiler can look into.
        target = generator.device if generator is not None else torch.empty(0).device
    if generator is not None and generator.device.type != target.type:
        raise ValueError(
            f"generator is on {generator.device}, but the masks are drawn on {target}: "
            f"make it with torch.Generator({str(target)!r})"
        )
    return target


def mask_dtype(dtype: Any) -> torch.dtype:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {_describe(dtype)}")
    if dtype != torch.bool and not dtype.is_floating_point:
        raise ValueError(f"dtype must be torch.bool or floating, got {dtype}")
    return dtype


def tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {_describe(value)}")
    return value


def broadcasts(small: Tensor, x: Tensor) -> bool:
    """Tell whether `small` broadcasts to the very shape of x."""
    axes = zip(small.shape[::-1], x.shape[::-1], strict=False)
    return small.ndim <= x.ndim and all(length in (1, full) for length, full in axes)


def mixing_mask(mask: Any, x: Tensor) -> Tensor:
    """Check that the mask is bool or floating, on the device of x, and broadcasts to its shape."""
    tensor("mask", mask)
    if mask.dtype != torch.bool and not mask.dtype.is_floating_point:
        raise TypeError(f"mask must be bool (select) or floating (blend), got {mask.dtype}: try mask.bool()")
    if mask.dtype != torch.bool and not x.dtype.is_floating_point:
        raise TypeError(f"a floating mask blends floating tensors only, got {x.dtype}: pass a bool mask to select")
    if mask.device != x.device:
        raise ValueError(f"mask is on {mask.device}, but the images are on {x.device}")
    if not broadcasts(mask, x):
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to {tuple(x.shape)}: pass (B, 1, *size)"
        )
    return mask


def images(x: Any) -> Tensor:
    tensor("images", x)
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"images must be (B, C, *size) with 1 to 3 spatial axes, got shape {tuple(x.shape)}")
    if 0 in x.shape:
        raise ValueError(f"images must not be empty, got shape {tuple(x.shape)}")
    return x


def image_masks(mask: Any, x: Tensor) -> Tensor:
    """Check masks (B, 1, *size) for images (B, C, *size)."""
    mixing_mask(mask, x)
    if mask.ndim != x.ndim or mask.shape[1] != 1:
        raise ValueError(f"mask must be (B, 1, *size) = {(len(x), 1, *x.shape[2:])}, got {tuple(mask.shape)}")
    return mask


def partners(partner: Any, tensors: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return what each of the tensors is mixed with, None standing for the batch itself rolled by one."""
    if partner is None:
        if len(tensors[0]) == 1:
            raise ValueError(
                "a batch of one image has no partner in the batch: pass partner=, "
                "or drop the last batch with DataLoader(drop_last=True)"
            )
        return [None] * len(tensors)
    partner = (partner,) if isinstance(partner, Tensor) else partner
    if not isinstance(partner, Sequence) or len(partner) != len(tensors):
        came = f"{len(partner)}" if isinstance(partner, Sequence) else _describe(partner)
        raise ValueError(f"partner must hold as many tensors as are mixed, {len(tensors)}, got {came}")
    for position, (x, other) in enumerate(zip(tensors, partner, strict=True)):
        tensor(f"partner[{position}]", other)
        for name in ("shape", "dtype", "device"):
            expected, came = getattr(x, name), getattr(other, name)
            if expected != came:
                raise ValueError(f"partner[{position}] must have {name} {expected}, got {came}")
    return partner


def is_labels(position: int, target: Any, x: Tensor) -> bool:
    """Tell labels, (B,) integer or (B, K) floating, from dense targets of the images x (B, C, *size)."""
    name, size = f"targets[{position}]", x.shape[2:]
    shape = tensor(name, target).shape
    if target.device != x.device:
        raise ValueError(f"{name} is on {target.device}, but the images are on {x.device}")
    floating = target.dtype.is_floating_point
    batched = len(shape) > 0 and shape[0] == len(x)
    dense = batched and shape[-len(size) :] == size and len(shape) - len(size) in (1, 2)
    labels = batched and ((len(shape) == 1 and not floating) or (len(shape) == 2 and floating))
    if dense and labels:
        raise ValueError(
            f"{name} of shape {tuple(shape)} may be dense targets or labels of {shape[1]} classes: "
            f"pass {(shape[0], 1, shape[1])} for dense targets, or labels (B,) with num_classes"
        )
    if not (dense or labels):
        raise ValueError(
            f"{name} must be dense, {(len(x), '...', *size)} with at most one axis between, or labels, ({len(x)},) "
            f"integer or ({len(x)}, K) floating; got {tuple(shape)} {target.dtype}"
        )
    return labels


def _per_mask_values(name: str, value: Tensor, n: int | None) -> Tensor:
    if value.device.type != "cpu":
        # Kept on the CPU so that checking it, and choosing K from it, never waits for a device.
        raise ValueError(f"{name} as per-mask values must be a CPU tensor, got one on {value.device}: pass it as made")
    if value.ndim != 1 or not len(value):
        raise ValueError(f"{name} as per-mask values must have shape (n,), got {tuple(value.shape)}")
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} as per-mask values must hold numbers, got {value.dtype}")
    if n is not None and len(value) != n:
        raise ValueError(f"{name} holds {len(value)} per-mask values, but {n} masks are asked for")
    return value.detach().to(torch.float32)


def _describe(value: object) -> str:
    return (
        f"{type(value).__name__} {value!r:.60}" if not isinstance(value, Tensor) else f"a tensor {tuple(value.shape)}"
    )
