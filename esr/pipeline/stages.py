"""What an experiment will ask of the engine and the judge, before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass

from esr.models import ModelSpec, prompts
from esr.pipeline import replay
from esr.pipeline.cli import CommonConfig, ReplayConfig


@dataclass(frozen=True)
class Stage:
    """One stage of an experiment.

    Attributes:
        name: e.g. "calibration".
        responses: to generate, at most.
        max_tokens: cap of each response.
        judged: whether each response is judged.
        reads: texts fed to read latents.
        asked: questions to the judge's model beside verdicts, at most.
        labels: whether the labels of the latents are needed.
        template: of the user turn, where it is not the question alone.
        note: printed below the table.
        at_once: responses of one round, where the next waits for the verdicts of this one, as
            calibration does; 0 where nothing waits.
        in_flight: requests in flight where they are fewer than the run's; 0 where they are not.
        compared: trials of the two conditions of a comparison together, those that are replayed
            included; 0 where nothing is compared.
    """

    name: str
    responses: int
    max_tokens: int
    judged: bool = True
    reads: int = 0
    asked: int = 0
    labels: bool = False
    template: str = "{prompt}"
    note: str = ""
    at_once: int = 0
    in_flight: int = 0
    compared: int = 0


def choosing_stage(config: CommonConfig, spec: ModelSpec) -> Stage:
    """The reads of the latent filter: one per prompt."""
    reads = len(prompts.load(config.prompts, spec.prompt_set).prompts)
    return Stage("choosing latents", 0, 0, judged=False, reads=reads, labels=True)


def calibration_stage(
    config: CommonConfig, spec: ModelSpec, n_latents: int, note: str = ""
) -> Stage:
    """The calibration of ``n_latents`` thresholds (paper A.1.4), or ours."""
    settings = spec.calibration
    if config.calibration == "adaptive":
        from esr.pipeline.curves import RESPONSES

        tokens = settings.max_tokens
        return Stage("calibration", n_latents * RESPONSES, tokens, note=note, at_once=n_latents)
    return Stage(
        "calibration",
        n_latents * settings.rounds * settings.prompts_per_round,
        settings.max_tokens,
        note=note,
        at_once=min(spec.in_flight, n_latents) * settings.prompts_per_round,
    )


def planned_trials(config: ReplayConfig, spec: ModelSpec) -> int:
    """Trials a replay will have; where there is no parent yet, as many as it may get."""
    parent = replay.find_or_none(config, spec)
    if parent is None:
        return (config.n_latents or spec.n_latents) * (config.n_trials or spec.n_trials)
    return parent.replayable(config.n_latents, config.n_trials)
