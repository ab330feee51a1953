"""Tests that need a GPU: `pytest -m cuda`."""

from typing import Any

import pytest
import torch

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp, consistency_loss, cow_masks, erase, mix

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    "transform",
    [
        CowMix(num_classes=7),
        CowMix(sigma=torch.linspace(2, 9, 4), num_classes=7),
        CutMix(num_classes=7),
        MixUp(num_classes=7),
        CowOut(),
        CutOut(),
    ],
    ids=repr,
)
def test_nothing_waits_for_the_device(transform: Any) -> None:
    images, labels = torch.rand(4, 3, 64, 80, device="cuda"), torch.tensor([0, 3, 6, 1], device="cuda")
    logits, probs = torch.randn(4, 5, 64, 80, device="cuda"), torch.rand(4, 5, 64, 80, device="cuda")
    valid = torch.ones(4, 1, 64, 80, dtype=torch.bool, device="cuda")

    def run() -> None:
        transform(images, labels)
        consistency_loss(logits, probs, valid=valid)

    run()  # makes the tables, and compiles the kernels
    try:
        torch.cuda.set_sync_debug_mode("error")
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_same_masks_as_on_the_cpu_from_the_same_noise() -> None:
    noise = torch.randn(4, 1, 256, 320)
    on_cpu = cow_masks(4, (256, 320), 5.0, noise=noise)
    for backend, precision, most in (("torch", "highest", 1e-4), ("triton", "highest", 1e-4), ("triton", "high", 4e-4)):
        on_gpu = cow_masks(4, (256, 320), 5.0, noise=noise.cuda(), backend=backend, precision=precision)
        assert (on_cpu != on_gpu.cpu()).float().mean() < most


def test_generator_lives_where_the_masks_do() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    first = cow_masks(2, (64, 64), generator=generator)
    assert first.is_cuda
    assert torch.equal(first, cow_masks(2, (64, 64), generator=generator.manual_seed(0)))
    with pytest.raises(ValueError, match="generator is on cpu"):
        cow_masks(2, (64, 64), generator=torch.Generator(), device="cuda")


def test_a_captured_graph_draws_new_masks_at_each_replay() -> None:
    cowmix, x = CowMix(), torch.rand(4, 3, 128, 96, device="cuda")

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        mask = cowmix.sample(x)
        return mask, cowmix(x, mask=mask)

    step()  # makes the tables, and compiles the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mask, mixed = step()
    seen = []
    for _ in range(3):
        graph.replay()
        assert torch.equal(mixed, torch.where(mask, x.roll(1, 0), x))
        seen.append(mask.clone())
    assert not any(torch.equal(seen[one], seen[other]) for one, other in ((0, 1), (1, 2), (0, 2)))


def test_compiled_and_captured_by_torch() -> None:
    cowmix, x = CowMix(), torch.rand(4, 3, 64, 96, device="cuda")
    compiled = torch.compile(cowmix, fullgraph=True, mode="reduce-overhead")
    for seed in range(4):
        torch.manual_seed(seed)
        expected = cowmix(x)
        torch.manual_seed(seed)
        assert torch.equal(compiled(x), expected)


def test_compiled_and_captured_without_an_eager_call_before() -> None:
    def draw() -> torch.Tensor:
        return cow_masks(3, (72, 88), (3, 6), device="cuda").float().sum((1, 2, 3))

    compiled = torch.compile(draw, fullgraph=True, mode="reduce-overhead")
    found = []
    for seed in range(4):
        torch.manual_seed(seed)
        found.append(compiled().clone())
    for seed in range(4):
        torch.manual_seed(seed)
        assert torch.equal(found[seed], draw())


def test_a_registered_generator_draws_new_masks_at_each_replay() -> None:
    generator, graph = torch.Generator("cuda").manual_seed(0), torch.cuda.CUDAGraph()
    sizes: dict[str, Any] = {"n": 2, "size": (64, 64), "generator": generator}
    cow_masks(**sizes)  # compiles the kernels
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        masks = cow_masks(**sizes)
    seen = []
    for _ in range(2):
        graph.replay()
        seen.append(masks.clone())
    assert not torch.equal(*seen)


def test_pinned_values_are_read_before_the_call_returns() -> None:
    sigmas = torch.full((64,), 4.0).pin_memory()
    torch.manual_seed(0)
    expected = cow_masks(64, (128, 128), sigmas, device="cuda")
    torch.manual_seed(0)
    torch.cuda._sleep(100_000_000)  # so that a copy would be late
    found = cow_masks(64, (128, 128), sigmas, device="cuda")
    sigmas.fill_(16.0)
    assert torch.equal(found, expected)


def most_allocated(call: Any) -> int:
    """Return the peak of the bytes that a call allocates, without those allocated before it."""
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    return torch.cuda.max_memory_allocated() - before if result is not None else 0


def test_mixing_allocates_its_output_and_nothing_else() -> None:
    x, mask = torch.rand(4, 3, 512, 512, device="cuda"), torch.rand(4, 1, 512, 512, device="cuda") < 0.5
    y, cowmix = x.flip(0), CowMix()
    for call in (lambda: mix(x, y, mask), lambda: erase(x, mask), lambda: cowmix(x, mask=mask)):
        assert most_allocated(call) <= x.numel() * x.element_size() + 1024


@pytest.mark.parametrize(("n", "size"), [(256, (512, 512)), (16, (2048, 2048)), (32, (128, 128, 128))])
def test_drawing_keeps_to_its_workspace(n: int, size: tuple[int, ...]) -> None:
    masks = n * torch.Size(size).numel()
    assert most_allocated(lambda: cow_masks(n, size, device="cuda")) <= masks + 2**26 + 2**21
