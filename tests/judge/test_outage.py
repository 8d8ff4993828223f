"""A judge that fails: what a run says and keeps, and that it ends as with a healthy judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esr import judge
from esr.errors import JudgeError
from esr.judge import CallSettings
from esr.judge.llm import LlmJudge
from esr.pipeline.experiment import conduct
from esr.runs.folder import read_run
from experiment_01_esr.config import Config
from experiment_01_esr.run import EXPERIMENT
from tests import scripted
from tests.judge_server import Call, JudgeServer, Reply

CONFIG = Config(model="tiny")
QUICK = CallSettings(concurrency=4, retries=0)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-key-0123")


def healthy(call: Call) -> Reply:
    """Scores fall with the boost, which the scripted engine writes into its responses."""
    score = max(0, 90 - 12 * call.user.count("off "))
    attempts = [{"attempt_text": "", "score": score}]
    return Reply(f"<json>{json.dumps({'attempts': attempts})}</json>")


async def run(
    folder: Path,
    behaviour: Callable[[Call], Reply],
    calls: CallSettings = QUICK,
    cache: str = "cache.sqlite",
) -> JudgeServer:
    """Experiment 1 on the scripted engine with a judge over HTTP."""
    async with JudgeServer(behaviour).running() as server:
        with scripted.open_run(folder) as opened:
            opened.update(config=CONFIG.identity())
            grader = judge.create(f"haiku@{server.url}", calls=calls, cache=folder / cache)
            assert isinstance(grader, LlmJudge)
            context = scripted.context(opened, folder, judge=grader)
            grader.client.ledger = context.ledger
            try:
                await conduct(EXPERIMENT, CONFIG, context)
            finally:
                await context.close()
    return server


def results(folder: Path) -> dict[str, Any]:
    data = json.loads((scripted.open_run(folder).path / "results.json").read_text())
    data["experiment_config"].pop("run_id")
    return dict(data)


def down(status: int, first: int, last: int = 10**9) -> Callable[[Call], Reply]:
    """Answers with a status from one call on, to another."""
    count = 0

    def behave(call: Call) -> Reply:
        nonlocal count
        count += 1
        failing = first <= count <= last
        return Reply("no such luck", status=status) if failing else healthy(call)

    return behave


@pytest.fixture
async def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Results with a healthy judge, measured without any cache of thresholds."""
    folder = tmp_path / "healthy"
    folder.mkdir()
    monkeypatch.setenv("ESR_CACHE", str(folder / "cache"))
    await run(folder, healthy)
    monkeypatch.setenv("ESR_CACHE", str(tmp_path / "cache"))
    return results(folder)


@pytest.mark.parametrize(("status", "fault"), [(401, "auth"), (402, "quota"), (404, "not_found")])
@pytest.mark.parametrize("first", [1, 20])
async def test_a_judge_that_rejects_stops_the_run_with_its_cause(
    status: int, fault: str, first: int, tmp_path: Path, reference: dict[str, Any]
) -> None:
    with pytest.raises(JudgeError, match=f"{fault}.*no such luck"):
        await run(tmp_path, down(status, first))
    metadata = read_run(scripted.open_run(tmp_path).path)
    assert metadata.status == "interrupted"
    assert fault in (metadata.error or "")
    assert results(tmp_path)["partial"] is True
    engine_calls = (tmp_path / "calls.log").read_text() if first > 1 else ""
    assert ("generation" in engine_calls) == (first > 1), "the engine worked for a dead judge"
    await run(tmp_path, healthy)
    assert results(tmp_path) == reference


async def test_failures_in_a_row_stop_the_run(tmp_path: Path, reference: dict[str, Any]) -> None:
    calls = CallSettings(concurrency=1, retries=0, patience=4)
    with pytest.raises(JudgeError, match=r"server.*4 calls in a row failed"):
        await run(tmp_path, down(500, 20), calls)
    count = 0

    def three_of_four(call: Call) -> Reply:
        nonlocal count
        count += 1
        return healthy(call) if count % 4 == 1 else Reply("busy", status=500)

    # An answer in between begins a new row.
    await run(tmp_path, three_of_four, calls)
    await run(tmp_path, healthy)
    assert results(tmp_path) == reference


async def test_an_outage_in_calibration_fixes_no_threshold(
    tmp_path: Path, reference: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The judge fails for some questions, whenever it is asked; then it is well again."""
    failing = lambda call: scripted.number(call.user, 5) == 0  # noqa: E731
    patient = CallSettings(concurrency=4, retries=0, patience=10**6)
    await run(tmp_path, lambda c: Reply("x", status=500) if failing(c) else healthy(c), patient)
    tainted = [
        entry["calibration"]
        for entry in results(tmp_path)["results_by_feature"]
        if entry["calibration"]["unjudged"]
    ]
    assert tainted, "no verdict of a calibration failed: the test tests nothing"
    cached = {path.stem for path in (tmp_path / "cache").rglob("*.json")}
    assert not cached & {str(entry["latent"]) for entry in tainted}, "a wrong threshold was cached"
    assert "verdicts that failed" in EXPERIMENT.report(results(tmp_path))
    await run(tmp_path, healthy)
    assert results(tmp_path) == reference
    assert "verdicts that failed" not in EXPERIMENT.report(results(tmp_path))
    assert capsys.readouterr().out == ""


async def test_an_outage_of_a_moment_changes_nothing(
    tmp_path: Path, reference: dict[str, Any]
) -> None:
    calls = CallSettings(concurrency=1, retries=0, patience=10**6)
    await run(tmp_path, down(500, 30, 31), calls)
    assert results(tmp_path)["results_by_feature"] == reference["results_by_feature"]


async def test_a_judge_that_only_mumbles_is_no_complete_run(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match=r"no latent could be calibrated.*no_json"):
        await run(tmp_path, lambda _: Reply("mumble"))
    assert read_run(scripted.open_run(tmp_path).path).status == "interrupted"


async def test_trials_of_which_none_can_be_read_are_no_complete_run(tmp_path: Path) -> None:
    await run(tmp_path, healthy)
    # Calibrated, but with trials of its own: the thresholds come from the cache.
    (other := tmp_path / "other").mkdir()
    with pytest.raises(JudgeError, match=r"can be read.*no_json: 'mumble'"):
        await run(other, lambda _: Reply("mumble"))
    assert read_run(scripted.open_run(other).path).status == "interrupted"
