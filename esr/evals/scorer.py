"""The scorer: a judge of ours splits the response into attempts and scores them.

A verdict that failed, or that found no attempt, leaves every metric, is counted as unscored, and
keeps the judge's words; it is never a score of 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inspect_ai.scorer import Metric, Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import TaskState

from esr import judge as judges
from esr.judge.base import Attempt, Judge, JudgeRequest, Verdict
from esr.judge.spans import attempt_spans

CLUSTER = "latent"
"""Key of a sample's metadata: trials that share a latent are not independent."""

VALUES = ("esr", "multi", "attempts", "first", "last")
"""Parts of a score: 1 where the last attempt is above the first, 1 where there are several, how
many, and the scores of the first and the last one, 0 to 100."""


def metrics() -> dict[str, list[Metric]]:
    """Mean and standard error over latents of each part; shares are 0 to 1."""
    return {name: [mean(), stderr(cluster=CLUSTER)] for name in VALUES}


@scorer(metrics=metrics())
def attempts(judge: str = "haiku", rubric: str = "own") -> Scorer:
    """Attempts of a response and what they came to.

    Args:
        judge: name, as ``--judge`` takes it.
        rubric: ``own`` or ``upstream``.
    """
    grader: Judge | None = None

    async def score(state: TaskState, target: Target) -> Score:
        del target
        nonlocal grader
        grader = grader or judges.create(judge, rubric=rubric)
        response = state.output.completion
        asked = JudgeRequest(state.input_text, response, str(state.metadata.get("label") or ""))
        return as_score(await grader.grade(asked), response, grader.info.id)

    return score


def as_score(verdict: Verdict, response: str, judge: str) -> Score:
    """A verdict as Inspect has it.

    Args:
        verdict: of the response.
        response: in which the attempts are looked up.
        judge: its id.
    """
    spans = attempt_spans(response, [attempt.text for attempt in verdict.attempts])
    metadata = {
        "judge": judge,
        "status": str(verdict.status),
        "attempts": [_plain(a, span) for a, span in zip(verdict.attempts, spans, strict=True)],
    }
    return score_of(
        [attempt.score for attempt in verdict.attempts],
        metadata,
        explanation=verdict.raw,
        reason=f"{verdict.status} {verdict.reason}".strip(),
    )


def score_of(
    scores: Sequence[float], metadata: Mapping[str, Any], *, explanation: str, reason: str
) -> Score:
    """Scores of all attempts as one score; without any it is unscored, and says why.

    Args:
        scores: 0 to 100, in the order of the response.
        metadata: what is shown beside it.
        explanation: the judge's words.
        reason: why there is no score.
    """
    if not scores:
        return Score.unscored(reason=reason, explanation=explanation, metadata=dict(metadata))
    first, last = float(scores[0]), float(scores[-1])
    multi = len(scores) > 1
    parts = (int(multi and last > first), int(multi), len(scores), first, last)
    return Score(
        value=dict(zip(VALUES, parts, strict=True)),
        answer=" -> ".join(f"{score:g}" for score in scores),
        explanation=explanation,
        metadata=dict(metadata),
    )


def _plain(attempt: Attempt, span: tuple[int, int] | None) -> dict[str, Any]:
    return {"text": attempt.text, "score": attempt.score, "span": list(span) if span else None}
