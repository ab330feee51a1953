"""Draw masks: the only place that consumes randomness.

French et al. 2019, "Semi-supervised semantic segmentation needs strong, high-dimensional perturbations" (cow masks);
DeVries & Taylor 2017 (Cutout) and Yun et al. 2019 (CutMix) for boxes; Zhang et al. 2018 (mixup) for constant masks.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cowmask import _checks, _spectral


@torch.no_grad()
def cow_masks(
    n: int,
    size: Sequence[int],
    sigma: _checks.Values = (4, 16),
    proportion: _checks.Values = 0.5,
    *,
    spacing: Sequence[float] | None = None,
    noise: Tensor | None = None,
    method: str = "auto",
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.bool,
) -> Tensor:
    """Draw cow masks: Gaussian-blurred white noise, thresholded.

        field = blur(noise, sigma)
        mask = field - mean > sqrt(2) * erfinv(1 - 2 * proportion) * std

    Args:
        n: Number of masks, at least 1.
        size: 1 to 3 lengths in pixels, as (height, width).
        sigma: Standard deviation of the blur, in pixels, above 0: a number, a range to draw from log-uniformly for each
            mask, or a CPU tensor (n,). It sets the size of the features. The default is the paper's for 480x360.
        proportion: Expected fraction of True pixels, in [0, 1]: a number, a range to draw from uniformly for each
            mask, or a CPU tensor (n,). 0 and 1 give masks that are all False and all True.
        spacing: Length of a pixel along each axis; sigma is then in units of it. For anisotropic voxels.
        noise: White noise (n, 1, *size) in place of drawn noise, so that a mask can be replayed. It is read in float32.
        method: "spectral" computes the blur in its own basis, the DCT-II. "auto" chooses the fastest method, which
            today is always that one.
        generator: Source of all randomness, on the device of the masks; torch's default generator without it.
        device: Where to draw; by default the device of `noise`, of `generator`, or torch's default device.
        dtype: torch.bool or a floating dtype (0 and 1).

    Returns:
        Masks (n, 1, *size), True on `proportion` of the pixels in expectation.

    Raises:
        TypeError, ValueError: An argument is of the wrong type or out of range.

    Convention:
        Borders mirror the noise, so they carry more variance than the middle: for a proportion other than 0.5, the
        fraction of True pixels is nearer to 0.5 there. A field without variance (one pixel) is all False below 1.
        Rows are independent; row i of `noise` gives the same mask whatever the other rows are.

    Reference:
        French et al. 2019, section 3.4 and Listing 1. The listing as printed gives 1 - p where the text says p;
        here it is p.

    Example:
        >>> masks = cow_masks(16, (256, 256), sigma=(8, 32))
        >>> masks.shape, masks.dtype
        (torch.Size([16, 1, 256, 256]), torch.bool)
    """
    n, size = _checks.count("n", n), _checks.image_size(size)
    sigmas, proportions = _checks.cow_settings(sigma, proportion)
    steps = _checks.spacing(spacing, len(size))
    _checks.one_value_per_mask("sigma", sigmas, n)
    _checks.one_value_per_mask("proportion", proportions, n)
    _check_noise(noise, n, size)
    target = _checks.draw_device(generator, device, noise)
    dtype = _checks.mask_dtype(dtype)
    if method not in ("auto", "spectral"):
        raise ValueError(f'method must be "auto" or "spectral", got {method!r}')

    counts = [_spectral.n_coefficients(length, sigmas.low / step) for length, step in zip(size, steps, strict=True)]
    with torch.autocast(target.type, enabled=False):  # bf16 cosine products would misplace 0.1% of the pixels
        drawn_sigma = _draw(sigmas, n, generator, target, log=True)
        drawn_proportion = _draw(proportions, n, generator, target)
        gains = [
            _spectral.transfer(drawn_sigma / step, length, k, _spectral.n_taps(sigmas.high / step))
            for length, k, step in zip(size, counts, steps, strict=True)
        ]
        if noise is None:
            shape = (n, *counts)
            coefficients = torch.randn(shape, generator=generator, device=target, dtype=torch.float32)
        else:
            coefficients = _spectral.analyse(noise[:, 0].to(target, torch.float32), counts)
        masks = _spectral.masks(coefficients, gains, drawn_proportion, size)
    return masks[:, None].to(dtype)  # (n, 1, *size)


@torch.no_grad()
def box_masks(
    n: int,
    size: Sequence[int],
    area: _checks.Values = 0.5,
    aspect: float | None = None,
    *,
    n_boxes: int = 1,
    clip: bool = False,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.bool,
) -> Tensor:
    """Draw masks that are True inside random boxes.

    Args:
        n: Number of masks, at least 1.
        size: 1 to 3 lengths in pixels, as (height, width).
        area: Fraction of the image that the boxes cover, in [0, 1]: a number, a range to draw from uniformly for each
            mask, or a CPU tensor (n,). Sides are rounded to pixels.
        aspect: Height over width in pixels, for two axes. None draws it: height = area^u and width = area^(1 - u)
            of the image's, u uniform. A box of a given aspect that would be longer than the image is as long as it,
            and wider instead (unless `clip`).
        n_boxes: Boxes a mask, each of `area / n_boxes`; where they overlap, they cover less than `area`.
        clip: False places boxes uniformly inside the image. True draws their centre uniformly in the image and cuts
            them at its border, as Cutout and CutMix were first published; they then cover less than `area`.
        generator: Source of all randomness, on the device of the masks; torch's default generator without it.
        device: Where to draw; by default the device of `generator`, or torch's default device.
        dtype: torch.bool or a floating dtype (0 and 1).

    Returns:
        Masks (n, 1, *size), True inside the union of the boxes.

    Raises:
        TypeError, ValueError: An argument is of the wrong type or out of range.

    Reference:
        French et al. 2019, section 3.3: all four parameters of the box are random. DeVries & Taylor 2017:
        `area=0.25, aspect=1, clip=True`. Yun et al. 2019: `area=(0, 1), aspect=height / width, clip=True`.

    Example:
        >>> masks = box_masks(16, (240, 320), area=(0.2, 0.4))
        >>> masks.shape, bool(masks.float().mean((1, 2, 3)).max() < 0.45)
        (torch.Size([16, 1, 240, 320]), True)
    """
    n, size, areas = _checks.count("n", n), _checks.image_size(size), _checks.box_settings(area, aspect, n_boxes)
    _checks.one_value_per_mask("area", areas, n)
    if aspect is not None and len(size) != 2:
        raise ValueError(f"aspect is height over width: it needs a size of two axes, got {size}")
    target, dtype = _checks.draw_device(generator, device), _checks.mask_dtype(dtype)

    fraction = _draw(areas, n, generator, target)[:, None] / n_boxes  # (n, 1)
    sides = _box_sides(fraction.expand(n, n_boxes), size, aspect, clip, generator)  # one (n, n_boxes) an axis
    inside = torch.ones((n, n_boxes, *[1] * len(size)), dtype=torch.bool, device=target)
    for axis, (length, side) in enumerate(zip(size, sides, strict=True)):
        pixels = torch.round(side * length)
        where = torch.rand((n, n_boxes), generator=generator, device=target, dtype=torch.float32)
        if clip:
            start = torch.floor(where * length) - torch.floor(pixels / 2)
        else:
            # float32 may round the product up to the next whole number.
            start = torch.floor(where * (length - pixels + 1)).minimum(length - pixels)
        position = torch.arange(length, device=target)
        covered = (position >= start[..., None]) & (position < (start + pixels)[..., None])  # (n, n_boxes, length)
        inside = inside & covered.view(n, n_boxes, *[length if other == axis else 1 for other in range(len(size))])
    return inside.any(1, keepdim=True).to(dtype)  # (n, 1, *size)


@torch.no_grad()
def constant_masks(
    n: int, dims: int, alpha: float, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Draw blending masks (n, 1, *[1] * dims) that are constant over each image, of Beta(alpha, alpha); for MixUp."""
    target = _checks.draw_device(generator, device)
    # Two gamma variables: torch's Beta distribution takes no generator. float64, since both underflow at small alpha.
    shape = torch.full((n, 2), alpha, dtype=torch.float64, device=target)
    gamma = torch._standard_gamma(shape, generator=generator)
    return (gamma[:, 0] / gamma.sum(1)).to(torch.float32).view(n, 1, *[1] * dims)


