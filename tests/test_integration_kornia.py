"""cowmask inside kornia: what kornia promises, what cowmask promises, and what once went wrong in kornia."""

import re
from typing import Any

import kornia
import kornia.augmentation as K
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cowmask import CowMix, CowOut, erase, mix
from cowmask.integrations.kornia import AugmentationSequential, RandomCowMix, RandomCowOut
from tests.kornia_promises import CASES, Case
from tests.pages import ROOT, run
from tests.peer_kornia import BARE, INTEGRATED, KORNIA, broken

PAGE = "docs/kornia.md"
KEYS = ["input", "mask", "class"]
SIGMA = (1.0, 4.0)
B, SIZE = 6, (24, 32)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    masks = torch.randint(0, 9, (B, 1, *SIZE))
    masks[:, :, :5] = 255
    return torch.rand(B, 3, *SIZE), masks, torch.arange(B) + 10


def partners(augment: Any) -> Tensor:
    """Return where the last call shows the partner, (B, 1, H, W)."""
    return augment._params["cow_masks"] & (augment._params["batch_prob"] > 0.5).view(-1, 1, 1, 1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kornias_promises_are_kept(case: Case) -> None:
    case.check(INTEGRATED)


def test_a_bare_transform_breaks_all_promises_about_masks_and_labels() -> None:
    about = re.compile("mask.* mixed|channels|ignored|follow|labels .* mix$")
    names = {case.name for case in CASES if about.search(case.name)}
    assert len(names) > 15
    assert names <= broken(BARE).keys()


def test_a_bare_transform_in_a_sequence_leaves_masks_and_labels_unmixed() -> None:
    images, masks, labels = batch()
    mixed, same_masks, same_labels = K.AugmentationSequential(CowMix(SIGMA), data_keys=KEYS)(images, masks, labels)
    assert not torch.equal(mixed, images)
    assert torch.equal(same_masks, masks)
    assert torch.equal(same_labels, labels)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sequence", [False, True])
def test_images_masks_and_labels_are_mixed_by_one_mask(p: float, sequence: bool) -> None:
    images, masks, labels = batch()
    cowmix = RandomCowMix(SIGMA, p=p, data_keys=KEYS)
    augment = AugmentationSequential(cowmix, data_keys=KEYS) if sequence else cowmix
    out = augment(images, masks, labels)
    where = partners(cowmix)
    assert torch.equal(out[0], mix(images, images.roll(1, 0), where))
    assert out[1].dtype == torch.int64
    assert torch.equal(out[1], mix(masks, masks.roll(1, 0), where))
    share = where.float().mean((1, 2, 3))
    partner = torch.where(share > 0, labels.roll(1), labels)
    assert torch.equal(out[2], torch.stack([labels, partner, share], 1))
    assert (share > 0).any() == (p > 0)
    assert (share == 0).any() == (p < 1)


def test_masks_are_those_of_cowmask() -> None:
    images, _, _ = batch()
    settings: Any = {"sigma": SIGMA, "proportion": 0.3, "spacing": (1, 2)}
    cowmix, cowout = RandomCowMix(**settings), RandomCowOut(**settings, value=0.5, p=1.0)
    torch.manual_seed(1)
    mixed, erased = cowmix(images), cowout(images)
    torch.manual_seed(1)
    masks = CowMix(**settings).sample(images), CowOut(**settings).sample(images)
    assert torch.equal(mixed, CowMix()(images, mask=masks[0]))
    assert torch.equal(erased, erase(images, masks[1], 0.5))


@pytest.mark.parametrize("make", [RandomCowMix, RandomCowOut])
def test_p_is_applied_once_to_each_image(make: Any) -> None:  # kornia#4649
    augment, calls = make(SIGMA, 0.5, p=0.3), 200
    images = 1 + torch.rand(B, 1, 8, 8)
    changed = torch.stack([(augment(images) != images).flatten(1).any(1) for _ in range(calls)])
    expected, deviation = 0.3 * changed.numel(), (0.3 * 0.7 * changed.numel()) ** 0.5
    assert abs(int(changed.sum()) - expected) < 5 * deviation
    assert (changed.any(1) & ~changed.all(1)).sum() > calls / 2  # decided for each image


def test_every_mask_lies_elsewhere() -> None:  # kornia#4712
    masks = RandomCowMix(SIGMA).forward_parameters(torch.Size((16, 1, 64, 64)))["cow_masks"].flatten(1).float()
    agreement = (masks @ masks.T + (1 - masks) @ (1 - masks).T) / masks.shape[1]
    assert agreement.fill_diagonal_(0.5).max() < 0.75


def test_lambda_is_the_weight_of_the_partner() -> None:  # kornia#3077
    images = torch.eye(B).view(B, B, 1, 1).expand(B, B, *SIZE)  # image i shows class i in each pixel
    mixed, labels = RandomCowMix(SIGMA, 0.2, data_keys=["input", "class"])(images, torch.arange(B))
    own, partner, share = labels[:, 0].long(), labels[:, 1].long(), labels[:, 2]
    assert share.mean() < 0.4
    logits = torch.randn(B, B)
    # The loss that kornia documents for RandomMixUpV2 is that of the classes' shares of the image.
    loss_own, loss_partner = (F.cross_entropy(logits, one, reduction="none") for one in (own, partner))
    expected = F.cross_entropy(logits, mixed.mean((2, 3)), reduction="none")
    assert torch.allclose((1 - share) * loss_own + share * loss_partner, expected, atol=1e-5)


def test_generators_follow_their_container_to_a_device() -> None:  # kornia#3825
    augment = AugmentationSequential(K.ImageSequential(RandomCowMix(SIGMA)), RandomCowOut(SIGMA)).to("meta")
    inner, cowout = augment.forward_parameters(torch.Size((B, 3, *SIZE)))
    for params in (inner.data[0].data, cowout.data):
        assert params["cow_masks"].device.type == "meta"


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_nothing_waits_for_the_device(p: float) -> None:
    with FakeTensorMode():  # where reading a value is an error
        images, masks, labels = torch.empty(B, 3, *SIZE, device="cuda"), *(x.cuda() for x in batch()[1:])
        cowmix, cowout = RandomCowMix(SIGMA, p=p, data_keys=KEYS).to("cuda"), RandomCowOut(SIGMA, p=p).to("cuda")
        results = [*cowmix(images, masks, labels), cowout(images)]
        assert {x.device.type for x in (*results, cowmix._params["cow_masks"])} == {"cuda"}
        with pytest.raises(Exception, match=r"data-dependent|_local_scalar_dense"):
            K.RandomMixUpV2(p=0.5).to("cuda")(images)


@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("kind", ["mix", "erase", "sequence"])
def test_everything_compiles_without_a_break(kind: str, p: float) -> None:
    inputs = batch()
    mixing, erasing = RandomCowMix(SIGMA, p=p, data_keys=KEYS), RandomCowOut(SIGMA, p=p)
    flip = K.RandomHorizontalFlip(p=1)  # with torch 2.11, a flip of some images breaks the graph
    sequence = AugmentationSequential(flip, mixing, erasing, data_keys=KEYS)
    module: Any = {"mix": mixing, "erase": lambda images, *_: [erasing(images)], "sequence": sequence}[kind]
    torch._dynamo.reset()
    torch.manual_seed(1)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(*inputs)
    torch.manual_seed(1)
    for x, y in zip(compiled, module(*inputs), strict=True):
        assert torch.equal(x, y)


def test_a_batch_of_one_compiles() -> None:
    image = torch.rand(1, 3, *SIZE)
    compiled: Any = torch.compile(RandomCowMix(SIGMA), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image), image)


