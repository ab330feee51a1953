"""examples/evidence.py, with a trainer that only makes up scores."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import evidence
from evidence import Options
from segmentation.campaigns import plots
from segmentation.campaigns.records import (
    Difference,
    between_studies,
    difference,
    overview,
    table_of_classes,
    tables,
)
from segmentation.campaigns.runner import CampaignError
from segmentation.campaigns.studies import BETWEEN_STUDIES, STUDIES, VALIDATION, Cell, StudyName, validated_after
from segmentation.config import parse
from segmentation.methods import MethodName
from segmentation.presets import camvid
from segmentation.storage import locked
from tests.forked import run_script
from tests.test_campaign import is_shaded

RESULTS = Path(__file__).parents[1] / "docs" / "results"
FAKE = """
import json, pathlib, sys
words = sys.argv[1:]
option = dict(zip(words, words[1:]))
out, method, seed = pathlib.Path(option["--out"]), option["--method"], int(option["--seed"])
score = {"supervised": 0.4, "cowmix": 0.45, "full": 0.6}[method] + seed / 100
score += (0.02 if method == "cowmix" and seed else 0) + (0.1 if "--iterations" in option else 0)
streets = {"east": score, "west": score / 2}
scores = {"miou": score, "student_miou": 0.1, "iou": {"sky": 0.5, "sea": None}, "groups": streets}
(out / method).mkdir()
lines = ["step,name,value", "10,val/miou_teacher,0.3", "10,loss/supervised,7", "20,val/miou_teacher,0.35"]
(out / method / "log.csv").write_text("\\n".join(lines) + "\\n")
report = {"dataset": "made up", "tested_on": "test set", "torch": "2.11", "seconds": {method: 61.4}}
report["test"] = {method: scores}
(out / "metrics.json").write_text(json.dumps(report))
"""


@pytest.fixture
def fake(tmp_path: Path) -> list[str]:
    (tmp_path / "fake_trainer.py").write_text(FAKE)
    return [sys.executable, str(tmp_path / "fake_trainer.py")]


def run(
    tmp_path: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    unaffected: tuple[MethodName, ...] = (),
    **options: Any,
) -> list[Any]:
    """Train a small study, and return its records."""
    variants: dict[str, tuple[str, ...]] = {"short, flips": (), "long": ("--iterations", "9")}
    small = replace(STUDIES["scenes-iterations"], variants=variants, seeds=range(2), unaffected=unaffected)
    monkeypatch.setitem(STUDIES, "scenes-iterations", small)
    results = tmp_path / "results"
    results.mkdir(exist_ok=True)
    evidence.main(
        Options(study="scenes-iterations", out=tmp_path / "out", results=results, at_once=2, **options), [], command
    )
    assert is_shaded(results / "scenes-iterations.png")
    records: list[Any] = json.loads((results / "scenes-iterations.json").read_text())["trainings"]
    return records


def test_records_and_tables(
    tmp_path: Path, fake: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = run(tmp_path, fake, monkeypatch)
    assert [(one["seed"], one["variant"], one["method"]) for one in records] == [
        (seed, variant, method)
        for seed in (0, 1)
        for variant in ("short, flips", "long")
        for method in ("supervised", "cowmix", "full")
    ]
    assert records[1] == {
        "variant": "short, flips",
        "method": "cowmix",
        "seed": 0,
        "miou": 45.0,
        "student": 10.0,
        "iou": {"sky": 50.0, "sea": None},
        "groups": {"east": 45.0, "west": 22.5},
        "validation": {"10": 30.0, "20": 35.0},
        "seconds": 61.4,
        "torch": "2.11",
    }
    # CowMix gains 5 and 7 points, of 20: 6 ± 1 (the deviation, sqrt(2), over sqrt(2)), and 30%.
    rows = [
        "| short, flips | 40.50 ± 0.71 | 46.50 ± 2.12 | 60.50 ± 0.71 | +6.0 ± 1.0 (2) | 30% |",
        "| long | 50.50 ± 0.71 | 56.50 ± 2.12 | 70.50 ± 0.71 | +6.0 ± 1.0 (2) | 30% |",
    ]
    shown = [part.splitlines()[-2:] for part in capsys.readouterr().out.split("\n\n") if part.startswith("|")]
    assert len(shown) == 6  # of all images, validation, two streets, and the classes in two variants
    assert shown[0] == shown[2] == rows
    assert shown[1][0] == "| short, flips | 35.00 ± 0.00 | 35.00 ± 0.00 | 35.00 ± 0.00 | +0.0 ± 0.0 (2) |  |"
    assert shown[3][0] == "| short, flips | 20.25 ± 0.35 | 23.25 ± 1.06 | 30.25 ± 0.35 | +3.0 ± 0.5 (2) | 30% |"
    assert shown[4] == ["| sky | 50.0 | 50.0 | 50.0 | +0.0 ± 0.0 (2) |  |", "| sea |  |  |  |  |  |"]
    evidence.main(Options(results=tmp_path / "results"), [])
    assert capsys.readouterr().out.splitlines()[2:4] == [
        "| Scenes, 30 labels: short, flips | 40.5 | 46.5 | 60.5 | +6.0 ± 1.0 (2) | 30% |",
        "| Scenes, 30 labels: long | 50.5 | 56.5 | 70.5 | +6.0 ± 1.0 (2) | 30% |",
    ]


def test_the_same_command_goes_on(
    tmp_path: Path, fake: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(tmp_path, fake, monkeypatch, seeds=1)
    assert len(first) == 6
    assert "| +5.0 (1) | 25% |" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out")
    assert run(tmp_path, fake, monkeypatch, only_tables=True) == first
    (tmp_path / "out").mkdir()
    records = run(tmp_path, fake, monkeypatch)
    assert len(records) == 12
    assert records[:6] == first


def test_methods_that_variants_do_not_concern_are_trained_once(
    tmp_path: Path, fake: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"unaffected": ("supervised", "full"), "seeds": 1}
    records = run(tmp_path, fake, monkeypatch, **options)
    assert [(one["variant"], one["method"]) for one in records] == [
        ("short, flips", "supervised"),
        ("short, flips", "cowmix"),
        ("short, flips", "full"),
        ("long", "cowmix"),
    ]
    assert capsys.readouterr().out.split("\n\n")[2].splitlines()[2:] == [
        "| supervised | 40.00 |  |  |",
        "| cowmix, short, flips | 45.00 | +5.0 (1) | 25% |",
        "| cowmix, long | 55.00 | +15.0 (1) | 75% |",
        "| full | 60.00 | +20.0 (1) |  |",
    ]
    (axis,) = panels(tmp_path / "results", monkeypatch)
    _, labels = axis.get_legend_handles_labels()
    assert labels == ["supervised (1)", "cowmix, short, flips (1)", "cowmix, long (1)", "full (1)"]
    evidence.main(Options(results=tmp_path / "results"), [])
    assert "| Scenes, 30 labels: long | 40.0 | 55.0 | 60.0 | +15.0 (1) | 75% |" in capsys.readouterr().out


def test_methods_that_variants_do_not_concern_get_none_of_their_arguments(tmp_path: Path) -> None:
    trainings = STUDIES["camvid-subsets"].trainings(tmp_path, [])
    mixed = {(variant, method) for (variant, method, _), job in trainings if "--mix-labelled" in job.arguments}
    variants = ("mixed with labelled images", "mixed with labelled images, test images unlabelled")
    assert mixed == {(variant, method) for variant in variants for method in ("ict", "cutmix", "cowmix")}


def test_methods_and_variants_can_be_chosen(tmp_path: Path, fake: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = run(tmp_path, fake, monkeypatch, methods=("full", "cowmix"), variants=("long",))
    assert {(one["variant"], one["method"]) for one in chosen} == {("long", "cowmix"), ("long", "full")}
    with pytest.raises(CampaignError, match=r"scenes-iterations has no cutmix\. It has: supervised; cowmix; full\."):
        Options(study="scenes-iterations", methods=("cowmix", "cutmix"))
    with pytest.raises(CampaignError, match=r"scenes-iterations has no longer\. It has: short, flips; long\."):
        Options(study="scenes-iterations", variants=("longer",))


CHOICES: list[dict[str, Any]] = [{"seeds": 1}, {"methods": ("cowmix",)}, {"variants": ("as in the paper",)}]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("options", [{}, {"study": "scenes-beyond", "only_tables": True}])
def test_choices_are_refused_where_nothing_is_trained(options: dict[str, Any], choice: dict[str, Any]) -> None:
    with pytest.raises(CampaignError, match="choose what is trained, but nothing is"):
        Options(**options, **choice)


def test_arguments_of_the_trainer_are_refused_where_nothing_is_trained(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="nothing is trained: leave out what follows the --"):
        evidence.main(Options(results=tmp_path), ["--data", "camvid"])


@pytest.mark.parametrize("word", ["--score-on", "--no-mix-labelled", "--precision=bf16"])
def test_arguments_that_would_make_another_study_are_refused(tmp_path: Path, word: str) -> None:
    options = Options(study="camvid-subsets", out=tmp_path, results=tmp_path)
    with pytest.raises(CampaignError, match=f"{word.split('=')[0]} would make another study"):
        evidence.main(options, ["--data", "camvid", "--workers=2", word], ["false"])


def test_a_study_is_of_its_own_data(tmp_path: Path) -> None:
    camvid, scenes = (Options(study=name, out=tmp_path, results=tmp_path) for name in ("camvid-labels", "scenes-sizes"))
    with pytest.raises(CampaignError, match="camvid-labels is of CamVid: add -- --data DIR"):
        evidence.main(camvid, ["--workers", "2"], ["false"])
    with pytest.raises(CampaignError, match="scenes-sizes is of the built-in scenes: leave out --data"):
        evidence.main(scenes, ["--data=camvid"], ["false"])


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="holds no trainings of any study"):
        evidence.main(Options(results=tmp_path), [])
    with pytest.raises(CampaignError, match="holds no trainings of scenes-sizes"):
        evidence.main(Options(study="scenes-sizes", only_tables=True, results=tmp_path), [])


@pytest.mark.parametrize(
    "change", [{"arguments": ""}, {"variants": {"long": ""}}, {"trainings": [{"variant": "best"}]}]
)
def test_records_of_trainings_with_other_arguments_are_refused(
    tmp_path: Path, fake: list[str], monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    records = run(tmp_path, fake, monkeypatch)
    path = tmp_path / "results" / "scenes-iterations.json"
    content = json.loads(path.read_text())
    changed = {"trainings": [records[0] | one for one in change.get("trainings", [{}])]}
    path.write_text(json.dumps(content | change | changed))
    with pytest.raises(CampaignError, match="holds trainings with other arguments"):
        run(tmp_path, fake, monkeypatch)


def test_a_study_may_get_another_variant(tmp_path: Path, fake: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    records = run(tmp_path, fake, monkeypatch, variants=("short, flips",))
    path = tmp_path / "results" / "scenes-iterations.json"
    content = json.loads(path.read_text())
    del content["variants"]["long"]
    path.write_text(json.dumps(content))
    assert len(run(tmp_path, fake, monkeypatch)) == 2 * len(records)


def test_a_study_that_trains_is_left_alone_but_its_tables_are_made(tmp_path: Path) -> None:
    script, words = RESULTS.parents[1] / "examples" / "evidence.py", ("--study", "camvid-subsets", "--out", tmp_path)
    with locked(tmp_path / "camvid-subsets"):
        done = run_script(script, *words, "--methods", "supervised", "--results", tmp_path, "--", "--data", tmp_path)
        assert "is in use by another run" in done.stderr
        shutil.copy(RESULTS / "camvid-subsets.json", tmp_path)
        done = run_script(script, *words, "--results", tmp_path, "--only-tables")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_share_of_the_gap_is_by_the_seeds_of_the_gain() -> None:
    def record(method: str, seed: int, miou: float) -> dict[str, Any]:
        scores = {"miou": miou, "iou": {"sky": miou}, "validation": {}}
        return {"variant": variant, "method": method, "seed": seed, **scores}

    name: StudyName = "camvid-iterations"
    variant = "10,000 iterations, flips"
    pairs = [record("supervised", 0, 40), record("cowmix", 0, 42), record("supervised", 1, 30), record("cowmix", 1, 34)]
    alone = record("supervised", 2, 10)
    full = [record("full", 0, 52), record("full", 1, 48)]  # gaps of 12 and 18: 15 ± 3
    uncertain = [record("full", 0, 45), record("full", 1, 55)]  # of 5 and 25: 15 ± 10
    everything: dict[StudyName, Any] = {key: [] for key in STUDIES}
    for trained, shown in (
        ([*pairs, alone, full[0]], "| 35.0 | 38.0 |  | +3.0 ± 1.0 (2) |  |"),
        ([*pairs, alone, *full], "| 35.0 | 38.0 | 50.0 | +3.0 ± 1.0 (2) | 20% |"),
        ([*pairs, alone, *uncertain], "| 35.0 | 38.0 | 50.0 | +3.0 ± 1.0 (2) |  |"),
    ):
        assert shown in overview(everything | {name: trained})
        assert f"| sky {shown}" in table_of_classes(STUDIES[name], trained, variant)
        gain = shown.partition("+")[2]
        assert f"+{gain}" in tables(STUDIES[name], trained)["all images"]


def test_the_table_of_all_studies_begins_with_the_most_seeds() -> None:
    def pair(study: StudyName, seed: int) -> list[dict[str, Any]]:
        record = {
            "variant": next(iter(STUDIES[study].variants)),
            "seed": seed,
            "miou": 50.0,
            "iou": {},
            "validation": {},
        }
        return [record | {"method": method} for method in ("supervised", "cowmix")]

    records: dict[StudyName, Any] = {key: [] for key in STUDIES}
    records |= {"scenes-iterations": pair("scenes-iterations", 0)}
    records |= {"camvid-subsets": [*pair("camvid-subsets", 0), *pair("camvid-subsets", 1)]}
    records |= {"camvid-labels": pair("camvid-labels", 0)}
    seen = {"variant": "mixed with labelled images, test images unlabelled", "method": "cowmix"}
    records["camvid-subsets"].append(pair("camvid-subsets", 1)[1] | seen)
    lines = overview(records).splitlines()[2:]
    assert [line.split(",")[0] for line in lines] == ["| CamVid", "| Scenes", "| CamVid"]
    assert lines[-1] == "| CamVid, as in the paper: 10 labels | 50.0 | 50.0 |  | +0.0 (1) |  |"


def test_rows_without_supervised_training_gain_over_the_first() -> None:
    record = {"variant": "as in the paper", "method": "cowmix", "seed": 0, "miou": 50.0, "iou": {}, "validation": {}}
    views = record | {"variant": "two views", "miou": 52.0}
    both = record | {"method": "cow_and_box", "miou": 49.0}
    assert tables(STUDIES["scenes-beyond"], [record, views, both])["all images"].splitlines() == [
        "|  | mIoU | - cowmix, as in the paper |",
        "| --- | ---: | ---: |",
        "| cowmix, as in the paper | 50.00 |  |",
        "| cowmix, two views | 52.00 | +2.0 (1) |",
        "| cow_and_box | 49.00 | -1.0 (1) |",
    ]


def test_records_from_before_groups_are_left_out_of_the_tables_of_groups() -> None:
    record = {"variant": "600 iterations, flips", "method": "cowmix", "miou": 50.0, "iou": {}, "validation": {}}
    records = [record | {"seed": 0}, record | {"seed": 1, "groups": {"east": 40.0, "west": 60.0}}]
    made = tables(STUDIES["scenes-iterations"], records)
    assert list(made) == ["all images", "the validation split", "east", "west"]
    assert "| 50.00 ± 0.00 |" in made["all images"]
    assert "| 40.00 |" in made["east"]


def panels(results: Path, monkeypatch: pytest.MonkeyPatch, study: StudyName = "scenes-iterations") -> list[Axes]:
    """Return the panels of a study's figure."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, _: drawn.append(figure))
    evidence.main(Options(study=study, only_tables=True, results=results), [])
    return drawn[0].axes


