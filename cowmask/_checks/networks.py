"""Check the networks that a mean teacher copies and follows."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cowmask._checks import arguments


def unwrapped(student: Any) -> nn.Module:
    """Return the student itself, without the wrappers of torch.compile, DistributedDataParallel and DataParallel."""
    if not isinstance(student, nn.Module):
        raise TypeError(f"student must be a torch.nn.Module, got {arguments.describe(student)}")
    while True:
        if isinstance(student, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            student = student.module
        elif hasattr(student, "_orig_mod"):  # torch.compile's wrapper; importing its class takes a second
            student = student._orig_mod
        else:
            return student


def initialised(tensors: Mapping[str, Tensor]) -> None:
    """Check that no layer waits for its first batch to learn its shape."""
    lazy = [name for name, tensor in tensors.items() if is_lazy(tensor)]
    if lazy:
        raise ValueError(f"student has no {lazy[0]} yet: pass a batch through it before you make the MeanTeacher")


def same_architecture(teacher: Mapping[str, Tensor], student: Mapping[str, Tensor]) -> None:
    """Check that the student has the teacher's parameters and buffers, in name, shape, dtype and device."""
    if teacher.keys() != student.keys():
        missing, added = teacher.keys() - student.keys(), student.keys() - teacher.keys()
        differences = [f"no {', '.join(sorted(missing)[:3])}"] if missing else []
        differences += [f"also {', '.join(sorted(added)[:3])}"] if added else []
        raise ValueError(
            f"student must be the network that the teacher was made from, but has {' and '.join(differences)}: "
            "make a new MeanTeacher after you change the student"
        )
    for name, old in teacher.items():
        new = student[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            raise ValueError(
                f"student's {name} must be like the teacher's, {tuple(old.shape)} {old.dtype}, got "
                f"{tuple(new.shape)} {new.dtype}: make a new MeanTeacher after you change the student"
            )
        if old.device != new.device:
            raise ValueError(
                f"student's {name} is on {new.device}, but the teacher's on {old.device}: "
                f"move the teacher, too, teacher.to({str(new.device)!r})"
            )
