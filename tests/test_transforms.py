import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp, cow_masks, mix

MIXERS: list[Any] = [CowMix, CutMix, MixUp]
ERASERS: list[Any] = [CowOut, CutOut]


def images(b: int = 4, *size: int) -> Tensor:
    return torch.rand(b, 3, *(size or (24, 36)))


@pytest.mark.parametrize("make", [CowMix, CutMix])
def test_one_mask_for_images_and_targets(make: Any) -> None:
    x, probs, target = images(), torch.rand(4, 5, 24, 36), torch.randint(0, 9, (4, 24, 36))
    target[0, :12] = 255
    depth = torch.rand(4, 24, 36)
    transform = make()
    mask = transform.sample(x)
    mixed = transform(x, probs, target, depth, mask=mask)
    assert len(mixed) == 4
    for before, after in zip((x, probs, target, depth), mixed, strict=True):
        selected = mask if before.ndim == 4 else mask[:, 0]
        assert after.dtype == before.dtype
        assert torch.equal(after, torch.where(selected, before.roll(1, 0), before))  # torchvision's partner


@pytest.mark.parametrize("make", MIXERS)
def test_partner_batch(make: Any) -> None:
    xa, pa, xb, pb = images(1), torch.rand(1, 5, 24, 36), images(1), torch.rand(1, 5, 24, 36)
    transform = make()
    mask = transform.sample(xa)
    x, p = transform(xa, pa, partner=(xb, pb), mask=mask)
    assert torch.equal(x, mix(xa, xb, mask))
    assert torch.equal(p, mix(pa, pb, mask))
    assert torch.equal(transform(xa, partner=xb, mask=mask), x)


@pytest.mark.parametrize("make", MIXERS)
def test_labels_are_mixed_by_the_measured_area(make: Any) -> None:
    x, labels = images(), torch.tensor([3, 0, 1, 1])
    transform = make(num_classes=4)
    mask = transform.sample(x)
    _, mixed = transform(x, labels, mask=mask)
    one_hot, taken = torch.eye(4)[labels], mask.float().mean((1, 2, 3))[:, None]
    assert torch.allclose(mixed, one_hot * (1 - taken) + one_hot.roll(1, 0) * taken)
    assert torch.allclose(transform(x, one_hot, mask=mask)[1], mixed)
    assert torch.allclose(transform(x, one_hot.half(), mask=mask)[1].float(), mixed, atol=1e-3)


def test_mixup_blends_floating_targets() -> None:
    x, probs = images(), torch.rand(4, 5, 24, 36)
    mixup = MixUp(alpha=0.3)
    weight = mixup.sample(x)
    assert weight.shape == (4, 1, 1, 1)
    assert torch.allclose(mixup(x, probs, mask=weight)[1], probs * (1 - weight) + probs.roll(1, 0) * weight)


def test_mixup_weights_are_beta() -> None:
    generator = torch.Generator().manual_seed(0)
    for alpha in (0.1, 1.0, 4.0):
        weights = MixUp(alpha).sample(torch.empty(20_000, 1, 1, 1), generator)
        assert weights.isfinite().all()
        assert abs(weights.mean() - 0.5) < 0.015
        assert abs(weights.var() - 1 / (4 * (2 * alpha + 1))) < 0.005  # of Beta(alpha, alpha)


@pytest.mark.parametrize("make", ERASERS)
def test_erasers_keep_what_is_true_and_pass_targets_through(make: Any) -> None:
    x, target = images(), object()
    transform = make(fill=0.25)
    mask = transform.sample(x)
    erased, passed = transform(x, target, mask=mask)
    assert passed is target
    assert torch.equal(erased, torch.where(mask, x, 0.25))
    assert torch.equal(transform(x, mask=mask), erased)


def test_cutout_erases_its_area_and_cowout_keeps_its_proportion() -> None:
    x = torch.ones(500, 1, 40, 40)
    assert abs(CutOut(area=0.2)(x).mean() - 0.8) < 0.01
    assert abs(CowOut(sigma=2, proportion=0.2)(x).mean() - 0.2) < 0.01


@pytest.mark.parametrize("make", [*MIXERS, *ERASERS])
@pytest.mark.parametrize("size", [(50,), (17, 23), (9, 8, 7)])
def test_every_number_of_axes(make: Any, size: tuple[int, ...]) -> None:
    x = images(3, *size)
    assert make(ndim=len(size))(x).shape == x.shape


