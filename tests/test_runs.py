"""Run folders: identity, lock, status, torn journals, and what a user may get wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from esr.errors import UserError
from esr.runs.folder import RunFolder, find_runs, read_run
from esr.runs.journal import Journal
from esr.runs.results import read_results


def folder(root: Path, *, new: bool = False, **identity: object) -> RunFolder:
    return RunFolder.locate(root, "experiment_01_esr", "tiny", identity, new=new)


def test_the_same_identity_finds_its_folder_and_another_does_not(tmp_path: Path) -> None:
    first = folder(tmp_path, seed=0)
    with first:
        pass
    assert folder(tmp_path, seed=0).path == first.path
    assert folder(tmp_path, seed=1).path != first.path


def test_new_starts_beside_and_is_then_the_one_resumed(tmp_path: Path) -> None:
    with folder(tmp_path, seed=0) as first:
        pass
    with folder(tmp_path, seed=0, new=True) as second:
        pass
    with folder(tmp_path, seed=0, new=True) as third:
        pass
    assert len({first.path, second.path, third.path}) == 3
    assert folder(tmp_path, seed=0).path == third.path


def test_status_follows_what_happened(tmp_path: Path) -> None:
    with folder(tmp_path, seed=0) as run:
        assert read_run(run.path).status == "running"
    metadata = read_run(run.path)
    assert metadata.status == "complete"
    assert metadata.plain()["git"].keys() == {"commit", "dirty"}
    assert metadata.packages["torch"]
    assert metadata.identity == {"seed": 0}

    with pytest.raises(RuntimeError, match="boom"), folder(tmp_path, seed=1):
        raise RuntimeError("boom")
    failed = read_run(folder(tmp_path, seed=1).path)
    assert (failed.status, failed.error) == ("failed", "boom")

    with pytest.raises(KeyboardInterrupt), folder(tmp_path, seed=2):
        raise KeyboardInterrupt
    assert read_run(folder(tmp_path, seed=2).path).status == "interrupted"

    assert len(find_runs(tmp_path, "experiment_01_esr")) == 3


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    with (
        folder(tmp_path, seed=0),
        pytest.raises(UserError, match=f"in use by process {os.getpid()}"),
        folder(tmp_path, seed=0),
    ):
        pytest.fail("two processes share a run")
    with folder(tmp_path, seed=0) as again:
        assert again.status == "complete"


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write to .*next: --output FOLDER"),
        folder(tmp_path / "file", seed=0),
    ):
        pytest.fail("wrote into a file")


def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.put("generation", "a", {"text": "ä"})
    journal.put("generation", "b", {"text": "b"})
    journal.put("generation", "a", {"text": "new"})
    journal.close()
    whole = path.read_bytes()
    for cut in (1, 10, len(whole.splitlines(keepends=True)[-1]) - 1):
        path.write_bytes(whole[:-cut])
        torn = Journal(path)
        assert torn.get("generation", "a") == {"text": "ä"}
        assert torn.count("generation") == 2
        torn.put("generation", "c", {"text": "c"})
        torn.close()
        assert dict(Journal(path).values("generation")).keys() == {"a", "b", "c"}
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [*"abc"]


@pytest.mark.parametrize(
    "content",
    ["", "[1, 2]", '{"results_by_feature": [{"threshold": 1}]}', '{"other": 1}'],
)
def test_a_results_file_that_is_not_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"is not a results file .*allowed: JSON with"):
        read_results(path)
    with pytest.raises(UserError, match="cannot read"):
        read_results(tmp_path / "missing.json")


def test_a_folder_that_is_no_run_or_of_a_later_schema(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="newer version"):
        read_run(tmp_path)
