"""The steps that gather: backtracking latents, episodes, boundaries, activations, baseline.

Each writes one file into the run folder and takes up what is there; what costs (the model's
marks, the reads) is journaled besides.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from esr.analysis import episodes
from esr.analysis.episodes import Episode, from_results, regions
from esr.engine.base import ReadRequest
from esr.errors import UserError
from esr.models.labels import load_labels
from esr.pipeline import annotation
from esr.pipeline.annotation import Mark
from esr.pipeline.context import RunContext
from esr.pipeline.reads import recorded, run_reads
from esr.runs import seeds
from esr.runs.folder import write_json
from esr.runs.plain import plain, restore
from experiment_09_activation_stats import backtracking
from experiment_09_activation_stats.analysis import Measured
from experiment_09_activation_stats.config import Config

NAME = "experiment_09_activation_stats"


async def find_backtracking(config: Config, context: RunContext) -> str:
    """Choose the backtracking latents by the keywords in their labels."""
    detectors = set(config.detector_set.latents)
    config.detector_set.check(context)
    named = [k for k in config.backtracking_latents if k not in detectors]
    # The search needs labels; latents named by number do without.
    labels = load_labels(context.spec, required=not named)
    if named:
        scores = {k: backtracking.score(labels.get(k, "")) for k in named}
    else:
        scores = backtracking.find(labels, config.n_backtracking, detectors)
    rows = [{"latent": k, "label": labels.get(k, ""), "score": s} for k, s in scores.items()]
    _write(context, "backtracking", {"latents": rows, "labels": len(labels)})
    return f"{len(rows)} backtracking latents among {len(labels)} labels"


async def extract_episodes(config: Config, context: RunContext) -> str:
    """Take the trials of experiment 1 with exactly two attempts, the second better."""
    graded = list(from_results(context.replayed.results))
    correcting = episodes.self_correcting(graded)
    drawn = _draw(context, "episodes", correcting, config.n_episodes or len(correcting))
    _write(context, "episodes", {"found": len(correcting), "episodes": [asdict(e) for e in drawn]})
    return f"{len(drawn)} of {len(correcting)} episodes, {len(graded)} graded trials"


async def annotate_boundaries(config: Config, context: RunContext) -> str:
    """Mark where each episode goes off topic, restarts, and is on topic again."""
    marks = await annotation.mark(config, context, extracted_episodes(context))
    _write(context, "boundaries", {name: plain(mark) for name, mark in marks.items()})
    located = sum(mark.boundaries is not None for mark in marks.values())
    return f"{located} of {len(marks)} episodes marked"


async def collect_activations(config: Config, context: RunContext) -> str:
    """Feed each marked episode without steering and read detectors and backtracking latents."""
    located = marked(context)
    latents = columns(config, context)
    requests = [_request(context, episode, latents) for episode in located]
    records = await run_reads(requests, context, description="episodes")
    failed = [r.error for r in records if r.error]
    return f"{len(records) - len(failed)} episodes read, {len(failed)} refused by the engine"


async def collect_baseline(config: Config, context: RunContext) -> str:
    """The same for single-attempt responses of a good score."""
    single = episodes.single_attempt(
        from_results(context.replayed.results), config.min_baseline_score
    )
    drawn = _draw(context, "baseline", single, config.n_baseline)
    _write(context, "baseline", {"found": len(single), "responses": [asdict(e) for e in drawn]})
    latents = columns(config, context)
    requests = [_request(context, e, latents) for e in drawn]
    records = await run_reads(requests, context, description="baseline")
    return f"{sum(r.reading is not None for r in records)} of {len(single)} baseline responses read"


def extracted_episodes(context: RunContext) -> list[Episode]:
    """The extracted episodes.

    Raises:
        UserError: that step has not been run.
    """
    return [
        restore(Episode, item) for item in load(context, "episodes", "extract-episodes")["episodes"]
    ]


def written_marks(context: RunContext) -> dict[str, Mark]:
    """Boundaries by trial id."""
    data = load(context, "boundaries", "annotate-boundaries")
    return {name: restore(Mark, item) for name, item in data.items()}


def marked(context: RunContext) -> list[Episode]:
    """Episodes whose boundaries were found."""
    marks = written_marks(context)
    located = {name for name, mark in marks.items() if mark.boundaries}
    return [episode for episode in extracted_episodes(context) if episode.trial_id in located]


def groups(config: Config, context: RunContext) -> dict[str, list[int]]:
    """Latents by group, in the order of the columns that are read."""
    rows = load(context, "backtracking", "find-backtracking")["latents"]
    return {
        "detectors": list(config.detector_set.latents),
        "backtracking": [int(row["latent"]) for row in rows],
    }


def columns(config: Config, context: RunContext) -> list[int]:
    """All latents that are read, each once."""
    return list(dict.fromkeys(k for group in groups(config, context).values() for k in group))


def measured_episodes(config: Config, context: RunContext) -> list[Measured]:
    """The episodes that were read and have both compared regions."""
    marks, latents = written_marks(context), columns(config, context)
    measured = [_measured(context, e, latents, marks[e.trial_id]) for e in marked(context)]
    return [item for item in measured if item is not None]


def measured_baseline(config: Config, context: RunContext) -> list[Measured]:
    """The baseline responses that were read."""
    responses = load(context, "baseline", "collect-baseline")["responses"]
    latents = columns(config, context)
    measured = [_measured(context, restore(Episode, item), latents, None) for item in responses]
    return [item for item in measured if item is not None]


def _measured(
    context: RunContext, episode: Episode, latents: Sequence[int], mark: Mark | None
) -> Measured | None:
    reading = recorded(_request(context, episode, latents), context)
    if reading is None or reading.values is None:
        return None
    values = reading.values.numpy().astype(float)
    if episode.latent in latents:
        values[:, latents.index(episode.latent)] = float("nan")
    if mark is None or mark.boundaries is None:
        return Measured(episode.trial_id, episode.latent, episode.prompt, values, {})
    parts = regions(context.chat.response_ids(episode.response)[1], mark.boundaries)
    if not parts.complete:
        return None
    return Measured(
        *(episode.trial_id, episode.latent, episode.prompt),
        *(values, parts.parts, parts.correction),
    )


def _request(context: RunContext, episode: Episode, latents: Sequence[int]) -> ReadRequest:
    """The text alone: no boost (paper A.4)."""
    prompt = context.chat.prompt_ids(episode.prompt)
    response, _ = context.chat.response_ids(episode.response)
    return ReadRequest(
        f"text/{episode.trial_id}",
        prompt + response,
        latents=tuple(latents),
        first_token=len(prompt),
    )


def _draw(context: RunContext, purpose: str, pool: Sequence[Episode], n: int) -> list[Episode]:
    """``n`` of them at random, in their own order."""
    order = seeds.generator(context.seed, purpose).permutation(len(pool))[:n]
    return [pool[int(i)] for i in sorted(order)]


def _write(context: RunContext, name: str, data: Any) -> None:
    write_json(context.run.path / f"{name}.json", data)


def load(context: RunContext, name: str, step: str) -> Any:
    """What a step has written.

    Raises:
        UserError: the step has not been run with these options.
    """
    path = context.run.path / f"{name}.json"
    if not path.is_file():
        raise UserError(
            f"no {name} in {context.run.path}",
            f"a run in which the step {step} has been done",
            f"python -m {NAME} {step} {context.spec.key}",
        )
    return json.loads(path.read_text(encoding="utf-8"))
