"""The consistency loss of mean teacher training (Tarvainen & Valpola 2017) with the paper's confidence factor."""

from typing import Literal, get_args

import torch
from torch import Tensor

from cowmask._checks import arguments, predictions

Distance = Literal["mse", "sse", "bce", "ce"]

THRESHOLD = 0.97  # the paper's, appendix C.3.4


def consistency_loss(
    student_logits: Tensor,
    teacher_probs: Tensor,
    mask: Tensor | None = None,
    *,
    valid: Tensor | None = None,
    confidence: Tensor | None = None,
    threshold: float | None = None,
    per_pixel: bool = False,
    distance: Distance = "mse",
) -> Tensor:
    """Return how far the student is from the teacher, scaled by the confidence of the teacher.

        d = mean_k (softmax(s) - t)^2
        c = [max_k t > threshold], or confidence; averaged over the valid pixels unless `per_pixel`
        loss = sum(d * mask * valid * c) / number of valid pixels

    Args:
        student_logits: `s`, (B, K, *size) or (B, K), floating.
        teacher_probs: `t`, probabilities of the same shape. For mixing methods, mixed like the student's images.
        mask: Weight of each pixel, bool or floating, (B, 1, *size). For erasing methods, the mask that erased. Erased
            pixels stay in the denominator, as in Listing 2.
        valid: Pixels that count at all, bool, (B, 1, *size) or (B, *size). Other pixels, such as padding, are left out
            of the sum, of the denominator and of the confidence.
        confidence: How sure the teacher is, in [0, 1], in place of the threshold: (B,) for each image, or (B, 1, *size)
            or (B, *size) for each pixel. For mixing methods, mixed like the student's images.
        threshold: Probability above which the teacher is confident. None takes the paper's 0.97 (appendix C.3.4) for
            (B, K, *size), and no threshold for (B, K): labels that were mixed by area have no confident class.
        per_pixel: False scales the whole loss by the mean confidence, as the paper does. True masks each pixel.
        distance: "mse"; "sse", the squared distance summed over classes; "bce", the mean over classes of the binary
            cross-entropy of the probabilities (appendix A); or "ce", `-sum_k t log softmax(s)`.

    Returns:
        A float32 scalar, differentiable in both inputs. It is 0 if no pixel is valid.

    Raises:
        TypeError, ValueError: An argument has the wrong type, shape or range.

    Reference:
        French et al. 2019, Listings 2 and 3. The paper weights "mse" by 10 (good from 3 to 30, Figure 8), for the 11
        classes of CamVid. Weight w of "mse" at K classes is weight w / K of "sse". So 10 at 11 classes is 0.9, whatever
        K is. The authors' public code takes "sse" with weight 1.

    Example:
        >>> logits, probs = torch.zeros(2, 5, 8, 8), torch.eye(5)[torch.zeros(2, 8, 8).long()].movedim(-1, 1)
        >>> consistency_loss(logits, probs)
        tensor(0.1600)
    """
    student_logits, teacher_probs = predictions.pair(student_logits, teacher_probs)
    if threshold is not None:
        threshold = arguments.number("threshold", threshold, arguments.FRACTION)
        if confidence is not None:
            raise ValueError("confidence takes the place of the threshold: pass one of them")
    elif student_logits.ndim > 2:
        threshold = THRESHOLD
    arguments.flag("per_pixel", per_pixel)
    arguments.choice("distance", distance, get_args(Distance))
    certainty = None if confidence is None else predictions.confidences(confidence, student_logits)
    weight = None if mask is None else predictions.pixel_map("mask", mask, student_logits)
    counted = None if valid is None else predictions.valid_pixels(valid, student_logits)

    student, teacher = student_logits.float(), teacher_probs.float()
    if counted is not None:
        # Predictions of padding may be NaN. Multiplied by 0 they would stay NaN, as would their gradients.
        student, teacher = student.where(counted[:, None], 0), teacher.where(counted[:, None], 0)
    arguments.unit_range(teacher, "teacher_probs", "pass logits.softmax(1)")
    terms = _distances(student, teacher, distance)  # (B, *size)
    if certainty is not None:
        confident = certainty.expand_as(terms)  # (B, *size)
    else:
        confident = torch.ones_like(terms) if threshold is None else (teacher.amax(1) > threshold).float()
    if weight is not None:
        terms = terms * weight.float()
    if counted is None:
        n_valid: int | Tensor = terms.numel()
    else:
        terms, confident = terms * counted, confident.where(counted, 0)
        n_valid = counted.expand_as(terms).sum().clamp(min=1)
    if certainty is not None:
        arguments.unit_range(confident, "confidence", "pass the probability of the teacher's class")
    factor = confident if per_pixel else confident.sum() / n_valid
    return (terms * factor).sum() / n_valid


def _distances(logits: Tensor, teacher: Tensor, distance: Distance) -> Tensor:
    """Return `d`, (B, *size), of logits and probabilities (B, K, *size)."""
    if distance in ("mse", "sse"):
        squares = (logits.softmax(1) - teacher).square()
        return squares.mean(1) if distance == "mse" else squares.sum(1)
    # The student's logit may be -inf where the teacher says 0, and 0 * inf is NaN. So the logarithm is clamped.
    log_student = logits.log_softmax(1).clamp(min=torch.finfo(torch.float32).min)
    if distance == "ce":
        return -(teacher * log_student).sum(1)
    # For a student that is certain, 1 - p is 0, the loss infinite and the gradient NaN. So 1 - p is clamped.
    log_other = (1 - logits.softmax(1)).clamp(min=torch.finfo(torch.float32).eps).log()
    return -(teacher * log_student + (1 - teacher) * log_other).mean(1)
