"""The trainer on two processes (gloo, CPU), and runs that are killed. See `tests/forked.py`."""

import csv
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pytest
import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException

from cowmask import CowMix
from segmentation.adversarial import Adversarial, AdversarialBatch
from segmentation.checkpoints import STATE, Checkpoints, Stateful, found
from segmentation.config import Config
from segmentation.data.datasets import VOID, Dataset
from segmentation.data.street import load_street
from segmentation.evaluation import Tally, evaluate
from segmentation.methods import MethodName, Perturbed
from segmentation.run import main
from segmentation.trainer import StepData, Trainer
from tests.forked import Subject, exit_code, fork, results

ROOT = Path(__file__).parents[1]
SIZE = (32, 64)
TINY = Config(
    size=SIZE,
    encoder="tu-lcnet_050",
    encoder_weights="none",
    decoder_channels=(16, 16, 8, 8, 8),
    threshold=0.2,
    labelled=4,
)


class Batch(NamedTuple):
    """One process's part of a global batch of 4."""

    images: Tensor
    targets: Tensor
    others: Tensor
    valid: Tensor
    perturbed: Perturbed


def batch_of(rank: int, world: int) -> Batch:
    """Return a process's part of images, targets and masks that are given."""
    generator = torch.Generator().manual_seed(0)
    images, others = (torch.rand(4, 3, *SIZE, generator=generator) for _ in range(2))
    probabilities, partners = ((5 * torch.rand(4, 6, *SIZE, generator=generator)).softmax(1) for _ in range(2))
    targets = torch.randint(0, 6, (4, *SIZE), generator=generator)
    targets[0, :20] = VOID  # the processes have other denominators
    valid = torch.rand(4, 1, *SIZE, generator=generator) < torch.linspace(0.2, 1, 4).view(4, 1, 1, 1)
    mask = CowMix(sigma=2).sample(images, generator)
    mine = slice(rank, None, world)
    mixed = CowMix()(images[mine], probabilities[mine], partner=(others[mine], partners[mine]), mask=mask[mine])
    perturbed = Perturbed(mixed[0], mixed[1], valid[mine])
    return Batch(images[mine], targets[mine], others[mine], valid[mine], perturbed)


def street() -> Dataset:
    return load_street(SIZE, n_train=8, n_val=2, n_test=5)


