"""What the kernels need of a GPU: read off code that is compiled for one, on a machine without one.

python -m tests.resources [CARD ...]    prints the tables of docs/kernels.md; must not run under TRITON_INTERPRET
"""

import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from cowmask import _backends, cow_masks, erase, mix
from cowmask._engines import fused
from cowmask.kernels import boxes as boxes_module
from cowmask.kernels import constants as constants_module
from cowmask.kernels import draw as draw_module
from cowmask.kernels import mix as mix_module
from cowmask.kernels import prepare as prepare_module
from cowmask.mixing import mix_batch

SECTOR = 32  # bytes that are read at once
SHARED_RESERVED = 1024  # bytes, by the system, for each program
REGISTERS = 65_536  # of a multiprocessor


class Card(NamedTuple):
    """A GPU, and what a multiprocessor has (CUDA C++ Programming Guide, table of technical specifications)."""

    target: GPUTarget
    shared: int  # bytes
    shared_of_program: int  # bytes, at most
    warps: int = 48
    programs: int = 24


CARDS = {
    "sm_80": Card(GPUTarget("cuda", 80, 32), 164 * 1024, 163 * 1024, 64, 32),  # A100
    "sm_86": Card(GPUTarget("cuda", 86, 32), 100 * 1024, 99 * 1024, 48, 16),  # RTX 30
    "sm_89": Card(GPUTarget("cuda", 89, 32), 100 * 1024, 99 * 1024),  # RTX 40
    "sm_90": Card(GPUTarget("cuda", 90, 32), 228 * 1024, 227 * 1024, 64, 32),  # H100
    "sm_120": Card(GPUTarget("cuda", 120, 32), 100 * 1024, 99 * 1024),  # RTX 50
    # Of AMD's, Triton tells no registers.
    "gfx90a": Card(GPUTarget("hip", "gfx90a", 64), 64 * 1024, 64 * 1024),  # MI200
    "gfx942": Card(GPUTarget("hip", "gfx942", 64), 64 * 1024, 64 * 1024),  # MI300
    "gfx1100": Card(GPUTarget("hip", "gfx1100", 32), 64 * 1024, 64 * 1024),  # RX 7900
}
HOPPER = "sm_90"
DTYPES = {"uint8": torch.uint8, "bfloat16": torch.bfloat16, "float32": torch.float32, "int64": torch.int64}
KERNELS = {
    "prepare": (prepare_module, "prepare_kernel"),
    "draw": (draw_module, "draw_kernel"),
    "product": (draw_module, "product_kernel"),
    "boxes": (boxes_module, "boxes_kernel"),
    "constants": (constants_module, "constants_kernel"),
    "mix": (mix_module, "select_kernel"),
}


class Compiled(NamedTuple):
    """What one compiled case of a kernel needs."""

    kernel: str
    case: str
    shared: int  # bytes a program
    # The rest is read off Nvidia's code; 0 for others.
    registers: int = 0  # a thread
    spilled: int = 0  # bytes a thread
    programs: int = 0  # that a multiprocessor holds at once
    occupancy: float = 0  # warps at once, as a share of the most that a multiprocessor holds
    widest_load: int = 0  # bytes
    widest_store: int = 0  # bytes
    matrix_product: str = ""  # shape of a tensor core's product; "" without one
    instructions: int = 0  # of all warps, for 1,000 elements of the output; 0 if a program does not write it


class Sectors(NamedTuple):
    """How much `mix` reads for masks of a range of sigma."""

    sigma: tuple[float, float]  # pixels
    by_dtype: dict[str, tuple[float, float]]  # images read, and bytes that `torch.where` moves over those `mix` moves


class OfflineDriver:
    """What Triton's compiler asks of a driver. Nothing can be launched with it."""

    def __init__(self, card: str) -> None:
        self.card = card

    def get_current_target(self) -> GPUTarget:
        return CARDS[self.card].target

    def get_current_device(self) -> int:
        return list(CARDS).index(self.card)  # Triton compiles once for each device

    def get_current_stream(self, _: int) -> int:
        return 0


