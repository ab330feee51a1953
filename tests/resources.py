"""What the kernels need of a GPU: read off code that is compiled for one, on a machine without one.

python -m tests.resources    prints the tables of docs/kernels.md; must not run under TRITON_INTERPRET
"""

import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget

from cowmask import _backends, cow_masks, erase, mix
from cowmask._engines.gains import n_coefficients
from cowmask.kernels import draw as draw_module
from cowmask.kernels import mix as mix_module
from cowmask.mixing import mix_batch

HOPPER = GPUTarget("cuda", 90, 32)
# Of one multiprocessor of compute capability 9.0 (CUDA C++ Programming Guide, table of technical specifications).
REGISTERS, SHARED, WARPS, PROGRAMS = 65_536, 228 * 1024, 64, 32
SECTOR = 32  # bytes that are read at once
SHARED_RESERVED = 1024  # bytes, by the system, for each program


class Compiled(NamedTuple):
    """What one compiled case of a kernel needs."""

    kernel: str
    case: str
    registers: int  # a thread
    spilled: int  # bytes a thread
    shared: int  # bytes a program
    programs: int  # that a multiprocessor holds at once
    occupancy: float  # warps at once, as a share of the most that a multiprocessor holds
    widest_load: int  # bytes
    widest_store: int  # bytes
    matrix_product: str  # shape of a tensor core's product; "" without one
    bytes_moved: float  # an element of the output


class Sectors(NamedTuple):
    """How much `mix` reads for masks of a range of sigma."""

    sigma: tuple[float, float]  # pixels
    by_dtype: dict[str, tuple[float, float]]  # images read, and bytes that `torch.where` moves over those `mix` moves


class OfflineDriver:
    """What Triton's compiler asks of a driver. Nothing can be launched with it."""

    def get_current_target(self) -> GPUTarget:
        return HOPPER

    def get_current_device(self) -> int:
        return 0

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


def compile_call(module: Any, name: str, call: Callable[..., object], *arguments: Any, **options: Any) -> Any:
    """Return the compiled kernel that a call of a public function would launch."""
    kernel = getattr(module, name)
    compiler = Compiler(kernel)
    setattr(module, name, compiler)
    try:
        call(*arguments, **options, backend="triton")
    finally:
        setattr(module, name, kernel)
    return compiler.compiled


def needs(kernel: str, case: str, program: Any, bytes_moved: float) -> Compiled:
    """Read off the compiled code what it needs."""
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(program.asm["cubin"])
        file.flush()
        command = [str(tools / "cuobjdump"), "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.findall(rf"{name}:(\d+)", usage)[-1]) for name in ("REG", "STACK", "LOCAL"))
    warps, shared, code = program.metadata.num_warps, program.metadata.shared, program.asm["ptx"]
    # A warp's registers come in blocks of 256.
    by_registers = REGISTERS // (warps * math.ceil(32 * registers / 256) * 256)
    programs = min(by_registers, SHARED // (shared + SHARED_RESERVED), WARPS // warps, PROGRAMS)
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
        registers=registers,
        spilled=stack + local,
        shared=shared,
        programs=programs,
        occupancy=programs * warps / WARPS,
        widest_load=max(loaded + copied),
        widest_store=max(stored),
        matrix_product=products[0] if products else "",
        bytes_moved=bytes_moved,
    )


def compiled() -> list[Compiled]:
    """Compile both kernels as the public functions launch them."""
    triton.runtime.driver.set_active(OfflineDriver())
    _backends._problem = lambda *_: None  # type: ignore[assignment]
    return [*draw_cases(), *mix_cases()]


def draw_cases() -> Iterable[Compiled]:
    for precision in ("high", "highest"):
        for size in ((512, 512), (321, 321), (64, 64, 64)):
            program = compile_call(draw_module, "draw_kernel", cow_masks, 4, size, precision=precision)
            lines = n_coefficients(size[0], 4.0) / size[0] * (2 if precision == "high" else 4)
            yield needs("draw", f"{'x'.join(map(str, size))}, {precision}", program, lines + 1)


def mix_cases() -> Iterable[Compiled]:
    images = torch.zeros(4, 3, 64, 64)
    odd, last = images[..., :63, :63].contiguous(), images.to(memory_format=torch.channels_last)
    inputs = {str(dtype)[6:]: images.to(dtype) for dtype in (torch.uint8, torch.bfloat16, torch.float32, torch.int64)}
    for case, x in (inputs | {"float32, channels last": last, "float32, odd size": odd}).items():
        mask = torch.zeros(len(x), 1, *x.shape[2:], dtype=torch.bool)
        program = compile_call(mix_module, "select_kernel", mix, x, x, mask)
        yield needs("mix", case, program, 2 * x.element_size() + 1 / 3)  # three channels share a byte
    mask = images[:, :1] > 0
    program = compile_call(mix_module, "select_kernel", mix_batch, [images], None, mask)
    yield needs("mix", "float32, in the batch", program, 8 + 1 / 3)
    program = compile_call(mix_module, "select_kernel", erase, images, mask)
    yield needs("mix", "float32, erase half", program, 6 + 1 / 3)


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
    print()
    print_table(
        [
            *("Kernel", "Case", "Registers", "Spilled, bytes", "Shared, KB", "Programs an SM", "Occupancy"),
            *("Widest load, bytes", "Widest store, bytes", "Matrix product", "Bytes moved an element"),
        ],
        (
            [
                *(row.kernel, row.case, str(row.registers), str(row.spilled), f"{row.shared / 1024:g}"),
                *(str(row.programs), f"{row.occupancy:.0%}", str(row.widest_load), str(row.widest_store)),
                *(row.matrix_product, f"{row.bytes_moved:.1f}"),
            ]
            for row in compiled()
        ),
    )


if __name__ == "__main__":
    main()
