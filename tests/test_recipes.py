"""The blocks of docs/recipes.md that need PyTorch alone. Those with other libraries are in `test_recipes_*.py`."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils.data import DataLoader, TensorDataset

from cowmask import CowMix, CutMix, MeanTeacher
from tests.pages import ROOT, blocks
from tests.recipes import (
    CLASSES,
    PAGE,
    SIZE,
    Classifier,
    Names,
    Readers,
    are_mixed,
    assert_labels_fit,
    assert_targets_fit,
    data,
    recipe,
    segmenter,
)


def test_every_recipe_is_short_and_tested() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_recipes*.py"))
    for block in blocks(PAGE):
        assert f'"{block.section}"' in tests
        assert block.section == "From boxes in a loop" or block.code.count("\n") < 15, block.section


def test_plain_loop() -> None:
    images, labels, _ = data()
    model = Classifier()
    before = model.layers.state_dict()["1.weight"].clone()
    loader = DataLoader(TensorDataset(images, labels), batch_size=4, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = recipe("Plain loop", loader=loader, model=model, optimizer=optimizer, device="cpu")
    assert not torch.equal(model.layers.state_dict()["1.weight"], before)
    assert are_mixed(names["images"]).any()
    assert_labels_fit(names["images"], names["labels"])


def test_weak_and_strong_views() -> None:
    strong, labels, _ = data()
    ignore = torch.where(labels % 2 == 1, 255, 0).view(-1, 1, 1).expand(-1, *SIZE).contiguous()
    model = Readers()
    sure = model(strong).softmax(1).amax((1, 2, 3))  # by value
    assert 0 < (sure >= 0.95).sum() < len(sure)
    names = recipe("Weak and strong views", weak=strong, strong=strong, ignore=ignore, model=model)
    values = names["mixed"][:, 0].long()
    assert 0 < are_mixed(names["mixed"]).sum() < len(strong)
    assert torch.equal(names["pseudo"], values)
    assert torch.equal(names["confidence"], sure[values])
    assert torch.equal(names["ignore"], torch.where(values % 2 == 1, 255, 0))
    counted = (values % 2 == 0) & (sure[values] >= 0.95)
    assert torch.allclose(names["loss"], (-sure.log()[values] * counted).sum() / (values % 2 == 0).sum(), atol=1e-6)
    names["loss"].backward()


def test_two_networks() -> None:
    images = data()[0]
    network_a, network_b = Readers(), Readers(shift=1)
    names = recipe("Two networks", images=images, network_a=network_a, network_b=network_b, cowmix=CowMix((1, 4)))
    assert are_mixed(names["mixed"]).any()
    assert_targets_fit(names["mixed"], names["pseudo_a"])
    assert_targets_fit(names["mixed"] + 1, names["pseudo_b"])
    names["loss"].backward()
    assert network_a.scale.grad != 0
    assert network_b.scale.grad != 0


def class_masks() -> Any:
    return recipe("ClassMix", images=data()[0], teacher=MeanTeacher(Readers()))["class_masks"]


def test_classmix() -> None:
    images = data()[0]
    images[:, :, :, 12:] = images.roll(3, 0)[:, :, :, 12:]  # two classes an image
    names = recipe("ClassMix", images=images, teacher=MeanTeacher(Readers()))
    mask = names["mask"]
    assert mask.dtype == torch.bool
    assert (mask.flatten(1).float().mean(1) == 0.5).all()  # one class of the partner's two
    assert torch.equal(names["mixed"], torch.where(mask, images.roll(1, 0), images))
    assert_targets_fit(names["mixed"], names["probs_mixed"].argmax(1))


def test_classmix_pastes_half_of_the_partners_classes() -> None:
    draw, n_classes = class_masks(), 7
    generator = torch.Generator().manual_seed(0)
    numbers = (7, 1, 4, 5, 2, 7)  # of classes in an image, which are any of the seven
    present = [torch.randperm(7, generator=generator)[:n] for n in numbers]
    pseudo = torch.stack(
        [classes[torch.randint(0, len(classes), (20, 30), generator=generator)] for classes in present]
    )
    times = torch.zeros(len(pseudo), n_classes)
    for _ in range(300):
        mask = draw(pseudo, n_classes)[:, 0]
        for i, (inside, partner) in enumerate(zip(mask, pseudo.roll(1, 0), strict=True)):
            pasted = partner[inside].unique()
            assert torch.equal(inside, torch.isin(partner, pasted))  # whole classes
            assert len(pasted) == len(partner.unique()) // 2
            times[i, pasted] += 1
    for count, classes in zip(times.roll(-1, 0), present, strict=True):
        share = len(classes) // 2 / len(classes)
        assert (count[classes] / 300 - share).abs().max() < 0.15  # each of the classes as often
    assert not torch.equal(*draw(pseudo[:1].expand(2, -1, -1), n_classes))  # each image has a draw of its own


def test_classmix_waits_for_no_device() -> None:
    draw = class_masks()
    with FakeTensorMode():  # fails where a value is read back
        mask = draw(torch.empty(4, 20, 30, dtype=torch.int64, device="cuda"), 7)
    assert mask.shape == (4, 1, 20, 30)
    pseudo = torch.randint(0, 7, (4, 20, 30))
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    assert compiled(pseudo, 7).shape == mask.shape


def test_a_loss_summed_over_classes() -> None:
    images, student = data()[0], Readers(shift=1)
    names = recipe(
        "A loss summed over classes",
        images=images,
        teacher=MeanTeacher(Readers()),
        student=student,
        cowmix=CowMix((1, 4)),
    )
    # As the public code has it: summed over classes, and scaled by the share of confident pixels.
    probs = names["teacher"](names["mixed"]).softmax(1)
    squares = (student(names["mixed"]).softmax(1) - probs).square().sum(1)
    confident = (probs.amax(1) > 0.97).float().mean()
    assert 0 < confident < 1
    assert torch.allclose(names["loss"], squares.mean() * confident)


def test_lam() -> None:
    images, labels, _ = data()
    names = recipe("lam", images=images, labels=labels, model=Classifier(), cutmix=CutMix(area=(0, 1), clip=True))
    mixed = names["model"].seen[True][-1]
    assert torch.allclose(names["lam"], (mixed[:, 0] == images[:, 0]).float().mean((1, 2)))
    shares = F.one_hot(mixed[:, 0].long(), CLASSES).float().mean((1, 2))
    assert torch.allclose(names["loss"], F.cross_entropy(names["logits"], shares))


def test_partners_in_random_order() -> None:
    images, labels, _ = data()
    names = recipe("Partners in random order", images=images, labels=labels, cowmix=CowMix((1, 4), num_classes=CLASSES))
    assert_labels_fit(names["mixed"], names["mixed_labels"])
    seen = [set(x.unique().tolist()) for x in names["mixed"]]
    assert seen == [{float(i), float(j)} for i, j in enumerate(names["order"])]
    assert not torch.equal(names["order"], labels.roll(1))


def test_noise_in_the_holes() -> None:
    images = data(3)[0]
    names = recipe("Noise in the holes", images=images)
    mask = names["mask"].expand_as(images)
    assert torch.equal(names["erased"][mask], images[mask])
    holes = names["erased"][~mask]
    assert len(holes) > 300
    assert holes.mean().abs() < 0.2
    assert 0.8 < holes.std() < 1.2
    assert len(holes.unique()) > 0.9 * len(holes)


def test_from_boxes_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a training step with each of the page's two blocks, from the same weights and with the same masks."""
    before, after = (block for block in blocks(PAGE) if block.section == "From boxes in a loop")
    lines = [sum(bool(line.strip()) for line in block.code.splitlines()) for block in (before, after)]
    assert f"These {lines[0]} lines become {lines[1]}" in (ROOT / PAGE).read_text()
    generator = torch.Generator().manual_seed(0)

    def view() -> Names:
        return {
            "strong": torch.rand(6, 3, *SIZE, generator=generator),
            "pseudo": torch.randint(0, CLASSES, (6, *SIZE), generator=generator),
            "confidence": torch.rand(6, *SIZE, generator=generator),
            "ignore": torch.where(torch.rand(6, *SIZE, generator=generator) < 0.1, 255, 0),
        }

    names = view() | {f"other_{name}": x for name, x in view().items()}
    given = {name: x.clone() for name, x in names.items()}
    names |= {"torch": torch, "random": random.Random(1), "CutMix": CutMix}
    taken = []
    for block in (before, after):
        exec(block.code, names)
        monkeypatch.setattr(CutMix, "sample", lambda *_: names["boxes"][:, None].bool())
        mixed = [names[name] for name in ("mixed", "mixed_pseudo", "mixed_confidence", "mixed_ignore")]
        taken.append((*mixed, *one_step(*mixed)))
    assert 0 < are_boxes(names["boxes"]) < 6
    for ours, theirs in zip(*taken, strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(names[name], x) for name, x in given.items())


