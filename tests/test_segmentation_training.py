"""examples/segmentation: evaluation, methods, networks, trainer."""

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from cowmask import CowMix
from segmentation.batches import SUBSETS, Batches, labelled_subset, listed_subset, shuffled_batches
from segmentation.config import CAMVID, PAPER, Config, ConfigError, parse
from segmentation.datasets import VOID, DataError, Dataset, load_street
from segmentation.evaluation import predict, score
from segmentation.methods import MethodName, Perturbed
from segmentation.networks import NetworkError, build_unet
from segmentation.trainer import Task, Trainer

SIZE = (32, 64)
TINY = Config(size=SIZE, encoder="tu-lcnet_050", decoder_channels=(16, 16, 8, 8, 8), batch_size=3, labelled=4)


@pytest.fixture(autouse=True)
def _forget_precision() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps one precision a process


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_street(SIZE, n_train=8, n_val=2, n_test=3)


def test_score_is_a_confusion_matrixs_and_void_does_not_count() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, (3, 9, 7)), rng.integers(0, 4, (3, 9, 7))
    labels[0, :3] = VOID
    counted = labels != VOID
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (labels[counted], predictions[counted]), 1)
    iou = confusion.diagonal() / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal())
    result = score(torch.from_numpy(predictions).byte(), torch.from_numpy(labels).byte(), 4)
    assert result.per_class == pytest.approx(iou.tolist(), abs=1e-6)
    assert result.miou == pytest.approx(iou.mean(), abs=1e-6)
    one = torch.zeros(1, 4, 4, dtype=torch.uint8)
    assert score(one, one, 3).miou == 1  # classes that are nowhere do not count


def test_network_takes_any_size_and_normalises() -> None:
    network = build_unet("tu-lcnet_050", "none", 5, (16, 16, 8, 8, 8)).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 45, 60)).shape == (2, 5, 45, 60)
        assert predict(network, torch.zeros(3, 3, 33, 40, dtype=torch.uint8), torch.device("cpu"), 2).shape == (
            3,
            33,
            40,
        )


def test_encoder_weights_from_a_file(tmp_path: Path) -> None:
    channels = (16, 16, 8, 8, 8)
    donor = build_unet("tu-lcnet_050", "none", 5, channels)
    state = donor.network.encoder.model.state_dict()
    path = tmp_path / "encoder.pt"
    torch.save(state, path)
    network = build_unet("tu-lcnet_050", str(path), 5, channels)
    loaded = network.network.encoder.model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    norms = [m for m in network.train().network.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)  # pre-trained: frozen
    assert any(norm.training for norm in network.network.decoder.modules() if isinstance(norm, nn.BatchNorm2d))

    smp_encoder = build_unet("resnet18", "none", 5, channels).network.encoder  # not timm's: its own load_state_dict
    torch.save(smp_encoder.state_dict(), tmp_path / "resnet18.pt")
    build_unet("resnet18", str(tmp_path / "resnet18.pt"), 5, channels)

    state.popitem()
    torch.save(state, path)
    with pytest.raises(NetworkError, match="lacks 1 of the encoder's weights"):
        build_unet("tu-lcnet_050", str(path), 5, channels)
    path.write_text("nonsense")
    with pytest.raises(NetworkError, match="cannot be read as weights"):
        build_unet("tu-lcnet_050", str(path), 5, channels)
    with pytest.raises(NetworkError, match="no encoder 'tu-nonsense'"):
        build_unet("tu-nonsense", "none", 5, channels)
    with pytest.raises(NetworkError, match="is no file"):
        build_unet("tu-lcnet_050", str(tmp_path / "nowhere.pt"), 5, channels)


@pytest.mark.skipif("ENCODER_WEIGHTS" not in os.environ, reason="needs weights in the file ENCODER_WEIGHTS")
def test_real_encoder_weights() -> None:
    network = build_unet("tu-tf_efficientnet_lite0", os.environ["ENCODER_WEIGHTS"], 11, (16, 16, 8, 8, 8))
    assert network.mean.flatten().tolist() == [0.5, 0.5, 0.5]  # as these weights were trained


