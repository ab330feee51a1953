"""Draw masks: the only place that consumes randomness.

French et al. 2019, "Semi-supervised semantic segmentation needs strong, high-dimensional perturbations" (cow masks);
DeVries & Taylor 2017 (Cutout) and Yun et al. 2019 (CutMix) for boxes; Zhang et al. 2018 (mixup) for constant masks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cowmask import _checks, _draw
from cowmask._backends import BACKENDS


def cow_masks(
    n: int,
    size: Sequence[int],
    sigma: _checks.Values = (4, 16),
    proportion: _checks.Values = 0.5,
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
        sigma: Standard deviation of the blur, in pixels, from 0.001 to 10,000: a number, a range to draw from
            log-uniformly for each mask, or a CPU tensor (n,). It sets the size of the features. The default is the
            paper's for 480x360.
        proportion: Expected fraction of True pixels, in [0, 1]: a number, a range to draw from uniformly for each
            mask, or a CPU tensor (n,). 0 and 1 give masks that are all False and all True.
        spacing: Length of a pixel along each axis; sigma is then in units of it. For anisotropic voxels.
        noise: White noise (n, 1, *size), floating, in place of drawn noise, so that a mask can be replayed. It is read
            in float32, and must be finite.
        method: "direct" blurs noise as Listing 1 does. "spectral" computes the same in the blur's own basis, the
            DCT-II, from far fewer random numbers. "coarse", on the CPU, draws noise only every sigma pixels and blurs
            that to pixels; it takes no `noise`, and a sigma from 1 pixel to half of each axis. "auto" chooses by
            number, size and sigma which should be fastest: of noise drawn on a CPU, coarse for large images and
            spectral for small ones; otherwise spectral, but direct for small sigmas in large images. A seed gives
            other masks with another method; a given noise, the same but for 3 pixels in 10,000.
        backend: "torch", or "triton": the spectral method with its last product and the threshold in one kernel, so
            that the field is never in memory: beside the masks and a given noise it needs at most 64 MB, or what one
            mask needs, for which large batches go in parts. "auto" takes Triton on a GPU where it works.
        precision: Of the products, at least. "highest" is float32. "high" lets Triton round what it multiplies to 11
            bits (float16; it adds in float32), which misplaces 1 more pixel in 10,000; torch multiplies in float32
            unless it is set to do otherwise (`torch.set_float32_matmul_precision`).
        generator: Source of all randomness, on the device of the masks; torch's default generator without it.
        device: Where to draw; by default the device of `noise`, of `generator`, or torch's default device.
        dtype: torch.bool or a floating dtype (0 and 1).

    Returns:
        Masks (n, 1, *size), True on `proportion` of the pixels in expectation.

    Raises:
        TypeError, ValueError: An argument is of the wrong type or out of range.
        RuntimeError: `backend="triton"` cannot be used here; the text says why.

    Convention:
        Borders mirror the noise, so they carry more variance than the middle: for a proportion other than 0.5, the
        fraction of True pixels is nearer to 0.5 there. A field without variance (one pixel) is all False below 1.
        Rows are independent; with a method named, row i of `noise` gives the same mask whatever the other rows are.

    Reference:
        French et al. 2019, section 3.4 and Listing 1. The listing as printed gives 1 - p where the text says p;
        here it is p.

    Example:
        >>> masks = cow_masks(16, (256, 256), sigma=(8, 32))
        >>> masks.shape, masks.dtype
        (torch.Size([16, 1, 256, 256]), torch.bool)
    """
    n, size = _checks.count("n", n), _checks.image_size(size)
    sigmas = _checks.values("sigma", sigma, _checks.POSITIVE, n)
    proportions = _checks.values("proportion", proportion, _checks.FRACTION, n)
    steps = _checks.spacing(spacing, len(size))
    noise = _checks.noise(noise, (n, 1, *size))
    target, dtype = _checks.draw_device(generator, device, noise), _checks.mask_dtype(dtype)
    _checks.choice("method", method, ("auto", "spectral", "direct", "coarse"))
    if method == "coarse" and noise is not None:
        raise ValueError('method="coarse" draws its own noise: for noise given take "spectral" or "direct"')
    if method == "coarse" and target.type != "cpu":
        raise ValueError(f'method="coarse" draws on the CPU, got device={str(target)!r}')
    _checks.choice("precision", precision, ("high", "highest"))
    _checks.choice("backend", backend, BACKENDS)
    if backend == "triton" and method not in ("auto", "spectral"):
        raise ValueError(f'backend="triton" has the spectral method only, got method={method!r}')
    method = "spectral" if backend == "triton" else method
    values = (*sigmas, *proportions, steps, noise)
    return _draw.cow_masks(n, size, *values, method, backend, precision, generator, target).to(dtype)


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
        n_boxes: Boxes a mask, each of `area / n_boxes`; where they overlap, they cover less than `area`. Sides that
            round to no pixel leave no box.
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
    n, size = _checks.count("n", n), _checks.image_size(size)
    areas = _checks.values("area", area, _checks.FRACTION, n)
    n_boxes, clip = _checks.count("n_boxes", n_boxes), _checks.flag("clip", clip)
    if aspect is not None:
        aspect = _checks.number("aspect", aspect, _checks.POSITIVE)
        if len(size) != 2:
            raise ValueError(f"aspect is height over width: it needs a size of two axes, got {tuple(size)}")
    target, dtype = _checks.draw_device(generator, device), _checks.mask_dtype(dtype)
    return _draw.box_masks(n, size, *areas, aspect, n_boxes, clip, generator, target).to(dtype)


@torch.no_grad()
def constant_masks(
    n: int, dims: int, alpha: float, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Draw blending masks (n, 1, *[1] * dims) that are constant over each image, of Beta(alpha, alpha); for MixUp."""
    return _draw.constant_masks(n, dims, alpha, generator, _checks.draw_device(generator, device))