def test_settings_of_one_method_share_a_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = STUDIES["camvid-cowmix-trials"]
    scored = {"method": "cowmix", "seed": 9, "miou": 50.0, "groups": {}, "validation": {"1": 20.0, "2": 30.0}}
    made = {"trainings": [scored | {"variant": variant} for variant in trials.variants]}
    (tmp_path / "camvid-cowmix-trials.json").write_text(json.dumps(made))
    (axis,) = panels(tmp_path, monkeypatch, "camvid-cowmix-trials")
    _, labels = axis.get_legend_handles_labels()
    assert labels == [f"{variant} (1)" for variant in trials.variants]
    looks = {(line.get_color(), line.get_linestyle()) for line in axis.lines}
    assert len(looks) == len(trials.variants)  # no line looks like another
    axis.figure.draw_without_rendering()  # type: ignore[union-attr]  # lays it out
    assert axis.get_position().width > 0.45  # the legend beside it leaves it room


def test_differences_are_between_the_same_seeds() -> None:
    assert difference({0: 2.0, 1: 4.0, 2: 9.0}, {1: 1.0, 0: 1.0, 5: 0.0}) == pytest.approx((2.0, 1.0, 2))
    assert difference({0: 2.0}, {1: 1.0}) is None
    assert str(Difference(-0.25, None, 1)) == "-0.2 (1)"
    three = difference({0: 1.0, 1: 2.0, 2: 6.0}, dict.fromkeys(range(3), 0.0))
    assert three == pytest.approx((3.0, math.sqrt(7 / 3), 3))


