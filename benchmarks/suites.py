"""The suites that run on any device: masks against other ways to them, mixing against torch.where and a copy."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from benchmarks.peers import MaskCell, mask_peers
from benchmarks.timing import Method, Plan, Result, attempt, measure, rotation
from cowmask import CowMix, cow_masks, erase, mix


@dataclass(frozen=True)
class MixCell:
    """What is mixed: images of three channels, by bool masks of the default sigma."""

    batch: int = 16
    size: tuple[int, int] = (512, 512)
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        layout = ", channels last" if self.channels_last else ""
        return f"{self.batch}x3x{size}, {str(self.dtype).removeprefix('torch.')}{layout}"

    @property
    def items(self) -> int:
        """Times are those of a call."""
        return 1

    @property
    def pixels(self) -> int:
        """Of the masks, a byte each."""
        return self.batch * math.prod(self.size)

    @property
    def touched(self) -> int:
        """Bytes of two batches, their mask and the output."""
        return 3 * self.batch_bytes + self.pixels

    @property
    def batch_bytes(self) -> int:
        """Of one batch of images."""
        return 3 * self.pixels * self.dtype.itemsize

    @property
    def moved(self) -> dict[str, float]:
        """Bytes that each method has to move at least: of two batches that it selects from, it needs one."""
        images, mask = self.batch_bytes, self.pixels
        return {
            "copy": 2 * images,
            "torch.where": 3 * images + mask,  # it reads both
            "torch.where, out=": 3 * images + mask,
            "mix": 2 * images + mask,
            "CowMix, mask=": 2 * images + mask,
            "CowMix": 2 * images + 2 * mask,
            "torch.where, 0": 2 * images + mask,
            "erase": 1.5 * images + mask,  # half of the image is kept
        }


Methods = Mapping[str, Method | str]
C = TypeVar("C", MaskCell, MixCell)
C_co = TypeVar("C_co", bound=MaskCell | MixCell, covariant=True)


@dataclass(frozen=True)
class Row(Generic[C_co]):
    """The results of one cell."""

    cell: C_co
    results: Mapping[str, Result]
    problem: str = ""
    """Why there are none."""


class Buffers(NamedTuple):
    """One set of inputs, and an output."""

    a: Tensor
    b: Tensor
    mask: Tensor
    out: Tensor


def mask_cells(smoke: bool = False) -> list[MaskCell]:
    """Return the main cell, then one axis at a time around it."""
    main = MaskCell(3, (32, 48), (2.0, 4.0)) if smoke else MaskCell()
    batches = (1,) if smoke else (256, 1, 4, 16)
    sides = (24,) if smoke else (128, 256, 1024, 2048)
    sigmas = ((4.0, 8.0),) if smoke else ((1.0, 4.0), (8.0, 32.0))
    return [
        main,
        *(replace(main, n=n) for n in batches),
        *(replace(main, size=(side, side)) for side in sides),
        *(replace(main, sigma=sigma) for sigma in sigmas),
        replace(main, dtype=torch.float32),
    ]


def mix_cells(smoke: bool = False) -> list[MixCell]:
    """Return the main cell, then one axis at a time around it."""
    main = MixCell(4, (24, 32)) if smoke else MixCell()
    return [
        main,
        *(replace(main, batch=batch) for batch in ((2,) if smoke else (4, 64))),
        *(replace(main, dtype=dtype) for dtype in (torch.uint8, torch.bfloat16)),
        replace(main, channels_last=True),
    ]


def mask_methods(cell: MaskCell, device: torch.device, _: int, backend: str) -> Methods:
    """Return cowmask in its variants, the first being what a user gets, and the peers."""

    def ours(**options: Any) -> Method:
        return Method(lambda: cow_masks(cell.n, cell.size, cell.sigma, device=device, dtype=cell.dtype, **options))

    return {
        "cowmask": ours(backend=backend),
        "cowmask, torch": ours(backend="torch"),
        "cowmask, highest": ours(backend=backend, precision="highest"),
        "cowmask, direct": ours(method="direct"),
    } | mask_peers(cell, device)


def mix_methods(cell: MixCell, device: torch.device, sets: int, backend: str) -> Methods:
    """Return what mixes; successive calls take their inputs from `sets` sets in turn."""
    layout = torch.channels_last if cell.channels_last else torch.contiguous_format

    def batch() -> Tensor:
        images = torch.rand(cell.batch, 3, *cell.size, device=device)
        images = images if cell.dtype.is_floating_point else images * 256
        return images.to(cell.dtype).contiguous(memory_format=layout)

    buffers = [Buffers(batch(), batch(), cow_masks(cell.batch, cell.size, device=device), batch()) for _ in range(sets)]
    cowmix = CowMix()

    def over(call: Callable[[Buffers], object]) -> Method:
        turns = cycle(buffers)
        return Method(lambda: call(next(turns)))

    return {
        "copy": over(lambda x: x.a.clone()),
        "torch.where": over(lambda x: torch.where(x.mask, x.b, x.a)),
        "torch.where, out=": over(lambda x: torch.where(x.mask, x.b, x.a, out=x.out)),
        "mix": over(lambda x: mix(x.a, x.b, x.mask, backend=backend)),
        "CowMix, mask=": over(lambda x: cowmix(x.a, mask=x.mask)),
        "CowMix": over(lambda x: cowmix(x.a)),
        "torch.where, 0": over(lambda x: torch.where(x.mask, x.a, 0)),
        "erase": over(lambda x: erase(x.a, x.mask, backend=backend)),
    }


def run(
    cells: Sequence[C],
    methods: Callable[[C, torch.device, int, str], Methods],
    device: torch.device,
    rounds: int,
    deadline: float,
    backend: str = "auto",
    slowest: float = math.inf,
) -> list[Row[C]]:
    """Measure all cells, each in its part of the time left to `deadline` (of time.monotonic()).

    A method whose first call takes more than `slowest` seconds is not called again.
    """
    rows: list[Row[C]] = []
    for index, cell in enumerate(cells):
        left = deadline - time.monotonic()
        if left <= 0:
            rows.append(Row(cell, {}, "out of time"))
            continue
        print(f"  {cell}", file=sys.stderr)
        sets = rotation(cell.touched, device)
        found = attempt(partial(methods, cell, device, sets, backend))
        if isinstance(found, str):
            rows.append(Row(cell, {}, found))
            continue
        plan = Plan(rounds, left / (len(cells) - index), sets, slowest)
        rows.append(Row(cell, measure(found, device, plan)))
        del found  # the buffers of the next cell have their place
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def record(rows: Sequence[Row[MaskCell | MixCell]]) -> list[dict[str, Any]]:
    """Return the results as they are written: times in microseconds of an item, or why there are none."""
    return [
        {
            "cell": {
                name: str(value) if isinstance(value, torch.dtype) else value
                for name, value in asdict(row.cell).items()
            }
        }
        | ({"bytes moved at least": row.cell.moved} if isinstance(row.cell, MixCell) else {})
        | ({"problem": row.problem} if row.problem else {})
        | {"methods": {name: written(result, row.cell.items) for name, result in row.results.items()}}
        for row in rows
    ]


def written(result: Result, items: int = 1) -> dict[str, Any]:
    """Return one result as it is written."""
    times = {
        f"{name}, microseconds": values if isinstance(values, str) else [round(at / items * 1e6, 4) for at in values]
        for name, values in (("eager", result.eager), ("graph", result.graph))
    }
    counts = {"regions": result.regions, "calls in a region": result.calls}
    return times | {"peak memory, bytes": result.peak} | counts | ({"one cold call": True} if result.cold else {})
