"""Experiment 12: values at equal effect, the same trials under each operator, and the defence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from esr.analysis.outcomes import Outcome
from esr.directions.geometry import changes, placed
from esr.engine.base import Generation, GenerationRequest, Reading, ReadRequest
from esr.errors import UserError
from esr.models import SaeSource
from esr.pipeline.experiment import conduct
from esr.pipeline.replay import ReplayedRun
from esr.runs.results import read_results
from esr.steering import sae
from esr.steering.in_play import load
from esr.steering.interventions import Boost, Slot, slot_of
from esr.steering.operators import Steer
from esr.steering.sae import Dictionary, write_rows
from experiment_12_steering_operators import commands, defence, run
from experiment_12_steering_operators.config import OPERATORS, Config, DefenceConfig
from experiment_12_steering_operators.variants import Concepts, Variant
from plotting import plot_exp12
from tests import replaying, scripted

WIDTH = 8
CONCEPT = torch.tensor([0.0, 3.0, 4.0, 0, 0, 0, 0, 0])


@pytest.fixture
def dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dictionary:
    """A random dictionary of the scripted model's width, in the place of its SAE."""
    make = torch.Generator().manual_seed(2)
    rows = torch.randn(scripted.D_SAE, WIDTH, generator=make)
    none = torch.zeros(scripted.D_SAE)
    made = write_rows(
        tmp_path / "rows.safetensors",
        encoder=rows,
        encoder_bias=none,
        threshold=none.clone(),
        decoder=2 * rows / rows.norm(dim=1, keepdim=True),
        input_bias=torch.zeros(WIDTH),
    )

    def loaded(_: SaeSource) -> Dictionary:
        return made

    monkeypatch.setattr(sae, "load", loaded)
    return made


class PushedEngine(scripted.ScriptedEngine):
    """The longer the change of a typical row, the more a response drifts; log-probabilities of
    the steered model lie above the others by it."""

    def __init__(self, log: Path, dictionary: Dictionary) -> None:
        super().__init__(log)
        self.dictionary = dictionary
        self.reads: list[ReadRequest] = []

    def pushed(self, items: Sequence[Any]) -> float:
        stream = torch.zeros(1, WIDTH)
        if not items:
            return 0.0
        steered = placed([replace(slot_of(item), scope="all") for item in items], 1)
        return float(changes(stream + 1e-3, steered, self.dictionary)[0, 1]) * math.sqrt(8) * 1e-3

    async def generate(self, request: GenerationRequest) -> Generation:
        push = self.pushed(request.interventions)
        fake = replace(request, interventions=(Boost(0, push),) if push else ())
        return await super().generate(fake)

    async def read(self, request: ReadRequest) -> Reading:
        self.reads.append(request)
        n = len(request.token_ids) - request.first_token
        if request.logprobs:
            # Both reads of a text see the same tokens: the drift says how far it was pushed.
            text = "".join(map(chr, request.token_ids[request.first_token :]))
            gain = 0.1 * text.count("off ") if request.interventions else 0.0
            return Reading(request.request_id, logprobs=torch.full((n,), gain - 1))
        text = "".join(map(chr, request.token_ids[: request.first_token]))
        rows = n if request.states == "all" else 1
        seed = scripted.number(str(request.token_ids) + str(request.layer), 2**31)
        state = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))
        return Reading(request.request_id, states=state + CONCEPT * ("subject" in text))


def opened(
    open_run: Any, folder: Path, replayed: ReplayedRun, dictionary: Dictionary
) -> tuple[Any, PushedEngine]:
    context = replaying.context(open_run, folder, replayed)
    engine = PushedEngine(folder / "calls.log", dictionary)

    async def start() -> PushedEngine:
        return engine

    context.start_engine = start
    return context, engine


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


async def child(
    experiment: Any, config: Any, folder: Path, replayed: ReplayedRun, dictionary: Dictionary
) -> tuple[dict[str, Any], PushedEngine]:
    with replaying.run_folder(experiment.name, folder) as open_run:
        open_run.update(organism=False, title="Scripted", config=config.identity())
        context, engine = opened(open_run, folder, replayed, dictionary)
        await conduct(experiment, config, context)
    return read_results(open_run.path).raw, engine


