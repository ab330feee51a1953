"""The blocks of docs/recipes.md for several processes, and for torchvision's and timm's loops."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cowmask import CowMix
from tests.forked import results
from tests.recipes import (
    CLASSES,
    Classifier,
    Names,
    Spy,
    are_mixed,
    assert_labels_fit,
    data,
    recipe,
    segmenter,
)


def semi_supervised(network: nn.Module, copies: int = 1) -> Names:
    """Return what a loop over labelled and unlabelled images takes for granted: two equal batches, or copies of them.

    Equal batches make equal masks show: accelerate gives each process other ones.
    """
    x, _, y = (part.repeat(2 * copies, *[1] * (part.ndim - 1)) for part in data(4))
    return {
        "loader": DataLoader(TensorDataset(x, y, x), batch_size=4),
        "optimizer": torch.optim.SGD(network.parameters(), 0.1),
        "cowmix": Spy(CowMix(sigma=(1, 4))),
        "seed": 5,
    }


def tell_processes_apart(names: Names, network: nn.Module) -> Names:
    """Return what JSON can hold: whether processes drew other masks, and whether weights agree."""
    mixed, _ = names["cowmix"].results[0]
    weights = torch.cat([p.detach().flatten() for p in (*network.parameters(), *names["teacher"].module.parameters())])
    everywhere: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everywhere, (mixed, weights))
    return {
        "masks agree": all(torch.equal(everywhere[0][0], one) for one, _ in everywhere[1:]),
        "weights agree": all(torch.equal(everywhere[0][1], one) for _, one in everywhere[1:]),
        "is mixed": bool(are_mixed(mixed).any()),
        "updates": int(names["teacher"].n_averaged),
    }


RIGHT = {"masks agree": False, "weights agree": True, "is mixed": True, "updates": 2}


def by_ddp(*_: Any) -> Names:
    network = segmenter()
    return tell_processes_apart(recipe("DistributedDataParallel", network=network, **semi_supervised(network)), network)


def test_ddp(tmp_path: Path) -> None:
    assert results(by_ddp, tmp_path, worlds=(2,)) == [RIGHT]


def by_accelerate(*_: Any) -> Names:
    model, accelerator = segmenter(), Accelerator(cpu=True)
    names = recipe("accelerate", accelerator=accelerator, model=model, **semi_supervised(model, copies=2))
    return tell_processes_apart(names, model)


def test_accelerate(tmp_path: Path) -> None:
    assert results(by_accelerate, tmp_path, worlds=(2,)) == [RIGHT]


def test_torchvisions_reference_loop() -> None:
    pytest.importorskip("torchvision")
    images, labels, _ = data()
    model = Classifier()
    names = recipe("torchvision's reference loop", dataset=TensorDataset(images, labels), model=model)
    assert_labels_fit_or_blend(names["images"], names["labels"])
    blended = []
    for _ in range(40):
        mixed, shares = names["collate"]([(x, int(y)) for x, y in zip(images, labels, strict=True)])
        assert_labels_fit_or_blend(mixed, shares)
        blended.append(bool((mixed != mixed.round()).any()))
    assert 5 < sum(blended) < 35
    assert torch.allclose(
        names["loss"], F.cross_entropy(model(names["images"]), 0.9 * names["labels"] + 0.1 / CLASSES), atol=1e-5
    )


def assert_labels_fit_or_blend(images: Tensor, labels: Tensor) -> None:
    if (images == images.round()).all():
        assert_labels_fit(images, labels)
    else:
        assert torch.allclose(images[:, 0].mean((1, 2)), labels @ torch.arange(10.0), atol=1e-4)


def test_timms_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    images, labels, _ = data(7)  # an odd batch
    names = recipe("timm's loop", loader=[(images, labels)], model=timm.create_model("lcnet_050", num_classes=CLASSES))
    names["loss"].backward()
    assert not torch.equal(names["images"], images)
    # The labels of a batch of two are timm's, for the same lam.
    pair, hard = data(2)[:2]
    monkeypatch.setattr(random, "choice", lambda _: names["cutmix"])
    mixed, smooth = names["mixup_fn"](pair, hard)
    lam = (mixed[:, 0] == pair[:, 0]).float().mean((1, 2))
    for row in range(2):
        theirs = timm.data.mixup.mixup_target(hard, CLASSES, lam[row].item(), smoothing=0.1)
        assert torch.allclose(smooth[row], theirs[row], atol=1e-6)