def frozen_trainer(name: MethodName, out: Path, world: int, **options: Any) -> Trainer:
    """Return a trainer of the global batch of 4 whose networks stay in eval(): batch-norm would see other batches."""
    config = replace(TINY, batch_size=4 // world, out=out, **options)
    trainer = Trainer(config, street(), name)
    for network in (trainer.student.eval(), trainer.teacher.module):
        network.train = lambda _=True, network=network: network  # type: ignore[method-assign]
    return trainer


def step_on(trainer: Trainer, step_data: StepData) -> dict[str, float]:
    """Take one step on what is given, and return the mean of the processes' scalars."""
    trainer._draw_step_data = lambda: step_data  # type: ignore[method-assign]
    scalars = trainer.accelerator.reduce(trainer.step(), "mean")
    return {name: value.item() for name, value in scalars.items()}


def sums(*networks: torch.nn.Module) -> list[float]:
    return [parameter.detach().double().sum().item() for network in networks for parameter in network.parameters()]


def take_a_step(out: Path, rank: int, world: int) -> dict[str, Any]:
    trainer, batch = frozen_trainer("cowmix", out, world), batch_of(rank, world)
    scalars = step_on(trainer, StepData(batch.images, batch.targets, batch.perturbed))
    assert set(scalars) == {"loss/supervised", "loss/consistency", "confidence"}
    return {"scalars": scalars, "parameters": sums(trainer.student)}


def take_an_adversarial_step(out: Path, rank: int, world: int) -> dict[str, Any]:
    trainer, batch = frozen_trainer("adversarial", out, world, optimizer="sgd"), batch_of(rank, world)
    unlabelled = AdversarialBatch(batch.others, batch.valid, is_late=True)
    scalars = step_on(trainer, StepData(batch.images, batch.targets, unlabelled))
    assert len(scalars) == 6
    assert isinstance(trainer.objective, Adversarial)
    return {"scalars": scalars, "parameters": sums(trainer.student, trainer.objective._discriminator)}


@pytest.mark.parametrize("take", [take_a_step, take_an_adversarial_step])
def test_two_processes_take_the_step_of_one(take: Subject, tmp_path: Path) -> None:
    one, two = results(take, tmp_path)
    assert two["scalars"] == pytest.approx(one["scalars"], rel=1e-5)
    assert two["parameters"] == pytest.approx(one["parameters"], rel=1e-5, abs=1e-6)


def train_encoders(out: Path, rank: int, world: int) -> list[float]:  # noqa: ARG001
    """Take two steps with encoders of several families, and return how far the processes' weights are apart."""
    apart = []
    for encoder in ENCODERS:
        config = replace(TINY, encoder=encoder, batch_size=2, out=out / encoder)
        trainer = Trainer(config, street(), "supervised")
        scalars = [trainer.step() for _ in range(2)]
        assert all(value.isfinite() for one in scalars for value in one.values())
        both = gather_object([sums(trainer.student)])
        apart.append(max(abs(one - other) for one, other in zip(*both, strict=True)))
    return apart


ENCODERS = ("efficientnet-b0", "mobilenet_v2", "mit_b0")  # the first has unused parameters


def test_two_processes_train_encoders_of_many_families(tmp_path: Path) -> None:
    assert results(train_encoders, tmp_path, worlds=(2,)) == [[0.0] * len(ENCODERS)]


def draw_and_score(out: Path, rank: int, world: int) -> dict[str, Any]:
    trainer, data = frozen_trainer("cowmix", out, world), street()
    last = data.test.names[-1]  # one of two processes scores no image of this group
    data = replace(data, group=lambda name: "last" if name == last else "others")
    drawn = gather_object([CowMix(sigma=2).sample(torch.rand(2, 3, *SIZE)).sum((1, 2, 3)).tolist()])
    for buffer in (*trainer.student.buffers(), *trainer.teacher.module.buffers()):
        buffer += rank  # in training, every process has batch-norm statistics of its own
    student, teacher = trainer._evaluate(data, data.test, keep=list(range(5)))
    own = evaluate(trainer.teacher.module, data, data.test, trainer.config, trainer.accelerator, keep=range(5))
    generator = torch.Generator().manual_seed(0)
    maps, truth = (torch.randint(0, 6, (5, *SIZE), generator=generator) for _ in range(2))
    tally, mine = Tally(6, trainer.device), slice(rank, None, world)
    tally.add(maps[mine], truth[mine])
    return {
        "drawn": drawn,
        "read": gather_object([sorted(own.maps)]),
        "iou": student.scores.per_class,
        "iou of the last": student.groups["last"].per_class,
        "iou of given maps": tally.scores().per_class,
        "predictions": [one.long().sum().item() for _, one in sorted(teacher.maps.items())],
    }


def test_two_processes_draw_masks_of_their_own_and_share_the_test_set(tmp_path: Path) -> None:
    one, two = results(draw_and_score, tmp_path)
    assert len(two["drawn"]) == 2
    assert two["drawn"][0] != two["drawn"][1]
    assert two["read"] == [[0, 2, 4], [1, 3]]
    assert two["iou of given maps"] == one["iou of given maps"]  # exactly: the confusion matrices are added
    for name in ("iou", "iou of the last"):
        assert two[name] == pytest.approx(one[name], abs=1e-3, nan_ok=True)
    assert two["predictions"] == pytest.approx(one["predictions"], rel=0.01)  # every image, in its place


def gloo_threads() -> list[str]:
    """Return the names of gloo's threads in this process (on Linux)."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            names.append(path.read_text().strip())
    return [name for name in names if "gloo" in name]


def end(out: Path, rank: int, world: int) -> list[str]:  # noqa: ARG001
    """Train and return the threads of gloo that are left."""
    config = replace(TINY, batch_size=2, iterations=1, method=("supervised",), out=out / "run")
    main(config, lambda _: (street(), []))
    deadline = time.monotonic() + 10  # a thread that has ended is listed for a moment longer
    while gloo_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    threads: list[str] = gloo_threads()
    assert not threads, "main left a process group: now and then it aborts a process that ends"
    return threads


def test_main_ends_the_process_group(tmp_path: Path) -> None:
    results(end, tmp_path, worlds=(2,))


def train(out: Path, while_writing: int | None = None, after_logging: int | None = None, **options: Any) -> None:
    """Train from the newest checkpoint on, until the process kills itself.

    Args:
        out: Folder.
        while_writing: Iteration at which to die in the middle of writing the checkpoint.
        after_logging: Iteration at which to die once the scalars are logged.
        options: Other options.
    """
    save_checkpoint, save, log = Checkpoints.save, torch.save, Trainer._log
    patch = pytest.MonkeyPatch()

    def save_half(content: object, file: BinaryIO) -> None:
        save(content, file)
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def save_some(checkpoints: Checkpoints, iteration: int, parts: Mapping[str, Stateful]) -> None:
        if iteration == while_writing:
            patch.setattr(torch, "save", save_half)
        save_checkpoint(checkpoints, iteration, parts)

    def log_and_die(trainer: Trainer, values: dict[str, float]) -> None:
        log(trainer, values)
        if trainer.progress.iteration == after_logging:
            os.kill(os.getpid(), signal.SIGKILL)

    patch.setattr(Checkpoints, "save", save_some)
    patch.setattr(Trainer, "_log", log_and_die)
    config = replace(TINY, iterations=12, batch_size=2, evaluate_every=5, checkpoint_every=3, resume=True, out=out)
    main(replace(config, method=("cowmix",), **options), lambda _: (street(), []))


def ends(out: Path) -> tuple[dict[str, Tensor], Any, list[list[str]]]:
    """Return the final weights, the metrics and the logged scalars of a run."""
    parts = torch.load(found(out / "cowmix")[-1] / STATE, weights_only=True)
    states = {f"{part} {name}": value for part in ("student", "teacher") for name, value in parts[part].items()}
    with (out / "cowmix" / "log.csv").open() as file:
        rows = list(csv.reader(file))
    return states, json.loads((out / "metrics.json").read_text())["test"], rows


def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    folder = killed / "cowmix"

    def checkpoints() -> list[str]:
        return sorted(path.name for path in folder.glob("checkpoint-*"))

    # In the middle of writing the first checkpoint, of writing a later one, and with scalars logged after the newest.
    assert exit_code(fork(train, killed, while_writing=3)) == -signal.SIGKILL
    assert checkpoints() == ["checkpoint-00000003.writing"]
    assert exit_code(fork(train, killed, while_writing=9)) == -signal.SIGKILL
    assert checkpoints() == ["checkpoint-00000003", "checkpoint-00000006", "checkpoint-00000009.writing"]
    assert exit_code(fork(train, killed, after_logging=10)) == -signal.SIGKILL
    assert checkpoints() == ["checkpoint-00000006", "checkpoint-00000009"]
    assert (folder / "log.csv").read_text().splitlines()[-1].startswith("10,")
    assert exit_code(fork(train, killed)) == exit_code(fork(train, whole)) == 0
    assert_same_ends(killed, whole)


def assert_same_ends(one: Path, other: Path) -> None:
    (states, *reported), (other_states, *other_reported) = ends(one), ends(other)
    assert states.keys() == other_states.keys()
    assert all(torch.equal(value, other_states[name]) for name, value in states.items())
    assert reported == other_reported


def train_on_two(trained: Path, after_logging: int | None, out: Path, rank: int, world: int) -> None:  # noqa: ARG001
    train(trained, after_logging=after_logging, workers=1, teacher_bn="averaged")


def test_two_killed_processes_end_bit_for_bit_as_two_that_were_not(tmp_path: Path) -> None:
    """Workers read ahead, and the teacher predicts by averaged batch-norm, of which each process has its own."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for number, (trained, last) in enumerate(((whole, None), (killed, 10), (killed, None))):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ProcessExitedException) if last else nullcontext():
            results(partial(train_on_two, trained, last), tmp_path / str(number), worlds=(2,))
    assert_same_ends(killed, whole)


OPTIONS = {
    "method": "supervised cowmix adversarial",
    "size": "32 64",
    "encoder": "tu-lcnet_050",
    "encoder-weights": "none",
    "decoder-channels": "16 16 8 8 8",
    "iterations": "6",
    "batch-size": "2",
    "threshold": "0.3",
    "evaluate-every": "5",
    "checkpoint-every": "3",
}


def command_line(out: Path) -> list[str]:
    words = [word for name, value in OPTIONS.items() for word in (f"--{name}", *value.split())]
    return [str(ROOT / "examples" / "train_camvid.py"), *words, "--resume", "--out", str(out)]


def find_all_done(out: Path, rank: int, _: int) -> None:
    sys.argv = command_line(out.parent)
    with (out / f"{rank}.txt").open("w") as file, redirect_stdout(file):
        runpy.run_path(sys.argv[0], run_name="__main__")


def assert_one_report(printed: str, out: Path) -> None:
    assert printed.count("mIoU") == 1
    rows = [tuple(row[:2]) for row in csv.reader((out / "cowmix" / "log.csv").read_text().splitlines())]
    assert len(rows) == len(set(rows))


def test_two_processes_write_one_set_of_files_and_resume(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, *command_line(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_one_report(done.stdout, tmp_path)
    metrics = (tmp_path / "metrics.json").read_text()
    results(find_all_done, tmp_path, worlds=(2,))
    assert_one_report("".join(path.read_text() for path in (tmp_path / "2").glob("*.txt")), tmp_path)
    assert (tmp_path / "metrics.json").read_text() == metrics
    parts = torch.load(tmp_path / "cowmix" / "checkpoint-00000006" / STATE, weights_only=True)
    first, second = parts["random"]["processes"]
    assert not torch.equal(first["cpu"], second["cpu"])
