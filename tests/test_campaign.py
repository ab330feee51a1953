"""examples/segmentation/campaigns/runner.py, table1.py and sweep.py, with a trainer that only records its arguments."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import sweep
import table1
from segmentation.campaigns import runner
from segmentation.campaigns.plots import save_comparison, save_sweep
from segmentation.campaigns.runner import CampaignError, Job, Summary
from segmentation.methods import MethodName
from segmentation.storage import locked
from tests.forked import run_on_cpu, run_script

EXAMPLES = Path(runner.__file__).parents[2]
SUBSETS = EXAMPLES / "segmentation" / "data" / "camvid_subsets.txt"
SCORES = {"supervised": 0.40, "std_aug": 0.38, "cowmix": 0.45, "cutmix_fixed": 0.43, "full": 0.60}

# A trainer that scores SCORES plus a hundredth for each subset, records its starts, and fails or waits on request.
FAKE = f"""
import argparse, json, os, pathlib, sys, time
parser = argparse.ArgumentParser()
for name in ("method", "subset", "seed", "out", "fail", "wait"):
    parser.add_argument("--" + name, default="")
parser.add_argument("--resume", action="store_true")
options, other = parser.parse_known_args()
out = pathlib.Path(options.out)
with (out / "starts.txt").open("a") as file:
    print(os.getpid(), options.resume, options.seed, os.environ.get("OMP_NUM_THREADS", "-"), *other, file=file)
if options.method == options.fail:
    sys.exit("out of memory")
if options.wait and not pathlib.Path(options.wait).exists():
    time.sleep(60)
score = {SCORES}[options.method] + int(options.subset) / 100
classes = {{"sky": score / 2, "sea": None}}
test = {{options.method: {{"miou": score, "student_miou": 0.1, "iou": classes}}}}
report = {{"dataset": "CamVid", "tested_on": "test set", "torch": "2.11", "test": test}}
(out / "metrics.json").write_text(json.dumps(report))
"""


@pytest.fixture
def fake(tmp_path: Path) -> list[str]:
    (tmp_path / "fake_trainer.py").write_text(FAKE)
    return [sys.executable, str(tmp_path / "fake_trainer.py")]


def starts(job: Job) -> list[list[str]]:
    """Return the fake trainer's record of each start: pid, resume, seed, threads, other arguments."""
    path = job.folder / "starts.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def jobs_of(folder: Path, methods: Sequence[str], subsets: int = 2, passed: Sequence[str] = ()) -> list[Job]:
    return [job for name in methods for job in runner.subset_jobs(folder / name, name, subsets, passed)]


def test_a_finished_job_is_skipped_and_an_unfinished_one_goes_on(tmp_path: Path, fake: list[str]) -> None:
    jobs = jobs_of(tmp_path, ["supervised", "cowmix"], passed=["--size", "120", "160"])
    runner.run(jobs, 2, fake)
    assert [len(starts(job)) for job in jobs] == [1, 1, 1, 1]
    (jobs[0].folder / "metrics.json").unlink()
    (jobs[1].folder / "metrics.json").write_text('{"test": ')  # interrupted while writing
    runner.run(jobs, 2, fake)
    assert [len(starts(job)) for job in jobs] == [2, 2, 1, 1]
    for job, seed in zip(jobs, "0101", strict=True):
        assert {tuple(start[1:3] + start[4:]) for start in starts(job)} == {("True", seed, "--size", "120", "160")}


def test_other_arguments_are_refused_before_anything_runs(tmp_path: Path, fake: list[str]) -> None:
    begun = jobs_of(tmp_path, ["cowmix"], passed=["--iterations", "3"])
    runner.run(begun, 1, fake)
    changed = jobs_of(tmp_path, ["supervised", "cowmix"], passed=["--iterations", "4"])
    with pytest.raises(CampaignError, match=r"(?s)cowmix.0 was begun with other arguments.*tions 3.*tions 4"):
        runner.run(changed, 1, fake)
    assert (len(starts(changed[0])), len(starts(begun[0]))) == (0, 1)
    (begun[0].folder / "job.json").unlink()  # as if it had been trained by hand
    with pytest.raises(CampaignError, match="a run of another command"):
        runner.run(begun, 1, fake)


def test_a_failing_job_is_named_and_the_others_run(tmp_path: Path, fake: list[str]) -> None:
    jobs = jobs_of(tmp_path, ["supervised", "cowmix", "full"], 1, ["--fail", "cowmix"])
    log = tmp_path / "cowmix" / "0" / "log.txt"
    for tries in (1, 2):
        with pytest.raises(CampaignError) as error:
            runner.run(jobs, 1, fake)
        assert str(error.value).startswith("1 of 3 trainings failed")
        assert str(error.value).splitlines()[1:] == [f"  {log}"]
        assert log.read_text().splitlines() == ["out of memory"] * tries
    assert [job.report() is not None for job in jobs] == [True, False, True]


