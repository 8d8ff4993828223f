"""Errors a user can act on."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Bad input. One line: the value, what is allowed, the next command to type.

    Command lines print it without a traceback and exit with status 2
    (:func:`esr.cli.run_command`).
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
