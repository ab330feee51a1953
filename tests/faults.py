"""Faults injected into a tiny training: what is said, how it ends, and whether it goes on as if nothing had happened.

`python -m tests.faults` injects all of them and prints the table; `tests/test_faults.py` injects each. A new fault is
one more entry of FAULTS.
"""

import errno
import itertools
import json
import math
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))  # where pytest finds them, too

from segmentation import checkpoints
from segmentation.checkpoints import MANIFEST, STATE
from segmentation.networks import build_unet
from segmentation.storage import locked
from segmentation.trainer import Trainer
from tests.encoded import IDS, RGB, encode, png
from tests.forked import run_on_cpu
from tests.miniature import make_camvid

SCRIPT = Path(__file__).parents[1] / "examples" / "train_camvid.py"
OPTIONS = (
    "--method cowmix --size 32 64 --encoder tu-lcnet_050 --encoder-weights none --decoder-channels 16 16 8 8 8 "
    "--iterations 6 --checkpoint-every 2 --evaluate-every 3 --batch-size 2 --labelled 3 --threshold 0.2"
)
TRAIN = ("train", "trainannot")


def nothing(*_: object) -> None:
    """Neither damage nor mend."""


@dataclass(frozen=True)
class Fault:
    """What a user's files, options or machine do to one command.

    The command runs in a folder with a data set in `data` and, in `out`, a training of 6 iterations that was killed
    in its last one: it has checkpoints of iterations 2 and 4.
    """

    name: str  # for the table
    says: str  # regular expression of the last line of standard error; at status 0, of some line of standard output
    damage: Callable[[Path], object] = nothing  # gets that folder, before the command
    during: Callable[[], object] = nothing  # called in the process that trains; pickled, so a function of a module
    options: str = "--resume"  # {root} is that folder
    fresh: bool = False  # whether `out` is not there yet
    status: int = 1
    mend: Callable[[Path], object] = nothing  # does what was said; then the command with --resume goes on


class Outcome(NamedTuple):
    """What became of a fault."""

    said: str
    status: int
    has_traceback: bool
    goes_on: bool  # whether the mended training ends with the weights and scores of an undisturbed one


def train(root: Path, options: str, during: Callable[[], object] = nothing) -> CompletedProcess[str]:
    """Train in a process of its own."""
    words = f"{OPTIONS} --data {root / 'data'} --out {root / 'out'} {options.format(root=root)}".split()
    return run_on_cpu(SCRIPT, *words, before=during)


