"""Draw masks: check the arguments, then call one operator of `_draw`.

French et al. 2019, "Semi-supervised semantic segmentation needs strong, high-dimensional perturbations" (cow masks);
DeVries & Taylor 2017 (Cutout) and Yun et al. 2019 (CutMix) for boxes; Zhang et al. 2018 (mixup) for constant masks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cowmask import _draw
from cowmask._backends import BACKENDS
from cowmask._checks import arguments
from cowmask._operators import apart, in_vmap, numbers


def cow_masks(
    n: int,
    size: Sequence[int],
    sigma: arguments.Values = (4, 16),
    proportion: arguments.Values = 0.5,
    *,
    spacing: Sequence[float] | None = None,
    noise: Tensor | None = None,
    method: str = "auto",
    backend: str = "auto",
    precision: str = "high",
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
        sigma: Standard deviation of the blur in pixels, from 0.001 to 10,000. A larger sigma gives larger features. A
            number, a range to draw from log-uniformly for each mask, or a CPU tensor (n,). The default is the paper's
            for 480x360.
        proportion: Expected fraction of True pixels, in [0, 1]. A number, a range to draw from uniformly for each mask,
            or a CPU tensor (n,). 0 gives all False and 1 all True.
        spacing: Length of a pixel along each axis, for anisotropic voxels. Sigma is then in the same unit.
        noise: White noise (n, 1, *size) in place of drawn noise, so that a mask can be replayed. Floating and finite;
            it is converted to float32.
        method: How masks are computed. Every method gives the same distribution, but other masks from a seed.
            "direct": blur full-resolution noise, as Listing 1 does.
            "spectral": draw only the frequencies that survive the blur.
            "coarse": draw noise every sigma pixels. CPU only, no `noise`, sigma from 1 pixel to half of each axis.
            "auto": the fastest of them for this number, size and sigma.
            From given `noise`, "direct" and "spectral" give the same mask but for 3 pixels in 10,000.
        backend: "torch"; "triton", for the spectral method only; or "auto", Triton on a GPU where it works.
        precision: "high" (float16 products in Triton, which moves 1 pixel in 10,000) or "highest" (float32). See
            docs/kernels.md.
        generator: Source of all randomness, on the device of the masks. None takes torch's default generator. From one
            seed, CPU, torch on a GPU and Triton draw different masks.
        device: Where to draw. None takes the device of `noise`, else of `generator`, else torch's default device.
        dtype: torch.bool or a floating dtype (0 and 1).

    Returns:
        Masks (n, 1, *size), True on `proportion` of the pixels in expectation.

    Raises:
        TypeError, ValueError: An argument has the wrong type or is out of range.
        RuntimeError: `backend="triton"` cannot be used here; the text says why.

    Convention:
        Mirrored borders carry more variance than the middle. For a proportion other than 0.5, the fraction of True
        pixels is therefore nearer to 0.5 at the borders. A field without variance (one pixel, or constant noise) gives
        all False for any proportion below 1. Rows are independent: if a method is named, row i of `noise` gives the
        same mask whatever the other rows are.

    Reference:
        French et al. 2019, section 3.4 and Listing 1. The listing as printed gives 1 - p where the text says p. Here
        it is p.

    Example:
        >>> masks = cow_masks(16, (256, 256), sigma=(8, 32))
        >>> masks.shape, masks.dtype
        (torch.Size([16, 1, 256, 256]), torch.bool)
    """
    n, size = arguments.positive_int("n", n), arguments.image_size(size)
    sigma_range, sigmas = arguments.values("sigma", sigma, arguments.POSITIVE, n)
    proportion_range, proportions = arguments.values("proportion", proportion, arguments.FRACTION, n)
    spacing_per_axis = arguments.spacing_per_axis(spacing, len(size))
    noise = arguments.noise(noise, (n, 1, *size))
    target, dtype = _draw_device(generator, device, noise), arguments.mask_dtype(dtype)
    arguments.choice("method", method, ("auto", "spectral", "direct", "coarse"))
    if method == "coarse" and noise is not None:
        raise ValueError('method="coarse" draws its own noise: for noise given take "spectral" or "direct"')
    if method == "coarse" and target.type != "cpu":
        raise ValueError(f'method="coarse" draws on the CPU, got device={str(target)!r}')
    arguments.choice("precision", precision, ("high", "highest"))
    arguments.choice("backend", backend, BACKENDS)
    if backend == "triton" and method not in ("auto", "spectral"):
        raise ValueError(f'backend="triton" has the spectral method only, got method={method!r}')
    method = "spectral" if backend == "triton" else method
    drawn = _draw.cow_masks(
        n,
        size,
        *numbers(*sigma_range, *proportion_range),
        sigmas,
        proportions,
        spacing_per_axis,
        noise,
        method,
        backend,
        precision,
        generator,
        target,
        apart(target),
    )
    return drawn.to(dtype)


