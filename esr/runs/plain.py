"""Plain data: what goes into JSON files, and the hashes made of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def plain(value: Any) -> Any:
    """JSON data of dataclasses, mappings, sequences and numbers.

    A number that is not finite becomes None, since JSON has no name for it.

    >>> plain({"rate": float("nan"), "ends": (0.1, 0.2)})
    {'rate': None, 'ends': [0.1, 0.2]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def restore(kind: type[T], data: Any) -> T:
    """Inverse of :func:`plain` for a dataclass: keys of mappings and sequences get their types.

    Raises:
        pydantic.ValidationError: the data are not of that kind.
    """
    restored: T = _adapter(kind).validate_python(data)  # type: ignore[arg-type]
    return restored


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that can be written as UTF-8 whatever the value: lone surrogates become escapes.

    Raises:
        TypeError: the value is not JSON data.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def digest(content: str | bytes, length: int = 64) -> str:
    """SHA-256 of a text or of bytes, the first ``length`` hex digits."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(data).hexdigest()[:length]


def json_digest(value: Any, length: int = 64) -> str:
    """:func:`digest` of JSON data with keys in order; the same for the same content.

    What JSON does not know, such as a path, counts by its text.
    """
    return digest(json.dumps(value, sort_keys=True, default=str), length)


def file_digest(path: Path, length: int = 64) -> str:
    """:func:`digest` of a file's content, without reading it whole into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:length]
