"""What the kernels take of a GPU, from compiling them for one that need not be there.

python -m tests.resources    prints the tables of docs/kernels.md; must not run under TRITON_INTERPRET
"""

import math
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

COLUMNS = [
    *("Kernel", "Case", "Registers", "Spilled, bytes", "Shared, KB", "Programs an SM", "Occupancy"),
    *("Widest load, bytes", "Widest store, bytes", "Matrix product", "Bytes moved an element"),
]


class OfflineDriver:
    """What Triton asks of a driver to compile; it can launch nothing."""

    def get_current_target(self) -> GPUTarget:
        return HOPPER

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0


class Compiler:
    """Stands where a kernel does: compiles what would be launched."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.compiled: Any = None

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def compile_only(*arguments: Any, **options: Any) -> None:
            self.compiled = self.kernel.warmup(*arguments, grid=grid, **options)

        return compile_only


def compiled(module: Any, name: str, call: Callable[..., object], *arguments: Any, **options: Any) -> Any:
    """Return what one call of a function of ours would launch."""
    kernel = getattr(module, name)
    compiler = Compiler(kernel)
    setattr(module, name, compiler)
    try:
        call(*arguments, **options, backend="triton")
    finally:
        setattr(module, name, kernel)
    return compiler.compiled


def row(kernel: str, case: str, program: Any, bytes_moved: float) -> list[str]:
    """Read off the compiled code what it takes."""
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
    return [
        *(kernel, case, str(registers), str(stack + local), f"{shared / 1024:g}", str(programs)),
        *(f"{programs * warps / WARPS:.0%}", str(max(loaded + copied)), str(max(stored))),
        *(products[0] if products else "", f"{bytes_moved:.1f}"),
    ]


def cases() -> list[list[str]]:
    """Compile both kernels as the public functions launch them."""
    rows = []
    for precision in ("high", "highest"):
        for size in ((512, 512), (321, 321), (64, 64, 64)):
            program = compiled(draw_module, "draw_kernel", cow_masks, 4, size, precision=precision)
            lines = n_coefficients(size[0], 4.0) / size[0] * (2 if precision == "high" else 4)
            rows.append(row("draw", f"{'x'.join(map(str, size))}, {precision}", program, lines + 1))
    images = torch.zeros(4, 3, 64, 64)
    odd, last = images[..., :63, :63].contiguous(), images.to(memory_format=torch.channels_last)
    inputs = {str(dtype)[6:]: images.to(dtype) for dtype in (torch.uint8, torch.bfloat16, torch.float32, torch.int64)}
    for case, x in (inputs | {"float32, channels last": last, "float32, odd size": odd}).items():
        mask = torch.zeros(len(x), 1, *x.shape[2:], dtype=torch.bool)
        program = compiled(mix_module, "select_kernel", mix, x, x, mask)
        rows.append(row("mix", case, program, 2 * x.element_size() + 1 / 3))  # three channels share a byte
    mask = images[:, :1] > 0
    program = compiled(mix_module, "select_kernel", mix_batch, [images], None, mask)
    rows.append(row("mix", "float32, in the batch", program, 8 + 1 / 3))
    program = compiled(mix_module, "select_kernel", erase, images, mask)
    return [*rows, row("mix", "float32, erase half", program, 6 + 1 / 3)]


def sectors() -> list[list[str]]:
    """Return how much `mix` reads, as a part of one image: a GPU reads 32 bytes whole if it needs any of them."""
    torch.manual_seed(0)
    rows = []
    for sigma in ((1.0, 4.0), (4.0, 16.0), (8.0, 32.0)):
        masks = cow_masks(64, (512, 512), sigma)
        cells = [f"{sigma[0]:g}-{sigma[1]:g}"]
        for itemsize in (4, 2, 1):
            sector = masks.unflatten(-1, (-1, SECTOR // itemsize))
            read = 1 + (sector.any(-1) & ~sector.all(-1)).float().mean().item()  # both images, where both are needed
            mask = 1 / 3 / itemsize
            cells += [f"{read:.2f}", f"{(3 + mask) / (read + 1 + mask):.2f}"]
        rows.append(cells)
    return rows


def main() -> None:
    """Print the tables."""
    headings = [f"{name}: {what}" for name in ("float32", "bfloat16", "uint8") for what in ("read", "where / mix")]
    for cells in (["Sigma, pixels", *headings], ["---"] * 7, *sectors()):
        print("|", " | ".join(cells), "|")
    print()
    triton.runtime.driver.set_active(OfflineDriver())
    _backends._problem = lambda *_: None  # type: ignore[assignment]
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *cases()):
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
