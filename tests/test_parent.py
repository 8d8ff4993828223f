"""Parent runs: found or absent, replayed in part, ours or the authors'; arms against baselines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esr.analysis import comparison, metrics, quantities, tables
from esr.analysis.outcomes import Outcome
from esr.errors import UserError
from esr.judge.base import Status
from esr.pipeline import replay
from esr.pipeline.cli import ReplayConfig
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.stages import planned_trials
from esr.steering.interventions import Boost
from tests import replaying, scripted


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


async def test_absent_is_none_but_a_wrong_name_is_an_error(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    model = scripted.spec(tmp_path)
    assert replay.find_or_none(ReplayConfig(output=str(tmp_path / "nothing")), model) is None
    results = ReplayConfig(output=str(tmp_path / "parent" / "results"))
    found = replay.find_or_none(results, model)
    assert found is not None
    assert found.run_id == replayed.run_id
    with pytest.raises(UserError, match="cannot read"):
        replay.find_or_none(ReplayConfig(from_results=str(tmp_path / "typo.json")), model)


async def test_planned_counts(tmp_path: Path, replayed: ReplayedRun) -> None:
    model = scripted.spec(tmp_path)
    nothing = str(tmp_path / "nothing")
    results = str(tmp_path / "parent" / "results")
    assert planned_trials(ReplayConfig(output=nothing), model) == 30
    assert planned_trials(ReplayConfig(output=nothing, n_latents=7, n_trials=2), model) == 14
    assert planned_trials(ReplayConfig(output=results), model) == replayed.replayable() == 30
    assert planned_trials(ReplayConfig(output=results, n_latents=99, n_trials=2), model) == 12


async def test_a_file_of_the_authors_is_replayed(tmp_path: Path) -> None:
    trial = {"prompt": "How do I do thing 3?", "seed": 17, "score": None, "error": "x"}
    entry = {
        "feature_index_in_sae": 9,
        "feature_label": "bridges",
        "threshold": 4.5,
        "error": None,
        "trials": [{**trial, "response": "text"}, {**trial, "response": None, "seed": 18}],
    }
    empty = {**entry, "feature_index_in_sae": 8, "trials": []}
    data = {"experiment_config": {}, "results_by_feature": [empty, entry]}
    (tmp_path / "theirs.json").write_text(json.dumps(data))
    theirs = replay.read(tmp_path / "theirs.json", "70b")
    with replaying.run_folder("child", tmp_path) as run:
        context = replaying.context(run, tmp_path, theirs)
        (spec,) = theirs.replay(context.prompts, context.sampling, "again", n_latents=1)
    assert (spec.latent, spec.latent_label, spec.threshold) == (9, "bridges", 4.5)
    assert (spec.prompt_id, spec.sampling.seed) == ("p3", 17)
    assert spec.interventions == (Boost(9, 4.5),)
    assert theirs.differences({"judge": "any"}) is None
    assert [o.trial_id for o in theirs.outcomes({spec.trial_id})] == [spec.trial_id]


def made(*scores: tuple[float, ...]) -> list[Outcome]:
    return [Outcome(i // 2, str(i), s, Status.GRADED) for i, s in enumerate(scores)]


def test_arm_against_baseline() -> None:
    arm = made((10, 50), (20, 60), (30,), (40,), (50, 90), (60,))
    baseline = made((10, 50), (20,), (30,), (40,), (50,), (60,))
    found = comparison.summary(arm, baseline, 1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    multi = found["multi_attempt_rate"]
    assert (multi["first"], multi["second"]) == (3 / 6, 1 / 6)
    assert multi["risk_ratio"] == pytest.approx(3)
    exact = comparison.compare(arm, baseline, quantities.MULTI_ATTEMPT, 1)
    assert exact.difference_interval is not None
    ends = exact.difference_interval
    assert multi["difference_interval"] == [ends.low, ends.high]
    # Resamples without a baseline event give an unbounded ratio: an open end, not a number.
    assert exact.risk_ratio_interval is not None
    assert exact.risk_ratio_interval.high == float("inf")
    assert multi["risk_ratio_interval"]
    assert multi["risk_ratio_interval"][1] is None
    two_way = exact.risk_ratio_two_way
    assert two_way is not None
    assert tables.risk_ratio(multi) == f"3.00 [{two_way.low:.2f}, {two_way.high:.2f}]"
    older = {name: value for name, value in multi.items() if not name.endswith("two_way")}
    assert "inf]" in tables.risk_ratio(older)
    paired = found["esr_rate"]["paired"]
    assert (paired["pairs"], paired["only_first"], paired["only_second"]) == (6, 2, 0)
    assert found["mean_first_score"]["difference"] == 0


def test_nothing_to_compare_is_null_not_a_number() -> None:
    found = comparison.summary([], made((10,), (20,)), 1)
    assert found["esr_rate"]["difference"] is None
    assert found["esr_rate"]["unpaired"] is None
    assert found["esr_rate"]["paired"]["pairs"] == 0
    table = tables.comparison_table(
        "title", metrics.summary([], 1), metrics.summary(made((10,), (20,)), 1), found
    )
    assert "nan" not in table
