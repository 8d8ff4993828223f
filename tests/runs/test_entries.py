"""Cache entries: damage counts as absence, and nothing stops for a cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esr.pipeline.schema import Threshold
from esr.runs.entries import read_entry, write_entry

THRESHOLD = Threshold(7, 362.69, 340.0, 391.5, 10, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_entry(tmp_path / "thresholds" / "7.json", THRESHOLD)
    return tmp_path / "thresholds" / "7.json"


def test_what_was_written_is_read(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_entry(path, Threshold) == THRESHOLD
    assert read_entry(path.with_name("8.json"), Threshold) is None
    assert capsys.readouterr().err == ""


def test_every_flipped_bit_is_seen(path: Path) -> None:
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        # Between tokens, one white space may become another.
        assert read_entry(path, Threshold) in (None, THRESHOLD), f"bit {bit} is believed"


OTHER = {
    "empty": "",
    "cut": '{"value": {"latent": 7, "va',
    "no digest": '{"latent": 7, "value": 300, "low": 1, "high": 2, "rounds": 3, "skipped": 0}',
    "text": '{"value": {"latent": 7, "value": "300"}, "digest": "0"}',
    "list": "[]",
    "nul": "\0" * 100,
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("damage", OTHER)
def test_a_damaged_entry_is_absent_named_and_kept(
    path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(OTHER[damage])
    assert read_entry(path, Threshold) is None
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {path} is damaged (")
    assert said.count("\n") == 1
    assert path.with_name("7.json.damaged").read_text() == OTHER[damage]
    write_entry(path, THRESHOLD)
    assert read_entry(path, Threshold) == THRESHOLD


def test_values_of_another_type_are_absent(path: Path) -> None:
    data = json.loads(path.read_text())
    data["value"]["low"] = "little"
    from esr.runs.plain import json_digest

    path.write_text(json.dumps({**data, "digest": json_digest(data["value"])}))
    assert read_entry(path, Threshold) is None


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for latent in range(3):
        write_entry(tmp_path / "file" / "thresholds" / f"{latent}.json", THRESHOLD)
    said = capsys.readouterr().err
    assert said == f"warning: nothing is cached in {tmp_path}/file/thresholds (Not a directory)\n"
    blocked = tmp_path / "7.json"
    blocked.mkdir()
    assert read_entry(blocked, Threshold) is None
    write_entry(blocked, THRESHOLD)
    assert read_entry(blocked, Threshold) == THRESHOLD
