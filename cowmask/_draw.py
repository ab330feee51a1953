"""The operators that draw: the only file that touches a generator.

Each draw is a custom operator. If torch.compile traced into it, compiled code would draw different numbers from eager
code and would capture our cached tables.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cowmask import _engines
from cowmask._backends import use_triton
from cowmask._checks import arguments
from cowmask._engines import Batch, coarse, direct, fused, spectral
from cowmask._engines.definition import acts_as_gaussian
from cowmask._operators import operator, read_numbers


def _empty_masks(n: int, size: Sequence[int], *others: Any) -> Tensor:
    return torch.empty((n, 1, *size), dtype=torch.bool, device=others[-2])


# The arguments are flat because torch.library knows no structures. The schemas are written by hand because
# torch.library infers none for a Generator.
@operator(
    "cow_masks(SymInt n, SymInt[] size, float[] ranges, Tensor? ranges_tensor, Tensor? sigmas, Tensor? proportions, "
    "float[] spacing, Tensor? noise, str method, str backend, str precision, Generator? generator, Device device, "
    "Tensor? apart) -> Tensor",
    _empty_masks,
    random=True,
)
def cow_masks(
    n: int,
    size: Sequence[int],
    ranges: list[float],  # of sigma and of proportion: low, high, low, high
    ranges_tensor: Tensor | None,
    sigmas: Tensor | None,
    proportions: Tensor | None,
    spacing: list[float],
    noise: Tensor | None,
    method: str,
    backend: str,
    precision: str,
    generator: torch.Generator | None,
    device: torch.device,
    apart: Tensor | None,  # noqa: ARG001
) -> Tensor:
    *sigma, low, high = read_numbers(ranges, ranges_tensor)
    sigma_bounds = arguments.bounds("sigma", sigma, sigmas, arguments.POSITIVE)
    proportion_bounds = arguments.bounds("proportion", (low, high), proportions, arguments.FRACTION)
    in_pixels = arguments.sigma_in_pixels(sigma_bounds, spacing)
    size = tuple(size)
    if method == "coarse" and not acts_as_gaussian(size, in_pixels):
        got = ", ".join(f"{low:g} to {high:g}" for low, high in in_pixels)
        raise ValueError(f'method="coarse" takes a sigma from 1 pixel to half of each axis, got {got} for {size}')
    triton = use_triton(backend, device, products=True)
    if method == "auto":
        method = _engines.fastest(n, size, in_pixels, device, drawn=noise is None)
    with _without_autocast(device), _with_precision(precision, device):
        if triton and method == "spectral" and noise is None:
            masks = torch.empty((n, 1, *size), dtype=torch.uint8, device=device)
            plan = fused.plan(size, tuple(spacing), in_pixels, precision, masks.device)
            if plan is not None:
                values = (*sigma_bounds, _on(device, sigmas)), (*proportion_bounds, _on(device, proportions))
                fused.draw(masks, plan, _seed(generator, device), *values)
                return masks.view(torch.bool)
        masks = torch.empty((n, *size), dtype=torch.bool, device=device)
        sigma_per_mask = _values(sigma_bounds, sigmas, n, generator, device, log=True)
        proportion_per_mask = None
        if proportion_bounds != (0.5, 0.5):
            proportion_per_mask = _values(proportion_bounds, proportions, n, generator, device)
        draw_noise = partial(torch.randn, generator=generator, device=device, dtype=torch.float32)
        batch = Batch(size, spacing, sigma_per_mask, in_pixels, proportion_per_mask, noise, draw_noise)
        if method == "direct":
            direct.draw(masks, batch)
        elif method == "coarse":
            coarse.draw(masks, batch)
        else:
            spectral.draw(masks, batch, triton=triton, precision=precision)
    return masks.unsqueeze(1)  # (n, 1, *size)


@operator(
    "box_masks(SymInt n, SymInt[] size, float[] area_and_aspect, Tensor? area_and_aspect_tensor, Tensor? areas, "
    "SymInt n_boxes, bool clip, Generator? generator, Device device, Tensor? apart) -> Tensor",
    _empty_masks,
    random=True,
)
def box_masks(
    n: int,
    size: Sequence[int],
    area_and_aspect: list[float],  # low, high and, unless it is drawn, the aspect
    area_and_aspect_tensor: Tensor | None,
    areas: Tensor | None,
    n_boxes: int,
    clip: bool,
    generator: torch.Generator | None,
    device: torch.device,
    apart: Tensor | None,  # noqa: ARG001
) -> Tensor:
    low, high, *aspect = read_numbers(area_and_aspect, area_and_aspect_tensor)
    area_bounds = arguments.bounds("area", (low, high), areas, arguments.FRACTION)
    if use_triton("auto", device):
        from cowmask.kernels.boxes import launch_boxes  # here, since everything works without Triton

        masks = torch.empty((n, 1, *size), dtype=torch.uint8, device=device)
        area_range = (*area_bounds, _on(device, areas))
        launch_boxes(masks, _seed(generator, device), area_range, aspect[0] if aspect else None, n_boxes, clip=clip)
        return masks.view(torch.bool)
    area_per_mask = _values(area_bounds, areas, n, generator, device)
    area_per_box = (area_per_mask[:, None] / n_boxes).expand(n, n_boxes)
    sides = _box_sides(area_per_box, size, aspect[0] if aspect else None, clip, generator)  # one (n, n_boxes) per axis
    inside = torch.ones((n, n_boxes, *[1] * len(size)), dtype=torch.bool, device=device)
    for axis, (length, side) in enumerate(zip(size, sides, strict=True)):
        pixels = torch.round(side * length)
        place = torch.rand((n, n_boxes), generator=generator, device=device, dtype=torch.float32)
        if clip:
            start = torch.floor(place * length) - torch.floor(pixels / 2)  # the centre is uniform in the image
        else:
            # In float32 the product may be rounded up to the next whole number, one pixel too far.
            start = torch.floor(place * (length - pixels + 1)).minimum(length - pixels)
        position = torch.arange(length, device=device)
        covered = (position >= start[..., None]) & (position < (start + pixels)[..., None])  # (n, n_boxes, length)
        inside = inside & covered.view(n, n_boxes, *[length if other == axis else 1 for other in range(len(size))])
    return inside if n_boxes == 1 else inside.any(1, keepdim=True)  # (n, 1, *size)


@operator(
    "constant_masks(SymInt n, int dims, float[] alpha, Tensor? alpha_tensor, Generator? generator, Device device, "
    "Tensor? apart) -> Tensor",
    lambda n, dims, *others: torch.empty((n, 1, *[1] * dims), dtype=torch.float32, device=others[-2]),
    random=True,
)
def constant_masks(
    n: int,
    dims: int,
    alpha: list[float],
    alpha_tensor: Tensor | None,
    generator: torch.Generator | None,
    device: torch.device,
    apart: Tensor | None,  # noqa: ARG001
) -> Tensor:
    (concentration,) = read_numbers(alpha, alpha_tensor)
    if use_triton("auto", device):
        from cowmask.kernels.constants import launch_constants

        weight = torch.empty(n, dtype=torch.float32, device=device)
        launch_constants(weight, _seed(generator, device), concentration)
        return weight.view(n, 1, *[1] * dims)
    # torch's Beta distribution takes no generator. So the weight is b / (a + b) of two Gamma(alpha) numbers, each
    # Gamma(alpha + 1) * uniform^(1 / alpha). They are kept as logarithms, since they underflow for a small alpha, and
    # in float32, since not every device has float64.
    one_more = torch.full((2, n), concentration + 1, dtype=torch.float32, device=device)
    log_gamma = torch._standard_gamma(one_more, generator=generator).log()
    uniform = torch.rand((2, n), generator=generator, dtype=torch.float32, device=device)
    log_uniform = torch.log1p(-uniform)
    weight = torch.sigmoid(log_gamma[1] - log_gamma[0] + (log_uniform[1] - log_uniform[0]) / concentration)
    return weight.view(n, 1, *[1] * dims)


# It takes the masks that it is drawn for, so that a compiler does not draw it before them.
@operator(
    "random_rows(Tensor masks, float[] p, Tensor? p_tensor, Generator? generator) -> Tensor",
    lambda masks, *_: masks.new_empty(len(masks), dtype=torch.bool),
    random=True,
)
def random_rows(masks: Tensor, p: list[float], p_tensor: Tensor | None, generator: torch.Generator | None) -> Tensor:
    (probability,) = read_numbers(p, p_tensor)
    if probability == 1:
        return masks.new_ones(len(masks), dtype=torch.bool)
    return torch.rand(len(masks), generator=generator, dtype=torch.float32, device=masks.device) < probability


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    # "meta", among others, has no autocast.
    autocast = torch.amp.autocast_mode.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if autocast else nullcontext()


def _with_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which, for "highest", torch multiplies as precisely as float32 does, however it is set."""
    if precision != "highest":
        return nullcontext()
    library: Any = {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}.get(device.type)
    coarse = library is not None and library.matmul.fp32_precision in ("tf32", "bf16")
    return _ProductsInFloat64() if coarse else nullcontext()