def _draw(
    values: _checks.Range, n: int, generator: torch.Generator | None, device: torch.device, *, log: bool = False
) -> Tensor:
    """Return the per-mask values (n,) float32, drawn uniformly (of the logarithm) where they are a range."""
    if values.per_mask is not None:
        return values.per_mask.to(device, non_blocking=True)
    if values.low == values.high:
        return torch.full((n,), values.low, dtype=torch.float32, device=device)
    uniform = torch.rand(n, generator=generator, device=device, dtype=torch.float32)
    if log:
        return values.low * torch.exp(uniform * math.log(values.high / values.low))
    return values.low + uniform * (values.high - values.low)


def _box_sides(
    area: Tensor, size: tuple[int, ...], aspect: float | None, clip: bool, generator: torch.Generator | None
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


def _check_noise(noise: Tensor | None, n: int, size: tuple[int, ...]) -> None:
    if noise is None:
        return
    if not isinstance(noise, Tensor) or not noise.dtype.is_floating_point:
        raise TypeError(f"noise must be a floating tensor, got {noise.dtype if isinstance(noise, Tensor) else noise!r}")
    if noise.shape != (n, 1, *size):
        raise ValueError(f"noise must have shape (n, 1, *size) = {(n, 1, *size)}, got {tuple(noise.shape)}")
