"""Experiment 6: one read, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esr.analysis.episodes import Episode, Regions, by_clarity, from_results, regions
from esr.engine.base import ReadRequest
from esr.errors import UserError, unknown
from esr.judge.boundaries import Boundaries
from esr.models import ModelSpec
from esr.pipeline import annotation
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.reads import recorded, run_reads
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.settings import check_latents
from esr.pipeline.stages import Stage
from esr.steering.interventions import Boost
from experiment_06_sequential_activations.config import Config


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """One text is read; where a model marks the boundaries it is asked once per candidate."""
    check_latents("--latents", config.latents, spec)
    asked = config.asks(spec)
    note = "more calls where the clearest episode cannot be marked" if asked else ""
    return [Stage("one episode", 0, 0, judged=False, reads=1, asked=int(asked), note=note)]


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """No trials: choose the episode, mark it, read it."""
    check_latents("--latents", config.latents, context.spec)
    config.detector_set.check(context)
    episode, boundaries = await choose(config, context)
    data = {"trial_id": episode.trial_id, **asdict(boundaries)}
    context.run.journal.put("episode", "chosen", data)
    (record,) = await run_reads([request(config, context, episode)], context, description="episode")
    if record.reading is None:
        raise UserError(
            f"episode {episode.trial_id} cannot be read: {record.error}",
            "a text within the context",
            "--episode TRIAL, another one",
        )
    return []


async def choose(config: Config, context: RunContext) -> tuple[Episode, Boundaries]:
    """The named episode, or the clearest whose boundaries can be marked.

    Raises:
        UserError: no such episode, or none in the run.
    """
    graded = list(from_results(context.replayed.results))
    candidates = by_clarity(graded)
    if config.episode:
        pairs = {e.trial_id: e for e in graded if len(e.scores) == 2}
        if config.episode not in pairs:
            names = list(dict.fromkeys([*(e.trial_id for e in candidates), *pairs]))
            raise unknown("two-attempt trial", config.episode, names, "leave --episode out")
        candidates = [pairs[config.episode]]
    if not candidates:
        raise UserError(
            f"no such episode in {context.replayed.path} ({len(graded)} graded trials)",
            "a trial of two attempts, of which the second is better",
            "a run with more trials (--n-trials), or --from-results PATH",
        )
    for episode in candidates:
        marks = await annotation.mark(config, context, [episode])
        places = marks[episode.trial_id].boundaries
        _, spans = context.chat.response_ids(episode.response)
        if places is not None and regions(spans, places).complete:
            return episode, places
    raise UserError(
        f"the boundaries of {len(candidates)} episodes could not be marked",
        "a response in which the judge's quotations can be found",
        "--boundaries judge, or --episode TRIAL",
    )


def shown_latents(config: Config, episode: Episode) -> list[int]:
    """Latents to read, each once: the boosted one, the detectors, those asked for."""
    detectors = config.detector_set.latents
    return list(dict.fromkeys([episode.latent, *detectors, *config.latents]))


def request(config: Config, context: RunContext, episode: Episode) -> ReadRequest:
    """The episode fed once more with its boost on, read over the response."""
    prompt = context.chat.prompt_ids(episode.prompt)
    response, _ = context.chat.response_ids(episode.response)
    return ReadRequest(
        f"episode/{episode.trial_id}",
        prompt + response,
        latents=tuple(shown_latents(config, episode)),
        interventions=(Boost(episode.latent, episode.threshold),),
        first_token=len(prompt),
    )


def outcome_results(
    config: Config,
    context: RunContext,
    records: list[TrialRecord],  # noqa: ARG001
) -> dict[str, Any]:
    """``results.json``: the episode, its regions and the series; empty before it was read."""
    base = {
        "experiment_config": context.experiment_config(),
        "parent": context.replayed.identity(),
        "results_by_feature": [],
    }
    chosen = context.run.journal.get("episode", "chosen")
    if chosen is None:
        return base
    episode = next(
        e for e in from_results(context.replayed.results) if e.trial_id == chosen["trial_id"]
    )
    reading = recorded(request(config, context, episode), context)
    if reading is None or reading.values is None:
        return base
    places = Boundaries(**{k: v for k, v in chosen.items() if k != "trial_id"})
    _, spans = context.chat.response_ids(episode.response)
    parts = regions(spans, places)
    series = _series(config, episode, reading.values.numpy().astype(float))
    return {
        **base,
        "episode": asdict(episode),
        "boundaries": {
            **asdict(places),
            "method": "offline" if config.offline(context) else config.judge_name(context),
        },
        "regions": asdict(parts),
        "tokens": [episode.response[start:end] for start, end in spans],
        "detectors": {
            "latents": list(config.detector_set.latents),
            "method": config.detector_set.method,
        },
        "series": {name: values.tolist() for name, values in series.items()},
        "region_means": {name: _means(values, parts) for name, values in series.items()},
    }


def _means(values: NDArray[np.float64], parts: Regions) -> dict[str, float | None]:
    """Mean per region; None of no tokens."""
    return {
        name: float(values[where].mean()) if values[where].size else None
        for name, where in parts.parts.items()
    }


def _series(
    config: Config, episode: Episode, values: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Activation per token by name; ``values``: [n_tokens, n_latents].

    Where the boosted latent is itself in the set, the sum leaves it out: it shows the boost.
    """
    latents = shown_latents(config, episode)
    column = {latent: values[:, i] for i, latent in enumerate(latents)}
    detectors = [k for k in config.detector_set.latents if k != episode.latent]
    strongest = sorted(detectors, key=lambda k: -float(column[k].mean()))[:1]
    single = config.latents or strongest
    return {
        "boosted": column[episode.latent],
        "detectors": np.sum([column[k] for k in detectors], axis=0) + np.zeros(len(values)),
        **{f"latent {k}": column[k] for k in single},
    }


def show(data: Mapping[str, Any]) -> str:
    """The episode in words."""
    if "episode" not in data:
        return "no episode has been read"
    episode, config = data["episode"], data["experiment_config"]
    lines = [
        f"Episode {episode['trial_id']} of {config['model_title']}: latent {episode['latent']} "
        f"({episode['latent_label']}), boost {episode['threshold']:g}, scores "
        + " -> ".join(f"{score:g}" for score in episode["scores"]),
        f"  detectors: {len(data['detectors']['latents'])}, {data['detectors']['method']}; "
        f"boundaries: {data['boundaries']['method']}",
        f"  {'mean activation':20}{'off topic':>12}{'correction':>12}{'on topic':>12}",
    ]
    for name, means in data["region_means"].items():
        cells = [
            "-" if means[part] is None else f"{means[part]:.3f}"
            for part in ("off_topic", "correction", "on_topic")
        ]
        lines.append(f"  {name:20}" + "".join(f"{cell:>12}" for cell in cells))
    if config["organism"]:
        lines.append("  One episode of a trained demonstration organism: an illustration.")
    return "\n".join(lines)


EXPERIMENT = Experiment(
    "experiment_06_sequential_activations", Config, stages, specs, outcome_results, show
)
