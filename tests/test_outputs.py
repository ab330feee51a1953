"""examples/segmentation/outputs.py, storage.py, checkpoints.py and tracking.py: what a run leaves, what it spares."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from segmentation import checkpoints, outputs
from segmentation.checkpoints import MANIFEST, STATE, Checkpoints
from segmentation.config import Config
from segmentation.errors import one_sentence
from segmentation.methods import MethodName
from segmentation.storage import StorageError, locked, read_json, read_tensors, write_tensors, write_whole
from segmentation.tracking import CSVTracker
from tests.faults import Hostile
from tests.forked import fork

OPTIONS = {"seed": "0", "encoder": "small"}
REPORT = {"dataset": "CamVid", "tested_on": "test set", "torch": "2.14", "test": {"full": {"miou": 0.5}}}


class Part:
    """A part of a training whose state is one number."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.number = state["number"]


def save(folder: Path, *iterations: int) -> None:
    for iteration in iterations:
        Checkpoints(folder, OPTIONS).save(iteration, {"part": Part(iteration)})


def config_of(out: Path, **options: Any) -> Config:
    return Config(out=out, method=("cowmix",), **options)


def finish(out: Path) -> Path:
    """Write what a finished run leaves, with things of the user's beside it; return the method's folder."""
    folder = out / "cowmix"
    outputs.begin(config_of(out), OPTIONS)
    save(folder, 2, 4)
    for name in ("log.csv", "network.safetensors", "tensorboard/events.out.tfevents.1.host.2.0", "../panel.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("step,name,value\n4,loss,0.5\n")
    (out / "metrics.json").write_text(json.dumps(REPORT | {"test": {"cowmix": {"miou": 0.5}}}))
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


def test_an_earlier_run_is_named_and_left_alone(tmp_path: Path) -> None:
    finish(tmp_path)
    before = files(tmp_path)
    expected: list[tuple[MethodName, str]] = [
        ("cowmix", "cowmix finished, metrics.json, panel.png"),
        ("full", "metrics.json, panel.png"),
    ]
    for method, there in expected:
        with pytest.raises(StorageError, match=rf"holds a run \({there}\): add --resume .*--overwrite .*another --out"):
            outputs.refuse_to_lose(Config(out=tmp_path, method=(method,)))
    assert files(tmp_path) == before
    outputs.refuse_to_lose(config_of(tmp_path, resume=True))
    outputs.refuse_to_lose(config_of(tmp_path, overwrite=True))


def test_overwriting_removes_what_a_run_writes_and_nothing_else(tmp_path: Path) -> None:
    folder = finish(tmp_path / "out")
    mine = {"mine.txt", "cowmix/checkpoint-00000004-keep/state.pt", "cowmix/checkpoint-4/x", "cowmix/tensorboard/mine"}
    mine |= {"cowmix/checkpoint-00000009", "cowmix/checkpoints.txt", "full/network.safetensors", "cowmix/writing/x"}
    for name in mine:
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    (folder / "checkpoint-00000008").symlink_to(elsewhere)
    (folder / "checkpoint-00000006.writing").mkdir()  # a run was killed here
    outputs.begin(config_of(tmp_path / "out", overwrite=True), OPTIONS)
    assert files(tmp_path / "out") == mine | {"cowmix/options.json", "cowmix/checkpoint-00000008"}
    assert files(elsewhere) == {"mine"}
    assert not (folder / "checkpoint-00000006.writing").exists()
    assert read_json(folder / "options.json", dict) == OPTIONS


def test_what_cannot_be_resumed_is_left_alone(tmp_path: Path) -> None:
    """All methods are looked at before anything is changed."""
    finish(tmp_path)
    save(tmp_path / "full", 2)  # a checkpoint without options
    before = files(tmp_path)
    config = Config(out=tmp_path, method=("supervised", "cowmix", "full"), resume=True)
    with pytest.raises(StorageError, match=r"full/options.json is missing, so that nobody knows .*--overwrite"):
        outputs.begin(config, OPTIONS)
    for options in ({"seed": "0"}, OPTIONS | {"new": "1"}, OPTIONS | {"seed": "1"}):
        with pytest.raises(StorageError, match=r"cowmix was begun with other options \((encoder|new|seed)\)"):
            outputs.begin(replace(config, method=("supervised", "cowmix")), options)
    assert files(tmp_path) == before
    outputs.begin(replace(config, method=("supervised", "cowmix")), OPTIONS)
    assert files(tmp_path) == before | {"supervised/options.json"}


def test_a_run_that_left_nothing_does_not_stand_in_the_way(tmp_path: Path) -> None:
    outputs.begin(config_of(tmp_path), OPTIONS)
    CSVTracker(tmp_path / "cowmix" / "log.csv", 0)
    for options in ({}, {"resume": True}):
        outputs.refuse_to_lose(config_of(tmp_path, **options))
        outputs.begin(config_of(tmp_path, **options), OPTIONS | {"seed": "1"})


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, '{"test": 3}', '{"test": {"full": {"miou": null}}}'])
def test_damaged_scores_count_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.json").write_text(content)
    assert outputs.read_report(tmp_path) is None
    outputs.refuse_to_lose(config_of(tmp_path, resume=True))
    (tmp_path / "metrics.json").write_text(json.dumps(REPORT))
    assert outputs.read_report(tmp_path) == REPORT
    with pytest.raises(StorageError, match="holds scores of full: name them after --method"):
        outputs.refuse_to_lose(config_of(tmp_path, resume=True))


