"""Damage done to files between two attempts."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, random.Random], set[int]]
"""Damages a journal; numbers of the lines, from 0, that it touched."""


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def cut(path: Path, rng: random.Random) -> set[int]:
    """Cut off at a random byte."""
    data = path.read_bytes()
    at = rng.randrange(len(data))
    path.write_bytes(data[:at])
    return set(range(data.count(b"\n", 0, at), len(_lines(path)) + data.count(b"\n") + 1))


def torn(path: Path, rng: random.Random) -> set[int]:
    """Half a line in the middle; its end may be lost, too."""
    lines = _lines(path)
    at = rng.randrange(len(lines))
    half = lines[at][: rng.randrange(len(lines[at]))]
    lines[at] = half + (b"\n" if rng.random() < 0.5 else b"")
    path.write_bytes(b"".join(lines))
    return {at}


def flip(path: Path, rng: random.Random) -> set[int]:
    """One bit."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    touched = {data.count(b"\n", 0, at)}
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return touched


def zeros(path: Path, rng: random.Random) -> set[int]:
    """512 zero bytes over what stands there."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(max(1, len(data) - 512))
    size = len(data[at : at + 512])
    # A line whose end is lost stays readable if its neighbour is.
    touched = set(range(data.count(b"\n", 0, at), data.count(b"\n", 0, at + size) + 1))
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    return touched


def repeated_tail(path: Path, rng: random.Random) -> set[int]:
    """The last lines once more."""
    lines = _lines(path)
    path.write_bytes(b"".join([*lines, *lines[-rng.randint(1, len(lines)) :]]))
    return set()


JOURNAL: dict[str, Damage] = {
    "journal cut at a random byte": cut,
    "torn line in the middle": torn,
    "one bit flipped: journal": flip,
    "512 zero bytes in the middle": zeros,
    "duplicated tail": repeated_tail,
}

CONTENTS = (
    b"",
    b"{",
    b"[]",
    b'{"a": 1}',
    b'{"schema_version": 1, "status": 3}',
    b'{"value": {"latent": 1, "value": "300"}, "digest": "0"}',
    b"\0" * 512,
    b"\xff\xfe\xfd",
)


def damage_file(path: Path, rng: random.Random) -> None:
    """Empty, cut, of other fields, no text at all; or another schema, where it is a database."""
    kind = rng.randrange(3)
    if kind == 0:
        data = path.read_bytes()
        path.write_bytes(data[: rng.randrange(len(data))] if data else b"")
    elif kind == 1 and path.suffix == ".sqlite":
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE answers (name TEXT, other INTEGER)")
        db.close()
    else:
        path.write_bytes(rng.choice(CONTENTS))
