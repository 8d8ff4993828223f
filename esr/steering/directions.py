"""Direction files: safetensors with JSON metadata, and where a process finds a direction.

What steers is named by content: a request carries the digest of a direction and the position of a
vector, and every process finds the vectors under that digest (:func:`store`, :func:`load`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from esr.errors import StorageError, UserError
from esr.runs.paths import cache
from esr.runs.plain import restore
from esr.steering.direction import KEY, Direction, Fit


def write(direction: Direction, path: Path) -> Path:
    """Write a direction file, whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(direction.to_bytes())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(path, error) from error
    return path


def read(path: Path) -> Direction:
    """A direction file.

    Raises:
        UserError: no such file, or not one.
    """
    allowed, step = "a direction file", "python -m esr.directions list"
    try:
        with safe_open(path, framework="pt") as file:
            vectors = file.get_tensor("vectors")
            data = json.loads((file.metadata() or {})[KEY])
        fits = tuple(restore(Fit, entry) for entry in data.pop("fits"))
        return Direction(vectors=vectors.float(), fits=fits, **data)
    except FileNotFoundError as error:
        raise UserError(f"no direction file at {path}", allowed, step) from error
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no direction file ({reason[:100]})", allowed, step) from error


def stored_as(digest: str) -> Path:
    """Where this machine has a direction that requests name by its digest."""
    return cache() / "directions" / f"{digest}.safetensors"


def store(direction: Direction) -> str:
    """Put a direction where every process of this machine finds it; returns its digest."""
    digest = direction.digest
    if not stored_as(digest).is_file():
        write(direction, stored_as(digest))
    return digest


def load(name: str | Path) -> Direction:
    """A direction by its digest, or by the path of its file, which is stored by that.

    Raises:
        UserError: neither, a file that is none, or one that was changed.
    """
    text = str(name)
    if len(text) == 16 and set(text) <= set("0123456789abcdef") and not Path(text).exists():
        return _by_digest(text)
    direction = read(Path(text))
    store(direction)
    return direction


@lru_cache(maxsize=256)
def _by_digest(digest: str) -> Direction:
    path = stored_as(digest)
    if not path.is_file():
        raise UserError(
            f"direction {digest} is not on this machine",
            f"its file, as {path}",
            "python -m esr.directions show FILE, which stores it",
        )
    direction = read(path)
    if direction.digest != digest:
        raise UserError(f"{path} was changed", f"digest {digest}", f"delete {path}")
    return direction


def rows(digest: str, positions: Sequence[int]) -> Tensor:
    """Vectors of a direction, [n, d_model] float32, for whoever steers with them.

    Raises:
        UserError: no such direction or position.
    """
    direction = load(digest)
    for position in positions:
        if not 0 <= position < len(direction.fits):
            raise UserError(
                f"direction {direction.name!r} has no vector {position}",
                f"0 to {len(direction.fits) - 1}",
                "name one of these",
            )
    return direction.vectors[list(positions)]
