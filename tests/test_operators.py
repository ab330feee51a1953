"""Draws in compiled and exported programs, under autocast and other contexts, in threads and data workers."""

import io
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.data import DataLoader, Dataset

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp, box_masks, consistency_loss, cow_masks, erase
from cowmask._engines import basis, tables
from cowmask.consistency import Distance

TRANSFORMS: list[nn.Module] = [
    CowMix(num_classes=7),
    CowMix(sigma=torch.linspace(2, 5, 4), proportion=(0.2, 0.8), spacing=(1, 2), num_classes=7),
    CutMix(num_classes=7),
    CutMix(area=torch.linspace(0.1, 0.9, 4), aspect=1.5, n_boxes=3, clip=True, num_classes=7),
    MixUp(alpha=0.3, num_classes=7),
    CowOut(fill=torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)),
    CutOut(area=0.3),
    CowMix(num_classes=7, p=0.5),
    CutOut(p=0.5),
]
every_transform = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: type(transform).__name__)
SIZES = [(65 + 3 * i, 70 + 7 * i) for i in range(12)]


def inputs(transform: nn.Module, size: tuple[int, int] = (65, 70)) -> tuple[Tensor, ...]:
    """Return images, and every kind of target that the transform takes."""
    images, probs, labels = torch.rand(4, 3, *size), torch.rand(4, 5, *size), torch.tensor([0, 3, 6, 1])
    dense = torch.randint(0, 9, (4, *size))
    return (images, probs, labels) if isinstance(transform, MixUp) else (images, probs, labels, dense)


def run(transform: Callable[..., Any], arguments: tuple[Tensor, ...], seed: int = 0) -> tuple[Tensor, ...]:
    torch.manual_seed(seed)
    outputs: tuple[Tensor, ...] = transform(*arguments)
    return outputs


def assert_equal(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...], tolerance: float = 0) -> None:
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor's own, torch < 2.14
@pytest.mark.parametrize("backend", ["eager", "inductor"])
@every_transform
def test_compiles_whole_and_draws_what_eager_code_draws(transform: nn.Module, backend: str) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend  # takes seconds, which spawned workers need not spend

    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(transform, fullgraph=True, backend=counter)
    # Inductor fuses the product and the sum of a blend: it rounds once, eager code twice. Selections are exact.
    tolerance = 2e-7 if isinstance(transform, MixUp) and backend == "inductor" else 0
    for seed, size in enumerate(SIZES):
        arguments = inputs(transform, size)
        assert_equal(run(compiled, arguments, seed), run(transform, arguments, seed), tolerance)
    assert counter.frame_count <= 2  # one for the first size, one for all others


