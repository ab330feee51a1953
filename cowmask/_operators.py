"""Custom operators: what a compiler must not look into. It learns their shapes, and calls them as they are."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
T = TypeVar("T")

_library = torch.library.Library("cowmask", "DEF")


def operator(
    schema: str, shapes: Callable[..., Any], *, random: bool = False, gradients: tuple[Callable[..., Any], ...] = ()
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function the operator `torch.ops.cowmask.<name>` of a schema "name(arguments) -> results".

    `shapes` takes the same arguments and returns empty tensors like the results. Two equal calls of a `random`
    operator are never made one, and none is made again in a backward pass. `gradients` are two functions: one that
    saves what the other, the backward pass, needs (see `torch.library.register_autograd`).
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
