"""The mean teacher (Tarvainen & Valpola 2017): a network of averaged weights, whose predictions the student learns."""

from copy import deepcopy
from itertools import chain
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cowmask._checks import arguments, networks

Statistics = Literal["batch", "averaged"]


class MeanTeacher(nn.Module):
    """Average a student's weights over training, and predict with the averages.

        teacher = decay * teacher + (1 - decay) * student        at each `update(student)`; the first one copies

    `teacher(x)` predicts without gradients. Batch-norm normalises by the statistics of `x`, as in the student's
    training. By averaged statistics the teacher would see other features than the student, and CowMix would fall below
    supervised training. Predicting moves no buffer of the teacher. Dropout and stochastic depth are off.

    Give the student labelled and mixed images in one pass, so that batch-norm treats them alike. To evaluate, call
    `teacher.module`, or pass `statistics="averaged"`: `teacher.eval()` changes nothing.

    Attributes:
        module: The averaged network, in `eval()` between calls: what to evaluate and export. To go on training, save
            the teacher's own state dict: `module` alone does not say that the averaging has begun.
        decay: May be set anew before any update.

    Args:
        student: The network to copy. The wrappers of `torch.compile`, `DistributedDataParallel` and `DataParallel` are
            taken off.
        decay: Share of the average that an update keeps, in [0, 1]. The paper takes 0.99. With 0 the teacher is the
            student as it is now (the Pi-model).

    Raises:
        TypeError, ValueError: The student is not a module or has layers without a shape yet, or `decay` is out of
            range.

    Convention:
        Parameters are averaged, and so are buffers called `running_mean` and `running_var`. Other buffers are copied.
        Weights of 16 bits are averaged in float32. What rounding takes from a weight is kept for the next update, and
        not saved. The state dict has the names of torch's `AveragedModel`: `module.*` and `n_averaged`.

        Under DistributedDataParallel each process has a teacher, which predicts by the batch of that process. The
        teachers' weights agree, since the students' do. Running statistics differ, since each student sees a part of
        the batch, and nobody shares a teacher's buffers. Save the teacher of process 0, and broadcast
        `teacher.module.buffers()` before you evaluate on several processes. Or train with `SyncBatchNorm`.

        To compile, call `teacher.module.compile()` or `torch.compile(teacher)`. The teacher of a compiled student is
        not compiled.

    Reference:
        Tarvainen & Valpola 2017; French et al. 2019, section 2.2 and appendix C.3.1.

    Example:
        >>> student = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 5, 1))
        >>> teacher = MeanTeacher(student, decay=0.99)
        >>> probs = teacher(torch.rand(4, 3, 32, 32)).softmax(1)
        >>> probs.shape, probs.requires_grad
        (torch.Size([4, 5, 32, 32]), False)
        >>> teacher.update(student)  # after optimizer.step()
    """

    n_averaged: Tensor

    def __init__(self, student: nn.Module, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = arguments.number("decay", decay, arguments.FRACTION)
        network = networks.unwrapped(student)
        networks.initialised(_tensors(network))
        self.module = deepcopy(network).requires_grad_(False)
        self.register_buffer("n_averaged", torch.tensor(0))
        self._begun = False  # whether n_averaged > 0, known without waiting for the device it is on
        self._frozen = _frozen_layers(network) if network.training else set()
        self._rounded_off: dict[str, Tensor] = {}  # of 16-bit weights: the average in float32, minus the weight
        self.eval()

    @torch.no_grad()
    def forward(self, *inputs: Any, statistics: Statistics = "batch", **keywords: Any) -> Any:
        """Predict without gradients.

        Args:
            inputs: What the student takes, as images (B, C, *size).
            statistics: What batch-norm layers normalise by. "averaged" is for evaluation: every layer uses its
                averages, also for a batch of one. "batch" is for training: layers use the statistics of `inputs`.
                Frozen layers use their averages: those that the student's own `train()` leaves in `eval()`, and those
                that were in `eval()` at the last update, or at the start, while the student was in training mode.
            keywords: What the student takes by keyword.

        Returns:
            What the student returns, as logits (B, K, *size).
        """
        arguments.choice("statistics", statistics, ("batch", "averaged"))
        layers: list[_BatchNorm] = []
        tracked: list[bool] = []
        try:
            if statistics == "batch":
                layers = self._layers_in_training()
                tracked = [layer.track_running_stats for layer in layers]
            self.module.eval()
            for layer in layers:
                # Without tracking, the layer neither moves nor counts. With a momentum of 0 it would still count, and
                # a NaN in the batch would reach its buffers.
                layer.training, layer.track_running_stats = True, False
            return self.module(*inputs, **keywords)
        finally:
            for layer, tracks in zip(layers, tracked, strict=True):
                layer.training, layer.track_running_stats = False, tracks
            if self.module.training:  # its `train()` raised
                self.module.eval()

    def _layers_in_training(self) -> list[_BatchNorm]:
        self.module.train(True)  # the student's own method, which may freeze layers
        return [
            layer
            for name, layer in self.module.named_modules()
            if isinstance(layer, _BatchNorm) and layer.training and name not in self._frozen
        ]

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move the averages towards the student's weights. Call it after `optimizer.step()`.

        The first update copies the student, since initial weights are not worth averaging. No update waits for a
        device.

        Args:
            student: The network that the teacher was made from, wrapped or not.

        Raises:
            TypeError, ValueError: The student's parameters and buffers differ from the teacher's in name, shape, dtype
                or device. The teacher is unchanged.
        """
        network = networks.unwrapped(student)
        old, new = _tensors(self.module), _tensors(network)  # tied weights have one name
        networks.same_architecture(old, new)
        if network.training:
            self._frozen = _frozen_layers(network)
        follows = self._begun and self.decay > 0
        wide, narrow, copied = [], [], []
        for name, tensor in old.items():
            if not (follows and _is_averaged(name, tensor)):
                copied.append(name)
            elif tensor.dtype.itemsize > 2:
                wide.append(name)
            else:
                narrow.append(name)
        if wide:
            torch._foreach_lerp_([old[name] for name in wide], [new[name] for name in wide], 1 - self.decay)
        if copied:
            torch._foreach_copy_([old[name] for name in copied], [new[name] for name in copied])
        self._rounded_off = self._average_16_bits({name: old[name] for name in narrow}, new) if narrow else {}
        self.n_averaged.add_(1)
        self._begun = True

    def _average_16_bits(self, old: dict[str, Tensor], new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average in float32; return what rounding to 16 bits takes from each average.

        An update often moves a weight by less than half its last bit. Without the rest, rounding would undo each of
        these moves.
        """
        rests = self._rounded_off
        if rests.keys() != old.keys():
            rests = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in old.items()}
        weights = list(old.values())
        averages = torch._foreach_add([rests[name].to(old[name].device) for name in old], weights)
        torch._foreach_lerp_(averages, [new[name].float() for name in old], 1 - self.decay)
        torch._foreach_copy_(weights, averages)
        return dict(zip(old, torch._foreach_sub(averages, weights), strict=True))

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in `eval()`, whatever mode an outer module is put in."""
        return super().train(False)

    def extra_repr(self) -> str:
        """Return what `repr` says beside the averaged network."""
        return f"decay={self.decay:g}"

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._begun = bool(self.n_averaged > 0)
        self._rounded_off.clear()


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict(chain(network.named_parameters(), network.named_buffers()))


def _is_averaged(name: str, tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return isinstance(tensor, nn.Parameter) or name.endswith(("running_mean", "running_var"))


def _frozen_layers(network: nn.Module) -> set[str]:
    """Return the names of batch-norm layers that are in eval() while their network is in training mode."""
    return {name for name, layer in network.named_modules() if isinstance(layer, _BatchNorm) and not layer.training}
