"""What data workers draw with torchvision's transforms of the package, and how it is distributed."""

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Beta
from torchvision.transforms import v2

from cowmask.integrations import torchvision as ours
from tests.peers.workers import EPOCHS, IMAGES, masks_of_epochs

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@forks
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_other_masks_in_each_worker_and_epoch(persistent: bool) -> None:
    masks = masks_of_epochs("fork", seed=0, persistent=persistent)
    assert len(masks.view(EPOCHS * IMAGES, -1).unique(dim=0)) == EPOCHS * IMAGES
    assert 0.2 < masks.float().mean() < 0.8
    assert not torch.equal(masks, masks_of_epochs("fork", seed=1, persistent=persistent))


@forks
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_draw_the_same_masks_for_a_seed_however_they_start(start: str) -> None:
    assert torch.equal(masks_of_epochs(start, seed=0), masks_of_epochs("fork", seed=0))


DRAWS, SIZE = 3000, (256, 384)  # theirs rounds boxes down and ours to the nearest, which small images would show


def their_shares(transform: Any) -> Tensor:
    """Return what labels (DRAWS,) a transform of torchvision gives the partner. It draws one number a batch."""
    images, labels = torch.zeros(2, 1, *SIZE), torch.tensor([0, 1])
    return torch.stack([transform(images, labels)[1][0, 1] for _ in range(DRAWS)])


def our_shares(transform: Any, n: int = 100) -> Tensor:
    """Return the same of a transform of ours, which draws one number an image."""
    images, labels = torch.zeros(n, 1, *SIZE), torch.arange(n) % 2
    return torch.cat([transform(images, labels)[1][torch.arange(n), 1 - labels] for _ in range(DRAWS // n)])


def p_value(ours: Tensor, theirs: Tensor) -> float:
    return float(stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue)


def test_cutmix_of_alpha_1_is_theirs_and_others_are_not() -> None:
    theirs = their_shares(v2.CutMix(alpha=1.0, num_classes=2))
    settings: dict[str, Any] = {"area": (0, 1), "aspect": SIZE[0] / SIZE[1], "clip": True, "num_classes": 2}
    assert p_value(our_shares(ours.CutMix(**settings)), theirs) > 1e-3
    others: list[dict[str, Any]] = [{"area": (0, 0.75)}, {"clip": False}, {"area": 0.5}]
    for other in others:
        assert p_value(our_shares(ours.CutMix(**settings | other)), theirs) < 1e-6, other


def test_cutmix_of_other_alphas_is_theirs_by_areas_for_each_image() -> None:
    theirs = their_shares(v2.CutMix(alpha=0.3, num_classes=2))
    cutmix = ours.CutMix(aspect=SIZE[0] / SIZE[1], clip=True, num_classes=2)

    def cutmix_of_areas(images: Tensor, labels: Tensor) -> Any:
        cutmix.core.area = Beta(0.3, 0.3).sample((len(images),))
        return cutmix(images, labels)

    assert p_value(our_shares(cutmix_of_areas), theirs) > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_has_their_alpha(alpha: float) -> None:
    theirs = their_shares(v2.MixUp(alpha=alpha, num_classes=2))
    assert p_value(our_shares(ours.MixUp(alpha, num_classes=2)), theirs) > 1e-3
    assert p_value(our_shares(ours.MixUp(2 * alpha, num_classes=2)), theirs) < 1e-6
