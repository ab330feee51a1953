"""The comparison with other libraries: that its probes can say no, and that the page is what they say."""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.compare import beside, probes, step
from benchmarks.compare.batches import images, labels, maps, mean_value, probs, soft
from benchmarks.compare.cells import Cell, answer, cell, load, together
from benchmarks.compare.libraries.cowmask import LIBRARY, CowMixRoad, CowOutRoad, CutMixRoad, CutOutRoad, MixUpRoad
from benchmarks.compare.page import NAMES, render
from benchmarks.compare.roads import Batch, Library, Road
from benchmarks.compare.rows import TABLES, Beside, Row
from tests.roads import (
    Constant,
    Copied,
    DrawsAnew,
    EvenBatches,
    Frames,
    GraphBreak,
    InPlace,
    Loses,
    NoPartner,
    OneCorner,
    OneFrame,
    OneMask,
    OneP,
    OneSeed,
    Opens,
    Reads,
    ReadsInside,
    SharedNumbers,
    Slices,
    Unseeded,
    replaces,
)

PAGE = Path(__file__).parents[1] / "docs" / "compare.md"


def test_readme_quotes_the_page() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text().split("## What others do")[1].split("## ")[0]
    quoted = [line for line in readme.splitlines() if line.startswith("| ") and "cowmask" not in line]
    page = re.sub(r" \(\d+\) \|", " |", PAGE.read_text())
    assert len(quoted) == 6
    assert set(quoted) <= set(page.splitlines())


def unmixed(name: str) -> Callable[[Batch, Batch], Any]:
    return lambda _, batch: batch[name]


def blended(out: Batch, _: Batch) -> Tensor:
    return (out["maps"] + out["maps"].roll(1, 2)) // 2


def half(_: Batch, batch: Batch) -> Tensor:
    own = torch.nn.functional.one_hot(batch["labels"], len(batch["labels"])).float()
    return (own + own.roll(1, 0)) / 2


