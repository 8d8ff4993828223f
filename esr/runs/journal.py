"""The journal: what has been generated, judged or decided is never done twice."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO, Any

Entry = dict[str, Any]


class Journal:
    """Append-only JSON lines; later entries of one (kind, key) replace earlier ones.

    A torn last line, left by a kill in the middle of a write, is cut off when the journal is
    opened. Every entry is flushed to the operating system at once, so that a killed process
    loses none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[tuple[str, str], Any] = {}
        self._file: IO[bytes] | None = None
        good = 0
        if path.exists():
            for line, end in _whole_lines(path):
                self._entries[line["kind"], line["key"]] = line["value"]
                good = end
            if good < path.stat().st_size:
                with path.open("r+b") as file:
                    file.truncate(good)

    def get(self, kind: str, key: str) -> Any | None:
        """The last value recorded for (kind, key), or None."""
        return self._entries.get((kind, key))

    def put(self, kind: str, key: str, value: Any) -> None:
        """Record a value: JSON data, not None."""
        if self._file is None:
            self._file = self.path.open("ab")
        line = json.dumps({"kind": kind, "key": key, "value": value}, ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self._entries[kind, key] = value

    def count(self, kind: str) -> int:
        """Number of keys recorded under ``kind``."""
        return sum(1 for entry_kind, _ in self._entries if entry_kind == kind)

    def values(self, kind: str) -> Iterator[tuple[str, Any]]:
        """All (key, value) of one kind, in order of first appearance."""
        return (
            (key, value) for (entry_kind, key), value in self._entries.items() if entry_kind == kind
        )

    async def once(self, kind: str, key: str, compute: Callable[[], Awaitable[Any]]) -> Any:
        """The recorded value, computed and recorded if there is none."""
        value = self.get(kind, key)
        if value is None:
            value = await compute()
            self.put(kind, key, value)
        return value

    def close(self) -> None:
        """Close the file; the journal can still be read."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _whole_lines(path: Path) -> Iterator[tuple[Entry, int]]:
    """Entries up to the first torn line, each with the offset of its end."""
    end = 0
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            try:
                entry = json.loads(raw)
                entry["kind"], entry["key"], entry["value"]
            except (ValueError, KeyError, TypeError):
                return
            end += len(raw)
            yield entry, end
