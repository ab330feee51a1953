"""Processes that tests start. They are forked from one that has imported everything, which saves seconds."""

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import start_processes

from segmentation.distributed import processes

Subject = Callable[[Path, int, int], Any]  # folder, rank and number of processes, to what JSON can hold

_FORKED = multiprocessing.get_context("forkserver")
_TIMEOUT = 600  # seconds, of a process that hangs


@cache
def _start_server() -> None:
    """Start the process that all others are forked from, without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        _FORKED.set_forkserver_preload(["segmentation.run", "pytest"])
        forkserver.ensure_running()


def fork(target: Callable[..., object], *arguments: Any, **options: Any) -> BaseProcess:
    """Start a process that calls a function."""
    _start_server()
    process = _FORKED.Process(target=target, args=arguments, kwargs=options)
    process.start()
    return process


def exit_code(process: BaseProcess) -> int:
    """Wait for a process to end."""
    process.join(_TIMEOUT)
    if process.exitcode is None:
        process.kill()
        pytest.fail(f"{process.name} hangs")
    return process.exitcode


def run_script(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script with its arguments in a process of its own."""
    command = [str(word) for word in words]
    if torch.cuda.is_available():  # a script that trains on the GPU must not be forked
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    return run_on_cpu(*words)


def run_on_cpu(*words: str | Path, before: Callable[[], object] = tuple) -> subprocess.CompletedProcess[str]:
    """Run a script without a GPU, in a process that calls `before` first."""
    command = [str(word) for word in words]
    with TemporaryDirectory() as folder:
        out, errors = Path(folder, "stdout"), Path(folder, "stderr")
        code = exit_code(fork(_be_script, command, out, errors, before))
        return subprocess.CompletedProcess(command, code, out.read_text(), errors.read_text())


def _be_script(command: Sequence[str], out: Path, errors: Path, before: Callable[[], object]) -> None:
    for descriptor, path in ((1, out), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = list(command)
    multiprocessing.set_start_method(None, force=True)  # data workers are started as users' are
    before()
    runpy.run_path(command[0], run_name="__main__")


def results(subject: Subject, out: Path, worlds: tuple[int, ...] = (1, 2)) -> list[Any]:
    """Run a subject on each number of processes, all at once, and return what each first process returned."""
    _start_server()
    running = []
    for world in worlds:
        folder = out / str(world)
        folder.mkdir()
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # at a port that is free
        arguments = (subject, folder, world, store.port)
        context = start_processes(_be_one, arguments, world, join=False, start_method="forkserver")
        running.append((context, store, folder))
    for context, _, _ in running:
        joined = [context.join(_TIMEOUT) for _ in context.processes]  # raises what a process raised
        if not joined[-1]:
            for process in context.processes:
                process.kill()
            pytest.fail("a process hangs")
    return [json.loads((folder / "result.json").read_text()) for _, _, folder in running]


def _be_one(rank: int, subject: Subject, out: Path, world: int, port: int) -> None:
    """Run a subject in this process, one of `world`, with the environment variables of torchrun."""
    if world > 1:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
        os.environ |= {name: str(value) for name, value in (ranks | store | {"TORCHELASTIC_RESTART_COUNT": 0}).items()}
    multiprocessing.set_start_method(None, force=True)  # data workers are started as users' are
    result = subject(out, rank, world)
    if rank == 0:
        (out / "result.json").write_text(json.dumps(result))
    processes().destroy_process_group()
