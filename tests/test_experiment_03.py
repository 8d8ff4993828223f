"""Experiment 3: planted detectors are found, and the ablation replays the very same trials."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from esr import models
from esr.analysis import comparison, metrics
from esr.analysis.outcomes import outcomes_from_results
from esr.engine.base import Generation, GenerationRequest, Reading, ReadRequest
from esr.errors import UserError
from esr.pipeline.detector_files import FILE_NAME, FIND, load
from esr.pipeline.experiment import Experiment, conduct, main
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.settings import wanted_run
from esr.runs.results import read_results
from esr.steering.interventions import Clamp, Scale
from esr.steering.pooling import Pool, add_rows
from esr.steering.sae import Dictionary, write_rows
from experiment_03_off_topic_detectors import ablate, find
from experiment_03_off_topic_detectors.config import AblateConfig, FindConfig
from tests import replaying, scripted

D_MODEL = 16
MISMATCH = 15
PLANTED = {5: 1.0, 17: 3.0, 33: 2.0}
"""Detectors and the strength of their encoders: the strongest is to rank first."""
PARTIAL = 21
"""Active on every mismatched pair and on a third of the matched ones: separable, not strict."""


def constructed(folder: Path) -> Dictionary:
    """A dictionary over a residual stream whose last direction says "does not answer"."""
    make = torch.Generator().manual_seed(3)
    encoder = torch.randn(scripted.D_SAE, D_MODEL, generator=make)
    encoder[:, MISMATCH] = 0.0
    bias = torch.zeros(scripted.D_SAE)
    for latent, strength in PLANTED.items():
        encoder[latent] = 0.0
        encoder[latent, MISMATCH] = strength
        bias[latent] = -0.5
    encoder[PARTIAL] = 0.0
    encoder[PARTIAL, MISMATCH], encoder[PARTIAL, MISMATCH - 1] = 1.0, 1.0
    bias[PARTIAL] = -0.5
    encoder[40] = 0.0  # dead
    return write_rows(
        folder / "rows.safetensors",
        encoder=encoder,
        encoder_bias=bias,
        threshold=torch.zeros(scripted.D_SAE),
        decoder=encoder.clone(),
        input_bias=torch.zeros(D_MODEL),
    )


class ConstructedEngine(scripted.ScriptedEngine):
    """Reads a made residual stream with a real dictionary, as a worker does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "calls.log")
        self.dictionary = constructed(folder)
        self.reads = 0

    async def generate(self, request: GenerationRequest) -> Generation:
        made = await super().generate(request)
        (topic,) = re.findall(r"thing (\d)", "".join(map(chr, request.prompt_token_ids)))
        return replace(made, text=f"about {topic}")

    async def read(self, request: ReadRequest) -> Reading:
        self.reads += 1
        text = "".join(map(chr, request.token_ids))
        asked, told = re.findall(r"(?:thing|about) (\d)", text)
        make = torch.Generator().manual_seed(int(asked) * 10 + int(told))
        stream = torch.randn(len(text), D_MODEL, generator=make)
        stream[:, MISMATCH] = float(asked != told)
        stream[:, MISMATCH - 1] = float(asked != told or int(asked) % 3 == 0)
        pool = Pool(scripted.D_SAE)
        add_rows(self.dictionary, [(pool, stream)])
        return Reading(request.request_id, pooled=pool.result())


