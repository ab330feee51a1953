"""How a command ends that users or their machines stop: with one sentence, and an exit status that is not 0."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 130  # exit status after Ctrl-C, as of a shell
WORKER_KILLED = (
    "a process that reads images was killed, maybe as memory ran out: {go_on} goes on, also with --workers 0."
)


class UserError(Exception):
    """Something that the user can mend; the message is one sentence."""


@contextmanager
def one_sentence(go_on: str) -> Iterator[None]:
    """End the program, without a traceback, at an error that users or their machines cause.

    Args:
        go_on: What goes on after the cause is mended, as "the same command".
    """
    threading.excepthook = _leave_to_main_thread
    try:
        with _ignore_workers_after_an_error():
            yield
            print(end="", flush=True)  # what waits to be printed would fail as Python ends, outside of this
    except UserError as error:
        # A data worker's error has the traceback in its text, before the message.
        _end(str(error).rpartition("DataError: ")[2].strip())
    except KeyboardInterrupt:
        _end(f"interrupted: {go_on} goes on.", INTERRUPTED)
    except (ConnectionError, EOFError) as error:
        if isinstance(error, BrokenPipeError) and not _is_read():
            _end(f"nobody reads what is printed: {go_on} goes on.")
        # It came of the queue to a data worker that was killed while it wrote there.
        _end(WORKER_KILLED.format(go_on=go_on))
    except OSError as error:  # a full disk, a folder that cannot be written to
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}: once this is mended, {go_on} goes on.")
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        _end(WORKER_KILLED.format(go_on=go_on))


@contextmanager
def _ignore_workers_after_an_error() -> Iterator[None]:
    """After an error, let the deaths of data workers raise no more.

    PyTorch raises a RuntimeError for each DataLoader that lost a worker, wherever the main thread then is.
    """
    try:
        yield
    except BaseException:
        if hasattr(signal, "SIGCHLD"):  # Windows has none
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise


def _is_read() -> bool:
    """Return whether somebody still reads the standard output."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at its end
        return False
    return True


def _leave_to_main_thread(hook: threading.ExceptHookArgs) -> None:
    """Print no traceback of TensorBoard's thread that writes: the next call of its writer raises the same error."""
    if not issubclass(hook.exc_type, OSError):
        threading.__excepthook__(hook)


def _end(message: str, status: int = 1) -> NoReturn:
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
    sys.exit(status)
