"""Answers already paid for: a SQLite file that survives kill -9, shared by all runs."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

from esr.runs import paths

_CRC = re.compile(r"([0-9a-f]{8}) ")
_DAMAGED = ("file is not a database", "malformed", "no such column", "no such table")


def default_path() -> Path:
    """The cache shared by all runs."""
    return paths.cache() / "judge.sqlite"


class Store:
    """Plain data by key in one SQLite file, shared safely between processes.

    Every entry is committed before :meth:`put` returns; the write-ahead log makes a kill between
    two entries lose neither. A cache is a help, never a reason to stop: a damaged file is moved
    aside, one that cannot be opened or written is done without, and either is said once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._complained = False
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        """The file, made where there is none; a database in memory where it cannot be had."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=60.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            return self._in_memory(error)
        try:
            db.execute("PRAGMA journal_mode=WAL").close()
            db.execute("PRAGMA synchronous=NORMAL").close()
            db.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT)")
            _check(db)
        except sqlite3.Error as error:
            if not any(words in str(error) for words in _DAMAGED):
                db.close()
                return self._in_memory(error)
            answers = _readable_rows(db)
            db.close()
            aside = self._move_aside()
            if aside is None:
                return self._in_memory(error)
            self._say(
                f"{self.path} was damaged ({error}) and now lies at {aside}; "
                f"{len(answers)} answers could be read and stay in use"
            )
            db = self._open()
            db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", answers).close()
        return db

    def _in_memory(self, error: Exception) -> sqlite3.Connection:
        self._say(f"answers are not cached: {self.path}: {error}")
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, value TEXT)").close()
        return db

    def _move_aside(self) -> Path | None:
        """A free name that the file was moved to; None where it cannot be moved."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        try:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError:
            return None
        return aside

    def _say(self, line: str) -> None:
        if not self._complained:
            print(f"note: {line}", file=sys.stderr)
        self._complained = True

    def get(self, key: str) -> Any | None:
        """The entry; None where there is none, or none that can be read."""
        query = "SELECT value FROM answers WHERE key = ?"
        try:
            with closing(self._db.execute(query, (key,))) as rows:
                row = rows.fetchone()
            return json.loads(_checked(row[0])) if row else None
        except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
            self._say(f"an answer in {self.path} cannot be read ({error}) and is asked for again")
            return None

    def put(self, key: str, value: Any) -> None:
        """Keep an entry; replaces an earlier one of the same key."""
        text = _signed(json.dumps(value))
        try:
            self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text)).close()
        except sqlite3.Error as error:
            self._say(f"answers are not cached: {self.path}: {error}")

    def __len__(self) -> int:
        with closing(self._db.execute("SELECT COUNT(*) FROM answers")) as rows:
            return int(rows.fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _check(db: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError where a lookup by key could miss a row that is there.

    A file that was cut can keep its rows and lose the index over their keys. SQLite then reports no
    error: it does not find them, and every answer would be paid for again.
    """
    db.execute("SELECT key, value FROM answers LIMIT 1").close()
    with closing(db.execute("PRAGMA integrity_check(1)")) as rows:
        verdict = str(rows.fetchone()[0])
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"malformed: {verdict.splitlines()[-1]}")


def _readable_rows(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Whole entries of a damaged file, read from both ends, without its index."""
    answers: dict[str, str] = {}
    for order in ("ASC", "DESC"):
        query = f"SELECT key, value FROM answers NOT INDEXED ORDER BY rowid {order}"
        with contextlib.suppress(sqlite3.Error), closing(db.execute(query)) as rows:
            for key, value in rows:
                with contextlib.suppress(ValueError, TypeError):
                    _checked(value)
                    answers.setdefault(key, value)
    return list(answers.items())


def _signed(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x} {text}"


def _checked(value: str) -> str:
    """The text of an entry; one from before there was a CRC is taken as it is.

    Raises:
        ValueError: it is not the text that was written.
    """
    crc = _CRC.match(value)
    text = value[crc.end() :] if crc else value
    if crc and int(crc[1], 16) != zlib.crc32(text.encode()):
        raise ValueError("its CRC differs")
    return text
