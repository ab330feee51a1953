"""examples/segmentation/trainer.py and objectives.py."""

import csv
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from cowmask import CowMix
from segmentation import checkpoints
from segmentation.adversarial import Adversarial
from segmentation.config import Config, ConfigError, parse
from segmentation.data.batches import LabelledBatch, UnlabelledBatch
from segmentation.data.datasets import VOID, DataError, Dataset
from segmentation.data.street import load_street
from segmentation.methods import MethodName, Perturbed, Taught, build_methods
from segmentation.objectives import Consistency
from segmentation.presets import camvid
from segmentation.saved import load_network
from segmentation.storage import StorageError
from segmentation.trainer import StepData, Trainer

SIZE = (32, 64)
TINY = Config(
    size=SIZE,
    encoder="tu-lcnet_050",
    encoder_weights="none",
    decoder_channels=(16, 16, 8, 8, 8),
    batch_size=3,
    labelled=4,
)
LABELLED = LabelledBatch(torch.full((2, 3, *SIZE), 0.75), torch.arange(64).remainder(4).expand(2, *SIZE))
LABELLED = LABELLED._replace(targets=torch.where(LABELLED.targets == 3, VOID, LABELLED.targets))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_street(SIZE, n_train=8, n_val=2, n_test=3)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.student.state_dict().items()}


def test_teacher_follows_the_student(data: Dataset, tmp_path: Path) -> None:
    trainer = Trainer(replace(TINY, ema=0.9, out=tmp_path), data, "cowmix")
    trainer.step()  # the first step copies the student
    name = next(name for name, _ in trainer.student.named_parameters())
    old = trainer.teacher.module.state_dict()[name].clone()
    scalars = trainer.step()
    expected = torch.lerp(old, trainer.student.state_dict()[name], 0.1)
    assert torch.allclose(trainer.teacher.module.state_dict()[name], expected, atol=1e-7)
    assert set(scalars) == {"loss/supervised", "loss/consistency", "confidence"}
    assert all(value.isfinite() for value in scalars.values())


def test_without_averaging_the_teacher_is_the_student(data: Dataset, tmp_path: Path) -> None:
    trainer = Trainer(replace(TINY, teacher="self", out=tmp_path), data, "cowmix")
    for _ in range(2):
        trainer.step()
        teacher = trainer.teacher.module.state_dict()
        assert all(torch.equal(value, teacher[name]) for name, value in trainer.student.state_dict().items())


@pytest.mark.parametrize("name", ["cutout", "cowout", "cutout_square"])
def test_what_is_erased_is_0_for_the_network(data: Dataset, tmp_path: Path, name: MethodName) -> None:
    trainer = Trainer(replace(TINY, out=tmp_path), data, name)
    seen: list[Tensor] = []
    trainer.student.network.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    batch = trainer._draw_step_data()
    trainer._student_forward(batch)
    erased = ~batch.unlabelled.mask.expand(-1, 3, -1, -1)
    assert 0.05 < erased.float().mean() < 0.95
    assert (seen[-1][TINY.batch_size :][erased] == 0).all()


def test_confidence_of_each_pixel(data: Dataset, tmp_path: Path) -> None:
    losses = {}
    for confidence in ("mean", "pixel"):
        config = replace(TINY, threshold=0.2, out=tmp_path / confidence)
        trainer = Trainer(replace(config, confidence=confidence), data, "cowmix")
        losses[confidence] = trainer.step()
    assert 0.01 < losses["mean"]["confidence"] < 0.99
    assert losses["mean"]["confidence"] == losses["pixel"]["confidence"]
    assert losses["mean"]["loss/consistency"] != losses["pixel"]["loss/consistency"]


