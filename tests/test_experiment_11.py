"""Experiment 11: what each control asks for, and what it makes of the answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from esr.analysis import metrics, nulls
from esr.analysis.outcomes import outcomes_from_results
from esr.directions import concepts
from esr.engine.base import Engine, Generation, GenerationRequest, Reading, ReadRequest
from esr.errors import UserError
from esr.pipeline.experiment import conduct, main
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.schema import TrialSpec
from esr.runs.commands import parse
from esr.runs.folder import RunFolder
from esr.runs.results import read_results
from esr.steering import directions
from esr.steering.direction import Direction, Fit
from esr.steering.interventions import Slot
from experiment_11_resistance_controls import matched, vectors
from experiment_11_resistance_controls.config import CONTROLS, Config
from experiment_11_resistance_controls.controls import ALL
from experiment_11_resistance_controls.episodes import Beginnings, episodes
from experiment_11_resistance_controls.run import EXPERIMENT, chosen, show, specs
from tests import replaying, scripted

GIVEN = ("redraw", "position", "prefill-unsteered", "prefill-steered", "matched-prefix", "scope")
OFFLINE = (*GIVEN, "blind", "length")
"""Controls that need no direction."""


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


@dataclass
class Continuing:
    """The scripted engine, which goes on from a given beginning, and says more without a boost."""

    engine: Engine

    async def generate(self, request: GenerationRequest) -> Generation:
        answer = await self.engine.generate(request)
        prefix = "".join(map(chr, request.prefix_token_ids))
        said = answer.text if request.interventions else answer.text + " in many more words" * 3
        text = prefix + said
        return Generation(
            request.request_id, tuple(map(ord, text)), text, "stop", len(prefix), len(prefix)
        )

    async def read(self, request: ReadRequest) -> Reading:
        return await self.engine.read(request)

    def describe(self) -> dict[str, object]:
        return {"name": "continuing"}

    async def close(self) -> None:
        return None


def context(run: RunFolder, folder: Path, replayed: ReplayedRun) -> Any:
    made = replaying.context(run, folder, replayed)
    whole = made.start_engine

    async def start() -> Any:
        return Continuing(await whole())

    made.start_engine = start
    return made


async def ran(config: Config, folder: Path, replayed: ReplayedRun) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    with replaying.run_folder(EXPERIMENT.name, folder) as run:
        run.update(organism=False, title="Scripted", config=config.identity())
        await conduct(EXPERIMENT, config, context(run, folder, replayed))
    return read_results(run.path).raw


async def made(config: Config, folder: Path, replayed: ReplayedRun) -> tuple[Any, list[TrialSpec]]:
    with replaying.run_folder(EXPERIMENT.name, folder) as run:
        opened = context(run, folder, replayed)
        return opened, await specs(config, opened)


def parents(replayed: ReplayedRun) -> dict[str, Any]:
    return {t.name: t for t in replayed.answered() if t.scores and not t.error}


def test_every_control_has_a_question() -> None:
    assert list(ALL) == list(CONTROLS)


async def test_redraw_changes_the_seed_alone(tmp_path: Path, replayed: ReplayedRun) -> None:
    opened, asked = await made(Config(controls=("redraw",), redraws=3), tmp_path, replayed)
    before = {spec.trial_id: spec for spec in replayed.specs(opened.prompts, opened.sampling)}
    multi = [t.name for t in parents(replayed).values() if len(t.scores) > 1]
    assert Counter(spec.arm for spec in asked) == {f"redraw-{n}": len(multi) for n in (1, 2, 3)}
    assert {spec.trial_id for spec in asked} == {*multi}
    for spec in asked:
        old = before[spec.trial_id]
        assert replace(spec, arm=old.arm, sampling=old.sampling) == old
        assert replace(spec.sampling, seed=old.sampling.seed) == old.sampling
    seeds = {(spec.trial_id, spec.sampling.seed) for spec in asked}
    assert len(seeds) == 3 * len(multi)


async def test_beginnings_end_where_a_response_starts_over(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    _opened, steered = await made(Config(controls=("prefill-steered",)), tmp_path, replayed)
    _, unsteered = await made(Config(controls=("prefill-unsteered",)), tmp_path, replayed)
    graded, asked = parents(replayed), {s.trial_id: s for s in steered}
    multi = {name for name, trial in graded.items() if len(trial.scores) > 1}
    assert multi <= asked.keys() <= graded.keys()
    places = set()
    for name in multi:
        text = "".join(map(chr, asked[name].prefix_token_ids))
        assert text == graded[name].response.partition("Wait")[0]
        places.add(len(text))
    for name in asked.keys() - multi:
        prefix = asked[name].prefix_token_ids
        assert len(prefix) in places
        assert graded[name].response.startswith("".join(map(chr, prefix)))
    for spec in unsteered:
        partner = asked[spec.trial_id]
        assert (spec.interventions, spec.threshold) == ((), 0)
        assert spec.sampling == partner.sampling
        assert spec.prefix_token_ids == partner.prefix_token_ids
        assert spec.sampling.max_tokens == 512 - len(spec.prefix_token_ids)
    assert {s.arm for s in unsteered} == {"prefill-unsteered"}


async def test_matched_beginnings(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config(controls=("matched-prefix",), matched_tokens=4)
    _, asked = await made(config, tmp_path, replayed)
    graded = parents(replayed)
    arms: dict[str, dict[str, TrialSpec]] = {}
    for spec in asked:
        arms.setdefault(spec.arm, {})[spec.trial_id] = spec
    names = arms[matched.NATURAL].keys()
    assert names == {name for name, trial in graded.items() if len(trial.scores) > 1}
    for name in names:
        response = graded[name].response
        first, _, _ = response.partition("Wait")
        text = {a: "".join(map(chr, arms[a][name].prefix_token_ids)) for a in matched.ARMS}
        assert text[matched.REMOVED] == first
        assert response.startswith(text[matched.NATURAL])
        assert text[matched.NATURAL].startswith(text[matched.PHRASE])
        assert len(text[matched.NATURAL]) == len(text[matched.PHRASE]) + 4
        assert "Wait, that is not right" in text[matched.PHRASE]
        other = text[matched.ON_TOPIC].removeprefix(first)
        assert len(text[matched.ON_TOPIC]) == len(text[matched.NATURAL])
        assert "answer" in other
        assert "off " not in other, "of an unsteered response"
        assert len({arms[a][name].sampling for a in matched.ARMS}) == 1
        for arm in matched.ARMS:
            assert arms[arm][name].interventions, "the boost stays on"
            part = arms[arm + matched.CONTINUATION][name]
            assert part.given is not None
            assert not part.prefix_token_ids


async def test_scope_and_blind(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config(controls=("scope", "blind"), off_after=(16, 64))
    opened, asked = await made(config, tmp_path, replayed)
    graded = parents(replayed)
    scopes = {spec.arm: spec.scope for spec in asked if spec.arm.startswith("scope")}
    assert scopes == {
        "scope-prompt": "prompt",
        "scope-generated": "generated",
        "scope-until-16": "until 16",
        "scope-until-64": "until 64",
    }
    blind = {arm: [s for s in asked if s.arm == arm] for arm in {s.arm for s in asked} - {*scopes}}
    assert sorted(blind) == ["blind-hidden", "blind-shuffled", "blind-told"]
    for arm, trials in blind.items():
        assert len(trials) == len(graded)
        for spec in trials:
            assert spec.given == graded[spec.trial_id].response
            own = graded[spec.trial_id].feature_label
            told = {"blind-told": own, "blind-hidden": ""}.get(arm, spec.latent_label)
            assert spec.latent_label == told
            assert (spec.latent_label == own) == (arm == "blind-told")
    texts = Beginnings(
        episodes(replayed, list(replayed.specs(opened.prompts, opened.sampling))), opened.chat, 0
    )
    meta = replace(
        texts.episodes[0].spec, prompt="Watch yourself. " + texts.episodes[0].spec.prompt
    )
    longer = Beginnings([replace(texts.episodes[0], spec=meta)], opened.chat, 0)
    bare = [s for s in await ALL["blind"].specs(config, opened, longer) if s.arm.endswith("prompt")]
    assert [spec.prompt for spec in bare] == [texts.episodes[0].spec.prompt]


async def test_results_say_what_is_left(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config(controls=OFFLINE, matched_tokens=4)
    data = await ran(config, tmp_path, replayed)
    before = [o for o in outcomes_from_results(replayed.results) if o.graded]
    assert data["controls"] == list(OFFLINE)
    assert data["left_out"] == {}
    assert data["baseline"]["summary"] == metrics.summary(before, 0)
    for arm, entry in data["arms"].items():
        outcomes = outcomes_from_results(data, arm)
        expected = metrics.summary(outcomes, 0)
        assert entry["summary"]["counts"]["multi"] == expected["counts"]["multi"], arm
        assert entry["summary"]["mean_first_score"]["n"] == expected["mean_first_score"]["n"], arm
        assert entry["summary"]["esr_rate"]["n"] == expected["esr_rate"]["n"], arm
        assert entry["summary"]["esr_rate"]["rate"] == expected["esr_rate"]["rate"], arm
        assert entry["part"] == arm.startswith(("redraw", "position", "matched")), arm
    told = data["arms"]["blind-told"]
    assert told["summary"]["esr_rate"] == told["parent"]["esr_rate"], "the scripted judge is sure"
    redraws: dict[str, list[Any]] = {}
    for turn in range(1, 5):
        for redrawn in outcomes_from_results(data, f"redraw-{turn}"):
            redraws.setdefault(redrawn.trial_id, []).append(redrawn)
    expected_null = nulls.same_prompt_redraw(before, redraws).entry()
    assert data["findings"]["redraw"]["rate"] == pytest.approx(expected_null["rate"])
    assert data["findings"]["redraw"]["compared"] == expected_null["compared"] > 0
    heads, tails = (
        {o.trial_id: o for o in outcomes_from_results(data, f"position-{part}")}
        for part in ("head", "tail")
    )
    assert heads.keys() == tails.keys()
    whole = {t.name: t.response or "" for t in replayed.answered()}
    for trial in (t for f in data["results_by_feature"] for t in f["trials"]):
        if trial["arm"] == "position-head":
            assert whole[trial["trial_id"]].startswith(trial["response"])
        if trial["arm"] == "position-tail":
            assert whole[trial["trial_id"]].endswith(trial["response"])
    found = data["findings"]["prefill"]["all"]["multi_attempt_rate"]
    assert (
        found["first"] == data["arms"]["prefill-unsteered"]["summary"]["multi_attempt_rate"]["rate"]
    )
    assert {row["attempt"] for row in data["findings"]["length"]["attempts"]} == {
        "only attempt",
        "first of several",
        "last of several",
    }
    shown = show(data)
    assert "what this leaves of ESR" in shown
    for arm in ("blind-told", "scope-until-16", "prefill-steered", "prefill-unsteered"):
        assert f"  {arm} " in shown


async def test_resumes(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config(controls=("redraw", "scope"), n_latents=2)
    await replaying.resumes(EXPERIMENT, config, tmp_path, replayed, stop=11)


async def single(replayed: ReplayedRun) -> ReplayedRun:
    """A parent in which nothing starts over."""
    results = replayed.results.model_copy(deep=True)
    for feature in results.results_by_feature:
        feature.trials = [t for t in feature.trials if len(t.attempts) < 2]
    return replace(replayed, results=results)


async def test_a_parent_without_restarts(tmp_path: Path, replayed: ReplayedRun) -> None:
    parent = await single(replayed)
    free = ["scope", "concept", "random", "blind", "length"]
    assert chosen(Config(), parent) == free
    assert chosen(Config(), replayed) == list(CONTROLS)
    with pytest.raises(UserError, match=r"--controls position: no response of .* starts over"):
        chosen(Config(controls=("scope", "position")), parent)
    data = await ran(Config(controls=("scope", "length")), tmp_path, parent)
    assert set(data["left_out"]) == {*CONTROLS} - {*free}
    assert "redraw: left out, no response of" in show(data)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"controls": ("blinded",)}, "--controls blinded; allowed: redraw, position"),
        ({"controls": ("scope", "scope")}, "--controls scope scope; allowed: each once"),
        ({"off_after": (16, 16)}, "--off-after 16 16; allowed: each once"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        Config(**options)
    assert said in str(error.value)


async def test_a_beginning_longer_than_the_context(tmp_path: Path, replayed: ReplayedRun) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        opened = context(run, tmp_path, replayed)
        opened.spec = replace(opened.spec, context=20)
        with pytest.raises(UserError, match="exceed the context"):
            await specs(Config(controls=("prefill-steered",)), opened)


def test_dry_run_prices_every_control(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().out
    for name, question in CONTROLS.items():
        assert f"{name}: {question}" in said
    assert said.count("about $") >= len(CONTROLS) - 1


async def test_dry_run_of_one(tmp_path: Path, replayed: ReplayedRun) -> None:
    file = replayed.path / "results.json"
    typed = ["70b", "--from-results", str(file), "--controls", "redraw", "position"]
    plan = EXPERIMENT.stages(parse(Config, "test", typed), scripted.spec(tmp_path))
    outcomes = replayed.outcomes()
    multi = sum(outcome.multi for outcome in outcomes)
    assert [(stage.name, stage.responses, stage.asked) for stage in plan] == [
        ("redraw", 4 * multi, 0),
        ("position", 0, 2 * len(outcomes)),
    ]


LONG = {latent: 0.5 + latent / 100 for latent in range(scripted.D_SAE)}


@pytest.fixture
def decoder_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths of decoder rows: the scripted dictionary has no file."""
    monkeypatch.setattr(vectors, "lengths", lambda _, latents: {k: LONG[k] for k in latents})