def test_labels_of_clips_tell_the_share_of_the_clip() -> None:
    clips, labels = torch.arange(3.0).view(3, 1, 1, 1, 1).expand(3, 4, 1, *SIZE), torch.tensor([5, 6, 7])
    inner = K.VideoSequential(RandomCowMix(SIGMA, p=0.5), same_on_frame=False)
    mixed, result = AugmentationSequential(inner, data_keys=["input", "class"])(clips, labels)
    share = (mixed != clips).float().mean((1, 2, 3, 4))
    assert torch.allclose(result[:, 2], share)
    assert torch.equal(result[:, 1].long(), torch.where(share > 0, labels.roll(1), labels))


def test_a_batch_of_one_is_not_mixed_and_warns() -> None:
    image, mask = torch.rand(3, *SIZE), torch.randint(0, 9, SIZE)
    cowmix = RandomCowMix(SIGMA, data_keys=["input", "mask"], keepdim=True)
    with pytest.warns(UserWarning, match="a batch of one is not mixed") as warned:
        same_image, same_mask = cowmix(image, mask)
    assert warned[0].filename == __file__
    assert torch.equal(same_image, image)
    assert torch.equal(same_mask, mask)
    assert same_image.data_ptr() != image.data_ptr()
    with pytest.warns(UserWarning, match="a batch of one is not mixed"):
        K.VideoSequential(RandomCowMix(SIGMA))(torch.rand(1, 5, 3, *SIZE))


