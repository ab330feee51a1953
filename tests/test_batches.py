"""Bad tensors: what transforms refuse in `forward` and `sample`."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp

ON_META = torch.device("meta")
Case = tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]  # arguments, keywords, and the error they raise


def some(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


X = some(4, 3, 16, 18)
LABELS = torch.tensor([0, 1, 2, 1])
FORWARD: list[Case] = [
    ((X.numpy(),), {}, TypeError, "images must be a tensor, got ndarray"),
    ((X[0, 0],), {}, ValueError, r"images must be \(B, C, H, W\) for ndim=2, got shape \(16, 18\): the first axis"),
    ((X[None],), {}, ValueError, r"for a batch \(B, C, D, H, W\) set ndim=3"),
    ((X[0],), {}, ValueError, r"got shape \(3, 16, 18\): .*without channels pass images\[:, None\]; .*set ndim=1"),
    ((X[None, None],), {}, ValueError, r"got shape \(1, 1, 4, 3, 16, 18\): the first axis is the batch"),
    ((X[:0],), {}, ValueError, r"images must not be empty, got shape \(0, 3, 16, 18\)"),
    ((X,), {"generator": 3}, TypeError, "generator must be a torch.Generator"),
    ((X,), {"generator": 3, "mask": some(4, 1, 16, 18)}, TypeError, "generator must be a torch.Generator"),
    ((X.to_sparse(),), {}, TypeError, "images must be a dense tensor"),
    ((X.to(ON_META),), {"generator": torch.Generator()}, ValueError, "generator is on cpu"),
    ((X,), {"mask": "cow"}, TypeError, "mask must be a tensor"),
    ((X,), {"mask": some(4, 1, 16, 18, dtype=torch.int)}, TypeError, "mask must be bool"),
    ((X,), {"mask": some(4, 16, 18, dtype=torch.bool)}, ValueError, "mask.*pass|mask must be"),
    (
        (X,),
        {"mask": some(4, 3, 16, 18, dtype=torch.bool)},
        ValueError,
        r"mask must be \(B, 1, \*size\) = \(4, 1, 16, 18\)",
    ),
    ((X,), {"mask": some(4, 1, 16, 18, dtype=torch.bool).to(ON_META)}, ValueError, "mask is on meta"),
]
FORWARD_MIXERS: list[Case] = [
    (
        (X[None],),
        {},
        ValueError,
        r"videos .* y = transform\(x.flatten\(0, 1\), partner=x.roll\(1, 0\).flatten\(0, 1\)\);",
    ),
    (
        (X, some(4, 3, 4, 5)),
        {},
        ValueError,
        r"targets\[0\] must be dense.*: resize it .* torch.nn.functional.interpolate",
    ),
    (
        (X,),
        {"partner": some(4, 3, 8, 9)},
        ValueError,
        r"partner\[0\] must have shape .*: resize or crop both to one size",
    ),
    ((X[0],), {}, ValueError, r"a single image cannot be mixed: mix batches, .*loop or in a collate_fn"),
    ((X, X[:2]), {}, ValueError, r"targets\[0\] must be dense.*: pass as many targets as images, 4"),
    ((X, some(5, 16, 18)), {}, ValueError, "pass as many targets as images, 4$"),
    ((X, some(4, 8, 9)), {}, ValueError, "resize it to the images by torch.nn.functional.interpolate$"),
    (
        (X, LABELS.float()),
        {},
        ValueError,
        r"targets\[0\] must be dense.*: try targets\[0\].long\(\) with num_classes, or targets\[0\]\[:, None\]",
    ),
    ((X, some(4, 4) * 7), {}, ValueError, r"labels \(B, K\) must be in \[0, 1\], got 7 to 7: only labels and dense"),
    ((X, torch.rand(3)), {}, ValueError, "pass as many targets as images, 4$"),
    ((X[:1],), {"mask": "cow"}, TypeError, "mask must be a tensor"),
    ((X, some(4, 4)), {"partner": (X, some(4, 4) - 2)}, ValueError, r"labels \(B, K\) must be in \[0, 1\], got -1"),
    (
        (X, some(4, 7)),
        {"partner": (X, LABELS)},
        ValueError,
        r"partner\[1\] must have shape .*for both, or probabilities",
    ),
    ((X, X[..., 1:]), {}, ValueError, r"targets\[0\] must be dense, .* or labels, .*got \(4, 3, 16, 17\)"),
    ((X, X[1:]), {}, ValueError, r"targets\[0\] must be dense"),
    ((X, X, X[:, :, None]), {}, ValueError, r"targets\[1\] must be dense"),
    ((X, torch.tensor(3)), {}, ValueError, r"targets\[0\] must be dense"),
    ((X, [0, 1, 2, 1]), {}, TypeError, r"targets\[0\] must be a tensor, got list"),
    ((X, X.to(ON_META)), {}, ValueError, r"targets\[0\] is on meta, but the images are on cpu"),
    ((X, LABELS), {}, ValueError, r"labels of shape \(B,\) need .*\(num_classes=...\)"),
    ((X, X), {"partner": X}, ValueError, "partner must hold as many tensors as are mixed, 2, got 1"),
    ((X,), {"partner": 3}, TypeError, "partner must be a tensor, or a tuple of as many as are mixed, got int"),
    ((X, [0, 1, 2, 1]), {"partner": (X, X)}, TypeError, r"targets\[0\] must be a tensor, got list"),
    ((X, LABELS[:, None]), {}, ValueError, r"targets\[0\] must be dense.*: try targets\[0\].squeeze\(1\)"),
    ((X, some(4, 3, dtype=torch.long)), {}, ValueError, r"targets\[0\] must be dense.*: try targets\[0\].float\(\)"),
    ((X, LABELS * 1j), {}, ValueError, r"targets\[0\] must be dense"),
    ((X,), {"partner": [None]}, TypeError, r"partner\[0\] must be a tensor"),
    (
        (X,),
        {"partner": X[1:]},
        ValueError,
        r"partner\[0\] must have shape .*, got \(3, .*: pass as many partners .*, 4",
    ),
    (
        (X,),
        {"partner": X.double()},
        ValueError,
        r"partner\[0\] must have dtype torch.float32, got torch.float64: try .to\(torch.float32\)",
    ),
    ((X,), {"partner": X.to(ON_META)}, ValueError, r"partner\[0\] must have device cpu, got meta: try .to\('cpu'\)"),
]
FORWARD_LABELS: list[Case] = [
    ((X, some(4, 3) * 7), {}, ValueError, r"labels \(B, K\) must be in \[0, 1\]"),
    ((X, LABELS + 1), {}, ValueError, r"labels must be from 0 to num_classes - 1 = 2, got 1 to 3"),
    ((X, LABELS - 1), {}, ValueError, "labels must be from 0 to"),
    ((X, LABELS), {"partner": (X, LABELS + 5)}, ValueError, "labels must be from 0 to"),
    ((X, some(4, 7)), {}, ValueError, r"labels \(B, K\) must be of num_classes=3 classes, got \(4, 7\)"),
]
FORWARD_MIXUP: list[Case] = [
    (
        (X.byte(),),
        {},
        TypeError,
        r"MixUp blends: images and dense targets must be floating, got torch.uint8: pass images.float",
    ),
    (
        (X, some(4, 16, 18, dtype=torch.long)),
        {},
        TypeError,
        "MixUp blends: .*got torch.int64.*one-hot for class indices",
    ),
]
FORWARD_ERASERS: list[Case] = [
    ((X,), {"partner": X}, TypeError, "partner"),
    ((X[0],), {}, ValueError, r"for a single image pass images\[None\]"),
    ((X[None],), {}, ValueError, r"videos .*: y = transform\(x.flatten\(0, 1\)\); y = y.unflatten\(0, x.shape\[:2\]\)"),
]
MIXERS = [CowMix(), CutMix(), MixUp()]
WITH_CLASSES = [CowMix(num_classes=3), CutMix(num_classes=3), MixUp(num_classes=3)]
ERASERS = [CowOut(), CutOut()]
TRANSFORM_CALLS = [
    pytest.param(transform, *case, id=f"{type(transform).__name__} {number}")
    for transforms, cases in (
        ([*MIXERS, *ERASERS], FORWARD),
        (MIXERS, FORWARD_MIXERS),
        (WITH_CLASSES, FORWARD_LABELS),
        ([MixUp()], FORWARD_MIXUP),
        (ERASERS, FORWARD_ERASERS),
        ([CowOut(fill=0.5), CutOut(fill=0.5)], [((X.byte(),), {}, ValueError, "fill must be a whole number")]),
        ([CowOut(fill=some(3))], [((X,), {}, ValueError, r"fill of shape \(3,\) does not broadcast")]),
        (
            [CowMix(sigma=some(3)), CowOut(sigma=some(3))],
            [((X,), {}, ValueError, "sigma holds 3 per-mask values, but 4")],
        ),
        ([CowMix(spacing=(1, 1, 1))], [((X,), {}, ValueError, "spacing must have one number per axis: expected 2")]),
        ([CutMix(aspect=2.0, ndim=1)], [((X[..., 0],), {}, ValueError, "aspect is height over width")]),
        ([CowMix(ndim=3), CutOut(ndim=3)], [((X,), {}, ValueError, r"\(B, C, D, H, W\) for ndim=3.*set ndim=2")]),
        (
            [CowMix(ndim=1), MixUp(ndim=1)],
            [((X[..., 0], X[:, 0, :, 0]), {}, ValueError, r"may be dense .* or labels of 16 .*: pass \(4, 1, 16\)")],
        ),
    )
    for transform in transforms
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(("transform", "arguments", "options", "error", "words"), TRANSFORM_CALLS)
def test_transforms_refuse_with_words_and_nothing_drawn(
    transform: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    state, before = torch.get_rng_state(), copy.deepcopy((arguments, options))
    with pytest.raises(error, match=words) as raised:
        transform(*arguments, **options)
    assert type(raised.value) is error
    assert torch.equal(torch.get_rng_state(), state)
    for mine, old in zip(arguments, before[0], strict=True):
        assert not isinstance(mine, Tensor) or mine.is_meta or mine.is_sparse or torch.equal(mine, old)


@pytest.mark.parametrize("transform", [*MIXERS, *ERASERS])
def test_sample_refuses_what_is_no_batch_of_images(transform: Any) -> None:
    for bad, error in ((X.numpy(), TypeError), (X[0, 0], ValueError), (X[..., :0], ValueError), ((16, 18), TypeError)):
        with pytest.raises(error, match="images must"):
            transform.sample(bad)
    with pytest.raises(TypeError, match="generator must be a"):
        transform.sample(X, 3)
    alone = "a single image cannot be mixed" if transform in MIXERS else r"for a single image pass images\[None\]"
    with pytest.raises(ValueError, match=alone):
        transform.sample(X[0])
