"""What kornia's documentation promises of an augmentation, as cases that any augmentation can be asked for.

A promise is a function that takes a subject, what it does ("mix" or "erase") and sometimes a value. It raises if the
subject breaks it.
"""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import kornia.augmentation as K
import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor, nn

B, SIZE = 4, (24, 32)
IMAGE = ("input",)
LABELS = torch.tensor([7, 5, 3, 1])


@dataclass(frozen=True)
class Subject:
    """Whose augmentations are asked.

    Attributes:
        name: Of its row.
        make: Takes "mix" or "erase", data keys, and options of kornia's. Returns what is called with such inputs.
        child: Takes the same, but for the data keys. Returns what stands in a sequence.
        sequence: The `AugmentationSequential` for it.
    """

    name: str
    make: Callable[..., Any]
    child: Callable[..., Any]
    sequence: Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """A promise, about one kind of augmentation, with one value."""

    name: str
    promise: Callable[..., None]
    values: tuple[Any, ...]

    def check(self, subject: Subject) -> None:
        """Raise whatever breaks the promise. The random numbers are the same each time."""
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*a batch of one")
            torch.manual_seed(0)
            self.promise(subject, *self.values)


CASES: list[Case] = []


def promise(*each: Any, kinds: Sequence[str] = ("mix", "erase")) -> Any:
    """Add a case for each kind, and for each value if there are any."""

    def add(function: Any) -> Any:
        for values in product(kinds, each) if each else product(kinds):
            name = " ".join([function.__name__.replace("_", " "), *map(str, values)])
            CASES.append(Case(name, function, values))
        return function

    return add


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return images in which each has values of its own, none of them 0."""
    x = torch.rand(shape or (B, 3, *SIZE), dtype=torch.float64) / 100 + 0.01
    return (x + torch.arange(len(x)).view(-1, *[1] * (x.ndim - 1)) / 8).to(dtype)


def changed(out: Tensor, x: Tensor) -> Tensor:
    """Return where images (B, C, H, W) are changed, (B, 1, H, W)."""
    return (out != x).any(1, keepdim=True)


def apart(masks: Tensor) -> bool:
    """Tell whether all masks (B, ...) differ."""
    return len(masks.flatten(1).unique(dim=0)) == len(masks)


@promise(torch.float16, torch.bfloat16, torch.float32, torch.float64)
def keeps_the_dtype(subject: Subject, kind: str, dtype: torch.dtype) -> None:
    x = images(dtype=dtype)
    out = subject.make(kind)(x)
    assert out.dtype == dtype
    assert out.shape == x.shape
    assert not torch.equal(out, x)


@promise((B, 3, *SIZE), (B, 1, *SIZE), (5, 3, 17, 23), (1, 3, *SIZE), (3, *SIZE), SIZE)
def returns_batches(subject: Subject, kind: str, shape: Sequence[int]) -> None:
    out = subject.make(kind)(images(*shape))
    assert out.shape == (*(1, 1)[: 4 - len(shape)], *shape)


@promise((B, 3, *SIZE), (1, 3, *SIZE), (3, *SIZE), SIZE)
def keepdim_restores_the_axes(subject: Subject, kind: str, shape: Sequence[int]) -> None:
    assert subject.make(kind, keepdim=True)(images(*shape)).shape == tuple(shape)


@promise()
def an_empty_batch_gives_an_empty_one(subject: Subject, kind: str) -> None:
    x = torch.empty(0, 3, *SIZE)
    assert subject.make(kind)(x).shape == x.shape


@promise()
def inputs_are_not_modified(subject: Subject, kind: str) -> None:
    x = images()
    before = x.clone()
    subject.make(kind)(x)
    assert torch.equal(x, before)


@promise()
def memory_layout_does_not_matter(subject: Subject, kind: str) -> None:
    x, augment = images(), subject.make(kind)
    outs = []
    for same in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        torch.manual_seed(1)
        outs.append(augment(same))
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


@promise()
def autocast_keeps_the_dtype(subject: Subject, kind: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert subject.make(kind)(images()).dtype == torch.float32


@promise()
def manual_seed_reproduces(subject: Subject, kind: str) -> None:
    x, augment, outs = images(), subject.make(kind), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(augment(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


@promise()
def p_0_changes_nothing(subject: Subject, kind: str) -> None:
    x = images()
    assert torch.equal(subject.make(kind, p=0.0)(x), x)


@promise()
def p_is_the_share_that_is_changed(subject: Subject, kind: str) -> None:
    # A wide band, since kornia's CutMix mixes a batch as a whole or not at all, and may pair an image with itself. If p
    # were applied twice, the share would be 0.25.
    x, augment = images(16, 1, *SIZE), subject.make(kind, p=0.5)
    share = torch.stack([changed(augment(x), x).any((1, 2, 3)) for _ in range(100)]).float().mean()
    assert 0.3 < share < 0.7


@promise()
def each_image_has_its_own_mask(subject: Subject, kind: str) -> None:
    x = images()
    where = changed(subject.make(kind)(x), x)
    assert apart(where[where.any((1, 2, 3))])


@promise()
def same_on_batch_shares_the_mask(subject: Subject, kind: str) -> None:
    x = images()
    where = changed(subject.make(kind, same_on_batch=True)(x), x)
    where = where[where.any((1, 2, 3))]  # kornia may pair an image with itself
    assert len(where)
    assert (where == where[:1]).all()


@promise()
def same_on_batch_shares_the_gate(subject: Subject, kind: str) -> None:
    x, augment = images(), subject.make(kind, same_on_batch=True, p=0.5)
    for _ in range(20):
        augment(x)
        assert len(augment._params["batch_prob"].unique()) == 1


@promise()
def params_replay(subject: Subject, kind: str) -> None:
    x, augment = images(), subject.make(kind)
    out, params = augment(x), augment._params
    augment(x)
    assert torch.equal(augment(x, params=params), out)


@promise()
def params_replay_on_other_images(subject: Subject, kind: str) -> None:
    x, y, augment = images(), images() + 1, subject.make(kind)
    where = changed(augment(x), x)
    assert torch.equal(changed(augment(y, params=augment._params), y), where)


@promise()
def an_edited_gate_is_honoured(subject: Subject, kind: str) -> None:
    x, augment = images(), subject.make(kind, p=0.5)
    augment(x)
    params = augment._params
    params["batch_prob"] = torch.zeros(B)
    assert torch.equal(augment(x, params=params), x)


@promise()
def a_deep_copy_replays(subject: Subject, kind: str) -> None:
    x, augment = images(), subject.make(kind)
    out, copied = augment(x), copy.deepcopy(augment)
    assert torch.equal(copied(x, params=copied._params), out)


@promise()
def a_pickle_replays(subject: Subject, kind: str) -> None:
    x, augment = images(), subject.make(kind)
    out, read = augment(x), pickle.loads(pickle.dumps(augment))
    assert repr(read) == repr(augment)
    assert torch.equal(read(x, params=read._params), out)


@promise()
def torch_save_takes_it(subject: Subject, kind: str) -> None:
    file = io.BytesIO()
    torch.save(subject.make(kind), file)
    file.seek(0)
    x = images()
    assert not torch.equal(torch.load(file, weights_only=False)(x), x)


@promise()
def state_dict_loads(subject: Subject, kind: str) -> None:
    subject.make(kind).load_state_dict(subject.make(kind).state_dict())


@promise(torch.float16, torch.float64)
def moves_to_a_dtype(subject: Subject, kind: str, dtype: torch.dtype) -> None:
    x = images(dtype=dtype)
    out = nn.Sequential(subject.make(kind)).to(dtype)(x)
    assert out.dtype == dtype
    assert not torch.equal(out, x)


@promise()
def a_container_moves_the_generator(subject: Subject, kind: str) -> None:
    sequence = subject.sequence(subject.child(kind)).to(torch.float64)
    params = sequence.forward_parameters(torch.Size((B, 3, *SIZE)))
    assert params[0].data["batch_prob"].dtype == torch.float64


@promise()
def repr_tells_the_settings(subject: Subject, kind: str) -> None:
    text = repr(subject.make(kind, p=0.25))
    assert "0.25" in text
    assert "same_on_batch=False" in text


@promise()
def gradients_are_right(subject: Subject, kind: str) -> None:
    augment = subject.make(kind, p=0.5)

    def same(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augment(x)

    assert torch.autograd.gradcheck(same, images(3, 2, 4, 5, dtype=torch.float64).requires_grad_())


@promise()
def skipped_images_keep_a_gradient_of_one(subject: Subject, kind: str) -> None:
    x = images().requires_grad_()
    subject.make(kind, p=0.0)(x).sum().backward()
    assert x.grad is not None
    assert (x.grad == 1).all()


@promise(kinds=["erase"])
def value_fills(subject: Subject, kind: str) -> None:
    x = images()
    out = subject.make(kind, value=0.75)(x)
    assert (out[changed(out, x).expand_as(x)] == 0.75).all()


@promise(torch.float32, torch.uint8, torch.int64, torch.bool, kinds=["mix"])
def masks_are_mixed_as_images_are(subject: Subject, kind: str, dtype: torch.dtype) -> None:
    _check_masks(subject.make(kind, [*IMAGE, "mask"]), torch.rand(B, 1, *SIZE).mul(2).round().to(dtype))


@promise(torch.float32, torch.uint8, torch.int64, torch.bool, kinds=["mix"])
def masks_are_mixed_in_a_sequence(subject: Subject, kind: str, dtype: torch.dtype) -> None:
    augment = subject.sequence(subject.child(kind), data_keys=[*IMAGE, "mask"])
    _check_masks(augment, torch.rand(B, 1, *SIZE).mul(2).round().to(dtype))


def _check_masks(augment: nn.Module, masks: Tensor) -> None:
    """Check masks against an image that carries the number of its own in each pixel."""
    numbers = torch.arange(1.0, B + 1).view(B, 1, 1, 1).expand(B, 1, *SIZE)
    shown, mixed = augment(numbers, masks)
    assert len(shown.unique()) == B
    assert (shown != numbers).any()
    expected = masks.expand(B, *masks.shape[1:]).gather(0, shown.long().sub(1).expand_as(masks))
    assert mixed.dtype == masks.dtype
    assert torch.equal(mixed, expected)


@promise(kinds=["mix"])
def masks_have_any_channels(subject: Subject, kind: str) -> None:
    _check_masks(subject.make(kind, [*IMAGE, "mask"]), torch.rand(B, 7, *SIZE))


@promise(kinds=["mix"])
def the_ignored_value_survives(subject: Subject, kind: str) -> None:
    masks = torch.randint(0, 9, (B, 1, *SIZE))
    masks[:, :, :9] = 255
    _check_masks(subject.sequence(subject.child(kind), data_keys=[*IMAGE, "mask"]), masks)


@promise(True, False, kinds=["mix"])
def masks_without_channels(subject: Subject, kind: str, keepdim: bool) -> None:
    keys = [*IMAGE, "mask", "mask"]
    augment = subject.sequence(subject.child(kind), data_keys=keys, keepdim=keepdim)
    masks = torch.rand(B, 1, *SIZE)
    _, flat, mixed = augment(images(), masks[:, 0], masks)
    assert not torch.equal(mixed, masks)
    assert torch.equal(flat, mixed[:, 0] if keepdim else mixed)


@promise(kinds=["mix"])
def masks_replay_without_their_image(subject: Subject, kind: str) -> None:
    augment, masks = subject.sequence(subject.child(kind), data_keys=[*IMAGE, "mask"]), torch.rand(B, 1, *SIZE)
    _, mixed = augment(images(), masks)
    assert not torch.equal(mixed, masks)
    assert torch.equal(augment(masks, params=augment._params, data_keys=["mask"]), mixed)


@promise(kinds=["mix"])
def a_dictionary_is_mixed(subject: Subject, kind: str) -> None:
    masks = torch.rand(B, 1, *SIZE)
    augment = subject.sequence(subject.child(kind), data_keys=None)
    out = augment({"image": masks, "mask": masks, "mask_2": masks, "name": "a"})
    assert out["name"] == "a"
    assert not torch.equal(out["image"], masks)
    assert all(torch.equal(out["image"], out[key]) for key in ("mask", "mask_2"))


@promise(kinds=["mix"])
def masks_follow_through_a_pipeline(subject: Subject, kind: str) -> None:
    steps = (K.RandomHorizontalFlip(p=0.5), subject.child(kind), K.RandomCrop((16, 16), p=1.0))
    x = torch.rand(B, 1, *SIZE)
    mixed, masks = subject.sequence(*steps, data_keys=[*IMAGE, "mask"])(x, x)
    assert mixed.shape == (B, 1, 16, 16)
    assert torch.equal(mixed, masks)


@promise(kinds=["mix"])
def masks_are_mixed_in_a_nested_sequence(subject: Subject, kind: str) -> None:
    inner = K.ImageSequential(K.RandomVerticalFlip(p=0.5), subject.child(kind))
    x = torch.rand(B, 1, *SIZE)
    mixed, masks = subject.sequence(inner, data_keys=[*IMAGE, "mask"])(x, x)
    assert torch.equal(mixed, masks)


@promise(kinds=["mix"])
def masks_are_mixed_when_chosen_at_random(subject: Subject, kind: str) -> None:
    flips = K.RandomHorizontalFlip(p=1.0), K.RandomVerticalFlip(p=1.0)
    augment = subject.sequence(*flips, subject.child(kind), data_keys=[*IMAGE, "mask"], random_apply=1)
    x, flipped = torch.rand(B, 1, *SIZE), set()
    for _ in range(20):
        out, masks = augment(x, x)
        flipped.add(any(torch.equal(out, x.flip(axis)) for axis in (-1, -2)))
        assert torch.equal(out, masks)
    assert flipped == {True, False}


@promise(kinds=["mix"])
def labels_come_with_their_partners_and_lambda(subject: Subject, kind: str) -> None:
    _check_labels(subject.make(kind, [*IMAGE, "class"]))


@promise(kinds=["mix"])
def labels_are_mixed_in_a_sequence(subject: Subject, kind: str) -> None:
    _check_labels(subject.sequence(subject.child(kind), data_keys=[*IMAGE, "class"]))


def _check_labels(augment: nn.Module) -> None:
    """Check labels (B, 3), or (1, B, 3), whose lambda is the partner's share or (RandomCutMixV2) the image's own."""
    numbers = torch.arange(float(B)).view(B, 1, 1, 1).expand(B, 1, *SIZE)
    shown, mixed = augment(numbers, LABELS)
    others = 0
    for i, (own, partner, share) in enumerate(mixed.view(B, 3)):
        assert own == LABELS[i]
        foreign = shown[i][shown[i] != numbers[i]]
        if len(foreign):  # kornia may pair an image with itself
            others += 1
            assert partner == LABELS[foreign[0].long()]
            fraction = torch.tensor(foreign.numel() / shown[i].numel())
            assert torch.isclose(share, fraction) or torch.isclose(share, 1 - fraction)
    assert others


@promise(kinds=["mix"])
def labels_of_unmixed_images_stand_twice(subject: Subject, kind: str) -> None:
    _, mixed = subject.make(kind, [*IMAGE, "class"], p=0.0)(images(), LABELS)
    assert torch.equal(mixed.view(B, 3), torch.stack([LABELS, LABELS, torch.zeros(B)], 1))


@promise(kinds=["mix"])
def it_has_no_inverse_and_no_matrix(subject: Subject, kind: str) -> None:
    augment = subject.make(kind)
    out = augment(images())
    for use in (lambda: augment.inverse(out), lambda: augment.transform_matrix):
        try:
            use()
        except RuntimeError:
            continue
        raise AssertionError("kornia's mix augmentations raise RuntimeError")


@promise(kinds=["erase"])
def its_matrix_is_the_identity(subject: Subject, kind: str) -> None:
    augment = subject.make(kind)
    augment(images())
    assert torch.equal(augment.transform_matrix, torch.eye(3).expand(B, 3, 3))


@promise(kinds=["erase"])
def inverse_leaves_what_is_erased(subject: Subject, kind: str) -> None:
    augment, x = subject.sequence(K.RandomHorizontalFlip(p=1.0), subject.child(kind)), images()
    out = augment(x)
    assert torch.equal(augment.inverse(out), out.flip(-1))


@promise(kinds=["erase"])
def labels_pass_an_eraser(subject: Subject, kind: str) -> None:
    _, out = subject.make(kind, [*IMAGE, "class"])(images(), LABELS)
    assert torch.equal(out, LABELS)


@promise("keypoints", "bbox_xyxy", kinds=["erase"])
def coordinates_pass_an_eraser(subject: Subject, kind: str, key: str) -> None:
    corners = torch.tensor([[[1.0, 2.0, 9.0, 8.0]]]).expand(B, 1, 4)
    there = corners if key == "bbox_xyxy" else corners[..., :2]
    _, out = subject.make(kind, [*IMAGE, key])(images(), there)
    assert torch.equal(out.data if isinstance(out, Boxes) else out, there)


@promise(kinds=["erase"])
def lists_of_masks_pass_an_eraser(subject: Subject, kind: str) -> None:
    masks = [torch.ones(channels, *SIZE) for channels in (1, 2, 3, 4)]
    _, out = subject.make(kind, [*IMAGE, "mask"])(images(), masks)
    assert [tuple(mask.shape[-3:]) for mask in out] == [tuple(mask.shape) for mask in masks]


@promise(True, False)
def clips_share_a_mask_on_request(subject: Subject, kind: str, same_on_frame: bool) -> None:
    clips = images(3 * 5, 1, *SIZE).unflatten(0, (3, 5))
    out = K.VideoSequential(subject.child(kind), same_on_frame=same_on_frame)(clips)
    where = changed(out.flatten(0, 1), clips.flatten(0, 1)).unflatten(0, (3, 5))
    assert where.any()
    assert all((clip == clip[:1]).all() == same_on_frame for clip in where if clip.any())


@promise(kinds=["mix"])
def clips_are_mixed_frame_by_frame(subject: Subject, kind: str) -> None:
    frames = torch.arange(5.0).view(1, 5, 1, 1, 1).expand(6, 5, 1, *SIZE)
    clips = frames + 10 * torch.arange(6.0).view(6, 1, 1, 1, 1)
    out = K.VideoSequential(subject.child(kind))(clips)
    assert torch.equal(out % 10, frames)
    assert not torch.equal(out, clips)
