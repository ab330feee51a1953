"""Unwrap tensors of other types (tv_tensors, MetaTensor) before the work, and give their types to the results."""

import copy

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def plain(x: Tensor) -> Tensor:
    """Return x as a torch.Tensor that autograd can save, without a copy but for inference tensors."""
    if not torch.compiler.is_compiling() and torch.is_grad_enabled() and x.is_inference():
        x = x.clone()
    return x.as_subclass(Tensor) if _is_annotated(x) else x


def like(result: Tensor, x: Tensor) -> Tensor:
    """Return the result as the type of x, with a copy of what x is annotated with."""
    if not _is_annotated(x) or isinstance(x, torch.nn.Parameter):
        return result
    wrapped = result.as_subclass(type(x))
    vars(wrapped).update(copy.deepcopy(vars(x)))
    return wrapped


def is_wrapper(x: Tensor) -> bool:
    """Tell tensors that hold other tensors, such as DTensor."""
    return type(x) is not Tensor and is_traceable_wrapper_subclass(x)


def _is_annotated(x: Tensor) -> bool:
    """Tell tensors that hold their own values, and attributes beside them."""
    kind = type(x)
    if kind is Tensor or kind is torch.nn.Parameter:
        return False
    return kind.__torch_dispatch__ is Tensor.__torch_dispatch__  # FakeTensor, among others, has its own
