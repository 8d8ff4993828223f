"""Experiment 10: sets that fit the detectors, the same trials replayed, and the three-way table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from esr.analysis import metrics
from esr.analysis.outcomes import outcomes_from_results
from esr.engine.base import Reading, ReadRequest
from esr.errors import UserError
from esr.pipeline.experiment import conduct, main
from esr.pipeline.replay import ReplayedRun
from esr.runs.results import read_results
from esr.steering.interventions import Clamp
from esr.steering.pooling import PooledReading
from experiment_03_off_topic_detectors import ablate
from experiment_03_off_topic_detectors.config import AblateConfig
from experiment_10_random_latent_control import commands
from experiment_10_random_latent_control.config import Config
from experiment_10_random_latent_control.run import EXPERIMENT, outcome_results, show, specs
from tests import replaying, scripted

DETECTORS = [17, 33, 5]
DEAD = [40, 41]


def activities() -> tuple[torch.Tensor, torch.Tensor]:
    """Frequency and magnitude of each latent, spread over two orders; two latents are dead."""
    make = torch.Generator().manual_seed(9)
    frequency = 10 ** (-2 * torch.rand(scripted.D_SAE, generator=make))
    magnitude = 10 ** (2 * torch.rand(scripted.D_SAE, generator=make))
    frequency[DEAD] = 0.0
    return frequency, magnitude


class ActiveEngine(scripted.ScriptedEngine):
    reads: list[ReadRequest]

    async def read(self, request: ReadRequest) -> Reading:
        self.reads.append(request)
        frequency, magnitude = activities()
        n = len(request.token_ids) - request.first_token
        pooled = PooledReading(magnitude, frequency * magnitude, frequency, n)
        return Reading(request.request_id, pooled=pooled)


def lab_of(run: Any, folder: Path, replayed: ReplayedRun) -> tuple[Any, ActiveEngine]:
    context = replaying.context(run, folder, replayed)
    engine = ActiveEngine(folder / "calls.log")
    engine.reads = []

    async def start() -> ActiveEngine:
        return engine

    context.start_engine = start
    return context, engine


async def child(folder: Path, replayed: ReplayedRun, config: Config) -> dict[str, Any]:
    with replaying.run_folder(EXPERIMENT.name, folder) as run:
        run.update(organism=False, title="Scripted", config=config.identity())
        context, _ = lab_of(run, folder, replayed)
        await conduct(EXPERIMENT, config, context)
    return read_results(run.path).raw


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


def config(folder: Path, detectors: list[int] | None = None, **options: Any) -> Config:
    path = folder / "detectors.json"
    path.write_text(json.dumps({"off_topic_detectors": detectors or DETECTORS}))
    return Config(detectors=str(path), output=str(folder / "results"), **options)


async def test_matched_sets_respect_the_caliper_and_leave_out_what_they_must(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    settings = config(tmp_path, n_sets=2, caliper=0.8)
    data = await child(tmp_path, replayed, settings)
    frequency, magnitude = activities()
    features = np.log10(np.stack([frequency.numpy(), magnitude.numpy()], axis=1).clip(1e-9))
    boosted = set(replayed.thresholds())
    pool = [
        k for k in range(scripted.D_SAE) if k not in {*DETECTORS, *boosted} and frequency[k] > 0
    ]
    spread = features[pool].std(axis=0)
    assert data["matching"]["candidates"] == len(pool)
    used: list[int] = []
    for pairs, chosen in zip(data["matching"]["pairs"], data["random_sets"], strict=True):
        assert sorted(control for _, control in pairs) == chosen
        for target, control in pairs:
            assert target in DETECTORS
            assert control in pool
            assert (np.abs(features[control] - features[target]) <= 0.8 * spread + 1e-6).all()
        used += chosen
    assert used
    assert len(set(used)) == len(used), "without replacement, over all sets"


async def test_activity_is_read_with_the_boost_on(tmp_path: Path, replayed: ReplayedRun) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        context, engine = lab_of(run, tmp_path, replayed)
        await specs(config(tmp_path, match_responses=7), context)
        parents = {
            spec.trial_id: spec for spec in replayed.specs(context.prompts, context.sampling)
        }
    assert len(engine.reads) == 7
    for request in engine.reads:
        spec = parents[request.request_id.removeprefix("activity/")]
        assert request.interventions == spec.interventions
        assert request.first_token == len(spec.prompt), "the response alone is read"


async def test_the_same_trials_are_replayed_per_set(tmp_path: Path, replayed: ReplayedRun) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        context, _ = lab_of(run, tmp_path, replayed)
        made = await specs(config(tmp_path, matching="uniform"), context)
        before = list(replayed.specs(context.prompts, context.sampling))
        drawn = run.journal.get("sets", "uniform")
        assert drawn is not None
        sets = drawn["sets"]
    assert len(sets) == 3
    assert len(made) == 3 * len(before)
    for number, latents in enumerate(sets, start=1):
        assert len(latents) == len(DETECTORS)
        assert not set(latents) & set(DETECTORS)
        arm = [s for s in made if s.arm == f"random-{number}"]
        for spec, parents in zip(arm, before, strict=True):
            assert spec.interventions == (*parents.interventions, *map(Clamp, latents))
            assert replace(spec, arm="steered", interventions=parents.interventions) == parents


async def test_dead_detectors_are_reported_and_not_matched(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    data = await child(tmp_path, replayed, config(tmp_path, [17, 40], caliper=9.0, n_sets=1))
    assert data["matching"]["dead_detectors"] == [40]
    assert len(data["random_sets"][0]) == 1
    arm = data["arms"]["partnered-detectors"]
    assert arm["latents"] == [17], "the detectors the sets can be compared with"
    assert data["partnered_against_random"]["multi_attempt_rate"]["difference"] is not None
    assert data["pooled"]["summary"]["counts"]["trials"] == 30, "random sets alone"
    assert "1 detectors are never active" in show(data)


async def test_no_match_within_the_caliper(tmp_path: Path, replayed: ReplayedRun) -> None:
    with pytest.raises(UserError, match="no detector has a match within"):
        await child(tmp_path, replayed, config(tmp_path, caliper=1e-9))


async def test_results_stand_beside_the_ablation_of_the_same_trials(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    settings = config(tmp_path, matching="uniform")
    assert (await child(tmp_path, replayed, settings))["ablation"] is None
    other = AblateConfig(detectors=settings.detectors, output=settings.output)
    await replaying.child_run(ablate.EXPERIMENT, other, tmp_path, replayed)
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        context, _ = lab_of(run, tmp_path, replayed)
        made = await specs(settings, context)
        from esr.pipeline.trials import finished

        data = outcome_results(settings, context, finished(made, context))
    assert data["ablation"] is not None
    assert data["ablation"]["summary"]["counts"]["trials"] == 30
    outcomes = outcomes_from_results(read_results(run.path))
    assert data["pooled"]["summary"] == metrics.summary(outcomes, 0)
    assert data["pooled"]["summary"]["counts"]["trials"] == 90
    assert data["pooled"]["comparison"]["multi_attempt_rate"].get("paired") is None
    assert "all detectors (here) against all random sets" in show({**data})


async def test_detectors_have_a_rank_among_many_sets(tmp_path: Path, replayed: ReplayedRun) -> None:
    settings = config(tmp_path, matching="uniform", n_sets=12)
    other = AblateConfig(detectors=settings.detectors, output=settings.output)
    await replaying.child_run(ablate.EXPERIMENT, other, tmp_path, replayed)
    data = await child(tmp_path, replayed, settings)
    rates = [
        arm["summary"]["multi_attempt_rate"]["rate"]
        for name, arm in data["arms"].items()
        if name.startswith("random")
    ]
    assert len(rates) == 12
    rate = data["ablation"]["summary"]["multi_attempt_rate"]["rate"]
    as_low = sum(other <= rate for other in rates)
    assert data["rank"]["all detectors"] == {
        "sets": 12,
        "as_low": as_low,
        "rate": rate,
        "p_value": (1 + as_low) / 13,
    }
    told = show(data)
    assert f"{as_low} of 12 sets are as low, rank p {(1 + as_low) / 13:.2g} (at best 0.077)" in told
    assert "random-1:" not in told, "more sets than are shown one by one"


async def test_resumes(tmp_path: Path, replayed: ReplayedRun) -> None:
    settings = config(tmp_path, matching="uniform")
    await replaying.resumes(EXPERIMENT, settings, tmp_path, replayed, stop=40)


def test_steps(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert commands.start("python x.py", ["--help"]) == 0
    told = capsys.readouterr().out
    assert "run-random" in told
    assert "analyze" in told
    assert commands.start("python x.py", ["analyze", "tiny", "--output", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(EXPERIMENT, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    assert "3 random sets" in capsys.readouterr().out
    assert main(EXPERIMENT, ["70b", "--n-sets", "0"]) == 2
