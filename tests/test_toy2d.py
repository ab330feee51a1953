"""examples/toy2d.py: the paper's Figure 2."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import toy2d
from toy2d import Options


@pytest.fixture(scope="module")
def distances() -> torch.Tensor:
    return toy2d.signed_distance(toy2d.class_map())


def to_points(x: list[float], y: list[float], size: int) -> torch.Tensor:
    """Return points at pixels x and y of a map of that size; whole numbers are centres."""
    return (torch.tensor([x, y]).T + 0.5) * 2 / size - 1


def test_distance_map_is_that_of_an_exhaustive_search() -> None:
    classes = np.random.default_rng(0).random((9, 13)) > 0.7
    rows, columns = np.meshgrid(np.arange(9), np.arange(13), indexing="ij")
    far = np.hypot(rows[..., None, None] - rows, columns[..., None, None] - columns)
    nearest = np.where(classes[..., None, None] != classes, far, np.inf).min((2, 3)) - 0.5
    np.testing.assert_allclose(toy2d.signed_distance(classes), np.where(classes, nearest, -nearest), rtol=1e-6)


def test_distance_is_read_at_the_pixel_between_pixels_and_outside() -> None:
    ramp = torch.arange(8.0) + 100 * torch.arange(8.0)[:, None]
    points = to_points([2, 2.5, 5, -3, 7], [6, 6, 0.25, 4, 30], 8)
    torch.testing.assert_close(toy2d.distance_at(ramp, points), torch.tensor([602, 602.5, 30, 400, 707]))


def test_grid_is_in_the_order_of_the_map(distances: torch.Tensor) -> None:
    read = toy2d.distance_at(distances, toy2d.cell_centres(toy2d.SIZE))
    torch.testing.assert_close(read.view_as(distances), distances)


def test_the_constraint_keeps_what_stays_on_its_contour() -> None:
    distances = toy2d.signed_distance(np.arange(64)[:, None].repeat(64, 1) >= 32)  # row 32 is 0.5 from the boundary
    moves = {  # from row to row: kept
        (50, 50): True,
        (50, 53.5): True,
        (50, 54.5): False,
        (50, 46.5): True,
        (50, 45.5): False,
        (40, 23): False,  # the same distance, on the other side
        (33, 30): True,  # crosses, but within the tolerance
    }
    before, after = zip(*moves, strict=True)
    points = to_points([10] * len(moves), list(before), 64)
    moved = to_points([55] * len(moves), list(after), 64)  # how far along the contour does not matter
    assert toy2d.stays_on_contour(distances, points, moved).tolist() == list(moves.values())


def test_constrained_perturbations_are_large_and_along_the_contours(distances: torch.Tensor) -> None:
    points = toy2d.draw_points(distances, 1000, 0, torch.Generator().manual_seed(0))
    chosen, moved = toy2d.perturb(distances, points, "constrained", 64)
    assert chosen.shape == moved.shape == (64, 2)
    change = toy2d.distance_at(distances, chosen) - toy2d.distance_at(distances, moved)
    assert change.abs().max() <= 4
    chosen, moved = toy2d.perturb(distances, points, "isotropic", 2000)
    assert (moved - chosen).std() * 256 == pytest.approx(6, rel=0.05)


def test_points_of_the_gap_keep_away_and_the_others_do_not(distances: torch.Tensor) -> None:
    points = toy2d.draw_points(distances, 3000, 35, torch.Generator().manual_seed(0))
    assert points.shape == (3000, 2)
    assert points.abs().max() <= 1
    assert 35 <= toy2d.distance_at(distances, points).abs().min() < 36
    everywhere = toy2d.distance_at(distances, toy2d.draw_points(distances, 3000, 0, torch.Generator().manual_seed(0)))
    assert everywhere.abs().min() < 1


def test_labelled_points_are_of_both_classes_and_correct(distances: torch.Tensor) -> None:
    points, labels = toy2d.draw_labelled(distances, 10, 35, torch.Generator().manual_seed(0))
    assert labels.tolist() == [0] * 5 + [1] * 5
    distance = toy2d.distance_at(distances, points)
    assert torch.equal(distance > 0, labels.bool())
    assert distance.abs().min() >= 35


def test_accuracy_is_the_share_of_right_answers() -> None:
    probs = torch.tensor([0.9, 0.6, 0.4, 0.1])
    assert toy2d.accuracy(probs, torch.tensor([True, True, False, False])) == 100
    assert toy2d.accuracy(probs, torch.tensor([True, False, False, False])) == 75


def test_training_is_reproducible_and_learns_its_labels(distances: torch.Tensor) -> None:
    options = Options(iterations=60, unlabelled=200, batch=8)
    outcome = toy2d.train(options, "supervised", 3)
    cells = ((outcome.points + 1) / 2 * toy2d.GRID).long()
    assert torch.equal(outcome.probs[cells[:, 1], cells[:, 0]] > 0.5, outcome.labels.bool())
    truth = toy2d.distance_at(distances, toy2d.cell_centres(toy2d.GRID)) > 0
    assert outcome.overall == toy2d.accuracy(outcome.probs.flatten(), truth) > 60
    again, other = (toy2d.train(options, "supervised", seed) for seed in (3, 4))
    assert torch.equal(outcome.probs, again.probs)
    assert not torch.equal(outcome.points, other.points)
    gap = toy2d.train(replace(options, iterations=2), "gap", 3)
    assert torch.equal(outcome.points, gap.points)  # all panels share the labelled points


SHORT = Options(iterations=5, unlabelled=300, batch=8, threshold=0.0)


@pytest.mark.parametrize("method", ["gap", "isotropic", "constrained"])
def test_only_in_the_panel_with_a_gap_do_unlabelled_points_keep_away(distances: torch.Tensor, method: str) -> None:
    unlabelled = toy2d.train(replace(SHORT, iterations=1), method, 3).unlabelled  # type: ignore[arg-type]
    nearest = toy2d.distance_at(distances, unlabelled).abs().min()
    assert (nearest >= SHORT.gap) == (method == "gap")


@pytest.mark.parametrize("method", ["gap", "isotropic", "constrained"])
def test_consistency_teaches(method: str) -> None:
    weights = (SHORT.consistency_weight, 0.0)
    one, other = (toy2d.train(replace(SHORT, consistency_weight=weight), method, 3) for weight in weights)  # type: ignore[arg-type]
    assert not torch.equal(one.probs, other.probs)


def test_the_teacher_sees_points_and_the_student_sees_them_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    original, moved = torch.rand(2, 4, 2)
    seen = []

    def record(logits: torch.Tensor, probs: torch.Tensor, **_: object) -> torch.Tensor:
        seen.append((logits, probs))
        return logits.sum()

    monkeypatch.setattr(toy2d, "perturb", lambda *_: (original, moved))
    monkeypatch.setattr(toy2d, "consistency_loss", record)
    toy2d.train(replace(SHORT, iterations=1), "isotropic", 3)
    torch.manual_seed(3)
    network = toy2d.make_network()
    torch.testing.assert_close(seen, [(network(moved), network(original).softmax(1))])


def test_the_teacher_is_the_students_average() -> None:
    kept, once, again = (
        toy2d.train(replace(SHORT, ema=ema, iterations=iterations), "supervised", 3).probs
        for ema, iterations in ((1.0, 5), (1.0, 1), (0.0, 1))
    )
    assert torch.equal(kept, once), "a teacher that keeps all of its weights learned something"
    assert not torch.equal(once, again)


def test_writes_the_figure_and_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(seeds=(7, 8), iterations=2, unlabelled=100, batch=8, workers=1, out=tmp_path / "new")
    toy2d.main(options)
    content = json.loads((options.out / "toy2d.json").read_text())
    assert content["options"]["seeds"] == [7, 8]
    assert set(content) == {"command", "torch", "options", "accuracy"}
    printed = capsys.readouterr().out
    for method in toy2d.METHODS:
        for region in ("overall", "away"):
            score = content["accuracy"][method][region]
            assert score["mean"] == pytest.approx(np.mean(score["runs"]))
            assert score["std"] == pytest.approx(np.std(score["runs"], ddof=1))
            assert toy2d.format_score(score) in printed
    again = toy2d.train(options, "constrained", 8)
    assert content["accuracy"]["constrained"]["overall"]["runs"][1] == pytest.approx(again.overall, abs=1)
    with Image.open(options.out / "toy2d.png") as figure:
        assert figure.width > 1000


def test_a_gap_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(toy2d.OptionsError, match="--gap 220 leaves each class less than 1 %"):
        toy2d.main(Options(gap=220, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()
