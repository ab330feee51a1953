"""Other implementations of Listing 1 to compare with.

They differ only at the border, where a library lacks scipy's mode. Every call draws fresh noise and one sigma a mask,
and waits for the device only if a library forces it to.
"""

import importlib
import math
from collections.abc import Callable
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import MaskCase
from benchmarks.timing import AbsentError, Candidate, attempt, first_line
from tests.reference import draw_cow_mask

PROPORTION = 0.5
TRUNCATE = 4.0  # the taps end at so many sigmas, as in Listing 1
ON_HOST = "cannot be captured: sigma is drawn on the host"
CONVOLUTIONS = ("conv2d, grouped", "cuDNN, grouped", "kornia", "torchvision", "cupyx")


def mask_rivals(case: MaskCase, device: torch.device) -> dict[str, Candidate | str]:
    """Return all rivals; each call draws masks (n, 1, *size). A str says why a rival cannot run here."""
    makers: dict[str, Callable[[MaskCase, torch.device], Candidate]] = {
        "conv2d, grouped": _conv2d,
        "cuDNN, grouped": _cudnn,
        "kornia": _kornia,
        "torchvision": _torchvision,
        "cupyx": _cupyx,
        "FFT": _fft,
    }
    return {name: attempt(partial(make, case, device)) for name, make in makers.items()}


def mix_rivals(num_classes: int = 10) -> dict[str, Callable[[Tensor], object] | str]:
    """Return other libraries' CutMix for images (B, C, H, W). A str says why one cannot run here."""

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


def listing_1(case: MaskCase, seed: int = 0) -> Candidate:
    """Return Listing 1 in SciPy, on the CPU, one mask at a time."""
    rng, half = np.random.default_rng(seed), (PROPORTION, PROPORTION)

    def draw() -> np.ndarray:
        return np.stack([draw_cow_mask(rng, case.size, case.sigma, half)[None] for _ in range(case.n)])

    return Candidate(draw)


def _grouped(case: MaskCase, device: torch.device, convolve: Callable[[Tensor, Tensor], Tensor]) -> Candidate:
    """Return two convolutions, one an axis; each mask is a channel with its own taps."""
    radius = _radius(case.sigma[1])
    distance = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    rows, columns = (_mirrored(length, radius, device) for length in case.size)

    def draw() -> Tensor:
        taps = torch.exp(-0.5 * (distance / _sigmas(case, device)[:, None]) ** 2)
        taps = taps / taps.sum(1, keepdim=True)  # (n, 2 * radius + 1)
        field = torch.randn(1, case.n, *case.size, device=device)
        field = convolve(field.index_select(3, columns), taps[:, None, None, :])
        field = convolve(field.index_select(2, rows), taps[:, None, :, None])
        return _thresholded(field.transpose(0, 1), case)

    return Candidate(draw)


def _conv2d(case: MaskCase, device: torch.device) -> Candidate:
    return _grouped(case, device, lambda field, taps: F.conv2d(field, taps, groups=case.n))


def _cudnn(case: MaskCase, device: torch.device) -> Candidate:
    """Return grouped convolution by cuDNN, which F.conv2d does not choose if every channel is a group."""
    if device.type != "cuda":
        raise AbsentError("needs CUDA")
    once, tf32 = [1, 1], torch.backends.cudnn.allow_tf32
    return _grouped(
        case,
        device,
        lambda field, taps: torch.cudnn_convolution(
            field, taps, [0, 0], once, once, case.n, benchmark=True, deterministic=False, allow_tf32=tf32
        ),
    )


def _kornia(case: MaskCase, device: torch.device) -> Candidate:
    blur = _library("kornia.filters").gaussian_blur2d
    kernel = tuple(2 * min(_radius(case.sigma[1]), length - 1) + 1 for length in case.size)

    def draw() -> Tensor:
        # On the host, where kornia can check sigma without waiting for the device.
        sigma = _sigmas(case, torch.device("cpu"))[:, None].expand(-1, 2)
        return _thresholded(blur(torch.randn(case.n, 1, *case.size, device=device), kernel, sigma), case)

    return Candidate(draw, no_graph=ON_HOST)