# A probe, a road that it says yes to, and roads that it says no to, each for a reason.
CASES: list[tuple[Callable[[type[Road]], str], type[Road], dict[str, type[Road]]]] = [
    (
        probes.integer_maps,
        CowMixRoad,
        {
            "maps differ from the images": replaces(maps=unmixed("maps")),
            "maps come out as torch.float32": replaces(maps=lambda out, _: out["maps"].float()),
            "the images are not mixed": replaces(images=unmixed("images")),
            "MixUp blends": MixUpRoad,
        },
    ),
    (
        probes.ignored,
        CowMixRoad,
        {
            "makes new values": replaces(maps=blended),
            "255 is not where": replaces(maps=lambda out, _: out["maps"].where(out["maps"] != 255, 0)),
        },
    ),
    (probes.probability_maps, MixUpRoad, {"maps differ from the images": replaces(probs=unmixed("probs"))}),
    (
        probes.class_labels,
        CowMixRoad,
        {
            "as they went in": replaces(labels=unmixed("labels")),
            "do not add up to 1": replaces(labels=lambda out, _: out["labels"] / 2),
            "of one image alone": replaces(labels=lambda out, _: out["labels"].round()),
        },
    ),
    (probes.soft_labels, CutMixRoad, {"as they went in": replaces(soft=unmixed("soft"))}),
    (probes.measured_labels, CutMixRoad, {"not those of the pixels": replaces(labels=half)}),
    (probes.second_batch, CowMixRoad, {"nothing of the other batch": NoPartner, "no argument for it": CowOutRoad}),
    (probes.any_shape, CowOutRoad, {"all regions are boxes": CutOutRoad}),
    (probes.each_its_own, CutMixRoad, {"one mask for the whole batch": OneMask}),
    (probes.p_of_each, CowOutRoad, {"once for the whole batch": OneP}),
    (probes.odd_batch, MixUpRoad, {"AssertionError": EvenBatches}),
    (probes.batch_of_one, CowMixRoad, {"AssertionError": EvenBatches}),
    (probes.own_generator, CutOutRoad, {"that all share": SharedNumbers, "another seed gives the same": OneSeed}),
    (probes.replayed, MixUpRoad, {"the masks differ": DrawsAnew}),
    (step.workers, CowMixRoad, {"draw the same masks": Copied, "the same seed gives other masks": Unseeded}),
    (step.compiles, CowMixRoad, {"Data-dependent branching": GraphBreak, "the same masks at every call": Constant}),
    (step.reads_nothing, CowMixRoad, {"item": Reads, "meta": ReadsInside}),
    (
        step.gradients,
        MixUpRoad,
        {
            "cut off from the images": replaces(images=lambda out, _: out["images"].detach()),
            "add up to 50%": replaces(images=lambda out, _: out["images"] / 2),
        },
    ),
    (step.inputs_unchanged, CowOutRoad, {"writes into the images": InPlace}),
    (
        step.uint8,
        CowOutRoad,
        {
            "comes out as torch.float32": replaces(images=lambda out, _: out["images"].float()),
            "makes new values": replaces(images=lambda out, _: out["images"] // 2),
        },
    ),
    (step.bfloat16, MixUpRoad, {"comes out as torch.float32": replaces(images=lambda out, _: out["images"].float())}),
    (step.volumes, CowMixRoad, {"do not change along the depth": Slices}),
    (step.videos, OneFrame, {"frames of a clip have different masks": Frames}),
    (step.dicts, Opens, {"the unknown entry is lost": Loses, "takes no dict": CowMixRoad}),
    (
        step.image_types,
        CowMixRoad,
        {"comes out as Tensor": replaces(images=lambda out, _: out["images"].as_subclass(Tensor))},
    ),
    (
        step.mask_types,
        CutMixRoad,
        {
            "comes out as Tensor": replaces(maps=lambda out, _: out["maps"].as_subclass(Tensor)),
            "differs from the image": replaces(maps=unmixed("maps")),
        },
    ),
    (step.meta_tensors, CowOutRoad, {"comes out as Tensor": replaces(images=lambda out, _: out["images"].as_tensor())}),
]
NEEDS = {step.image_types: "torchvision", step.mask_types: "torchvision", step.meta_tensors: "monai"}


@pytest.mark.parametrize(("probe", "right", "wrong"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_probe_says_yes_and_no(
    probe: Callable[[type[Road]], str], right: type[Road], wrong: dict[str, type[Road]]
) -> None:
    if probe in NEEDS:
        pytest.importorskip(NEEDS[probe])
    check_answers(probe, right, wrong)


def check_answers(probe: Callable[[Any], str], right: Any, wrong: dict[str, Any]) -> None:
    """Check that a probe says yes to what is right, and no to what is wrong, for its reason."""
    assert answer(partial(probe, right)).verdict == "yes"
    for reason, faulty in wrong.items():
        found = answer(partial(probe, faulty))
        assert found.verdict == "no", reason
        assert reason in found.reason


def test_every_row_has_a_case() -> None:
    rows = [row for rows in TABLES.values() for row in rows]
    assert {row.probe for row in rows if isinstance(row, Row)} == {case[0] for case in CASES}
    assert len({row.title for row in rows}) == len(rows)


def test_boxes_that_share_a_corner() -> None:
    assert answer(partial(probes.each_its_own, OneCorner)) == Cell("partly", "all boxes of a batch begin at one corner")


def test_what_the_batches_say_agrees() -> None:
    x = images()
    assert probes.same(mean_value(soft()), x[:, 1, 0, 0])
    assert probes.same(mean_value(probs()), x[:, 1])
    assert probes.same(x[:, 0, 0, 0], mean_value(torch.eye(len(x))[labels()]))
    ignored = maps(ignore=True)
    assert probes.same((ignored == 255).float(), x[:, 2])
    assert 0 < x[:, 2].mean() < 1
    assert all(len(x[:, channel, 0, 0].unique()) == len(x) for channel in (0, 1))


def tools(**tools: Callable[..., Any]) -> Library:
    return Library(package="cowmask", roads=(), transforms=0, mixes=0, tools=tools)


def erase_left(image: Any) -> Any:
    """Erase the left half of a tensor (C, H, W) or an array (H, W, C)."""
    out = image.clone() if isinstance(image, Tensor) else image.copy()
    out[..., : out.shape[-1] // 2] = 0
    return out


def cut(image: Tensor, corners: Tensor, at: int) -> tuple[Tensor, Tensor]:
    """Erase the columns before `at`, and cut boxes there."""
    out, left = image.clone(), corners.clone()
    out[..., :at] = 0
    left[:, 0] = left[:, 0].clamp(min=at)
    return out, left[left[:, 0] < left[:, 2]]


def keep_box(image: Tensor, corners: Tensor, at: int) -> tuple[Tensor, Tensor]:
    return cut(image, corners, at)[0], corners


def drop_box(image: Tensor, corners: Tensor, at: int) -> tuple[Tensor, Tensor]:
    return cut(image, corners, at)[0], corners[:0]


x1, y1, x2, y2 = beside.BOX
BESIDE: list[tuple[Callable[[Library], str], Library, dict[str, Library]]] = [
    (
        beside.single_image,
        tools(one=erase_left),
        {
            "nothing is erased": tools(one=lambda x: x),
            "comes out as ndarray": tools(one=lambda x: erase_left(x.numpy())),
        },
    ),
    (beside.numpy_image, tools(one=erase_left), {"comes out as list": tools(one=lambda x: list(x))}),
    (
        beside.pil_image,
        tools(one=lambda x: Image.fromarray(np.array(x) // 2)),
        {"comes out as ndarray": tools(one=lambda x: np.array(x) // 2), "nothing is erased": tools(one=lambda x: x)},
    ),
    (
        beside.boxes_follow,
        tools(boxes=partial(cut, at=(x1 + x2) // 2)),
        {
            "keep their size": tools(boxes=partial(keep_box, at=(x1 + x2) // 2)),
            "whose object is gone": tools(boxes=partial(keep_box, at=x2)),
            "an object has no box": tools(boxes=partial(drop_box, at=x1)),
        },
    ),
    (
        beside.points_follow,
        tools(points=lambda image, places: (torch.zeros_like(image), places[:0])),
        {"a point stays": tools(points=lambda image, places: (torch.zeros_like(image), places))},
    ),
    (
        beside.rotates,
        tools(rotate=lambda image, _: (image.flip(1), None)),
        {"nothing turns": tools(rotate=lambda image, _: (image, None)), "has no such transform": tools()},
    ),
    (
        beside.boxes_turn,
        tools(rotate=lambda image, _: (image.roll(8, 2), torch.tensor([[x1 + 8.0, y1, x2 + 8, y2]]))),
        {
            "turns images alone": tools(rotate=lambda image, _: (image, None)),
            "the object leaves its box": tools(rotate=lambda image, corners: (image.roll(8, 2), corners)),
        },
    ),
]


@pytest.mark.parametrize(("probe", "right", "wrong"), BESIDE, ids=[case[0].__name__ for case in BESIDE])
def test_a_probe_of_a_library_says_yes_and_no(
    probe: Callable[[Library], str], right: Library, wrong: dict[str, Library]
) -> None:
    check_answers(probe, right, wrong)


def test_a_cell_is_of_all_roads() -> None:
    yes, no = Cell("yes"), Cell("no", "why")
    assert together({}, enough=False) == Cell("no", "has no such transform")
    assert together({"a": yes, "b": yes}, enough=False) == Cell("yes")
    assert together({"a": yes, "b": no}, enough=False) == Cell("partly", "a; but b: why")
    assert together({"a": yes, "b": no}, enough=True) == Cell("yes", "by a")
    assert together({"a": no, "b": Cell("no", "other")}, enough=True) == Cell("no", "why")
    assert together({"a": yes, "b": Cell("yes", "with care")}, enough=False, named=True) == Cell(
        "yes", "by a, b; with care"
    )


def test_a_library_that_is_not_there_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks.compare.libraries.fmix", None)
    found = cell(load("fmix"), next(iter(TABLES.values()))[0])
    assert found.verdict == "not run"


def test_the_page_numbers_its_notes() -> None:
    cells = {name: Cell("yes") for name in NAMES}
    found = {
        "Head": {"First": cells, "Second": cells | {"timm": Cell("no", "`Error: why`"), "kornia": Cell("not run", "x")}}
    }
    lines = render(found, "# Top\n\n{found}", "foot").splitlines()
    assert "| First | yes | yes | yes | yes | yes | yes | yes |" in lines
    assert "| Second (1) | yes | yes | not run | no | yes | yes | yes |" in lines
    assert "1. Second. **timm**: `Error: why`." in lines
    assert f"torch {torch.__version__.partition('+')[0]}" in " ".join(lines)


@pytest.mark.parametrize("row", [row for rows in TABLES.values() for row in rows], ids=lambda row: row.title)
def test_the_page_says_of_us_what_probes_say_today(row: Row | Beside) -> None:
    for library in ("torchvision", "monai"):
        pytest.importorskip(library)
    if row.probe is beside.single_image or (isinstance(row, Row) and row.containers):
        pytest.importorskip("cowmask.integrations.torchvision")
    if row.probe is step.reads_nothing:
        try:
            torch._standard_gamma(torch.ones(1, device="meta"))
        except NotImplementedError:
            pytest.skip(f"torch {torch.__version__} draws no gamma numbers without values")
    lines = re.findall(rf"^\| {re.escape(row.title)}(?: \(\d+\))? \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert lines == [cell(LIBRARY, row).verdict]


def test_the_page_fits() -> None:
    assert max(map(len, PAGE.read_text().splitlines())) <= 120
