"""How long attempts are, how they score and how their responses end: is it truncation?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from esr.runs.plain import plain
from esr.runs.results import Trial
from esr.runs.summary import AttemptLengths


def attempt_lengths(trials: Iterable[Trial]) -> list[AttemptLengths]:
    """Length, score and end of single attempts, and of first and last attempts of several.

    ``cut_off`` is the share of trials that ended because they had no tokens left, ``degraded`` of
    those that repeat a word.
    """
    graded = [t for t in trials if t.scores and not t.error]
    single = [(t, 0) for t in graded if len(t.attempts) == 1]
    several = [t for t in graded if len(t.attempts) > 1]
    groups = {
        "only attempt": single,
        "first of several": [(t, 0) for t in several],
        "last of several": [(t, -1) for t in several],
    }
    return [_lengths(name, members) for name, members in groups.items()]


def _lengths(name: str, members: Sequence[tuple[Trial, int]]) -> AttemptLengths:
    attempts = [trial.attempts[place] for trial, place in members]
    words = [len(attempt.attempt_text.split()) for attempt in attempts]
    scores = [float(attempt.score or 0) for attempt in attempts]
    rank: Any = None
    if len(set(words)) > 1 and len(set(scores)) > 1:
        from scipy.stats import spearmanr

        rank = plain(float(spearmanr(words, scores).statistic))
    return {
        "attempt": name,
        "n": len(members),
        "words": _mean(words),
        "score": _mean(scores),
        "score_by_words": rank,
        "cut_off": _mean([float(t.finish_reason == "length") for t, _ in members]),
        "degraded": _mean([float(bool(t.degraded)) for t, _ in members]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
