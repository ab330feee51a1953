"""How many pixels of a mask differ from Listing 1's on the same noise.

python -m tests.agreement [--kernel]    prints the tables of docs/agreement.md
"""

import argparse
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cowmask import cow_masks
from tests.reference import cow_mask

METHODS = ("spectral", "direct")  # take noise
DRAWING = (*METHODS, "coarse")
PRECISIONS = ("high", "highest")  # of the Triton kernel
PIXELS = 1_000_000  # at least, per setting


def some_noise(size: Sequence[int], seed: int = 0, pixels: int = PIXELS) -> NDArray[np.float64]:
    """Return white noise (n, 1, *size) of at least `pixels` pixels."""
    n = math.ceil(pixels / math.prod(size))
    return np.random.default_rng([seed, *size]).normal(size=(n, 1, *size))


def wrong_pixels(
    noise: NDArray[np.float64], sigma: float, proportion: float, method: str, device: str = "cpu", **options: Any
) -> NDArray[np.int64]:
    """Return the number of pixels of each mask that differ from the oracle's, (n,)."""
    n, _, *size = noise.shape
    same_noise = torch.from_numpy(noise).to(device)
    ours = cow_masks(n, size, sigma, proportion, noise=same_noise, method=method, **options).cpu().numpy()
    theirs = np.stack([cow_mask(one[0], sigma, proportion) for one in noise])[:, None]
    return (ours != theirs).reshape(n, -1).sum(1)


def assert_agrees(noise: NDArray[np.float64], sigma: float, proportion: float, method: str) -> None:
    """Check that 99.97% of all pixels agree, and that no mask has more than max(6 pixels, 0.2%) wrong.

    By the spectral method, one signal (one axis) in a hundred may have more. A single frequency makes up its field. If
    that coefficient is near 0, the field shows what the truncated taps leave of all other frequencies.
    """
    wrong = wrong_pixels(noise, sigma, proportion, method)
    assert wrong.sum() <= 0.0003 * noise.size, f"{wrong.sum() / noise.size:.3%} of the pixels differ"
    bad = wrong > max(6, 0.002 * math.prod(noise.shape[2:]))
    allowed = 0.01 if noise.ndim == 3 and method == "spectral" else 0
    assert bad.mean() <= allowed, f"{bad.sum()} of {len(bad)} masks differ, one by {wrong.max()} pixels"


def main() -> None:
    """Print how many pixels in a million differ, and the worst mask, by method or precision, size and sigma."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="store_true", help="the Triton kernel by its precisions, on DEVICE")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    columns: dict[str, dict[str, str]] = {method.capitalize(): {"method": method} for method in METHODS}
    if arguments.kernel:
        kernel = {"method": "spectral", "backend": "triton", "device": arguments.device}
        columns = {f'"{precision}"': kernel | {"precision": precision} for precision in PRECISIONS}
    print("| Size | Sigma, pixels |", *(f"{name}: of a million | worst mask |" for name in columns))
    print("|---|---|" + "---|---|" * len(columns))
    sizes = ((4096,), (256, 192), (333, 512), (64, 48, 56))
    for size in sizes[arguments.kernel :]:  # signals would take the interpreter hours
        noise = some_noise(size, pixels=2 * PIXELS)
        for sigma in (1, 2, 4, 8, 16, min(size) / 2):
            cells = []
            for options in columns.values():
                wrong = np.concatenate([wrong_pixels(noise, sigma, proportion, **options) for proportion in (0.5, 0.2)])
                share = wrong.mean() / math.prod(size)
                cells += [f"{1e6 * share:.1f}", f"{wrong.max() / math.prod(size):.3%}"]
            print(f"| {'x'.join(map(str, size))} | {sigma:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
