"""What v2.CutMix and v2.MixUp do as modules of torch, and in pipelines."""

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from tests.peers.cases import CLASSES, LABELS, ONE_HOT, SIZE, Make, case, expect_mixed, images


@case()
def inputs_are_not_changed(make: Make) -> None:
    x, y = images(), LABELS.clone()
    make(num_classes=CLASSES)(x, y)
    assert torch.equal(x, images())
    assert torch.equal(y, LABELS)


@case()
def results_are_new(make: Make) -> None:
    one_hot = ONE_HOT.clone()
    mixed, soft = make()(x := images(), one_hot)
    mixed.zero_()
    soft.zero_()
    assert torch.equal(x, images())
    assert torch.equal(one_hot, ONE_HOT)


@case()
def containers_are_not_changed(make: Make) -> None:
    sample = {"image": (x := images()), "label": LABELS}
    make(num_classes=CLASSES)(sample)
    assert sample["image"] is x
    assert sample["label"] is LABELS


@case()
def gradients_pass(make: Make) -> None:
    x = images().requires_grad_()
    mixed, _ = make(num_classes=CLASSES)(x, LABELS)
    assert torch.allclose(torch.autograd.grad(mixed.sum(), x)[0].sum(), torch.tensor(float(x.numel())))


@case()
def is_a_transform(make: Make) -> None:
    assert isinstance(make(num_classes=CLASSES), v2.Transform)


@case()
def is_a_module_without_state(make: Make) -> None:
    transform = make(num_classes=CLASSES)
    assert isinstance(transform, nn.Module)
    assert not transform.state_dict()
    assert not list(transform.parameters())


@case()
def shows_its_arguments(make: Make) -> None:
    text = repr(make(num_classes=CLASSES))
    assert text.startswith(f"{make.__name__}(")
    assert f"num_classes={CLASSES}" in text
    assert "\n" not in text


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda transform: pickle.loads(pickle.dumps(transform)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "train": lambda transform: transform.train(),
    "eval": lambda transform: transform.eval(),
    "to": lambda transform: transform.to("cpu"),
    "module list": lambda transform: nn.ModuleList([transform])[0],
}


@case(COPIES)
def mixes_the_same_after(make: Make, value: Callable[[Any], Any]) -> None:
    transform = make(num_classes=CLASSES)
    twins = []
    for one in (transform, value(transform)):
        torch.manual_seed(1)
        twins.append(one(images(), LABELS))
    assert torch.equal(twins[0][0], twins[1][0])
    assert torch.equal(twins[0][1], twins[1][1])


@case()
def the_seed_decides(make: Make) -> None:
    transform, means = make(num_classes=CLASSES), []
    for seed in (0, 0, *range(1, 9)):
        torch.manual_seed(seed)
        means.append(transform(images(), LABELS)[1].flatten().tolist())
    assert means[0] == means[1]
    assert len({tuple(mean) for mean in means}) > 4


BATCHES = {
    "odd": (3, 3, 24, 36),
    "of two": (2, 3, 24, 36),
    "large": (20, 3, 24, 36),
    "square": (4, 3, 32, 32),
    "wide": (4, 3, 16, 100),
    "one channel": (4, 1, 24, 36),
    "many channels": (4, 12, 24, 36),
}


@case(BATCHES)
def batches_that_are(make: Make, value: tuple[int, ...]) -> None:
    labels, transform = torch.arange(value[0]) % CLASSES, make(num_classes=CLASSES)
    expect_mixed(lambda: transform(images(value), labels), labels)


@case()
def a_batch_of_one_stays_as_it_is(make: Make) -> None:
    x = images((1, 3, 24, 36))
    same, one_hot = make(num_classes=CLASSES)(x, LABELS[:1])
    assert torch.allclose(same, x)
    assert torch.allclose(one_hot, ONE_HOT[:1])


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:, :1].expand(SIZE),
    "strided": lambda x: x.repeat_interleave(2, 3)[..., ::2],
}


@case(LAYOUTS)
def images_may_be(make: Make, value: Callable[[Tensor], Tensor]) -> None:
    transform = make(num_classes=CLASSES)
    expect_mixed(lambda: transform(value(images()), LABELS))


@contextmanager
def _float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64 by default": _float64_by_default,
    "TVTensor as return type": lambda: tv_tensors.set_return_type("TVTensor"),
}


@case(CONTEXTS)
def mixes_under(make: Make, value: Callable[[], Any]) -> None:
    transform, x = make(num_classes=CLASSES), tv_tensors.Image(images())
    with value():
        expect_mixed(lambda: transform(x, LABELS))
        assert transform(x, LABELS)[0].dtype == torch.float32


@case({name: name for name in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))})
def results_are_on(make: Make, value: str) -> None:
    x, labels = images().to(value), LABELS.to(value)
    for result in make(num_classes=CLASSES)(x, labels):
        assert result.device.type == value


@case()
def compiles_with_breaks(make: Make) -> None:
    transform = torch.compile(make(num_classes=CLASSES), backend="eager")
    expect_mixed(lambda: transform(images(), LABELS))
    torch.compiler.reset()


PIPELINES: dict[str, Callable[[Any], Any]] = {
    "Compose": lambda transform: v2.Compose([v2.RandomHorizontalFlip(), transform]),
    "Compose, first": lambda transform: v2.Compose([transform, v2.RandomVerticalFlip()]),
    "ToDtype": lambda transform: v2.Compose([v2.ToDtype(torch.float64), transform, v2.ToDtype(torch.float32)]),
    "RandomChoice": lambda transform: v2.RandomChoice([transform, transform], p=[0.5, 0.5]),
    "RandomApply": lambda transform: v2.RandomApply([transform], p=1.0),
    "RandomOrder": lambda transform: v2.RandomOrder([v2.RandomHorizontalFlip(), transform]),
    "ToPureTensor": lambda transform: v2.Compose([transform, v2.ToPureTensor()]),
}


@case(PIPELINES)
def mixes_in(make: Make, value: Callable[[Any], Any]) -> None:
    pipeline = value(make(num_classes=CLASSES))
    expect_mixed(lambda: pipeline(tv_tensors.Image(images()), LABELS))


@case()
def mixes_in_a_sequence_of_modules(make: Make) -> None:
    sequence = nn.Sequential(v2.RandomHorizontalFlip(), make(num_classes=CLASSES))
    expect_mixed(lambda: sequence((tv_tensors.Image(images()), LABELS)))


@case(PIPELINES)
def mixes_dicts_in(make: Make, value: Callable[[Any], Any]) -> None:
    pipeline = value(make(num_classes=CLASSES))
    expect_mixed(lambda: itemgetter("a", "label")(pipeline({"a": tv_tensors.Image(images()), "label": LABELS})))


@case({"batches": False, "dicts": True})
def as_a_collate_fn(make: Make, value: bool) -> None:
    transform = make(num_classes=CLASSES)
    pairs = [{"image": x, "label": y} if value else (x, y) for x, y in zip(images(), LABELS.tolist(), strict=True)]
    loader = DataLoader(pairs, batch_size=4, collate_fn=lambda batch: transform(default_collate(batch)))  # type: ignore
    expect_mixed(lambda: tuple(next(iter(loader)).values() if value else next(iter(loader))))