def test_contrasts_are_between_cells_or_differences_of_cells_with_the_same_seeds() -> None:
    def record(variant: str, method: str, *scores: float) -> list[dict[str, Any]]:
        one = {"variant": variant, "method": method, "iou": {}}
        validation = {"1000": 8, "2000": 5}
        return [one | {"seed": seed, "miou": score, "validation": validation} for seed, score in enumerate(scores)]

    study = replace(
        STUDIES["camvid-labels"],
        contrasts={
            "gain": ((Cell("few", "cowmix"), Cell("few", "supervised")),),
            "of two gains": (
                (Cell("few", "cowmix"), Cell("few", "supervised")),
                (Cell("many", "cowmix", VALIDATION), Cell("many", "supervised")),
            ),
            "early": ((Cell("few", "cowmix"), Cell("few", "cowmix", validated_after(1000))),),
            "never trained": ((Cell("few", "cutmix"), Cell("few", "supervised")),),
        },
    )
    trained = [*record("few", "supervised", 10, 20, 30), *record("few", "cowmix", 11, 22, 36)]
    trained += [*record("many", "supervised", 2), *record("many", "cowmix", 99)]
    # 1, 2 and 6 points: 3 ± sqrt(7 / 3), and 4.303, the quantile of t with two degrees of freedom, times that error.
    assert tables(study, trained)["differences"].splitlines()[2:] == [
        "| gain | +3.0 ± 1.5 (3) | -3.6 to 9.6 |",
        "| of two gains | -2.0 (1) |  |",
        "| early | +15.0 ± 7.2 (3) | -16.1 to 46.1 |",
    ]


