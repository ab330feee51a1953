"""The blocks of docs/volumes.md, and the masks of volumes, signals and clips."""

import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cowmask import CowMix, cow_masks
from tests import distribution
from tests.agreement import DRAWING
from tests.pages import ROOT, run
from tests.reference import cow_mask

PAGE = "docs/volumes.md"


def expected_changes(distance: float, sigma: float) -> float:
    """Return how often a cow mask of proportion 0.5 differs from itself at a distance, far from borders."""
    return math.acos(math.exp(-(distance**2) / (4 * sigma**2))) / math.pi


def changes(masks: Tensor, axis: int, lag: int) -> float:
    along = masks.movedim(axis, 0)
    return (along[lag:] != along[:-lag]).float().mean().item()


def assert_mixed_by(mixed: Tensor, x: Tensor, mask: Tensor) -> None:
    assert torch.equal(mixed, torch.where(mask, x.roll(1, 0), x))


def test_volumes(capsys: pytest.CaptureFixture[str]) -> None:
    volumes, targets = torch.rand(3, 2, 8, 24, 24), torch.randint(0, 5, (3, 8, 24, 24))
    names = run(PAGE, {"volumes": volumes, "targets": targets}, "Volumes")
    mask = names["mixed"][:, 0] != volumes[:, 0]
    assert_mixed_by(names["mixed"], volumes, mask[:, None])
    assert_mixed_by(names["mixed_targets"], targets, mask)
    printed = capsys.readouterr().out.strip().splitlines()
    page = re.search(r"^```\n((?:[\d. ]+\n)+)```", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert page is not None
    for ours, theirs in zip(printed, page[1].splitlines(), strict=True):
        assert [float(share) for share in ours.split()] == pytest.approx([float(s) for s in theirs.split()], abs=0.02)
    assert [float(share) for share in printed[0].split()] == pytest.approx([expected_changes(8, 8)] * 3, abs=0.01)


def test_a_synthetic_volume() -> None:
    names: dict[str, Any] = run(
        PAGE, {"volumes": torch.rand(2, 1, 4, 8, 8), "targets": torch.zeros(2, 4, 8, 8)}, "Volumes"
    )
    run(PAGE, names, "A synthetic volume, from data to teacher")
    x, y = names["draw_volumes"](64)
    assert 0.02 < y.float().mean() < 0.3
    extent = [y.movedim(axis, 1).flatten(2).any(2).sum(1).amax().item() for axis in (1, 2, 3)]
    assert extent == [6, 24, 24]  # 24 mm along every axis
    found = names["teacher"](x).argmax(1) == y
    assert found[y == 1].float().mean() > 0.5
    assert found[y == 0].float().mean() > 0.9


def test_monai() -> None:
    monai = pytest.importorskip("monai")
    affine = torch.diag(torch.tensor([1.0, 1.0, 4.0, 1.0]))

    def read(index: int) -> dict[str, Tensor]:
        images, labels = torch.rand(1, 20 + index, 24, 8), torch.randint(0, 3, (1, 20 + index, 24, 8))
        meta = {"affine": affine, "filename_or_obj": f"{index}.nii"}
        return {name: monai.data.MetaTensor(x, meta=meta) for name, x in (("image", images), ("label", labels))}

    crop = monai.transforms.RandSpatialCropd(["image", "label"], (16, 16, 8), random_size=False)
    dataset = monai.data.Dataset([read(index) for index in range(4)], crop)
    model = torch.nn.Conv3d(1, 3, 1)
    names = {
        "loader": monai.data.DataLoader(dataset, batch_size=2),
        "model": model,
        "criterion": monai.losses.DiceCELoss(to_onehot_y=True, softmax=True),
    }
    names = run(PAGE, names, "MONAI")
    batch = names["batch"]
    assert all(type(batch[name]) is monai.data.MetaTensor for name in ("image", "label"))
    assert batch["image"].pixdim[0].tolist() == list(names["cowmix"].spacing)
    one, other = monai.data.decollate_batch(batch)
    assert [x["image"].meta["filename_or_obj"] for x in (one, other)] == ["2.nii", "3.nii"]
    assert one["image"].applied_operations
    names["loss"].backward()
    assert model.weight.grad is not None


def test_signals() -> None:
    signals, labels = torch.rand(6, 3, 500), torch.randint(0, 5, (6,))
    names = run(PAGE, {"signals": signals, "labels": labels}, "Signals")
    mask = names["mixed"][:, :1] != signals[:, :1]
    assert_mixed_by(names["mixed"], signals, mask)
    taken, one_hot = mask.float().mean((1, 2))[:, None], F.one_hot(labels, 5)
    assert torch.allclose(names["mixed_labels"], one_hot * (1 - taken) + one_hot.roll(1, 0) * taken)
    kept = names["erased"] == signals
    assert torch.equal(names["erased"], torch.where(kept[:, :1], signals, 0))
    with pytest.raises(ValueError, match=r"pass \(6, 1, 500\) for dense targets"):
        names["cowmix"](signals, torch.rand(6, 500))
    sigmas = torch.logspace(math.log10(0.05), math.log10(0.2), 50).tolist()
    expected = sum(expected_changes(0.1, sigma) for sigma in sigmas) / 50  # 0.1 seconds further
    masks = names["cowmix"].sample(torch.empty(400, 1, 2500))
    assert changes(masks, 2, 25) == pytest.approx(expected, abs=0.01)


def test_clips() -> None:
    clips, targets = torch.rand(3, 6, 2, 32, 40), torch.randint(0, 5, (3, 6, 32, 40))
    names = run(PAGE, {"clips": clips, "targets": targets}, "Clips, one mask for all frames")
    still = names["mixed"][:, :1, :1] != clips[:, :1, :1]  # (B, 1, 1, H, W)
    assert still.any()
    assert_mixed_by(names["mixed"], clips, still)
    assert_mixed_by(names["mixed_targets"], targets, still[:, 0])
    frames = names["mixed_frames"].unflatten(0, clips.shape[:2])
    still = frames[:, :1, :1] != clips[:, :1, :1]
    assert still.any()
    assert_mixed_by(frames, clips, still)


def test_clips_with_masks_that_move() -> None:
    clips, targets = torch.rand(3, 6, 2, 32, 40), torch.randint(0, 5, (3, 6, 32, 40))
    names = run(PAGE, {"clips": clips, "targets": targets}, "Clips, masks that move")
    mask = names["moving_targets"] != targets
    assert_mixed_by(names["moving"], clips.transpose(1, 2), names["moving"][:, :1] != clips.transpose(1, 2)[:, :1])
    assert not torch.equal(mask[:, 0], mask[:, -1])
    masks = CowMix(sigma=8, spacing=(4, 1, 1), ndim=3).sample(torch.empty(40, 1, 24, 96, 96))
    over_time, over_space = changes(masks, 2, 2), changes(masks, 4, 8)  # sigma: 2 frames, 8 pixels
    assert over_time == pytest.approx(over_space, abs=0.01)
    assert over_time == pytest.approx(expected_changes(8, 8), abs=0.01)


def test_transforms_draw_what_cow_masks_draws_for_volumes() -> None:
    one, other = (torch.Generator().manual_seed(0) for _ in range(2))
    masks = CowMix((3, 9), (0.2, 0.8), spacing=(3, 1, 2), ndim=3).sample(torch.empty(2, 1, 9, 20, 17), one)
    assert torch.equal(masks, cow_masks(2, (9, 20, 17), (3, 9), (0.2, 0.8), spacing=(3, 1, 2), generator=other))


N, SIZE, SPACING, SIGMA, PROPORTION = 1500, (16, 28, 30), (2.0, 1.0, 1.5), 4.0, 0.3


def shape_features(masks: distribution.Bools) -> distribution.Features:
    """Return area, boundary, and agreement along each axis: few, since `distribution.BUDGET` holds for all tests."""
    return {name: x for name, x in distribution.features(masks).items() if not name.startswith(("pixel", "block"))}


@cache
def masks_of_listing_1() -> distribution.Features:
    rng, sigmas = np.random.default_rng(0), [SIGMA / step for step in SPACING]
    return shape_features(np.stack([cow_mask(rng.normal(size=SIZE), sigmas, PROPORTION) for _ in range(N)]))


@pytest.mark.parametrize("method", DRAWING)
def test_drawn_masks_of_anisotropic_voxels_are_distributed_as_listing_1s(method: str) -> None:
    masks = cow_masks(N, SIZE, SIGMA, PROPORTION, spacing=SPACING, method=method)[:, 0].numpy()
    values = distribution.p_values(shape_features(masks), masks_of_listing_1())
    assert all(value > distribution.LEVEL for value in values.values()), values
    assert len(values) == 19


@pytest.mark.parametrize("method", DRAWING)
def test_axes_of_anisotropic_voxels_are_told_apart(method: str) -> None:
    masks = cow_masks(N, SIZE, SIGMA, PROPORTION, spacing=SPACING[::-1], method=method)[:, 0].numpy()
    values = distribution.p_values(shape_features(masks), masks_of_listing_1())
    assert not all(value > distribution.LEVEL for value in values.values())
