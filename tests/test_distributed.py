"""The trainer on two processes (gloo, CPU), and runs that are killed: by command, as a user runs them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import gather_object

from cowmask import CowMix
from segmentation.adversarial import Adversarial, AdversarialBatch
from segmentation.config import Config
from segmentation.data.datasets import VOID
from segmentation.data.street import load_street
from segmentation.evaluation import Tally, evaluate
from segmentation.methods import Perturbed
from segmentation.run import main
from segmentation.trainer import StepData, Trainer

ROOT = Path(__file__).parents[1]
SIZE = (32, 64)
TINY = Config(size=SIZE, encoder="tu-lcnet_050", decoder_channels=(16, 16, 8, 8, 8), threshold=0.2, labelled=4)


def one_step(out: Path, rank: int, world: int) -> dict[str, Any]:
    """Take this process's part of one step on a global batch of 4, masks and partners given, batch-norm frozen."""
    data = load_street(SIZE, n_train=8, n_val=2, n_test=5)
    trainer = Trainer(replace(TINY, batch_size=4 // world, out=out), data, "cowmix")
    for network in (trainer.student.eval(), trainer.teacher.eval()):
        network.train = lambda _=True, network=network: network  # type: ignore[method-assign]
    generator = torch.Generator().manual_seed(0)
    images, others = (torch.rand(4, 3, *SIZE, generator=generator) for _ in range(2))
    seen, partners = ((5 * torch.rand(4, 6, *SIZE, generator=generator)).softmax(1) for _ in range(2))
    targets = torch.randint(0, 6, (4, *SIZE), generator=generator)
    targets[0, :20] = VOID  # the processes have other denominators
    valid = torch.rand(4, 1, *SIZE, generator=generator) < torch.linspace(0.2, 1, 4).view(4, 1, 1, 1)
    mask = CowMix(sigma=2).sample(images, generator)
    mine = slice(rank, None, world)
    mixed = CowMix()(images[mine], seen[mine], partner=(others[mine], partners[mine]), mask=mask[mine])
    perturbed = Perturbed(mixed[0], mixed[1], valid[mine])
    task = StepData(images[mine], targets[mine], perturbed)
    trainer._draw_step_data = lambda: task  # type: ignore[method-assign]
    scalars = trainer.accelerator.reduce(trainer.step(), "mean")
    # What follows differs from process to process: masks drawn, and parts of the test set scored.
    drawn = gather_object([CowMix(sigma=2).sample(images).sum((1, 2, 3)).tolist()])
    student, teacher = trainer._evaluate(data, data.test, keep=list(range(5)))
    mine_alone = evaluate(trainer.teacher, data, data.test, trainer.config, trainer.accelerator, keep=range(5))
    read = gather_object([sorted(mine_alone.maps)])
    maps, truth = (torch.randint(0, 6, (5, *SIZE), generator=generator) for _ in range(2))
    tally = Tally(6, trainer.device)
    tally.add(maps[mine], truth[mine])
    rival = Trainer(replace(TINY, batch_size=4 // world, optimizer="sgd", out=out), data, "adversarial")
    rival.student.eval().train = lambda _=True: rival.student
    rival_task = StepData(images[mine], targets[mine], AdversarialBatch(others[mine], valid[mine], is_late=True))
    rival._draw_step_data = lambda: rival_task  # type: ignore[method-assign]
    assert isinstance(rival.objective, Adversarial)
    discriminator = rival.objective._discriminator
    rival_scalars = rival.accelerator.reduce(rival.step(), "mean")
    learned = [*trainer.student.parameters(), *rival.student.parameters(), *discriminator.parameters()]
    parameters = [parameter.detach().double().sum().item() for parameter in learned]
    return {
        "scalars": {name: value.item() for name, value in scalars.items()},
        "adversarial scalars": {name: value.item() for name, value in rival_scalars.items()},
        "drawn": drawn,
        "read": read,
        "iou": student.scores.per_class,
        "iou of given maps": tally.scores().per_class,
        "predictions": [one.long().sum().item() for _, one in sorted(teacher.maps.items())],
        "parameters": parameters,
    }


def gloo_threads() -> list[str]:
    """Return the names of gloo's threads in this process (on Linux)."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # it has ended
            names.append(path.read_text().strip())
    return [name for name in names if "gloo" in name]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "examples"))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}


def test_two_processes_take_the_step_of_one(tmp_path: Path, environment: dict[str, str]) -> None:
    results = {}
    for world in (1, 2):
        launch = [] if world == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
        command = [sys.executable, *launch, str(Path(__file__)), str(tmp_path / str(world))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        results[world] = json.loads((tmp_path / str(world) / "result.json").read_text())
    one, two = results[1], results[2]
    assert set(one["scalars"]) == {"loss/supervised", "loss/consistency", "confidence"}
    assert len(one["adversarial scalars"]) == 6
    for key in ("scalars", "adversarial scalars"):
        for name, value in one[key].items():
            assert two[key][name] == pytest.approx(value, rel=1e-5)
    assert two["parameters"] == pytest.approx(one["parameters"], rel=1e-5, abs=1e-6)
    assert two["iou of given maps"] == one["iou of given maps"]  # exactly: the confusion matrices are added
    assert two["iou"] == pytest.approx(one["iou"], abs=0.02, nan_ok=True)
    assert two["predictions"] == pytest.approx(one["predictions"], rel=0.05)  # every image, in its place
    assert two["read"] == [[0, 2, 4], [1, 3]]
    assert len(two["drawn"]) == 2
    assert two["drawn"][0] != two["drawn"][1]  # every process draws masks of its own


OPTIONS = {
    "method": "cowmix",
    "size": "32 64",
    "encoder": "tu-lcnet_050",
    "decoder-channels": "16 16 8 8 8",
    "iterations": "30",
    "batch-size": "2",
    "threshold": "0.3",
    "evaluate-every": "5",
    "checkpoint-every": "3",
}


def command_line(out: Path, **changed: str) -> list[str]:
    options = [word for name, value in (OPTIONS | changed).items() for word in (f"--{name}", *value.split())]
    return [str(ROOT / "examples" / "train_camvid.py"), *options, "--resume", "--out", str(out)]


def train(out: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, *command_line(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ends(out: Path) -> tuple[dict[str, torch.Tensor], Any, list[list[str]]]:
    """Return the final weights, the metrics and the logged scalars of a run."""
    checkpoint = sorted((out / "cowmix").glob("checkpoint-*"))[-1]
    states: dict[str, torch.Tensor] = {}
    for name in ("pytorch_model.bin", "custom_checkpoint_0.pkl"):
        state = torch.load(checkpoint / name, weights_only=True)
        states |= {f"{name} {key}": value for key, value in state.items()}
    with (out / "cowmix" / "log.csv").open() as file:
        rows = list(csv.reader(file))
    return states, json.loads((out / "metrics.json").read_text())["test"], rows


def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(tmp_path: Path, environment: dict[str, str]) -> None:
    assert train(tmp_path / "whole", environment).wait(300) == 0
    out = tmp_path / "killed"
    folder = out / "cowmix"
    kills = 0

    def newest() -> int:
        return max((int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), default=0)

    def logged() -> int:
        lines = (folder / "log.csv").read_text().splitlines()[1:] if (folder / "log.csv").exists() else []
        return int(lines[-1].split(",")[0]) if lines else 0

    def due(while_writing: bool, start: int) -> bool:
        writing = (folder / "writing").exists() and any((folder / "writing").iterdir())
        return writing if while_writing else not writing and logged() > newest() > start

    # In the middle of writing the first checkpoint, of writing a later one, and with scalars logged after the newest.
    for while_writing in (True, True, False):
        process = train(out, environment)
        start = newest()
        while process.poll() is None:
            if due(while_writing, start):
                process.send_signal(signal.SIGSTOP)
                if due(while_writing, start):  # still: it did not go on while it was being stopped
                    process.kill()
                    process.wait()
                    kills += 1
                else:
                    process.send_signal(signal.SIGCONT)
            time.sleep(0.0005)
    assert kills == 3
    assert train(out, environment).wait(300) == 0
    (states, metrics, rows), (killed_states, killed_metrics, killed_rows) = ends(tmp_path / "whole"), ends(out)
    assert states.keys() == killed_states.keys()
    assert all(torch.equal(value, killed_states[name]) for name, value in states.items())
    assert killed_metrics == metrics
    assert killed_rows == rows


def test_two_processes_write_one_set_of_files_and_resume(tmp_path: Path, environment: dict[str, str]) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    outputs = []
    for _ in range(2):  # trains, and then finds all done
        command = [*launch, *command_line(tmp_path, iterations="6", method="supervised cowmix adversarial")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("mIoU") == 1
        outputs.append((tmp_path / "metrics.json").read_text())
        rows = [tuple(row[:2]) for row in csv.reader((tmp_path / "cowmix" / "log.csv").read_text().splitlines())]
        assert len(rows) == len(set(rows))
    assert outputs[0] == outputs[1]
    assert len(list((tmp_path / "cowmix").glob("checkpoint-00000006/random_states_*"))) == 2


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    result = one_step(folder, rank, world)
    config = replace(TINY, batch_size=2, iterations=1, method=("supervised",), out=folder / "run")
    main(config, lambda _: (load_street(SIZE, n_train=8, n_val=2, n_test=2), []))
    if rank == 0:
        (folder / "result.json").write_text(json.dumps(result))
    deadline = time.monotonic() + 10  # a thread that has ended is listed for a moment longer
    while gloo_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gloo_threads() == [], "main left a process group: now and then it aborts a process that ends"
