"""Checkpoints that are complete or absent, and that are loaded only if they are what was written.

A checkpoint is a folder with two files:

    checkpoint-00000300/state.pt        tensors and numbers, by torch.save; nothing in it is run when it is loaded
    checkpoint-00000300/manifest.json   the run's options, and a list of the other files: size and SHA-256
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object

from segmentation.distributed import on_first, processes
from segmentation.storage import (
    WRITING,
    StorageError,
    read_json,
    read_tensors,
    sync_folder,
    write_tensors,
    write_whole,
)

STATE, MANIFEST = "state.pt", "manifest.json"
KEPT = 2  # checkpoints: should the newest be damaged, there is the one before
_NAME, _UNFINISHED = re.compile(r"checkpoint-\d{8}"), re.compile(rf"checkpoint-\d{{8}}{re.escape(WRITING)}")

Options = Mapping[str, str]  # what a resumed training must share with the one that was stopped


class Stateful(Protocol):
    """A part of a training, with a state of tensors and numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Go on from a state."""


class RandomStates:
    """PyTorch's generators on all processes. A training draws from no other global generator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def state_dict(self) -> dict[str, Any]:
        """Return the states of each process."""
        state = {"cpu": torch.get_rng_state()}
        if self._device.type != "cpu":
            state["device"] = torch.get_device_module(self._device).get_rng_state()
        return {"processes": gather_object([state])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set this process's generators."""
        own = state["processes"][processes().process_index]
        torch.set_rng_state(own["cpu"])
        if self._device.type != "cpu":
            torch.get_device_module(self._device).set_rng_state(own["device"])


def differing(one: Mapping[str, Any], other: Mapping[str, Any], most: int = 4) -> str:
    """Name the options that are not the same in both, and no more than a sentence holds; empty if all are."""
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def found(folder: Path) -> list[Path]:
    """Return a folder's checkpoints, oldest first. What has any other name is the user's."""
    return sorted(path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir())


def remove(folder: Path, keep: int = 0) -> None:
    """Remove a folder's checkpoints but for the newest ones, and those that a killed run did not finish."""
    checkpoints = found(folder)
    unfinished = [path for path in folder.glob("checkpoint-*") if _UNFINISHED.fullmatch(path.name)]
    for path in checkpoints[: max(0, len(checkpoints) - keep)] + unfinished:
        if not path.is_symlink():  # runs write none
            shutil.rmtree(path)


def list_files(checkpoint: Path) -> dict[str, Any]:
    """Return a manifest's list of files, from those that are there."""
    if not (checkpoint / STATE).is_file():
        return {}
    with (checkpoint / STATE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {STATE: {"bytes": file.tell(), "sha256": digest}}


class Checkpoints:
    """The checkpoints of one training, in `folder/checkpoint-ITERATION`."""

    def __init__(self, folder: Path, options: Options) -> None:
        self._folder, self._options = folder, dict(options)

    def save(self, iteration: int, parts: Mapping[str, Stateful]) -> None:
        """Write the states of all parts; then remove all checkpoints but this one and the one before."""
        state = {name: part.state_dict() for name, part in parts.items()}
        on_first(lambda: self._write(self._folder / f"checkpoint-{iteration:08d}", state))

    def _write(self, target: Path, state: dict[str, Any]) -> None:
        writing = target.with_name(target.name + WRITING)
        shutil.rmtree(writing, ignore_errors=True)  # of a run that was killed
        writing.mkdir(parents=True)
        try:
            write_tensors(writing / STATE, state)
            manifest = {"files": list_files(writing), "options": self._options}
            write_whole(writing / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            sync_folder(writing)
            writing.rename(target)
        except BaseException:
            shutil.rmtree(writing, ignore_errors=True)  # it may have filled the disk
            raise
        sync_folder(self._folder)
        remove(self._folder, keep=KEPT)

    def newest(self) -> Path | None:
        """Return the folder of the newest checkpoint, or None if there is none."""
        return next(reversed(found(self._folder)), None)

    def load_newest(self, parts: Mapping[str, Stateful]) -> Path | None:
        """Check the newest checkpoint and load it into all parts; return its folder, or None if there is none."""
        on_first(self.check)
        checkpoint = self.newest()
        if checkpoint:
            self._load(checkpoint, parts)
        return checkpoint

    def check(self) -> None:
        """Look at the newest checkpoint, if there is one.

        Raises:
            StorageError: If it does not fit its manifest, or is of a training with other options.
        """
        checkpoint = self.newest()
        if checkpoint is None:
            return
        try:
            manifest = read_json(checkpoint / MANIFEST, dict)
        except StorageError as error:
            raise self._refused(checkpoint, str(error)) from error
        options = manifest.get("options")
        if manifest.get("files") != list_files(checkpoint) or not isinstance(options, dict):
            raise self._refused(checkpoint, f"{STATE} is not the file that {MANIFEST} lists")
        if others := differing(options, self._options):
            raise StorageError(f"{checkpoint} is of a training with other options ({others}): --resume needs the same.")

    def _load(self, checkpoint: Path, parts: Mapping[str, Stateful]) -> None:
        try:
            state = read_tensors(checkpoint / STATE)
        except StorageError as error:
            raise self._refused(checkpoint, str(error)) from error
        try:
            for name, part in parts.items():
                part.load_state_dict(state[name])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # every part has errors of its own
            raise self._refused(checkpoint, f"{STATE} holds no state of this training's {name}") from error

    def _refused(self, checkpoint: Path, why: str) -> StorageError:
        """Return an error that offers the checkpoint before this one."""
        before = [path.name for path in found(self._folder) if path < checkpoint]
        instead = f"goes on from {before[-1]}" if before else "starts at iteration 0: there is no checkpoint before it"
        why = why.rstrip(".").replace(f"{checkpoint}{os.sep}", "")
        return StorageError(f"{checkpoint} cannot be resumed ({why}): move that folder away, and --resume {instead}.")
