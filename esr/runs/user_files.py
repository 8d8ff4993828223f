"""Files that a user names: read, or refused in one line, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from esr.errors import UserError

T = TypeVar("T")


def read_text(path: Path, allowed: str, next_step: str) -> str:
    """The text of a file.

    Args:
        path: of the file.
        allowed: what may be named in its place, for the message.
        next_step: what to type or do.

    Raises:
        UserError: missing, a folder, not permitted, or not text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        fault = "not text in UTF-8" if isinstance(error, ValueError) else error.strerror
        raise UserError(f"cannot read {path} ({fault})", allowed, next_step) from error


def read_json(path: Path, kind: type[T], what: str, allowed: str, next_step: str) -> T:
    """The content of a JSON file, of the type ``kind`` (anything pydantic knows).

    Args:
        path: of the file.
        kind: a dataclass, a pydantic model, or a type such as ``list[str]``.
        what: "a prompt set", for the message.
        allowed: as in :func:`read_text`.
        next_step: likewise.

    Raises:
        UserError: as :func:`read_text`; or not JSON, or of another form: names the place.
    """
    text = read_text(path, allowed, next_step)
    adapter: TypeAdapter[T] = TypeAdapter(kind)
    try:
        return adapter.validate_python(json.loads(text))
    except ValidationError as error:
        fault = first_fault(error)
    except (ValueError, RecursionError) as error:
        fault = f"not JSON: {error}"
    raise UserError(f"{path} is not {what} ({fault})", allowed, next_step)


def first_fault(error: ValidationError) -> str:
    """The first fault in one line, e.g. ``results_by_feature.0.trials: Field required``."""
    fault: Any = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])
