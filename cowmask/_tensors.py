"""Validation of the tensors that are mixed: images, targets, masks and partners."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cowmask import _checks


def broadcasts(small: Tensor, x: Tensor) -> bool:
    """Tell whether `small` broadcasts to the very shape of x."""
    axes = zip(small.shape[::-1], x.shape[::-1], strict=False)
    return small.ndim <= x.ndim and all(length in (1, full) for length, full in axes)


def mixing_mask(mask: Any, x: Tensor) -> Tensor:
    """Check that the mask is bool or floating, on the device of x, and broadcasts to its shape."""
    _checks.tensor("mask", mask)
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
    _checks.tensor("images", x)
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
    if not _checks.is_sequence(partner):
        raise TypeError(
            f"partner must be a tensor, or a tuple of as many as are mixed, got {_checks.describe(partner)}"
        )
    if len(partner) != len(tensors):
        raise ValueError(f"partner must hold as many tensors as are mixed, {len(tensors)}, got {len(partner)}")
    for position, (x, other) in enumerate(zip(tensors, partner, strict=True)):
        _checks.tensor(f"partner[{position}]", other)
        for name in ("shape", "dtype", "device"):
            expected, came = getattr(x, name), getattr(other, name)
            if expected != came:
                raise ValueError(f"partner[{position}] must have {name} {expected}, got {came}")
    return partner


def is_labels(position: int, target: Any, x: Tensor) -> bool:
    """Tell labels, (B,) integer or (B, K) floating, from dense targets of the images x (B, C, *size)."""
    name, size = f"targets[{position}]", x.shape[2:]
    shape = _checks.tensor(name, target).shape
    if target.device != x.device:
        raise ValueError(f"{name} is on {target.device}, but the images are on {x.device}")
    floating = target.dtype.is_floating_point
    integer = not floating and not target.dtype.is_complex
    batched = len(shape) > 0 and shape[0] == len(x)
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
            f"{name} must be dense, {(len(x), '...', *size)} with at most one axis between, or labels, ({len(x)},) "
            f"integer or ({len(x)}, K) floating; got {tuple(shape)} {target.dtype}" + hint
        )
    return labels
