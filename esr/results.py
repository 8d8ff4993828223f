"""``results.json`` in the authors' public schema: theirs reads ours, ours reads theirs.

Source of the schema: https://github.com/agencyenterprise/endogenous-steering-resistance
(result files of experiment 1). Keys beyond theirs are additions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.errors import UserError
from esr.outcomes import degraded

if TYPE_CHECKING:
    from esr.calibration import Threshold
    from esr.lab import Lab
    from esr.trials import TrialRecord


def experiment_config(config: Mapping[str, Any], lab: Lab) -> dict[str, Any]:
    """``experiment_config``: the options and what they resolved to."""
    return {
        **config,
        "model_name": lab.spec.hf_id if not lab.spec.organism else lab.spec.key,
        "model_title": lab.spec.title,
        "organism": lab.spec.organism,
        "judge_id": lab.judge.info.id,
        "rubric_hash": lab.judge.info.rubric_hash,
        "prompt_set": lab.prompts.name,
        "prompt_digest": lab.prompts.digest,
        "steering_layer": lab.spec.steering_layer,
        "feature_layer": lab.spec.feature_layer,
        "run_id": lab.run.facts["run_id"],
    }


def trial(record: TrialRecord) -> dict[str, Any]:
    """One entry of ``trials``."""
    spec, verdict = record.spec, record.verdict
    score = None
    if verdict is not None:
        score = {
            "raw_response": verdict.raw,
            "attempts": [{"attempt_text": a.text, "score": a.score} for a in verdict.attempts],
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
) -> list[dict[str, Any]]:
    """``results_by_feature``: one entry per latent, in the order given.

    Args:
        records: of one or several arms.
        thresholds: calibrated latents; those without trials appear with their error.
        labels: label by latent.
    """
    entries: dict[int, dict[str, Any]] = {}
    for latent, threshold in (thresholds or {}).items():
        entries[latent] = {
            "feature_index_in_sae": latent,
            "feature_label": (labels or {}).get(latent, ""),
            "threshold": threshold.value,
            "error": threshold.error,
            "trials": [],
            "calibration": threshold.to_json(),
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


def results_file(path: Path) -> Path:
    """The results file behind a run folder or a file path."""
    return path / "results.json" if path.is_dir() else path


def load(path: Path) -> dict[str, Any]:
    """A results file, ours or the authors', or the one in a run folder.

    Raises:
        UserError: missing, not JSON, or without the schema's keys.
    """
    file = results_file(path)
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for entry in data["results_by_feature"]:
            entry["feature_index_in_sae"], entry["threshold"]
            for item in entry["trials"]:
                item["prompt"], item["seed"], item["response"], item["score"]
    except OSError as error:
        raise UserError(
            f"cannot read {file} ({error.strerror})",
            "a run folder or a results file",
            "ls data/results/*/*/*",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not a results file ({type(error).__name__}: {error})",
            "JSON with experiment_config and results_by_feature[].trials[]",
            "name a results.json of a run folder or of the authors' release",
        ) from error
    return data
