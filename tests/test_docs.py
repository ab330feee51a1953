"""What the pages of the site say about the code: what transforms accept, what the gallery shows, the smallest diff."""

import inspect
import random
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cowmask
from tests.pages import ROOT, blocks, run

DOCS = ROOT / "docs"
BATCH, CLASSES, SIZE = 4, 5, (16, 24)
MAKE: dict[str, Callable[..., Any]] = {
    "CowMix": lambda **k: cowmask.CowMix((1, 4), **k),
    "CutMix": lambda **k: cowmask.CutMix(**k),
    "MixUp": lambda **k: cowmask.MixUp(**k),
    "CowOut": lambda **k: cowmask.CowOut((1, 4), 0.5, **k),
    "CutOut": lambda **k: cowmask.CutOut(0.5, **k),
}
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGER = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)


class Call(NamedTuple):
    """One call of a transform."""

    images: Tensor
    targets: tuple[Tensor, ...] = ()
    partner: Tensor | None = None
    settings: dict[str, Any] = {}  # noqa: RUF012


def images(*size: int, n: int = BATCH) -> Tensor:
    return torch.rand(n, 3, *(size or SIZE))


def with_target(*targets: Tensor, **settings: Any) -> list[Call]:
    return [Call(images(), (target,), None, settings) for target in targets]


def of_every_dtype(dtypes: tuple[torch.dtype, ...], *shapes: tuple[int, ...]) -> list[Tensor]:
    return [(9 * torch.rand(shape)).to(dtype) for shape in shapes for dtype in dtypes]


