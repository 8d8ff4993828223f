"""``results.json`` in the authors' public schema: theirs reads ours, ours reads theirs.

Source of the schema: https://github.com/agencyenterprise/endogenous-steering-resistance
(result files of experiment 1). Keys beyond theirs are additions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from esr.analysis.outcomes import degraded
from esr.judge.spans import attempt_spans
from esr.runs.plain import plain

if TYPE_CHECKING:
    from esr.pipeline.context import RunContext
    from esr.pipeline.results_schema import FeatureData, ScoreData, TrialData
    from esr.pipeline.schema import Threshold, TrialRecord


def experiment_config(config: Mapping[str, Any], context: RunContext) -> dict[str, Any]:
    """``experiment_config``: the options and what they resolved to."""
    return {
        **config,
        "model_name": context.spec.hf_id if not context.spec.organism else context.spec.key,
        "model_title": context.spec.title,
        "organism": context.spec.organism,
        "judge_id": context.judge.info.id,
        "rubric_hash": context.judge.info.rubric_hash,
        "prompt_set": context.prompts.name,
        "prompt_digest": context.prompts.digest,
        "steering_layer": context.spec.steering_layer,
        "feature_layer": context.spec.feature_layer,
        "run_id": context.run.metadata.run_id,
    }


def trial(record: TrialRecord) -> TrialData:
    """One entry of ``trials``."""
    spec, verdict = record.spec, record.verdict
    score: ScoreData | None = None
    if verdict is not None:
        spans = attempt_spans(record.response or "", [a.text for a in verdict.attempts])
        score = {
            "raw_response": verdict.raw,
            "attempts": [
                {"attempt_text": a.text, "score": a.score, "span": span}
                for a, span in zip(verdict.attempts, spans, strict=True)
            ],
            "status": str(verdict.status),
        }
    return {
        "prompt": spec.prompt,
        "feature_index_in_sae": spec.latent,
        "feature_label": spec.latent_label,
        "threshold": spec.threshold,
        "seed": spec.sampling.seed,
        "response": record.response,
        "score": score,
        "error": record.error,
        "trial_id": spec.trial_id,
        "arm": spec.arm,
        "prompt_id": spec.prompt_id,
        "finish_reason": record.finish_reason,
        "degraded": degraded(record.response or ""),
        "spec": spec.to_json(),
    }


def by_feature(
    records: Iterable[TrialRecord],
    thresholds: Mapping[int, Threshold] | None = None,
    labels: Mapping[int, str] | None = None,
) -> list[FeatureData]:
    """``results_by_feature``: one entry per latent, in the order given.

    Args:
        records: of one or several arms.
        thresholds: calibrated latents; those without trials appear with their error.
        labels: label by latent.
    """
    entries: dict[int, FeatureData] = {}
    for latent, threshold in (thresholds or {}).items():
        entries[latent] = {
            "feature_index_in_sae": latent,
            "feature_label": (labels or {}).get(latent, ""),
            "threshold": threshold.value,
            "error": threshold.error,
            "trials": [],
            "calibration": plain(threshold),
        }
    for record in records:
        spec = record.spec
        entry = entries.setdefault(
            spec.latent,
            {
                "feature_index_in_sae": spec.latent,
                "feature_label": spec.latent_label,
                "threshold": spec.threshold,
                "error": None,
                "trials": [],
            },
        )
        entry["trials"].append(trial(record))
    return list(entries.values())
