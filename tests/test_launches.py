"""How many launches a call makes on a GPU: see `tests/launches.py`. A wait for the GPU would be an error there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.fixture(scope="module")
def launches() -> dict[str, list[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command, root = [sys.executable, "-m", "tests.launches", "--json"], Path(__file__).parents[1]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root).stdout
    found: dict[str, list[str]] = json.loads(printed)
    return found


SEED, PREPARE, DRAW = "random_", "triton::prepare_kernel", "triton::draw_kernel"
BOXES, CONSTANTS, SELECT = "triton::boxes_kernel", "triton::constants_kernel", "triton::select_kernel"


@pytest.mark.parametrize(
    "call",
    [
        "cow_masks(1, (512, 512))",
        "cow_masks(256, (512, 512))",
        "cow_masks(16, (321, 321))",
        "proportion (0, 1)",
        "spacing (1, 2)",
        "sigma 1-4",
        "64 masks of 2048x2048",
        "(4096,)",
    ],
)
def test_a_draw_is_three_launches(call: str, launches: dict[str, list[str]]) -> None:
    assert launches[call] == [SEED, PREPARE, DRAW]


@pytest.mark.parametrize(
    ("call", "expected"),
    {
        "sigma of each mask": ["_to_copy", SEED, PREPARE, DRAW],
        "(128, 128, 128)": [SEED, PREPARE, "bmm", DRAW],
        'precision="highest"': [SEED, PREPARE, "mm", "triton::product_kernel"],
        "sigma 1-4 at 1024x1024": [SEED, PREPARE, "mm", "triton::product_kernel"],
        "box_masks(16, (512, 512))": [SEED, BOXES],
        "CowMix()(images, probs)": [SEED, PREPARE, DRAW, *[SELECT] * 2],
        "CowMix()(images, probs, targets)": [SEED, PREPARE, DRAW, *[SELECT] * 3],
        "CutMix()(images, probs, targets)": [SEED, BOXES, *[SELECT] * 3],
        "MixUp()(images)": [SEED, CONSTANTS, "lerp", "lerp"],
        "CowOut()(images)": ["new_full", SEED, PREPARE, DRAW, SELECT],
    }.items(),
)
def test_other_calls_take_the_road_that_is_documented(
    call: str, expected: list[str], launches: dict[str, list[str]]
) -> None:
    assert launches[call] == expected


def test_other_roads_copy_nothing_to_the_device(launches: dict[str, list[str]]) -> None:
    for call in ("sigma 0.5", "noise=", 'backend="torch"'):
        assert SEED not in launches[call]
        assert len(launches[call]) < 50
