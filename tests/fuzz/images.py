"""Calls of mix, erase and the transforms."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cowmask
from tests.fuzz.calls import CONTEXTS, Call
from tests.fuzz.values import (
    DTYPES,
    FLOATS,
    INF,
    INTEGERS,
    INTERPRETED,
    NAN,
    NOT_COUNTS,
    NOT_FLAGS,
    NOT_FRACTIONS,
    NOT_NUMBERS,
    NOT_VALUES,
    WIDE_FLOATS,
    copied,
    described,
    laid_out,
    must,
    must_be_close,
    numbers,
    odd_tensors,
    same_bits,
    sizes,
    values,
)


def must_be_mixed(result: Tensor, a: Tensor, b: Tensor, mask: Tensor, what: str = "the result") -> None:
    """Check that the result is a where the mask is False and b where it is True, bit for bit, or the blend of both."""
    must(
        result.dtype == a.dtype and result.shape == a.shape and type(result) is type(a),
        f"{what} is {described(result)}",
    )
    a, b, spread = copied(a), copied(b), copied(mask[:, 0] if mask.ndim > a.ndim else mask).expand(a.shape)
    if mask.dtype != torch.bool:
        tolerance = max(1e-6, 60 * torch.finfo(a.dtype).eps)  # labels are mixed by a float32 area
        must_be_close(result, a.double() * (1 - spread.double()) + b.double() * spread.double(), tolerance, what)
        return
    ours, of_a, of_b = (
        x.reshape(-1).view(torch.uint8).reshape(x.numel(), x.itemsize).numpy() for x in (copied(result), a, b)
    )
    must(np.array_equal(ours, np.where(spread.reshape(-1, 1).numpy(), of_b, of_a)), f"{what} is not where(mask, b, a)")


def bad_masks(x: Tensor, mask: Tensor) -> list[Any]:
    bools = torch.ones(x.shape, dtype=torch.bool)
    wrong = [bools.int(), bools.to(torch.complex64), torch.ones(*x.shape, 2) > 0, torch.ones(7, *x.shape) > 0]
    return [*wrong, *odd_tensors(mask)]


def fills(rng: Random, x: Tensor) -> Any:
    """Return a number that the dtype of x holds exactly, or a tensor that broadcasts."""
    if x.dtype in INTEGERS:
        limits = torch.iinfo(x.dtype)
        fill: Any = rng.choice((0, limits.min, limits.max, limits.max - 1, 7))
    else:
        fill = rng.choice((0, 1) if x.dtype == torch.bool else (0, 0.5, -3, 1e3, np.float32(0.25)))
    by_channel = numbers(rng, (x.shape[1], *[1] * (x.ndim - 2)) if x.ndim > 2 else (1,), x.dtype)
    return rng.choice((fill, fill, by_channel, by_channel[:1], torch.tensor(fill, dtype=x.dtype)))


def filled(x: Tensor, fill: Any) -> Tensor:
    return (copied(fill) if isinstance(fill, Tensor) else torch.tensor(fill, dtype=x.dtype)).expand(x.shape)


def bad_fills(x: Tensor) -> list[Any]:
    bad = ["x", None, (1, 2), object(), torch.zeros(*x.shape, 2), torch.zeros(1, device="meta"), NAN, INF, 10**400]
    if x.dtype in INTEGERS:
        bad += [0.5, torch.tensor(0.5), torch.iinfo(x.dtype).max + 1, torch.iinfo(x.dtype).min - 1]
    return bad if x.dtype.is_complex else [*bad, torch.tensor(1j)]


class Mix(Call):
    """`mix`, of tensors with any axes, and its gradient."""

    function: Any = staticmethod(cowmask.mix)

    def fill_in(self) -> None:
        rng = self.rng
        shape = (rng.randint(0, 3), *rng.choice(((), (rng.randint(1, 3),))), *sizes(rng, rng.randint(1, 3)))
        blends = rng.random() < 0.3
        dtype = rng.choice(FLOATS if blends else DTYPES)
        a, b = (torch.randn(shape).to(dtype) if blends else numbers(rng, shape, dtype) for _ in range(2))
        weights = torch.rand(shape)
        mask = weights.to(rng.choice(FLOATS)) if blends else weights < rng.random()
        smaller = rng.choice(("no", "one channel", "one row", "a scalar"))
        if smaller == "one channel" and mask.ndim > 2:
            mask = mask[:, :1]
        elif smaller == "one row":
            mask = mask[:1]
        elif smaller == "a scalar" and mask.numel():
            mask = mask.flatten()[0]
        self.set(*(laid_out(rng, x) for x in (a, b, mask)))

    def set(self, a: Tensor, b: Tensor, mask: Tensor) -> None:
        """Set the arguments, and which values of each are bad."""
        self.arguments |= {"a": a, "b": b, "mask": mask}
        other_dtype = torch.zeros(a.shape, dtype=torch.float32 if a.dtype == torch.int8 else torch.int8)
        odd = odd_tensors(a)
        of_b = [torch.ones(*a.shape, 2, dtype=a.dtype), other_dtype, *odd]
        self.bad |= {"a": odd, "b": of_b, "mask": bad_masks(a, mask), "backend": ("cuda", None, 3)}
        is_simple = all(x.is_contiguous() and x.element_size() <= 8 for x in (a, b))  # else "triton" may refuse
        if INTERPRETED and is_simple and mask.dtype == torch.bool:
            self.arguments["backend"] = "triton"

    def check(self) -> None:
        a, b, mask = (self.arguments[name] for name in ("a", "b", "mask"))
        must_be_mixed(self.make(), a, b, mask)
        if a.dtype in WIDE_FLOATS and mask.dtype == torch.bool:
            leaves, grad = [copied(x).requires_grad_() for x in (a, b)], torch.randn(a.shape, dtype=a.dtype)
            self.function(*leaves, mask).backward(grad)
            taken = copied(mask).expand(a.shape)
            for leaf, passes in zip(leaves, (~taken, taken), strict=True):
                must(leaf.grad is not None and torch.equal(leaf.grad, grad.where(passes, 0)), "a gradient is wrong")


class Erase(Mix):
    """`erase`."""

    function = staticmethod(cowmask.erase)

    def set(self, a: Tensor, b: Tensor, mask: Tensor) -> None:  # noqa: ARG002
        fill = fills(self.rng, a) if mask.dtype == torch.bool else self.rng.choice((0.5, 0, -1.25))
        self.arguments |= {"x": a, "mask": mask, "fill": fill}
        self.bad |= {"x": odd_tensors(a), "mask": bad_masks(a, mask), "fill": bad_fills(a)}

    def check(self) -> None:
        x, mask, fill = (self.arguments[name] for name in ("x", "mask", "fill"))
        must_be_mixed(self.make(), x, filled(x, fill), ~mask if mask.dtype == torch.bool else 1 - mask.double())


class Transform(Call):
    """A transform: its settings, images, and what comes with them."""

    names: Sequence[str]

    def fill_in(self) -> None:
        rng = self.rng
        self.may_take_a_generator()
        self.function = getattr(cowmask, rng.choice(self.names))
        self.blends = self.name == "MixUp"
        ndim, n = rng.randint(1, 3), rng.choice((1, 2, 2, 3, 4))
        self.size = tuple(max(2, length) for length in sizes(rng, ndim))
        shape, dtype = (n, rng.randint(1, 3), *self.size), rng.choice(FLOATS if self.blends else DTYPES)
        images = torch.randn(shape).to(dtype) if self.blends else numbers(rng, shape, dtype)
        self.arguments |= {"images": laid_out(rng, images), "ndim": ndim, "p": rng.choice((1, 1.0, 0.5, 0))}
        wrong = [images[0], images[..., None], images[:0], *odd_tensors(images)]
        mask = torch.rand(n, 1, *self.size) < 0.5
        self.bad |= {
            "images": wrong,
            "p": (*NOT_NUMBERS, -0.1, 1.1, None),
            "ndim": (0, 4, 2.0, True, None),
            "mask": bad_masks(images, mask) + ([torch.ones(shape) > 0] if shape[1] > 1 else []),
        }
        if rng.random() < 0.3:
            self.arguments["mask"] = laid_out(rng, mask)
        self.set_masks(n)
        self.set_others(n)

    def set_masks(self, n: int) -> None:
        """Set what the transform draws."""
        rng = self.rng
        if self.blends:
            self.arguments["alpha"] = rng.choice((1, 0.01, 5.0, 1e-6, 1e6))
            self.bad["alpha"] = (*NOT_VALUES, 0, -1)
        elif self.name in ("CowMix", "CowOut"):
            self.arguments |= {"sigma": values(rng, n, 0.3, 9.0), "proportion": values(rng, n, 0.0, 1.0)}
            self.bad |= {"sigma": (*NOT_VALUES, 0, -1), "proportion": NOT_FRACTIONS}
        else:
            self.arguments |= {"area": values(rng, n, 0.0, 1.0), "n_boxes": rng.choice((1, 2))}
            self.arguments["clip"] = rng.random() < 0.5
            self.bad |= {"area": NOT_FRACTIONS, "n_boxes": NOT_COUNTS, "clip": NOT_FLAGS}

    @abstractmethod
    def set_others(self, n: int) -> None:
        """Set what comes with n images."""

    def make_transform(self, arguments: dict[str, Any]) -> nn.Module:
        """Make the transform by its settings, which are taken from the arguments."""
        settings = [name for name in inspect.signature(self.function).parameters if name in arguments]
        transform: nn.Module = self.function(**{name: arguments.pop(name) for name in settings})
        return transform

    def call(self, **arguments: Any) -> Any:
        transform = self.make_transform(arguments)
        return transform(arguments.pop("images"), *arguments.pop("targets", ()), **arguments)

    def mask(self) -> Tensor:
        """Return the mask of the call: the given one, or that which `sample` draws by the same numbers."""
        if "mask" in self.arguments:
            return self.arguments["mask"]
        arguments = dict(self.arguments)
        transform: Any = self.make_transform(arguments)
        images, generator = arguments["images"], arguments.get("generator")
        self.seed_generators()
        mask: Tensor = transform.sample(images, generator)
        must(mask.shape == (len(images), 1, *([1] * len(self.size) if self.blends else self.size)), "the mask's shape")
        must(mask.dtype == (torch.float32 if self.blends else torch.bool) and type(mask) is Tensor, "the mask's type")
        return mask

    def check(self) -> None:
        self.check_results(self.make(), self.mask())
        if self.compiled:
            self.check_compiled()

    def check_compiled(self) -> None:
        """Check that compiled code gives what eager code gives. It takes plain tensors and no Generator."""

        def plain(value: Any) -> Any:
            return (
                tuple(map(plain, value))
                if type(value) is tuple
                else copied(value)
                if isinstance(value, Tensor)
                else value
            )

        self.arguments = {name: plain(value) for name, value in self.arguments.items() if name != "generator"}
        arguments = dict(self.arguments)
        torch.compiler.reset()
        transform = torch.compile(self.make_transform(arguments), fullgraph=True, backend="eager")
        inputs = (arguments.pop("images"), *arguments.pop("targets", ()))
        self.seed_generators()
        with CONTEXTS[self.context]():
            compiled = transform(*inputs, **arguments)
        for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (compiled, self.make())), strict=True):
            same = same_bits(one, other) if isinstance(one, Tensor) else one is other
            must(same, "compiled code gives something else")

    @abstractmethod
    def check_results(self, result: Any, mask: Tensor) -> None:
        """Check what the transform returns, by its mask."""


class Mixing(Transform):
    """CowMix, CutMix or MixUp."""

    names = ("CowMix", "CutMix", "MixUp")

    def set_others(self, n: int) -> None:
        rng, classes = self.rng, self.rng.randint(2, 5)
        kinds: list[Callable[[], Tensor]] = [
            lambda: torch.rand(n, classes, *self.size, dtype=rng.choice(WIDE_FLOATS)).softmax(1),
            lambda: torch.randint(0, classes, (n,), dtype=rng.choice((torch.int64, torch.uint8, torch.int32))),
        ]
        if len(self.size) > 1:  # (B, K) with signals may be dense targets, too
            kinds.append(lambda: torch.rand(n, classes).softmax(1).to(rng.choice(FLOATS)))
        if not self.blends:
            kinds.append(lambda: numbers(rng, (n, *rng.choice(((), (1,))), *self.size), rng.choice(INTEGERS)))
        targets = tuple(laid_out(rng, rng.choice(kinds)()) for _ in range(rng.choice((0, 1, 1, 2, 3))))
        self.arguments |= {"num_classes": classes, "targets": targets}
        if rng.random() < 0.4:
            self.arguments["partner"] = tuple(x.flip(0) for x in (self.arguments["images"], *targets))
        images: Tensor = self.arguments["images"]
        labels, odd = torch.arange(n) % classes, odd_tensors(images)
        wrong = [torch.ones(n + 1).long(), torch.ones(n, 77).long(), labels + 5, labels - 9, images[:, None, None]]
        self.bad |= {
            "num_classes": NOT_COUNTS,
            "targets": [(one,) for one in (*wrong, *odd)],
            "partner": [(), torch.ones(1), (1, 2, 3, 4, 5), *odd],
        }

    def check_results(self, result: Any, mask: Tensor) -> None:
        inputs, partners = (self.arguments["images"], *self.arguments["targets"]), self.arguments.get("partner")
        must(isinstance(result, tuple) == (len(inputs) > 1), "as many come out as went in")
        results = result if len(inputs) > 1 else (result,)
        storages = {x.untyped_storage().data_ptr() for x in self.tensors()}
        for i, (x, y) in enumerate(zip(inputs, results, strict=True)):
            must(y.untyped_storage().data_ptr() not in storages, f"tensor {i} is no copy")
            other = partners[i] if partners is not None else x.roll(1, 0)
            is_label = x.ndim == 1 or (x.ndim == 2 and len(self.size) > 1)
            if x.ndim == 1:
                x, other = (torch.eye(self.arguments["num_classes"])[copied(one).long()] for one in (x, other))
            if partners is None and len(x) == 1:
                must(same_bits(x, y), f"tensor {i} of a batch of one is changed")
            else:
                share = copied(mask).double().flatten(1).mean(1, keepdim=True) if is_label else mask
                must_be_mixed(y, x, other, share, f"tensor {i}")


class Erasing(Transform):
    """CowOut or CutOut."""

    names = ("CowOut", "CutOut")

    def set_others(self, n: int) -> None:  # noqa: ARG002
        images = self.arguments["images"]
        targets = self.rng.choice(((), (torch.ones(3),), ("boxes", None)))
        self.arguments |= {"targets": targets, "fill": fills(self.rng, images)}
        self.bad["fill"] = bad_fills(images)

    def check_results(self, result: Any, mask: Tensor) -> None:
        images, targets = self.arguments["images"], self.arguments["targets"]
        erased, *others = result if targets else (result,)
        must(all(x is y for x, y in zip(others, targets, strict=True)), "a target does not come through")
        must_be_mixed(erased, images, filled(images, self.arguments["fill"]), ~mask)
