"""Rows of the exported tables, from what a run recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from esr.analysis.outcomes import Outcome, outcome_of
from esr.export.columns import TABLES
from esr.export.redaction import redacted
from esr.export.source import Source
from esr.judge.spans import spans_of
from esr.runs.results import Feature, Trial, iter_trials

Row = dict[str, Any]


def tables(sources: Iterable[Source]) -> dict[str, list[Row]]:
    """Rows by table, runs in the order given."""
    rows: dict[str, list[Row]] = {name: [] for name in TABLES}
    for source in sources:
        rows["runs"].append(_run(source))
        for feature in source.results.features:
            rows["latents"].append(_latent(source, feature))
            if feature.calibration is not None:
                rows["thresholds"].append(_threshold(source, feature))
        for trial in iter_trials(source.results):
            key = _key(source, trial)
            rows["trials"].append({**key, **_trial(trial)})
            if trial.judged:
                rows["verdicts"].append({**key, **_verdict(source, trial)})
                rows["attempts"] += [{**key, **part} for part in _attempts(source, trial)]
    return rows


def _run(source: Source) -> Row:
    run, config = source.metadata, source.results.experiment_config
    status = run.status if run else "complete"
    engine = run.engine if run else {}
    named = [str(engine[key]) for key in ("engine", "version") if engine.get(key)]
    return {
        "run": source.name,
        "experiment": run.experiment if run else "",
        "model": source.model,
        "title": config.model_title or (run.title if run else "") or source.model,
        "organism": bool(config.organism or (run.organism if run else False)),
        "status": "partial" if status == "complete" and source.results.partial else status,
        "judge": config.judge_name,
        "rubric_hash": config.rubric_hash,
        "prompt_set": _name(config.prompt_set),
        "prompt_digest": config.prompt_digest,
        "profile": config.profile,
        "pairing": config.pairing,
        "seed": config.seed,
        "steering_layer": config.steering_layer,
        "feature_layer": config.feature_layer,
        "engine": " ".join(named) or None,
        "commit": run.git.commit if run else None,
        "started": run.started if run else None,
        "parent": run.parent.run_id if run and run.parent else None,
    }


def _name(prompt_set: str | None) -> str | None:
    """A prompt set of the user's own is named by its file, without the folders."""
    return prompt_set.replace("\\", "/").rpartition("/")[2] if prompt_set else prompt_set


def _latent(source: Source, feature: Feature) -> Row:
    latent, spec = feature.feature_index_in_sae, source.spec
    return {
        "run": source.name,
        "latent": latent,
        "label": feature.feature_label or "",
        "boost": feature.threshold,
        "trials": len(feature.trials),
        "error": redacted(feature.error),
        "neuronpedia": f"{spec.neuronpedia}/{latent}" if spec and spec.neuronpedia else None,
    }


def _threshold(source: Source, feature: Feature) -> Row:
    entry = feature.calibration
    assert entry is not None
    rounds = entry.get("scores") or []
    own = {name: entry[name] for name in ("value", "low", "high", "rounds", "skipped")}
    return {
        "run": source.name,
        "latent": feature.feature_index_in_sae,
        **own,
        "unjudged": entry.get("unjudged"),
        "round_boosts": [boost for boost, _ in rounds],
        "round_scores": [score for _, score in rounds],
        "error": redacted(entry["error"]),
    }


def _key(source: Source, trial: Trial) -> Row:
    names = {"run": source.name, "arm": trial.arm or "steered", "trial_id": trial.name}
    return {**names, "latent": trial.latent}


def _trial(trial: Trial) -> Row:
    spec: Any = trial.spec or {}
    sampling = spec.get("sampling") or {}
    drawn = ("temperature", "top_p", "max_tokens", "repetition_penalty")
    return {
        "boost": trial.threshold,
        "prompt_id": trial.prompt_id,
        "prompt": trial.prompt,
        "response": trial.response,
        "finish_reason": trial.finish_reason or None,
        "degraded": outcome_of(trial).degraded,
        "judged": trial.judged,
        "seed": trial.seed,
        **{name: sampling.get(name) for name in drawn},
        "scope": str(spec["scope"]) if "scope" in spec else None,
        "interventions": json.dumps(spec["interventions"]) if "interventions" in spec else None,
        "error": redacted(trial.error),
    }


def _verdict(source: Source, trial: Trial) -> Row:
    outcome = outcome_of(trial)
    raw = trial.score.raw_response if trial.score else None
    answered = outcome.graded or outcome.status == "no_attempts"
    return {
        "judge": source.judge(trial),
        "status": str(outcome.status),
        "attempts": len(outcome.scores or ()),
        **_graded(outcome),
        "raw": raw if answered else redacted(raw),
    }


def _graded(outcome: Outcome) -> Row:
    if not outcome.scores:
        return dict.fromkeys(("first", "last", "multi", "improved"))
    first, last = float(outcome.scores[0]), float(outcome.scores[-1])
    return {"first": first, "last": last, "multi": outcome.multi, "improved": outcome.improved}


def _attempts(source: Source, trial: Trial) -> Iterator[Row]:
    spans = spans_of(trial)
    for number, (attempt, span) in enumerate(zip(trial.attempts, spans, strict=True), 1):
        yield {
            "judge": source.judge(trial),
            "attempt": number,
            "score": attempt.score,
            "text": attempt.attempt_text,
            "start": span[0] if span else None,
            "end": span[1] if span else None,
        }
