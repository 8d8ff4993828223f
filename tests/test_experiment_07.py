"""Experiment 7: the sample, re-grading without generation, resume, tables and figures."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esr import judge, models
from esr.analysis import metrics
from esr.analysis.outcomes import Outcome, outcomes_from_results
from esr.errors import SpendLimitError, UserError
from esr.judge import base, cache
from esr.judge.base import JudgeRequest, Verdict
from esr.judge.overlap import OverlapJudge
from esr.pipeline.settings import wanted_run
from esr.runs.results import read_results
from experiment_07_cross_judge import run as experiment
from experiment_07_cross_judge.config import Config
from experiment_07_cross_judge.run import main, per_model, sizes_of
from experiment_07_cross_judge.sample import Recorded, allocate, draw
from plotting import plot_exp7
from plotting.selection import find_sources
from tests import scripted
from tests.judge_replies import Reply
from tests.judge_server import JudgeServer
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
    sample = draw(trials, 80, seed=1)
    assert sample.drawn == {"multi": 20, "single": 60}
    assert sample.population == {"multi": 20, "single": 180}
    assert sample.ungraded == 7
    assert sum(sample.weights().values()) == pytest.approx(200)
    assert {t.spec.trial_id for t in draw(trials, 80, seed=1).trials} == set(sample.weights())
    assert {t.spec.trial_id for t in draw(trials, 80, seed=2).trials} != set(sample.weights())
    # At least 50 single-attempt trials, or a tenth of many, however many multi-attempts there are.
    assert draw(trials, 10, seed=1).drawn == {"multi": 20, "single": 50}
    assert draw(trials[:40], 10, seed=1).drawn == {"multi": 4, "single": 36}
    assert draw(trials, 999, seed=1).drawn == {"multi": 20, "single": 180}
    many = [trial(i, *((10, 60) if i % 10 == 0 else (50,))) for i in range(2000)]
    assert draw(many, 10, seed=1).drawn == {"multi": 200, "single": 180}
    assert max(draw(many, 10, seed=1).weights().values()) == 10


def test_sizes_over_models() -> None:
    def strata(multi: int, single: int) -> dict[str, int]:
        return {"multi": multi, "single": single}

    few = {"70b": strata(360, 400), "8b": strata(40, 400), "gemma-2b": strata(0, 400)}
    assert allocate(few, 1000, 100) == {"70b": 560, "8b": 240, "gemma-2b": 200}
    uneven = {"70b": strata(960, 4000), "gemma-2b": strata(5, 5000)}
    assert allocate(uneven, 1000, 100) == {"70b": 960 + 400, "gemma-2b": 5 + 500}
    assert allocate({"70b": strata(2000, 30)}, 1000, 100) == {"70b": 2030}


def test_an_organism_takes_nothing_from_the_large_models() -> None:
    large = {"70b": {"multi": 360, "single": 400}, "8b": {"multi": 40, "single": 400}}
    alone = sizes_of(large, Config())
    shared = sizes_of({"tiny": {"multi": 327, "single": 268}, **large}, Config())
    assert {key: shared[key] for key in large} == alone == {"70b": 660, "8b": 340}
    assert shared["tiny"] == 1000


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
    # The rates of the run's own judge are those of the run, whatever was drawn.
    exact = found["by_judge"]["original"]["all_trials"]
    assert exact["multi"]["value"] == metrics.multi_attempt_rate(original.values()).rate
    assert exact["esr"]["value"] == metrics.esr_rate(original.values()).rate
    assert found["by_judge"]["overlap"]["gate"]["pairs"] == len(ids)
    assert found["agreement"][0]["weighted"]["pairs"] == found["agreement"][0]["pairs"]
    assert sum(found["by_judge"]["overlap"]["sample"]["restart_gate"].values()) == 2 * len(ids)
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


def test_judge_names_the_run_that_is_graded_again(parent: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    theirs = Config(model="tiny", output=str(results), judge="overlap")
    folder = results / "experiment_01_esr" / "tiny" / parent.parent.name
    shutil.copytree(parent.parent, folder)
    file = folder / "run.json"
    run = {**json.loads(file.read_text()), "model": "tiny"}
    del run["checksum"]
    run["identity"] = wanted_run(theirs, models.get("tiny")).identity
    file.write_text(json.dumps(run))
    (part,) = per_model(theirs)
    assert (part.from_results, part.judge) == (str(folder), "lexical")
    with pytest.raises(UserError, match="no complete run"):
        per_model(replace(theirs, judge="lexical"))


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
    assert 0 < done < 29
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
        assert len(server.calls) == 29, "an answer that was paid for was asked for again"


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


def graded_by_lexical(parent: Path, folder: Path) -> Path:
    """The same results as if the lexical judge had graded them."""
    data = json.loads(parent.read_text())
    data["experiment_config"]["judge_id"] = "lexical"
    data["experiment_config"]["judge"] = "lexical"
    data["experiment_config"]["rubric_hash"] = judge.info("lexical").rubric_hash
    for feature in data["results_by_feature"]:
        for entry in feature["trials"]:
            if entry["response"] is not None:
                request = JudgeRequest(entry["prompt"], entry["response"], entry["feature_label"])
                verdict = asyncio.run(judge.create("lexical").grade(request))
                entry["error"] = None if verdict.answered else "judge"
                entry["score"] = {"attempts": verdict.to_json()["attempts"], "raw_response": ""}
    file = folder / "lexical.json"
    file.write_text(json.dumps(data))
    return file


def test_blind_arms(parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run's own judge again, told less: only what hangs on the label differs."""
    file = graded_by_lexical(parent, tmp_path)
    assert main(options(file, tmp_path, "--judges", "overlap", "--blind", "all")) == 0
    assert "label-shuffled" in capsys.readouterr().out
    found = read_results(run_folder(tmp_path)).raw
    assert set(found["by_judge"]) == {"original", "overlap", "label-hidden", "label-shuffled"}
    pairs = [(pair["first"], pair["second"]) for pair in found["agreement"]]
    assert pairs == [("original", a) for a in ("overlap", "label-hidden", "label-shuffled")]
    judges = found["experiment_config"]["judges"]
    assert judges["label-hidden"]["settings"]["blind"] == "label-hidden"
    assert judges["label-hidden"]["id"] == "lexical"
    hidden = outcomes_from_results(read_results(run_folder(tmp_path)), "label-hidden")
    texts = {
        t["trial_id"]: (t["prompt"], t["response"])
        for feature in found["results_by_feature"]
        for t in feature["trials"]
    }
    for outcome in hidden:
        blind = JudgeRequest(*texts[outcome.trial_id], "")
        verdict = asyncio.run(judge.create("lexical").grade(blind))
        assert outcome.scores == (tuple(a.score for a in verdict.attempts) or None)


def test_blind_arms_that_cannot_be(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = graded_by_lexical(parent, tmp_path)
    for results, arms, said in (
        (parent, "all", "graded by scripted"),
        (file, "label-blurred", "label-blurred"),
        (file, "bare-prompt", "no trial of the run has a meta-prompt"),
    ):
        asked = options(results, tmp_path, "--judges", "overlap", "--blind", arms)
        assert main(asked) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "experiment_07_cross_judge").exists()


def test_keyed_judge_on_prompts_without_keys(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(parent, tmp_path, "--judges", "keyed")) == 2
    assert "no known answers" in capsys.readouterr().err
