"""The journal: what has been generated, judged or decided is never done twice.

A line is a JSON object with ``kind``, ``key``, ``value`` and ``crc``, the CRC-32 of the line as it
is without it. A damaged line costs itself alone: it is skipped, counted, and left in the file.
Lines without a CRC, from versions before it, are taken as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esr.errors import StorageError, UserError
from esr.runs.plain import json_text

Check = Callable[[str, Any], bool]
"""Whether a value is what its kind holds."""

_START = re.compile(rb'(?=\{"kind": "[^"]*", "key": ")')
_CRC = re.compile(rb', "crc": "([0-9a-f]{8})"\}')


@dataclass(frozen=True)
class Line:
    """An entry as it was read."""

    kind: str
    key: str
    value: Any


@dataclass(frozen=True)
class Content:
    """What a journal file holds.

    Attributes:
        lines: entries in the order of the file.
        damaged: numbers of the lines, from 1, that do not hold what was written.
        end: bytes up to the end of the last whole line.
        torn: bytes after that: what a kill in the middle of a write leaves.
    """

    lines: list[Line]
    damaged: list[int]
    end: int
    torn: int

    def damage(self, path: Path) -> str:
        """One line on what is damaged; empty where nothing is."""
        if not self.damaged:
            return ""
        shown = ", ".join(map(str, self.damaged[:10])) + (", ..." if self.damaged[10:] else "")
        one = len(self.damaged) == 1
        return (
            f"{path}: {len(self.damaged)} damaged {'line' if one else 'lines'} ({shown}), skipped "
            f"and left in the file; what {'it' if one else 'they'} held counts as not done"
        )


def read_journal(path: Path, check: Check = lambda _kind, _value: True) -> Content:
    """The entries of a journal file; nothing is written.

    Args:
        path: of a file that may not exist.
        check: a line whose value fails it counts as damaged.

    Raises:
        UserError: the file cannot be read.
    """
    lines: list[Line] = []
    damaged: list[int] = []
    end = torn = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    torn = len(raw)
                    break
                end += len(raw)
                whole = _line(raw[:-1])
                # A lost line end joins two lines: each is told from its own CRC.
                parts = [whole] if whole else map(_first, _START.split(raw))
                good = [line for line in parts if line and check(line.kind, line.value)]
                lines += good
                if whole is None or not good:
                    damaged.append(number)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror})",
            "a journal written by this package",
            f"ls -l {path.parent}",
        ) from error
    return Content(lines, damaged, end, torn)


def _line(raw: bytes) -> Line | None:
    """The entry of a line without its end, with a CRC or from before there was one."""
    crc = _CRC.fullmatch(raw, max(0, len(raw) - 20))
    return _checked(raw, crc) if crc else _parsed(raw)


def _first(raw: bytes) -> Line | None:
    """The entry that some bytes begin with, by its CRC; other bytes may follow."""
    lines = (_checked(raw, crc) for crc in _CRC.finditer(raw))
    return next((line for line in lines if line), None)


def _checked(raw: bytes, crc: re.Match[bytes]) -> Line | None:
    body = raw[: crc.start()] + b"}"
    return _parsed(body) if zlib.crc32(body) == int(crc[1], 16) else None


def _parsed(body: bytes) -> Line | None:
    try:
        data = json.loads(body)
        if data.keys() != {"kind", "key", "value"} or data["value"] is None:
            return None
        if not isinstance(data["kind"], str) or not isinstance(data["key"], str):
            return None
    except (ValueError, AttributeError, RecursionError):
        return None
    return Line(**data)


def _bytes(kind: str, key: str, value: Any) -> bytes:
    """An entry as a line of the file."""
    body = json_text({"kind": kind, "key": key, "value": value}).encode()
    return b'%s, "crc": "%08x"}\n' % (body[:-1], zlib.crc32(body))


class Journal:
    """Append-only JSON lines; later entries of one (kind, key) replace earlier ones.

    A torn last line, left by a kill in the middle of a write, is cut off before the next one is
    written; nothing else is ever taken out. Every entry reaches the operating system at once, so
    that a killed process loses none.

    Args:
        path: of the file; it is made by the first entry.
        check: an entry that fails it counts as damaged.
        before_writing: called before each entry that is written.

    Attributes:
        damage: one line on what is damaged; empty where nothing is.
    """

    def __init__(
        self,
        path: Path,
        check: Check = lambda _kind, _value: True,
        before_writing: Callable[[], None] = lambda: None,
    ) -> None:
        content = read_journal(path, check)
        self.path = path
        self.damage = content.damage(path)
        self._before_writing = before_writing
        self._end = content.end
        self._entries = {(line.kind, line.key): line.value for line in content.lines}
        self._file: int | None = None

    def get(self, kind: str, key: str) -> Any | None:
        """The last value recorded for (kind, key), or None."""
        return self._entries.get((kind, key))

    def put(self, kind: str, key: str, value: Any) -> None:
        """Record a value: JSON data, not None. What is recorded already is not written again.

        Raises:
            StorageError: the file cannot be written.
        """
        line = _bytes(kind, key, value)
        recorded = self.get(kind, key)
        if recorded is None or _bytes(kind, key, recorded) != line:
            self._before_writing()
            self._append(line)
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
            os.close(self._file)
            self._file = None

    def _append(self, line: bytes) -> None:
        try:
            if self._file is None:
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
                if os.fstat(self._file).st_size > self._end:
                    os.ftruncate(self._file, self._end)
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            # Half a line, on a full disk, would join the next one.
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._end)
            raise StorageError(self.path, error) from error
        self._end += len(line)
