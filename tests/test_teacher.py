"""The mean teacher: what its passes normalise by, what an update moves, and the wrappers and contexts it is used in."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cowmask import MeanTeacher

NOT_A_MODULE: Any = {}


class Network(nn.Module):
    """Two blocks, each with batch-norm. `train()` freezes the batch-norm of the first, if asked to."""

    def __init__(self, freezes: bool = False) -> None:
        super().__init__()
        self.freezes = freezes
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.decoder = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        if self.freezes:
            self.encoder[1].eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


class DropPath(nn.Module):
    """Leave a whole image out at random, in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 1, 1) < 0.5) if self.training else x


def images(n: int = 4) -> Tensor:
    return 2 + 3 * torch.rand(n, 3, 8, 10)  # far from the statistics that batch-norm starts with


def disturb(network: nn.Module) -> None:
    """Change every weight and statistic at random, as a step of training would."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.add_(0.1 * torch.rand_like(tensor) if tensor.is_floating_point() else 1)


def averaged(teacher: MeanTeacher) -> Any:
    """Return the averaged network, whose layers type checkers do not know."""
    return teacher.module


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.fixture
def student() -> Network:
    network = Network()
    disturb(network)
    return network.train()


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


# What its passes normalise by.


@pytest.mark.parametrize("freezes", [False, True])
def test_predicts_by_the_statistics_that_the_student_trains_by(freezes: bool) -> None:
    student = Network(freezes)
    disturb(student)
    teacher, x = MeanTeacher(student), images()
    expected = copy.deepcopy(student).train()(x)
    found = teacher(x.clone().requires_grad_())
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not torch.equal(found, copy.deepcopy(student).eval()(x))
    student.freezes = not freezes
    assert not torch.equal(found, copy.deepcopy(student).train()(x))


def test_an_instance_with_a_train_of_its_own_is_followed(student: Network) -> None:
    def train(self: Network, mode: bool = True) -> Network:
        nn.Module.train(self, mode)
        self.encoder[1].eval()
        return self

    student.train = train.__get__(student)  # type: ignore[method-assign]
    teacher, x = MeanTeacher(student), images()
    assert torch.equal(teacher(x), student.train()(x))


@pytest.mark.parametrize("frozen_at_first", [True, False])
def test_layers_that_the_loop_freezes_keep_their_averages(student: Network, frozen_at_first: bool) -> None:
    x = images()
    everywhere = copy.deepcopy(student)(x)
    if frozen_at_first:
        student.encoder[1].eval()
        teacher = MeanTeacher(student)
    else:
        teacher = MeanTeacher(student)
        student.encoder[1].eval()
        assert torch.equal(teacher(x), everywhere)
        teacher.update(student)
    expected = copy.deepcopy(student)(x)
    assert torch.equal(teacher(x), expected)
    assert not torch.equal(expected, everywhere)
    teacher.update(student.eval())  # an evaluation freezes nothing
    assert torch.equal(teacher(x), expected)
    teacher.update(student.train())
    assert torch.equal(teacher(x), everywhere)


def test_dropout_and_stochastic_depth_are_off(student: Network) -> None:
    student.decoder.insert(2, DropPath())
    student.decoder.insert(2, nn.Dropout(0.5))
    student.decoder.insert(2, nn.Dropout2d(0.5))
    teacher, x = MeanTeacher(student), images()
    for layer in student.modules():
        if not isinstance(layer, _BatchNorm):
            layer.training = False
    assert torch.equal(teacher(x), student(x))


@pytest.mark.parametrize("statistics", ["batch", "averaged"])
def test_predicting_moves_nothing(student: Network, statistics: Any) -> None:
    teacher = MeanTeacher(student)
    before = state(teacher)
    assert before["module.decoder.1.num_batches_tracked"] == 1
    teacher(images(), statistics=statistics)
    teacher(images() * torch.nan, statistics=statistics)
    assert_same(state(teacher), before)
    assert all(tensor.grad is None and not tensor.requires_grad for tensor in teacher.parameters())


def test_averaged_statistics_serve_a_batch_of_one(student: Network) -> None:
    teacher, x = MeanTeacher(student), images()
    found = teacher(x, statistics="averaged")
    assert torch.equal(found, student.eval()(x))
    assert torch.equal(found, teacher.module(x))
    torch.testing.assert_close(teacher(x[:1], statistics="averaged"), found[:1])
    assert (teacher(x[:1]) - teacher(x)[:1]).abs().max() > 1e-2  # by batch it depends on the others


def test_a_layer_without_averages_uses_the_batch(student: Network) -> None:
    student.encoder[1] = nn.BatchNorm2d(8, track_running_stats=False)
    teacher, x = MeanTeacher(student), images()
    assert torch.equal(teacher(x), student(x))
    assert not averaged(teacher).encoder[1].track_running_stats


def test_the_network_is_in_eval_between_calls_even_after_an_error(student: Network) -> None:
    teacher = MeanTeacher(student)

    def assert_at_rest() -> None:
        assert not any(module.training for module in teacher.modules())
        assert all(layer.track_running_stats for layer in teacher.modules() if isinstance(layer, _BatchNorm))

    assert_at_rest()
    for x in (images(), torch.rand(4, 2, 8, 8), torch.rand(1, 3, 1, 1)):
        try:
            teacher(x)
            assert x.shape[1:] == (3, 8, 10)
        except (RuntimeError, ValueError):
            assert x.shape[1:] != (3, 8, 10)
        assert_at_rest()
    assert torch.equal(teacher(images(1), statistics="averaged").isfinite().all(), torch.tensor(True))


def test_the_mode_of_an_outer_module_changes_nothing(student: Network) -> None:
    teacher, x = MeanTeacher(student), images()
    outer = nn.ModuleDict({"student": student, "teacher": teacher})
    expected = {statistics: teacher(x, statistics=statistics) for statistics in ("batch", "averaged")}
    assert not torch.equal(expected["batch"], expected["averaged"])
    for set_mode in (outer.train, outer.eval, outer.train, teacher.train, teacher.module.train):
        set_mode()
        for statistics, found in expected.items():
            assert torch.equal(teacher(x, statistics=statistics), found)
        set_mode()
        assert set_mode == teacher.module.train or not any(module.training for module in teacher.modules())
    assert student.training


def test_inputs_and_outputs_are_the_students(student: Network) -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = student

        def forward(self, pixels: Tensor, *, scale: float, **others: Any) -> dict[str, Any]:
            return {"logits": scale * self.network(pixels), **others}

    x = images()
    found = MeanTeacher(Wrapper())(x, scale=2.0, note="kept")
    assert torch.equal(found["logits"], 2.0 * student(x))
    assert found["note"] == "kept"


# What an update moves.


def test_weights_and_statistics_are_averaged_and_other_buffers_copied(student: Any) -> None:
    student.register_buffer("minus_infinity", torch.full((3,), -torch.inf))
    student.register_buffer("level", torch.tensor([0, 1], dtype=torch.uint8))
    teacher = MeanTeacher(student, decay=0.75)
    before = state(student)
    disturb(student)
    teacher.update(student)
    assert_same(state(teacher.module), state(student))  # the first update copies
    assert not torch.equal(before["encoder.0.weight"], student.encoder[0].weight)

    first = state(student)
    disturb(student)
    student.minus_infinity[0] = 7.0
    teacher.update(student)
    second = state(student)
    expected = [name for name in first if name.endswith(("weight", "bias", "running_mean", "running_var"))]
    assert len(expected) == len(list(student.parameters())) + 4
    for name, found in teacher.module.state_dict().items():
        if name in expected:
            torch.testing.assert_close(found, 0.75 * first[name] + 0.25 * second[name])
            assert not torch.equal(found, second[name])
        else:
            assert torch.equal(found, second[name])
    assert_same(state(student), second)
    assert teacher.n_averaged == 2


def test_a_decay_of_0_is_the_student(student: Any) -> None:
    teacher = MeanTeacher(student, decay=0)
    for _ in range(3):
        disturb(student)
        teacher.update(student)
        assert_same(state(teacher.module), state(student))
    with torch.no_grad():
        student.encoder[0].weight.fill_(torch.inf)
    teacher.update(student)
    with torch.no_grad():
        student.encoder[0].weight.fill_(1.0)
    teacher.update(student)
    assert_same(state(teacher.module), state(student))


def test_weights_are_those_of_averaged_model_bit_for_bit(student: Any) -> None:
    teacher = MeanTeacher(student, decay=0.99)
    torchs = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    for _ in range(5):
        disturb(student)
        teacher.update(student)
        torchs.update_parameters(student)
    expected, found = state(torchs), state(teacher)
    for name in [name for name in expected if name.endswith("num_batches_tracked")]:
        assert found.pop(name) > expected.pop(name)  # ours is the student's: a count has no average
    assert_same(found, expected)
    assert not torch.equal(found["module.encoder.0.weight"], student.encoder[0].weight)


def test_tied_weights_move_once() -> None:
    student: Any = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    student[1].weight = student[0].weight
    teacher = MeanTeacher(student, decay=0.5)
    teacher.update(student)
    with torch.no_grad():
        student[0].weight += 1
    before = averaged(teacher)[0].weight.clone()
    teacher.update(student)
    torch.testing.assert_close(averaged(teacher)[0].weight, before + 0.5)
    assert averaged(teacher)[0].weight is averaged(teacher)[1].weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights_are_averaged_in_float32(dtype: torch.dtype) -> None:
    student = nn.Linear(64, 64).to(dtype)
    teacher, plain = MeanTeacher(student, decay=0.999), copy.deepcopy(student)
    teacher.update(student)
    expected = student.weight.detach().float().clone()
    rounding = torch.finfo(dtype).eps
    for _ in range(300):
        with torch.no_grad():
            student.weight += rounding * torch.rand_like(student.weight)
            plain.weight.lerp_(student.weight, 1 - 0.999)
        expected.lerp_(student.weight.detach().float(), 1 - 0.999)
        teacher.update(student)
    error, lag = (averaged(teacher).weight.float() - expected).abs(), (plain.weight.float() - expected).abs()
    assert averaged(teacher).weight.dtype == dtype
    assert (error <= rounding * expected.abs() / 2 + 1e-6).all()  # half a last bit: the weight's own rounding
    assert lag.mean() > 4 * error.mean()


def test_copying_16_bit_weights_forgets_what_rounding_took() -> None:
    student = nn.Linear(64, 64).bfloat16()
    teacher = MeanTeacher(student, decay=0.999)
    for _ in range(5):
        disturb(student)
        teacher.update(student)
    teacher.decay = 0.0
    teacher.update(student)
    teacher.decay = 0.999
    for _ in range(5):
        teacher.update(student)
        assert_same(state(teacher.module), state(student))
    other = MeanTeacher(student, decay=0.5)
    for _ in range(4):
        disturb(student)
        other.update(student)
    other.load_state_dict(state(teacher))
    first = state(student)["weight"].float()
    expected = teacher.module.state_dict()["weight"].float().lerp(first, 0.5)
    other.update(student)
    assert torch.equal(averaged(other).weight, expected.bfloat16())


def test_an_update_waits_for_nothing() -> None:
    """On the meta device there are no values to wait for, and asking for one is an error."""
    student = Network().to("meta")
    teacher = MeanTeacher(student).to("meta")
    for _ in range(3):
        teacher.update(student)
    assert teacher.n_averaged.device.type == "meta"
    torchs = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.99)).to("meta")
    with pytest.raises(RuntimeError, match="meta"):
        torchs.update_parameters(student)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("moved", [False, True])
def test_no_call_waits_for_a_gpu(moved: bool) -> None:
    student, x = Network(freezes=True).cuda(), images().cuda()
    teacher = MeanTeacher(student)
    if moved:
        teacher.cuda()  # the counter, too
    half = nn.Linear(4, 4).cuda().half()
    of_halves = MeanTeacher(half)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            teacher(x)
            teacher(x, statistics="averaged")
            teacher.update(student)
            of_halves.update(half)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert teacher.n_averaged == 3
    assert torch.equal(teacher(x), student.train()(x))


def changed(change: Callable[[Network], Any]) -> Network:
    network = Network()
    change(network)
    return network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda network: network.decoder.append(nn.Conv2d(5, 5, 1)), "but has also decoder.4.bias, decoder.4.weight"),
        (lambda network: network.decoder.pop(3), "but has no decoder.3.bias, decoder.3.weight"),
        (lambda network: network.encoder[1].register_buffer("extra", torch.zeros(1)), "also encoder.1.extra: make a"),
        (lambda network: setattr(network, "encoder", network.decoder), "no decoder.0.bias.* and also encoder.3.bias"),
        (
            lambda network: network.decoder.__setitem__(3, nn.Conv2d(8, 6, 1)),
            r"decoder.3.weight must be like the teacher's, \(5, 8, 1, 1\) torch.float32, got \(6, 8, 1, 1\) .*: make",
        ),
        (lambda network: network.half(), r"encoder.0.weight .*torch.float32, got \(8, 3, 3, 3\) torch.float16"),
        (lambda network: network.decoder.double(), "decoder.0.weight .*torch.float32, got .*torch.float64"),
        (lambda network: network.to("meta"), r"on meta, but the teacher's on cpu: move .* teacher.to\('meta'\)"),
    ],
)
def test_another_architecture_is_an_error(change: Callable[[Network], Any], message: str) -> None:
    teacher = MeanTeacher(Network())
    before = state(teacher)
    with pytest.raises(ValueError, match=message):
        teacher.update(changed(change))
    assert_same(state(teacher), before)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MeanTeacher(NOT_A_MODULE), TypeError, "student must be a torch.nn.Module, got dict {}"),
        (lambda: MeanTeacher(Network(), decay=1.5), ValueError, "decay must be .* at least 0 and at most 1, got 1.5"),
        (lambda: MeanTeacher(Network(), decay=True), TypeError, "decay must be a number, got bool True"),
        (lambda: MeanTeacher(nn.LazyLinear(3)), ValueError, "student has no weight yet: pass a batch through it"),
        (
            lambda: MeanTeacher(Network())(images(), statistics="eval"),
            ValueError,
            'statistics must be "batch" or "averaged", got str \'eval\'',
        ),
        (
            lambda: MeanTeacher(Network()).update(NOT_A_MODULE),
            TypeError,
            "student must be a torch.nn.Module, got dict {}",
        ),
    ],
)
def test_wrong_arguments_are_told(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# What it is saved as, copied to, and wrapped in.


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
    student.to(memory_format=torch.channels_last)
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
