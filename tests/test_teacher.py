"""The mean teacher's passes: what they normalise by, and what they leave as it is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cowmask import MeanTeacher
from tests.students import Network, assert_same, averaged, disturb, images, state, trained

NOT_A_MODULE: Any = {}


class DropPath(nn.Module):
    """Leave a whole image out at random, in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 1, 1) < 0.5) if self.training else x


@pytest.fixture
def student() -> Network:
    return trained()


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


def test_the_network_is_in_eval_after_a_train_that_raises(student: Network) -> None:
    def train(mode: bool = True) -> nn.Module:
        nn.Module.train(teacher.module, mode)
        if mode:
            raise RuntimeError("no training today")
        return teacher.module

    teacher = MeanTeacher(student)
    teacher.module.train = train  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no training today"):
        teacher(images())
    assert not any(module.training for module in teacher.modules())


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
