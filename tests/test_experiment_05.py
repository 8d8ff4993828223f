"""Experiment 5: the parent's trials under meta-prompts, with new seeds, one run per meta-prompt."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from esr.analysis import metrics
from esr.analysis.outcomes import outcomes_from_results
from esr.engine.base import Engine
from esr.errors import SpendLimitError, UserError
from esr.judge.ledger import Ledger
from esr.models.prompts import PromptSet
from esr.pipeline.experiment import main, run
from esr.pipeline.replay import ReplayedRun
from esr.runs.results import read_results
from experiment_05_prompt_variants.config import Config
from experiment_05_prompt_variants.run import EXPERIMENT, runs, show, specs, variants
from tests import replaying, scripted

MINE = "{prompt} Not a word about {latent_label}, {please}."


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


@pytest.mark.parametrize(
    ("name", "arm", "template"),
    [
        ("self_monitor", "self_monitor", "{prompt} Watch yourself."),
        ("ignore_latent_label", "ignore_latent_label", "{prompt} Ignore {latent_label}."),
        (MINE, f"template-{hashlib.sha256(MINE.encode()).hexdigest()[:8]}", MINE),
    ],
)
async def test_specs_render_the_prompt_and_draw_new_seeds(
    tmp_path: Path, replayed: ReplayedRun, name: str, arm: str, template: str
) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as folder:
        context = replaying.context(folder, tmp_path, replayed)
        made = await specs(Config(variants=(name,)), context)
        before = list(replayed.specs(context.prompts, context.sampling))
    assert len(made) == len(before) == 30
    for spec, parents in zip(made, before, strict=True):
        label = f"subject {spec.latent}"
        assert spec.prompt == (
            template.replace("{prompt}", parents.prompt).replace("{latent_label}", label)
        )
        assert spec.arm == arm
        assert spec.sampling.seed != parents.sampling.seed
        # Latent, boost, prompt and trial id are the parent's.
        seeded = replace(spec.sampling, seed=parents.sampling.seed)
        assert replace(spec, arm=parents.arm, prompt=parents.prompt, sampling=seeded) == parents
    assert len({spec.sampling.seed for spec in made}) == 30


async def test_variants_differ_in_their_seeds(tmp_path: Path, replayed: ReplayedRun) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as folder:
        context = replaying.context(folder, tmp_path, replayed)
        one, other = [
            [s.sampling.seed for s in await specs(Config(variants=(v,)), context)]
            for v in ("self_monitor", "ignore_latent_label")
        ]
    assert not set(one) & set(other)


async def test_meta_prompt_without_steering(tmp_path: Path, replayed: ReplayedRun) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as folder:
        context = replaying.context(folder, tmp_path, replayed)
        steered = await specs(Config(variants=("self_monitor",)), context)
        made = await specs(Config(variants=("self_monitor",), no_steering=True), context)
    for spec, other in zip(made, steered, strict=True):
        assert (spec.arm, spec.interventions) == ("self_monitor/no-steering", ())
        assert (spec.prompt, spec.sampling) == (other.prompt, other.sampling)


async def test_results_follow_the_schema_and_the_judge_sees_the_full_prompt(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    config = Config(variants=("ignore_latent_label",))
    data = read_results(await replaying.child_run(EXPERIMENT, config, tmp_path, replayed)).raw
    facts = data["experiment_config"]
    assert facts["prompt_variant_id"] == "ignore_latent_label"
    assert facts["prompt_variant_template"] == "{prompt} Ignore {latent_label}."
    judged = [c for c in (tmp_path / "calls.log").read_text().splitlines() if "verdict" in c]
    assert len(judged) == 30
    assert all(
        re.match(r"verdict How do I do thing \d\? Ignore subject \d+\. \|", c) for c in judged
    )
    thresholds = replayed.thresholds()
    for entry in data["results_by_feature"]:
        threshold = thresholds[entry["feature_index_in_sae"]].value
        assert {t["threshold"] for t in entry["trials"]} == {entry["threshold"]} == {threshold}
    outcomes = outcomes_from_results(data)
    assert data["summary"] == metrics.summary(outcomes, 0)
    compared = data["comparison"]["multi_attempt_rate"]
    assert compared["first"] == data["summary"]["multi_attempt_rate"]["rate"]
    assert compared["second"] == data["baseline"]["summary"]["multi_attempt_rate"]["rate"]
    assert compared["paired"]["pairs"] > 0
    assert "ignore_latent_label, Scripted, judge scripted" in show(data)


async def test_resumes(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config(variants=("self_monitor",))
    await replaying.resumes(EXPERIMENT, config, tmp_path, replayed, stop=13)


def test_one_run_per_variant(tmp_path: Path) -> None:
    model = replace(scripted.spec(tmp_path), prompt_set="organism")
    four = ("dont_get_distracted", "ignore_latent_label", "self_monitor", "resist_manipulation")
    made = runs(Config(), model)
    assert [config.variants for config in made] == [(name,) for name in four]
    asked = Config(variants=("self_monitor", MINE, "self_monitor"))
    assert [config.variants for config in runs(asked, model)] == [("self_monitor",), (MINE,)]


def test_unknown_variants_and_sets_without_any(tmp_path: Path) -> None:
    model = replace(scripted.spec(tmp_path), prompt_set="organism")
    with pytest.raises(UserError, match="unknown meta-prompt 'nonsense'"):
        runs(Config(variants=("self_monitor", "nonsense")), model)
    with pytest.raises(UserError, match="no meta-prompts"):
        variants(Config(), PromptSet("bare", scripted.PROMPTS.prompts))


def test_dry_run_of_the_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    shown = capsys.readouterr().out
    assert len(re.findall(r"^  \w+ +5,000 ", shown, re.MULTILINE)) == 4
    assert "judge, at most: 20,000 calls" in shown
    arguments = ["70b", "--variants", "self_monitor", MINE, "--dry-run", "--output", str(tmp_path)]
    assert main(EXPERIMENT, arguments) == 2
    assert "different denominators? Not a word about {latent_label}" in capsys.readouterr().out


class Closed(scripted.ScriptedEngine):
    """Counts engines started and closed."""

    alive = 0
    started = 0

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        Closed.alive += 1
        Closed.started += 1

    async def close(self) -> None:
        Closed.alive -= 1


async def test_one_command_starts_one_engine(
    tmp_path: Path, replayed: ReplayedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    Closed.alive = Closed.started = 0

    async def start(*_: object) -> Engine:
        return Closed(tmp_path / "calls.log")

    monkeypatch.setattr("esr.pipeline.engines.start_engine", start)
    monkeypatch.setattr("esr.models.chat.load", lambda *_: scripted.ScriptedChat())
    model = replace(scripted.spec(tmp_path), prompt_set="organism", judge="lexical")
    config = Config(
        variants=("self_monitor", "resist_manipulation"),
        from_results=str(replayed.path / "results.json"),
        output=str(tmp_path / "results"),
    )
    await run(EXPERIMENT, config, model)
    assert (Closed.started, Closed.alive) == (1, 0)
    found = sorted((tmp_path / "results").glob("*/*/*/results.json"))
    ids = {read_results(path).raw["experiment_config"]["prompt_variant_id"] for path in found}
    assert ids == {"self_monitor", "resist_manipulation"}


async def test_spend_limit_covers_the_whole_command(
    tmp_path: Path, replayed: ReplayedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run costs about $0.03: with a limit of 0.02, the second does not start."""

    async def start(*_: object) -> Engine:
        return Closed(tmp_path / "calls.log")

    judged = scripted.ScriptedJudge(tmp_path / "calls.log")
    monkeypatch.setattr("esr.pipeline.engines.start_engine", start)
    monkeypatch.setattr("esr.models.chat.load", lambda *_: scripted.ScriptedChat())

    def create(_: str, *, ledger: Ledger, **__: object) -> scripted.ScriptedJudge:
        judged.ledger = ledger
        return judged

    monkeypatch.setattr("esr.judge.create", create)
    model = replace(scripted.spec(tmp_path), prompt_set="organism", judge="lexical")
    config = Config(
        variants=("self_monitor", "resist_manipulation"),
        from_results=str(replayed.path / "results.json"),
        output=str(tmp_path / "results"),
        max_spend=0.02,
    )
    with pytest.raises(SpendLimitError):
        await run(EXPERIMENT, config, model)
    assert judged.calls == 30