def end_of(root: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the teacher's weights and the scores at the end of a training."""
    weights = load_file(root / "out" / "cowmix" / "network.safetensors")
    return weights, json.loads((root / "out" / "metrics.json").read_text())["test"]


def is_same(one: tuple[dict[str, torch.Tensor], Any], other: tuple[dict[str, torch.Tensor], Any]) -> bool:
    """Return whether two trainings ended alike, bit for bit."""
    return one[1] == other[1] and all(torch.equal(value, other[0][name]) for name, value in one[0].items())


def contents(folder: Path) -> dict[Path, bytes]:
    """Return all files but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


class Bench:
    """Folders to inject faults into."""

    def __init__(self, root: Path) -> None:
        """Train undisturbed, and until killed, in folders below `root`."""
        self._root = root
        whole, self._killed = root / "whole", root / "killed"
        make_camvid(whole / "data")
        shutil.copytree(whole / "data", self._killed / "data")
        done = train(whole, "")
        assert done.returncode == 0, done.stderr
        done = train(self._killed, "", partial(at_step, 6, die))
        assert done.returncode == -signal.SIGKILL, done.stderr
        self._expected = end_of(whole)

    def inject(self, fault: Fault, thorough: bool = False) -> Outcome:
        """Run the command with a fault, mend it, and run the command with --resume.

        Unless `thorough`, a run whose files are as they were before the fault counts as one that goes on.
        """
        with TemporaryDirectory(dir=self._root) as folder:
            root = Path(folder)
            shutil.copytree(self._killed, root, dirs_exist_ok=True)
            if fault.fresh:
                shutil.rmtree(root / "out")
            fault.damage(root)
            done = train(root, fault.options, fault.during)
            fault.mend(root)
            is_as_before = not thorough and contents(root / "out") == contents(self._killed / "out")
            goes_on = is_as_before or (
                train(root, "--resume").returncode == 0 and is_same(end_of(root), self._expected)
            )
            said = [line for line in done.stdout.splitlines() if re.search(fault.says, line)]
            if done.returncode:
                said = done.stderr.splitlines()
            last = said[-1].replace(str(root), "") if fault.says and said else ""
            return Outcome(last, done.returncode, "Traceback" in done.stderr, goes_on)


def die() -> None:
    """Kill this process, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(number: int, act: Callable[[], object]) -> None:
    """Let something happen in this process when a training comes to its step `number`, from 1."""
    step, steps = Trainer.step, iter(range(1, number))

    def watched(trainer: Trainer) -> dict[str, torch.Tensor]:
        if next(steps, None) is None:
            act()
        return step(trainer)

    pytest.MonkeyPatch().setattr(Trainer, "step", watched)


def folder_of(root: Path) -> Path:
    return root / "out" / "cowmix"


def newest(root: Path) -> Path:
    return folder_of(root) / "checkpoint-00000004"


def move_newest_away(root: Path) -> None:
    newest(root).rename(root / "moved away")


def changed(name: str, content: bytes | None) -> dict[str, Any]:
    """Replace or remove (None) a file in `out`, or beside it in ../data; put it back to mend."""

    def damage(root: Path) -> None:
        path = root / "out" / name
        path.rename(root / "original")
        if content is not None:
            path.write_bytes(content)

    def mend(root: Path) -> None:
        (root / "original").replace(root / "out" / name)

    return {"damage": damage, "mend": mend}


def flip_a_bit(root: Path) -> None:
    path = newest(root) / STATE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(root: Path) -> None:
    os.truncate(newest(root) / STATE, 10_000)


def forged(root: Path, content: object) -> None:
    """Replace the state of the newest checkpoint, with a manifest that fits."""
    torch.save(content, newest(root) / STATE)
    manifest = json.loads((newest(root) / MANIFEST).read_text())
    manifest["files"] = checkpoints.list_files(newest(root))
    (newest(root) / MANIFEST).write_text(json.dumps(manifest))


def without_random_states(root: Path, random: object) -> None:
    forged(root, torch.load(newest(root) / STATE, weights_only=True) | {"random": random})


class Hostile:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self._path,)


def assert_nothing_ran(root: Path) -> None:
    assert not (root / "ran").exists(), "a file ran code"


def mend_hostile(root: Path) -> None:
    assert_nothing_ran(root)
    move_newest_away(root)


def of_another_encoder(root: Path) -> None:
    path = newest(root) / MANIFEST
    path.write_text(path.read_text().replace("tu-lcnet_050", "tu-resnet18"))


def keep_a_copy(root: Path) -> None:
    shutil.copytree(newest(root), folder_of(root) / "checkpoint-00000004-keep")


def assert_the_copy_is_kept(root: Path) -> None:
    assert (folder_of(root) / "checkpoint-00000004-keep" / STATE).exists()


def unfinished_checkpoint(root: Path) -> None:
    writing = folder_of(root) / "checkpoint-00000006.writing"
    writing.mkdir()
    (writing / STATE).write_bytes(b"half")


def finished_without_checkpoint(root: Path) -> None:
    (folder_of(root) / "network.safetensors").touch()
    for path in checkpoints.found(folder_of(root)):
        path.rename(root / path.name)


def put_checkpoints_back(root: Path) -> None:
    (folder_of(root) / "network.safetensors").unlink()
    for path in checkpoints.found(root):
        path.rename(folder_of(root) / path.name)