class Confident(nn.Module):
    """The loss as a module with a threshold, of images as logits."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        return consistency_loss(images, images.softmax(1), threshold=self.threshold)


def schedule(low: float, high: float) -> list[float]:
    return torch.linspace(low, high, 50, dtype=torch.float64).tolist()


FRACTIONS, INTEGERS = schedule(0, 1), list(range(50))
# Settings that change from step to step: the module, the name and its values. Both ends of [0, 1] are among them.
SCHEDULES: dict[str, tuple[Callable[..., nn.Module], str, list[Any]]] = {
    "sigma": (CowMix, "sigma", schedule(1, 12)),
    "an integer as sigma": (CowOut, "sigma", [1 + number for number in INTEGERS]),
    "a range of sigma": (CowMix, "sigma", [(low, low + low % 2) for low in schedule(1, 12)]),
    "proportion": (CowMix, "proportion", FRACTIONS),
    "a range of proportion": (CowOut, "proportion", [(low / 2, 1 - low / 2) for low in FRACTIONS]),
    "area": (CutMix, "area", FRACTIONS),
    "a range of area": (CutOut, "area", [(0, high) for high in FRACTIONS]),
    "aspect": (CutOut, "aspect", schedule(0.2, 5)),
    "alpha": (MixUp, "alpha", schedule(0.01, 5)),
    "p": (CowMix, "p", FRACTIONS),
    "p from 1": (CutOut, "p", FRACTIONS[::-1]),
    "fill": (CowOut, "fill", schedule(-2, 2)),
    "an integer as fill": (CutOut, "fill", INTEGERS),
    "threshold": (Confident, "threshold", FRACTIONS),
}


def follow(name: str, backend: str, *, anew: bool, images: Tensor) -> int:
    """Compare compiled with eager code for each value of a schedule. Return how many graphs were compiled."""
    from torch._dynamo.testing import CompileCounterWithBackend

    make, setting, values = SCHEDULES[name]
    counter, module = CompileCounterWithBackend(backend), make()
    for seed, value in enumerate(values):
        module = make(**{setting: value}) if anew else module
        setattr(module, setting, value)
        results = []
        for call in (module, torch.compile(module, fullgraph=True, backend=counter)):
            torch.manual_seed(seed)
            results.append(call(images))
        torch.testing.assert_close(*results)
    return int(counter.frame_count)


@pytest.mark.parametrize("anew", [False, True], ids=["set on one module", "in new modules"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_setting_that_changes_does_not_compile_anew(name: str, anew: bool) -> None:
    assert follow(name, "aot_eager", anew=anew, images=torch.rand(3, 2, 20, 24)) <= 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16])
def test_a_fill_that_changes_does_not_compile_anew_for_any_dtype(dtype: torch.dtype) -> None:
    images = torch.ones(3, 2, 20, 24, dtype=dtype)
    assert follow("an integer as fill", "aot_eager", anew=False, images=images) <= 2


def test_inductor_does_not_compile_anew() -> None:
    if shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    assert follow("p", "inductor", anew=False, images=torch.rand(3, 2, 20, 24)) <= 2


@pytest.mark.parametrize("values", [[1 + number for number in INTEGERS], schedule(1, 9)])
def test_functions_take_numbers_that_change_without_compiling_anew(values: list[float]) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    def draw(x: Tensor, number: float) -> tuple[Tensor]:
        masks = cow_masks(len(x), x.shape[2:], (number, 2 * number), proportion=1 / number)
        return (erase(x, masks & box_masks(len(x), x.shape[2:], 1 / number, aspect=number), fill=number),)

    counter, x = CompileCounterWithBackend("aot_eager"), torch.rand(3, 2, 20, 24)
    compiled = torch.compile(draw, fullgraph=True, backend=counter)
    for value in values:
        assert_equal(run(partial(compiled, number=value), (x,)), run(partial(draw, number=value), (x,)))
    assert counter.frame_count <= 2


def test_compiled_code_draws_which_images_change_after_the_masks() -> None:
    if shutil.which("g++") is None:
        pytest.skip("inductor needs a C++ compiler")
    transform, arguments = CowMix(p=0.5, num_classes=7), (torch.rand(4, 3, 33, 47), torch.tensor([0, 3, 6, 1]))
    compiled = torch.compile(transform, fullgraph=True)
    for seed in range(3):
        assert_equal(run(compiled, arguments, seed), run(transform, arguments, seed))


@pytest.mark.parametrize("name", ["cow_masks", "box_masks", "constant_masks", "random_rows"])
def test_operators_that_draw_are_tagged(name: str) -> None:
    assert torch.Tag.nondeterministic_seeded in getattr(torch.ops.cowmask, name).default.tags


def test_a_batch_of_one_compiles_without_its_warning() -> None:
    x = torch.rand(1, 3, 33, 47)
    assert torch.equal(torch.compile(CowMix(), fullgraph=True, backend="eager")(x), x)


def test_two_draws_in_one_graph_differ() -> None:
    def twice(x: Tensor) -> tuple[Tensor, Tensor]:
        return x * cow_masks(4, x.shape[2:]), x * cow_masks(4, x.shape[2:])

    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager_decomp_partition")  # merges equal calls
    x = torch.rand(4, 3, 40, 50, requires_grad=True)
    first, second = run(compiled, (x,))
    assert not torch.equal(first, second)
    assert_equal((first, second), run(twice, (x,)))


def test_compiled_training_step_has_the_gradient_of_the_eager_one() -> None:
    transform, x = CowMix(), torch.rand(4, 3, 40, 50)
    gradients = []
    for call in (transform, torch.compile(transform, fullgraph=True, backend="aot_eager")):
        leaf = x.clone().requires_grad_()
        torch.manual_seed(0)
        call(leaf).square().sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("distance", get_args(Distance))
def test_the_loss_compiles_whole(distance: Distance) -> None:
    logits, probs = torch.randn(4, 5, 40, 50, requires_grad=True), torch.randn(4, 5, 40, 50).mul(5).softmax(1)
    mask, valid = torch.rand(4, 1, 40, 50) < 0.5, torch.rand(4, 1, 40, 50) < 0.9
    compiled = torch.compile(consistency_loss, fullgraph=True, backend="aot_eager")
    losses = [loss(logits, probs, mask, valid=valid, distance=distance) for loss in (consistency_loss, compiled)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits) for loss in losses))
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert consistency_loss(torch.empty(2, 3, 4), torch.empty(2, 3, 4), distance=distance).shape == ()


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch.export's own, torch < 2.14
@pytest.mark.parametrize("strict", [False, True])
@every_transform
def test_exports_saves_and_loads(transform: nn.Module, strict: bool) -> None:
    arguments = inputs(transform)
    exported, file = torch.export.export(transform, arguments, strict=strict), io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    for program in (exported, torch.export.load(file)):
        assert_equal(run(program.module(), arguments), run(transform, arguments))


def test_exports_for_any_size() -> None:
    height, width = torch.export.Dim("height", min=8, max=4096), torch.export.Dim("width", min=8, max=4096)
    exported = torch.export.export(CowMix(), (torch.rand(4, 3, 40, 50),), dynamic_shapes=({2: height, 3: width},))
    images = (torch.rand(4, 3, 33, 61),)
    torch.manual_seed(0)
    expected = CowMix()(*images)
    torch.manual_seed(0)
    assert torch.equal(exported.module()(*images), expected)


@every_transform
def test_fake_tensors_have_the_shapes_and_leave_no_trace(transform: nn.Module) -> None:
    size = (83, 59)  # of no other test, so its tables are not made yet
    arguments = inputs(transform, size)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = run(transform, tuple(mode.from_tensor(argument) for argument in arguments))
    real = run(transform, arguments)
    for fake, output in zip(fakes, real, strict=True):
        assert isinstance(fake, FakeTensor)
        assert not isinstance(output, FakeTensor)
        assert (fake.shape, fake.dtype, fake.device) == (output.shape, output.dtype, output.device)


def test_fake_masks_live_on_devices_that_are_not_there() -> None:
    with FakeTensorMode():
        assert cow_masks(2, (61, 47), device="cuda").device.type == "cuda"
    assert cow_masks(2, (61, 47), device="meta").shape == (2, 1, 61, 47)
    assert cow_masks(2, (61, 47)).any()


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "default device": lambda: torch.device("meta"),
    "deterministic": lambda: Deterministic(),
    "float64 by default": lambda: DefaultDtype(torch.float64),
    "float16 by default": lambda: DefaultDtype(torch.float16),
}


class DefaultDtype:
    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.before)


class Deterministic:
    def __enter__(self) -> None:
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *_: object) -> None:
        torch.use_deterministic_algorithms(False)


def draws(size: tuple[int, int]) -> list[Tensor]:
    """Draw from every function and transform, with a generator."""
    generator = torch.Generator("cpu").manual_seed(3)
    common: dict[str, Any] = {"generator": generator, "device": "cpu"}
    x = torch.empty(4, 3, *size, device="cpu", dtype=torch.float32).fill_(0.5)
    masks = [cow_masks(4, size, method=method, **common) for method in ("spectral", "direct")]
    labels = torch.tensor([0, 1, 2, 1], device="cpu")
    mixed = [MixUp(num_classes=3)(x, labels, generator=generator)[1], CowOut()(x, generator=generator)]
    return [*masks, box_masks(4, size, **common), box_masks(4, size, aspect=1.0, clip=True, **common), *mixed]


@pytest.mark.parametrize("context", CONTEXTS)
def test_masks_are_the_same_bit_for_bit_in_every_context(context: str) -> None:
    for size in ((51, 38), (64, 48)):  # whose tables are first made inside the context, and outside it
        order = (CONTEXTS[context], nullcontext) if size == (51, 38) else (nullcontext, CONTEXTS[context])
        tables.forget()
        results = []
        for enter in order:
            with enter():
                results.append(draws(size))
        for one, other in zip(*results, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_tables_made_in_inference_mode_serve_in_training() -> None:
    with torch.inference_mode():
        cow_masks(2, (51, 52), 3)
    x = torch.randn(2, 1, 51, 52, requires_grad=True)
    (x * cow_masks(2, (51, 52), 3)).sum().backward()
    assert x.grad is not None


def test_threads_draw_what_one_thread_draws() -> None:
    def draw(seed: int) -> Tensor:
        return cow_masks(3, (37 + seed, 41), generator=torch.Generator().manual_seed(seed))

    found: dict[int, Tensor] = {}
    tables.forget()
    threads = [threading.Thread(target=lambda seed=seed: found.update({seed: draw(seed)})) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[seed], draw(seed)) for seed in range(8))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python's own, of forks beside threads
def test_a_child_that_is_forked_while_a_thread_draws_can_draw() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    stopped = threading.Event()

    def draw() -> None:
        cow_masks(2, (64, 64), 3, precision="highest", generator=torch.Generator())  # forks inherit the default's lock

    def keep_drawing() -> None:
        while not stopped.is_set():
            draw()

    thread = threading.Thread(target=keep_drawing)
    thread.start()
    try:
        children = []
        for _ in range(20):
            children.append(os.fork())
            if children[-1] == 0:
                try:
                    signal.signal(signal.SIGALRM, signal.SIG_DFL)
                    signal.alarm(60)  # which ends a child that hangs
                    torch.set_num_threads(1)
                    draw()
                    os._exit(0)
                finally:
                    os._exit(1)
            time.sleep(0.002)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 20
    finally:
        stopped.set()
        thread.join()


class Masked(Dataset[Tensor]):
    """A data set whose workers draw a mask for each image, from their own default generator."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return CowOut(sigma=3, proportion=0.5)(torch.ones(1, 1, 24, 32))[0]


@pytest.mark.parametrize(("start", "epochs"), [("fork", 2), ("spawn", 1)])  # a spawned worker takes seconds to import
def test_data_loader_workers_draw_masks_of_their_own(start: str, epochs: int) -> None:
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {start}")
    cow_masks(1, (24, 32), 3)  # a forked worker inherits the tables
    torch.manual_seed(0)
    loader = DataLoader(Masked(), batch_size=1, num_workers=2, multiprocessing_context=start)
    masks = torch.cat([batch for _ in range(epochs) for batch in loader]).flatten(1)
    assert len(masks.unique(dim=0)) == 8 * epochs


def test_a_table_is_not_made_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="draw once before the capture"):
        basis.dct_basis(11, 3, torch.device("cuda"))
