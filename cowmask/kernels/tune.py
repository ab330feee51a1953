"""Time the tiles of `draw_kernel` on this card: `python -m cowmask.kernels.tune`, or `benchmarks.gpu --tune`.

Prints, for each number of pairs, the tiles that fit, fastest first. The fastest belong into `draw.TILES`; nothing is
tuned while masks are drawn.
"""

import itertools
import math

import torch
from triton.testing import do_bench

from cowmask.kernels import draw
from cowmask.kernels.prepare import Layout, launch_prepare

_SIDE, _MASKS = 1024, 64
_CUTOFF = math.log(100)


def microseconds(pairs: int, device: torch.device) -> dict[draw.Tiles, float]:
    """Return the microseconds a mask takes, for tiles that fit the card."""
    layout = Layout.of((1, _SIDE, _SIDE), (1, 2 * pairs, 2 * pairs), power_of_two=True)
    step = math.pi / _SIDE
    lowest = math.sqrt(2 * _CUTOFF) / (2 * pairs * step)  # the sigma that needs all pairs
    seed = torch.zeros(1, dtype=torch.int64, device=device)
    sigma, proportion = (lowest, 4 * lowest, None), (0.5, 0.5, None)
    prepared = launch_prepare(layout, torch.float16, _MASKS, 0, seed, sigma, proportion, [step] * 3, _CUTOFF)
    masks = torch.empty((_MASKS, 1, _SIDE, _SIDE), dtype=torch.uint8, device=device)
    found = {}
    for choice in itertools.product((16, 32, 64), (32, 64, 128), (4, 8), (1, 2, 3)):
        tiles = draw.Tiles(*choice)
        if tiles.shared_memory(pairs) <= draw.shared_memory(device):
            found[tiles] = 1e3 / _MASKS * do_bench(lambda tiles=tiles: draw.launch_draw(masks, prepared, tiles))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def main() -> None:
    """Print the three fastest tiles for each number of pairs."""
    for pairs in draw.TILES:
        times = microseconds(pairs, torch.device("cuda", torch.cuda.current_device()))
        fastest = ", ".join(f"{tuple(tiles)} {time:.3f} us" for tiles, time in itertools.islice(times.items(), 3))
        print(f"{pairs} pairs: {fastest}", flush=True)


if __name__ == "__main__":
    main()