@pytest.mark.parametrize("make", [*MIXERS, *ERASERS])
def test_no_state_and_no_mode(make: Any) -> None:
    x, transform = images(), make()
    assert not list(transform.parameters())
    assert not transform.state_dict()

    def run(module: nn.Module) -> Tensor:
        result: Tensor = module(x, generator=torch.Generator().manual_seed(1))
        return result

    first = run(transform)
    assert not torch.equal(first, x)
    for twin in (transform.eval(), copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert torch.equal(run(twin), first)


def test_uint8_images_stay_uint8() -> None:
    x = torch.randint(0, 256, (4, 3, 24, 36), dtype=torch.uint8)
    for make in (CowMix, CutMix, CowOut, CutOut):
        assert make()(x).dtype == torch.uint8


@pytest.mark.parametrize("make", MIXERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_autocast_changes_neither_images_nor_labels(make: Any, dtype: torch.dtype) -> None:
    x, labels, transform = images(4).to(dtype), torch.eye(4, dtype=dtype), make()
    mask = transform.sample(x)
    expected = transform(x, labels, mask=mask)
    with torch.autocast("cpu", torch.bfloat16):
        for ours, same in zip(transform(x, labels, mask=mask), expected, strict=True):
            assert ours.dtype == dtype
            assert torch.equal(ours, same)


def test_repr_shows_the_arguments() -> None:
    assert repr(MixUp(num_classes=3)) == "MixUp(alpha=1.0, num_classes=3, p=1.0, ndim=2)"
    assert repr(CowOut(spacing=(1, 2))).startswith("CowOut(sigma=(4, 16), proportion=(0.0, 1.0), spacing=(1, 2), fill=")


SETTINGS: list[tuple[Any, str, list[Any], Any]] = [  # the transform, a setting, values of it and one that is refused
    (CowMix, "sigma", [5, 5.0, (4, 16), [4, 16.0], torch.tensor([2.0, 3.0, 4.0, 5.0])], 0),
    (CowOut, "proportion", [0, 0.3, (0, 1)], 1.5),
    (CutMix, "area", [1, 0.3, (0.2, 0.4)], (0.4, 0.2)),
    (CutOut, "aspect", [None, 2, 0.5], -1),
    (MixUp, "alpha", [1, 0.2], 0),
    (CutMix, "p", [0, 0.5, 1], "half"),
    (CowOut, "fill", [0, 0.5, torch.tensor(0.25), -1], None),
]


@pytest.mark.parametrize(("make", "name", "values", "wrong"), SETTINGS)
def test_settings_can_be_changed_and_are_checked(make: Any, name: str, values: list[Any], wrong: Any) -> None:
    transform, x = make(), images()
    for value in values:
        setattr(transform, name, value)
        held = getattr(transform, name)
        assert torch.equal(held, value) if isinstance(value, Tensor) else held is value
        assert f"{name}={value!r}" in repr(transform)
        assert not transform.state_dict()
        made = make(**{name: value})
        for twin in (transform, copy.deepcopy(transform), pickle.loads(pickle.dumps(transform)), transform.to("cpu")):
            first, second = (one(x, generator=torch.Generator().manual_seed(1)) for one in (made, twin))
            assert torch.equal(first, second)
        with pytest.raises((TypeError, ValueError), match=name):
            setattr(transform, name, wrong)
        assert getattr(transform, name) is held


def test_a_fill_that_is_set_follows_the_module() -> None:
    transform = CowOut()
    transform.fill = torch.ones(3, 1, 1)
    assert [buffer.is_meta for buffer in transform.to("meta").buffers()] == [True]
    assert transform(images().to("meta")).is_meta
    transform.fill = 0.5
    assert not list(transform.buffers())
    assert transform(images()).shape == (4, 3, 24, 36)


def test_values_given_as_a_parameter_are_none_of_the_modules() -> None:
    values = nn.Parameter(torch.tensor([0.2, 0.8]))
    for transform in (CowMix(4 + values), CowMix(proportion=values), CutMix(area=values), CutOut(area=values)):
        assert not list(transform.parameters())
        assert transform(images(2)).grad_fn is None


@pytest.mark.parametrize("make", MIXERS)
def test_a_batch_of_one_is_not_mixed_and_looks_like_any_other_batch(make: Any) -> None:
    transform = make(num_classes=4)
    given = images(1), torch.rand(1, 5, 24, 36), torch.tensor([2]), torch.rand(1, 4)
    given[0][0, 0, 0, 0] = torch.inf  # blending it with itself would make a NaN
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match="a batch of one.*partner=.*drop_last=True") as seen:
        mixed = transform(*given)
    assert torch.equal(torch.get_rng_state(), before)
    assert seen[0].filename == __file__
    for came, went in zip((*given[:2], torch.eye(4)[[2]], given[3]), mixed, strict=True):
        assert torch.equal(came, went)
        assert came.data_ptr() != went.data_ptr()
    several = transform(*(x.expand(3, *x.shape[1:]) for x in given))
    assert [x.dtype for x in several] == [x.dtype for x in mixed]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transform(*given, partner=given)


@pytest.mark.parametrize("make", [*MIXERS, *ERASERS])
def test_p_is_the_share_of_images_that_change(make: Any) -> None:
    x = torch.rand(2000, 1, 6, 7)
    changed = (make(p=0.3)(x) != x).flatten(1).any(1).float().mean()
    always = (make()(x) != x).flatten(1).any(1).float().mean()
    assert abs(changed - 0.3 * always) < 0.05
    assert torch.equal(make(p=0)(x), x)


def test_labels_of_images_that_are_not_mixed_stay_whole() -> None:
    x, labels = images(200), torch.arange(200) % 4
    mixed, soft = CutMix(num_classes=4, p=0.5)(x, labels)
    same = (mixed == x).flatten(1).all(1)
    assert 60 < same.sum() < 140
    assert torch.equal(soft[same], torch.eye(4)[labels[same]])


def test_p_of_one_draws_no_more_than_the_masks() -> None:
    one, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    masks = CowMix().sample(images(), one)
    assert torch.equal(masks, cow_masks(4, (24, 36), generator=other))
    assert torch.equal(one.get_state(), other.get_state())
    assert torch.equal(CowMix(p=0.999999).sample(images(), torch.Generator().manual_seed(0)), masks)


@pytest.mark.parametrize("make", [*MIXERS, *ERASERS])
def test_the_generator_draws_which_images_change(make: Any) -> None:
    x = images(64, 6, 7)
    first, second = (make(p=0.5).sample(x, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("make", MIXERS)
def test_one_value_for_each_image_is_mixed_by_area(make: Any) -> None:
    confidence, x = torch.rand(4, 1), images()
    transform = make(num_classes=10)
    mask = transform.sample(x)
    taken = mask.float().mean((1, 2, 3))[:, None]
    expected = confidence * (1 - taken) + confidence.roll(1, 0) * taken
    assert torch.allclose(transform(x, confidence, mask=mask)[1], expected)
