"""The mean teacher's updates: what they average, what they copy, and what they refuse."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cowmask import MeanTeacher
from tests.students import Network, assert_same, averaged, disturb, images, state, trained


@pytest.fixture
def student() -> Network:
    return trained()


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
