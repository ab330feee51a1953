"""examples/train_classification.py: few labels, five methods, two arrangements."""

import hashlib
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import datasets
from torch import Tensor, nn
from torchvision.datasets import CIFAR10

import train_classification
from classification import report, search, training
from classification.data import DataError, Dataset, Images, choose_labelled, load_cifar10, load_digits
from classification.methods import ARRANGEMENTS, METHODS, TUNED, Arrangement, Method, Settings, build, trials
from classification.search import Trainings, tried
from classification.training import Job, Scores, mean_teacher_loss, supervised_loss, train
from cowmask import CowMix, CowOut, CutMix, MeanTeacher, MixUp
from segmentation.storage import StorageError
from tests.forked import run_script
from tests.pages import ROOT
from tests.pages import run as run_page
from train_classification import Options, OptionsError, chosen_settings, job_of

SCRIPT = Path(train_classification.__file__)
PAGE = "docs/classification.md"
RESULTS = json.loads((ROOT / "docs/results/classification-digits.json").read_text())
every_method = pytest.mark.parametrize("method", METHODS)
every_arrangement = pytest.mark.parametrize("arrangement", ARRANGEMENTS)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits()


def job(arrangement: Arrangement = "supervised", method: Method = "none", **changes: Any) -> Job:
    """Return a training of four iterations."""
    given = Job(arrangement, method, Settings(), 20, 0, iterations=4, batch_size=8, width=4, ema=0.5)
    return replace(given, **changes)


def test_digits_are_scikit_learns_in_their_order(digits: Dataset) -> None:
    original = datasets.load_digits()
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part) for part in parts] == [897, 300, 600]
    np.testing.assert_array_equal(torch.cat([part.pixels for part in parts])[:, 0], original.images)
    np.testing.assert_array_equal(torch.cat([part.labels for part in parts]), original.target)
    assert (digits.side, digits.channels) == (8, 1)
    assert digits.largest == digits.train.pixels.max() == 16


def test_labelled_images_are_as_many_of_each_class(digits: Dataset) -> None:
    chosen = choose_labelled(digits.train.labels, 50, 10, seed=0)
    assert torch.bincount(digits.train.labels[chosen]).tolist() == [5] * 10
    assert len(chosen.unique()) == 50
    assert not torch.equal(chosen, choose_labelled(digits.train.labels, 50, 10, seed=1))


@pytest.mark.parametrize("n", [0, 5, 25, 870])
def test_labelled_images_that_cannot_be_as_many_of_each_class_are_refused(digits: Dataset, n: int) -> None:
    with pytest.raises(DataError, match=f"multiple of the 10 classes, from 10 to 860, not {n}"):
        choose_labelled(digits.train.labels, n, 10, seed=0)