def test_boxes_in_a_loop_wait_for_the_device_and_cutmix_does_not() -> None:
    before, after = (block for block in blocks(PAGE) if block.section == "From boxes in a loop")
    with FakeTensorMode():  # fails where a value, or the number of pixels in a box, is read back
        names: Names = {"torch": torch, "random": random.Random(1), "CutMix": CutMix}
        names["strong"] = names["other_strong"] = torch.empty(6, 3, *SIZE, device="cuda")
        for name in ("pseudo", "confidence", "ignore"):
            names[name] = names[f"other_{name}"] = torch.empty(6, *SIZE, device="cuda")
        exec(after.code, names)
        with pytest.raises(DynamicOutputShapeException):
            exec(before.code, names)


def are_boxes(boxes: Tensor) -> int:
    """Check that each mask is one box, or nothing; return how many are boxes."""
    sides = torch.stack([boxes.amax(axis).sum(1) for axis in (2, 1)])
    assert torch.equal(sides.prod(0), boxes.sum((1, 2)))
    return int((boxes.sum((1, 2)) > 0).sum())


def one_step(mixed: Tensor, pseudo: Tensor, confidence: Tensor, ignore: Tensor) -> list[Tensor]:
    """Return the loss and the weights after a step of training by what was mixed."""
    torch.manual_seed(0)
    model = segmenter()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    losses = F.cross_entropy(model(mixed), pseudo, reduction="none")
    loss = (losses * (confidence >= 0.5) * (ignore != 255)).sum() / (ignore != 255).sum()
    loss.backward()
    optimizer.step()
    return [loss.detach(), *(weight.detach() for weight in model.parameters())]
