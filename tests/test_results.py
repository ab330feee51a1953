"""The pages of docs/results have the tables of the JSON files beside them, and no further row."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sweep
import unlabelled
from segmentation.campaigns.records import between_studies, overview, read, table_of_classes, tables
from segmentation.campaigns.studies import PAPER, STUDIES, StudyName

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def page(name: str) -> str:
    """Return a page that ends in a blank line, so that one follows every table."""
    return (RESULTS / f"{name}.md").read_text() + "\n"


def content_of(name: str) -> dict[str, Any]:
    """Return the content of a JSON file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


@pytest.mark.parametrize("name", STUDIES)
def test_tables_of_a_study_as_it_is_today(name: StudyName) -> None:
    study, records, text = STUDIES[name], read(RESULTS / f"{name}.json"), page(name.partition("-")[0])
    assert bool(records) == (f"[`{name}.json`]({name}.json)" in text)
    if records:
        content = content_of(name)
        assert content["question"] == study.question
        assert content["arguments"] == shlex.join(study.common)
        assert all(shlex.split(words) == list(study.variants[name]) for name, words in content["variants"].items())
        shown = tables(study, records)
        assert f"\n\n{shown.pop('all images')}\n" in text
        assert [
            part for part, table in shown.items() if f"\n\n{part[0].upper()}{part[1:]}:\n\n{table}\n" not in text
        ] == []


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("camvid-subsets", PAPER),
        ("camvid-subsets", "mixed with labelled images, test images unlabelled"),
        ("camvid-sizes", "480x360, flips"),
        ("camvid-full-size", "3,600 iterations, flips and scales"),
    ],
)
def test_tables_of_classes(name: StudyName, variant: str) -> None:
    records = read(RESULTS / f"{name}.json")
    assert f"\n\n{table_of_classes(STUDIES[name], records, variant)}\n" in page("camvid")


@pytest.mark.parametrize("laid_out", [overview, between_studies])
def test_tables_of_all_studies(laid_out: Callable[[dict[StudyName, Any]], str]) -> None:
    expected = laid_out({name: read(RESULTS / f"{name}.json") for name in STUDIES})
    assert f"\n\n{expected}\n" in page("README")


def scores_on_unlabelled_images(name: str) -> str:
    """Lay out the content of a JSON file of unlabelled.py."""
    content = content_of(name)
    return unlabelled.table(content["classes"], [(pair["base"], pair["other"]) for pair in content["pairs"]])


def test_table_of_unlabelled_images() -> None:
    assert f"\n\n{scores_on_unlabelled_images('camvid-unlabelled')}\n" in page("camvid")


@pytest.mark.parametrize("trained", ["mixed", "flips", "scales"])
def test_means_on_unlabelled_images_of_other_trainings(trained: str) -> None:
    name = f"camvid-unlabelled-{trained}"
    mean = scores_on_unlabelled_images(name).splitlines()[2].removeprefix("| mean ")
    assert f"]({name}.json) {mean}\n" in page("camvid")


@pytest.mark.parametrize("parameter", ["consistency-weight", "ema", "sigma"])
def test_tables_of_sweeps_on_the_validation_split(parameter: str) -> None:
    name = f"sweep-{parameter}"
    content = content_of(name)
    assert list(content["test"]) == list(sweep.VALUES[parameter])
    assert (content["parameter"], content["tested_on"]) == (parameter, "validation set")
    assert f"[`{name}.json`]({name}.json)" in page("camvid")
    assert f"\n\n{sweep.table(content)}\n" in page("camvid")