def test_an_eraser_fills_with_a_value_for_each_channel() -> None:
    images, mean = batch()[0], torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    cowout = RandomCowOut(SIGMA, value=mean, p=1.0)
    erased, kept = cowout(images), cowout._params["cow_masks"]
    assert torch.equal(erased, erase(images, kept, mean))
    assert torch.equal(cowout(images, params=cowout._params, value=2.0), erase(images, kept, 2.0))


def test_repr_is_kornias_and_tells_defaults() -> None:
    for augment, core in ((RandomCowMix(), CowMix()), (RandomCowOut(), CowOut())):
        assert repr(core).partition("(")[2].startswith(repr(augment._param_generator))
    ours = "sigma=(1.0, 4.0), proportion=0.5, spacing=None"
    assert repr(RandomCowMix(SIGMA, p=0.3)) == f"RandomCowMix({ours}, p=0.3, p_batch=1.0, same_on_batch=False)"
    assert repr(RandomCowOut(SIGMA, 0.5)) == f"RandomCowOut({ours}, p=0.5, p_batch=1.0, same_on_batch=False, value=0.0)"


@pytest.mark.parametrize(("key", "numbers"), [("bbox_xyxy", 4), ("keypoints", 2)])
def test_boxes_and_keypoints_are_refused_before_anything_is_drawn(key: str, numbers: int) -> None:
    images, there, state = batch()[0], torch.ones(B, 1, numbers), torch.get_rng_state()
    with pytest.raises(NotImplementedError, match=f"mixes input, mask and class, got {key}"):
        RandomCowMix(data_keys=["input", key])(images, there)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(NotImplementedError, match="mixes input, mask and class"):
        AugmentationSequential(RandomCowMix(), data_keys=["input", key])(images, there)


def test_errors_say_what_was_expected() -> None:
    images, masks, labels = batch()
    for make in (RandomCowMix, RandomCowOut):
        with pytest.raises(ValueError, match="sigma must be finite, above 0, got -1"):
            make(sigma=-1)
        with pytest.raises(ValueError, match=r"proportion must be .*, got 2"):
            make(proportion=2)
        with pytest.raises(ValueError, match=r"p must be .*, got 50"):
            make(p=50)
    with pytest.raises(TypeError, match="fill must be a number"):
        RandomCowOut(value="black")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"class labels must be class indices of shape \(6,\), got \(6, 9\)"):
        RandomCowMix(data_keys=["input", "class"])(images, torch.rand(B, 9))
    with pytest.raises(ValueError, match=r"class labels .* got \(3,\)"):
        RandomCowMix(data_keys=["input", "class"])(images, labels[:3])
    with pytest.raises(ValueError, match="mask"):
        RandomCowMix(data_keys=["input", "mask"])(images, masks[..., :9])
    cowmix = RandomCowMix()
    cowmix(images)
    with pytest.raises(ValueError, match="mask"):
        cowmix(images[:3], params=cowmix._params)


def test_code_of_the_page_runs() -> None:
    names = run(PAGE, {})
    where = partners(names["cowmix"])
    assert torch.equal(names["mixed"], mix(names["images"], names["images"].roll(1, 0), where))
    assert torch.allclose(names["mixed_labels"][:, 2], where.float().mean((1, 2, 3)))


def test_counts_of_the_page() -> None:
    table = (ROOT / PAGE).read_text().rpartition("| kept, of ")[2]
    assert int(table.split()[0]) == len(CASES)
    counts = [int(row.split("|")[2]) for row in table.splitlines()[2:]]
    subjects = [(BARE, counts[1]), (INTEGRATED, counts[2])]
    if kornia.__version__ == "0.9.0":
        subjects.append((KORNIA, counts[0]))
    for subject, count in subjects:
        assert len(CASES) - len(broken(subject)) == count, subject.name
