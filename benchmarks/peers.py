"""Other ways to the same masks: what each draws is Listing 1's, but for the border where a library has no such one.

All draw fresh noise and a sigma for each mask on every call, and wait for the device only where a library makes them.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import AbsentError, Method, attempt, first_line
from tests.reference import draw_cow_mask

PROPORTION = 0.5
TRUNCATE = 4.0  # sigmas at which the taps end, as in Listing 1
ON_HOST = "cannot be captured: sigma is drawn on the host"


@dataclass(frozen=True)
class MaskCell:
    """Which masks are drawn."""

    n: int = 64
    size: tuple[int, int] = (512, 512)
    sigma: tuple[float, float] = (4.0, 16.0)
    """Range, log-uniform, pixels."""
    dtype: torch.dtype = torch.bool

    def __str__(self) -> str:
        low, high = self.sigma
        size = "x".join(map(str, self.size))
        return f"{self.n} of {size}, sigma {low:g}-{high:g}, {str(self.dtype).removeprefix('torch.')}"

    @property
    def items(self) -> int:
        """Masks that one call draws."""
        return self.n

    @property
    def touched(self) -> int:
        """Bytes of what one call returns."""
        return self.n * math.prod(self.size) * self.dtype.itemsize


def mask_peers(cell: MaskCell, device: torch.device) -> dict[str, Method | str]:
    """Return every peer, each call of which draws masks (n, 1, *size); for one that cannot be run here, why."""
    makers: dict[str, Callable[[MaskCell, torch.device], Method]] = {
        "conv2d, grouped": _conv2d,
        "cuDNN, grouped": _cudnn,
        "kornia": _kornia,
        "torchvision": _torchvision,
        "cupyx": _cupyx,
        "FFT": _fft,
    }
    return {name: attempt(partial(make, cell, device)) for name, make in makers.items()}


def mix_peers(num_classes: int = 10) -> dict[str, Callable[[Tensor], object] | str]:
    """Return other libraries' CutMix: each takes images (B, C, H, W), and has labels besides; or why there is none."""

    def torchvision() -> Callable[[Tensor], object]:
        cutmix = _library("torchvision.transforms.v2").CutMix(num_classes=num_classes)
        return lambda images: cutmix(images, _labels(images, num_classes))

    def kornia() -> Callable[[Tensor], object]:
        cutmix = _library("kornia.augmentation").RandomCutMixV2(
            p=1.0, data_keys=["input", "class"], use_correct_lambda=True
        )
        return lambda images: cutmix(images, _labels(images, num_classes))

    return {"torchvision, CutMix": attempt(torchvision), "kornia, CutMix": attempt(kornia)}


def _labels(images: Tensor, num_classes: int) -> Tensor:
    return torch.arange(len(images), device=images.device) % num_classes


CONVOLUTIONS = ("conv2d, grouped", "cuDNN, grouped", "kornia", "torchvision", "cupyx")


def listing_1(cell: MaskCell, seed: int = 0) -> Method:
    """Return Listing 1 in SciPy, on the CPU, one mask after the other."""
    rng, half = np.random.default_rng(seed), (PROPORTION, PROPORTION)

    def draw() -> np.ndarray:
        return np.stack([draw_cow_mask(rng, cell.size, cell.sigma, half)[None] for _ in range(cell.n)])

    return Method(draw)


def _grouped(cell: MaskCell, device: torch.device, convolve: Callable[[Tensor, Tensor], Tensor]) -> Method:
    """Return two convolutions with a kernel for each mask, the masks being channels."""
    radius = _radius(cell.sigma[1])
    distance = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    rows, columns = (_mirrored(length, radius, device) for length in cell.size)

    def draw() -> Tensor:
        taps = torch.exp(-0.5 * (distance / _sigmas(cell, device)[:, None]) ** 2)
        taps = taps / taps.sum(1, keepdim=True)  # (n, 2 * radius + 1)
        field = torch.randn(1, cell.n, *cell.size, device=device)
        field = convolve(field.index_select(3, columns), taps[:, None, None, :])
        field = convolve(field.index_select(2, rows), taps[:, None, :, None])
        return _thresholded(field.transpose(0, 1), cell)

    return Method(draw)


def _conv2d(cell: MaskCell, device: torch.device) -> Method:
    return _grouped(cell, device, lambda field, taps: F.conv2d(field, taps, groups=cell.n))


