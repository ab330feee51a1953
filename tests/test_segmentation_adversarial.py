"""examples/segmentation/adversarial.py: the discriminator, and the student's losses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from segmentation.adversarial import (
    CONFIDENT,
    LABELLED,
    SELF_TAUGHT,
    UNLABELLED,
    Adversarial,
    AdversarialBatch,
    Discriminator,
)
from segmentation.config import Config
from segmentation.data.batches import LabelledBatch, UnlabelledBatch
from segmentation.data.datasets import VOID
from segmentation.data.street import load_street
from segmentation.objectives import LabelledLogits, StudentLogits, Totals, one_hot
from segmentation.trainer import Trainer

SIZE = (64, 64)
K = 6
TINY = Config(
    size=(32, 64),
    encoder="tu-lcnet_050",
    encoder_weights="none",
    decoder_channels=(16, 16, 8, 8, 8),
    batch_size=2,
    labelled=4,
    learning_rate=3e-3,
)


def scenes(n: int) -> Tensor:
    split = load_street(SIZE, n, 1, 1).train
    return torch.stack([split.label(i) for i in range(n)]).long()


def test_the_discriminator_is_that_of_hung_et_al() -> None:
    network = Discriminator(21)
    shapes = [tuple(p.shape) for p in network.parameters() if p.ndim == 4]
    assert shapes == [(64, 21, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4)]
    assert [m.negative_slope for m in network if isinstance(m, torch.nn.LeakyReLU)] == [0.2] * 4
    assert network(torch.rand(2, 21, 33, 70)).shape == (2, 1, 33, 70)


def test_label_maps_as_probabilities() -> None:
    labels = torch.tensor([[[0, 2], [VOID, 1]]])
    maps = one_hot(labels, 3)
    assert maps.shape == (1, 3, 2, 2)
    assert maps.sum(1).tolist() == [[[1, 1], [0, 1]]]  # void is of no class
    assert torch.equal(maps.argmax(1)[labels != VOID], labels[labels != VOID])


def totals(labelled: int) -> Totals:
    """Return the counts that the discriminator needs."""
    return Totals(torch.tensor(labelled), valid=torch.tensor(0), extra=torch.tensor(0), world=1)


def adversarial(iterations: int = 200, start: int = 0) -> Adversarial:
    def draw() -> UnlabelledBatch:
        return UnlabelledBatch(torch.rand(2, 3, *SIZE), torch.ones(2, 1, *SIZE, dtype=torch.bool))

    return Adversarial(K, draw, Accelerator(cpu=True), iterations, start)


def test_the_discriminator_tells_real_from_predicted() -> None:
    """The predictions are mostly right, but as blurred as a network's."""
    labels = scenes(16)
    blurred = F.avg_pool2d(one_hot(labels, K), 9, 1, 4) + 0.02
    objective = adversarial(iterations=400)
    losses, accuracies = [], []
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        batch = torch.randperm(16, generator=generator)[:4]
        shown = LabelledLogits(6 * blurred[batch], labels[batch])
        scalars = objective.after_step([shown], totals(labels[batch].numel()))
        losses.append(scalars["loss/discriminator"].item())
        accuracies.append(scalars["discriminator/accuracy"].item())
    assert losses[0] == pytest.approx(0.693, abs=0.03)
    assert sum(losses[-10:]) / 10 < losses[0] / 2
    assert sum(accuracies[-10:]) / 10 > 0.9
    with torch.no_grad():  # above 0 for label maps
        real, predicted = (objective._discriminator(maps) for maps in (one_hot(labels, K), (6 * blurred).softmax(1)))
    assert predicted.mean() < 0 < real.mean()
    (group,) = objective._optimizer.param_groups
    assert group["lr"] == pytest.approx(1e-4 * (1 - 200 / 400) ** 0.9)
    nothing = objective.after_step([LabelledLogits(6 * blurred, torch.full_like(labels, VOID))], totals(0))
    assert nothing == {"loss/discriminator": 0, "discriminator/accuracy": 0}


