"""examples/segmentation/methods.py: the images for the student, and the predictions expected of it."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from segmentation.methods import Augment, Erase, MethodName, Mix, Taught, build_methods


def predict(images: Tensor) -> Tensor:
    """Stand for the teacher: map each pixel by itself."""
    return images * 2


def partly_valid(batch: int) -> Taught:
    """Return images in [0.1, 1.1], and a million outside of them: a pixel blended with outside stands out."""
    valid = torch.rand(batch, 1, 16, 16) > 0.3
    images = (torch.rand(batch, 3, 16, 16) + 0.1).where(valid, 1e6)
    return Taught(images, valid, predict(images))


@pytest.mark.parametrize("name", ["ict", "cutmix", "cowmix", "cutmix_fixed"])
@pytest.mark.parametrize("batch", [1, 3])
def test_images_and_predictions_are_mixed_alike(name: Any, batch: int) -> None:
    mix = build_methods((16, 16), sigma=(1, 4))[name].perturb
    assert isinstance(mix, Mix)
    assert mix.mixes
    mixed = mix(partly_valid(batch), partly_valid(1) if batch == 1 else None)
    assert torch.allclose(mixed.probabilities, predict(mixed.images))
    assert mixed.mask is None
    assert torch.equal(mixed.valid, mixed.images.amax(1, keepdim=True) < 1000)
    assert 0 < mixed.valid.float().mean() < 1


@pytest.mark.parametrize("name", ["cutout", "cowout", "cutout_square"])
def test_what_is_erased_is_what_does_not_count(name: Any) -> None:
    colour = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    erase = build_methods((16, 16), sigma=(1, 4), fill=colour)[name].perturb
    assert isinstance(erase, Erase)
    assert not erase.mixes
    batch = partly_valid(5)
    erased = erase(batch)
    assert erased.mask is not None
    assert erased.mask.dtype == torch.bool
    assert not erased.mask.all()
    assert torch.equal(erased.images, batch.images.where(erased.mask, colour))
    assert torch.equal(erased.probabilities, batch.probabilities)
    assert torch.equal(erased.valid, batch.valid)


def test_standard_augmentation_maps_predictions_with_the_images() -> None:
    augment = build_methods((48, 64), sigma=(1, 4), translation=6.0)["std_aug"].perturb
    assert isinstance(augment, Augment)
    assert not augment.mixes
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 64), indexing="ij")
    images = torch.stack([rows, columns, rows * 0 + 0.5]).expand(8, 3, 48, 64)
    # The probabilities are coordinates, so they show where each pixel came from: resampling keeps a smooth image exact.
    # Brightness and contrast change the images alone.
    everywhere = torch.ones(8, 1, 48, 64, dtype=torch.bool)
    moved = augment(Taught(images, everywhere, images))
    assert moved.valid.dtype == torch.bool
    assert 0.5 < moved.valid.float().mean() < 0.99
    inside = moved.valid.expand(8, 3, 48, 64)
    assert torch.allclose(moved.probabilities[:, 2:][moved.valid], torch.tensor(0.5), atol=1e-3)
    assert not torch.allclose(moved.images[inside], moved.probabilities[inside], atol=0.05)  # recoloured
    for image, probabilities, valid in zip(moved.images, moved.probabilities, moved.valid[:, 0], strict=True):
        for channel in (0, 1):  # the colour follows one axis: everywhere the same function of the probability
            seen, expected = image[channel][valid], probabilities[channel][valid]
            middle = (seen > 0.02) & (seen < 0.98)
            assert torch.corrcoef(torch.stack([seen[middle], expected[middle]]))[0, 1] > 0.999
    nowhere = augment(Taught(images, ~everywhere, images))
    assert not nowhere.valid.any()


def test_every_name_has_a_method_and_every_method_a_name() -> None:
    methods = build_methods((16, 16), (1, 4), proportion=(0.2, 0.3))
    assert tuple(methods) == get_args(MethodName)
    without_teacher = {name for name, method in methods.items() if method.perturb is None}
    assert without_teacher == {"supervised", "full", "adversarial"}
    assert [name for name, method in methods.items() if method.adversarial] == ["adversarial"]
    assert [name for name, method in methods.items() if method.all_labels] == ["full"]
    cowmix = methods["cowmix"].perturb
    assert isinstance(cowmix, Mix)
    assert cowmix.transform.proportion == (0.2, 0.3)