class _ProductsInFloat64(TorchDispatchMode):
    """Multiply matrices in float64, on this thread only.

    Torch's setting for float32 is one for all threads: changing it, even for a moment, would change their results.
    """

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default):
            return function(*(factor.double() for factor in args)).to(args[0].dtype)
        return function(*args, **(kwargs or {}))


def _seed(generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draw the seed (1,) of a kernel's own numbers, on the device: so replays of a captured graph draw new ones."""
    return torch.empty(1, dtype=torch.int64, device=device).random_(generator=generator)


def _on(device: torch.device, per_mask: Tensor | None) -> Tensor | None:
    """Return per-mask values (n,), if there are any, on a device, without waiting for it."""
    # A device reads pinned memory when its turn comes: perhaps after the caller's next change. So copy first.
    return per_mask if per_mask is None or device.type == "cpu" else per_mask.clone().to(device, non_blocking=True)


def _values(
    bounds: tuple[float, float],
    per_mask: Tensor | None,
    n: int,
    generator: torch.Generator | None,
    device: torch.device,
    *,
    log: bool = False,
) -> Tensor:
    """Return per-mask values (n,) float32: those given, or drawn uniformly (or log-uniformly) between the bounds."""
    low, high = bounds
    if (given := _on(device, per_mask)) is not None:
        return given
    if low == high:
        return torch.full((n,), low, dtype=torch.float32, device=device)
    values = torch.empty(n, dtype=torch.float32, device=device)
    if log:
        return values.uniform_(math.log(low), math.log(high), generator=generator).exp_()
    return values.uniform_(low, high, generator=generator)


def _box_sides(
    area: Tensor, size: Sequence[int], aspect: float | None, clip: bool, generator: torch.Generator | None
) -> list[Tensor]:
    """Return the sides of the boxes as fractions of the image's sides, one tensor per axis, of product `area`."""
    if aspect is None:
        # side = area^u, with the exponents of all axes uniform on the simplex: for two axes, u and 1 - u. Normalised
        # exponential variables are uniform on it.
        shape = (len(size), *area.shape)
        uniform = torch.rand(shape, generator=generator, device=area.device, dtype=torch.float32)
        exponents = -torch.log1p(-uniform).clamp(max=-torch.finfo(torch.float32).tiny)  # never 0 / 0
        return list(area ** (exponents / exponents.sum(0)))
    relative = aspect * size[1] / size[0]
    height = (area * relative).sqrt()
    if not clip:
        height = height.clamp(max=1).maximum(area)  # no side longer than the image's; the other makes up for it
    return [height, area / height.clamp(min=torch.finfo(torch.float32).tiny)]