def test_the_students_losses_are_those_of_the_paper() -> None:
    objective = adversarial()
    labels = scenes(2)
    labels[0, :10] = VOID
    logits = torch.randn(2, K, *SIZE, requires_grad=True)
    others = (3 * torch.randn(2, K, *SIZE)).requires_grad_()
    valid = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    valid[1, :, 50:] = False
    drawn = AdversarialBatch(torch.rand(2, 3, *SIZE), valid, is_late=True)
    known, inside = labels != VOID, valid[:, 0]
    network = objective._discriminator
    with torch.no_grad():  # some pixels pass for a label, some do not
        network[-1].weight.mul_(60)
        network[-1].bias.fill_(torch.tensor(CONFIDENT).logit())
    counts = Totals(known.sum(), *objective.counts(drawn), world=1)
    losses = objective.losses(StudentLogits(logits, labels, others), drawn, counts)
    assert set(losses) == {LABELLED, UNLABELLED, SELF_TAUGHT}
    assert objective.weights == {LABELLED: 0.01, UNLABELLED: 0.001, SELF_TAUGHT: 0.1}

    def missed(predictions: Tensor, where: Tensor) -> Tensor:
        judged = network(predictions.softmax(1))[:, 0]
        return F.binary_cross_entropy_with_logits(judged[where], torch.ones_like(judged[where]))

    assert losses[LABELLED].item() == pytest.approx(missed(logits, known).item(), rel=1e-5)
    assert losses[UNLABELLED].item() == pytest.approx(missed(others, inside).item(), rel=1e-5)
    trusted = (network(others.softmax(1))[:, 0].sigmoid() >= CONFIDENT) & inside
    assert 0.1 < trusted.float().mean() < 0.8
    own = F.cross_entropy(others.movedim(1, -1)[trusted], others.argmax(1)[trusted])
    assert losses[SELF_TAUGHT].item() == pytest.approx(own.item(), rel=1e-5)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert logits.grad is not None
    assert others.grad is not None
    assert (others.grad[1, :, 50:] == 0).all() or not trusted[1, 50:].any()
    assert all(parameter.grad is None for parameter in network.parameters())  # these losses train the student only
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_student_teaches_itself_once_it_is_time() -> None:
    objective = adversarial(start=3)
    labelled = LabelledBatch(torch.rand(2, 3, *SIZE), scenes(2))
    early, late = (objective.draw(iteration, labelled) for iteration in (2, 3))
    assert (early.is_late, late.is_late) == (False, True)
    logits = StudentLogits(torch.randn(2, K, *SIZE), scenes(2), torch.randn(2, K, *SIZE))
    losses = objective.losses(logits, early, Totals(torch.tensor(2 * 64 * 64), *objective.counts(early), world=1))
    assert set(losses) == {LABELLED, UNLABELLED}


def test_the_whole_method(tmp_path: Path) -> None:
    data = load_street((32, 64), n_train=8, n_val=2, n_test=3)
    config = replace(TINY, optimizer="sgd", encoder_rate=0.1, iterations=6, adversarial_start=0.5, out=tmp_path)
    trainer = Trainer(config, data, "adversarial")
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    assert rates == [pytest.approx(3e-4), 3e-3]  # the encoder's, and that of the rest
    keys = []
    for iteration in range(4):
        trainer.progress.iteration = iteration
        scalars = trainer.step()
        assert all(value.isfinite() for value in scalars.values())
        keys.append(set(scalars))
    early = {"loss/supervised", LABELLED, UNLABELLED, "loss/discriminator", "discriminator/accuracy"}
    assert keys[0] == keys[2] == early
    assert keys[3] == early | {SELF_TAUGHT}
    teacher = trainer.teacher.module.state_dict()  # without a teacher, the student itself is scored
    assert all(torch.equal(value, teacher[name]) for name, value in trainer.student.state_dict().items())
