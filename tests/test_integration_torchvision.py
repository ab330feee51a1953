"""torchvision's containers and types around the transforms of the package."""

import copy
import inspect
import pickle
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

import cowmask
from cowmask.integrations import torchvision as ours
from tests import peer_torchvision
from tests.peers.cases import PROMISES, WISHES, Case

MIXERS = ("CowMix", "CutMix", "MixUp")
ERASERS = ("CowOut", "CutOut")
each = pytest.mark.parametrize("name", [*MIXERS, *ERASERS])
each_mixer = pytest.mark.parametrize("name", MIXERS)
each_eraser = pytest.mark.parametrize("name", ERASERS)

X, LABELS = torch.rand(4, 3, 24, 36), torch.tensor([0, 1, 2, 1])
MASKS = torch.randint(0, 9, (4, 24, 36)).float()


def seeded(call: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
    torch.manual_seed(7)
    return call(*inputs, **settings)


def pair(name: str, **settings: Any) -> tuple[Any, Any]:
    """Return the transform of a name with its container's support, and without."""
    return getattr(ours, name)(**settings), getattr(cowmask, name)(**settings)


# Promises.


@pytest.mark.parametrize("case", PROMISES + WISHES, ids=str)
def test_keeps_what_torchvision_promises_and_its_users_ask_for(case: Case) -> None:
    case.run(ours)


@pytest.mark.parametrize("case", PROMISES, ids=str)
def test_torchvision_keeps_its_promises(case: Case) -> None:
    case.run(v2)


def test_cases_tell_wrong_transforms() -> None:
    class Nothing(v2.CutMix):
        def forward(self, *inputs: Any) -> Any:
            return inputs if len(inputs) > 1 else inputs[0]

    class Swapped(v2.CutMix):
        def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
            return super().transform(inpt, {**params, "lam_adjusted": 1 - params["lam_adjusted"]})

    for wrong in (Nothing, Swapped):
        library = type("library", (), {"CutMix": wrong, "MixUp": wrong})
        failed = [case for case in PROMISES if not peer_torchvision.passes(case, library)]
        assert len(failed) > len(PROMISES) / 3


# The core does it all.


@each_mixer
def test_the_core_is_called_once_with_all_that_is_mixed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transform, core = pair(name, num_classes=3)
    sample = {"label": LABELS, "mask": tv_tensors.Mask(MASKS), "image": tv_tensors.Image(X), "name": "a"}
    out = seeded(transform, sample)
    expected = seeded(core, X, MASKS, LABELS)
    for key, tensor in zip(("image", "mask", "label"), expected, strict=True):
        assert torch.equal(out[key].as_subclass(Tensor), tensor)
    assert [type(value) for value in out.values()] == [Tensor, tv_tensors.Mask, tv_tensors.Image, str]
    calls = []

    def forward(_: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        calls.append(tensors)
        return tensors

    monkeypatch.setattr(type(core), "forward", forward)
    transform(sample)
    assert [len(tensors) for tensors in calls] == [3]


SETTINGS: dict[str, dict[str, Any]] = {
    "CowMix": {"sigma": (2, 3), "proportion": 0.3, "spacing": (1, 2), "num_classes": 3, "p": 0.5, "ndim": 2},
    "CutMix": {"area": 0.3, "aspect": 2.0, "n_boxes": 2, "clip": True, "num_classes": 3, "p": 0.5, "ndim": 2},
    "MixUp": {"alpha": 0.3, "num_classes": 3, "p": 0.5, "ndim": 2},
    "CowOut": {"sigma": (2, 3), "proportion": 0.3, "spacing": (1, 2), "fill": 0.5, "p": 0.5, "ndim": 2},
    "CutOut": {"area": 0.3, "aspect": 2.0, "n_boxes": 2, "clip": True, "fill": 0.5, "p": 0.5, "ndim": 2},
}


@each
def test_settings_are_those_of_the_core(name: str) -> None:
    settings = SETTINGS[name]
    transform, core = pair(name, **settings)
    assert list(inspect.signature(type(core)).parameters) == list(settings)
    assert repr(transform) == repr(core)
    assert torch.equal(seeded(transform, X), seeded(core, X))
    transform.core.p = core.p = 1
    for twin in (transform, copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert torch.equal(seeded(twin, X), seeded(core, X))
    first = next(iter(settings))
    assert torch.equal(
        seeded(getattr(ours, name)(settings[first]), X), seeded(getattr(cowmask, name)(settings[first]), X)
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'spam'"):
        getattr(ours, name)(spam=1)
    with pytest.raises(ValueError, match="p must be finite, at least 0 and at most 1"):
        getattr(ours, name)(p=2)


@each
def test_volumes_and_signals(name: str) -> None:
    for ndim, shape in ((1, (4, 3, 50)), (3, (4, 2, 6, 7, 8))):
        transform, core = pair(name, ndim=ndim)
        x = torch.rand(shape)
        assert torch.equal(seeded(transform, {"x": x})["x"], seeded(core, x))


@pytest.mark.parametrize("name", ["CowMix", "CutMix"])
def test_targets_of_signals_stay_integers(name: str) -> None:
    transform, core = pair(name, ndim=1)
    signals, targets = torch.rand(4, 3, 50), torch.randint(0, 9, (4, 50))
    assert torch.equal(seeded(transform, signals, targets)[1], seeded(core, signals, targets)[1])


def test_a_fill_follows_the_module() -> None:
    transform = ours.CowOut(fill=torch.ones(3, 1, 1)).to("meta")
    assert transform(X.to("meta")).is_meta


@each
def test_compiles_whole_for_pure_tensors(name: str) -> None:
    transform = getattr(ours, name)(**({"num_classes": 3} if name in MIXERS else {}))
    compiled = torch.compile(transform, fullgraph=True, backend="eager")
    for sample in ((X, LABELS), {"image": X, "more": [{"label": 1}], "labels": LABELS}):
        expected, result = (torch.utils._pytree.tree_leaves(seeded(call, sample)) for call in (transform, compiled))
        assert all(
            torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(expected, result, strict=True)
        )
    torch.compiler.reset()


# Images, masks and labels in a sample.


@each_mixer
def test_masks_of_any_shape_are_mixed(name: str) -> None:
    transform, core = pair(name)
    for masks in (MASKS, MASKS[:, None], torch.rand(4, 5, 24, 36)):
        out = seeded(transform, tv_tensors.Image(X), tv_tensors.Mask(masks))
        assert torch.equal(out[1].as_subclass(Tensor), seeded(core, X, masks)[1])


@pytest.mark.parametrize("name", ["CowMix", "CutMix"])
def test_values_to_ignore_are_never_blended(name: str) -> None:
    masks = torch.where(MASKS < 4, 255, MASKS).byte()
    _, mixed = getattr(ours, name)()(tv_tensors.Image(X), tv_tensors.Mask(masks))
    assert mixed.dtype == torch.uint8
    assert set(mixed.unique().tolist()) <= set(masks.unique().tolist())


@each_mixer
def test_a_video_has_one_mask_for_all_frames(name: str) -> None:
    transform, core = pair(name, num_classes=3)
    clips, masks = torch.rand(4, 5, 3, 24, 36), torch.rand(4, 5, 24, 36)
    for of_frames in (masks, masks[:, :, None]):
        sample = {"video": tv_tensors.Video(clips), "mask": tv_tensors.Mask(of_frames), "label": LABELS}
        out = seeded(transform, sample)
        expected = seeded(core, clips.flatten(1, 2), masks, LABELS)
        assert type(out["video"]) is tv_tensors.Video
        assert torch.equal(out["video"].as_subclass(Tensor), expected[0].view_as(clips))
        assert torch.equal(out["mask"].as_subclass(Tensor), expected[1].view_as(of_frames))
        assert torch.equal(out["label"], expected[2])


@each_mixer
def test_dense_targets_may_be_pure_tensors(name: str) -> None:
    transform, core = pair(name)
    expected = seeded(core, X, MASKS)
    assert torch.equal(seeded(transform, X, MASKS)[1], expected[1])
    found = getattr(ours, name)(labels_getter=itemgetter("mask"))
    assert torch.equal(seeded(found, {"mask": MASKS, "image": X})["mask"], expected[1])  # the image is what is left
    typed = {"image": tv_tensors.Image(X), "mask": tv_tensors.Mask(MASKS)}  # found twice
    assert torch.equal(seeded(found, typed)["mask"].as_subclass(Tensor), expected[1])


@each_mixer
def test_what_may_be_labels_is_not_left_as_it_is_unasked(name: str) -> None:
    pairs = [{"image": tv_tensors.Image(x), "mask": tv_tensors.Mask(mask)} for x, mask in zip(X, MASKS, strict=True)]
    collated = default_collate(pairs)  # to pure tensors
    for sample in (collated, {"image": tv_tensors.Image(X), "target": LABELS}, (tv_tensors.Image(X), "a", LABELS)):
        with pytest.raises(
            ValueError, match=r"found no labels, but tensors .* labels_getter=None if there are no labels"
        ):
            getattr(ours, name)()(sample)
    out = getattr(ours, name)(labels_getter=None)(collated)
    assert out["mask"] is collated["mask"]
    assert not torch.equal(out["image"], X)


@each_mixer
def test_samples_without_labels(name: str) -> None:
    transform, core = pair(name)
    expected = seeded(core, X)
    for sample in (tv_tensors.Image(X), [X], {"image": X, "name": "a"}, (tv_tensors.Image(X), "a", 3)):
        (image,) = (x for x in torch.utils._pytree.tree_leaves(seeded(transform, sample)) if isinstance(x, Tensor))
        assert torch.equal(image.as_subclass(Tensor), expected)
    for getter in (None, lambda _: None):
        image, labels = seeded(getattr(ours, name)(labels_getter=getter), X, LABELS)
        assert torch.equal(image, expected)
        assert labels is LABELS


REFUSED: list[tuple[dict[str, Any], Any, str]] = [
    ({}, (PIL.Image.new("L", (36, 24)), LABELS), r"does not take PIL images: put v2.ToImage\(\) before"),
    (
        {},
        (X, tv_tensors.BoundingBoxes(torch.ones(4, 4), format="XYXY", canvas_size=(24, 36))),
        "does not take bounding boxes, .*: take them out of the sample",
    ),
    ({}, (X, tv_tensors.KeyPoints(torch.ones(4, 2), canvas_size=(24, 36))), "does not take key points"),
    ({}, {"name": "a"}, "expected an image in the sample, .*got none"),
    ({}, {"labels": LABELS}, "expected an image in the sample, .*got none"),
    ({}, {"image": X, "labels": [1, 2]}, "labels must be a tensor, got list: make it one, or pass labels_getter"),
    ({"labels_getter": lambda sample: sample[1] + 1}, (X, LABELS), "must return a tensor of the sample itself"),
    ({"labels_getter": "spam"}, (), "labels_getter must be \"default\", a function or None, got 'spam'"),
    ({}, tv_tensors.Video(X), r"videos must be a batch \(B, T, C, H, W\), got shape \(4, 3, 24, 36\)"),
    ({"ndim": 3}, tv_tensors.Video(X[None]), "a Video has one mask .* got ndim=3: .*pass a pure tensor"),
    ({}, (X, LABELS), "labels of shape .* need .*num_classes"),
    ({}, (X[0], LABELS), "a single image cannot be mixed: mix batches"),
    ({"num_classes": 3}, (X, LABELS[:2]), "pass as many targets as images, 4"),
    ({}, (tv_tensors.Image(X), tv_tensors.Mask(MASKS[:, :9])), "resize it to the images"),
]


@each_mixer
@pytest.mark.parametrize(("settings", "sample", "words"), REFUSED)
def test_mixers_refuse_in_words(name: str, settings: dict[str, Any], sample: Any, words: str) -> None:
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=words):
        getattr(ours, name)(**settings)(sample)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_of_one_warns() -> None:
    with pytest.warns(UserWarning, match="a batch of one.*drop_last=True"):
        ours.CowMix(num_classes=3)(X[:1], LABELS[:1])


# Erasers.


@each_eraser
@pytest.mark.parametrize("kind", [torch.Tensor, tv_tensors.Image])
def test_erasers_take_one_image_or_a_batch(name: str, kind: Any) -> None:
    transform, core = pair(name)
    for image, expected in ((X, seeded(core, X)), (X[0], seeded(core, X[:1])[0])):
        for sample in (kind(image), {"image": kind(image)}, [kind(image), 3]):
            out = next(iter(torch.utils._pytree.tree_leaves(seeded(transform, sample))))
            assert type(out) is kind
            assert torch.equal(out.as_subclass(Tensor), expected)


@each_eraser
def test_erasers_pass_on_all_but_images(name: str) -> None:
    boxes = tv_tensors.BoundingBoxes(torch.ones(4, 4), format="XYXY", canvas_size=(24, 36))
    others = [tv_tensors.Mask(MASKS[0]), boxes, torch.tensor(3), 3, "a", None]
    for image in (tv_tensors.Image(X[0]), X[0]):
        out = getattr(ours, name)()(image, *others)
        assert not torch.equal(out[0], image)
        assert all(came is went for came, went in zip(others, out[1:], strict=True))


@each_eraser
def test_erasers_give_images_of_one_sample_the_same_mask(name: str) -> None:
    stereo = {"left": tv_tensors.Image(X[0] + 1), "right": tv_tensors.Image(X[1] + 1)}
    left, right = getattr(ours, name)()(stereo).values()
    assert 0 < (left == 0).sum() < left.numel()
    assert torch.equal(left == 0, right == 0)


@each_eraser
def test_erasers_give_a_video_one_mask(name: str) -> None:
    fill = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    transform, core = pair(name, fill=fill)
    clips = torch.rand(4, 5, 3, 24, 36)
    for video, expected in (
        (clips, seeded(core.sample, clips[:, 0])),
        (clips[0], seeded(core.sample, clips[0, :1])[0]),
    ):
        out = seeded(transform, tv_tensors.Video(video))
        assert type(out) is tv_tensors.Video
        mask = expected.unsqueeze(-4)  # (B, 1, 1, H, W) or (1, 1, H, W)
        assert torch.equal(out.as_subclass(Tensor), torch.where(mask, video, fill))


@each_eraser
def test_erasers_in_a_pipeline_for_single_images(name: str) -> None:
    pipeline = v2.Compose(
        [v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), getattr(ours, name)(p=0.5)]
    )
    white, changed = PIL.Image.new("RGB", (36, 24), "white"), []
    for _ in range(100):
        image, label = pipeline(white, 3)
        assert (image.shape, label) == ((3, 24, 36), 3)
        changed.append(bool((image == 0).any()))
    assert 30 < sum(changed) < 65  # some masks of an image that is changed erase nothing


@each_eraser
def test_erasers_refuse_in_words(name: str) -> None:
    transform = getattr(ours, name)()
    for sample, words in (
        (PIL.Image.new("L", (36, 24)), "does not take PIL images"),
        ({"name": "a"}, "expected an image in the sample"),
        (X[0, 0], r"with ndim=2, an image must have 3 axes, and a batch of them 4, got shape \(24, 36\)"),
        (tv_tensors.Video(X[None, None]), "a video must have 4 axes, and a batch of them 5, got shape"),
    ):
        with pytest.raises(ValueError, match=words):
            transform(sample)
