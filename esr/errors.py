"""Errors a user can act on."""

from __future__ import annotations

import asyncio
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


class SpendLimitError(Exception):
    """The judge has cost as much as ``--max-spend`` allows: the run stops and can be resumed."""


def run_command(command: Callable[[], None]) -> int:
    """Run a command; user errors and interruptions end in one line and an exit status.

    Returns:
        0; 1 when the engine stopped; 2 for a user error; 3 when the spend limit stopped the run;
        130 on Ctrl-C.
    """
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"error: {error}; next: repeat the command to go on", file=sys.stderr)
        return 1
    except SpendLimitError as limit:
        print(f"stopped: {limit}", file=sys.stderr)
        return 3
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted: repeat the command to go on", file=sys.stderr)
        return 130
    return 0