def drawn(folder: Path, experiment: str, name: str) -> tuple[pd.DataFrame, str]:
    """Numbers and caption of a figure of what has been run below ``folder``."""
    (run_folder,) = (folder / "results" / experiment / "scripted").glob("*")
    (folder / "none").mkdir()
    where = ["--results", str(folder / "none"), "--run", str(run_folder)]
    # 1 where the defence alone was run: the figure of the comparison is empty then.
    assert plot_exp12.main([*where, "--output", str(folder)]) == int(experiment == defence.NAME)
    return pd.read_csv(folder / f"{name}.csv"), (folder / f"{name}.caption.md").read_text()


OPTIONS: dict[str, Any] = {"n_latents": 3, "n_trials": 4, "n_texts": 15, "geometry": 3}


async def test_every_operator_is_brought_to_the_same_effect(
    tmp_path: Path, replayed: ReplayedRun, dictionary: Dictionary
) -> None:
    config = Config(output=str(tmp_path / "results"), **OPTIONS)
    data, _ = await child(run.EXPERIMENT, config, tmp_path, replayed, dictionary)
    arms = data["arms"]
    assert set(arms) == {
        "score-boost",
        *(f"{kind}-{name}" for kind in ("score", "kl") for name in OPERATORS if name != "boost"),
    }
    boost = arms["score-boost"]
    assert boost["parent"]
    assert boost["values"] == {
        str(k): replayed.thresholds()[k].value for k in list(replayed.thresholds())[:3]
    }
    for name, arm in arms.items():
        done = set(arm["values"]) | set(arm["failed"])
        assert done == set(boost["values"]), name
        assert arm["summary"]["counts"]["trials"] == 4 * len(arm["values"])
        if arm["calibration"] == "kl":
            for latent in arm["values"]:
                target = boost["divergences"][latent]
                assert arm["divergences"][latent] == pytest.approx(target, rel=0.25)
        if arm["values"]:
            assert arm["geometry"]["tokens"] > 0
            assert 0 <= arm["geometry"]["open_share"] <= 1
    # An open loop moves every token as far as the boost: the same values.
    for latent, value in arms["kl-diffmean"]["values"].items():
        assert value == pytest.approx(boost["values"][latent], rel=0.3)
    assert arms["kl-diffmean"]["geometry"]["open_share"] == 1.0
    assert run.show(data).count("\n") > len(arms)
    table, caption = drawn(tmp_path, run.NAME, plot_exp12.OPERATORS)
    equal = "Scripted, at equal KL of the first 32 tokens"
    shown = table[(table["title"] == equal) & (table["quantity"] == "multi_attempt_rate")]
    rates = shown.set_index("arm")["value"]
    assert rates["boost (parent)"] == data["baseline"]["multi_attempt_rate"]["rate"]
    with_values = {k.removeprefix("kl-") for k, a in arms.items() if a["values"] and k[:2] == "kl"}
    assert set(rates.index) == {"boost (parent)", *with_values}
    for name in with_values:
        rate = arms[f"kl-{name}"]["summary"]["multi_attempt_rate"]["rate"]
        assert rates[name] == pytest.approx(rate)
    assert "diffmean: 3 latents" in caption


async def test_the_trials_are_the_parents(
    tmp_path: Path, replayed: ReplayedRun, dictionary: Dictionary
) -> None:
    config = Config(
        output=str(tmp_path / "results"), operators=("sttp",), calibrations=("score",), **OPTIONS
    )
    with replaying.run_folder(run.NAME, tmp_path) as open_run:
        context, engine = opened(open_run, tmp_path, replayed, dictionary)
        made = await run.specs(config, context)
        parents = {spec.trial_id: spec for spec in run.parent_trials(config, context)}
        calls = engine.calls
        assert await run.specs(config, context) == made
        assert engine.calls == calls, "nothing is done twice"
    assert made
    for spec in made:
        before = parents[spec.trial_id]
        assert spec.sampling == before.sampling
        assert spec.prompt == before.prompt
        assert all(isinstance(item, Slot) and item.gated for item in spec.interventions)


