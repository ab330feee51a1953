"""examples/segmentation/methods.py: what each method shows the student, and what it expects."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from segmentation.data.batches import UnlabelledBatch
from segmentation.methods import Augment, Erase, MethodName, Mix, build_method


def see(images: Tensor) -> Tensor:
    """Stand for the teacher: a map of each pixel by itself."""
    return images * 2


def partly_valid(batch: int) -> UnlabelledBatch:
    """Return images that are a million where there is none, so that it is seen in what becomes of them."""
    valid = torch.rand(batch, 1, 16, 16) > 0.3
    return UnlabelledBatch((torch.rand(batch, 3, 16, 16) + 0.1).where(valid, 1e6), valid)


@pytest.mark.parametrize("name", ["ict", "cutmix", "cowmix", "cutmix_fixed"])
@pytest.mark.parametrize("batch", [1, 3])
def test_images_and_predictions_are_mixed_alike(name: Any, batch: int) -> None:
    mix = build_method(name, (16, 16), sigma=(1, 4)).perturb
    assert isinstance(mix, Mix)
    mixed = mix(lambda: partly_valid(batch), see)
    assert torch.allclose(mixed.probabilities, see(mixed.images))
    assert mixed.mask is None
    assert torch.equal(mixed.valid, mixed.images.amax(1, keepdim=True) < 1000)
    assert 0 < mixed.valid.float().mean() < 1


@pytest.mark.parametrize("name", ["cutout", "cowout", "cutout_square"])
def test_what_is_erased_is_what_does_not_count(name: Any) -> None:
    erase = build_method(name, (16, 16), sigma=(1, 4)).perturb
    assert isinstance(erase, Erase)
    images, valid = partly_valid(5)
    erased = erase(lambda: UnlabelledBatch(images, valid), see)
    assert erased.mask is not None
    assert erased.mask.dtype == torch.bool
    assert not erased.mask.all()
    assert torch.equal(erased.images, images * erased.mask)
    assert torch.equal(erased.probabilities, see(images))
    assert torch.equal(erased.valid, valid)


def test_standard_augmentation_maps_predictions_with_the_images() -> None:
    augment = build_method("std_aug", (48, 64), sigma=(1, 4), translation=6.0).perturb
    assert isinstance(augment, Augment)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 64), indexing="ij")
    images = torch.stack([rows, columns, rows * 0 + 0.5]).expand(8, 3, 48, 64)
    # The probabilities tell where each pixel came from; a smooth image is resampled without loss. Brightness and
    # contrast change the images alone.
    everywhere = torch.ones(8, 1, 48, 64, dtype=torch.bool)
    moved = augment(lambda: UnlabelledBatch(images, everywhere), lambda x: x)
    assert moved.valid.dtype == torch.bool
    assert 0.5 < moved.valid.float().mean() < 0.99
    inside = moved.valid.expand(8, 3, 48, 64)
    assert torch.allclose(moved.probabilities[:, 2:][moved.valid], torch.tensor(0.5), atol=1e-3)
    assert not torch.allclose(moved.images[inside], moved.probabilities[inside], atol=0.05)  # recoloured
    for image, probabilities, valid in zip(moved.images, moved.probabilities, moved.valid[:, 0], strict=True):
        for channel in (0, 1):  # where colour follows one axis, it is the same function of the probability everywhere
            seen, expected = image[channel][valid], probabilities[channel][valid]
            middle = (seen > 0.02) & (seen < 0.98)
            assert torch.corrcoef(torch.stack([seen[middle], expected[middle]]))[0, 1] > 0.999
    nowhere = augment(lambda: UnlabelledBatch(images, ~everywhere), lambda x: x)
    assert not nowhere.valid.any()


def test_every_method_of_the_list_is_built() -> None:
    unlabelled = {name for name in get_args(MethodName) if build_method(name, (16, 16), (1, 4)).perturb is not None}
    assert set(get_args(MethodName)) - unlabelled == {"supervised", "full", "adversarial"}
    assert build_method("adversarial", (16, 16), (1, 4)).adversarial
    assert [name for name in get_args(MethodName) if build_method(name, (16, 16), (1, 4)).all_labels] == ["full"]
    cowmix = build_method("cowmix", (16, 16), (1, 4), proportion=(0.2, 0.3)).perturb
    assert isinstance(cowmix, Mix)
    assert cowmix.transform.proportion == (0.2, 0.3)