class Leaver:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a CIFAR-10 of 60 images, and let torchvision expect its check sums."""
    folder, rng = tmp_path / CIFAR10.base_folder, np.random.default_rng(0)
    folder.mkdir()

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(n: int) -> dict[str, Any]:
        return {"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(n)]}

    names = [f"data_batch_{i}" for i in range(1, 6)]
    monkeypatch.setattr(CIFAR10, "train_list", [[name, write(name, batch(10))] for name in names])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", write("test_batch", batch(10))]])
    sums = {"filename": "batches.meta", "md5": write("batches.meta", {"label_names": list("0123456789")})}
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | sums)
    return folder


def test_cifar10_is_read_from_its_folder_or_the_one_around(cifar: Path) -> None:
    data = load_cifar10(cifar)
    first = pickle.loads((cifar / "data_batch_1").read_bytes())
    last = pickle.loads((cifar / "data_batch_5").read_bytes())
    test = pickle.loads((cifar / "test_batch").read_bytes())
    assert [len(part) for part in (data.train, data.validation, data.test)] == [45, 5, 10]
    assert torch.equal(data.train.pixels[0], torch.tensor(first["data"][0]).view(3, 32, 32))
    assert torch.equal(data.validation.pixels[-1], torch.tensor(last["data"][9]).view(3, 32, 32))
    assert torch.equal(data.test.pixels[3], torch.tensor(test["data"][3]).view(3, 32, 32))
    assert data.validation.labels.tolist() == last["labels"][5:]
    assert torch.equal(load_cifar10(cifar.parent).train.pixels, data.train.pixels)


def test_cifar10_is_trained_on(cifar: Path, tmp_path: Path) -> None:
    small = Options(data=cifar, labelled=(10,), seeds=1, trials=1, iterations=2, width=4, out=tmp_path)
    train_classification.main(small)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["dataset"] == "CIFAR-10"
    assert [list(methods) for methods in content["test"]["10"].values()] == [list(METHODS)] * 2


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_that_is_not_the_published_one_is_not_run(cifar: Path, tmp_path: Path, name: str) -> None:
    ran = tmp_path / "ran"
    (cifar / name).write_bytes(pickle.dumps(Leaver(ran)))
    with pytest.raises(DataError, match="does not hold CIFAR-10 as published"):
        load_cifar10(cifar)
    assert not ran.exists()
    pickle.loads((cifar / name).read_bytes())
    assert ran.exists()  # it would have run


@every_arrangement
def test_trials_deal_out_every_value_equally_often(arrangement: Arrangement) -> None:
    dealt = {method: trials(arrangement, method, 12) for method in METHODS}
    assert [len(set(one)) for one in dealt.values()] == [12] * 5
    assert len(trials(arrangement, "none", 200)) == 200  # more than there are
    for name, values in (("sigma", 4), ("proportion", 3), ("learning_rate", 4), ("p", 2)):
        column = [getattr(one, name) for one in dealt["cowmix"]]
        assert {column.count(value) for value in column} == {12 // values}


def test_transforms_are_the_librarys_with_sigma_in_sides(digits: Dataset) -> None:
    settings = Settings(p=0.5, alpha=0.3, area=(0.1, 0.2), sigma=(0.125, 0.25), proportion=(0.6, 0.7))
    built: list[Any] = [build(method, settings, digits) for method in ("mixup", "cutmix", "cowmix", "cowout")]
    for transform, kind in zip(built, (MixUp, CutMix, CowMix, CowOut), strict=True):
        assert isinstance(transform, kind)
    assert [transform.p for transform in built] == [0.5] * 4
    mixup, cutmix, cowmix, cowout = built
    assert (mixup.alpha, cutmix.area, cutmix.num_classes) == (0.3, (0.1, 0.2), 10)
    for one in (cowmix, cowout):
        assert (one.sigma, one.proportion) == ((1.0, 2.0), (0.6, 0.7))
    mean = digits.train.pixels.double().mean() / 16
    torch.testing.assert_close(cowout.fill.double(), mean.view(1, 1, 1))
    x = torch.rand(2, 1, 8, 8)
    assert build("none", settings, digits)(x, x)[1] is x


def test_images_are_moved_by_whole_pixels_each_by_its_own() -> None:
    image = 1 + torch.arange(24.0).view(1, 1, 4, 6)
    moved = training.shifted(image.expand(200, 1, 4, 6), 1)
    padded = F.pad(image, [1] * 4)[0, 0]
    windows = {(i, j): padded[i : i + 4, j : j + 6] for i in range(3) for j in range(3)}
    seen = [next(place for place, window in windows.items() if torch.equal(window, one[0])) for one in moved]
    assert set(seen) == set(windows)


def test_images_are_mirrored_only_if_that_keeps_their_class(digits: Dataset) -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8).expand(100, 1, 8, 8)
    still = replace(digits, shift=0)
    assert torch.equal(training.augmented(image, still), image)
    mirrored = (training.augmented(image, replace(still, flips=True)) == image.flip(3)).flatten(1).all(1)
    assert 25 < mirrored.sum() < 75


class Halved(nn.Module):
    """Mixes every image and label half and half with the one before."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple((x + x.roll(1, 0)) / 2 for x in tensors)


halved = Halved()


def test_supervised_loss_is_the_cross_entropy_of_mixed_labels() -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images, labels = torch.rand(2, 1, 2, 2), F.one_hot(torch.tensor([0, 2]), 3).float()
    log_probs = student(images.mean(0, keepdim=True)).log_softmax(1)[0]
    expected = -(log_probs[0] + log_probs[2]) / 2
    torch.testing.assert_close(supervised_loss(student, halved, images, labels), expected)