def test_differences_between_studies_are_of_the_seeds_that_both_have() -> None:
    def trained(study: StudyName, gains: dict[int, float]) -> list[dict[str, Any]]:
        (cell, _), *_ = (pair for of, pair in next(iter(BETWEEN_STUDIES.values())) if of == study)
        one: dict[str, Any] = {"iou": {}, "validation": {}}
        for_supervised = STUDIES[study].trained_in(cell.variant, "supervised")
        return [
            one | {"variant": variant, "method": method, "seed": seed, "miou": 40 + gain}
            for seed, gained in gains.items()
            for variant, method, gain in ((for_supervised, "supervised", 0), (cell.variant, "cowmix", gained))
        ]

    none: dict[StudyName, Any] = {key: [] for key in STUDIES}
    assert between_studies(none) == ""
    long, short = trained("camvid-subsets", {0: 2, 1: 3, 4: 9}), trained("camvid-sizes", {0: 1, 1: 0, 2: 7})
    (row,) = between_studies(none | {"camvid-subsets": long, "camvid-sizes": short}).splitlines()[2:]
    # 1 and 3 points: 2 ± 1, and 12.7, the quantile of t with one degree of freedom, times that error.
    assert row == "| CowMix's gain on CamVid in 6,000 iterations - in 1,200 | +2.0 ± 1.0 (2) | -10.7 to 14.7 |"


