"""Errors a user can act on."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable
from pathlib import Path


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


def cannot_write(folder: Path, error: OSError) -> UserError:
    """What is raised where the folder of ``--output`` cannot be written to."""
    return UserError(
        f"cannot write to {folder} ({error.strerror})",
        "a folder this user can write to",
        "--output FOLDER",
    )


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


class StorageError(StopError):
    """A file of the run can be written no longer: disk full, read-only, over a limit of size.

    Args:
        path: the file.
        error: what the system said.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        step = "free some space" if full else "make it writable, or name --output FOLDER"
        super().__init__(
            f"cannot write {path} ({error.strerror}); next: {step}, then repeat the command to "
            "go on"
        )


def run_command(command: Callable[[], None]) -> int:
    """Run a command; user errors and interruptions end in one line and an exit status.

    Returns:
        0; 1 when the engine stopped or a file cannot be written; 2 for a user error; 3 when the
        spend limit stopped the run; 130 on Ctrl-C.
    """
    try:
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
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted: repeat the command to go on", file=sys.stderr)
        return 130
    return 0