class Counted(nn.Module):
    """A linear classifier with batch-norm, which counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        logits: Tensor = self.layers(x)
        return logits


def test_mean_teacher_loss_is_its_definition() -> None:
    student = Counted()
    teacher = MeanTeacher(student)
    images, labels, first, second = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 2]), *torch.rand(2, 4, 1, 2, 2)
    probs = teacher(first).softmax(1)
    threshold = probs.amax(1).sort().values[1:3].mean().item()  # two images of four are sure
    settings = Settings(weight=7.0, threshold=threshold)
    loss = mean_teacher_loss(student, teacher, halved, (images, labels), (first, second), settings)
    assert student.passes == 1

    logits = student(torch.cat([images, *halved(second)]))
    expected_probs, sure = halved(probs, (probs.amax(1) > threshold).float())
    distances = (logits[3:].softmax(1) - expected_probs).square().mean(1)
    assert set(sure.tolist()) <= {0.0, 0.5, 1.0}
    expected = F.cross_entropy(logits[:3], labels) + 7 * (distances * sure).mean()
    torch.testing.assert_close(loss, expected)


@every_arrangement
@every_method
def test_every_method_trains_from_its_seed_alone(digits: Dataset, arrangement: Arrangement, method: Method) -> None:
    one = job(arrangement, method)
    scores = [train(digits, which, digits.validation) for which in (one, one, replace(one, seed=1))]
    assert scores[0] == scores[1] != scores[2]
    assert all(0 < score < 1 for score in scores[0])


@every_arrangement
def test_labels_of_unlabelled_images_are_never_used(digits: Dataset, arrangement: Arrangement) -> None:
    one = job(arrangement, "cowmix")
    chosen = choose_labelled(digits.train.labels, 20, 10, seed=0)
    labels = torch.full_like(digits.train.labels, 99)
    labels[chosen] = digits.train.labels[chosen]
    hidden = replace(digits, train=Images(digits.train.pixels, labels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "choose_labelled", lambda *_: chosen)
        assert train(hidden, one, digits.validation) == train(digits, one, digits.validation)


def test_few_labels_teach_most_digits(digits: Dataset) -> None:
    one = job("mean-teacher", "cowmix", labelled=50, iterations=150, batch_size=32, width=16, ema=0.9)
    assert min(train(digits, one, digits.validation)) > 0.75


def test_trials_never_look_at_the_test_images(digits: Dataset, tmp_path: Path) -> None:
    hidden = replace(digits, test=None)  # type: ignore[arg-type]
    done = tried(Trainings(tmp_path / "done.json", hidden, list), job(), [Settings(), Settings(p=0.5)], (1, 2))
    assert [len(trial.accuracies) for trial in done] == [2, 2]
    assert done[0].mean == fmean(done[0].accuracies)
    assert done[0].accuracies[0] == train(digits, job(seed=1), digits.validation).teacher


def test_the_settings_of_the_best_trial_are_taken(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "train", lambda _, one, __: Scores(1 - one.settings.p, one.settings.p + one.seed / 9))
    jobs = [job_of(Options(), digits, "supervised", method) for method in ("none", "cowmix")]
    chosen, every = chosen_settings(Options(trials=4), Trainings(tmp_path / "done.json", digits, list), jobs)
    assert [len(group) for group in every] == [4, 4]
    assert chosen[1].settings.p == 1  # and not 0.5
    assert [replace(one, settings=jobs[0].settings, method="none") for one in chosen] == [jobs[0]] * 2
    assert chosen_settings(Options(), Trainings(tmp_path / "other.json", digits, list), jobs) == (jobs, [])


def test_no_training_is_repeated(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[int] = []
    path = tmp_path / "done.json"
    first = Trainings(path, digits, lambda: noted.append(1)).scores(job(), "validation")
    begun: list[Job] = []

    def fake(_: Dataset, one: Job, __: Images) -> Scores:
        begun.append(one)
        return Scores(0.25, 0.5)

    monkeypatch.setattr(search, "train", fake)
    again = Trainings(path, digits, lambda: noted.append(1))
    assert again.scores(job(), "validation") == first
    assert not begun
    for other, part in ((job(), "test"), (job(seed=1), "validation"), (job(iterations=5), "validation")):
        assert again.scores(other, part) == Scores(0.25, 0.5)  # type: ignore[arg-type]
    assert len(begun) == 3
    assert len(noted) == 5
    assert Trainings(path, digits, list).scores(job(seed=1), "validation") == Scores(0.25, 0.5)


def test_a_damaged_file_of_trainings_is_one_sentence(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "done.json"
    path.write_text("{")
    with pytest.raises(StorageError, match=r"done\.json is damaged"):
        Trainings(path, digits, list)


def test_gains_are_paired_by_seed() -> None:
    plain = [Scores(0.1, 0.50), Scores(0.2, 0.60), Scores(0.3, 0.90)]
    better = [Scores(0.4, 0.52), Scores(0.5, 0.64), Scores(0.6, 0.90)]
    content = report.summaries({"supervised": {"none": plain, "cowmix": better}})["supervised"]
    assert "gain" not in content["none"]
    assert content["cowmix"]["student"]["mean"] == pytest.approx(50)
    assert content["cowmix"]["student"]["std"] == pytest.approx(10)
    assert content["cowmix"]["gain"]["mean"] == pytest.approx(2)  # of 2, 4 and 0
    assert content["cowmix"]["gain"]["standard_error"] == pytest.approx(2 / 3**0.5)
    assert report.rows({"supervised": content})[1] == [
        *("supervised", "cowmix", "50.0 ± 10.0", "68.7 ± 19.4", "+2.0 ± 1.2"),
    ]
    alone = report.summaries({"supervised": {"none": plain[:1]}})
    assert report.rows(alone) == [["supervised", "none", "10.0", "50.0", ""]]


def run(*words: str | Path) -> Any:
    return run_script(SCRIPT, *words)


def test_the_command_writes_what_it_says_and_goes_on(tmp_path: Path) -> None:
    tiny = ["--iterations", "2", "--width", "4", "--seeds", "2", "--trials", "2", "--labelled", "20", "10"]
    words: list[str | Path] = [*tiny, "--method", "none", "cowmix", "--out", tmp_path]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.strip().splitlines()
    labelled = "897 training images, 20 or 10 of them labelled"
    assert first.startswith(f"digits, {labelled}: 32 trainings of 2 iterations, about ")
    assert last == f"Written: {tmp_path / 'metrics.json'}."
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["dataset"] == "digits"
    assert str(tmp_path) not in json.dumps(content)
    assert [len(group) for group in content["trials"].values()] == [2] * 4
    assert content["settings"]["supervised, none"].keys() == {"learning_rate", "weight_decay"}
    for name, group in content["trials"].items():
        settings, accuracies = max(group, key=lambda one: fmean(one[1]))
        assert len(accuracies) == len(train_classification.TRIAL_SEEDS)
        assert content["settings"][name] == settings
    for arrangements in (content["test"]["20"], content["test"]["10"]):
        assert list(arrangements) == ["supervised", "mean-teacher"]
        for methods in arrangements.values():
            assert [len(methods[name]["teacher"]["runs"]) for name in ("none", "cowmix")] == [2, 2]
            assert methods["cowmix"]["gain"]["standard_error"] >= 0
    trainings = tmp_path / "trainings.json"
    before = trainings.stat().st_mtime_ns
    assert run(*words).returncode == 0
    assert trainings.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": ()}, "--method must name at least one"),
        ({"labelled": ()}, "--labelled must be at least one"),
        ({"seeds": 0}, "--seeds must be from 1 to 1000"),
        ({"iterations": 0}, "--iterations must be at least 1"),
        ({"batch_size": 1}, "--batch-size must be at least 2"),
        ({"ema": 1.0}, "--ema must be in"),
        ({"ema": float("nan")}, "--ema must be in"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Options(**options)


def test_bad_data_is_one_sentence(tmp_path: Path) -> None:
    done = run("--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(f"train_classification: {tmp_path / 'nowhere'} does not hold CIFAR-10 as published")
    assert len(done.stderr.splitlines()) == 1


def test_the_loop_of_the_page_runs_as_printed() -> None:
    student = training.make_network(3, 10, 4)
    images, x_weak, x_other = torch.rand(3, 6, 3, 32, 32)
    names = {"student": student, "teacher": MeanTeacher(student), "images": images, "labels": torch.arange(6)}
    names = run_page(PAGE, names | {"x_weak": x_weak, "x_other": x_other})
    assert names["sure"].shape == (6, 1)
    names["loss"].backward()


def test_the_page_has_the_figures_of_the_results() -> None:
    lines = [
        line for line in (ROOT / PAGE).read_text().splitlines() if re.match(r"\| (supervised|mean-teacher) ", line)
    ]
    printed = [re.split(r" *\| *", line)[1:-1] for line in lines]
    columns = [report.rows(content) for content in RESULTS["test"].values()]
    expected = [[*row[0][:2], *(cell for one in row for cell in one[2:])] for row in zip(*columns, strict=True)]
    assert [[cell.replace("**", "") for cell in row] for row in printed] == expected


def test_the_default_settings_are_those_of_the_results() -> None:
    settings = {f"{arrangement}, {method}": one for (arrangement, method), one in TUNED.items()}
    assert settings.keys() == RESULTS["settings"].keys()
    for name, found in RESULTS["settings"].items():
        used: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
        assert replace(Settings(), **used) == settings[name]
