"""Many masks of each method against as many of Listing 1's, drawn independently: every statistic by a two-sample test.

python -m tests.census --masks 1000000    (make census) prints the smallest p-value of each setting and method
TRITON_INTERPRET=1 python -m tests.census --triton --masks 20000    the same of the kernels, interpreted without a GPU

A run makes some 3,000 comparisons. It fails if one has a p-value below 0.001 divided by their number. So one run in
1,000 at most fails by chance (Bonferroni's bound, which needs no independence).
"""

import argparse
import sys
import time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from cowmask import cow_masks
from tests.agreement import DRAWING
from tests.distribution import Bools, Features, features, p_values
from tests.reference import draw_cow_mask

FALSE_ALARMS = 1e-3  # a run
AT_ONCE = 1000  # masks
RUNS = (1, 2, 3, 5, 8, 13, 21, 34)  # pixels


class Setting(NamedTuple):
    """What masks are drawn."""

    size: tuple[int, ...]
    sigma: tuple[float, float]  # pixels
    proportion: tuple[float, float]

    def methods(self, triton: bool = False) -> tuple[str, ...]:
        """Return the methods that draw such masks. The kernels know one."""
        if triton:
            return ("spectral",)
        coarse = self.sigma[0] >= 1 and self.sigma[1] <= min(self.size) / 2
        return tuple(method for method in DRAWING if coarse or method != "coarse")


SETTINGS = (
    Setting((64, 64), (4, 16), (0.5, 0.5)),  # the default
    Setting((64, 64), (2, 2), (0.2, 0.2)),
    Setting((64, 64), (8, 8), (0.8, 0.8)),
    Setting((64, 64), (1.5, 32), (0.0, 1.0)),
    Setting((64, 64), (0.5, 0.9), (0.4, 0.4)),  # below a pixel
    Setting((48, 80), (3, 12), (0.3, 0.6)),
    Setting((97,), (2, 8), (0.35, 0.35)),
    Setting((12, 16, 20), (1, 4), (0.6, 0.6)),
)


class Sample:
    """The statistics of masks, added in parts."""

    def __init__(self) -> None:
        self.parts: list[Features] = []
        self.n = 0
        self.true_at: NDArray[np.int64] | int = 0  # masks that are True at each pixel

    def add(self, masks: Bools) -> None:
        self.parts.append(features(masks) | runs(masks))
        self.n += len(masks)
        self.true_at = self.true_at + masks.sum(0)

    def features(self) -> Features:
        return {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}


def runs(masks: Bools) -> Features:
    """Return how many runs of equal pixels along each axis are at least so many pixels long, for each mask."""
    found = {}
    for axis in range(1, masks.ndim):
        lines = np.moveaxis(masks, axis, -1)
        changes = np.cumsum(lines[..., 1:] != lines[..., :-1], axis=-1, dtype=np.int16)
        for length in (length for length in RUNS if length + 1 < lines.shape[-1]):
            # A run begins after a change, and lasts `length` pixels if there is none in the next `length - 1` places.
            last = changes[..., length - 1 :]
            begins = np.diff(changes, axis=-1, prepend=0)[..., : last.shape[-1]] > 0
            lasts = begins & (last == changes[..., : last.shape[-1]])
            found[f"runs of {length} on axis {axis}"] = lasts.reshape(len(masks), -1).sum(1).astype(float)
    return found


def comparisons(ours: Sample, theirs: Sample) -> dict[str, float]:
    """Return one p-value for each statistic."""
    mine, others = ours.features(), theirs.features()
    values = p_values(mine, others)  # means, and the variance of the area
    values["distribution of the area"] = float(stats.ks_2samp(mine["area"], others["area"], method="asymp").pvalue)
    # The whole map of marginal probabilities: the pixel that differs most, times their number.
    share = (ours.true_at + theirs.true_at) / (ours.n + theirs.n)
    error = np.sqrt(share * (1 - share) * (1 / ours.n + 1 / theirs.n))
    z = np.abs(ours.true_at / ours.n - theirs.true_at / theirs.n) / error
    values["the pixel that differs most"] = float(np.minimum(1, z.size * 2 * stats.norm.sf(z.max())))
    return values


def drawn(setting: Setting, method: str, n: int, seed: int, triton: bool = False) -> Sample:
    """Draw n of our masks."""
    device = torch.device("cuda" if triton and torch.cuda.is_available() else "cpu")
    sample, generator = Sample(), torch.Generator(device).manual_seed(seed)
    backend = "triton" if triton else "auto"
    for start in range(0, n, AT_ONCE):
        at_once = min(AT_ONCE, n - start)
        masks = cow_masks(at_once, *setting, method=method, backend=backend, generator=generator, device=device)
        sample.add(masks[:, 0].cpu().numpy())
    return sample


def listing_1(setting: Setting, n: int, seed: int) -> Sample:
    """Draw n of Listing 1's masks."""
    sample, rng = Sample(), np.random.default_rng([seed, *setting.size])
    for start in range(0, n, AT_ONCE):
        sample.add(np.stack([draw_cow_mask(rng, *setting) for _ in range(min(AT_ONCE, n - start))]))
    return sample


def main() -> None:
    """Print a table, and exit with status 1 if a comparison fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=20_000, help="of ours, over all settings and methods")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--triton", action="store_true", help="draw by the Triton kernels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells = [(setting, method) for setting in SETTINGS for method in setting.methods(arguments.triton)]
    n = -(-arguments.masks // len(cells))
    start = time.perf_counter()
    found: dict[tuple[Setting, str, str], float] = {}
    for setting in SETTINGS:
        theirs = listing_1(setting, n, arguments.seed)
        for method in setting.methods(arguments.triton):
            values = comparisons(drawn(setting, method, n, arguments.seed, arguments.triton), theirs)
            found |= {(setting, method, name): value for name, value in values.items()}
            least = min(values, key=values.__getitem__)
            print(f"{setting} {method}: {len(values)} p-values, the least {values[least]:.2g} ({least})", flush=True)
    level = FALSE_ALARMS / len(found)
    failed = [f"{name}: p = {value:.2g}" for name, value in found.items() if not value > level]  # NaN fails
    minutes = (time.perf_counter() - start) / 60
    print(
        f"{n * len(cells):,} masks against {n * len(SETTINGS):,} of Listing 1 in {minutes:.0f} minutes: "
        f"{len(found)} comparisons, {len(failed)} below {level:.1g}",
        *failed,
        sep="\n",
    )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
