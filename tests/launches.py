"""What a call launches on a GPU, without one: torch's operators run on fake tensors, and kernels are noted, not run.

python -m tests.launches    prints the table of docs/kernels.md
"""

import json
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NOTHING = ("empty", "new_empty", "detach", "_unsafe_view", "prim::")  # make no work for a GPU
BODIES: dict[str, Any] = {}  # of cowmask's operators: fake tensors would take the operators' fake kernels


def _keep_bodies() -> None:
    implement = torch.library.Library.impl

    def keep(library: torch.library.Library, name: Any, function: Any, *others: Any, **options: Any) -> None:
        BODIES.setdefault(str(name), function)  # the first; gradients come later
        implement(library, name, function, *others, **options)

    torch.library.Library.impl = keep  # type: ignore[method-assign, assignment]


class Launches(TorchDispatchMode):
    """Notes what is launched. What makes no work for a GPU (views, allocations) is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        name = function._schema.name.removeprefix("aten::")
        tensors = [x for x in tree_leaves((arguments, options, result)) if isinstance(x, Tensor)]
        on_gpu = any(x.device.type == "cuda" for x in tensors)
        if on_gpu and not function.is_view and not name.startswith(NOTHING):
            self.found.append(name)
        return result


class Kernel:
    """Stands for a Triton kernel: notes its launches."""

    def __init__(self, name: str, launches: Launches) -> None:
        self.name, self.launches = name, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*_: Any, **__: Any) -> None:
            assert math.prod(grid) > 0
            self.launches.found.append(f"triton::{self.name}")

        return launch


def calls() -> dict[str, Callable[[], object]]:
    """Return what users call, by what it is."""
    from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp, box_masks, cow_masks

    device = torch.device("cuda:0")
    images, probs = (torch.empty(16, channels, 512, 512, device=device) for channels in (3, 21))
    targets = torch.empty(16, 512, 512, dtype=torch.int64, device=device)
    noise, size = torch.empty(16, 1, 512, 512, device=device), (512, 512)

    def drawn(n: int, size: tuple[int, ...], *values: Any, **options: Any) -> Callable[[], object]:
        return lambda: cow_masks(n, size, *values, device=device, **options)

    return {
        "cow_masks(1, (512, 512))": drawn(1, size),
        "cow_masks(256, (512, 512))": drawn(256, size),
        "cow_masks(16, (321, 321))": drawn(16, (321, 321)),
        "proportion (0, 1)": drawn(16, size, (4, 16), (0, 1)),
        "sigma of each mask": drawn(16, size, torch.linspace(4, 16, 16)),
        "spacing (1, 2)": drawn(16, size, spacing=(1, 2)),
        "sigma 1-4": drawn(64, size, (1, 4)),
        "64 masks of 2048x2048": drawn(64, (2048, 2048)),
        "sigma 1-4 at 1024x1024": drawn(16, (1024, 1024), (1, 4)),
        'precision="highest"': drawn(16, size, precision="highest"),
        "(4096,)": drawn(16, (4096,), 16.0),
        "(128, 128, 128)": drawn(4, (128, 128, 128)),
        "sigma 0.5": drawn(16, size, 0.5),
        "noise=": lambda: cow_masks(16, size, noise=noise),
        'backend="torch"': drawn(16, size, backend="torch"),
        "box_masks(16, (512, 512))": lambda: box_masks(16, size, device=device),
        "CowMix()(images, probs)": lambda: CowMix()(images, probs),
        "CowMix()(images, probs, targets)": lambda: CowMix()(images, probs, targets),
        "CutMix()(images, probs, targets)": lambda: CutMix()(images, probs, targets),
        "MixUp()(images)": lambda: MixUp()(images),
        "CowOut()(images)": lambda: CowOut()(images),
        "CutOut()(images)": lambda: CutOut()(images),
    }


def launches() -> dict[str, list[str]]:
    """Return what each of the calls launches the second time, when tables are there."""
    _keep_bodies()
    from cowmask import _backends, _draw, mixing
    from cowmask._checks import arguments
    from cowmask._engines import basis, gains
    from cowmask.kernels import boxes, constants, draw, mix, prepare

    for module in (_draw, mixing):
        for name in BODIES.keys() & vars(module).keys():
            setattr(module, name, BODIES[name])

    def on_device(device: torch.device, table: Callable[..., Tensor], *values: Any) -> Tensor:
        return torch.empty_like(table(*values), device=device)

    stand_ins: list[tuple[Any, str, Any]] = [
        (_backends, "_problem", lambda *_: None),
        (_backends, "_multiplies", lambda _: True),
        (draw, "is_hopper", lambda _: True),
        (draw, "shared_memory", lambda _: 227 * 1024),
        (torch.cuda, "device_of", lambda _: nullcontext()),
        (torch.cuda, "is_current_stream_capturing", lambda: False),
        (basis, "cached_on", on_device),
        (gains, "cached_on", on_device),
        # A fake tensor's values cannot be read; here they are known.
        (arguments, "bounds", lambda _, ends, per_mask, __: tuple(ends) if per_mask is None else (4.0, 16.0)),
    ]
    for module, name, stand_in in stand_ins:
        setattr(module, name, stand_in)
    noted = Launches()
    for module, kernels in {
        boxes: ["boxes_kernel"],
        constants: ["constants_kernel"],
        draw: ["draw_kernel", "product_kernel"],
        mix: ["select_kernel"],
        prepare: ["prepare_kernel"],
    }.items():
        for kernel in kernels:
            setattr(module, kernel, Kernel(kernel, noted))
    found = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for name, call in calls().items():
            noted.found = []
            with noted:
                call()
            found[name] = noted.found
    return found


def main() -> None:
    """Print how many launches each call makes, and which; with --json, all of it for the tests."""
    found = launches()
    if "--json" in sys.argv:
        print(json.dumps(found))
        return
    print("| Call | Launches | Which |\n| --- | --- | --- |")
    for call, names in found.items():
        print(f"| `{call}` | {len(names)} | {', '.join(dict.fromkeys(names))} |")


if __name__ == "__main__":
    main()
