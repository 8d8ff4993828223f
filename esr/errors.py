"""Errors a user can act on."""

from __future__ import annotations

import asyncio
import difflib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Bad input. One line: the value, what is allowed, the next command to type.

    Command lines print it without a traceback and exit with status 2
    (:func:`run_command`).
    """

    def __init__(self, problem: str, allowed: str = "", next_step: str = "") -> None:
        self.problem = problem
        self.allowed = allowed
        self.next_step = next_step
        parts = [problem]
        if allowed:
            parts.append(f"allowed: {allowed}")
        if next_step:
            parts.append(f"next: {next_step}")
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


def unknown(what: str, name: str, names: Sequence[str], next_step: str) -> UserError:
    """A name that is none of a list; the next step names the nearest one where one is near.

    Args:
        what: what the name should have named, for the message.
        name: as typed.
        names: those there are; of a long list the nearest are shown.
        next_step: what to type where none is near.
    """
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    shown = ", ".join(names) if len(names) <= 20 else f"{len(names)} names, such as "
    if len(names) > 20:
        shown += ", ".join(near or names[:3])
    hint = f"did you mean {near[0]!r}?" if near else next_step
    return UserError(f"unknown {what} {name!r}", shown, hint)


def cannot_write(folder: Path, error: OSError) -> UserError:
    """What is raised where the folder of ``--output`` cannot be written to."""
    return UserError(
        f"cannot write to {folder} ({error.strerror})",
        "a folder this user can write to",
        "--output FOLDER",
    )


_BAD_PATHS = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP}
"""What the system says of a path that was typed wrong, wherever it is first looked at."""


class EngineError(Exception):
    """The engine stopped or is not to be trusted: the run stops; what was finished is kept."""


class StopError(Exception):
    """The run stops with what is finished on disk; repeating the command goes on.

    The run's status is ``interrupted``, its cause the message: one line.

    Attributes:
        exit_status: of the command.
    """

    exit_status = 1


class SpendLimitError(StopError):
    """The judge has cost as much as ``--max-spend`` allows: the run stops and can be resumed."""

    exit_status = 3


class JudgeError(StopError):
    """The judge rejects what it is asked, or cannot be reached."""

    exit_status = 4


class StorageError(StopError):
    """A file of the run can be written no longer: disk full, read-only, over a limit of size.

    Args:
        path: the file.
        error: the system's, or its text.
    """

    def __init__(self, path: Path, error: OSError | str) -> None:
        cause = error if isinstance(error, str) else error.strerror
        full = any(os.strerror(n) in str(cause) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
        step = "free some space" if full else "make it writable, or name --output FOLDER"
        super().__init__(
            f"cannot write {path} ({cause}); next: {step}, then repeat the command to go on"
        )


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers and containers send it: treated like Ctrl-C."""


def run_command(command: Callable[[], None]) -> int:
    """Run a command; user errors and interruptions end in one line and an exit status.

    Returns:
        0; 1 when the engine stopped or a file cannot be written; 2 for a user error; 3 when the
        spend limit stopped the run, 4 when the judge did; 130 on Ctrl-C; 143 on SIGTERM.
    """
    try:
        with _handled(_raise):
            command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"error: {error}; next: repeat the command to go on", file=sys.stderr)
        return 1
    except StopError as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        return stop.exit_status
    except OSError as error:
        if error.errno not in _BAD_PATHS or not error.filename:
            raise
        problem = f"cannot use {str(error.filename)[:200]} ({error.strerror})"
        print(f"error: {UserError(problem, 'a path', 'correct the path')}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError) as interruption:
        print("interrupted: repeat the command to go on", file=sys.stderr)
        return 143 if isinstance(interruption, Terminated) else 130
    return 0


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` that says at once that a signal has come.

    The first Ctrl-C or SIGTERM cancels ``main`` as soon as it awaits something, which may be a
    while where a model is being loaded; the second ends it wherever it is.

    Raises:
        KeyboardInterrupt: on Ctrl-C, once ``main`` has cleaned up.
        Terminated: the same on SIGTERM.
    """
    signals: list[int] = []
    cancel: Callable[[], object] = lambda: None  # noqa: E731

    def stop(number: int, _frame: object) -> None:
        signals.append(number)
        if len(signals) > 1:
            _raise(number)
        print(
            "stopping: paid answers on their way are waited for, and a model that is being "
            "loaded; once more stops at once",
            file=sys.stderr,
            flush=True,
        )
        with suppress(RuntimeError):  # The loop has just ended.
            cancel()

    async def supervised() -> T:
        nonlocal cancel
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancel = partial(loop.call_soon_threadsafe, task.cancel)
        if signals:
            raise asyncio.CancelledError
        return await main

    # In place before the loop is made: an exception would leave half a loop behind.
    with _handled(stop):
        try:
            result = asyncio.run(supervised())
        except asyncio.CancelledError:
            if not signals:
                raise
        finally:
            main.close()
    if signals:
        _raise(signals[0])
    return result


def _raise(number: int, _frame: object = None) -> NoReturn:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """A handler for SIGTERM, and for Ctrl-C where it is not ignored, as in the background."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