@pytest.mark.usefixtures("decoder_rows")
async def test_random_vectors(tmp_path: Path, replayed: ReplayedRun) -> None:
    opened, asked = await made(Config(controls=("random",)), tmp_path, replayed)
    graded = parents(replayed)
    before = {s.trial_id: s for s in replayed.specs(opened.prompts, opened.sampling)}
    assert Counter(spec.arm for spec in asked) == {
        "random-norm": len(graded),
        "random-score": len(graded),
    }
    digests: dict[int, set[str]] = {}
    for spec in asked:
        (slot,) = spec.interventions
        assert isinstance(slot, Slot)
        assert slot.boost == pytest.approx(spec.threshold * LONG[spec.latent])
        assert (slot.read, slot.write.number) == (None, 0)
        digests.setdefault(spec.latent, set()).add(slot.write.digest)
        if spec.arm == "random-norm":
            assert spec.threshold == before[spec.trial_id].threshold
        assert spec.sampling == before[spec.trial_id].sampling
    assert all(len(own) == 1 for own in digests.values()), "both arms have the same vector"
    assert len({d for own in digests.values() for d in own}) == len(digests)
    for (digest,) in digests.values():
        vector = directions.load(digest)
        assert vector.layers == (1,)
        assert float(vector.vectors.norm()) == pytest.approx(1)


