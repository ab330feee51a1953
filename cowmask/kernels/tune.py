"""Time the tiles of `draw_kernel` on this card: `python -m cowmask.kernels.tune`, or `benchmarks.gpu --tune`.

Prints each choice of tiles that fits as it is timed, by number of pairs, and the fastest last. Compiling takes most of
the time: some seconds a choice. The fastest belong into `draw.TILES`; nothing is tuned while masks are drawn.
"""

import itertools
import math
from functools import partial

import torch
from triton.testing import do_bench

from cowmask.kernels import draw
from cowmask.kernels.prepare import Layout, Prepared, launch_prepare

_SIDE, _MASKS = 1024, 64
_CUTOFF = math.log(100)


def prepared_for(pairs: int, device: torch.device) -> Prepared:
    """Prepare masks whose smallest sigma takes all of `pairs` pairs of frequencies."""
    layout = Layout.of((1, _SIDE, _SIDE), (1, 2 * pairs, 2 * pairs), power_of_two=True)
    step = math.pi / _SIDE
    sigma = math.sqrt(2 * _CUTOFF) / (2 * pairs * step)
    seed = torch.zeros(1, dtype=torch.int64, device=device)
    values = (sigma, 4 * sigma, None), (0.5, 0.5, None)
    return launch_prepare(layout, torch.float16, _MASKS, 0, seed, *values, [step] * 3, _CUTOFF)


def main() -> None:
    """Time all choices that fit this card."""
    device = torch.device("cuda", torch.cuda.current_device())
    masks = torch.empty((_MASKS, 1, _SIDE, _SIDE), dtype=torch.uint8, device=device)
    for pairs in draw.TILES:
        prepared = prepared_for(pairs, device)
        times: dict[draw.Tiles, float] = {}
        for choice in itertools.product((32, 64), (32, 64, 128), (4, 8), (1, 2, 3)):
            tiles = draw.Tiles(*choice)
            if tiles.shared_memory(pairs) > draw.shared_memory(device):
                continue
            times[tiles] = 1e3 / _MASKS * do_bench(partial(draw.launch_draw, masks, prepared, tiles))
            print(f"{pairs} pairs, {tuple(tiles)}: {times[tiles]:.3f} us a mask", flush=True)
        fastest = min(times, key=times.__getitem__)
        print(f"{pairs} pairs, fastest: {tuple(fastest)}", flush=True)


if __name__ == "__main__":
    main()
