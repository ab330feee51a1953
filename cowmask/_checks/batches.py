"""Check images, targets, partners, masks and fills."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from cowmask._checks import arguments
from cowmask._operators import are_inputs
from cowmask._subclasses import plain

AXES = {1: "(B, C, L)", 2: "(B, C, H, W)", 3: "(B, C, D, H, W)"}  # of images, by their number of spatial axes


def mixing_inputs(
    images: Any, targets: Sequence[Any], partner: Any, ndim: int, generator: Any
) -> tuple[Sequence[Tensor], Sequence[Tensor] | None, Collection[int]]:
    """Check all that a mixing transform takes, except for the mask.

    Returns:
        The tensors to mix; their partners, or None for the batch itself rolled by one; the positions of the labels.
    """
    image_batch(images, ndim, generator, mixes=True)
    tensors = (images, *targets)
    names = [f"targets[{position}]" for position in range(len(targets))]
    labels = [i for i, name in enumerate(names, 1) if _is_labels(name, tensors[i], images)]
    partners = _partners(partner, tensors)
    return [plain(x) for x in tensors], partners and [plain(x) for x in partners], labels


def image_batch(images: Any, ndim: int, generator: Any = None, *, mixes: bool) -> Tensor:
    """Check images (B, C, *size), and that a generator to draw masks for them is on their device.

    Args:
        images: `ndim` spatial axes.
        ndim: Spatial axes.
        generator: None, or the source of randomness.
        mixes: Whether they are mixed, so that an error does not advise a batch of one.
    """
    arguments.tensor("images", images)
    if images.ndim != ndim + 2:
        raise ValueError(
            f"images must be {AXES[ndim]} for ndim={ndim}, got shape {tuple(images.shape)}: "
            + "; ".join(_advice(images, ndim, mixes))
        )
    if 0 in images.shape:
        raise ValueError(f"images must not be empty, got shape {tuple(images.shape)}")
    arguments.draw_device(generator, images.device)
    return images


def _advice(images: Tensor, ndim: int, mixes: bool) -> list[str]:
    """Return what to write, by what the images may be that do not have `ndim` spatial axes."""
    advice = []
    if images.ndim == ndim + 1:
        alone = "a single image cannot be mixed: mix batches, in the training loop or in a collate_fn"
        advice = [alone if mixes else "for a single image pass images[None]"]
        advice.append("for a batch without channels pass images[:, None]")
    if images.ndim == ndim + 3:
        # Without this partner, a frame would be mixed with the frame before it.
        clip_before = ", partner=x.roll(1, 0).flatten(0, 1)" if mixes else ""
        advice.append(
            "for a batch of videos (B, T, C, ...) fold time into the batch: "
            f"y = transform(x.flatten(0, 1){clip_before}); y = y.unflatten(0, x.shape[:2])"
        )
    if images.ndim - 2 in AXES:
        advice.append(f"for a batch {AXES[images.ndim - 2]} set ndim={images.ndim - 2}")
    return advice or ["the first axis is the batch, and the second the channels"]


def image_masks(mask: Any, images: Tensor) -> Tensor:
    """Check masks (B, 1, *size) for images (B, C, *size)."""
    mask = mixing_mask(mask, images)
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
        elif len(shape) == 1 and floating and batched:
            hint = f": try {name}.long() with num_classes, or {name}[:, None] to mix it by area"
        elif len(shape) > 0 and shape[0] != len(images):
            hint = f": pass as many targets as images, {len(images)}"
        elif len(shape) in (images.ndim - 1, images.ndim):
            hint = ": resize it to the images by torch.nn.functional.interpolate"
        raise ValueError(
            f"{name} must be dense, {(len(images), '...', *size)} with at most one axis between, or labels, "
            f"({len(images)},) integer or ({len(images)}, K) floating; got {tuple(shape)} {target.dtype}" + hint
        )
    return labels


def _partners(partner: Any, tensors: Sequence[Tensor]) -> Sequence[Tensor] | None:
    if partner is None:
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
                hint = _partner_hint(x, other)
                raise ValueError(f"partner[{position}] must have {name} {_words(expected)}, got {_words(got)}" + hint)
    return partner


def _partner_hint(x: Tensor, other: Tensor) -> str:
    if other.ndim and len(other) != len(x):
        return f": pass as many partners as images, {len(x)}"
    if x.dtype.is_floating_point != other.dtype.is_floating_point:
        return ": pass class indices for both, or probabilities for both, such as one-hot ones"
    if x.shape != other.shape:
        return ": resize or crop both to one size"
    return f": try .to({x.dtype if x.dtype != other.dtype else repr(str(x.device))})"


def _words(value: Any) -> Any:
    return tuple(value) if isinstance(value, torch.Size) else value


def pair(a: Any, b: Any) -> None:
    """Check that two tensors can be mixed."""
    arguments.tensor("a", a)
    arguments.tensor("b", b)
    for name in ("shape", "dtype", "device"):
        of_a, of_b = getattr(a, name), getattr(b, name)
        if of_a != of_b:
            wanted = repr(str(of_a)) if name == "device" else of_a
            hint = "resize or crop both to one size" if name == "shape" else f"try b.to({wanted})"
            raise ValueError(f"a and b must have the same {name}, got {_words(of_a)} and {_words(of_b)}: {hint}")


def mixing_mask(mask: Any, x: Tensor) -> Tensor:
    """Return a mask that is bool or floating, on the device of x, and broadcasts to the shape of x.

    For x (B, *size), the mask may be (B, 1, *size).
    """
    arguments.tensor("mask", mask)
    if mask.dtype != torch.bool and not mask.dtype.is_floating_point:
        raise TypeError(f"mask must be bool (select) or floating (blend), got {mask.dtype}: try mask.bool()")
    if mask.dtype != torch.bool and not x.dtype.is_floating_point:
        raise TypeError(f"a floating mask blends floating tensors only, got {x.dtype}: pass a bool mask to select")
    if mask.device != x.device:
        raise ValueError(f"mask is on {mask.device}, but the images are on {x.device}")
    squeezed = plain(mask[:, 0] if mask.ndim == x.ndim + 1 and mask.shape[1] == 1 else mask)
    if not _broadcasts(squeezed, x):
        with_channels = mask.ndim == x.ndim - 1 and mask.ndim > 1 and _broadcasts(mask[:, None], x)
        if with_channels:
            fits: Any = "mask[:, None]"
        elif x.ndim > 2:
            fits = (len(x), 1, *x.shape[1 if mask.ndim > x.ndim else 2 :])
        else:
            fits = tuple(x.shape)
        raise ValueError(f"mask of shape {tuple(mask.shape)} does not broadcast to {tuple(x.shape)}: pass {fits}")
    return squeezed


def fill_like(x: Tensor, fill: float | Tensor) -> Tensor:
    """Return the fill as a tensor of the dtype of x that broadcasts to the shape of x."""
    if not isinstance(fill, Tensor):
        number = arguments.fill_value("fill", fill, x.dtype)
        if not are_inputs(fill):
            return plain(x).new_full((), number)
        # A compiler would make a constant of what fills. An integer tensor would make float32 of the product.
        rounds = x.dtype.is_floating_point or x.dtype.is_complex
        return (plain(x).new_ones((), dtype=x.dtype if rounds else torch.float64) * fill).to(x.dtype)
    if arguments.tensor("fill", fill).device != x.device:
        raise ValueError(f"fill is on {fill.device}, but x is on {x.device}")
    if fill.dtype != x.dtype and (not x.dtype.is_floating_point or fill.dtype.is_complex):
        raise TypeError(f"fill of {fill.dtype} does not fit x of {x.dtype}: try fill.to({x.dtype})")
    if not _broadcasts(fill, x):
        raise ValueError(f"fill of shape {tuple(fill.shape)} does not broadcast to {tuple(x.shape)}: try (C, 1, 1)")
    return plain(fill).to(x.dtype)


def _broadcasts(small: Tensor, x: Tensor) -> bool:
    """Tell whether `small` broadcasts to the very shape of x."""
    axes = zip(small.shape[::-1], x.shape[::-1], strict=False)
    return small.ndim <= x.ndim and all(length in (1, full) for length, full in axes)
