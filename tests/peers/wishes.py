"""What users of torchvision ask of v2.CutMix and v2.MixUp."""

from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from tests.peers.cases import CLASSES, LABELS, Make, expect_mixed, images, shares, wish


def _masks() -> Tensor:
    masks = images((4, 24, 36), torch.int64)
    masks[:, :, :9] = 255
    return masks


@wish({"(B, H, W)": None, "(B, 1, H, W)": 1})
def masks_are_mixed_with_images(make: Make, value: int | None) -> None:
    masks = _masks() if value is None else _masks()[:, None]
    image, mask = make()(tv_tensors.Image(images()), tv_tensors.Mask(masks))
    assert type(mask) is tv_tensors.Mask
    assert mask.shape == masks.shape
    mask = mask.view(4, 24, 36)
    assert (mask[..., :9] == 255).all()  # as a value to ignore, in both images
    assert torch.equal(mask[..., 9:].float(), image[:, 0, :, 9:].as_subclass(Tensor))


@wish()
def masks_in_a_dict_are_mixed_with_images_and_labels(make: Make) -> None:
    sample = {"image": tv_tensors.Image(images()), "mask": tv_tensors.Mask(_masks()), "label": LABELS}
    out = make(num_classes=CLASSES)(sample)
    assert type(out["mask"]) is tv_tensors.Mask
    expect_mixed(lambda: itemgetter("image", "label")(out))


@wish()
def a_mask_of_each_image(make: Make) -> None:
    taken = shares(make(num_classes=CLASSES)(images((20, 3, 24, 36)), torch.arange(20) % CLASSES)[0])
    assert len(taken.unique()) > 5


@wish({"tuple": ((0, 1), lambda x, y: (x, y)), "dict": (("image", "label"), lambda x, y: {"image": x, "label": y})})
def compiles_whole(make: Make, value: Any) -> None:
    keys, build = value
    transform = torch.compile(make(num_classes=CLASSES), fullgraph=True, backend="eager")
    expect_mixed(lambda: itemgetter(*keys)(transform(build(images(), LABELS))))
    torch.compiler.reset()


@wish()
def images_alone(make: Make) -> None:
    assert shares(make()(images())).max() > 0