def box_masks(
    n: int,
    size: Sequence[int],
    area: arguments.Values = 0.5,
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
        area: Fraction of the image that the boxes cover, in [0, 1]. A number, a range to draw from uniformly for each
            mask, or a CPU tensor (n,). Sides are rounded to pixels.
        aspect: Height over width in pixels, for two axes. None draws it: a box has height area^u and width area^(1 - u)
            as fractions of the image, u uniform in [0, 1]. Unless `clip`, a box of a given aspect that would not fit
            keeps its area and gives up its aspect.
        n_boxes: Boxes per mask, each of `area / n_boxes`. Boxes that overlap cover less than `area`. A box whose side
            rounds to 0 pixels is lost.
        clip: False places each box uniformly inside the image. True draws its centre uniformly in the image and cuts
            the box at the border, as Cutout and CutMix were first published. Such boxes cover less than `area`.
        generator: Source of all randomness, on the device of the masks. None takes torch's default generator.
        device: Where to draw. None takes the device of `generator`, else torch's default device.
        dtype: torch.bool or a floating dtype (0 and 1).

    Returns:
        Masks (n, 1, *size), True inside the union of the boxes.

    Raises:
        TypeError, ValueError: An argument has the wrong type or is out of range.

    Reference:
        French et al. 2019, section 3.3; there all four parameters of the box are random, as with a range of areas here.
        DeVries & Taylor 2017: `area=0.25, aspect=1, clip=True`.
        Yun et al. 2019: `area=(0, 1), aspect=height / width, clip=True`.

    Example:
        >>> masks = box_masks(16, (240, 320), area=(0.2, 0.4))
        >>> masks.shape, bool(masks.float().mean((1, 2, 3)).max() < 0.45)
        (torch.Size([16, 1, 240, 320]), True)
    """
    n, size = arguments.positive_int("n", n), arguments.image_size(size)
    area_range, areas = arguments.values("area", area, arguments.FRACTION, n)
    n_boxes, clip = arguments.positive_int("n_boxes", n_boxes), arguments.flag("clip", clip)
    if aspect is not None:
        aspect = arguments.number("aspect", aspect, arguments.POSITIVE)
        if len(size) != 2:
            raise ValueError(f"aspect is height over width: it needs a size of two axes, got {tuple(size)}")
    target, dtype = _draw_device(generator, device), arguments.mask_dtype(dtype)
    area_and_aspect = numbers(*area_range) if aspect is None else numbers(*area_range, aspect)
    drawn = _draw.box_masks(n, size, *area_and_aspect, areas, n_boxes, clip, generator, target, apart(target))
    return drawn.to(dtype)


def constant_masks(
    n: int, dims: int, alpha: float, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Draw blending masks (n, 1, *[1] * dims) that are constant over each image, of Beta(alpha, alpha); for MixUp."""
    target = _draw_device(generator, device)
    return _draw.constant_masks(n, dims, *numbers(alpha), generator, target, apart(target))


def random_rows(masks: Tensor, p: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw bool (n,), each True with probability p, for masks (n, 1, *size); for the transforms' `p`."""
    return _draw.random_rows(masks, *numbers(p), generator)


def _draw_device(generator: Any, device: Any, noise: Tensor | None = None) -> torch.device:
    if in_vmap():
        raise RuntimeError("torch.func.vmap would draw one mask for all: draw masks outside of it, and pass mask=")
    return arguments.draw_device(generator, device, noise)
