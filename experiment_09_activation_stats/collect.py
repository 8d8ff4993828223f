"""The steps that gather: backtracking latents, episodes, boundaries, activations, baseline.

Each writes one file into the run folder and takes up what is there; what costs (the model's
marks, the reads) is journaled besides.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from esr import annotation, episodes, latents, seeds
from esr.annotation import Mark
from esr.engine.base import ReadRequest
from esr.episodes import Episode, from_results, regions
from esr.errors import UserError
from esr.lab import Lab
from esr.reads import recorded, run_reads
from esr.runs import write_json
from experiment_09_activation_stats import backtracking
from experiment_09_activation_stats.analysis import Measured
from experiment_09_activation_stats.config import Config

NAME = "experiment_09_activation_stats"


async def find_backtracking(config: Config, lab: Lab) -> str:
    """Choose the backtracking latents by the keywords in their labels."""
    detectors = set(config.detector_set().latents)
    config.detector_set().check(lab)
    named = [k for k in config.backtracking_latents if k not in detectors]
    # The search needs labels; latents named by number do without.
    labels = labels_of(lab) if named else latents.load_labels(lab.spec.label_file, lab.spec.d_sae)
    if named:
        scores = {k: backtracking.score(labels.get(k, "")) for k in named}
    else:
        scores = backtracking.find(labels, config.n_backtracking, detectors)
    rows = [{"latent": k, "label": labels.get(k, ""), "score": s} for k, s in scores.items()]
    _write(lab, "backtracking", {"latents": rows, "labels": len(labels)})
    return f"{len(rows)} backtracking latents among {len(labels)} labels"


async def extract_episodes(config: Config, lab: Lab) -> str:
    """Take the trials of experiment 1 with exactly two attempts, the second better."""
    graded = list(from_results(lab.replayed.data))
    found = episodes.self_correcting(graded)
    kept = _draw(lab, "episodes", found, config.n_episodes or len(found))
    _write(lab, "episodes", {"found": len(found), "episodes": [asdict(e) for e in kept]})
    return f"{len(kept)} of {len(found)} episodes, {len(graded)} graded trials"


async def annotate_boundaries(config: Config, lab: Lab) -> str:
    """Mark where each episode goes off topic, restarts, and is on topic again."""
    found = known_episodes(lab)
    marks = await annotation.mark(config, lab, found)
    _write(lab, "boundaries", {name: mark.to_json() for name, mark in marks.items()})
    located = sum(mark.boundaries is not None for mark in marks.values())
    return f"{located} of {len(marks)} episodes marked"


async def collect_activations(config: Config, lab: Lab) -> str:
    """Feed each marked episode without steering and read detectors and backtracking latents."""
    requests = [_request(config, lab, e) for e in marked(lab)]
    records = await run_reads(requests, lab, description="episodes")
    failed = [r.error for r in records if r.error]
    return f"{len(records) - len(failed)} episodes read, {len(failed)} refused by the engine"


async def collect_baseline(config: Config, lab: Lab) -> str:
    """The same for single-attempt responses of a good score."""
    single = episodes.single_attempt(from_results(lab.replayed.data), config.min_baseline_score)
    kept = _draw(lab, "baseline", single, config.n_baseline)
    _write(lab, "baseline", {"found": len(single), "responses": [asdict(e) for e in kept]})
    records = await run_reads([_request(config, lab, e) for e in kept], lab, description="baseline")
    return f"{sum(r.reading is not None for r in records)} of {len(single)} baseline responses read"


def known_episodes(lab: Lab) -> list[Episode]:
    """The extracted episodes.

    Raises:
        UserError: that step has not been run.
    """
    return [_episode(item) for item in load(lab, "episodes", "extract-episodes")["episodes"]]


def known_marks(lab: Lab) -> dict[str, Mark]:
    """Boundaries by trial id."""
    data = load(lab, "boundaries", "annotate-boundaries")
    return {name: Mark.from_json(item) for name, item in data.items()}


def marked(lab: Lab) -> list[Episode]:
    """Episodes whose boundaries were found."""
    marks = known_marks(lab)
    return [e for e in known_episodes(lab) if e.trial_id in marks and marks[e.trial_id].boundaries]


def groups(config: Config, lab: Lab) -> dict[str, list[int]]:
    """Latents by group, in the order of the columns that are read."""
    found = load(lab, "backtracking", "find-backtracking")["latents"]
    return {
        "detectors": list(config.detector_set().latents),
        "backtracking": [int(row["latent"]) for row in found],
    }


def columns(config: Config, lab: Lab) -> list[int]:
    """All latents that are read, each once."""
    return list(dict.fromkeys(k for group in groups(config, lab).values() for k in group))


def measured_episodes(config: Config, lab: Lab) -> list[Measured]:
    """The episodes that were read and have both compared regions."""
    marks = known_marks(lab)
    found = []
    for episode in marked(lab):
        made = _measured(config, lab, episode, marks[episode.trial_id])
        if made is not None:
            found.append(made)
    return found


def measured_baseline(config: Config, lab: Lab) -> list[Measured]:
    """The baseline responses that were read."""
    responses = load(lab, "baseline", "collect-baseline")["responses"]
    made = [_measured(config, lab, _episode(item), None) for item in responses]
    return [item for item in made if item is not None]


def _measured(config: Config, lab: Lab, episode: Episode, found: Mark | None) -> Measured | None:
    reading = recorded(_request(config, lab, episode), lab)
    if reading is None or reading.values is None:
        return None
    values = reading.values.numpy().astype(float)
    read = columns(config, lab)
    if episode.latent in read:
        values[:, read.index(episode.latent)] = float("nan")
    if found is None or found.boundaries is None:
        return Measured(episode.trial_id, episode.latent, values, {})
    parts = regions(lab.chat.response_ids(episode.response)[1], found.boundaries)
    if not parts.complete:
        return None
    return Measured(episode.trial_id, episode.latent, values, parts.parts, parts.correction)


def _request(config: Config, lab: Lab, episode: Episode) -> ReadRequest:
    """The text alone: no boost (paper A.4)."""
    prompt = lab.chat.prompt_ids(episode.prompt)
    response, _ = lab.chat.response_ids(episode.response)
    return ReadRequest(
        f"text/{episode.trial_id}",
        prompt + response,
        latents=tuple(columns(config, lab)),
        first_token=len(prompt),
    )


def labels_of(lab: Lab) -> dict[int, str]:
    """Labels for the reader; empty where there are none."""
    if not lab.spec.label_file.is_file():
        return {}
    return latents.load_labels(lab.spec.label_file, lab.spec.d_sae)


def _draw(lab: Lab, purpose: str, found: Sequence[Episode], n: int) -> list[Episode]:
    """``n`` of them at random, in their own order."""
    order = seeds.generator(lab.seed, purpose).permutation(len(found))[:n]
    return [found[int(i)] for i in sorted(order)]


def _episode(data: dict[str, Any]) -> Episode:
    tuples = {"attempts": tuple(data["attempts"]), "scores": tuple(data["scores"])}
    return Episode(**{**data, **tuples})


def _write(lab: Lab, name: str, data: Any) -> None:
    write_json(lab.run.path / f"{name}.json", data)


def load(lab: Lab, name: str, step: str) -> Any:
    """What a step has written.

    Raises:
        UserError: the step has not been run with these options.
    """
    path = lab.run.path / f"{name}.json"
    if not path.is_file():
        raise UserError(
            f"no {name} in {lab.run.path}",
            f"a run in which the step {step} has been done",
            f"python -m {NAME} {step} {lab.spec.key}",
        )
    return json.loads(path.read_text(encoding="utf-8"))