def test_consistency_changes_what_is_learned(data: Dataset, tmp_path: Path) -> None:
    ends = []
    for weight in (0.0, 10.0):
        trainer = Trainer(
            replace(TINY, consistency_weight=weight, threshold=0.0, out=tmp_path / str(weight)), data, "cowmix"
        )
        for _ in range(2):
            trainer.step()
        ends.append(weights(trainer))
    assert any(not torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize(("name", "batch"), [("cowmix", 3), ("cowmix", 1), ("full", 3), ("adversarial", 2)])
def test_a_stopped_run_goes_on_as_if_it_had_not(data: Dataset, tmp_path: Path, name: Any, batch: int) -> None:
    config = replace(TINY, iterations=4, evaluate_every=2, checkpoint_every=2, batch_size=batch, out=tmp_path / "whole")
    whole = Trainer(config, data, name)
    expected = whole.fit()

    config = replace(config, out=tmp_path / "parts", resume=True)
    stopped = Trainer(config, data, name)
    stopped._validate = lambda: None  # type: ignore[method-assign]
    steps = iter([stopped.step] * 3)
    stopped.step = lambda: next(steps)()  # type: ignore[method-assign]
    with pytest.raises(StopIteration):
        stopped.fit()
    torch.rand(5)  # a new process has drawn other numbers before
    resumed = Trainer(config, data, name)
    outcome = resumed.fit()
    assert outcome.teacher.scores == expected.teacher.scores
    assert outcome.teacher.maps.keys() == expected.teacher.maps.keys()
    assert all(torch.equal(one, expected.teacher.maps[index]) for index, one in outcome.teacher.maps.items())
    assert all(torch.equal(value, weights(whole)[key]) for key, value in weights(resumed).items())
    ends = [trainer.objective for trainer in (whole, resumed) if isinstance(trainer.objective, Adversarial)]
    assert len(ends) == 2 * (name == "adversarial")
    for states in zip(*(end._discriminator.parameters() for end in ends), strict=True):
        assert torch.equal(*states)
    found = checkpoints.found(tmp_path / "parts" / name)
    assert [path.name for path in found] == ["checkpoint-00000002", "checkpoint-00000004"]
    with pytest.raises(StorageError, match=r"other options \(iterations\)"):
        Trainer(replace(config, iterations=8), data, name).fit()


@pytest.mark.parametrize("name", ["cowmix", "adversarial"])
def test_training_draws_from_pytorchs_generators_alone(data: Dataset, tmp_path: Path, name: MethodName) -> None:
    """Checkpoints hold no others."""
    trainer = Trainer(replace(TINY, iterations=2, workers=1, batch_size=2, out=tmp_path), data, name)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = random.Random(0).random(), np.random.RandomState(0).rand()
    trainer.fit()
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_a_long_run_says_how_long_it_will_take(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "about 0 minutes for the 2 iterations left"
    Trainer(replace(TINY, iterations=12, out=tmp_path / "short"), data, "supervised").fit()
    assert said not in capsys.readouterr().out
    monkeypatch.setattr("segmentation.tracking.LONG", 0.0)
    Trainer(replace(TINY, iterations=12, out=tmp_path / "long"), data, "supervised").fit()
    assert said in capsys.readouterr().out


def test_logs(data: Dataset, tmp_path: Path) -> None:
    Trainer(replace(TINY, iterations=3, evaluate_every=2, precision="bf16", out=tmp_path), data, "cutmix").fit()
    with (tmp_path / "cutmix" / "log.csv").open() as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert names >= {"loss/supervised", "loss/consistency", "confidence", "val/miou_student", "val/miou_teacher"}
    (events,) = (tmp_path / "cutmix").rglob("events.out.tfevents*")
    board = EventAccumulator(str(events)).Reload()
    assert names <= set(board.Tags()["scalars"])
    (panel,) = board.Images("val/image_truth_teacher")
    assert (panel.height, panel.width) == (2 * SIZE[0], 3 * SIZE[1])  # two images of the validation set
    assert load_network(tmp_path / "cutmix").classes == data.classes


@pytest.mark.parametrize(
    "option", ["labelled=0", "batch-size=0", "size=0 64", "ema=1", "threshold=5", "sigma=16 4", "seed=-1"]
)
def test_options_that_make_no_sense_are_refused(option: str) -> None:
    name, value = option.split("=")
    with pytest.raises(ConfigError, match=f"^--{name} must"):
        parse(camvid, [f"--{name}", *value.split()])


def test_more_labels_than_images_are_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than the 8 training images"):
        Trainer(replace(TINY, labelled=9, out=tmp_path), data, "supervised")


def test_the_teacher_predicts_by_its_batch_and_keeps_averaged_buffers(data: Dataset, tmp_path: Path) -> None:
    trainer = Trainer(replace(TINY, out=tmp_path), data, "cowmix")
    before = {name: value.clone() for name, value in trainer.teacher.named_buffers()}
    images = trainer.draw_unlabelled().images
    by_batch = trainer.teach(images)
    after = dict(trainer.teacher.named_buffers())
    assert any("running" in name for name in before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    averaged = Trainer(replace(TINY, teacher_bn="averaged", out=tmp_path / "averaged"), data, "cowmix")
    averaged.teacher.load_state_dict(trainer.teacher.state_dict())
    assert not torch.allclose(averaged.teach(images), by_batch, atol=1e-3)


def test_the_distance_is_the_configurations(data: Dataset, tmp_path: Path) -> None:
    losses = {}
    for distance in ("mse", "sse"):
        trainer = Trainer(replace(TINY, distance=distance, threshold=0.0, out=tmp_path / distance), data, "cowmix")
        losses[distance] = trainer.step()["loss/consistency"]
    assert torch.allclose(6 * losses["mse"], losses["sse"])


@pytest.mark.parametrize("name", get_args(MethodName))
def test_every_method_takes_a_step(data: Dataset, tmp_path: Path, name: MethodName) -> None:
    trainer = Trainer(replace(TINY, threshold=0.1, out=tmp_path), data, name)
    scalars = trainer.step()
    assert all(value.isfinite() for value in scalars.values())
    assert ("loss/consistency" in scalars) == (name not in ("supervised", "full", "adversarial"))


@pytest.mark.parametrize(("name", "batch", "draws"), [("cowmix", 1, 2), ("cowmix", 3, 1), ("cowout", 1, 1)])
def test_one_image_is_mixed_with_the_next(name: MethodName, batch: int, draws: int) -> None:
    perturb = build_methods(SIZE, sigma=(2, 4))[name].perturb
    assert perturb is not None
    everywhere = torch.ones(batch, 1, *SIZE, dtype=torch.bool)
    coming = iter([UnlabelledBatch(torch.full((batch, 3, *SIZE), value), everywhere) for value in (0.25, 0.75)])
    drawn = Consistency(TINY, perturb, lambda: next(coming), lambda images: images).draw(0, LABELLED)
    assert len(list(coming)) == 2 - draws
    assert drawn.images.shape == (batch, 3, *SIZE)
    if draws == 2:  # parts of both, and predictions with them
        assert set(drawn.images.unique().tolist()) == {0.25, 0.75}
        assert torch.equal(drawn.images, drawn.probabilities)


def consistency(name: MethodName, **options: Any) -> Consistency:
    """Return a method's objective for grey images, of which the teacher predicts their three colours."""
    perturb = build_methods(SIZE, sigma=(2, 4))[name].perturb
    assert perturb is not None
    grey = UnlabelledBatch(torch.full((2, 3, *SIZE), 0.25), torch.ones(2, 1, *SIZE, dtype=torch.bool))
    return Consistency(replace(TINY, **options), perturb, lambda: grey, lambda images: images)


def test_labelled_images_can_be_mixed_in() -> None:
    drawn = consistency("cowmix", mix_labelled=True).draw(0, LABELLED)
    inside = drawn.images[:, :1] == 0.75  # of the labelled images
    assert 0.2 < inside.float().mean() < 0.8
    told = F.one_hot(LABELLED.targets.clamp(max=3), 4)[..., :3].movedim(3, 1).float()
    assert torch.equal(drawn.probabilities, torch.where(inside, told, 0.25))
    assert torch.equal(drawn.valid, ~inside | (LABELLED.targets != VOID)[:, None])
    with pytest.raises(ConfigError, match="--mix-labelled needs methods that mix"):
        consistency("cowout", mix_labelled=True)


@pytest.mark.parametrize("name", ["cowmix", "cowout"])
def test_a_view_is_a_mask_of_its_own(name: MethodName) -> None:
    one, two = (consistency(name, views=views).draw(0, LABELLED) for views in (1, 2))
    for part, of_one, of_two in zip(one._fields, one, two, strict=True):
        assert (of_one is None) == (of_two is None), part
        if of_one is not None and of_two is not None:
            assert (len(of_one), len(of_two)) == (2, 4), part
    if two.mask is not None:
        assert not torch.equal(two.mask[:2], two.mask[2:])


def test_the_student_alone_sees_other_colours() -> None:
    seen = []
    objective = consistency("cowout", student_colour=0.5)
    objective._predict = lambda images: seen.append(images.clone()) or images  # type: ignore[func-returns-value]
    colours = [colour for _ in range(10) for colour in objective.draw(0, LABELLED).images.unique().tolist()]
    assert all((images == 0.25).all() for images in seen)
    assert len(set(colours)) > 10  # 0 where erased, else 0.25 in a fifth of the images


def test_masks_and_boxes_take_turns() -> None:
    perturb = build_methods((64, 64), sigma=(2, 2))["cow_and_box"].perturb
    assert perturb is not None
    images = torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)])
    batch = Taught(images, torch.ones(2, 1, 64, 64, dtype=torch.bool), images)
    edges = [(perturb(batch).images[0, 0].diff(dim=0) != 0).sum().item() for _ in range(20)]
    assert 3 <= sum(edge > 2 * 64 for edge in edges) <= 17  # a box has two horizontal edges at most


