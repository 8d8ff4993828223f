"""Cache entries: small JSON files that carry their own digest. A cache is never a reason to stop.

What cannot be read counts as absent, is named and moved aside; what cannot be written is done
without.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from esr.errors import StorageError
from esr.runs.folder import warn, write_json
from esr.runs.plain import json_digest, plain, restore

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


def read_entry(path: Path, kind: type[T]) -> T | None:
    """The value of an entry; None where there is none, or not the one that was written."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["digest"] != json_digest(data["value"]):
            raise ValueError("its digest differs")
        return restore(kind, data["value"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) else repr(error)
        set_aside(path, reason)
        return None


def write_entry(path: Path, value: object) -> None:
    """Keep a value for :func:`read_entry`."""
    data = json.loads(json.dumps(plain(value)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"value": data, "digest": json_digest(data)})
    except (OSError, StorageError) as error:
        warn(f"nothing is cached in {path.parent} ({_strerror(error)})")


def set_aside(path: Path, reason: str) -> None:
    """Name a damaged file and move it out of the way, so that it can be made anew."""
    aside = path.with_name(f"{path.name}.damaged")
    warn(f"{path} is damaged ({reason[:200]}); it counts as absent, and is kept as {aside.name}")
    with contextlib.suppress(OSError):
        path.replace(aside)


def crc_of(tensors: Mapping[str, NDArray[Any]]) -> str:
    """CRC-32 of tensors in the order of their names, 8 hex digits."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].tobytes(), crc)
    return f"{crc:08x}"


def _strerror(error: Exception) -> str | None:
    cause = error.__cause__ if isinstance(error, StorageError) else error
    return cause.strerror if isinstance(cause, OSError) else str(error)