def _cudnn(cell: MaskCell, device: torch.device) -> Method:
    """Return the same by cuDNN, which F.conv2d passes over where there are as many groups as channels."""
    if device.type != "cuda":
        raise AbsentError("needs CUDA")
    once, tf32 = [1, 1], torch.backends.cudnn.allow_tf32
    return _grouped(
        cell,
        device,
        lambda field, taps: torch.cudnn_convolution(
            field, taps, [0, 0], once, once, cell.n, benchmark=True, deterministic=False, allow_tf32=tf32
        ),
    )


def _kornia(cell: MaskCell, device: torch.device) -> Method:
    blur = _library("kornia.filters").gaussian_blur2d
    kernel = tuple(2 * min(_radius(cell.sigma[1]), length - 1) + 1 for length in cell.size)

    def draw() -> Tensor:
        sigma = _sigmas(cell, torch.device("cpu"))[:, None].expand(-1, 2)  # kornia checks it: there, without waiting
        return _thresholded(blur(torch.randn(cell.n, 1, *cell.size, device=device), kernel, sigma), cell)

    return Method(draw, no_graph=ON_HOST)


def _torchvision(cell: MaskCell, device: torch.device) -> Method:
    blur = _library("torchvision.transforms.v2.functional").gaussian_blur

    def blurred(noise: Tensor, sigma: float) -> Tensor:
        kernel = [2 * min(_radius(sigma), length - 1) + 1 for length in cell.size[::-1]]  # width first
        return blur(noise, kernel, [sigma, sigma])

    def draw() -> Tensor:
        # A call takes one sigma, a number: a loop over the masks is the only way to one each.
        noise = torch.randn(cell.n, 1, *cell.size, device=device)
        sigmas = _sigmas(cell, torch.device("cpu")).tolist()
        return _thresholded(torch.stack([blurred(*one) for one in zip(noise, sigmas, strict=True)]), cell)

    return Method(draw, no_graph=ON_HOST)


def _cupyx(cell: MaskCell, device: torch.device) -> Method:
    cupy, blur = _library("cupy"), _library("cupyx.scipy.ndimage").gaussian_filter
    if device.type != "cuda":
        raise AbsentError("needs CUDA")

    def blurred(sigmas: list[float]) -> Tensor:
        noise, field = (make(len(sigmas), *cell.size, device=device) for make in (torch.randn, torch.empty))
        source, target = cupy.from_dlpack(noise), cupy.from_dlpack(field)
        for row, sigma in enumerate(sigmas):
            # A kernel is compiled for every width of the taps, so they end at whole eights of pixels.
            radius = 8 * math.ceil(_radius(sigma) / 8)
            blur(source[row], sigma, output=target[row], truncate=radius / sigma)
        return field[:, None]

    def draw() -> Tensor:
        return _thresholded(blurred(_sigmas(cell, torch.device("cpu")).tolist()), cell)

    low, high = cell.sigma
    blurred(np.linspace(low, high, 1 + math.ceil(high - low)).tolist())  # compiles every width
    return Method(draw, no_graph=ON_HOST, own_memory=True)


def _fft(cell: MaskCell, device: torch.device) -> Method:
    """Return synthesis from a white spectrum, whose threshold needs no convolution but whose borders wrap around."""
    height, width = cell.size
    rows, columns = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)

    def draw() -> Tensor:
        scale = -2 * (math.pi * _sigmas(cell, device)[:, None]) ** 2
        gain = torch.exp(scale * rows**2)[:, :, None] * torch.exp(scale * columns**2)[:, None, :]
        noise = torch.randn(cell.n, height, width // 2 + 1, dtype=torch.complex64, device=device)
        return _thresholded(torch.fft.irfft2(noise.mul_(gain), s=cell.size)[:, None], cell)

    return Method(draw)


def _sigmas(cell: MaskCell, device: torch.device) -> Tensor:
    low, high = cell.sigma
    return low * torch.exp(torch.rand(cell.n, device=device) * math.log(high / low))


def _radius(sigma: float) -> int:
    return math.floor(TRUNCATE * sigma + 0.5)


def _mirrored(length: int, reach: int, device: torch.device) -> Tensor:
    """Return the pixels of an axis and `reach` more on either side: d c b a | a b c d | d c b a."""
    position = torch.arange(-reach, length + reach, device=device) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)


def _thresholded(field: Tensor, cell: MaskCell) -> Tensor:
    std, mean = torch.std_mean(field, dim=(-2, -1), keepdim=True, correction=0)
    return (field > mean + NormalDist().inv_cdf(1 - PROPORTION) * std).to(cell.dtype)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            raise AbsentError("not installed") from error
        raise AbsentError(f"cannot be imported: {first_line(error)}") from error
    except Exception as error:  # a library built for another torch raises all kinds
        raise AbsentError(f"cannot be imported: {first_line(error)}") from error
