"""What the tests of the kernels share: where the kernels run, and what records how they ran.

Without a GPU, Triton interprets the kernels on the CPU (`TRITON_INTERPRET=1`, see `conftest.py`).
"""

from typing import Any

import numpy as np
import pytest
import torch

from tests import interpreter

triton = pytest.importorskip("triton")

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
TOO_OLD = pytest.mark.skipif(interpreter.fails(), reason="Triton < 3.8 interprets with NumPy < 2.4")
marks = [pytest.mark.cuda if ON_GPU else TOO_OLD]


class Spy:
    """A kernel that counts its launches."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.launches = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        self.launches += 1
        return self.kernel[grid]


def spy_on(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Spy:
    spy = Spy(getattr(module, name))
    monkeypatch.setattr(module, name, spy)
    return spy


class Recorder:
    """Interprets one program of a kernel, and records which elements of each tensor it loads and stores.

    The tensors have addresses but no memory, so that they can be of any size. Addresses are `SPAN` bytes apart: an
    address belongs to the tensor that is nearest, however far before or after its first element.

    Args:
        types: For each tensor, by its name among the kernel's parameters, Triton's name of its type ("*i32").
        contents: The value of every element of a tensor, by the tensor's name; 0 where there is none.

    Attributes:
        loads, stores: For each tensor, an array of indices for each load or store, in the order of the program.
            Elements that are masked out are left out.
    """

    SPAN = 2**60

    def __init__(self, types: dict[str, str], contents: dict[str, int]) -> None:
        self.types, self.contents = types, contents
        self.loads: dict[str, list[Any]] = {name: [] for name in types}
        self.stores: dict[str, list[Any]] = {name: [] for name in types}

    def run(self, kernel: Any, program: int, **arguments: Any) -> None:
        """Interpret program number `program` of a launch with these arguments beside the tensors."""
        from triton.runtime.interpreter import InterpreterBuilder

        masked_load = InterpreterBuilder.create_masked_load

        def load(builder: Any, pointers: Any, mask: Any, _: object, *others: Any) -> Any:
            name = self._record(self.loads, pointers, mask)
            nothing = type(mask)(np.zeros_like(mask.data), mask.dtype)
            loaded = masked_load(builder, pointers, nothing, None, *others)
            loaded.data[...] = self.contents.get(name, 0)
            return loaded

        def store(_: object, pointers: Any, __: object, mask: Any, *others: object) -> None:  # noqa: ARG001
            self._record(self.stores, pointers, mask)

        def set_program(builder: Any, *_: int) -> None:
            builder.grid_idx = (program, 0, 0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(InterpreterBuilder, "create_masked_load", load)
            patch.setattr(InterpreterBuilder, "create_masked_store", store)
            patch.setattr(InterpreterBuilder, "set_grid_idx", set_program)
            kernel[(1,)](**self._pointers(), **arguments)

    def _pointers(self) -> dict[str, Any]:
        from triton.runtime.interpreter import TensorHandle

        types = {name: triton.language.str_to_ty(of, None) for name, of in self.types.items()}
        addresses = (np.array([number * self.SPAN], np.uint64) for number in range(1, len(types) + 1))
        return {
            name: triton.language.tensor(TensorHandle(address, pointer), pointer)
            for (name, pointer), address in zip(types.items(), addresses, strict=True)
        }

    def _record(self, into: dict[str, list[Any]], pointers: Any, mask: Any) -> str:
        """Record the indices behind the pointers that are not masked out; return the name of their tensor."""
        number, above = np.divmod(pointers.data + np.uint64(self.SPAN // 2), np.uint64(self.SPAN))
        (tensor,) = np.unique(number)  # one instruction, one tensor
        name = list(self.types)[int(tensor) - 1]
        offset, itemsize = above.astype(np.int64) - self.SPAN // 2, pointers.get_element_ty().primitive_bitwidth // 8
        index, rest = np.divmod(offset, itemsize)
        assert not rest.any()
        into[name].append(index[np.broadcast_to(mask.data, index.shape)])
        return name
