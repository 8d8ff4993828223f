"""``python -m esr.runs show`` and ``check``: every damage is told, and nothing is changed."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from esr.engine.base import ReadRequest
from esr.pipeline.reads import run_reads
from esr.runs.folder import read_run
from esr.runs.inspection import main
from esr.runs.journal import Journal
from tests import scripted


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of experiment 1 on the scripted engine, with one reading."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        # The cache that each test has is not there yet: this fixture is the module's.
        patch.setenv("ESR_CACHE", str(tmp_path_factory.mktemp("cache")))
        asyncio.run(scripted.experiment_1(root, 0.0))

    async def read() -> Path:
        with scripted.open_run(root) as run:
            context = scripted.context(run, root)
            await run_reads([ReadRequest("a", (1, 2, 3), latents=(1,))], context)
            return run.path

    return asyncio.run(read())


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def command(step: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Exit status and what is printed; the folder stays as it is."""
    before = state(folder)
    status = main([step, str(folder)])
    assert state(folder) == before
    said = capsys.readouterr()
    assert said.err == ""
    return status, said.out.splitlines()


def test_show_counts_what_the_journal_holds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(run / "journal.jsonl")
    for key, verdict in list(journal.values("verdict"))[:3]:
        journal.put("verdict", key, {**verdict, "status": "failed"})
    journal.close()
    status, lines = command("show", run, capsys)
    said = {line[2:13].strip(): line[13:] for line in lines[1:]}
    entries = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    last = {(entry["kind"], entry["key"]): entry["value"] for entry in entries}
    verdicts = [value["status"] for (kind, _), value in last.items() if kind == "verdict"]
    assert status == 0
    assert lines[0] == str(run)
    assert said["run"] == "experiment_01_esr of scripted (scripted)"
    assert said["status"] == "complete"
    assert said["responses"].startswith(f"{len(verdicts)}: ")
    assert f"{verdicts.count('graded')} graded" in said["verdicts"]
    assert verdicts.count("failed") >= 3
    assert said["failed"].startswith(f"{verdicts.count('failed')} verdicts")
    paid = sum(kind == "paid" for kind, _ in last)
    assert paid > 0
    assert set(said["also"].split(", ")) == {"1 selection", f"{paid} paid", "6 threshold"}
    assert "start 1" in said
    assert "damaged" not in said


def test_a_whole_run_is_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", run, capsys) == (0, ["runs: 1, damages: 0"])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def change_results(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a trial and sign the file as if it were the one that was written."""
    path = run / "results.json"
    data = json.loads(path.read_text())
    change(next(f["trials"][0] for f in data["results_by_feature"] if f["trials"]))
    path.write_text(json.dumps(data))


def response(trial: dict[str, Any]) -> None:
    trial["response"] += "!"


def score(trial: dict[str, Any]) -> None:
    trial["score"]["raw_response"] = "another answer"


def spec(trial: dict[str, Any]) -> None:
    trial["spec"]["threshold"] += 1


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "line": (lambda run: flip(run / "journal.jsonl", 3000), "1 damaged line ("),
    "torn": (
        lambda run: append(run / "journal.jsonl", '{"kind": "gen'),
        "the last line of a complete run is torn",
    ),
    "run.json": (lambda run: flip(run / "run.json", 300), "is not a run folder ("),
    "no run.json": (lambda run: (run / "run.json").unlink(), "is not a run folder ("),
    "results cut": (lambda run: (run / "results.json").write_text("{"), "is not a results file"),
    "no results": (lambda run: (run / "results.json").unlink(), "is missing from a complete run"),
    "response": (lambda run: change_results(run, response), "another response than the journal"),
    "verdict": (lambda run: change_results(run, score), "has another verdict than the journal"),
    "spec": (lambda run: change_results(run, spec), "is not in the journal"),
    "digest": (
        lambda run: append(run / "results.json", "\n"),
        "is not the file that the run was completed with",
    ),
    "reading": (lambda run: flip(next(run.glob("reads/*")), -1), "is damaged (its CRC differs)"),
    "reading cut": (lambda run: next(run.glob("reads/*")).write_bytes(b"0"), "is damaged ("),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_damage_is_a_line_and_exit_status_1(
    run: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, line = DAMAGE[kind]
    damage(run)
    status, lines = command("check", run, capsys)
    assert status == 1
    assert line in "\n".join(lines)
    assert all(str(run) in said for said in lines[:-1])
    assert lines[-1] == f"runs: 1, damages: {len(lines) - 1}"
    assert command("show", run, capsys)[0] == 0


def test_a_tree_of_runs_is_walked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run, run.parent / "other" / "deep")
    flip(run.parent / "other" / "deep" / "run.json", 300)
    status, lines = command("check", run.parent, capsys)
    assert (status, lines[-1]) == (1, "runs: 2, damages: 1")
    assert len([line for line in command("show", run.parent, capsys)[1] if "  status" in line]) == 1
    assert read_run(run).status == "complete"


def test_where_no_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith(f"error: no run in {tmp_path}/nothing; allowed: ")


def test_the_crc_of_a_reading_is_that_of_its_tensors(whole: Path) -> None:
    from safetensors import safe_open

    (path,) = whole.glob("reads/*")
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("values"), torch.ones(3, 1))
        assert len(file.metadata()["crc"]) == 8
