"""Run folders: what is damaged is named and costs little, what is complete stays as it is."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from esr.errors import StopError, StorageError
from esr.runs import provenance
from esr.runs.folder import (
    DamagedRunError,
    RunFolder,
    find_runs,
    read_run,
    write_json,
)
from esr.runs.run_metadata import RunMetadata


def folder(root: Path, *, new: bool = False, **identity: object) -> RunFolder:
    return RunFolder.locate(root, "experiment", "tiny", identity, new=new)


def complete_run(root: Path) -> Path:
    with folder(root, seed=0) as run:
        run.update(title="Tiny", spend=0.25)
        run.journal.put("threshold", "5", {"value": 3})
        run.write_results({"summary": 1})
    return run.path


def content(path: Path) -> dict[str, tuple[bytes, int]]:
    files = [file for file in path.iterdir() if file.name != "lock"]
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def test_a_complete_run_stays_as_it_is_where_nothing_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = complete_run(tmp_path)
    before = content(path)
    assert before.keys() == {"run.json", "journal.jsonl", "results.json"}
    monkeypatch.setattr(sys, "orig_argv", ["python", "another", "command"])
    with folder(tmp_path, seed=0) as run:
        run.update(title="Tiny", spend=0.25)
        run.journal.put("threshold", "5", {"value": 3})
        run.write_results({"summary": 1})
    with pytest.raises(RuntimeError), folder(tmp_path, seed=0):
        raise RuntimeError("a figure's fault is not the run's")
    assert content(path) == before


def test_provenance_has_one_entry_per_start_that_added_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = complete_run(tmp_path)
    first = read_run(path)
    assert [start.time for start in first.provenance] == [first.started]
    assert first.resumed == 0
    packages = {"torch": "99"}
    monkeypatch.setattr(sys, "orig_argv", ["/bin/python3", "-m", "experiment", "tiny"])
    monkeypatch.setattr(provenance, "_packages", lambda: packages)
    open_run = folder(tmp_path, seed=0).__enter__()
    open_run.journal.put("threshold", "6", {"value": 4})
    assert read_run(path).status == "running"
    open_run.__exit__(KeyboardInterrupt, None, None)
    with pytest.raises(StopError), folder(tmp_path, seed=0):
        raise StopError("the judge is away")
    run = read_run(path)
    assert (run.status, run.error) == ("interrupted", "the judge is away")
    assert len(run.provenance) == 2, "a start that added nothing is not listed"
    assert (run.resumed, run.started) == (1, first.started)
    assert run.provenance[0] == first.provenance[0], "the first start keeps its own"
    assert run.provenance[1].argv == ["python", "-m", "experiment", "tiny"]
    assert run.provenance[1].packages == run.packages == packages
    assert run.provenance[1].git.commit == run.git.commit
    assert set(run.provenance[1].hardware) >= {"system", "cores", "gpus"}


def test_an_older_file_tells_of_its_one_start(tmp_path: Path) -> None:
    path = complete_run(tmp_path)
    older = json.loads((path / "run.json").read_text())
    for key in ("provenance", "checksum", "results_digest"):
        del older[key]
    older["git"]["commit"] = "0" * 40
    (path / "run.json").write_text(json.dumps(older))
    with folder(tmp_path, seed=0) as run:
        run.journal.put("threshold", "6", {"value": 4})
    starts = read_run(path).provenance
    assert [starts[0].git.commit, len(starts)] == ["0" * 40, 2]


@pytest.mark.parametrize("name", ["{}-backup", "{}-2x", "{}-", "{} (copy)", "{}x", "{}-old-3"])
def test_a_copy_beside_a_run_is_left_alone(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = complete_run(tmp_path)
    shutil.copytree(path, path.with_name(name.format(path.name)))
    assert folder(tmp_path, seed=0).path == path
    assert folder(tmp_path, seed=0, new=True).path.name == f"{path.name}-2"
    capsys.readouterr()
    assert find_runs(tmp_path, "experiment") == [path]
    copy = path.with_name(name.format(path.name))
    assert capsys.readouterr().err == f"warning: {copy} is a copy of run {path.name}: left out\n"


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


DAMAGE = {
    "empty": b"",
    "cut": b'{"schema_version": 1, "status',
    "list": b"[]",
    "other fields": b'{"a": 1}',
    "text for a number": b'{"schema_version": 1, "spend": "much", "status": "complete"}',
    "nul": b"\0" * 512,
    "not utf-8": b"\xff\xfe",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_json_is_written_anew(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = complete_run(tmp_path)
    (path / "run.json").write_bytes(DAMAGE[damage])
    with folder(tmp_path, seed=0) as run:
        assert run.path == path
        assert run.journal.get("threshold", "5") == {"value": 3}
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {path} is not a run folder (")
    assert told.count("\n") == 1
    assert (path / "run.json.damaged").read_bytes() == DAMAGE[damage]
    again = read_run(path)
    assert (again.status, again.identity, again.run_id) == ("complete", {"seed": 0}, path.name)


def test_every_flipped_bit_of_run_json_is_seen(tmp_path: Path) -> None:
    path = complete_run(tmp_path)
    file = path / "run.json"
    whole, metadata = file.read_bytes(), read_run(path)
    for bit in range(0, 8 * len(whole), 3):
        file.write_bytes(flipped(whole, bit))
        try:
            read = read_run(path)
        except DamagedRunError:
            continue
        # White space of the layout, and a flip of the key "checksum" itself, change nothing.
        same = RunMetadata.model_validate({**read.plain()})
        shared = {key: value for key, value in same.plain().items() if key in metadata.plain()}
        assert shared == metadata.plain(), f"bit {bit} is believed"


def test_a_damaged_neighbour_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = complete_run(tmp_path)
    for name, damaged in (("aaa", b""), ("bbb", b'{"schema_version": 99}')):
        other = path.with_name(name)
        other.mkdir()
        (other / "run.json").write_bytes(damaged)
    assert find_runs(tmp_path, "experiment") == [path]
    lines = sorted(capsys.readouterr().err.splitlines())
    assert [line.partition(str(path.parent))[2][:4] for line in lines] == ["/aaa", "/bbb"]


def test_a_file_that_cannot_be_written_leaves_no_temporary_behind(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    (tmp_path / "a.json" / "full").touch()
    with pytest.raises(StorageError, match=r"cannot write .*a.json \(.*repeat the command"):
        write_json(tmp_path / "a.json", {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_results_that_changed_after_completion_are_told_by_their_digest(tmp_path: Path) -> None:
    path = complete_run(tmp_path)
    digest = read_run(path).results_digest
    with folder(tmp_path, seed=0) as run:
        run.write_results({"summary": 2})
        assert read_run(path).status == "running"
    assert read_run(path).results_digest != digest
    assert len(read_run(path).provenance) == 2
