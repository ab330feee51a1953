from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from cowmask import consistency_loss
from cowmask.consistency import Distance


def predictions(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    logits = 3 * torch.randn(shape, generator=generator)
    probs = (4 * torch.randn(shape, generator=generator)).softmax(1)
    return logits, probs


def reference(
    logits: torch.Tensor, probs: torch.Tensor, mask: np.ndarray, valid: np.ndarray, per_pixel: bool, distance: str
) -> float:
    """Evaluate the loss by its definition, in float64."""
    s, t = logits.double().numpy(), probs.double().numpy()
    p, log_p = softmax(s, 1), log_softmax(s, 1)
    if distance == "mse":
        d = ((p - t) ** 2).mean(1)
    elif distance == "sse":
        d = ((p - t) ** 2).sum(1)
    elif distance == "bce":
        d = -(t * log_p + (1 - t) * np.log(1 - p)).mean(1)
    else:
        d = -(t * log_p).sum(1)
    confident = t.max(1) > 0.8
    factor = confident if per_pixel else confident[valid].mean()
    return float((d * mask * valid * factor).sum() / valid.sum())


@pytest.mark.parametrize("shape", [(4, 5), (2, 7, 9, 11), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("distance", get_args(Distance))
def test_is_the_definition(shape: tuple[int, ...], per_pixel: bool, distance: Distance) -> None:
    logits, probs = predictions(*shape)
    pixels = (shape[0], *shape[2:])
    mask, valid = torch.rand(pixels) < 0.6, torch.rand(pixels) < 0.7
    valid.view(-1)[0] = True
    loss = consistency_loss(
        logits, probs, mask[:, None], valid=valid[:, None], threshold=0.8, per_pixel=per_pixel, distance=distance
    )
    expected = reference(logits, probs, mask.numpy(), valid.numpy(), per_pixel, distance)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    flat = consistency_loss(
        logits, probs, mask.float(), valid=valid, threshold=0.8, per_pixel=per_pixel, distance=distance
    )
    assert flat.item() == pytest.approx(expected, rel=1e-5)


def test_is_listing_3_without_a_mask_and_listing_2_with_one() -> None:
    logits, probs = predictions(2, 5, 8, 8)
    confidence = (probs.amax(1) > 0.97).float().mean()
    squared = (logits.softmax(1) - probs).square()
    assert torch.allclose(consistency_loss(logits, probs), squared.mean() * confidence)
    mask = torch.rand(2, 1, 8, 8) < 0.5
    assert torch.allclose(consistency_loss(logits, probs, mask), (squared * mask).mean() * confidence)


def test_padding_counts_nowhere() -> None:
    logits, probs = predictions(2, 5, 8, 8)
    valid = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    valid[..., 6:] = False
    inside = consistency_loss(logits[..., :6], probs[..., :6])
    logits[..., 6:] = torch.nan
    probs[..., 6:] = 255
    assert torch.allclose(consistency_loss(logits, probs, valid=valid), inside)
    probs[..., 6:] = torch.nan
    logits.requires_grad_()
    loss = consistency_loss(logits, probs, valid=valid)
    assert torch.allclose(loss, inside)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[..., 6:] == 0).all()
    assert consistency_loss(logits, probs, valid=torch.zeros_like(valid)) == 0


@pytest.mark.parametrize("distance", get_args(Distance))
def test_gradients_reach_both_and_survive_certainty(distance: Distance) -> None:
    logits, probs = predictions(2, 3, 4, 4)
    logits[0] *= 1000  # softmax gives exact zeros and ones
    logits.requires_grad_()
    probs.requires_grad_()
    consistency_loss(logits, probs, threshold=0.5, distance=distance).backward()
    for tensor in (logits, probs):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0


def test_autocast_and_half_precision_are_computed_in_float32() -> None:
    logits, probs = predictions(2, 5, 8, 8)
    loss = consistency_loss(logits, probs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(consistency_loss(logits, probs), loss)
    mask = torch.rand(2, 1, 8, 8)
    assert consistency_loss(logits, probs, mask.double()).dtype == torch.float32
    half = consistency_loss(logits.half(), probs.half())
    assert half.dtype == torch.float32
    assert torch.allclose(half, loss, rtol=0.02)


def test_the_threshold_is_the_papers_for_maps_and_none_for_labels() -> None:
    logits, probs = predictions(2, 5, 8, 8)
    assert torch.equal(consistency_loss(logits, probs), consistency_loss(logits, probs, threshold=0.97))
    logits, probs = predictions(2, 5, 9)  # signals
    assert torch.equal(consistency_loss(logits, probs), consistency_loss(logits, probs, threshold=0.97))
    assert not torch.equal(consistency_loss(logits, probs), consistency_loss(logits, probs, threshold=0))
    assert consistency_loss(torch.tensor([[3.0, 0]]), torch.tensor([[0.5, 0.5]]), threshold=0.5) == 0  # above, not at
    logits, probs = torch.randn(4, 1000), torch.rand(4, 1000).softmax(1)  # no class is near 0.97
    squared = (logits.softmax(1) - probs).square().mean()
    assert torch.allclose(consistency_loss(logits, probs), squared)
    assert consistency_loss(logits, probs, threshold=0.97) == 0


@pytest.mark.parametrize("per_pixel", [False, True])
def test_confidence_takes_the_place_of_the_threshold(per_pixel: bool) -> None:
    logits, probs = predictions(2, 5, 8, 6)
    valid = torch.rand(2, 8, 6) < 0.7
    certain = probs.amax(1) > 0.8
    expected = consistency_loss(logits, probs, valid=valid, threshold=0.8, per_pixel=per_pixel)
    for confidence in (certain, certain[:, None].float(), certain.double()):
        loss = consistency_loss(logits, probs, valid=valid, confidence=confidence, per_pixel=per_pixel)
        assert torch.allclose(loss, expected)
    for nonsense in (torch.nan, -1):  # what is not valid is not looked at
        confidence = certain.float().masked_fill(~valid, nonsense)
        loss = consistency_loss(logits, probs, valid=valid, confidence=confidence, per_pixel=per_pixel)
        assert torch.allclose(loss, expected)


def test_confidence_of_each_image() -> None:
    confidence = torch.tensor([0.2, 0.9, 0.4])
    logits, probs = predictions(3, 5, 8, 6)
    squared = (logits.softmax(1) - probs).square().mean((1, 2, 3))
    loss = consistency_loss(logits, probs, confidence=confidence, per_pixel=True)
    assert torch.allclose(loss, (squared * confidence).mean())
    assert torch.allclose(consistency_loss(logits, probs, confidence=confidence), squared.mean() * confidence.mean())
    logits, probs = predictions(3, 7)
    squared = (logits.softmax(1) - probs).square().mean(1)
    loss = consistency_loss(logits, probs, confidence=confidence, per_pixel=True)
    assert torch.allclose(loss, (squared * confidence).mean())


def test_the_sum_over_classes_is_k_times_the_mean() -> None:
    logits, probs = predictions(2, 11, 8, 6)
    mean, total = (consistency_loss(logits, probs, distance=distance) for distance in ("mse", "sse"))
    assert torch.allclose(11 * mean, total)


@pytest.mark.parametrize("distance", get_args(Distance))
@pytest.mark.parametrize("others", ["nothing", "mask", "valid", "confidence"])
def test_what_was_computed_in_inference_mode_is_taken(distance: Distance, others: str) -> None:
    logits, probs = predictions(2, 5, 8, 6)
    logits.requires_grad_()
    choices: dict[str, dict[str, Any]] = {
        "nothing": {"threshold": 0.3, "per_pixel": True},
        "mask": {"mask": torch.rand(2, 1, 8, 6)},
        "valid": {"valid": torch.rand(2, 1, 8, 6) < 0.7},
        "confidence": {"confidence": torch.rand(2), "per_pixel": True},
    }
    options = choices[others]
    expected = consistency_loss(logits, probs, distance=distance, **options)
    (gradient,) = torch.autograd.grad(expected, logits)
    with torch.inference_mode():
        probs = probs.clone()
        options = {name: x.clone() if isinstance(x, torch.Tensor) else x for name, x in options.items()}
    assert probs.is_inference()
    loss = consistency_loss(logits, probs, distance=distance, **options)
    assert torch.equal(loss, expected)
    assert torch.equal(torch.autograd.grad(loss, logits)[0], gradient)


@pytest.mark.parametrize("distance", get_args(Distance))
@pytest.mark.parametrize("per_pixel", [False, True])
def test_a_class_that_both_rule_out_costs_nothing(distance: Distance, per_pixel: bool) -> None:
    logits, probs = predictions(2, 4, 5, 6)
    options: dict[str, Any] = {"threshold": 0.3, "per_pixel": per_pixel, "distance": distance}
    kept = logits.clone().requires_grad_()
    expected = consistency_loss(kept, probs, **options)
    (gradient,) = torch.autograd.grad(expected, kept)
    # One more class, which the student gives -inf and the teacher 0.
    logits = torch.cat((logits, torch.full((2, 1, 5, 6), -torch.inf)), 1).requires_grad_()
    probs = torch.cat((probs, torch.zeros(2, 1, 5, 6)), 1).requires_grad_()
    loss = consistency_loss(logits, probs, **options)
    share = 4 / 5 if distance in ("mse", "bce") else 1  # of the classes that count, in a mean over classes
    assert torch.allclose(loss, share * expected)
    loss.backward()
    assert logits.grad is not None
    assert probs.grad is not None
    assert torch.allclose(logits.grad[:, :4], share * gradient, rtol=1e-3, atol=1e-7)
    assert (logits.grad[:, 4] == 0).all()
    assert probs.grad.isfinite().all()


@pytest.mark.parametrize("distance", ["ce", "bce"])
def test_erased_and_unsure_pixels_cost_nothing_whatever_the_student_says(distance: Distance) -> None:
    logits, probs = torch.zeros(1, 2, 3), torch.full((1, 2, 3), 0.5)
    logits[0, 0, 1] = -torch.inf  # infinitely wrong
    mask = torch.tensor([[True, False, True]])
    whole = consistency_loss(logits[..., :1], probs[..., :1], threshold=0.0, distance=distance)
    assert torch.allclose(consistency_loss(logits, probs, mask, threshold=0.0, distance=distance), whole * 2 / 3)
    assert consistency_loss(logits, probs, threshold=0.9, distance=distance) == 0
