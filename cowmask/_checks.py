"""Argument validation. Everything is checked before anything is drawn: errors name what was expected and what came."""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Values = float | tuple[float, float] | Tensor  # a number, a (low, high) range, or a CPU tensor (n,) of per-mask values


@dataclass(frozen=True)
class Range:
    """A checked `Values`: drawn between `low` and `high`, or, where there are per-mask values, these."""

    low: float
    high: float
    per_mask: Tensor | None = None


def is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def number(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> float:
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {_describe(value)}")
    _check_bounds(name, float(value), float(value), low, high, open_low)
    return float(value)


def count(name: str, value: Any, low: int = 1) -> int:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {_describe(value)}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return int(value)


def image_size(size: Any) -> tuple[int, ...]:
    if not isinstance(size, Sequence) or isinstance(size, str):
        raise TypeError(
            f"size must be a sequence of 1 to 3 lengths in pixels, as (height, width), got {_describe(size)}"
        )
    if not 1 <= len(size) <= 3:
        raise ValueError(f"size must have 1 to 3 axes, got {len(size)}: {tuple(size)}")
    return tuple(count(f"size[{axis}]", length) for axis, length in enumerate(size))


def values(name: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> Range:
    """Check a number, a (low, high) range or a CPU tensor of per-mask values against the bounds."""
    if isinstance(value, Tensor):
        checked = _per_mask_values(name, value)
    elif isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name} as a range must be (low, high), got {len(value)} values: {value}")
        ends = [number(f"{name}[{end}]", item, low, high, open_low=open_low) for end, item in enumerate(value)]
        checked = Range(ends[0], ends[1])
        if checked.low > checked.high:
            raise ValueError(f"{name} as a range must be (low, high) with low <= high, got {value}")
    elif is_number(value):
        checked = Range(float(value), float(value))
    else:
        raise TypeError(
            f"{name} must be a number, a (low, high) range or a CPU tensor of per-mask values, got {_describe(value)}"
        )
    _check_bounds(name, checked.low, checked.high, low, high, open_low)
    return checked


def cow_settings(sigma: Any, proportion: Any) -> tuple[Range, Range]:
    return values("sigma", sigma, 0, open_low=True), values("proportion", proportion, 0, 1)


def box_settings(area: Any, aspect: Any, n_boxes: Any) -> Range:
    count("n_boxes", n_boxes)
    if aspect is not None:
        number("aspect", aspect, 0, open_low=True)
    return values("area", area, 0, 1)


def one_value_per_mask(name: str, checked: Range, n: int) -> None:
    if checked.per_mask is not None and len(checked.per_mask) != n:
        raise ValueError(f"{name} holds {len(checked.per_mask)} per-mask values, but {n} masks are asked for")


def spacing(value: Any, dims: int) -> tuple[float, ...]:
    if value is None:
        return (1.0,) * dims
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"spacing must be a sequence of one number per axis, got {_describe(value)}")
    if len(value) != dims:
        raise ValueError(f"spacing must have one number per axis: expected {dims}, got {len(value)}")
    return tuple(number(f"spacing[{axis}]", item, 0, open_low=True) for axis, item in enumerate(value))


def draw_device(generator: Any, device: Any, noise: Tensor | None = None) -> torch.device:
    """Return where to draw: the device asked for, else that of the noise, of the generator, torch's default."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {_describe(generator)}")
    if device is not None:
        target = torch.device(device)
    elif noise is not None:
        target = noise.device
    else:
        target = generator.device if generator is not None else torch.get_default_device()
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


def _per_mask_values(name: str, value: Tensor) -> Range:
    if value.device.type != "cpu":
        # Kept on the CPU so that checking it, and choosing K from it, never waits for a device.
        raise ValueError(f"{name} as per-mask values must be a CPU tensor, got one on {value.device}: pass it as made")
    if value.ndim != 1 or not len(value):
        raise ValueError(f"{name} as per-mask values must have shape (n,), got {tuple(value.shape)}")
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} as per-mask values must hold numbers, got {value.dtype}")
    value = value.detach().to(torch.float32)
    return Range(value.min().item(), value.max().item(), value)


def _check_bounds(name: str, smallest: float, largest: float, low: float, high: float, open_low: bool) -> None:
    inside = (smallest > low if open_low else smallest >= low) and largest <= high and math.isfinite(largest)
    if not inside:  # NaN lands here too
        bounds = f"{'above' if open_low else 'at least'} {low:g}" + (
            f" and at most {high:g}" if high < math.inf else ""
        )
        came = f"{smallest:g}" if smallest == largest else f"{smallest:g} to {largest:g}"
        raise ValueError(f"{name} must be finite, {bounds}, got {came}")


def _describe(value: object) -> str:
    return (
        f"{type(value).__name__} {value!r:.60}" if not isinstance(value, Tensor) else f"a tensor {tuple(value.shape)}"
    )