async def search(
    folder: Path, config: FindConfig, engine: ConstructedEngine | None = None
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    made = engine or ConstructedEngine(folder)

    async def start() -> ConstructedEngine:
        return made

    with replaying.run_folder(FIND, folder) as run:
        run.update(config=config.identity())
        context = scripted.context(run, folder)
        context.start_engine = start
        await conduct(find.EXPERIMENT, config, context)
    data: dict[str, Any] = json.loads((run.path / FILE_NAME).read_text())
    return data


QUICK: dict[str, Any] = {"permutations": 100, "top": 4}


async def test_planted_latents_are_found_by_both_methods(tmp_path: Path) -> None:
    found = await search(tmp_path, FindConfig(**QUICK))
    assert found["off_topic_detectors"] == [17, 33, 5], "all mismatched pairs; the stronger first"
    assert set(found["separability_detectors"]) == {*PLANTED, PARTIAL}
    assert found["pairs"]["matched"] == 8
    assert found["pairs"]["mismatched"] == 40
    stats = found["detector_stats"]
    for latent in PLANTED:
        assert stats[str(latent)]["normal_active_frequency"] == 0
        assert stats[str(latent)]["shuffled_active_frequency"] == 1
        assert stats[str(latent)]["auc"] == 1
        assert stats[str(latent)]["label"] == f"subject {latent}"
    assert stats[str(PARTIAL)]["normal_active_frequency"] == pytest.approx(3 / 8)
    assert stats["17"]["shuffled_mean_activation"] == pytest.approx(2.5)
    # The planted latents are perfect, and more relabelings than one in twenty reach no AUC of 1.
    assert found["separability_null"]["largest_auc_95"] < 1
    assert found["separability_null"]["latents_above_95"] >= 3


async def test_a_tight_share_finds_none_and_says_so(tmp_path: Path) -> None:
    """Without planted latents nothing passes, and the file names separability as the method."""
    engine = ConstructedEngine(tmp_path)
    make = torch.Generator().manual_seed(4)
    noise = torch.randn(scripted.D_SAE, D_MODEL, generator=make)
    zeros = torch.zeros(scripted.D_SAE)
    engine.dictionary = write_rows(
        tmp_path / "noise.safetensors",
        noise,
        zeros,
        zeros.clone(),
        noise.clone(),
        torch.zeros(D_MODEL),
    )
    found = await search(tmp_path, FindConfig(**QUICK), engine)
    assert found["off_topic_detectors"] == []
    path = next(tmp_path.glob(f"results/*/*/*/{FILE_NAME}"))
    assert load(path).method == "separability"
    shown = find.show(json.loads((path.parent / "results.json").read_text()))
    assert "none passes; the nearest is latent" in shown
    assert "separable latents, so named" in shown


async def test_a_repeated_search_reads_and_generates_nothing(tmp_path: Path) -> None:
    first = await search(tmp_path, FindConfig(**QUICK))
    engine = ConstructedEngine(tmp_path)
    assert await search(tmp_path, FindConfig(**QUICK), engine) == first
    assert engine.reads == engine.calls == 0


async def test_several_responses_per_prompt(tmp_path: Path) -> None:
    config = FindConfig(**QUICK, responses_per_prompt=2, derangements=3)
    found = await search(tmp_path, config)
    assert found["off_topic_detectors"] == [17, 33, 5]
    assert found["pairs"]["matched"] == 16
    assert found["pairs"]["mismatched"] == 48


async def test_more_derangements_than_prompts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--derangements 8 with 8 prompts"):
        await search(tmp_path, FindConfig(derangements=8))


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


@pytest.fixture
def detectors(tmp_path: Path) -> Path:
    path = tmp_path / "detectors.json"
    stats = {"17": {"cohens_d": 0.4}, "33": {"cohens_d": -0.1}, "5": {"cohens_d": 0.2}}
    data = {"off_topic_detectors": [17, 33, 5], "detector_stats": stats, "method": "strict"}
    path.write_text(json.dumps(data))
    return path


async def made_specs(folder: Path, replayed: ReplayedRun, config: AblateConfig) -> Any:
    with replaying.run_folder(ablate.EXPERIMENT.name, folder) as run:
        context = replaying.context(run, folder, replayed)
        return await ablate.specs(config, context), list(
            replayed.specs(context.prompts, context.sampling)
        )


async def test_the_ablation_replays_the_very_same_trials(
    tmp_path: Path, replayed: ReplayedRun, detectors: Path
) -> None:
    made, before = await made_specs(tmp_path, replayed, AblateConfig(detectors=str(detectors)))
    assert len(made) == len(before) == 30
    for spec, parents in zip(made, before, strict=True):
        assert spec.interventions == (*parents.interventions, Clamp(17), Clamp(33), Clamp(5))
        assert spec.sampling == parents.sampling, "the seed is the parent's"
        same = replace(spec, arm=parents.arm, interventions=parents.interventions)
        assert same == parents


async def test_doses_and_signs_are_arms(
    tmp_path: Path, replayed: ReplayedRun, detectors: Path
) -> None:
    config = AblateConfig(detectors=str(detectors), doses=(0.0, 0.5, 1.0, 2.0), split="sign")
    made, before = await made_specs(tmp_path, replayed, config)
    by_arm = {spec.arm: spec.interventions[1:] for spec in made}
    assert by_arm == {
        "ablation": (Clamp(17), Clamp(33), Clamp(5)),
        "dose-0.5": (Scale(17, 0.5), Scale(33, 0.5), Scale(5, 0.5)),
        "dose-1": (Scale(17, 1.0), Scale(33, 1.0), Scale(5, 1.0)),
        "dose-2": (Scale(17, 2.0), Scale(33, 2.0), Scale(5, 2.0)),
        "ablation-positive": (Clamp(17), Clamp(5)),
        "ablation-negative": (Clamp(33),),
    }
    assert len({spec.key for spec in made}) == len(made) == 6 * len(before)


async def test_results_compare_with_the_parent(
    tmp_path: Path, replayed: ReplayedRun, detectors: Path
) -> None:
    config = AblateConfig(detectors=str(detectors), doses=(0.0, 1.0))
    path = await replaying.child_run(ablate.EXPERIMENT, config, tmp_path, replayed)
    data = read_results(path).raw
    assert data["ablated_latents"] == [17, 33, 5]
    arm = data["arms"]["ablation"]
    outcomes = outcomes_from_results(data, "ablation")
    assert arm["summary"] == metrics.summary(outcomes, 0)
    assert data["baseline"] == metrics.summary(replayed.outcomes(), 0)
    assert arm["comparison"] == comparison.summary(outcomes, replayed.outcomes(), 0)
    assert arm["comparison"]["multi_attempt_rate"]["paired"]["pairs"] > 0
    assert arm["identical_responses"]["n"] == 30
    assert arm["boosted_latent_clamped"] == sum(o.latent in (17, 33, 5) for o in outcomes)
    shown = ablate.show(data)
    assert "3 latents chosen by strict" in shown
    assert "McNemar" in shown


async def test_new_prompts_have_a_baseline_of_their_own(
    tmp_path: Path, replayed: ReplayedRun, detectors: Path
) -> None:
    config = AblateConfig(detectors=str(detectors), prompts="held-out", n_trials=2)
    made, _ = await made_specs(tmp_path, replayed, config)
    base = [s for s in made if s.arm == ablate.BASELINE]
    other = [s for s in made if s.arm == "ablation"]
    assert len(base) == len(other) == 2 * len(replayed.thresholds())
    thresholds = replayed.thresholds()
    for spec, ablated in zip(base, other, strict=True):
        assert spec.threshold == thresholds[spec.latent].value
        assert ablated.sampling == spec.sampling
        assert ablated.trial_id == spec.trial_id
    data = read_results(
        await replaying.child_run(ablate.EXPERIMENT, config, tmp_path / "run", replayed)
    ).raw
    own = outcomes_from_results(data, ablate.BASELINE)
    assert data["baseline"] == metrics.summary(own, 0)


async def test_resumes(tmp_path: Path, replayed: ReplayedRun, detectors: Path) -> None:
    config = AblateConfig(detectors=str(detectors))
    await replaying.resumes(ablate.EXPERIMENT, config, tmp_path, replayed, stop=11)


def test_the_run_is_named_by_the_detectors_not_by_the_path(tmp_path: Path, detectors: Path) -> None:
    copy = tmp_path / "copy.json"
    copy.write_text(detectors.read_text())
    one, two = AblateConfig(detectors=str(detectors)), AblateConfig(detectors=str(copy))
    assert one.identity() == two.identity()
    copy.write_text(json.dumps({"off_topic_detectors": [17, 33]}))
    assert one.identity() == two.identity(), "a run keeps the detectors it has started with"
    assert one.identity() != AblateConfig(detectors=str(copy)).identity()


def test_the_newest_search_on_discovery_prompts_is_taken(tmp_path: Path) -> None:
    for day, (name, prompts, status) in enumerate(
        [
            ("old", "discovery", "complete"),
            ("usual", "discovery", "complete"),
            ("held-out", "held-out", "complete"),
            ("of trials", "", "complete"),
            ("broken", "discovery", "failed"),
        ]
    ):
        folder = tmp_path / FIND / "tiny" / name
        folder.mkdir(parents=True)
        run = wanted_run(FindConfig(prompts=prompts), models.get("tiny"))
        state = run.updated(status=status, started=f"2026-01-0{day + 1}")
        (folder / "run.json").write_text(json.dumps(state.plain()))
        (folder / FILE_NAME).write_text(json.dumps({"off_topic_detectors": [day]}))
    assert AblateConfig(output=str(tmp_path)).detector_set.latents == (1,)


async def test_detectors_of_another_model_are_refused(
    tmp_path: Path, replayed: ReplayedRun, detectors: Path
) -> None:
    data = json.loads(detectors.read_text())
    for wrong in ({"model_name": "gemma-2b"}, {"model_digest": "f" * 16}):
        detectors.write_text(json.dumps({**data, **wrong}))
        with pytest.raises(UserError, match="were found on"):
            await made_specs(tmp_path, replayed, AblateConfig(detectors=str(detectors)))
    detectors.write_text(json.dumps({**data, "off_topic_detectors": [5, 60]}))
    with pytest.raises(UserError, match="latent 60"):
        await made_specs(tmp_path, replayed, AblateConfig(detectors=str(detectors)))


@pytest.mark.parametrize("experiment", [find.EXPERIMENT, ablate.EXPERIMENT])
def test_dry_run_needs_nothing(
    experiment: Experiment[Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(experiment, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    assert "Llama-3.3-70B" in capsys.readouterr().out
    assert main(experiment, ["70b", "--doses", "-1", "--derangements", "0"]) == 2


def test_a_dry_run_counts_the_prompts_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for prompts, n in ((["--prompts", "how-to"], 38), (["--prompts", "held-out"], 20), ([], 38)):
        assert main(find.EXPERIMENT, ["70b", "--dry-run", *prompts]) == 2
        row = next(r for r in capsys.readouterr().out.splitlines() if "unsteered responses" in r)
        assert row.split()[2] == str(n)


def test_without_a_search_the_next_command_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(ablate.EXPERIMENT, ["tiny", "--output", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "python -m experiment_01_esr tiny" in told
    assert "python -m experiment_03_off_topic_detectors find tiny" in told
    assert told.splitlines()[-1].startswith("error: missing: parent run, detectors")
