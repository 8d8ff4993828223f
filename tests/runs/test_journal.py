"""A damaged line of the journal costs itself alone, and says so."""

from __future__ import annotations

import json
import random
import resource
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from esr.errors import StorageError, UserError
from esr.pipeline.journal_schema import is_valid
from esr.runs.journal import Journal, read_journal

KEYS = [f"k{i}" for i in range(20)]


def value(key: str) -> dict[str, object]:
    return {"text": f"response {key} ä" * 3, "nested": [{"kind": "boost", "latent": 5}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of 20 entries."""
    journal = Journal(tmp_path / "journal.jsonl")
    for key in KEYS:
        journal.put("generation", key, value(key))
    journal.close()
    return journal.path


def keys(path: Path) -> list[str]:
    """Keys that are read, each with its value as it was written."""
    entries = dict(Journal(path).values("generation"))
    assert all(entry == value(key) for key, entry in entries.items())
    return list(entries)


def test_each_line_carries_the_crc_of_the_rest(path: Path) -> None:
    for line in path.read_bytes().splitlines():
        body, _, crc = line.partition(b', "crc": ')
        assert json.loads(line).keys() == {"kind", "key", "value", "crc"}
        assert crc == b'"%08x"}' % zlib.crc32(body + b"}")


def test_every_flipped_bit_costs_its_own_line_alone(path: Path) -> None:
    whole = path.read_bytes()
    # All bits of one line and its line end, and some of the others.
    start = whole.index(b'{"kind": "generation", "key": "k7"')
    end = whole.index(b"\n", start) + 1
    places = [(at, bit) for at in range(start, end) for bit in range(8)]
    rng = random.Random(3)
    places += [(rng.randrange(end), rng.randrange(8)) for _ in range(300)]
    for at, bit in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        lost = set(KEYS) - set(keys(path))
        number = whole.count(b"\n", 0, at)
        assert lost <= {KEYS[number]}, f"byte {at}, bit {bit}"
        content = read_journal(path)
        assert content.damaged, f"byte {at}, bit {bit} is believed"
        assert content.damaged[0] == number + 1


def test_damage_is_said_in_one_line_and_stays_in_the_file(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][:50] + b"\n"
    lines[9] = b"\0" * 512 + b"\n"
    lines[15] = b"\n"
    damaged = b"".join(lines)
    path.write_bytes(damaged)
    journal = Journal(path)
    assert journal.damage == (
        f"{path}: 3 damaged lines (5, 10, 16), skipped and left in the file; what they held "
        "counts as not done"
    )
    assert journal.count("generation") == 17
    assert path.read_bytes() == damaged, "reading changes nothing"
    journal.put("generation", "k4", value("k4"))
    journal.close()
    assert path.read_bytes().startswith(damaged), "nothing is taken out"
    assert set(KEYS) - set(keys(path)) == {"k9", "k15"}


def test_a_torn_end_is_cut_off_by_the_next_entry_and_nothing_else_is(path: Path) -> None:
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for torn in (1, 30, len(lines[-1]) - 1):
        path.write_bytes(whole[:-torn])
        journal = Journal(path)
        assert (journal.damage, journal.count("generation")) == ("", 19)
        assert path.read_bytes() == whole[:-torn]
        journal.put("generation", "new", value("new"))
        journal.close()
        assert path.read_bytes().startswith(b"".join(lines[:-1]))
        assert keys(path) == [*KEYS[:-1], "new"]


def test_a_repeated_tail_and_a_repeated_entry_change_nothing(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b"".join(whole.splitlines(keepends=True)[-7:]))
    assert keys(path) == KEYS
    assert Journal(path).damage == ""
    path.write_bytes(whole)
    journal = Journal(path)
    for key in KEYS:
        journal.put("generation", key, value(key))
    journal.close()
    assert path.read_bytes() == whole


def test_lines_from_before_the_crc_are_taken(path: Path) -> None:
    older = {"kind": "generation", "key": "older", "value": value("older")}
    with path.open("a") as file:
        file.write(json.dumps(older, ensure_ascii=False) + "\n")
    assert keys(path) == [*KEYS, "older"]
    assert Journal(path).damage == ""


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "verdict", "key": "a"}',
        '{"kind": "verdict", "key": 5, "value": 1}',
        '{"kind": "verdict", "key": "a", "value": null}',
        '{"kind": "verdict", "key": "a", "value": {"status": "graded"}}',
        '{"kind": "threshold", "key": "1", "value": {"latent": 1, "value": "300", "low": 1, '
        '"high": 2, "rounds": 3, "skipped": 0, "error": null}}',
        '{"kind": "selection", "key": "release/5", "value": {"labels": 3}}',
        '{"kind": "generation", "key": "a", "value": "text"}',
        "[1, 2]",
        "7",
        "[" * 100_000,
    ],
)
def test_a_line_that_is_not_of_its_kind_is_damaged(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(line + "\n")
    journal = Journal(path, is_valid)
    assert "1 damaged line (1), skipped" in journal.damage
    assert [*journal.values("verdict"), *journal.values("threshold")] == []


def test_text_that_is_no_unicode_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.put("verdict", "a", {"raw": "lone \ud800 surrogate"})
    journal.close()
    assert Journal(path).get("verdict", "a") == {"raw": "lone \ud800 surrogate"}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_no_more_can_be_written_no_half_line_stays(path: Path) -> None:
    whole = path.read_bytes()
    journal = Journal(path)
    with largest_file(len(whole) + 40), pytest.raises(StorageError) as stopped:
        journal.put("generation", "new", value("new"))
    assert str(stopped.value) == (
        f"cannot write {path} (File too large); next: free some space, then repeat the command "
        "to go on"
    )
    assert path.read_bytes() == whole
    assert journal.get("generation", "new") is None
    journal.put("generation", "new", value("new"))
    journal.close()
    assert keys(path) == [*KEYS, "new"]


def test_a_journal_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*journal.jsonl \(Is a directory\)"):
        Journal(tmp_path / "journal.jsonl")