def test_the_newest_checkpoint_and_the_one_before_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 2, 4, 6)
    assert [path.name for path in checkpoints.found(tmp_path)] == ["checkpoint-00000004", "checkpoint-00000006"]
    part = Part()
    assert Checkpoints(tmp_path, OPTIONS).load_newest({"part": part}) == tmp_path / "checkpoint-00000006"
    assert part.number == 6
    assert Checkpoints(tmp_path / "none", OPTIONS).load_newest({"part": part}) is None


def spoil(name: str, content: bytes | None) -> Callable[[Path], None]:
    def act(checkpoint: Path) -> None:
        (checkpoint / name).unlink()
        if content is not None:
            (checkpoint / name).write_bytes(content)

    return act


@pytest.mark.parametrize("name", [STATE, MANIFEST])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00", b"[]", b"{}", b'{"files": {}, "options": {}}', b"PK\3\4"])
def test_damage_is_refused_and_the_checkpoint_before_is_offered(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    save(tmp_path, 2, 4)
    spoil(name, content)(tmp_path / "checkpoint-00000004")
    expected = (
        r"-00000004 cannot be resumed \(.*\): move that folder away, and --resume goes on from checkpoint-00000002\."
    )
    with pytest.raises(StorageError, match=expected) as refused:
        Checkpoints(tmp_path, OPTIONS).load_newest({"part": Part()})
    assert len(str(refused.value).splitlines()) == 1
    (tmp_path / "checkpoint-00000004").rename(tmp_path / "away")
    assert Checkpoints(tmp_path, OPTIONS).load_newest({"part": Part()}) == tmp_path / "checkpoint-00000002"
    spoil(name, content)(tmp_path / "checkpoint-00000002")
    with pytest.raises(StorageError, match="starts at iteration 0: there is no checkpoint before it"):
        Checkpoints(tmp_path, OPTIONS).check()


@pytest.mark.parametrize("zipped", [True, False])
def test_no_file_of_tensors_runs_code(tmp_path: Path, zipped: bool) -> None:
    path, trap = tmp_path / "hostile.pt", tmp_path / "ran"
    for content in (Hostile(trap), {"weights": torch.zeros(2), "more": [Hostile(trap)]}):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(StorageError, match="holds more than tensors") as refused:
            read_tensors(path)
        assert "weights_only" not in str(refused.value)
    assert not trap.exists()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    class Full:
        def __reduce__(self) -> str:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, Full())
    assert files(tmp_path) == {"file"}
    assert path.read_text() == "old"


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    """However it ends: a kill leaves the lock's file, and data workers that live on."""
    first = fork(hold, tmp_path)
    wait_for(tmp_path / "locked")
    with (
        pytest.raises(StorageError, match=rf"in use by another run \(process {first.pid} on .+\): wait"),
        locked(tmp_path),
    ):
        pass
    first.kill()
    first.join()
    with locked(tmp_path):
        pass
    os.kill(int((tmp_path / "locked").read_text()), signal.SIGKILL)


