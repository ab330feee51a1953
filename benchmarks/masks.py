"""Masks per second: cowmask against Listing 1.

python -m benchmarks.masks [--help]
"""

from dataclasses import asdict, dataclass

import torch
import tyro

from benchmarks.peers import MaskCell, listing_1
from benchmarks.record import environment, save
from benchmarks.timing import Method, Plan, measure
from cowmask import cow_masks


@dataclass(frozen=True)
class Options:
    """What to draw, and how often."""

    n: int = 16
    """Masks in a batch."""
    size: tuple[int, int] = (512, 512)
    """Height and width, pixels."""
    sigma: tuple[float, float] = (4.0, 16.0)
    """Range of sigma, pixels."""
    threads: int = 2
    """CPU threads of torch; Listing 1 uses one."""
    rounds: int = 15
    """Interleaved repeats."""
    save: str | None = None
    """Name of this machine: writes benchmarks/results/masks--NAME.json."""


def methods(options: Options) -> dict[str, Method]:
    """Return what is compared: every call draws one batch of bool masks."""

    def ours(method: str) -> Method:
        return Method(lambda: cow_masks(options.n, options.size, options.sigma, method=method, device="cpu"))

    cell = MaskCell(options.n, options.size, options.sigma)
    return {"listing 1": listing_1(cell), "direct": ours("direct"), "spectral": ours("spectral")}


def main(options: Options) -> None:
    """Time the methods and print milliseconds per mask."""
    torch.set_num_threads(options.threads)
    results = measure(methods(options), torch.device("cpu"), Plan(options.rounds))
    quartiles = {name: [at / options.n * 1e3 for at in result.seconds] for name, result in results.items()}
    baseline = quartiles["listing 1"][1]
    height, width = options.size
    low, high = options.sigma
    print(f"{options.n} masks of {height}x{width}, sigma {low:g}-{high:g}, {options.threads} threads")
    print(f"{'method':<12} {'ms per mask':>12} {'quartiles':>17} {'ratio':>7}")
    for name, (first, median, third) in quartiles.items():
        print(f"{name:<12} {median:>12.3f} {first:>8.3f} {third:>8.3f} {baseline / median:>6.1f}x")
    if options.save is not None:
        result = {"options": asdict(options), "environment": environment()}
        times = {name: [round(at, 4) for at in values] for name, values in quartiles.items()}
        print(f"Written: {save('masks', options.save, result | {'ms per mask, quartiles': times})}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