def limit_files(size: int) -> None:
    """Let no file of this process become larger, as on a disk that is nearly full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    os.kill(os.getpid(), signal.SIGINT)


def kill_workers() -> None:
    for worker in multiprocessing.active_children():
        worker.kill()


def be_read_only() -> None:
    """Let this process write nothing, as in a folder of someone else's: root may write everywhere."""

    def refuse(path: Path, mode: str = "r", *options: Any, **more: Any) -> Any:
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, mode, *options, **more)

    opened = Path.open
    pytest.MonkeyPatch().setattr(Path, "open", refuse)


def spoil_loss(number: int) -> None:
    """Make the loss NaN in this process's step `number`, from 1."""
    find, factors = Trainer._losses, itertools.chain([1.0] * (number - 1), [math.nan], itertools.repeat(1.0))

    def spoilt(trainer: Trainer, *arguments: Any) -> dict[str, torch.Tensor]:
        factor = next(factors)
        return {name: factor * loss for name, loss in find(trainer, *arguments).items()}

    pytest.MonkeyPatch().setattr(Trainer, "_losses", spoilt)


def half_of_the_weights(root: Path) -> None:
    network: Any = build_unet("tu-lcnet_050", "none", 2, (16, 16, 8, 8, 8)).network
    torch.save(dict(list(network.encoder.model.state_dict().items())[::2]), root / "half.pt")


LOCKS = ExitStack()
JUNK = ("._frame0.png", "Thumbs.db", ".DS_Store")


def lock(root: Path) -> None:
    LOCKS.enter_context(locked(root / "out"))


DAMAGED = (
    r"checkpoint-00000004 cannot be resumed \({}\): move that folder away, and --resume goes on from .*-00000002\.$"
)
DIFFERS = DAMAGED.format("state.pt is not the file that manifest.json lists")
NO_FIT = DAMAGED.format(".*")
GOING_ON = "cowmix: going on from .*/checkpoint-00000004"