async def test_equal_values_move_a_typical_token_equally_far(
    tmp_path: Path, replayed: ReplayedRun, dictionary: Dictionary
) -> None:
    config = Config(output=str(tmp_path / "results"), **OPTIONS)
    with replaying.run_folder(run.NAME, tmp_path) as open_run:
        context, _ = opened(open_run, tmp_path, replayed, dictionary)
        latent = next(iter(replayed.labels()))
        concepts = await Concepts.read(context, {latent: "subject"}, config, (1, 2))
        typical = {
            name: fit.negative.mean * direction.vectors[0]
            for name in OPERATORS
            if name not in ("boost", "rotate")
            for direction in [concepts.direction(latent, name)]
            for fit in direction.fits[:1]
            if fit.negative
        }
        for name, row in typical.items():
            slots = concepts.at(Variant(name), latent, 1.5)
            moved = changes(row[None], placed(slots, 1), dictionary)[0]
            # The decoder rows are 2 long.
            assert float(moved[1]) * float(row.norm()) == pytest.approx(3.0, rel=1e-3), name
        both = concepts.at(Variant("diffmean", (1, 2)), latent, 1.5)
        assert [slot_of(item).layer for item in both] == [1, 2]
        rows = load(dictionary, [slot_of(item).write for item in both]).decoder
        pushes = [slot_of(item).boost for item in both]
        assert [p * float(r.norm()) for p, r in zip(pushes, rows, strict=True)] == pytest.approx(
            [1.5, 1.5], rel=1e-3
        )
        high = concepts.half_turn(Variant("rotate"), latent)
        (still, *_) = concepts.at(Variant("rotate"), latent, 0.9999 * high)
        assert slot_of(still).gain == pytest.approx(-2.0, abs=0.05), "half a turn: cos T - 1"
        assert concepts.half_turn(Variant("sttp"), latent) == math.inf
        swept = concepts.at(Variant("boost", (2,)), latent, 1.5)
        assert swept == (Boost(latent, 1.5, 2),)


async def test_a_sweep_has_an_arm_per_layer_at_equal_divergence(
    tmp_path: Path, replayed: ReplayedRun, dictionary: Dictionary
) -> None:
    config = Config(
        output=str(tmp_path / "results"),
        operators=("boost", "diffmean"),
        layer_sweep=True,
        layers=(0, 1),
        **OPTIONS,
    )
    assert run.layers_of(config, scripted.spec(tmp_path)) == (0, 1)
    data, _ = await child(run.EXPERIMENT, config, tmp_path, replayed, dictionary)
    assert set(data["arms"]) == {"kl-boost@0", "kl-boost@1", "kl-diffmean@0", "kl-diffmean@1"}
    table, caption = drawn(tmp_path, run.NAME, plot_exp12.LAYERS)
    assert {"diffmean@0", "diffmean@1"} <= set(table["arm"])
    assert "at one layer each" in caption
    assert pd.read_csv(tmp_path / "exp12_operators.csv").empty


async def test_a_steering_file_is_one_more_arm(
    tmp_path: Path, replayed: ReplayedRun, dictionary: Dictionary
) -> None:
    file = tmp_path / "steer.toml"
    file.write_text("[[boost]]\nlatent = 4\nvalue = 2.5\nlayer = 2\n")
    config = Config(
        output=str(tmp_path / "results"),
        operators=("boost",),
        calibrations=("score",),
        steering=str(file),
        **OPTIONS,
    )
    assert config.identity()["steering"] == [{"boost": 4, "value": 2.5, "layer": 2}]
    assert run.layers_of(config, scripted.spec(tmp_path)) == (1, 2)
    data, _ = await child(run.EXPERIMENT, config, tmp_path, replayed, dictionary)
    assert set(data["arms"]) == {"score-boost", "file"}
    trials = [t for f in data["results_by_feature"] for t in f["trials"]]
    assert len(trials) == 12
    assert all(t["spec"]["interventions"] == config.identity()["steering"] for t in trials)


