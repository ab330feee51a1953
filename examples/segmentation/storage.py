"""Files that are whole or absent, whenever a run is killed; and a lock on their folder."""

import json
import os
import pickle
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch

from segmentation.errors import UserError

if sys.platform != "win32":
    import fcntl

T = TypeVar("T")
WRITING = ".writing"  # ends the name of what is not whole yet


class StorageError(UserError):
    """A folder of runs cannot be used as it is; the message is one sentence for the user."""


def sync_folder(folder: Path) -> None:
    """Wait until the folder's list of names is on the disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of files say which one it was, or in which folder."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its place in one step: there is always the old one or the new one."""
    writing = path.with_name(path.name + WRITING)
    try:
        with naming(path), writing.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        writing.replace(path)
    except BaseException:
        writing.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    with replaced(path) as file:
        file.write(text.encode())


def write_tensors(path: Path, content: object) -> None:
    """Replace a file of `torch.save` in one step."""
    with replaced(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # it hides that of a full disk
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def read_tensors(path: Path) -> Any:
    """Read a file of `torch.save` onto the CPU. Nothing that it holds is run.

    Raises:
        StorageError: If the file is damaged, or holds more than tensors, numbers, text and containers of them.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on kinds of files that are refused anyway
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # not quoted: torch advises to run what the file holds
            raise StorageError(
                f"{path} holds more than tensors and numbers, or is damaged: it was not loaded."
            ) from error
        except Exception as error:  # damage is noticed in many places
            raise StorageError(f"{path} is damaged: it was not loaded.") from error


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file whose content is of a kind, dict or list.

    Raises:
        StorageError: If the file is missing or holds anything else.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StorageError(f"{path} is missing.") from None
    except (ValueError, RecursionError):  # no text, no JSON, or brackets without end
        content = None
    if not isinstance(content, kind):
        raise StorageError(f"{path} is damaged.")
    return content


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other runs out of it. However this process ends, the kernel opens the lock again.

    Raises:
        StorageError: If another run has the lock, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file: choose a folder for --out.")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        if sys.platform != "win32":
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not inherited by data workers
            except (BlockingIOError, PermissionError):
                file.seek(0)
                raise StorageError(
                    f"{folder} is in use by another run ({file.read().strip()}): wait until it ends, or choose another "
                    "--out."
                ) from None
            except OSError as error:
                print(f"{folder} cannot be locked ({error.strerror}): start no second run there.")
        file.truncate(0)
        print(f"process {os.getpid()} on {socket.gethostname()}", file=file, flush=True)
        yield