FAULTS = [
    Fault(
        "the same command again, without `--resume`",
        r"holds a run \(cowmix stopped after checkpoint-00000004\): add --resume to go on with it, --overwrite to",
        options="",
    ),
    Fault("`--resume` with `--overwrite`", "--resume and --overwrite exclude", options="--resume --overwrite"),
    Fault("other options", r"begun with other options \(seed\): give the same", options="--resume --seed 1"),
    Fault(
        "other images",
        r"begun with other options \(training images\)",
        damage=lambda root: [
            (root / "data" / name / "frame0.png").rename(root / "data" / name / "f.png") for name in TRAIN
        ],
        mend=lambda root: [
            (root / "data" / name / "f.png").rename(root / "data" / name / "frame0.png") for name in TRAIN
        ],
    ),
    Fault(
        "no data",
        r"/data is not a folder",
        damage=lambda root: (root / "data").rename(root / "moved"),
        mend=lambda root: (root / "moved").rename(root / "data"),
    ),
    Fault(
        "a test image without its label map",
        r"1 of 4 label maps of the test set are missing: /data/testannot/frame1.png\.$",
        **changed("../data/testannot/frame1.png", None),
    ),
    Fault(
        "a label map of another size",
        r"/data/valannot/frame1.png is no label map of its image: it is 12x9, but /data/val/frame1.png is 64x32 ",
        **changed("../data/valannot/frame1.png", encode(IDS).content),
    ),
    Fault(
        "a label map in colours",
        r"/data/testannot/frame1.png is no label map: expected one channel that holds ids, but its mode is RGB\.$",
        **changed("../data/testannot/frame1.png", encode(RGB).content),
    ),
    Fault(
        "a JPEG for a label map",
        r"/data/testannot/frame1.png is a JPEG, which changes ids at the borders of objects: save label maps as PNG\.$",
        **changed("../data/testannot/frame1.png", encode(IDS, "JPEG").content),
    ),
    Fault(
        "an image cut off",
        r"/data/test/frame3.png cannot be read as an image: ",
        **changed("../data/test/frame3.png", encode(np.zeros((32, 64, 3), np.uint8)).content[:-30]),
    ),
    Fault(
        "an image of 100 million pixels",
        r"/data/train/frame2.png cannot be read as an image: it has more than 89,478,485 pixels, make it smaller\.$",
        **changed("../data/train/frame2.png", png(10_000, 10_000, 8, 2, b"").content),
    ),
    Fault(
        "PostScript named `.png`",
        r"/data/train/frame2.png cannot be read as an image: it is none of JPEG, PNG, ",
        **changed("../data/train/frame2.png", b"%!PS-Adobe-3.0 EPSF-3.0"),
    ),
    Fault(
        "`frame0.jpg` beside `frame0.png`",
        r"/data/train/frame0.jpg and frame0.png have the same name: which is it\? Keep one of them\.$",
        damage=lambda root: (root / "data/train/frame0.jpg").write_bytes(b""),
        mend=lambda root: (root / "data/train/frame0.jpg").unlink(),
    ),
    Fault(
        "`._frame0.png` and `Thumbs.db` beside the images",
        "",
        status=0,
        damage=lambda root: [(root / "data/train" / name).write_bytes(b"no picture") for name in JUNK],
    ),
    Fault("no `options.json`", "options.json is missing, so that nobody knows", **changed("cowmix/options.json", None)),
    Fault("bytes in `options.json`", "options.json is damaged, so that", **changed("cowmix/options.json", b"\xff\x00")),
    Fault("`{}` in `options.json`", "begun with other options", **changed("cowmix/options.json", b"{}")),
    Fault(
        "bytes in `log.csv`",
        r"log.csv: \d lines hold no scalar and are dropped",
        status=0,
        damage=changed("cowmix/log.csv", b'\xff,"\n3,val/x,\0')["damage"],
    ),
    Fault(
        "bytes in `metrics.json`",
        GOING_ON,
        status=0,
        damage=lambda root: (root / "out" / "metrics.json").write_bytes(b"\xff{"),
    ),
    Fault(
        "scores of another method",
        "holds scores of full: name them after --method, too",
        damage=lambda root: (root / "out" / "metrics.json").write_text(
            '{"dataset": "CamVid", "tested_on": "test set", "torch": "2", "test": {"full": {"miou": 0.5}}}'
        ),
        mend=lambda root: (root / "out" / "metrics.json").unlink(),
    ),
    Fault("`state.pt` cut", DIFFERS, damage=cut, mend=move_newest_away),
    Fault("one bit of `state.pt` flipped", DIFFERS, damage=flip_a_bit, mend=move_newest_away),
    Fault("no `state.pt`", DIFFERS, damage=lambda root: (newest(root) / STATE).unlink(), mend=move_newest_away),
    Fault("no `manifest.json`", NO_FIT, damage=lambda root: (newest(root) / MANIFEST).unlink(), mend=move_newest_away),
    Fault(
        "bytes in `manifest.json`",
        NO_FIT,
        damage=lambda root: (newest(root) / MANIFEST).write_bytes(b"\xff"),
        mend=move_newest_away,
    ),
    Fault(
        "`state.pt` that runs code, listed",
        DAMAGED.format(".*state.pt holds more than tensors and numbers, or is damaged: it was not loaded"),
        damage=lambda root: forged(root, {"student": Hostile(root / "ran")}),
        mend=mend_hostile,
    ),
    Fault(
        "`state.pt` without random states, listed",
        NO_FIT,
        damage=lambda root: without_random_states(root, {"processes": []}),
        mend=move_newest_away,
    ),
    Fault(
        "`state.pt` with damaged random states, listed",
        NO_FIT,
        damage=lambda root: without_random_states(root, {"processes": [{"cpu": torch.zeros(9, dtype=torch.uint8)}]}),
        mend=move_newest_away,
    ),
    Fault("`state.pt` of something else, listed", NO_FIT, damage=lambda root: forged(root, [1]), mend=move_newest_away),
    Fault(
        "another encoder's checkpoint",
        r"checkpoint-00000004 is of a training with other options \(encoder\)",
        damage=of_another_encoder,
        mend=move_newest_away,
    ),
    Fault("a copy, `checkpoint-00000004-keep`", GOING_ON, status=0, damage=keep_a_copy, mend=assert_the_copy_is_kept),
    Fault("a checkpoint half written", GOING_ON, status=0, damage=unfinished_checkpoint),
    Fault(
        "the checkpoints of a finished run removed",
        "holds network.safetensors of a finished training without its checkpoint",
        damage=finished_without_checkpoint,
        mend=put_checkpoints_back,
    ),
    Fault(
        "a second run at the same time",
        r"in use by another run \(process \d+ on ",
        damage=lock,
        mend=lambda _: LOCKS.close(),
    ),
    Fault(
        "`--out` is a file",
        "/out is a file: choose a folder for --out",
        fresh=True,
        damage=lambda root: (root / "out").touch(),
        mend=lambda root: (root / "out").unlink(),
    ),
    Fault("`--out` is read-only", r"Read-only file system: once this is mended", during=be_read_only),
    Fault(
        "no room for `options.json`",
        "options.json: File too large: once this is mended",
        fresh=True,
        during=partial(limit_files, 500),
    ),
    Fault(
        "no room for TensorBoard's log",
        "/out/cowmix: File too large: once this is mended",
        options="--resume --evaluate-every 1 --checkpoint-every 9",
        fresh=True,
        during=partial(limit_files, 4_000),
    ),
    Fault(
        "no room for a checkpoint",
        "/state.pt: File too large: once this is mended",
        during=partial(limit_files, 200_000),
    ),
    Fault(
        "Ctrl-C",
        "interrupted: the same command with --resume goes on",
        during=partial(at_step, 2, interrupt),
        status=130,
    ),
    Fault("killed", "", during=partial(at_step, 2, die), status=-signal.SIGKILL),
    Fault(
        "a loss that is NaN",
        r"not finite in iteration 6: train anew with a lower --learning-rate than .*-00000004 is from before\.$",
        during=partial(spoil_loss, 2),
    ),
    Fault(
        "an encoder of fixed size",
        "cannot be trained on images of 64x32 pixels, 2 in a batch: choose another --encoder",
        fresh=True,
        options="--encoder tu-swin_tiny_patch4_window7_224",
    ),
    Fault(
        "batch-norm of a single value",
        "cannot be trained on images of 32x32 pixels, 1 in a batch: choose another .*--size or --batch-size",
        fresh=True,
        options="--size 32 32 --batch-size 1",
    ),
    Fault(
        "`--encoder-weights` that run code",
        r"weights\.pt holds more than tensors and numbers, or is damaged",
        fresh=True,
        damage=lambda root: torch.save({"conv_stem.weight": Hostile(root / "ran")}, root / "weights.pt"),
        options="--encoder-weights {root}/weights.pt",
        mend=assert_nothing_ran,
    ),
    Fault(
        "half of the `--encoder-weights`",
        r"half\.pt does not fit the encoder: \d+ weights missing or of another shape: ",
        fresh=True,
        damage=half_of_the_weights,
        options="--encoder-weights {root}/half.pt",
    ),
    Fault(
        "a data worker killed",
        "a process that reads images was killed",
        options="--resume --workers 1",
        during=partial(at_step, 2, kill_workers),
    ),
]


def main() -> None:
    """Inject all faults and print the table."""
    print("| fault | what is said | exit status | goes on with `--resume` |\n| --- | --- | ---: | --- |")
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for fault in FAULTS:
            outcome = bench.inject(fault, thorough=True)
            as_meant = re.search(fault.says, outcome.said) and outcome.status == fault.status
            ended = f"{outcome.status}{'' if as_meant else ' (not as meant)'}{', traceback' * outcome.has_traceback}"
            end = "yes, the same weights" if outcome.goes_on else "NO"
            print(f"| {fault.name} | {outcome.said} | {ended} | {end} |", flush=True)


if __name__ == "__main__":
    main()
