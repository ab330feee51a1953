"""What a mean teacher is saved as, copied to, and wrapped in."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.optim.swa_utils import AveragedModel

from cowmask import MeanTeacher
from tests.students import Network, assert_same, averaged, disturb, images, state, trained


@pytest.fixture
def student() -> Network:
    return trained()


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


def test_the_state_is_the_networks_and_a_counter(student: Network) -> None:
    teacher = MeanTeacher(student)
    assert set(teacher.state_dict()) == {"n_averaged", *(f"module.{name}" for name in student.state_dict())}
    assert set(teacher.state_dict()) == set(AveragedModel(student).state_dict())


@pytest.mark.parametrize("how", ["load", "load and assign", "deepcopy", "outer module"])
def test_an_average_goes_on_where_it_was_left(student: Network, how: str) -> None:
    teacher = MeanTeacher(student)
    for _ in range(3):
        disturb(student)
        teacher.update(student)
    other = copy.deepcopy(teacher) if how == "deepcopy" else MeanTeacher(Network())
    if how == "outer module":
        outer = nn.ModuleDict({"teacher": other})
        outer.load_state_dict({f"teacher.{name}": tensor for name, tensor in state(teacher).items()})
    elif how != "deepcopy":
        other.load_state_dict(state(teacher), assign=how == "load and assign")
    assert_same(state(other), state(teacher))
    left = state(teacher)
    disturb(student)
    other.update(student)
    assert_same(state(teacher), left)  # the copy has tensors of its own
    teacher.update(student)
    assert_same(state(other), state(teacher))
    assert torch.equal(other(images() * 0 + 1), teacher(images() * 0 + 1))


def test_a_deepcopy_keeps_what_rounding_took() -> None:
    student = nn.Linear(64, 64).bfloat16()
    teacher = MeanTeacher(student, decay=0.999)
    for _ in range(5):
        disturb(student)
        teacher.update(student)
    other = copy.deepcopy(teacher)
    for _ in range(20):
        disturb(student)
        teacher.update(student)
        other.update(student)
    assert_same(state(other), state(teacher))


def test_channels_last_stays(student: Network) -> None:
    convert_conv2d_weight_memory_format(student, torch.channels_last)
    teacher, x = MeanTeacher(student), images().contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        disturb(student)
        teacher.update(student)
    assert averaged(teacher).encoder[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert teacher(x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(teacher(x), MeanTeacher(teacher.module.train())(x.contiguous()))


def test_autocast_leaves_weights_in_float32(student: Network) -> None:
    teacher, x = MeanTeacher(student), images()
    expected = teacher(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = teacher(x)
        disturb(student)
        teacher.update(student)
        after = teacher(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)
    assert (after - found).abs().max() > 0.1  # autocast kept no cast of the old weights
    assert_same(state(teacher.module), state(student))


def test_wrappers_are_taken_off(student: Network) -> None:
    parallel = nn.DataParallel(student)
    compiled: list[Any] = [torch.compile(module, backend="eager") for module in (student, parallel)]
    for wrapped in (parallel, *compiled):
        teacher, x = MeanTeacher(wrapped), images()
        assert type(teacher.module) is Network
        disturb(student)
        teacher.update(wrapped)
        teacher.update(student)
        assert_same(state(teacher.module), state(student))
        assert torch.equal(teacher(x), copy.deepcopy(student).train()(x))


@pytest.mark.parametrize("which", ["teacher", "teacher.module", "student"])
@pytest.mark.parametrize("freezes", [False, True])
def test_compiled_code_predicts_the_same(which: str, freezes: bool) -> None:
    student = Network(freezes)
    disturb(student)
    eager, teacher, x = MeanTeacher(student), MeanTeacher(student), images()
    predict: Any = teacher
    if which == "teacher":
        predict = torch.compile(teacher, backend="aot_eager", fullgraph=True)
    else:
        (teacher.module if which == "teacher.module" else student).compile(backend="aot_eager", fullgraph=True)
    before = state(teacher)
    for _ in range(3):
        for statistics in ("batch", "averaged"):
            found, expected = predict(x, statistics=statistics), eager(x, statistics=statistics)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert_same(state(teacher), before)
        student.train()(x).sum().backward()
        disturb(student)
        eager.update(student)
        predict.update(student)
        before = state(teacher)
        assert_same(before, state(eager))
    assert not any(module.training for module in teacher.modules())


def test_the_averaged_network_exports(student: Network) -> None:
    teacher, x = MeanTeacher(student), images()
    teacher(x)
    exported = torch.export.export(teacher.module, (x,)).module()
    torch.testing.assert_close(exported(x), teacher(x, statistics="averaged"))


def train_as_one_of_two(rank: int, folder: Path) -> None:
    """Train under DistributedDataParallel on images of this process; write what is to be compared."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    student = nn.parallel.DistributedDataParallel(Network())
    teacher = MeanTeacher(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    torch.manual_seed(1 + rank)
    for _ in range(3):
        student(images()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        teacher.update(student)
    x = images()
    expected = copy.deepcopy(teacher.module).train()(x)
    result = {
        "network": type(teacher.module).__name__,
        "weights": [weight.double().sum().item() for weight in teacher.parameters()],
        "averages": not torch.equal(averaged(teacher).encoder[0].weight, student.module.encoder[0].weight),
        "predicts by its own batch": torch.equal(teacher(x), expected),
        "statistics": averaged(teacher).encoder[1].running_mean.double().sum().item(),
    }
    (folder / f"{rank}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


def test_two_processes_agree_on_weights_and_not_on_statistics(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""}
    commands = [[sys.executable, __file__, str(rank), str(tmp_path)] for rank in range(2)]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert one["network"] == two["network"] == "Network"
    assert one["averages"]
    assert two["averages"]
    assert one["predicts by its own batch"]
    assert two["predicts by its own batch"]
    assert one["weights"] == two["weights"]
    assert one["statistics"] != two["statistics"]


if __name__ == "__main__":
    train_as_one_of_two(int(sys.argv[1]), Path(sys.argv[2]))
