"""Check images, targets, partners, masks and fills."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from cowmask._checks import arguments


def mixing_inputs(
    images: Any, targets: Sequence[Any], partner: Any, generator: Any
) -> tuple[Sequence[Tensor], Sequence[Tensor] | None, Collection[int]]:
    """Check all that a mixing transform takes, except for the mask.

    Returns:
        The tensors to mix; their partners, or None for the batch itself rolled by one; the positions of the labels.
    """
    image_batch(images, generator)
    tensors = (images, *targets)
    names = [f"targets[{position}]" for position in range(len(targets))]
    labels = [i for i, name in enumerate(names, 1) if _is_labels(name, tensors[i], images)]
    return tensors, _partners(partner, tensors), labels


def image_batch(images: Any, generator: Any = None) -> Tensor:
    """Check images (B, C, *size), and that a generator to draw masks for them is on their device."""
    arguments.tensor("images", images)
    if not 3 <= images.ndim <= 5:
        raise ValueError(f"images must be (B, C, *size) with 1 to 3 spatial axes, got shape {tuple(images.shape)}")
    if 0 in images.shape:
        raise ValueError(f"images must not be empty, got shape {tuple(images.shape)}")
    arguments.draw_device(generator, images.device)
    return images


def image_masks(mask: Any, images: Tensor) -> Tensor:
    """Check masks (B, 1, *size) for images (B, C, *size)."""
    mixing_mask(mask, images)
    if mask.ndim != images.ndim or mask.shape[1] != 1:
        raise ValueError(f"mask must be (B, 1, *size) = {(len(images), 1, *images.shape[2:])}, got {tuple(mask.shape)}")
    return mask


def _is_labels(name: str, target: Any, images: Tensor) -> bool:
    """Tell labels, (B,) integer or (B, K) floating, from dense targets of the images (B, C, *size)."""
    size = images.shape[2:]
    shape = arguments.tensor(name, target).shape
    if target.device != images.device:
        raise ValueError(f"{name} is on {target.device}, but the images are on {images.device}")
    floating = target.dtype.is_floating_point
    integer = not floating and not target.dtype.is_complex
    # Dense: a value for each pixel, at most one axis between. Labels: a value or a row for each image. For signals,
    # (B, K) may be both.
    batched = len(shape) > 0 and shape[0] == len(images)
    dense = batched and shape[-len(size) :] == size and len(shape) - len(size) in (1, 2)
    labels = batched and ((len(shape) == 1 and integer) or (len(shape) == 2 and floating))
    if dense and labels:
        raise ValueError(
            f"{name} of shape {tuple(shape)} may be dense targets or labels of {shape[1]} classes: "
            f"pass {(shape[0], 1, shape[1])} for dense targets, or labels (B,) with num_classes"
        )
    if not (dense or labels):
        hint = ""
        if len(shape) == 2 and integer:
            hint = f": try {name}.squeeze(1)" if shape[1] == 1 else f": try {name}.float()"
        raise ValueError(
            f"{name} must be dense, {(len(images), '...', *size)} with at most one axis between, or labels, "
            f"({len(images)},) integer or ({len(images)}, K) floating; got {tuple(shape)} {target.dtype}" + hint
        )
    return labels


def _partners(partner: Any, tensors: Sequence[Tensor]) -> Sequence[Tensor] | None:
    if partner is None:
        if len(tensors[0]) == 1:
            raise ValueError(
                "a batch of one image has no partner in the batch: pass partner=, "
                "or drop the last batch with DataLoader(drop_last=True)"
            )
        return None
    partner = (partner,) if isinstance(partner, Tensor) else partner
    if not arguments.is_sequence(partner):
        raise TypeError(
            f"partner must be a tensor, or a tuple of as many as are mixed, got {arguments.describe(partner)}"
        )
    if len(partner) != len(tensors):
        raise ValueError(f"partner must hold as many tensors as are mixed, {len(tensors)}, got {len(partner)}")
    for position, (x, other) in enumerate(zip(tensors, partner, strict=True)):
        arguments.tensor(f"partner[{position}]", other)
        for name in ("shape", "dtype", "device"):
            expected, got = getattr(x, name), getattr(other, name)
            if expected != got:
                raise ValueError(f"partner[{position}] must have {name} {expected}, got {got}")
    return partner


def pair(a: Any, b: Any) -> None:
    """Check that two tensors can be mixed."""
    arguments.tensor("a", a)
    arguments.tensor("b", b)
    for name in ("shape", "dtype", "device"):
        if getattr(a, name) != getattr(b, name):
            raise ValueError(f"a and b must have the same {name}, got {getattr(a, name)} and {getattr(b, name)}")


def mixing_mask(mask: Any, x: Tensor) -> Tensor:
    """Check that the mask is bool or floating, on the device of x, and broadcasts to the shape of x."""
    arguments.tensor("mask", mask)
    if mask.dtype != torch.bool and not mask.dtype.is_floating_point:
        raise TypeError(f"mask must be bool (select) or floating (blend), got {mask.dtype}: try mask.bool()")
    if mask.dtype != torch.bool and not x.dtype.is_floating_point:
        raise TypeError(f"a floating mask blends floating tensors only, got {x.dtype}: pass a bool mask to select")
    if mask.device != x.device:
        raise ValueError(f"mask is on {mask.device}, but the images are on {x.device}")
    if not _broadcasts(mask, x):
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to {tuple(x.shape)}: pass (B, 1, *size)"
        )
    return mask


def fill_like(x: Tensor, fill: float | Tensor) -> Tensor:
    """Return the fill as a tensor of the dtype of x that broadcasts to the shape of x."""
    if not isinstance(fill, Tensor):
        return x.new_full((), arguments.fill_value("fill", fill, x.dtype))
    if arguments.tensor("fill", fill).device != x.device:
        raise ValueError(f"fill is on {fill.device}, but x is on {x.device}")
    if fill.dtype != x.dtype and (not x.dtype.is_floating_point or fill.dtype.is_complex):
        raise TypeError(f"fill of {fill.dtype} does not fit x of {x.dtype}: try fill.to({x.dtype})")
    if not _broadcasts(fill, x):
        raise ValueError(f"fill of shape {tuple(fill.shape)} does not broadcast to {tuple(x.shape)}: try (C, 1, 1)")
    return fill.to(x.dtype)


def _broadcasts(small: Tensor, x: Tensor) -> bool:
    """Tell whether `small` broadcasts to the very shape of x."""
    axes = zip(small.shape[::-1], x.shape[::-1], strict=False)
    return small.ndim <= x.ndim and all(length in (1, full) for length, full in axes)