def _torchvision(case: MaskCase, device: torch.device) -> Candidate:
    blur = _library("torchvision.transforms.v2.functional").gaussian_blur

    def blurred(noise: Tensor, sigma: float) -> Tensor:
        kernel = [2 * min(_radius(sigma), length - 1) + 1 for length in case.size[::-1]]  # width first
        return blur(noise, kernel, [sigma, sigma])

    def draw() -> Tensor:
        # A call takes a single sigma, hence the loop over the masks.
        noise = torch.randn(case.n, 1, *case.size, device=device)
        sigmas = _sigmas(case, torch.device("cpu")).tolist()
        return _thresholded(torch.stack([blurred(*one) for one in zip(noise, sigmas, strict=True)]), case)

    return Candidate(draw, no_graph=ON_HOST)


def _cupyx(case: MaskCase, device: torch.device) -> Candidate:
    cupy, blur = _library("cupy"), _library("cupyx.scipy.ndimage").gaussian_filter
    if device.type != "cuda":
        raise AbsentError("needs CUDA")

    def blurred(sigmas: list[float]) -> Tensor:
        noise, field = (make(len(sigmas), *case.size, device=device) for make in (torch.randn, torch.empty))
        source, target = cupy.from_dlpack(noise), cupy.from_dlpack(field)
        for row, sigma in enumerate(sigmas):
            # CuPy compiles a kernel for every radius: round up to a multiple of 8 pixels.
            radius = 8 * math.ceil(_radius(sigma) / 8)
            blur(source[row], sigma, output=target[row], truncate=radius / sigma)
        return field[:, None]

    def draw() -> Tensor:
        return _thresholded(blurred(_sigmas(case, torch.device("cpu")).tolist()), case)

    low, high = case.sigma
    blurred(np.linspace(low, high, 1 + math.ceil(high - low)).tolist())  # compiles all kernels
    return Candidate(draw, no_graph=ON_HOST, own_memory=True)


def _fft(case: MaskCase, device: torch.device) -> Candidate:
    """Return synthesis from a white spectrum: no convolution, but the borders wrap around."""
    height, width = case.size
    rows, columns = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)

    def draw() -> Tensor:
        scale = -2 * (math.pi * _sigmas(case, device)[:, None]) ** 2
        gain = torch.exp(scale * rows**2)[:, :, None] * torch.exp(scale * columns**2)[:, None, :]
        noise = torch.randn(case.n, height, width // 2 + 1, dtype=torch.complex64, device=device)
        return _thresholded(torch.fft.irfft2(noise.mul_(gain), s=case.size)[:, None], case)

    return Candidate(draw)


def _sigmas(case: MaskCase, device: torch.device) -> Tensor:
    low, high = case.sigma
    return low * torch.exp(torch.rand(case.n, device=device) * math.log(high / low))


def _radius(sigma: float) -> int:
    return math.floor(TRUNCATE * sigma + 0.5)


def _mirrored(length: int, reach: int, device: torch.device) -> Tensor:
    """Return the indices of an axis with `reach` mirrored pixels on either side: d c b a | a b c d | d c b a."""
    position = torch.arange(-reach, length + reach, device=device) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)


def _thresholded(field: Tensor, case: MaskCase) -> Tensor:
    std, mean = torch.std_mean(field, dim=(-2, -1), keepdim=True, correction=0)
    return (field > mean + NormalDist().inv_cdf(1 - PROPORTION) * std).to(case.dtype)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            raise AbsentError("not installed") from error
        raise AbsentError(f"cannot be imported: {first_line(error)}") from error
    except Exception as error:  # a library built for another torch may raise anything
        raise AbsentError(f"cannot be imported: {first_line(error)}") from error