def hold(folder: Path) -> None:
    with locked(folder):
        child = os.fork()  # as a data worker
        if child:
            (folder / "writing").write_text(str(child))
            (folder / "writing").rename(folder / "locked")
        time.sleep(60)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_file_system_without_locks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with locked(tmp_path / "new" / "folder"):
        assert "cannot be locked (No locks available): start no second run there" in capsys.readouterr().out


def test_the_log_keeps_scalars_up_to_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.csv"
    kept = ["1,loss/supervised,0.5", "2,val/miou_student,1e-05", "2,confidence,nan"]
    garbage = ['"', "two,loss,0.5", "2,loss", "\0\0", "1,loss,x", "9" * 5000 + ",loss,0.5"]
    later = ["2,test/miou_student,0.5", "3,loss/supervised,0.5", "3,loss/sup"]
    path.write_bytes("\n".join(["step,name,value", *kept, *garbage, *later]).encode() + b"\xff")
    CSVTracker(path, 2).log({"loss/supervised": 0.25}, 3)
    assert path.read_text().splitlines() == ["step,name,value", *kept, "3,loss/supervised,0.25"]
    assert "7 lines hold no scalar and are dropped" in capsys.readouterr().out


def test_make_train_repeats() -> None:
    root = Path(__file__).parents[1]
    for arguments, flags in (("", ["--resume"]), ("--seed 1", ["--resume"]), ("--overwrite", ["--overwrite"])):
        command = ["make", "--dry-run", "--directory", str(root), "train", f"ARGS={arguments}"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        words = printed.split("train_camvid.py")[1].split()
        assert [word for word in words if word in ("--resume", "--overwrite")] == flags


@pytest.fixture
def _own_hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what one_sentence changes in the process: a command is about to end, a test is not."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("lines", [1, 99999])
def test_output_that_nobody_reads_is_no_killed_worker(lines: int) -> None:
    code = f"from segmentation.errors import one_sentence\nwith one_sentence('it'):\n  print('line\\n' * {lines})"
    buffering = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    command, folder = [sys.executable, "-c", code], Path(outputs.__file__).parents[1]
    done = subprocess.run(
        command, cwd=folder, env=buffering, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "-c: nobody reads what is printed: it goes on.\n")


@pytest.mark.usefixtures("_own_hooks")
@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        BrokenPipeError(32, "Broken pipe"),
        EOFError(),
        RuntimeError("DataLoader worker (pid 1)"),
    ],
)
def test_a_killed_worker_is_told_however_it_is_noticed(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, one_sentence("the same command"):
        raise error
    assert caught.value.code == 1
    assert "a process that reads images was killed" in capsys.readouterr().err


@pytest.mark.usefixtures("_own_hooks")
def test_a_second_worker_killed_does_not_interrupt_how_the_first_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    class TwoKilledError(RuntimeError):
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGCHLD)
            return "DataLoader worker (pid 1)"

    signal.signal(signal.SIGCHLD, Mock(side_effect=RuntimeError("DataLoader worker (pid 2)")))
    with pytest.raises(SystemExit), one_sentence("the same command"):
        raise TwoKilledError
    assert "a process that reads images was killed" in capsys.readouterr().err