def test_every_index_once_a_pass() -> None:
    batches = shuffled_batches(10, 4, seed=3)
    drawn = torch.cat([next(batches) for _ in range(15)]).view(6, 10)
    assert all(sorted(one.tolist()) == list(range(10)) for one in drawn)
    assert len({tuple(one.tolist()) for one in drawn}) == 6
    assert next(shuffled_batches(2, 5, seed=0)).shape == (5,)  # a set smaller than the batch


def test_labelled_subset_follows_from_the_seed() -> None:
    assert labelled_subset(367, 30, 1) == labelled_subset(367, 30, 1)
    assert labelled_subset(367, 30, 1) != labelled_subset(367, 30, 2)
    assert len(set(labelled_subset(367, 30, 1))) == 30


def test_processes_share_the_global_batch() -> None:
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 3, 4, 4)
    cpu = torch.device("cpu")
    whole = Batches((images,), 4, 7, cpu)
    parts = [Batches((images,), 2, 7, cpu, rank, 2) for rank in range(2)]
    for _ in range(5):
        numbers, *shares = (batches.draw()[0][:, 0, 0, 0] for batches in (whole, *parts))
        assert sorted(torch.cat(shares).tolist()) == sorted(numbers.tolist())
    parts[0].load_state_dict({"drawn": 8})
    ahead = Batches((images,), 2, 7, cpu, 0, 2)
    for _ in range(8):
        ahead.draw()
    assert parts[0].state_dict() == ahead.state_dict() == {"drawn": 8}
    assert torch.equal(*(batches.draw()[0].amax((1, 2, 3)) for batches in (parts[0], ahead)))


def test_listed_subsets() -> None:
    names = tuple(sorted({name for line in SUBSETS.read_text().splitlines()[1:] for name in line.split()}))
    chosen = listed_subset(names, 3)
    assert len(chosen) == 30
    assert chosen != listed_subset(names, 4)
    with pytest.raises(DataError, match="--subset must be from 0 to 9, got 10"):
        listed_subset(names, 10)
    with pytest.raises(DataError, match="not in the data"):
        listed_subset(names[1:], [names[0] in line for line in SUBSETS.read_text().splitlines()[1:]].index(True))


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


@pytest.mark.parametrize(("name", "batch"), [("cowmix", 3), ("cowmix", 1), ("full", 3)])
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
    torch.rand(5)  # what a new process would have drawn is of no matter
    resumed = Trainer(config, data, name)
    outcome = resumed.fit()
    assert torch.equal(outcome.predictions, expected.predictions)
    assert outcome.teacher == expected.teacher
    assert all(torch.equal(value, weights(whole)[key]) for key, value in weights(resumed).items())
    assert len(list((tmp_path / "parts" / name).glob("checkpoint-*"))) == 1
    with pytest.raises(ConfigError, match=r"other options \(iterations\)"):
        Trainer(replace(config, iterations=8), data, name)


def test_logs(data: Dataset, tmp_path: Path) -> None:
    Trainer(replace(TINY, iterations=3, evaluate_every=2, precision="bf16", out=tmp_path), data, "cutmix").fit()
    with (tmp_path / "cutmix" / "log.csv").open() as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert names >= {"loss/supervised", "loss/consistency", "confidence", "val/miou_student", "val/miou_teacher"}
    (events,) = (tmp_path / "cutmix").rglob("events.out.tfevents*")
    board = EventAccumulator(str(events)).Reload()
    assert names <= set(board.Tags()["scalars"])
    (panel,) = board.Images("val/image_truth_teacher")
    assert (panel.height, panel.width) == (4 * SIZE[0], 3 * SIZE[1])
    assert set(torch.load(tmp_path / "cutmix" / "teacher.pt", weights_only=True))


