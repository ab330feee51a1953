"""What samples v2.CutMix and v2.MixUp take, which they refuse, and what comes out."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten
from torchvision import tv_tensors

from tests.peers.cases import CLASSES, LABELS, ONE_HOT, Make, case, expect_mixed, images

Pair = namedtuple("Pair", ["image", "label"])
CONTAINERS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], tuple[Any, Any]]]] = {
    "tuple": (lambda x, y: (x, y), tuple),
    "list": (lambda x, y: [x, y], tuple),
    "named tuple": (Pair, tuple),
    "longer tuple": (lambda x, y: (x, y, "path", 7, None), itemgetter(0, 1)),
    "dict": (lambda x, y: {"image": x, "label": y}, itemgetter("image", "label")),
    "ordered dict": (lambda x, y: OrderedDict(image=x, labels=y), itemgetter("image", "labels")),
    "longer dict": (lambda x, y: {"id": [1, "a"], "image": x, "labels": y, "n": 2}, itemgetter("image", "labels")),
    "dict with image_label": (lambda x, y: {"image": x, "Image_Label": y}, itemgetter("image", "Image_Label")),
    "dict with LABELS": (lambda x, y: {"x": x, "old label": 3, "LABELS": y}, itemgetter("x", "LABELS")),
    "tuple with a dict": (lambda x, y: (x, {"id": "a", "labels": y}), lambda out: (out[0], out[1]["labels"])),
    "nested dict": (lambda x, y: {"in": {"a": [x, None]}, "label": y}, lambda out: (out["in"]["a"][0], out["label"])),
    "nested list": (lambda x, y: [[["path", x]], y], lambda out: (out[0][0][1], out[1])),
}


def _expect_container(make: Make, value: str, wrap: Callable[[Tensor], Tensor], unpack: bool = False) -> None:
    build, find = CONTAINERS[value]
    transform, sample = make(num_classes=CLASSES), build(wrap(images()), LABELS)

    def call() -> tuple[Any, Any]:
        out = transform(*sample) if unpack else transform(sample)
        assert type(out) is (tuple if unpack else type(sample))
        assert tree_flatten(out)[1] == tree_flatten(tuple(sample) if unpack else sample)[1]
        assert type(find(out)[0]) is type(find(sample)[0])
        return find(out)

    expect_mixed(call)


@case({name: name for name in CONTAINERS})
def pure_tensors_in(make: Make, value: str) -> None:
    _expect_container(make, value, lambda x: x)


@case({name: name for name in CONTAINERS})
def tv_tensors_in(make: Make, value: str) -> None:
    _expect_container(make, value, tv_tensors.Image)


@case({name: name for name in ("tuple", "longer tuple", "tuple with a dict")})
def unpacked_pure_tensors_of(make: Make, value: str) -> None:
    _expect_container(make, value, lambda x: x, unpack=True)


@case({name: name for name in ("tuple", "longer tuple", "tuple with a dict")})
def unpacked_tv_tensors_of(make: Make, value: str) -> None:
    _expect_container(make, value, tv_tensors.Image, unpack=True)


OTHERS = {
    "text": "a",
    "number": 2.5,
    "None": None,
    "array": np.zeros(4),
    "tensor": torch.arange(4),
    "map": torch.rand(4, 24, 36),
    "object": object(),
}


@case(OTHERS)
def other_parts_are_passed_on(make: Make, value: Any) -> None:
    assert make(num_classes=CLASSES)(images(), LABELS, value)[2] is value


@case({"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64})
def images_keep_their_dtype(make: Make, value: torch.dtype) -> None:
    transform, x = make(num_classes=CLASSES), images(dtype=value)
    assert transform(x, LABELS)[0].dtype == value
    expect_mixed(lambda: transform(x, LABELS))


@case({"uint8": torch.uint8, "int16": torch.int16, "int64": torch.int64, "bool": torch.bool}, names=("CutMix",))
def images_that_cannot_blend_keep_their_dtype(make: Make, value: torch.dtype) -> None:
    transform, x = make(num_classes=CLASSES), images(dtype=value)
    assert transform(x, LABELS)[0].dtype == value
    if value != torch.bool:
        expect_mixed(lambda: transform(x, LABELS))


FORMS = {
    "float16": ONE_HOT.half(),
    "float32": ONE_HOT,
    "float64": ONE_HOT.double(),
    "soft": 0.9 * ONE_HOT + 0.1 / CLASSES,
    "several": (torch.arange(4 * CLASSES).view(4, CLASSES) % 3 > 0).float(),
    "int64": ONE_HOT.long(),
    "uint8": ONE_HOT.byte(),
    "bool": ONE_HOT.bool(),
}


@case(FORMS)
def labels_of_all_classes(make: Make, value: Tensor) -> None:
    for transform in (make(), make(num_classes=CLASSES)):
        soft = transform(images(), value)[1]
        assert soft.dtype == (value.dtype if value.is_floating_point() else torch.float32)
        expect_mixed(lambda transform=transform: transform(images(), value), value)  # type: ignore[misc]


def _target(sample: Any) -> Any:
    return sample["target"] if isinstance(sample, dict) else sample[-1]


@case({"function": _target, "itemgetter": itemgetter("target"), "lambda": lambda sample: sample["target"]})
def labels_getter(make: Make, value: Any) -> None:
    transform = make(num_classes=CLASSES, labels_getter=value)
    sample = {"image": tv_tensors.Image(images()), "n": 1, "target": LABELS}
    expect_mixed(lambda: itemgetter("image", "target")(transform(sample)))


@case()
def labels_getter_takes_unpacked_samples_as_a_tuple(make: Make) -> None:
    transform = make(num_classes=CLASSES, labels_getter=_target)
    expect_mixed(lambda: itemgetter(0, 2)(transform(tv_tensors.Image(images()), "a", LABELS)))


@case()
def labels_come_out_as_a_pure_tensor(make: Make) -> None:
    assert type(make(num_classes=CLASSES)(tv_tensors.Image(images()), LABELS)[1]) is Tensor


@case({"float": torch.float32, "float64": torch.float64})
def videos_stay_videos(make: Make, value: torch.dtype) -> None:
    transform, x = make(num_classes=CLASSES), tv_tensors.Video(images((4, 5, 3, 24, 36), value))
    mixed, _ = transform(x, LABELS)
    assert type(mixed) is tv_tensors.Video
    assert mixed.dtype == value
    assert torch.equal(mixed, mixed[:, :1].expand_as(mixed))  # all frames by one mask
    expect_mixed(lambda: transform(x, LABELS))


@case()
def all_tv_tensors_of_images_are_mixed_alike(make: Make) -> None:
    sample = {"left": tv_tensors.Image(images()), "right": tv_tensors.Image(images()), "label": LABELS}
    out = make(num_classes=CLASSES)(sample)
    assert torch.equal(out["left"], out["right"])
    assert not torch.equal(out["left"], sample["left"])


@case()
def pure_tensors_beside_tv_tensors_are_passed_on(make: Make) -> None:
    sample = {"depth": images(), "image": tv_tensors.Image(images()), "label": LABELS}
    assert make(num_classes=CLASSES)(sample)["depth"] is sample["depth"]


def _boxes(kind: str) -> Any:
    if kind == "boxes":
        return tv_tensors.BoundingBoxes(torch.ones(4, 4), format="XYXY", canvas_size=(24, 36))
    return tv_tensors.KeyPoints(torch.ones(4, 2), canvas_size=(24, 36))


X = images()
WRONG: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "a PIL image": ({"num_classes": CLASSES}, (PIL.Image.new("RGB", (36, 24)), LABELS)),
    "a PIL image beside": ({"num_classes": CLASSES}, (tv_tensors.Image(X), LABELS, PIL.Image.new("RGB", (36, 24)))),
    "bounding boxes": ({"num_classes": CLASSES}, (tv_tensors.Image(X), LABELS, _boxes("boxes"))),
    "key points": ({"num_classes": CLASSES}, (tv_tensors.Image(X), LABELS, _boxes("points"))),
    "no labels in a tuple": ({"num_classes": CLASSES}, (tv_tensors.Image(X), "a", torch.arange(4))),
    "no labels in a dict": ({"num_classes": CLASSES}, ({"image": tv_tensors.Image(X), "target": LABELS},)),
    "labels in a list": ({"num_classes": CLASSES}, ({"image": tv_tensors.Image(X), "labels": LABELS.tolist()},)),
    "a label": ({"num_classes": CLASSES}, (X, torch.tensor(1))),
    "labels of three axes": ({"num_classes": CLASSES}, (X, torch.ones(4, CLASSES, 1))),
    "other classes": ({"num_classes": CLASSES + 1}, (X, ONE_HOT)),
    "no num_classes": ({}, (X, LABELS)),
    "more labels than images": ({"num_classes": CLASSES}, (X, torch.cat([LABELS, LABELS]))),
    "an image for a batch": ({"num_classes": CLASSES}, (X[0], LABELS)),
    "a video for a batch": ({"num_classes": CLASSES}, (tv_tensors.Video(X), LABELS)),
    "a labels_getter that is none": ({"num_classes": CLASSES, "labels_getter": "spam"}, (X, LABELS)),
    "a labels_getter without labels": ({"num_classes": CLASSES, "labels_getter": itemgetter(2)}, (X, LABELS, "a")),
}


@case(WRONG)
def is_refused(make: Make, value: tuple[dict[str, Any], tuple[Any, ...]]) -> None:
    settings, inputs = value
    make(num_classes=CLASSES)(X, LABELS)
    if "labels_getter" in settings:
        make(num_classes=CLASSES, labels_getter=itemgetter(1))
    try:
        make(**settings)(*inputs)
    except (TypeError, ValueError):
        return
    raise AssertionError("not refused")
