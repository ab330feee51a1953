"""Draw masks, one operator each: the only place that consumes randomness.

Operators, because a compiler would draw other numbers than eager code does, and would lay hands on the tables.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from cowmask import _checks, _coarse, _direct, _spectral
from cowmask._backends import use_triton
from cowmask._operators import operator

WORKSPACE = 2**26  # bytes, if one mask needs no more: larger batches go in parts
GROUP = 2**19  # pixels for which masks of like sigma are worth calls of their own
_setting = threading.Lock()
White = Callable[[Sequence[int]], Tensor]  # returns standard normal numbers of a shape


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
    sigma_ends = _checks.ends("sigma", (sigma, sigmas), _checks.POSITIVE)
    proportion_ends = _checks.ends("proportion", (proportion, proportions), _checks.FRACTION)
    in_pixels = _checks.sigma_in_pixels(sigma_ends, spacing)
    if method == "coarse" and not _direct.is_gaussian(size, in_pixels):
        came = ", ".join(f"{low:g} to {high:g}" for low, high in in_pixels)
        raise ValueError(
            f'method="coarse" takes a sigma from 1 pixel to half of each axis, got {came} for {tuple(size)}'
        )
    triton, on_cpu = use_triton(backend, device), device.type == "cpu"
    white: White = partial(torch.randn, generator=generator, device=device, dtype=torch.float32)
    masks = torch.empty((n, *size), dtype=torch.bool, device=device)
    with _float32(device, precision):
        of_each = _values(sigma_ends, sigmas, n, generator, device, log=True)
        # Without a share it is one half, for which the threshold is zero.
        share = None if proportion_ends == (0.5, 0.5) else _values(proportion_ends, proportions, n, generator, device)
        values = of_each.tolist() if on_cpu else []  # there, to look at them costs nothing
        ends = (min(values), max(values)) if on_cpu else sigma_ends
        if method == "auto":
            method = _fastest(n, tuple(size), tuple(in_pixels), drawn_on_cpu=on_cpu and noise is None)
        if method == "coarse":
            _coarse.masks(masks, [[value / step for step in spacing] for value in values], share, white)
        elif method == "direct":
            noise = white(masks.shape) if noise is None else noise[:, 0].to(device, torch.float32)
            largest = [high for _, high in in_pixels]
            _direct.masks(masks, noise, [of_each / step for step in spacing], largest, share)
        else:
            how = (spacing, white, triton, precision)
            groups = _alike(values, math.prod(size))
            if not groups:
                _spectral_masks(masks, noise, of_each, ends, share, *how)
            for group in groups:
                rows, its_values = torch.tensor(group, device="cpu"), [values[row] for row in group]
                its_noise, its_share = (x if x is None else x[rows] for x in (noise, share))
                its_masks = torch.empty_like(masks[: len(group)])
                its = (its_masks, its_noise, of_each[rows], (min(its_values), max(its_values)), its_share)
                _spectral_masks(*its, *how)
                masks[rows] = its_masks
    return masks.unsqueeze(1)  # (n, 1, *size)


def _spectral_masks(
    out: Tensor,
    noise: Tensor | None,
    sigma: Tensor,
    sigma_ends: tuple[float, float],
    proportion: Tensor | None,
    spacing: Sequence[float],
    white: White,
    triton: bool,
    precision: str,
) -> None:
    """Write masks (n, *size) of given noise (n, 1, *size), or of drawn coefficients."""
    size = out.shape[1:]
    in_pixels = [(sigma_ends[0] / step, sigma_ends[1] / step) for step in spacing]
    smallest = _spectral.smallest_gain(size, in_pixels) if noise is None else None
    counts = [_spectral.n_coefficients(length, low, smallest) for length, (low, _) in zip(size, in_pixels, strict=True)]
    dtype = torch.float16 if precision == "high" else torch.float32
    field = 4 * size.numel() if out.device.type == "cpu" else 0  # what torch holds there at once, too
    # The same parts for both backends, so that a seed gives the same masks.
    for rows in _parts(len(out), _spectral.workspace(size, counts, dtype.itemsize) + field):
        if smallest is None:
            largest = [high for _, high in in_pixels]
            gains = _spectral.gains(sigma[rows], largest, spacing, size, counts)
        else:
            gains = _spectral.gaussian_gains(sigma[rows], smallest, spacing, size, counts)
        if noise is None:
            coefficients = white(gains.shape)  # white noise is white in either basis
        else:
            coefficients = _spectral.analyse(noise[rows, 0].to(out.device, torch.float32), counts)
        coefficients *= gains
        if not triton:
            threshold = None
            if proportion is not None:
                threshold = _direct.thresholds(_spectral.std(coefficients, size), proportion[rows])
            _spectral.masks(out[rows], coefficients, threshold)
            continue
        from cowmask.kernels import draw

        alive = _spectral.n_alive(gains)
        del gains  # from the workspace
        coefficients, std = draw.of_unit_variance(coefficients, _spectral.std(coefficients, size), dtype)
        threshold = torch.zeros_like(std) if proportion is None else _direct.thresholds(std, proportion[rows])
        draw.masks(out[rows], coefficients, threshold, alive, size)


@lru_cache(maxsize=256)
def _fastest(n: int, size: tuple[int, ...], in_pixels: tuple[tuple[float, float], ...], *, drawn_on_cpu: bool) -> str:
    """Return the method that should take the least time for n masks."""
    if drawn_on_cpu and _direct.is_gaussian(size, in_pixels):
        # About what the mean mask of a log-uniform sigma takes.
        middle = [low ** (2 / 3) * high ** (1 / 3) for low, high in in_pixels]
        return "spectral" if _spectral.cost_drawn(n, size, middle) <= _coarse.cost(size, middle) else "coarse"
    counts = [_spectral.n_coefficients(length, low) for length, (low, _) in zip(size, in_pixels, strict=True)]
    largest = [high for _, high in in_pixels]
    return "spectral" if _spectral.cost(size, counts) <= _direct.cost(size, largest) else "direct"


def _alike(sigma: Sequence[float], pixels: int) -> list[list[int]]:
    """Group rows of so many pixels by sigma, so that each group has as many coefficients as it needs and no more."""
    n_bins = min(4, len(sigma) * pixels // GROUP)
    if n_bins < 2 or (low := min(sigma)) == (high := max(sigma)):
        return []
    bins: list[list[int]] = [[] for _ in range(n_bins)]
    for row, value in enumerate(sigma):
        bins[min(n_bins - 1, int(n_bins * math.log(value / low) / math.log(high / low)))].append(row)
    return [rows for rows in bins if rows]


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
    return inside if n_boxes == 1 else inside.any(1, keepdim=True)  # (n, 1, *size)


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


def _float32(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return a context without autocast and, where that is asked for, with full products, whatever torch is set to."""
    libraries: dict[str, Any] = {"cpu": torch.backends.mkldnn, "cuda": torch.backends.cuda}
    settings = getattr(libraries.get(device.type), "matmul", None) if precision == "highest" else None
    autocast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)  # not on "meta"
    if settings is None:
        return torch.autocast(device.type, enabled=False) if autocast else nullcontext()
    return _full_products(device, settings)


@contextmanager
def _full_products(device: torch.device, settings: Any) -> Iterator[None]:
    with torch.autocast(device.type, enabled=False), _setting:  # torch's own is for all threads
        before, settings.fp32_precision = settings.fp32_precision, "ieee"
        try:
            yield
        finally:
            settings.fp32_precision = before


def _parts(n: int, bytes_each: int) -> list[slice]:
    """Return rows to compute at once, as few parts as the workspace allows, all about as large."""
    at_once = max(1, WORKSPACE // bytes_each)
    if n <= at_once:
        return [slice(0, n)]
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
    values = torch.empty(n, dtype=torch.float32, device=device)
    if log:
        return values.uniform_(math.log(low), math.log(high), generator=generator).exp_()
    return values.uniform_(low, high, generator=generator)


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
