"""Draw masks, one operator each: the only place that consumes randomness.

Operators, because a compiler would draw other numbers than eager code does, and would lay hands on the tables.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from cowmask import _checks, _direct, _spectral
from cowmask._backends import use_triton
from cowmask._operators import operator

WORKSPACE = 2**26  # bytes, if one mask needs no more: larger batches go in parts
_setting = threading.Lock()


def _empty_masks(n: int, size: Sequence[int], *others: Any) -> Tensor:
    return torch.empty((n, 1, *size), dtype=torch.bool, device=others[-1])


@operator(
    "cow_masks(SymInt n, SymInt[] size, float[] sigma, Tensor? sigmas, float[] proportion, Tensor? proportions, "
    "float[] spacing, Tensor? noise, str method, str backend, str precision, Generator? generator, Device device) "
    "-> Tensor",
    _empty_masks,
    random=True,
)
def cow_masks(
    n: int,
    size: Sequence[int],
    sigma: list[float],
    sigmas: Tensor | None,
    proportion: list[float],
    proportions: Tensor | None,
    spacing: list[float],
    noise: Tensor | None,
    method: str,
    backend: str,
    precision: str,
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    triton = use_triton(backend, device)
    sigma_ends = _checks.ends("sigma", (sigma, sigmas), _checks.POSITIVE)
    proportion_ends = _checks.ends("proportion", (proportion, proportions), _checks.FRACTION)
    in_pixels = _checks.sigma_in_pixels(sigma_ends, spacing)
    largest = [high for _, high in in_pixels]
    counts = [_spectral.n_coefficients(length, low) for length, (low, _) in zip(size, in_pixels, strict=True)]
    cheaper = "spectral" if _spectral.cost(size, counts) <= _direct.cost(size, largest) else "direct"
    spectral = (cheaper if method == "auto" else method) == "spectral"

    with _autocast_off(device), _full_float32(device, precision):  # bf16 products would misplace 0.1% of the pixels
        drawn_sigma = _values(sigma_ends, sigmas, n, generator, device, log=True)
        drawn_sigmas = _each(lambda step: drawn_sigma / step, spacing)
        drawn_proportion = _values(proportion_ends, proportions, n, generator, device)

        def white(rows: slice, shape: Sequence[int]) -> Tensor:
            if noise is not None:
                return noise[rows, 0].to(device, torch.float32)
            return torch.randn(
                (rows.stop - rows.start, *shape), generator=generator, device=device, dtype=torch.float32
            )

        if not spectral:
            return _direct.masks(white(slice(0, n), size), drawn_sigmas, largest, drawn_proportion)[:, None]

        gains = _each(_spectral.transfer, drawn_sigmas, largest, size, counts)
        masks = torch.empty((n, 1, *size), dtype=torch.bool, device=device)
        dtype = torch.float16 if precision == "high" else torch.float32
        # The same parts for both backends, so that a seed gives the same masks.
        for rows in _parts(n, _spectral.workspace(size, counts, dtype.itemsize)):
            # White noise is white in either basis.
            coefficients = white(rows, counts) if noise is None else _spectral.analyse(white(rows, size), counts)
            std = _spectral.filter_(coefficients, [gain[rows] for gain in gains], size)
            if not triton:
                threshold = _direct.thresholds(std, drawn_proportion[rows])
                _spectral.masks(masks[rows, 0], coefficients, threshold, size)
                continue
            from cowmask.kernels import draw

            coefficients, std = draw.of_unit_variance(coefficients, std, dtype)
            threshold = _direct.thresholds(std, drawn_proportion[rows])
            alive = _spectral.alive(drawn_sigmas[0][rows], size[0], counts[0]).sum(1, dtype=torch.int32)
            draw.masks(masks[rows, 0], coefficients, threshold, alive, size)
    return masks  # (n, 1, *size)


@operator(
    "box_masks(SymInt n, SymInt[] size, float[] area, Tensor? areas, float? aspect, SymInt n_boxes, bool clip, "
    "Generator? generator, Device device) -> Tensor",
    _empty_masks,
    random=True,
)
def box_masks(
    n: int,
    size: Sequence[int],
    area: list[float],
    areas: Tensor | None,
    aspect: float | None,
    n_boxes: int,
    clip: bool,
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    ends = _checks.ends("area", (area, areas), _checks.FRACTION)
    fraction = _values(ends, areas, n, generator, device)
    fraction = (fraction[:, None] / n_boxes).expand(n, n_boxes)
    sides = _box_sides(fraction, size, aspect, clip, generator)  # one (n, n_boxes) an axis
    inside = torch.ones((n, n_boxes, *[1] * len(size)), dtype=torch.bool, device=device)
    for axis, (length, side) in enumerate(zip(size, sides, strict=True)):
        pixels = torch.round(side * length)
        where = torch.rand((n, n_boxes), generator=generator, device=device, dtype=torch.float32)
        if clip:
            start = torch.floor(where * length) - torch.floor(pixels / 2)
        else:
            # float32 may round the product up to the next whole number.
            start = torch.floor(where * (length - pixels + 1)).minimum(length - pixels)
        position = torch.arange(length, device=device)
        covered = (position >= start[..., None]) & (position < (start + pixels)[..., None])  # (n, n_boxes, length)
        inside = inside & covered.view(n, n_boxes, *[length if other == axis else 1 for other in range(len(size))])
    return inside.any(1, keepdim=True)  # (n, 1, *size)


@operator(
    "constant_masks(SymInt n, int dims, float alpha, Generator? generator, Device device) -> Tensor",
    lambda n, dims, *others: torch.empty((n, 1, *[1] * dims), dtype=torch.float32, device=others[-1]),
    random=True,
)
def constant_masks(n: int, dims: int, alpha: float, generator: torch.Generator | None, device: torch.device) -> Tensor:
    # b / (a + b) of two gamma variables (torch's Beta distribution takes no generator), each of them one of alpha + 1
    # times uniform^(1 / alpha). In logarithms, since for a small alpha both underflow.
    shape = torch.full((2, n), alpha + 1, dtype=torch.float64, device=device)
    gamma = torch._standard_gamma(shape, generator=generator).log()
    uniform = torch.rand((2, n), generator=generator, dtype=torch.float64, device=device)
    power = torch.log1p(-uniform)
    weight = torch.sigmoid(gamma[1] - gamma[0] + (power[1] - power[0]) / alpha)
    return weight.to(torch.float32).view(n, 1, *[1] * dims)


def _autocast_off(device: torch.device) -> AbstractContextManager[Any]:
    available = torch.amp.is_autocast_available(device.type)  # not on "meta"
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


@contextmanager
def _full_float32(device: torch.device, precision: str) -> Iterator[None]:
    """Multiply in float32 where that is asked for, whatever torch is set to do."""
    libraries: dict[str, Any] = {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}
    settings = getattr(libraries.get(device.type), "matmul", None)
    if precision == "high" or settings is None:
        yield
        return
    with _setting:  # torch's own is for all threads
        before, settings.fp32_precision = settings.fp32_precision, "ieee"
        try:
            yield
        finally:
            settings.fp32_precision = before


def _each(function: Callable[..., Tensor], *axes: Sequence[Any]) -> list[Tensor]:
    """Call a function with what each axis has, once for axes that are alike: small calls are what a GPU waits for."""
    return list(map(cache(function), *axes))  # tensors are told apart by identity


def _parts(n: int, bytes_each: int) -> list[slice]:
    """Return rows to compute at once, as few parts as the workspace allows, all about as large."""
    at_once = max(1, WORKSPACE // bytes_each)
    rows = math.ceil(n / math.ceil(n / at_once))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def _values(
    ends: tuple[float, float],
    per_mask: Tensor | None,
    n: int,
    generator: torch.Generator | None,
    device: torch.device,
    *,
    log: bool = False,
) -> Tensor:
    """Return the per-mask values (n,) float32, drawn uniformly (of the logarithm) where only the ends are given."""
    low, high = ends
    if per_mask is not None:
        return per_mask.to(device, non_blocking=True)
    if low == high:
        return torch.full((n,), low, dtype=torch.float32, device=device)
    uniform = torch.rand(n, generator=generator, device=device, dtype=torch.float32)
    if log:
        return low * torch.exp(uniform * math.log(high / low))
    return low + uniform * (high - low)


def _box_sides(
    area: Tensor, size: Sequence[int], aspect: float | None, clip: bool, generator: torch.Generator | None
) -> list[Tensor]:
    """Return one tensor an axis: the side of each box as a fraction of the image's. Their product is `area`."""
    if aspect is None:
        # Normalised exponentials are uniform on the simplex: for two axes, exactly (u, 1 - u).
        shape = (len(size), *area.shape)
        uniform = torch.rand(shape, generator=generator, device=area.device, dtype=torch.float32)
        exponents = -torch.log1p(-uniform).clamp(max=-torch.finfo(torch.float32).tiny)  # never 0 / 0
        return list(area ** (exponents / exponents.sum(0)))
    relative = aspect * size[1] / size[0]
    height = (area * relative).sqrt()
    if not clip:
        height = height.clamp(max=1).maximum(area)  # no side longer than the image's; the other makes up for it
    return [height, area / height.clamp(min=torch.finfo(torch.float32).tiny)]