@pytest.mark.parametrize("name", BETWEEN_STUDIES)
def test_studies_are_compared_where_a_seed_means_the_same_labelled_images(name: str) -> None:
    def chosen(of: StudyName, cell: Cell) -> dict[int, dict[str, str]]:
        study = STUDIES[of]
        trained = (study.trained_in(cell.variant, cell.method), cell.method)
        words = {key[2]: job.arguments for key, job in study.trainings(Path(), []) if key[:2] == trained}
        return {
            seed: {
                option: own[own.index(option) + 1] for option in ("--seed", "--subset", "--labelled") if option in own
            }
            for seed, own in words.items()
        }

    cells = [chosen(of, cell) for of, pair in BETWEEN_STUDIES[name] for cell in pair]
    shared = set.intersection(*map(set, cells))
    assert shared
    assert all(cell[seed] == cells[0][seed] for cell in cells for seed in shared)


@pytest.mark.parametrize("name", STUDIES)
def test_the_trainer_takes_the_arguments_of_every_study(name: StudyName, tmp_path: Path) -> None:
    study = STUDIES[name]
    trainings = list(study.trainings(tmp_path, ["--data", "camvid"] if name.startswith("camvid") else []))
    assert len({job.folder for _, job in trainings}) == len({key for key, _ in trainings}) == len(trainings)
    for (_, method, seed), job in trainings:
        config = parse(camvid, job.arguments)
        assert (config.method, config.seed) == ((method,), seed)
        assert config.subset == (seed if study.subsets else None)


@pytest.mark.parametrize("option", ["at_once", "seeds"])
def test_counts_are_at_least_one(option: str) -> None:
    with pytest.raises(CampaignError, match="must be at least 1"):
        Options(study="scenes-iterations", **{option: 0})  # type: ignore[arg-type]