def test_accumulated_batches_are_one_large_batch(data: Dataset, tmp_path: Path) -> None:
    """The confidence and all denominators are those of the whole step, not of one batch."""
    ends = []
    for batch, accumulate in ((4, 1), (2, 2)):
        config = replace(TINY, batch_size=batch, accumulate=accumulate, threshold=0.7, out=tmp_path / str(batch))
        trainer = Trainer(config, data, "cowmix")
        for network in (trainer.student.eval(), trainer.teacher.module):  # batch-norm depends on the batch: freeze it
            network.train = lambda _=True, network=network: network  # type: ignore[method-assign]
        images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
        targets = torch.randint(0, 6, (4, *SIZE), generator=torch.Generator().manual_seed(0))
        targets[0, :20] = VOID  # the two halves differ in their denominators
        mixed = CowMix(sigma=2)(images, generator=torch.Generator().manual_seed(0))
        probabilities = (5 * torch.rand(4, 6, *SIZE, generator=torch.Generator().manual_seed(1))).softmax(1)
        valid = torch.rand(4, 1, *SIZE, generator=torch.Generator().manual_seed(2)) < torch.linspace(0.2, 1, 4).view(
            -1, 1, 1, 1
        )
        everything = zip(*(x.split(batch) for x in (images, targets, mixed, probabilities, valid)), strict=True)
        batches = iter([StepData(x, y, Perturbed(m, p, v)) for x, y, m, p, v in everything])
        trainer._draw_step_data = lambda batches=batches: next(batches)  # type: ignore[method-assign, misc]
        scalars = trainer.step()
        ends.append((scalars, weights(trainer)))
    assert 0.05 < ends[0][0]["confidence"] < 0.95
    for name, value in ends[0][0].items():
        assert torch.allclose(value, ends[1][0][name], rtol=1e-5)


def test_without_confidence_there_is_no_consistency(data: Dataset, tmp_path: Path) -> None:
    scalars = Trainer(replace(TINY, threshold=1.0, out=tmp_path), data, "cowmix").step()
    assert scalars["confidence"] == 0
    assert scalars["loss/consistency"] == 0


def test_half_precision_needs_a_gpu(data: Dataset, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="fp16 needs a CUDA device"):
        Trainer(replace(TINY, precision="fp16", out=tmp_path), data, "supervised")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["supervised", "cowmix", "adversarial"])
def test_trains_on_a_gpu(data: Dataset, tmp_path: Path, name: MethodName) -> None:
    """From the first step to the test set, through checkpoints and evaluations; then again from the last checkpoint."""
    config = replace(TINY, iterations=6, checkpoint_every=2, evaluate_every=3, precision="bf16", out=tmp_path)
    trainer = Trainer(config, data, name)
    assert trainer.device.type == "cuda"
    miou = trainer.fit().teacher.scores.miou
    resumed = Trainer(replace(config, resume=True), data, name)
    assert resumed.fit().teacher.scores.miou == pytest.approx(miou, abs=0.01)
    assert resumed.progress.iteration == 6