class Compiler:
    """Replaces a kernel: compiles what would be launched."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.compiled: Any = None

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def compile_only(*arguments: Any, **options: Any) -> None:
            self.compiled = self.kernel.warmup(*arguments, grid=grid, **options)

        return compile_only


def compile_call(call: Callable[[], object]) -> dict[str, Any]:
    """Return the compiled kernels that a call would launch, by name."""
    originals = {name: getattr(module, kernel) for name, (module, kernel) in KERNELS.items()}
    compilers = {name: Compiler(original) for name, original in originals.items()}
    try:
        for name, (module, kernel) in KERNELS.items():
            setattr(module, kernel, compilers[name])
        call()
    finally:
        for name, (module, kernel) in KERNELS.items():
            setattr(module, kernel, originals[name])
    return {name: compiler.compiled for name, compiler in compilers.items() if compiler.compiled is not None}


def said_by(tool: str, option: str, program: Any) -> str:
    """Return what one of Nvidia's tools says about a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(program.asm["cubin"])
        file.flush()
        command = [str(Path(triton.__file__).parent / "backends/nvidia/bin" / tool), option, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def instructions(program: Any, *, of_loop: bool) -> int:
    """Return how many instructions a kernel has: in all, or in its longest loop."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/ +(.*?);", said_by("cuobjdump", "-sass", program))
    addresses = [int(address, 16) for address, _ in lines]
    if not of_loop:
        return len(addresses)
    jumps = [re.search(r"\bBRA(?:\.\S+)? (?:\S+, )?0x([0-9a-f]+)", instruction) for _, instruction in lines]
    starts = [int(jump[1], 16) if jump else end for jump, end in zip(jumps, addresses, strict=True)]
    loops = (sum(start <= other <= end for other in addresses) for start, end in zip(starts, addresses, strict=True))
    return max(loops)


def needs(
    card: str, kernel: str, case: str, program: Any, elements: float = math.inf, *, of_loop: bool = False
) -> Compiled:
    """Read off the compiled code what it needs. A program, or its longest loop each time, writes so many elements."""
    warps, shared = program.metadata.num_warps, program.metadata.shared
    assert shared <= CARDS[card].shared_of_program
    if CARDS[card].target.backend != "cuda":
        return Compiled(kernel, case, shared)
    usage, code = said_by("cuobjdump", "-res-usage", program), program.asm["ptx"]
    registers, stack, local = (int(re.findall(rf"{name}:(\d+)", usage)[-1]) for name in ("REG", "STACK", "LOCAL"))
    # A warp's registers come in blocks of 256.
    by_registers = REGISTERS // (warps * math.ceil(32 * registers / 256) * 256)
    by_shared = CARDS[card].shared // (shared + SHARED_RESERVED)
    programs = min(by_registers, by_shared, CARDS[card].warps // warps, CARDS[card].programs)
    copied = [int(size, 0) for size in re.findall(r"cp\.async\.c\w\.shared\.global [^,]*, [^,]*, (\w+)", code)]
    loaded, stored = (
        [
            int(times or 1) * int(bits) // 8
            for times, bits in re.findall(rf"{what}\.global\S*?(?:\.v(\d))?\.b(\d+)", code)
        ]
        for what in ("ld", "st")
    )
    products = re.findall(r"(?:wgmma\.mma_async|mma)\.sync\.aligned\.(m\d+n\d+k\d+)", code)
    return Compiled(
        kernel,
        case,
        shared,
        registers,
        spilled=stack + local,
        programs=programs,
        occupancy=programs * warps / CARDS[card].warps,
        widest_load=max(loaded + copied),
        widest_store=max(stored),
        matrix_product=products[-1] if products else "",
        instructions=round(1000 * warps * instructions(program, of_loop=of_loop) / elements),
    )


def compiled(card: str, *, main_cases: bool = False) -> list[Compiled]:
    """Compile the kernels for a card as the public functions launch them; `main_cases`: the first six of each file."""
    triton.runtime.driver.set_active(OfflineDriver(card))
    # The tensors are on the CPU; what would be chosen for the card has to be said.
    _backends._problem = lambda *_: None  # type: ignore[assignment]
    draw_module.shared_memory = lambda device: CARDS[card].shared_of_program  # noqa: ARG005
    draw_module.is_hopper = lambda device: card == HOPPER  # noqa: ARG005
    fused.plan.cache_clear()
    kinds = [draw_cases(card), box_cases(card), mix_cases(card)]
    return [row for kind in kinds for row in (islice(kind, 6) if main_cases else kind)]


def draw_cases(card: str) -> Iterable[Compiled]:
    for size, sigma, precision in (
        ((512, 512), (4, 16), "high"),
        ((321, 321), (4, 16), "high"),
        ((512, 512), (1, 4), "high"),
        ((64, 64, 64), (4, 16), "high"),
        ((512, 512), (4, 16), "highest"),
    ):
        case = f"{'x'.join(map(str, size))}, {sigma[0]}-{sigma[1]}, {precision}"

        def draw(size: Any = size, sigma: Any = sigma, precision: str = precision) -> Tensor:
            return cow_masks(4, size, sigma, backend="triton", precision=precision)

        programs = compile_call(draw)
        plan = fused.plan(size, (1.0,) * len(size), (sigma,) * len(size), precision, torch.device("cpu"))
        assert plan is not None
        yield needs(card, "prepare", case, programs["prepare"])
        if plan.tiles is None:
            yield needs(card, "product", case, programs["product"])
            continue
        elements = 2 * plan.tiles.rows * plan.tiles.columns
        yield needs(card, "draw", case, programs["draw"], elements, of_loop=True)


def box_cases(card: str) -> Iterable[Compiled]:
    seed = torch.zeros(1, dtype=torch.int64)
    for size in ((512, 512), (321, 321), (64, 64, 64)):
        masks = torch.empty(4, 1, *size, dtype=torch.uint8)
        launch = partial(boxes_module.launch_boxes, masks, seed, (0.5, 0.5, None), None, 1, clip=False)
        programs = compile_call(launch)
        rows = boxes_module.ROWS if len(size) < 3 else boxes_module.ROWS_OF_THREE_AXES
        elements = rows * boxes_module.COLUMNS * (4 if size[-1] % 4 == 0 else 1)
        yield needs(card, "boxes", "x".join(map(str, size)), programs["boxes"], elements)
    weights = torch.empty(4)
    programs = compile_call(lambda: constants_module.launch_constants(weights, seed, 0.3))
    yield needs(card, "constants", "", programs["constants"])


def mix_cases(card: str) -> Iterable[Compiled]:
    images = torch.zeros(4, 3, 64, 64)
    odd, last = images[..., :63, :63].contiguous(), images.to(memory_format=torch.channels_last)
    inputs = {name: images.to(dtype) for name, dtype in DTYPES.items()}
    calls: dict[str, Callable[[], object]] = {}
    for case, x in (inputs | {"float32, channels last": last, "float32, odd size": odd}).items():
        mask = torch.zeros(len(x), 1, *x.shape[2:], dtype=torch.bool)
        calls[case] = partial(mix, x, x, mask, backend="triton")
    mask = images[:, :1] > 0
    calls["float32, in the batch"] = partial(mix_batch, [images], None, mask, backend="triton")
    calls["float32, erase half"] = partial(erase, images, mask, backend="triton")
    for case, call in calls.items():
        bytes_each = next(dtype.itemsize for name, dtype in DTYPES.items() if case.startswith(name))
        elements = mix_module._VECTORS * mix_module._VECTOR_BYTES // bytes_each
        yield needs(card, "mix", case, compile_call(call)["mix"], elements)


def sectors(n: int = 64) -> list[Sectors]:
    """Count what `mix` reads for `n` masks: a GPU reads 32 bytes whole if it needs any of them."""
    torch.manual_seed(0)
    rows = []
    for sigma in ((1.0, 4.0), (4.0, 16.0), (8.0, 32.0)):
        row = Sectors(sigma, {})
        masks = cow_masks(n, (512, 512), sigma)
        for dtype in (torch.float32, torch.bfloat16, torch.uint8):
            sector = masks.unflatten(-1, (-1, SECTOR // dtype.itemsize))
            both = (sector.any(-1) & ~sector.all(-1)).float().mean().item()  # both images, where both are needed
            mask = 1 / 3 / dtype.itemsize
            row.by_dtype[str(dtype)[6:]] = (1 + both, (3 + mask) / (1 + both + 1 + mask))
        rows.append(row)
    return rows


def print_table(columns: list[str], rows: Iterable[list[str]]) -> None:
    for cells in (columns, ["---"] * len(columns), *rows):
        print("|", " | ".join(cells), "|")


def main() -> None:
    """Print both tables in Markdown."""
    read = sectors()
    print_table(
        ["Sigma, pixels", *(f"{dtype}: {what}" for dtype in read[0].by_dtype for what in ("read", "where / mix"))],
        (
            ["{:g}-{:g}".format(*row.sigma), *(f"{x:.2f}" for pair in row.by_dtype.values() for x in pair)]
            for row in read
        ),
    )
    for card in sys.argv[1:] or [HOPPER]:
        print(f"\n{card}:\n")
        print_table(
            [
                *("Kernel", "Case", "Registers", "Spilled, bytes", "Shared, KB", "Programs an SM", "Occupancy"),
                *("Widest load, bytes", "Widest store, bytes", "Matrix product", "Instructions for 1,000 elements"),
            ],
            (
                [
                    *(row.kernel, row.case, str(row.registers), str(row.spilled), f"{row.shared / 1024:g}"),
                    *(str(row.programs), f"{row.occupancy:.0%}", str(row.widest_load), str(row.widest_store)),
                    *(row.matrix_product, str(row.instructions or "")),
                ]
                for row in compiled(card)
            ),
        )


if __name__ == "__main__":
    main()