@pytest.mark.usefixtures("decoder_rows")
async def test_concept_vectors(
    tmp_path: Path, replayed: ReplayedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vector of each latent's own label, calibrated."""
    told: dict[int, str] = {}

    class Found:
        def __init__(self, latent: int) -> None:
            self.latent = latent

        def direction(self, method: str) -> Direction:
            assert method == "diffmean"
            vectors = torch.eye(8)[self.latent % 8][None]
            return Direction(f"about {self.latent}", vectors, (Fit(1),), method)

    async def read_concept(_: Any, latent: int, label: str, *, n_texts: int) -> Found:
        told[latent] = label
        assert n_texts == 12
        return Found(latent)

    monkeypatch.setattr(concepts, "read_concept", read_concept)
    config = Config(controls=("concept",), concept_texts=12)
    _, asked = await made(config, tmp_path, replayed)
    graded = parents(replayed)
    assert told == {t.latent: t.feature_label for t in graded.values()}
    assert {spec.arm for spec in asked} == {"concept"}
    assert len(asked) == len(graded)
    for spec in asked:
        (slot,) = spec.interventions
        assert isinstance(slot, Slot)
        assert directions.load(slot.write.digest).name == f"about {spec.latent}"
        assert slot.boost == pytest.approx(spec.threshold * LONG[spec.latent])