async def test_the_defence_is_counted_against_both_ends(
    tmp_path: Path, replayed: ReplayedRun, dictionary: Dictionary
) -> None:
    config = DefenceConfig(output=str(tmp_path / "results"), swfc=(1.0,), stmp=(1.0,), **OPTIONS)
    data, _ = await child(defence.EXPERIMENT, config, tmp_path, replayed, dictionary)
    assert data["defence_layers"] == [2]
    assert set(data["arms"]) == {"swfc 1", "sttp 0", "sttp 6", "sttp 24", "stmp 1"}
    n = data["unsteered"]["counts"]["trials"]
    assert n == data["baseline"]["counts"]["trials"] == 12
    for arm in data["arms"].values():
        assert arm["defended"]["counts"]["trials"] == arm["clean"]["counts"]["trials"] == n
        assert arm["geometry"]["tokens"] > 0
    assert "restored" in defence.show(data)
    table, caption = drawn(tmp_path, defence.NAME, plot_exp12.GUARDS)
    assert {"no steering", "boost", "boost, sttp 6"} <= set(table["arm"])
    assert "Guards act at layers 2." in caption


def test_restored_and_cost_by_hand() -> None:
    def outcomes(*scores: float) -> list[Outcome]:
        return [Outcome(1, f"t{i}", (score,), "graded", False) for i, score in enumerate(scores)]

    arm = defence.arm(outcomes(50, 70), outcomes(80), outcomes(90), outcomes(20, 40), seed=0)
    assert arm["restored"] == pytest.approx((60 - 30) / (90 - 30))
    assert arm["cost"] == pytest.approx(10.0)
    assert defence.arm([], outcomes(80), outcomes(90), outcomes(20), 0)["restored"] is None
    nothing = defence.arm(outcomes(95), outcomes(80), outcomes(20), outcomes(30), 0)
    assert nothing["restored"] is None, "the boost took nothing"


def test_geometry_by_hand(dictionary: Dictionary) -> None:
    from tests.engine.formulas import numbers

    known = numbers(WIDTH, 2.0)
    stream = torch.stack([0.05 * known.v, 5 * known.v, -known.v])
    cap = placed(Steer(known.direction(0), "floor", low=1.0).slots, 3)
    table = changes(stream, cap, dictionary)
    torch.testing.assert_close(table[:, 0], torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(table[:, 1], torch.tensor([19.0, 0.0, 2.0]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(table[:, 2], torch.tensor([19.0, 0.0, 0.0]), rtol=1e-4, atol=1e-5)
    late = placed((Boost(3, 1.0, 0, "generated"),), 2)
    assert len(changes(stream, late, dictionary)) == 1, "the response alone"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--operators push", "unknown operator 'push'"),
        ("--operators ablate", "operator ablate is no push"),
        ("--operators sttp sttp", "--operators sttp sttp"),
        ("--layers 17", "--layers 17; allowed: 0 to 5"),
        ("--n-texts 3", "--n-texts 3"),
    ],
)
def test_bad_options_are_one_line(
    options: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"compare tiny --output {tmp_path} {options}"
    assert commands.main(line.split()) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_direction_that_parts_nothing_is_refused() -> None:
    from esr.steering.operators import strength_at
    from tests.engine.formulas import numbers

    known = numbers(WIDTH, 2.0)
    upside_down = replace(known, mean_positive=-3.0)
    with pytest.raises(UserError, match="does not part its texts"):
        strength_at("sttp", upside_down.direction(1), 1, 1.0)


def test_an_unknown_calibration_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commands.main(["tiny", "--calibrations", "score", "fair", "--dry-run"]) != 0
    assert "--calibrations: 'fair'; allowed: score, kl" in capsys.readouterr().err
