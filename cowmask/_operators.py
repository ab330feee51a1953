"""Make functions custom operators. A compiler learns the shapes of an operator and calls it without tracing it."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")
Numbers = tuple[list[float], Tensor | None]  # see `numbers`

_MERGES_RANDOM_CALLS = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 14)
_library = torch.library.Library("cowmask", "DEF")


def operator(
    schema: str, shapes: Callable[..., Any], *, random: bool = False, gradients: tuple[Callable[..., Any], ...] = ()
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make the decorated function the operator `torch.ops.cowmask.<name>`.

    Args:
        schema: "name(arguments) -> results", as for `torch.library.define`.
        shapes: Takes the operator's arguments, and returns empty tensors like its results.
        random: Whether the operator draws. A compiler then merges no equal calls, and repeats none in a backward pass.
        gradients: Two functions, as for `torch.library.register_autograd`: one saves what the other, the backward
            pass, needs. Without them the operator is not differentiable.
    """
    name = schema.partition("(")[0]

    def register(function: Callable[P, T]) -> Callable[P, T]:
        _library.define(schema, tags=(torch.Tag.nondeterministic_seeded,) if random else ())
        _library.impl(name, function, "CompositeExplicitAutograd")
        torch.library.register_fake(f"cowmask::{name}", shapes, lib=_library)
        if gradients:
            save, backward = gradients
            torch.library.register_autograd(f"cowmask::{name}", backward, setup_context=save, lib=_library)
        return cast(Callable[P, T], getattr(torch.ops.cowmask, name).default)

    return register


def apart(device: torch.device) -> Tensor | None:
    """Return an argument that keeps equal calls of a random operator apart.

    Torch before 2.14 merges equal calls in compiled training steps, although they are tagged as random. It never takes
    two tensors made by `empty` for equal.
    """
    return torch.empty(0, device=device) if _MERGES_RANDOM_CALLS and torch.compiler.is_compiling() else None


def are_inputs(*numbers: float) -> bool:
    """Tell whether a compiler takes any of the numbers for an input, not for a constant of the code."""
    if not torch.compiler.is_compiling():
        return False
    from torch.fx.experimental.symbolic_shapes import has_static_value

    return not all(map(has_static_value, numbers))


def numbers(*values: float) -> Numbers:
    """Return numbers as two arguments of an operator, `float[]` and `Tensor?`, of which one holds them all.

    A compiler makes a constant of each number that it passes to an operator, so that another number needs other code.
    It passes tensors on as they are.
    """
    if not are_inputs(*values):
        return list(values), None
    one = torch.ones((), dtype=torch.float64, device="cpu")
    return [], torch.stack([one * value for value in values])


def read_numbers(values: list[float], tensor: Tensor | None) -> list[float]:
    """Return the numbers that `numbers` made into arguments. The tensor is on the CPU, so nothing is waited for."""
    return values if tensor is None else tensor.tolist()


def in_torch_func() -> bool:
    """Tell whether eager code is inside torch.func (grad, vmap, jvp, ...)."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def in_vmap() -> bool:
    """Tell whether eager code is inside torch.func.vmap."""
    if not in_torch_func():
        return False
    from torch._C._functorch import TransformType
    from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters

    return any(level.key() == TransformType.Vmap for level in retrieve_all_functorch_interpreters())