def test_a_job_that_writes_no_metrics_has_failed(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="1 of 1 trainings failed"):
        runner.run(jobs_of(tmp_path, ["full"], 1), 1, [sys.executable, "-c", ""])


def test_the_cores_are_shared_unless_the_user_says_otherwise(
    tmp_path: Path, fake: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for at_once, threads in ((2, "4"), (3, "2"), (16, "1")):
        jobs = jobs_of(tmp_path / str(at_once), ["full"], 1)
        runner.run(jobs, at_once, fake)
        assert starts(jobs[0])[0][3] == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    (tmp_path / "3" / "full" / "0" / "metrics.json").unlink()
    runner.run(jobs_of(tmp_path / "3", ["full"], 1), 3, fake)
    assert starts(jobs_of(tmp_path / "3", ["full"], 1)[0])[1][3] == "5"


def test_as_many_at_once_as_asked_for(tmp_path: Path) -> None:
    # Each of the first three waits for the other two, in vain if fewer run at once. None may see a fourth.
    code = f"""
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
running, met = pathlib.Path({str(tmp_path / "running")!r}), pathlib.Path({str(tmp_path / "met")!r})
(running / out.name).touch()
deadline = time.monotonic() + 30
while len(list(running.iterdir())) < 3 and not met.exists():
    if time.monotonic() > deadline: sys.exit("alone")
met.touch()
time.sleep(0.3)
if len(list(running.iterdir())) > 3: sys.exit("crowded")
(running / out.name).unlink()
report = {{"dataset": "", "tested_on": "", "torch": "", "test": {{"full": {{"miou": 0.5}}}}}}
(out / "metrics.json").write_text(json.dumps(report))
"""
    (tmp_path / "running").mkdir()
    runner.run(jobs_of(tmp_path / "runs", ["full"], 6), 3, [sys.executable, "-c", code])


def test_an_interrupt_ends_the_trainings_and_the_same_command_goes_on(tmp_path: Path, fake: list[str]) -> None:
    go_on = tmp_path / "go_on"
    jobs = jobs_of(tmp_path / "runs", ["supervised", "cowmix"], passed=["--wait", str(go_on)])
    code = f"from pathlib import *; from segmentation.campaigns.runner import *; run({jobs!r}, 2, {fake!r})"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(EXAMPLES)}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while not (starts(jobs[0]) and starts(jobs[1])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=30) != 0
    assert [len(starts(job)) for job in jobs] == [1, 1, 0, 0]
    for job in jobs[:2]:
        with pytest.raises(ProcessLookupError):
            os.kill(int(starts(job)[0][0]), 0)

    go_on.touch()
    runner.run(jobs, 2, fake)
    assert [len(starts(job)) for job in jobs] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    "word", ["--seed", "--seed=3", "--out", "--resume", "--overwrite", "--no-mix-labelled", "--consistency_weight"]
)
def test_options_that_a_campaign_sets_are_refused(tmp_path: Path, word: str) -> None:
    varied = ("--mix-labelled", "--consistency-weight", "0.99")
    with pytest.raises(CampaignError, match=f"{word.split('=')[0].replace('_', '-')} is set for each training"):
        runner.subset_jobs(tmp_path, "cowmix", 1, [word], varied)
    (job,) = runner.subset_jobs(tmp_path, "cowmix", 1, ["--ema", "0.99"], varied)
    assert job.arguments[-5:] == (*varied, "--ema", "0.99")


def test_the_command_line_is_split_at_two_dashes() -> None:
    assert runner.split_arguments(["--subsets", "3", "--", "--data", "d"]) == (["--subsets", "3"], ["--data", "d"])


@pytest.mark.parametrize(("name", "value"), [("subsets", 0), ("subsets", 11), ("at_once", 0)])
def test_options_that_make_no_sense_are_refused(name: str, value: int) -> None:
    with pytest.raises(CampaignError, match=f"--{name.replace('_', '-')} must be"):
        runner.Options(**{name: value})


@pytest.mark.parametrize("words", [["table1.py"], ["sweep.py", "--parameter", "ema"]])
def test_the_commands_say_what_is_wrong_in_one_line(words: list[str]) -> None:
    for more, message in {("--subsets", "0"): "--subsets must be", ("--", "--seed", "3"): "--seed is set"}.items():
        done = run_script(EXAMPLES / words[0], *words[1:], *more)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert done.stderr.startswith(f"{words[0].removesuffix('.py')}: {message}")


