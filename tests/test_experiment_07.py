"""Experiment 7: the sample, re-grading without generation, resume, tables and figures."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esr import models
from esr.analysis.outcomes import Outcome, outcomes_from_results
from esr.errors import SpendLimitError
from esr.judge import base, cache
from esr.judge.base import JudgeRequest, Verdict
from esr.judge.overlap import OverlapJudge
from esr.runs.results import read_results
from experiment_07_cross_judge import run as experiment
from experiment_07_cross_judge.config import Config
from experiment_07_cross_judge.run import main, per_model
from experiment_07_cross_judge.sample import Recorded, allocate, draw
from plotting import plot_exp7
from plotting.selection import find_sources
from tests import scripted
from tests.judge_server import JudgeServer, Reply
from tests.plotting.printed import check


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """Results of experiment 1 with a scripted model: some trials multi-attempt, some failed."""
    asyncio.run(scripted.experiment_1(tmp_path, 0.0))
    (file,) = tmp_path.glob("results/experiment_01_esr/*/*/results.json")
    return file


def options(parent: Path, tmp_path: Path, *more: str) -> list[str]:
    where = ["tiny", "--from-results", str(parent), "--output", str(tmp_path / "out")]
    return [*where, "--n-samples", "20", "--min-per-model", "5", *more]


def run_folder(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "out").glob("experiment_07_cross_judge/tiny/*")
    return folder


def trial(number: int, *scores: float) -> Recorded:
    status = base.Status.GRADED if scores else base.Status.FAILED
    outcome = Outcome(number // 5, f"t{number}", scores or None, status)
    spec: Any = type("Spec", (), {"trial_id": f"t{number}"})()
    return Recorded(spec, "text", None, outcome)


def test_sample_is_stratified() -> None:
    trials = [trial(i, *((10, 60) if i % 10 == 0 else (50,))) for i in range(200)]
    trials += [trial(300 + i) for i in range(7)]
    sample = draw(trials, 60, seed=1)
    assert sample.drawn == {"multi": 20, "single": 40}
    assert sample.population == {"multi": 20, "single": 180}
    assert sample.ungraded == 7
    assert sum(sample.weights().values()) == pytest.approx(200)
    assert {t.spec.trial_id for t in draw(trials, 60, seed=1).trials} == set(sample.weights())
    assert {t.spec.trial_id for t in draw(trials, 60, seed=2).trials} != set(sample.weights())
    assert draw(trials, 10, seed=1).drawn == {"multi": 20, "single": 0}, "multi always belong"
    assert draw(trials, 999, seed=1).drawn == {"multi": 20, "single": 180}


def test_sizes_over_models() -> None:
    assert allocate({"70b": 360, "8b": 40, "gemma-2b": 0}, 1000, 100) == {
        "70b": 560,
        "8b": 240,
        "gemma-2b": 200,
    }
    assert allocate({"70b": 960, "gemma-2b": 5}, 1000, 100) == {"70b": 977, "gemma-2b": 100}
    assert allocate({"70b": 2000}, 1000, 100) == {"70b": 2000}


def test_offline_from_start_to_figure(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = options(parent, tmp_path, "--judges", "overlap,lexical")
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "kappa" in printed
    assert "no evidence about large models" in printed
    folder = run_folder(tmp_path)
    found = read_results(folder).raw
    original = {o.trial_id: o for o in outcomes_from_results(read_results(parent))}
    arms = {arm: outcomes_from_results(found, arm) for arm in ("original", "overlap", "lexical")}
    ids = {o.trial_id for o in arms["original"]}
    assert ids == {o.trial_id for o in arms["overlap"]} == {o.trial_id for o in arms["lexical"]}
    assert {k for k, o in original.items() if o.multi} <= ids, "a multi-attempt trial is missing"
    for outcome in arms["original"]:
        assert outcome.scores == original[outcome.trial_id].scores
    assert len(found["agreement"]) == 3
    assert found["sample"]["ungraded"] == sum(not o.graded for o in original.values())
    assert found["experiment_config"]["judges"]["overlap"]["id"] == "overlap"
    assert found["experiment_config"]["judge_id"] == "scripted"
    regraded = found["results_by_feature"][0]["trials"][0]
    assert regraded["spec"]["interventions"], "the steered trial itself is on record"

    assert main(asked) == 0
    assert read_results(folder).raw["agreement"] == found["agreement"]

    saved = tmp_path / "figures"
    assert plot_exp7.main(["--results", str(folder), "--output", str(saved)]) == 0
    for name in ("rates", "scores", "agreement"):
        assert (saved / f"exp7_{name}.png").stat().st_size > 10_000
        assert (saved / f"exp7_{name}.csv").read_text().count("\n") > 2
    for drawn in plot_exp7.figures(find_sources(plot_exp7.EXPERIMENT, [folder])):
        check(drawn)


def test_figures_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    folder = tmp_path / "figures"
    assert plot_exp7.main(["--results", str(tmp_path / "none"), "--output", str(folder)]) == 1
    assert "python -m experiment_07_cross_judge" in capsys.readouterr().err
    assert (folder / "exp7_rates.csv").read_text().count("\n") == 1


class Counting(OverlapJudge):
    """Counts, and is interrupted at a given call."""

    calls = 0
    stop_at = 0

    async def grade(self, request: JudgeRequest) -> Verdict:
        Counting.calls += 1
        if Counting.calls == Counting.stop_at:
            raise asyncio.CancelledError
        return await super().grade(request)


def test_interrupted_and_resumed(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esr.judge.overlap.OverlapJudge", Counting)
    Counting.calls, Counting.stop_at = 0, 9
    asked = options(parent, tmp_path, "--judges", "overlap")
    assert main(asked) == 130
    partial = json.loads((run_folder(tmp_path) / "results.json").read_text())
    assert partial["partial"]
    done = sum(o.graded for o in outcomes_from_results(partial, "overlap"))
    assert 0 < done < 20
    Counting.stop_at = 0
    Counting.calls = 0
    assert main(asked) == 0
    total = len(outcomes_from_results(read_results(run_folder(tmp_path)), "overlap"))
    assert Counting.calls == total - done, "a verdict was asked for again"


async def test_language_model_and_its_faults(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-key-0123456789")
    monkeypatch.setattr(cache, "default_path", lambda: tmp_path / "cache.sqlite")

    def behave(call: Any) -> Reply:
        if scripted.number(call.user, 4) == 0 and call.number == 0:
            return Reply("no, key sk-secret-key-0123456789", status=400)
        return Reply()

    async with JudgeServer(behave).running() as server:
        config = Config(
            model="tiny",
            from_results=str(parent),
            output=str(tmp_path / "out"),
            judges=f"overlap,haiku@{server.url}",
            n_samples=20,
            min_per_model=5,
        )
        (part,) = per_model(config)
        spec = models.get("tiny")
        await experiment.run(part, spec)
        folder = run_folder(tmp_path)
        arm = f"haiku@{server.url}"
        first = outcomes_from_results(read_results(folder), arm)
        failed = [o for o in first if o.status == "failed"]
        assert failed
        asked = len(server.calls)
        await experiment.run(part, spec)
        assert len(server.calls) == asked + len(failed), "only failures are asked again"
        again = read_results(folder).raw
        assert all(o.graded for o in outcomes_from_results(again, arm))
    assert json.loads((folder / "run.json").read_text())["spend"] > 0
    for file in folder.iterdir():
        if file.is_file():
            assert "sk-secret" not in file.read_text(), f"a key in {file.name}"


async def test_spend_limit(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded responses are all ready to be graded at once: the limit must hold all the same."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-key-0123456789")
    monkeypatch.setattr(cache, "default_path", lambda: tmp_path / "cache.sqlite")
    async with JudgeServer(lambda _: Reply(usage=(1_000_000, 0, 0))).running() as server:
        config = Config(
            model="tiny",
            from_results=str(parent),
            output=str(tmp_path / "out"),
            judges=f"haiku@{server.url}",
            n_samples=20,
            min_per_model=5,
            judge_concurrency=2,
            max_spend=4.5,
        )
        (part,) = per_model(config)
        with pytest.raises(SpendLimitError):
            await experiment.run(part, models.get("tiny"))
        # A dollar a call, two at once: the limit is passed by what was under way.
        assert 5 <= len(server.calls) <= 6
        facts = json.loads((run_folder(tmp_path) / "run.json").read_text())
        assert facts["status"] == "interrupted"
        await experiment.run(replace(part, max_spend=0.0), models.get("tiny"))
        assert len(server.calls) == 20, "an answer that was paid for was asked for again"


def test_user_errors(
    parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ESR_ENV_FILE", str(tmp_path / "none"))
    for variable in ("ANTHROPIC", "OPENAI", "OPENROUTER", "GEMINI"):
        monkeypatch.delenv(f"{variable}_API_KEY", raising=False)
    empty = ["--output", str(tmp_path / "empty")]
    assert main(empty) == 2
    assert "python -m experiment_01_esr tiny" in capsys.readouterr().err
    assert main(["8b", "--from-results", str(parent), *empty]) == 2
    assert "no key is set" in capsys.readouterr().err
    assert main(options(parent, tmp_path, "--judges", "overlap,hiaku")) == 2
    assert "hiaku" in capsys.readouterr().err
    assert main(options(parent, tmp_path, "--judges", "haiku")) == 2
    assert "ANTHROPIC_API_KEY" in capsys.readouterr().err
    assert main(["--from-results", str(parent)]) == 2
    assert main(["tiny", "--n-samples", "0"]) == 2
    assert main(["8b", "--dry-run", "--judges", "haiku,gpt-5-mini", *empty]) == 2
    shown = capsys.readouterr()
    assert "$" in shown.out
    assert "missing: parent run, judge's key, judge's key" in shown.err
