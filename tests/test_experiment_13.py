"""Experiment 13: the parent's trials, dose by dose, and whose intervention reached their tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esr.analysis import metrics, pairing
from esr.analysis.crossed import Clusters, Estimate
from esr.analysis.outcomes import outcomes_from_results
from esr.engine.base import Engine, Generation, GenerationRequest, Reading, ReadRequest
from esr.errors import UserError
from esr.pipeline.experiment import conduct, main
from esr.pipeline.replay import ReplayedRun
from esr.runs.commands import parse
from esr.runs.results import read_results
from experiment_13_pairing_fault.config import Config
from experiment_13_pairing_fault.run import EXPERIMENT, show, specs
from tests import replaying, scripted


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


def counted(request: GenerationRequest) -> dict[str, int]:
    """Tokens by what steered them, fixed by the request."""
    foreign = scripted.number(request.request_id, 30)
    return {"own": 40 - foreign, "other": foreign, "none": 2}


@dataclass
class Counting:
    """The scripted engine under the faulty pairing."""

    engine: Engine

    async def generate(self, request: GenerationRequest) -> Generation:
        return replace(await self.engine.generate(request), pairing=counted(request))

    async def read(self, request: ReadRequest) -> Reading:
        return await self.engine.read(request)

    def describe(self) -> dict[str, object]:
        return {"name": "counting"}

    async def close(self) -> None:
        return None


async def run_part(config: Config, folder: Path, replayed: ReplayedRun) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    with replaying.run_folder(EXPERIMENT.name, folder) as run:
        run.update(organism=False, title="Scripted", config=config.identity())
        made = replaying.context(run, folder, replayed)
        whole = made.start_engine

        async def start() -> Any:
            return Counting(await whole())

        made.start_engine = start
        return await conduct(EXPERIMENT, config, made)


def test_a_run_per_dose_and_one_calibrated_under_the_fault() -> None:
    config = Config()
    parts = config.parts()
    assert [(p.in_flight, p.doses, p.thresholds) for p in parts] == [
        *((n, (n,), "parent") for n in (1, 5, 10, 50)),
        (50, (50,), "fault"),
    ]
    assert len({str(part.identity()) for part in parts}) == 5
    assert {part.pairing for part in parts} == {"scheduler-order"}
    assert config.parent_options().pairing == "request-id"
    correct = Config(pairing="request-id").parts()
    assert [part.thresholds for part in correct] == ["parent"] * 4
    assert [p.doses for p in Config(doses=(3, 7), thresholds="fault").parts()] == [(7,)]
    # A dose is the same run whatever is asked for beside it.
    assert Config(doses=(5,), thresholds="parent").parts()[0].identity() == parts[1].identity()


@pytest.mark.parametrize("doses", [(), (5, 5)])
def test_doses_are_named_once(doses: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="one or more, each once"):
        Config(doses=doses)


async def test_specs_are_the_parents(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config().parts()[2]
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        context = replaying.context(run, tmp_path, replayed)
        made = await specs(config, context)
        before = list(replayed.specs(context.prompts, context.sampling))
    assert [replace(spec, arm="steered") for spec in made] == before
    assert {spec.arm for spec in made} == {"10 in flight"}


async def test_results_count_tokens_by_what_steered_them(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    config = Config().parts()[2]
    data = await run_part(config, tmp_path, replayed)
    read = read_results(replaying.run_folder(EXPERIMENT.name, tmp_path).path)
    trials = [trial for feature in read.raw["results_by_feature"] for trial in feature["trials"]]
    tokens = [trial["pairing"] for trial in trials]
    outcomes = outcomes_from_results(data)
    assert data["in_flight"] == 10
    assert data["summary"] == metrics.summary(outcomes, 0)
    steered = data["steered_by"]
    assert (steered["trials"], steered["tokens"]) == (len(tokens), 42 * len(tokens))
    other = sum(entry["other"] for entry in tokens)
    assert steered["other"]["rate"] == pytest.approx(other / (42 * len(tokens)))
    assert steered["none"]["rate"] == pytest.approx(2 / 42)
    clusters = Clusters.of([o.latent for o in outcomes], [o.prompt for o in outcomes])
    parts = np.array([entry["other"] for entry in tokens], dtype=float)
    expected = Estimate.of(parts, np.full(len(tokens), 42.0), clusters).rate_interval()
    assert expected is not None
    assert steered["other"]["two_way_interval"] == pytest.approx([expected.low, expected.high])
    improved = [t["other"] for t, o in zip(tokens, outcomes, strict=True) if o.improved]
    share = sum(improved) / (42 * len(improved)) if improved else None
    assert steered["other_by_outcome"]["improved"] == pytest.approx(share)
    assert "10 in flight, pairing scheduler-order, boosts parent" in show(data)
    assert "tokens steered by another intervention" in show(data)


async def test_boosts_calibrated_under_the_fault(tmp_path: Path, replayed: ReplayedRun) -> None:
    (config,) = Config(doses=(5,), thresholds="fault", n_latents=3).parts()
    data = await run_part(config, tmp_path, replayed)
    boosts = {f["feature_index_in_sae"]: f["threshold"] for f in data["results_by_feature"]}
    trials = [trial for f in data["results_by_feature"] for trial in f["trials"]]
    assert len(boosts) == 3
    for trial in trials:
        boost = boosts[trial["feature_index_in_sae"]]
        assert trial["threshold"] == boost
        assert trial["spec"]["interventions"] == [
            {"boost": trial["feature_index_in_sae"], "value": boost}
        ]
    assert data["boosts"]["mean"] == pytest.approx(sum(boosts.values()) / 3)
    assert "boosts calibrated under the fault" in show(data)


async def test_resumes(tmp_path: Path, replayed: ReplayedRun) -> None:
    await replaying.resumes(EXPERIMENT, Config().parts()[0], tmp_path, replayed, stop=11)


def test_shares_by_hand() -> None:
    outcomes = [
        *(replaying_outcome(1, "a", (10.0, 60.0)), replaying_outcome(1, "b", (50.0,))),
        *(replaying_outcome(2, "a", (30.0, 10.0)), replaying_outcome(2, "b", None)),
    ]
    kinds: tuple[dict[str, int], ...] = (
        {"own": 1, "other": 3, "none": 0},
        {"own": 4},
        {"other": 4},
        {},
    )
    found = pairing.steered_by([pairing.Tokens(o, k) for o, k in zip(outcomes, kinds, strict=True)])
    assert (found["trials"], found["tokens"]) == (3, 12)
    assert found["other"]["rate"] == pytest.approx(7 / 12)
    assert found["other_by_outcome"] == {
        "improved": 0.75,
        "restarted, not improved": 1.0,
        "single": 0.0,
    }
    nothing = pairing.steered_by([pairing.Tokens(outcomes[0], {})])
    assert (nothing["tokens"], nothing["own"]["rate"]) == (0, None)


def replaying_outcome(latent: int, prompt: str, scores: tuple[float, ...] | None) -> Any:
    from esr.analysis.outcomes import Outcome

    status = "graded" if scores else "failed"
    return Outcome(latent, f"{latent}/{prompt}", scores, status, prompt=prompt)


def test_dry_run_counts_every_dose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().out
    for dose in (1, 5, 10):
        assert f"trials, {dose} in flight" in said
    assert said.count("trials, 50 in flight") == 2
    assert "calibration" in said


async def test_dry_run_counts_the_parents_trials(tmp_path: Path, replayed: ReplayedRun) -> None:
    file = replayed.path / "results.json"
    config = parse(Config, "test", ["70b", "--from-results", str(file), "--n-trials", "2"])
    plan = EXPERIMENT.stages(config, scripted.spec(tmp_path))
    assert [stage.responses for stage in plan if stage.name.startswith("trials")] == [12] * 5


def test_no_parent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["tiny", "--output", str(tmp_path / "none")]) == 2
    assert "no complete run of experiment_01_esr" in capsys.readouterr().err