@pytest.mark.parametrize(
    "words",
    ["table1.py --subsets 1 --method full", "sweep.py --parameter ema --subsets 1", "table2.py --seeds 1 --labelled 9"],
)
def test_a_campaign_on_a_folder_in_use_is_refused(tmp_path: Path, words: str) -> None:
    script, *options = words.split()
    with locked(tmp_path):
        done = run_script(EXAMPLES / script, *options, "--out", tmp_path, "--", "--data", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "is in use by another run" in done.stderr


def test_an_interrupted_campaign_says_how_to_go_on(tmp_path: Path) -> None:
    done = run_on_cpu(EXAMPLES / "table1.py", "--out", tmp_path, before=interrupt_all_runs)
    assert (done.returncode, done.stderr) == (130, "table1: interrupted: the same command goes on.\n")


def interrupt_all_runs() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    pytest.MonkeyPatch().setattr(runner, "run", interrupt)


def test_damaged_files_of_a_campaign(tmp_path: Path, fake: list[str]) -> None:
    """Scores are made again; what says how they were made is refused."""
    (job,) = jobs_of(tmp_path, ["full"], 1)
    runner.run([job], 1, fake)
    for content in ("\0", "[]", '{"test": {"full": 3}}', '{"test": {"cowmix": {"miou": 0.5}}}'):
        (job.folder / "metrics.json").write_text(content)
        runner.run([job], 1, fake)
        assert job.report()
    assert len(starts(job)) == 5
    (job.folder / "job.json").write_text("[")
    with pytest.raises(CampaignError, match=r"job.json is damaged: take another --out, or delete .*full.0\."):
        runner.run([job], 1, fake)


def test_summary() -> None:
    summary = runner.summarise([40.0, 43.0, 47.5])
    assert summary[1:] == pytest.approx((43.5, np.std([40.0, 43.0, 47.5], ddof=1)))
    assert str(summary) == "43.50 ± 3.77"
    assert runner.summarise([40.0]) == ((40.0,), 40.0, None)
    assert str(runner.summarise([40.0])) == "40.00"


def test_gap_closed() -> None:
    means: dict[MethodName, float] = {"supervised": 40, "std_aug": 38, "cowmix": 45, "full": 60}
    scores = {name: Summary((), mean, None) for name, mean in means.items()}
    assert table1.gap_closed(scores) == pytest.approx({"std_aug": -10, "cowmix": 25})
    assert table1.gap_closed({name: score for name, score in scores.items() if name != "full"}) == {}
    assert table1.gap_closed(scores | {"full": Summary((), 40, None)}) == {}
    assert round(table1.gap_closed(table1.PAPER)["cowmix"]) == 41


def test_table1_trains_gathers_and_writes(tmp_path: Path, fake: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = table1.Options(subsets=3, at_once=2, method=("supervised", "cowmix", "full", "cowmix"), out=tmp_path)
    table1.main(options, ["--iterations", "300"], fake)
    content = json.loads((tmp_path / "table1.json").read_text())
    origin = {"dataset": "CamVid", "tested_on": "test set", "torch": "2.11", "arguments": ["--iterations", "300"]}
    assert {name: content[name] for name in origin} == origin
    assert (tmp_path / "table1.md").read_text().startswith("CamVid, test set; subsets of labelled frames: 3 ")
    assert list(content["test"]) == ["supervised", "cowmix", "full"]
    for name, test in content["test"].items():
        runs = [100 * (SCORES[name] + i / 100) for i in range(3)]
        assert test["runs"] == pytest.approx(runs)
        assert test["mean"] == pytest.approx(np.mean(runs))
        assert test["std"] == pytest.approx(1.0)
    assert content["test"]["cowmix"]["gap_closed"] == pytest.approx(25)
    assert (content["test"]["full"]["gap_closed"], content["paper"]["cowmix"]["mean"]) == (None, 55.06)
    row = "| CowMix | 55.06 ± 1.74 | 46.00 ± 1.00 | 41.2 | 25.0 |"
    assert row in (tmp_path / "table1.md").read_text().splitlines()
    assert "46.00 ± 1.00" in capsys.readouterr().out
    assert is_a_picture(tmp_path / "table1.png", panels=2)


def test_table1_without_full_or_paper(tmp_path: Path, fake: list[str]) -> None:
    table1.main(table1.Options(subsets=1, method=("cowmix", "cutmix_fixed"), out=tmp_path), [], fake)
    cowmix = json.loads((tmp_path / "table1.json").read_text())["test"]["cowmix"]
    assert cowmix == {"runs": [45.0], "mean": 45.0, "std": None, "gap_closed": None}
    assert (tmp_path / "table1.md").read_text().splitlines()[-2:] == [
        "| CowMix | 55.06 ± 1.74 | 45.00 | 41.2 |  |",
        "| CutMix, fixed |  | 43.00 |  |  |",
    ]
    assert is_a_picture(tmp_path / "table1.png", panels=1)


def test_sweep_trains_gathers_and_writes(tmp_path: Path, fake: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = sweep.Options(parameter="sigma", subsets=2, at_once=2, baseline=True, out=tmp_path)
    sweep.main(options, [], fake)
    content = json.loads((tmp_path / "sigma.json").read_text())
    assert list(content["test"]) == list(sweep.VALUES["sigma"])
    assert content["test"]["4-16"] == {"runs": [45.0, 46.0], "mean": 45.5, "std": pytest.approx(0.5**0.5)}
    assert {name: score["mean"] for name, score in content["baseline"].items()} == {"supervised": 40.5, "full": 60.5}
    for value, words in {"4-16": ["--sigma", "4", "16"], "8": ["--sigma", "8", "8"]}.items():
        assert starts(Job(tmp_path / "sigma" / value / "1", "cowmix", ()))[0][4:] == words
    assert starts(Job(tmp_path / "supervised" / "1", "supervised", ()))[0][4:] == []
    assert is_a_picture(tmp_path / "sigma.png", panels=1)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")] == [
        "| sigma | 2 | 4 | 8 | 16 | 32 | 2-8 | 4-16 | 8-32 | supervised | full |",
        f"| --- |{10 * ' ---: |'}",
        f"| mIoU |{8 * ' 45.50 ± 0.71 |'} 40.50 ± 0.71 | 60.50 ± 0.71 |",
        f"| sky |{8 * ' 22.8 |'} 20.2 | 30.2 |",
    ]


@pytest.mark.parametrize("parameter", sweep.VALUES)
def test_sweep_values_are_numbers_in_order(parameter: str) -> None:
    for value in sweep.VALUES[parameter]:
        name, *numbers = sweep.value_arguments(parameter, value)
        assert name == f"--{parameter}"
        assert len(numbers) == (2 if parameter in ("sigma", "proportion") else 1)
        assert [float(number) for number in numbers] == sorted(float(number) for number in numbers)


def is_a_picture(path: Path, panels: int) -> bool:
    """Return whether a file is a PNG with the height of so many panels, and not blank."""
    with Image.open(path) as image:
        return panels == round((image.height / 150 - 1.4) / 2.5) and is_shaded(path)


def is_shaded(path: Path) -> bool:
    """Return whether a file is a PNG that is not blank."""
    with Image.open(path) as image:
        return image.format == "PNG" and len(np.unique(np.asarray(image))) > 50


def test_plots_show_what_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plt, "close", lambda _: None)
        one, two, three = Summary((), 40, 3), Summary((), 50, None), Summary((), -2, 1)
        save_comparison(tmp_path / "a.png", "", ["x", "y"], {"mIoU": {"paper": [None, one], "here": [two, three]}})
        save_sweep(tmp_path / "b.png", "", "x", {"1": one, "2": two}, {"baseline": three})
        save_sweep(tmp_path / "c.png", "", "x", {"2": two}, {"baseline": three})
    comparison, sweep_axis, single = (plt.figure(number).axes[0] for number in plt.get_fignums()[-3:])
    plt.close("all")
    boxes = [bar.get_window_extent().transformed(comparison.transData.inverted()) for bar in comparison.patches]
    assert np.allclose([box.intervalx.mean() for box in boxes], [0.8, 0.2, 1.2])
    assert np.allclose([(box.y0, box.y1) for box in boxes], [(0, 40), (0, 50), (-2, 0)])
    caps = [float(np.ravel(line.get_ydata())[0]) for line in comparison.lines if line.get_marker() == "_"]
    assert caps == [37, 43, -3, -1]
    boxes = [bar.get_window_extent().transformed(sweep_axis.transData.inverted()) for bar in sweep_axis.patches]
    assert np.allclose([(box.y0, box.y1) for box in boxes], [(37, 43), (50, 50), (-3, -1)])
    assert np.allclose(sweep_axis.lines[0].get_ydata(), -2)
    assert sweep_axis.get_title().startswith("\nbars: mean ± 1 standard deviation;")
    assert single.get_title().startswith("\none run for each value;")


def test_subsets_of_labelled_frames() -> None:
    comment, *lines = SUBSETS.read_text().splitlines()
    assert (comment[0], len(lines), len(set(lines))) == ("#", runner.SUBSETS, runner.SUBSETS)
    for names in map(str.split, lines):
        assert names == sorted(set(names))
        assert len(names) == 30


@pytest.mark.skipif("CAMVID" not in os.environ, reason="needs CamVid in the folder CAMVID")
def test_subsets_are_drawn_as_they_say() -> None:
    frames = sorted(path.stem for path in (Path(os.environ["CAMVID"]) / "train").iterdir())
    rng = np.random.default_rng(2019)
    drawn = [" ".join(sorted(rng.choice(frames, 30, replace=False).tolist())) for _ in range(10)]
    assert SUBSETS.read_text().splitlines()[1:] == drawn
