"""A run as a log of Inspect: every trial a sample, with its attempts, verdict and steering."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalSample,
    EvalSpec,
    recompute_metrics,
    write_eval_log,
)
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput, StopReason
from inspect_ai.scorer import Score

from esr.analysis.outcomes import outcome_of
from esr.errors import UserError, cannot_write
from esr.evals.scorer import CLUSTER, VALUES, score_of
from esr.evals.tasks import CARRIED
from esr.export.redaction import redacted
from esr.export.source import Source
from esr.judge.spans import spans_of
from esr.runs.results import Trial

TASK, SCORER = "esr/esr", "attempts"
METRICS = [
    {"name": "inspect_ai/mean"},
    {"name": "inspect_ai/stderr", "options": {"cluster": CLUSTER}},
]
"""Of each part of a score, as a log names them."""

UNDATED = "1970-01-01T00:00:00+00:00"
"""Start of a results file that tells none: a log must have one."""


def write(source: Source, arm: str, path: Path) -> int:
    """Write one arm of a run as a log that ``inspect view`` opens.

    Args:
        source: the run.
        arm: which condition.
        path: ``.eval`` or ``.json``.

    Returns:
        number of samples.

    Raises:
        UserError: no such arm, or the file cannot be written.
    """
    log = as_log(source, arm)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_eval_log(log, str(path))
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    return len(log.samples or [])


def arms(source: Source) -> list[str]:
    """Conditions with judged trials, in the order of the file."""
    return list(dict.fromkeys(_arm(trial) for trial in _trials(source)))


def as_log(source: Source, arm: str) -> EvalLog:
    """One arm as a log, its metrics computed by Inspect from the recorded verdicts.

    Raises:
        UserError: no such arm.
    """
    trials = [trial for trial in _trials(source) if _arm(trial) == arm]
    if not trials:
        raise UserError(f"no arm {arm!r}", ", ".join(arms(source)) or "none", "--arm NAME")
    log = EvalLog(
        status="success" if _complete(source) else "cancelled",
        eval=_spec(source, arm, len(trials)),
        samples=[_sample(source, trial) for trial in trials],
    )
    recompute_metrics(log)
    return log


def _trials(source: Source) -> Iterator[Trial]:
    for feature in source.results.features:
        yield from (trial for trial in feature.trials if trial.judged)


def _arm(trial: Trial) -> str:
    return trial.arm or "steered"


def _complete(source: Source) -> bool:
    status = source.metadata.status if source.metadata else "complete"
    return status == "complete" and not source.results.partial


def _spec(source: Source, arm: str, samples: int) -> EvalSpec:
    run, config = source.metadata, source.results.experiment_config
    spec: dict[str, Any] = {
        "created": (run.started if run else "") or UNDATED,
        "task": TASK,
        "eval_id": source.name,
        "run_id": source.name,
        "dataset": EvalDataset(name=f"{source.name} {arm}", samples=samples),
        "model": f"esr/{source.model}",
        "config": EvalConfig(),
        "metadata": {
            "run": source.name,
            "experiment": run.experiment if run else None,
            "arm": arm,
            "judge": config.judge_name,
            "organism": bool(config.organism),
            "commit": run.git.commit if run else None,
        },
        "scorers": [{"name": SCORER, "metrics": dict.fromkeys(VALUES, METRICS)}],
    }
    # Inspect does not export the types of scorers in a log; its own validation makes them.
    return EvalSpec.model_validate(spec)


def _sample(source: Source, trial: Trial) -> EvalSample:
    spec: Any = trial.spec or {}
    response, model = trial.response or "", f"esr/{source.model}"
    reason: StopReason = "max_tokens" if trial.finish_reason == "length" else "stop"
    return EvalSample(
        id=trial.name,
        epoch=1,
        input=trial.prompt or "",
        target="",
        messages=[
            ChatMessageUser(content=trial.prompt or ""),
            ChatMessageAssistant(content=response, model=model),
        ],
        output=ModelOutput.from_content(model, response, reason),
        metadata={
            CLUSTER: trial.latent,
            "label": trial.feature_label or "",
            "boost": trial.threshold,
            "seed": trial.seed,
            "prompt_id": trial.prompt_id,
            **{key: value for key, value in spec.items() if key in CARRIED},
        },
        scores={SCORER: _score(source, trial)},
    )


def _score(source: Source, trial: Trial) -> Score:
    outcome, raw = outcome_of(trial), trial.score.raw_response if trial.score else None
    spans = spans_of(trial)
    attempts = [
        {"text": a.attempt_text, "score": a.score, "span": list(span) if span else None}
        for a, span in zip(trial.attempts, spans, strict=True)
    ]
    return score_of(
        outcome.scores or (),
        {"judge": source.judge(trial), "status": str(outcome.status), "attempts": attempts},
        explanation=(raw if outcome.scores else redacted(raw)) or "",
        reason=" ".join(filter(None, [str(outcome.status), redacted(trial.error)])),
    )
