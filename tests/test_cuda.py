"""What only a GPU can tell: `pytest -m cuda`."""

from typing import Any

import pytest
import torch

from cowmask import CowMix, CowOut, CutMix, CutOut, MixUp, consistency_loss, cow_masks

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

    run()  # makes the tables
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_same_masks_as_on_the_cpu_from_the_same_noise() -> None:
    noise = torch.randn(4, 1, 256, 320)
    on_cpu, on_gpu = (cow_masks(4, (256, 320), 5.0, noise=noise.to(device)) for device in ("cpu", "cuda"))
    assert (on_cpu != on_gpu.cpu()).float().mean() < 1e-4


def test_generator_lives_where_the_masks_do() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    first = cow_masks(2, (64, 64), generator=generator)
    assert first.is_cuda
    assert torch.equal(first, cow_masks(2, (64, 64), generator=generator.manual_seed(0)))
    with pytest.raises(ValueError, match="generator is on cpu"):
        cow_masks(2, (64, 64), generator=torch.Generator(), device="cuda")