def odd_images() -> list[Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested and quantised tensors are prototypes
        return [
            images().to(torch.float8_e4m3fn),
            images().to_sparse(),
            torch.nested.nested_tensor([torch.rand(3, 4, 4), torch.rand(3, 5, 5)]),
            torch.quantize_per_tensor(images(), 0.1, 0, torch.quint8),
        ]


DENSE = (BATCH, *SIZE), (BATCH, CLASSES, *SIZE)
LABELS = torch.arange(BATCH)
ROWS: dict[str, Callable[[], list[Call]]] = {
    "images, floating (16, 32 or 64 bits, bfloat16)": lambda: [Call(images().to(dtype)) for dtype in FLOATING],
    "images, integer or bool": lambda: [Call((9 * images()).to(dtype)) for dtype in INTEGER],
    "images, complex": lambda: [Call(images() * (1 + 2j))],
    "images, float8, sparse, nested or quantised": lambda: [Call(x) for x in odd_images()],
    "dense targets, floating: (B, *size) or (B, X, *size)": lambda: with_target(*of_every_dtype(FLOATING, *DENSE)),
    "dense targets, integer or bool, of the same shapes": lambda: with_target(*of_every_dtype(INTEGER, *DENSE)),
    "dense targets of another size": lambda: with_target(torch.rand(BATCH, 8, 8), torch.rand(BATCH, CLASSES, 8, 8)),
    "labels, integer (B,), with `num_classes`": lambda: with_target(LABELS, num_classes=CLASSES),
    "labels, integer (B,), without": lambda: with_target(LABELS),
    "labels, floating (B, K) in [0, 1]": lambda: with_target(torch.rand(BATCH, CLASSES)),
    "labels, floating (B, K) beyond [0, 1]": lambda: with_target(2 + torch.rand(BATCH, CLASSES)),
    "one image, without `partner`": lambda: [Call(images(n=1))],
    "one image, with `partner`": lambda: [Call(images(n=1), partner=images(n=1))],
    "signals (B, C, L), `ndim=1`": lambda: [Call(images(40), settings={"ndim": 1})],
    "volumes (B, C, D, H, W), `ndim=3`": lambda: [Call(images(8, 8, 8), settings={"ndim": 3})],
    "another number of axes than `ndim` says": lambda: [
        Call(images(*size), settings={"ndim": ndim}) for ndim, size in ((1, SIZE), (2, (40,)), (3, SIZE))
    ],
    "an `aspect`, for signals or volumes": lambda: [
        Call(images(*size), settings={"ndim": ndim, "aspect": 1.0}) for ndim, size in ((1, (40,)), (3, (8, 8, 8)))
    ],
}


def outcome(make: Callable[..., Any], call: Call) -> str:
    """Return what becomes of the last tensor of a call, in the words of the table."""
    known = inspect.signature(type(make())).parameters
    if "aspect" in call.settings and "aspect" not in known:
        return "no such option"
    settings = {name: value for name, value in call.settings.items() if name in known}
    try:
        transform = make(**settings)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mask = transform.sample(call.images)
            partner = {} if call.partner is None else {"partner": (call.partner, *call.targets)}
            results = transform(call.images, *call.targets, mask=mask, **partner)
    except (TypeError, ValueError) as error:
        return type(error).__name__
    if any("batch of one" in str(warning.message) for warning in caught):
        return "warned" if torch.equal(results, call.images) else "changed"
    return change((call.images, *call.targets)[-1], results[-1] if call.targets else results, mask, call.partner)


def change(before: Tensor, after: Tensor, mask: Tensor, partner: Tensor | None) -> str:
    """Return how a tensor was changed by a mask that changes something."""
    selects = mask.dtype == torch.bool
    assert 0 < mask.float().mean() < 1
    if after is before:
        return "passed on"
    is_labels = before.ndim <= 2
    if before.ndim == 1:
        before = F.one_hot(before, CLASSES).float()
    other = before.roll(1, 0) if partner is None else partner
    if is_labels:
        share = mask.float().mean(tuple(range(1, mask.ndim)))[:, None]
        mixed_by_share = torch.allclose(after, before + share * (other - before))
        return ("by area" if selects else "by weight") if mixed_by_share else "changed"
    mask = mask if before.ndim == mask.ndim else mask[:, 0]
    if not selects:
        expected = torch.lerp(before, other, mask.to(before.dtype))
        return "blended" if torch.allclose(after, expected, atol=1e-2) else "changed"
    if torch.equal(after, torch.where(mask, other, before)):
        return "selected"
    return "erased" if torch.equal(after, torch.where(mask, before, 0)) else "changed"


def cells() -> Iterator[tuple[str, str, str]]:
    """Yield (row, transform, what the table says)."""
    section = (DOCS / "api.md").read_text().split("## What each transform accepts")[1].split("\n## ")[0]
    header, _, *rows = ([cell.strip() for cell in x.split("|")[1:-1]] for x in section.splitlines() if x[:1] == "|")
    for row, *said in rows:
        for name, word in zip(header[1:], said, strict=True):
            yield row, name, word


def test_the_table_has_all_rows_and_transforms() -> None:
    assert [row for row, name, _ in cells() if name == "CowMix"] == list(ROWS)
    assert {name for _, name, _ in cells()} == set(MAKE)


@pytest.mark.parametrize(("row", "name", "said"), list(cells()))
def test_transforms_accept_what_the_table_says(row: str, name: str, said: str) -> None:
    torch.manual_seed(0)
    assert {outcome(MAKE[name], call) for call in ROWS[row]()} == {said}


GALLERY = (DOCS / "gallery.md").read_text()
CALLS = re.findall(r"^`(\w+\(.*\))`$", GALLERY, re.MULTILINE)


def test_every_picture_of_the_gallery_has_a_call() -> None:
    assert len(CALLS) == GALLERY.count(":img-top:") == len(set(CALLS))


@pytest.mark.parametrize("call", CALLS)
def test_calls_of_the_gallery_work(call: str) -> None:
    transform = eval(call, {**vars(cowmask), "torch": torch})
    x = images(*(8, 16, 24)[3 - transform.ndim :])
    assert transform(x).shape == x.shape


@pytest.mark.parametrize("name", MAKE)
def test_the_gallery_shows_every_option(name: str) -> None:
    shown = set(re.findall(r"(\w+)=", " ".join(call for call in CALLS if call.startswith(f"{name}("))))
    assert shown == set(inspect.signature(getattr(cowmask, name)).parameters) - {"num_classes"}


def test_three_lines_mix_in_a_supervised_loop() -> None:
    block = re.search(r"```diff\n(.*?)```", (DOCS / "loop.md").read_text(), re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    assert sum(line.startswith("+") for line in lines) == 3
    seen: list[Tensor] = []
    model = nn.Conv2d(3, CLASSES, 1)
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, y = images(), torch.randint(CLASSES, (BATCH, *SIZE))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model.weight.clone()
    exec("\n".join(line[1:] for line in lines), {"F": F, "model": model, "loader": [(x, y)], "optimizer": optimizer})
    assert not torch.equal(seen[0], x)
    assert not torch.equal(model.weight, before)


def test_mixed_labels_have_the_loss_of_two_losses() -> None:
    labels, model = torch.tensor([0, 1, 2, 3]), nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    names: dict[str, Any] = {"random": random, "torch": torch, "F": F, "CutMix": cowmask.CutMix, "model": model}
    height, width = SIZE
    names = run("docs/porting.md", {**names, "H": height, "W": width, "images": images(), "labels": labels})
    logits, lam = model(names["mixed"]), names["mixed_labels"][torch.arange(BATCH), labels]
    own, of_partner = (F.cross_entropy(logits, y, reduction="none") for y in (labels, labels.roll(1, 0)))
    assert torch.allclose(names["loss"], (lam * own + (1 - lam) * of_partner).mean())


@pytest.mark.parametrize("drawing", sorted((DOCS / "drawings").glob("*.svg")), ids=lambda path: path.stem)
def test_drawings_say_what_they_show(drawing: Any) -> None:
    title = ElementTree.parse(drawing).find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {cowmask.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_notebook_has_the_code_of_the_start_page() -> None:
    cells = pytest.importorskip("jupytext").read(DOCS / "start.md").cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert code == [block.code.rstrip() for block in blocks("docs/start.md")]
