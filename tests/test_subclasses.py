"""Tensors of other types: annotated ones keep their type, and wrappers are refused."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp, box_masks, consistency_loss, cow_masks, erase, mix

MIXERS: list[Any] = [CowMix, CutMix, MixUp]
ERASERS: list[Any] = [CowOut, CutOut]


class Annotated(Tensor):
    """A tensor with attributes, which operations lose or pass on, as they do tv_tensors' and MetaTensor's."""

    meta: dict[str, Any]


def annotated(x: Tensor, **meta: Any) -> Annotated:
    result = x.as_subclass(Annotated)
    result.meta = meta
    return result


IMAGES, MASK = torch.rand(4, 3, 24, 36), torch.rand(4, 1, 24, 36) < 0.5


@pytest.mark.parametrize("make", MIXERS)
def test_mixers_return_the_types_that_came(make: Any) -> None:
    x, probs, labels = annotated(IMAGES, affine=[1, 2]), torch.rand(4, 5, 24, 36), torch.tensor([0, 1, 2, 3])
    transform = make(num_classes=4)
    mask = transform.sample(x)
    assert type(mask) is Tensor
    mixed, mixed_probs, soft, hard = transform(x, probs, annotated(torch.eye(4)), annotated(labels), mask=mask)
    assert [type(y) for y in (mixed, mixed_probs, soft, hard)] == [Annotated, Tensor, Annotated, Tensor]
    assert mixed.meta == {"affine": [1, 2]}
    assert mixed.meta["affine"] is not x.meta["affine"]
    assert torch.equal(mixed.as_subclass(Tensor), transform(IMAGES, mask=mask))
    assert type(transform(IMAGES, partner=x, mask=mask)) is Tensor


@pytest.mark.parametrize("make", ERASERS)
def test_erasers_return_the_types_that_came(make: Any) -> None:
    transform, x = make(fill=annotated(torch.ones(3, 1, 1))), annotated(IMAGES, name="a")
    assert type(transform.sample(x)) is Tensor
    assert type(transform(IMAGES)) is Tensor
    erased = transform(x, mask=annotated(MASK))
    assert type(erased) is Annotated
    assert erased.meta == {"name": "a"}


def test_functions_return_the_types_that_came_and_losses_are_plain() -> None:
    x = annotated(IMAGES, name="a")
    for result in (mix(x, IMAGES, annotated(MASK)), erase(x, annotated(MASK))):
        assert type(result) is Annotated
        assert result.meta == {"name": "a"}
    mask = annotated(MASK)
    for plain in (mix(IMAGES, x, MASK), mix(IMAGES, IMAGES, mask), erase(IMAGES, mask), CowMix()(IMAGES, mask=mask)):
        assert type(plain) is Tensor
    probs = annotated(torch.rand(4, 3, 24, 36).softmax(1))
    assert type(consistency_loss(annotated(IMAGES), probs, annotated(MASK), valid=annotated(MASK))) is Tensor


def test_masks_are_plain_whatever_they_are_drawn_from() -> None:
    noise, halves = annotated(torch.randn(4, 1, 24, 36)), annotated(torch.full((4,), 0.5))
    for masks in (
        cow_masks(4, (24, 36), noise=noise),
        cow_masks(4, (24, 36), sigma=8 * halves, proportion=halves),
        box_masks(4, (24, 36), halves),
    ):
        assert type(masks) is Tensor


@pytest.mark.parametrize("kind", [Tensor, Annotated])
def test_a_parameter_comes_out_as_a_tensor_with_a_gradient(kind: type[Tensor]) -> None:
    x = nn.Parameter(IMAGES.clone().as_subclass(kind))
    for result in (mix(x, x.flip(0), MASK), erase(x, MASK), CowMix()(x), CowOut()(x)):
        assert type(result) is Tensor
        (gradient,) = torch.autograd.grad(result.sum(), x)
        assert type(gradient) is kind


def nested() -> Tensor:
    return torch.nested.nested_tensor([IMAGES[0], IMAGES[1]], layout=torch.jagged)


def distributed(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Return what passes for a DTensor, which needs a process group."""
    fake = copy.copy(annotated(IMAGES))
    monkeypatch.setattr(Annotated, "__tensor_flatten__", None, raising=False)
    monkeypatch.setattr(Annotated, "__tensor_unflatten__", None, raising=False)
    return fake


def test_wrappers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(DTensor, "__tensor_flatten__")  # by which wrappers are told
    assert hasattr(DTensor, "__tensor_unflatten__")
    for call in (lambda x: mix(x, x, MASK), lambda x: erase(x, MASK), CowMix(), CowOut()):
        with pytest.raises(
            TypeError, match=r"must be a dense tensor, got a nested one: try \w+\.to_padded_tensor\(0\)"
        ):
            call(nested())
    wrapped = distributed(monkeypatch)
    for call in (lambda x: mix(x, x, MASK), lambda x: erase(x, MASK), CowMix(), CowOut()):
        with pytest.raises(TypeError, match=r"must be a plain tensor, got Annotated: .*\.to_local\(\)"):
            call(wrapped)


@pytest.mark.parametrize("make", [*MIXERS, *ERASERS])
def test_torchvisions_tensors_stay_what_they_are(make: Any) -> None:
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    v2 = pytest.importorskip("torchvision.transforms.v2")
    images, targets = tv_tensors.Image(IMAGES), tv_tensors.Mask(torch.rand(4, 24, 36))
    mixed, mixed_targets = make()(images, targets)
    assert isinstance(mixed, tv_tensors.Image)
    assert isinstance(mixed_targets, tv_tensors.Mask)
    flipped = v2.RandomHorizontalFlip(p=1)(mixed, mixed_targets)
    assert torch.equal(flipped[0], mixed.flip(-1))
    assert torch.equal(flipped[1], mixed_targets.flip(-1))


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")  # why it breaks the graph, torch < 2.14
def test_torchvisions_tensors_break_the_graph_of_compiled_code() -> None:
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    transform, images = CowMix(), tv_tensors.Image(IMAGES)
    results = []
    for call in (transform, torch.compile(transform, backend="eager")):
        torch.manual_seed(0)
        results.append(call(images))
    assert all(type(result) is tv_tensors.Image for result in results)
    assert torch.equal(*results)
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):  # docs/conventions.md says so
        torch.compile(transform, fullgraph=True, backend="eager")(images)
    torch.compiler.reset()


def test_metatensor_keeps_its_meta() -> None:
    monai = pytest.importorskip("monai.data")
    x = monai.MetaTensor(IMAGES, meta={"filename": "a.nii"})
    mixed = CowMix()(x)
    assert isinstance(mixed, monai.MetaTensor)
    assert mixed.meta["filename"] == "a.nii"