@pytest.mark.parametrize("option", ["labelled=0", "batch-size=0", "size=0 64", "ema=1", "threshold=5", "sigma=16 4"])
def test_options_that_make_no_sense_are_refused(option: str) -> None:
    name, value = option.split("=")
    with pytest.raises(ConfigError, match=f"^--{name} must"):
        parse([f"--{name}", *value.split()])


def test_more_labels_than_images_are_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than the 8 images"):
        Trainer(replace(TINY, labelled=9, out=tmp_path), data, "supervised")


def test_the_teacher_predicts_by_its_batch_and_keeps_averaged_buffers(data: Dataset, tmp_path: Path) -> None:
    trainer = Trainer(replace(TINY, out=tmp_path), data, "cowmix")
    before = {name: value.clone() for name, value in trainer.teacher.named_buffers() if "running" in name}
    trainer.teacher.train()
    trainer.teach(trainer.draw_unlabelled())
    after = dict(trainer.teacher.named_buffers())
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_data_changes_the_defaults_of_what_is_not_given() -> None:
    assert parse([]) == Config()
    config = parse(["--data", "somewhere", "--seed", "3", "--size", "180", "240"])
    assert config == replace(CAMVID, data=Path("somewhere"), seed=3, size=(180, 240))
    assert config.mask_sigma == (2, 8)  # the paper's 4-16 is at 480x360


def test_the_papers_recipe() -> None:
    with pytest.raises(ConfigError, match="recipe paper needs --data"):
        parse(["--recipe", "paper"])
    config = parse(["--recipe", "paper", "--data", "somewhere"])
    assert config == replace(PAPER, data=Path("somewhere"))
    assert (config.batch_size, config.learning_rate, config.encoder) == (1, 1e-4, "resnet50")
    assert config.iterations_of("cowmix") == 110_100
    assert config.iterations_of("std_aug") == 18_350
    assert replace(config, iterations=7).iterations_of("cowout") == 7


@pytest.mark.parametrize("name", get_args(MethodName))
def test_every_method_takes_a_step(data: Dataset, tmp_path: Path, name: MethodName) -> None:
    trainer = Trainer(replace(TINY, threshold=0.1, out=tmp_path), data, name)
    scalars = trainer.step()
    assert all(value.isfinite() for value in scalars.values())
    assert ("loss/consistency" in scalars) == (name not in ("supervised", "full"))


def test_accumulated_batches_are_one_large_batch(data: Dataset, tmp_path: Path) -> None:
    """The confidence is the mean over all, before it multiplies; so is every other denominator."""
    ends = []
    for batch, accumulate in ((4, 1), (2, 2)):
        config = replace(TINY, batch_size=batch, accumulate=accumulate, threshold=0.2, out=tmp_path / str(batch))
        trainer = Trainer(config, data, "cowmix")
        for network in (trainer.student.eval(), trainer.teacher.eval()):  # batch-norm frozen: all else is the same
            network.train = lambda _=True, network=network: network  # type: ignore[method-assign]
        images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
        targets = torch.randint(0, 6, (4, *SIZE), generator=torch.Generator().manual_seed(0))
        targets[0, :20] = VOID  # the halves have other denominators
        mixed = CowMix(sigma=2)(images, generator=torch.Generator().manual_seed(0))
        probabilities = (5 * torch.rand(4, 6, *SIZE, generator=torch.Generator().manual_seed(1))).softmax(1)
        valid = torch.rand(4, 1, *SIZE, generator=torch.Generator().manual_seed(2)) < torch.linspace(0.2, 1, 4).view(
            -1, 1, 1, 1
        )
        everything = zip(*(x.split(batch) for x in (images, targets, mixed, probabilities, valid)), strict=True)
        tasks = iter([Task(x, y, Perturbed(m, p, valid=v)) for x, y, m, p, v in everything])
        trainer._draw_task = lambda tasks=tasks: next(tasks)  # type: ignore[method-assign, misc]
        scalars = trainer.step()
        ends.append((scalars, weights(trainer)))
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
