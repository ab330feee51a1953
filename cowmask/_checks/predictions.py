"""Check what the consistency loss compares: the student's logits, the teacher's probabilities, and maps of pixels."""

from typing import Any

import torch
from torch import Tensor

from cowmask._checks import arguments
from cowmask._subclasses import plain


def pair(student_logits: Any, teacher_probs: Any) -> tuple[Tensor, Tensor]:
    """Check that logits and probabilities are floating, of one shape with a class axis, and on one device."""
    for name, value in (("student_logits", student_logits), ("teacher_probs", teacher_probs)):
        if not arguments.tensor(name, value).dtype.is_floating_point:
            raise TypeError(f"{name} must be floating, got {value.dtype}")
    if student_logits.ndim < 2 or not student_logits.numel():
        raise ValueError(
            f"student_logits must be (B, K, *size) or (B, K), not empty, got {tuple(student_logits.shape)}"
        )
    if student_logits.shape[1] == 1:
        raise ValueError(
            "student_logits must have a class axis of 2 or more, got (B, 1, ...), whose softmax is 1: for a sigmoid "
            "output pass torch.cat((zeros, logits), 1) and torch.cat((1 - probs, probs), 1)"
        )
    if student_logits.shape != teacher_probs.shape:
        resize = student_logits.shape[:2] == teacher_probs.shape[:2] and student_logits.ndim == teacher_probs.ndim > 2
        raise ValueError(
            f"student_logits and teacher_probs must have the same shape, got {tuple(student_logits.shape)} and "
            f"{tuple(teacher_probs.shape)}"
            + (": resize the logits by torch.nn.functional.interpolate" if resize else "")
        )
    if student_logits.device != teacher_probs.device:
        raise ValueError(
            f"student_logits and teacher_probs must be on one device, got {student_logits.device} and "
            f"{teacher_probs.device}"
        )
    return plain(student_logits), plain(teacher_probs)


def valid_pixels(valid: Any, logits: Tensor) -> Tensor:
    """Return `valid` as bool (B, *size), or with axes of 1 that broadcast to it."""
    if arguments.tensor("valid", valid).dtype != torch.bool:
        raise TypeError(f"valid must be bool, got {valid.dtype}: try valid.bool()")
    return pixel_map("valid", valid, logits)


def pixel_map(name: str, value: Any, logits: Tensor) -> Tensor:
    """Return `mask` or `valid` as (B, *size), or with axes of 1 that broadcast to it."""
    if arguments.tensor(name, value).dtype != torch.bool and not value.dtype.is_floating_point:
        raise TypeError(f"{name} must be bool or floating, got {value.dtype}: try {name}.bool()")
    if value.device != logits.device:
        raise ValueError(f"{name} is on {value.device}, but the predictions are on {logits.device}")
    pixels = logits[:, 0].shape  # (B, *size)
    squeezed = value[:, 0] if value.ndim == logits.ndim and value.shape[1] == 1 else value
    if squeezed.ndim != len(pixels) or any(v not in (1, p) for v, p in zip(squeezed.shape, pixels, strict=True)):
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} does not fit predictions {tuple(logits.shape)}: "
            f"pass {(pixels[0], 1, *pixels[1:])}, or resize the predictions by torch.nn.functional.interpolate"
        )
    return plain(squeezed)


def confidences(value: Any, logits: Tensor) -> Tensor:
    """Return `confidence` as (B, *size), or with axes of 1 that broadcast to it, in float32."""
    if not arguments.tensor("confidence", value).dtype.is_floating_point and value.dtype != torch.bool:
        raise TypeError(f"confidence must be floating in [0, 1] or bool, got {value.dtype}")
    if value.shape == logits.shape[:1]:  # one for each image
        value = value.view(-1, *[1] * (logits.ndim - 2))
    return pixel_map("confidence", value, logits).float()
