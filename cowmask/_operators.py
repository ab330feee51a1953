"""Make functions custom operators. A compiler learns the shapes of an operator and calls it without tracing it."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
T = TypeVar("T")

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
        tags = (torch.Tag.nondeterministic_seeded,) if random else ()
        _library.define(schema.replace(") ->", ", Tensor? apart) ->") if random else schema, tags=tags)
        _library.impl(name, _without_last(function) if random else function, "CompositeExplicitAutograd")
        fake = _without_last(shapes) if random else shapes
        torch.library.register_fake(f"cowmask::{name}", fake, lib=_library)
        if gradients:
            save, backward = gradients
            torch.library.register_autograd(f"cowmask::{name}", backward, setup_context=save, lib=_library)
        call = getattr(torch.ops.cowmask, name).default
        return cast(Callable[P, T], _called_apart(call) if random else call)

    return register


def _called_apart(call: Callable[..., Any]) -> Callable[..., Any]:
    """Keep equal calls apart: torch before 2.14 merges them in compiled training steps, though they are tagged."""

    def apart(*arguments: Any) -> Any:
        # No two tensors that are made by `empty` are taken for equal.
        return call(*arguments, torch.empty(0, device="cpu") if torch.compiler.is_compiling() else None)

    return apart


def _without_last(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(*arguments[:-1])
