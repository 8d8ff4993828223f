"""A judge that fails: what a run says and keeps, and that it ends as with a healthy judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esr import judge, models
from esr.errors import JudgeError, UserError
from esr.judge import CallSettings
from esr.judge.llm import LlmJudge
from esr.pipeline.experiment import conduct, main
from esr.pipeline.latents import unsteered
from esr.pipeline.trials import run_trials
from esr.runs.folder import read_run
from experiment_01_esr.config import Config
from experiment_01_esr.run import EXPERIMENT
from experiment_03_off_topic_detectors import find
from experiment_06_sequential_activations import run as experiment_06
from tests import scripted
from tests.judge_replies import Call, Reply
from tests.judge_server import JudgeServer

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
    max_spend: float = 0.0,
) -> JudgeServer:
    """Experiment 1 on the scripted engine with a judge over HTTP."""
    async with JudgeServer(behaviour).running() as server:
        with scripted.open_run(folder) as opened:
            opened.update(config=CONFIG.identity())
            grader = judge.create(f"haiku@{server.url}", calls=calls, cache=folder / "c.sqlite")
            assert isinstance(grader, LlmJudge)
            context = scripted.context(opened, folder, judge=grader, max_spend=max_spend)
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


async def test_the_command_ends_before_the_engine_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object) -> None:
        raise AssertionError("the engine was started for a dead judge")

    monkeypatch.setattr("esr.pipeline.engines.start_engine", start)
    async with JudgeServer(lambda _: Reply("invalid x-api-key", status=401)).running() as server:
        options = ["tiny", "--judge", f"haiku@{server.url}", "--output", str(tmp_path / "out")]
        status = await asyncio.to_thread(main, EXPERIMENT, options)
        assert status == 4
        err = capsys.readouterr().err
        assert "stopped: judge claude-haiku-4-5-20251001" in err
        assert "invalid x-api-key" in err
        (folder,) = (tmp_path / "out").glob("*/*/*")
        assert read_run(folder).status == "interrupted"
        assert "x-api-key" in (read_run(folder).error or "")
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        assert await asyncio.to_thread(main, EXPERIMENT, options) == 2
        assert "ANTHROPIC_API_KEY" in capsys.readouterr().err
        # A dry run needs no key and asks nobody, and says that there is none.
        asked = len(server.calls)
        assert await asyncio.to_thread(main, EXPERIMENT, [*options, "--dry-run"]) == 2
        out = capsys.readouterr().out
        assert "judge calls" in out
        assert "ANTHROPIC_API_KEY" in out
        assert len(server.calls) == asked


async def test_what_calls_no_judge_needs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ESR_ENV_FILE", str(tmp_path / "none"))
    spec = models.get("tiny")
    for stages in (
        find.EXPERIMENT.stages(find.EXPERIMENT.config(), spec),
        experiment_06.EXPERIMENT.stages(experiment_06.EXPERIMENT.config(), spec),
    ):
        assert not any(stage.judged and stage.responses for stage in stages)
    with scripted.open_run(tmp_path) as opened:
        grader = judge.create("haiku", cache=tmp_path / "c.sqlite")
        context = scripted.context(opened, tmp_path, judge=grader)
        records = await run_trials(unsteered(context, "plain"), context)
        assert all(record.response for record in records)
        with pytest.raises(UserError, match="needs ANTHROPIC_API_KEY"):
            await context.grade(judge.JudgeRequest("p", "r", "l"))
        await context.close()


@pytest.mark.parametrize(
    "address",
    [
        *("http://me:secret-pw@host/v1", "https://host/v1?api_key=secret-pw"),
        *("http://host/v1#secret-pw", "http://secret-pw@host/v1", "http://host:99999/secret-pw"),
    ],
)
def test_keys_in_an_address_are_refused_and_not_repeated(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["tiny", "--judge", f"openai:m@{address}", "--output", str(tmp_path / "out")]
    for more in ([], ["--dry-run"]):
        assert main(EXPERIMENT, [*options, *more]) == 2
        out = capsys.readouterr()
        assert "the address of judge openai:m" in out.err
        assert "secret-pw" not in out.err + out.out
    assert not (tmp_path / "out").exists()


async def test_a_run_that_asks_nothing_more_is_completed_under_any_limit(
    tmp_path: Path, reference: dict[str, Any]
) -> None:
    await run(tmp_path, healthy)
    folder = scripted.open_run(tmp_path)
    with pytest.raises(RuntimeError, match="killed"), folder:  # noqa: PT012
        folder.update(status="interrupted", ended="")
        raise RuntimeError("killed")
    server = await run(tmp_path, healthy, max_spend=0.0001)
    assert not server.calls
    assert results(tmp_path) == reference
