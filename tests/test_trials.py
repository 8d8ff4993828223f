"""The loop: nothing is done twice, nothing is lost, and results do not depend on interruptions."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from esr.errors import SpendLimitError, UserError
from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.ledger import Ledger
from esr.pipeline.latents import unsteered
from esr.pipeline.schema import TrialSpec, boosted
from esr.pipeline.trials import run_trials
from esr.runs.folder import read_run
from tests import scripted

REPOSITORY = Path(__file__).resolve().parent.parent


def journal_lines(folder: Path) -> list[dict[str, Any]]:
    lines = []
    for path in folder.glob("results/*/*/*/journal.jsonl"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                lines.append(json.loads(line))
    return lines


def start(folder: Path, delay: float = 0.004) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "ESR_CACHE": str(folder / "cache")}
    with (folder / "stderr.log").open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.scripted", str(folder), str(delay)],
            cwd=REPOSITORY,
            env=environment,
            stderr=stderr,
            # A suite started in the background ignores SIGINT, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


KILLS = 3


def run_until(folder: Path, lines: int) -> bool:
    """Run until the journal has so many lines, then kill; True where the run ended by itself."""
    process = start(folder)
    while process.poll() is None and len(journal_lines(folder)) < lines:
        time.sleep(0.002)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    assert not ended or process.returncode == 0, (folder / "stderr.log").read_text()
    return ended


def test_killed_at_random_moments_ends_like_an_uninterrupted_run(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert run_until(whole, 10**9)

    rng = random.Random(5)
    log = killed / "calls.log"
    on_disk: set[str] = set()
    for kill in range(KILLS + 1):
        calls = len(log.read_text().splitlines()) if log.exists() else 0
        more = rng.randint(1, 30) if kill < KILLS else 10**9
        ended = run_until(killed, len(journal_lines(killed)) + more)
        assert ended == (kill == KILLS), "too little work for so many kills"
        made = log.read_text().splitlines()[calls:]
        again = {c.split()[1] for c in made if c.startswith("generation")} & on_disk
        assert not again, "a generation that was on disk has been made again"
        lines = journal_lines(killed)
        on_disk = {line["key"] for line in lines if line["kind"] == "generation"}

    (one,) = whole.glob("results/*/*/*/results.json")
    (other,) = killed.glob("results/*/*/*/results.json")
    assert json.loads(one.read_text())["results_by_feature"], "the reference run is empty"
    assert other.read_bytes() == one.read_bytes()
    # Generations and answered verdicts stand in the journal once each; only failures repeat.
    times = Counter(
        (line["kind"], line["key"])
        for line in journal_lines(killed)
        if line["kind"] == "generation"
        or (line["kind"] == "verdict" and line["value"]["status"] in ("graded", "no_attempts"))
    )
    assert set(times.values()) == {1}


def test_interruption_leaves_a_partial_result(tmp_path: Path) -> None:
    # Slow enough that the signal comes while trials are under way, also on a busy machine.
    process = start(tmp_path, 0.1)
    journal = None
    while process.poll() is None:
        journal = next(iter(tmp_path.glob("results/*/*/*/journal.jsonl")), None)
        if journal and b'"arm": "steered"' in journal.read_bytes():
            break
        time.sleep(0.02)
    assert journal is not None
    process.send_signal(signal.SIGINT)
    process.wait(60)
    run = read_run(journal.parent)
    assert run.status == "interrupted"
    partial = json.loads((journal.parent / "results.json").read_text())
    assert partial["partial"] is True
    trials = [t for entry in partial["results_by_feature"] for t in entry["trials"]]
    assert 0 < len(trials) < 30


def test_repeating_a_finished_run_starts_no_engine_and_asks_no_judge(tmp_path: Path) -> None:
    asyncio.run(scripted.experiment_1(tmp_path, 0.0))
    calls = (tmp_path / "calls.log").read_text().splitlines()
    asyncio.run(scripted.experiment_1(tmp_path, 0.0))
    more = (tmp_path / "calls.log").read_text().splitlines()[len(calls) :]
    assert not [c for c in more if c.startswith("generation")]
    # Failed verdicts alone are asked for again.
    failed = [
        line
        for line in journal_lines(tmp_path)
        if line["kind"] == "verdict" and line["value"]["status"] == "failed"
    ]
    assert len(set(more)) <= len(failed)


class FailingOnce:
    """A judge that is down at first."""

    info = JudgeInfo("failing", "0" * 16)

    def __init__(self) -> None:
        self.down = True
        self.calls = 0
        self.ledger = Ledger()

    async def grade(self, request: JudgeRequest) -> Verdict:
        self.ledger.check()
        self.calls += 1
        if self.down:
            return Verdict(Status.FAILED, raw="connection refused")
        scripted.pay(self.ledger, 0.5)
        return Verdict(Status.GRADED, (Attempt(request.response, 50.0),), "ok", cost=0.5)

    async def close(self) -> None:
        return None


def specs(context: scripted.RunContext, n: int) -> list[TrialSpec]:
    return [
        boosted(
            "steered", 1, "one", 3.0, context.prompts.prompts[i], f"1/p{i}", context.sampling(i)
        )
        for i in range(n)
    ]


async def test_failed_verdicts_are_repeated_without_generating_again(tmp_path: Path) -> None:
    judge = FailingOnce()
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path, judge=judge)
        first = await run_trials(specs(context, 5), context)
        assert [r.status for r in first] == ["failed"] * 5
        assert all(r.error == "judge: failed" and r.verdict.raw for r in first if r.verdict)
        assert all(r.outcome().scores is None for r in first), "a failure is not a score"
        judge.down = False
        second = await run_trials(specs(context, 5), context)
        assert [r.status for r in second] == ["graded"] * 5
        third = await run_trials(specs(context, 5), context)
        assert third == second
    assert judge.calls == 10
    generations = (tmp_path / "calls.log").read_text().splitlines()
    assert len(generations) == 5


async def test_spend_limit_stops_before_the_next_call_and_can_be_resumed(tmp_path: Path) -> None:
    judge = FailingOnce()
    judge.down = False

    async def limited() -> None:
        with scripted.open_run(tmp_path) as run:
            context = scripted.context(run, tmp_path, judge=judge, max_spend=1.0, in_flight=1)
            await run_trials(specs(context, 6), context)

    with pytest.raises(SpendLimitError):
        await limited()
    assert 2 <= judge.calls < 6
    assert read_run(scripted.open_run(tmp_path).path).status == "interrupted"
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path, judge=judge)
        assert context.ledger.spent >= 1.0, "earlier spend is counted"
        records = await run_trials(specs(context, 6), context)
    assert [r.status for r in records] == ["graded"] * 6
    assert judge.calls == 6


async def test_unjudged_trials_and_equal_specs(tmp_path: Path) -> None:
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path)
        records = await run_trials(unsteered(context, "plain"), context)
        assert len(records) == len(context.prompts.prompts)
        assert all(r.verdict is None and r.error is None and r.response for r in records)
        with pytest.raises(ValueError, match="equal"):
            await run_trials(specs(context, 1) * 2, context)


def test_a_spec_survives_json(tmp_path: Path) -> None:
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path)
        (spec,) = specs(context, 1)
        again = TrialSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert again.key == spec.key


def test_the_key_of_a_spec_without_prefix_layers_and_scopes_is_as_before(tmp_path: Path) -> None:
    """Journals, run ids and thresholds of earlier runs hang on it."""
    with scripted.open_run(tmp_path) as run:
        (spec,) = specs(scripted.context(run, tmp_path), 1)
    assert spec.key == "e7e55c17b52e4c6d9d80"
    assert "prefix_token_ids" not in spec.to_json()
    given = dataclasses.replace(spec, prefix_token_ids=(79, 102, 102))
    assert given.key != spec.key
    assert TrialSpec.from_json(json.loads(json.dumps(given.to_json()))) == given


async def test_a_given_prefix_is_judged_with_the_response_and_told_apart(tmp_path: Path) -> None:
    prefix = "Lie down. "
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path)
        (spec,) = specs(context, 1)
        ids = context.chat.prefix_ids(spec.prompt, prefix)
        given = dataclasses.replace(spec, prefix_token_ids=ids)
        (record,) = await run_trials([given], context)
        too_long = dataclasses.replace(spec, prefix_token_ids=ids * 10**4)
        with pytest.raises(UserError, match="a given prefix of 100000 and a response of"):
            await run_trials([too_long], context)
    assert record.response is not None
    assert record.response.startswith(prefix)
    assert record.token_ids[: len(prefix)] == ids
    data = record.to_json()
    assert data["generated_from"] == len(prefix)
    assert data["spec"]["prefix_token_ids"] == list(ids)
    assert record.verdict is not None
    (line,) = [line for line in journal_lines(tmp_path) if line["kind"] == "generation"]
    assert line["value"]["n_prefix"] == line["value"]["generated_from"] == len(prefix)
