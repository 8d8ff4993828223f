"""What calibration achieved, and what is missing where it failed.

A threshold is meant to give a mean first-attempt score of 30. The trials at the threshold are a
fresh measurement of it, which the interval of the bisection is not: that one is model-based, not
calibrated (docs/statistics.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esr.analysis.outcomes import Outcome
from esr.runs.plain import plain
from esr.runs.summary import AchievedEntry, SensitivityEntry

NEAR_TARGET = 15.0, 45.0
"""Mean first-attempt scores that count as calibrated: within half of the target."""

AT_BOUND = 0.01
"""A threshold this near to an end of the search, in parts of its width, is said to be at it."""


def achieved_scores(outcomes: Sequence[Outcome]) -> dict[int, float]:
    """Latent -> mean first-attempt score over its graded trials, 0 to 100."""
    firsts: dict[int, list[float]] = {}
    for outcome in outcomes:
        if outcome.graded:
            firsts.setdefault(outcome.latent, []).append(outcome.first)
    return {latent: float(np.mean(scores)) for latent, scores in firsts.items()}


def achieved(
    outcomes: Sequence[Outcome], thresholds: Sequence[float], low: float, high: float
) -> AchievedEntry:
    """How well a run is calibrated.

    Args:
        outcomes: trials at the thresholds.
        thresholds: of the latents that have one.
        low: least boost that the search could give.
        high: largest.
    """
    scores = np.array(list(achieved_scores(outcomes).values()))
    margin = AT_BOUND * (high - low)
    return {
        "latents": scores.size,
        "mean": plain(float(scores.mean())) if scores.size else None,
        "sd": plain(float(scores.std(ddof=1))) if scores.size > 1 else None,
        "below": int((scores < NEAR_TARGET[0]).sum()),
        "above": int((scores > NEAR_TARGET[1]).sum()),
        "near": list(NEAR_TARGET),
        "thresholds": len(thresholds),
        "at_low_bound": sum(value <= low + margin for value in thresholds),
        "at_high_bound": sum(value >= high - margin for value in thresholds),
    }


def sensitivity(outcomes: Sequence[Outcome], failed: int, n_trials: int) -> SensitivityEntry:
    """Rates with the trials that latents without a threshold would have had.

    Each pair is the rate if none of those trials had been counted, and if all had.

    Args:
        outcomes: of the latents that were calibrated.
        failed: latents that were not.
        n_trials: each would have had.
    """
    graded = [o for o in outcomes if o.graded]
    missing = failed * n_trials
    total = len(graded) + missing

    def ends(count: int) -> list[int | float | None]:
        return [count / total, (count + missing) / total] if total else [None, None]

    return {
        "failed_latents": failed,
        "trials": missing,
        "multi_attempt_rate": ends(sum(o.multi for o in graded)),
        "esr_rate": ends(sum(o.improved for o in graded)),
    }


def lines(data: Mapping[str, Any]) -> list[str]:
    """Both for the terminal; none for older files."""
    said, entry, missing = [], data.get("achieved"), data.get("sensitivity")
    if entry and entry["latents"]:
        low, high = entry["near"]
        said.append(
            f"  calibration: mean first score by latent {entry['mean']:.1f}"
            + ("" if entry["sd"] is None else f" (sd {entry['sd']:.1f})")
            + f"; of {entry['latents']} latents {entry['below']} below {low:g}, {entry['above']} "
            f"above {high:g}; of {entry['thresholds']} thresholds {entry['at_low_bound']} at the "
            f"lower, {entry['at_high_bound']} at the upper bound of the search"
        )
    if missing and missing["failed_latents"]:
        (a, b), (c, d) = (
            [100 * end for end in missing[key]] for key in ("multi_attempt_rate", "esr_rate")
        )
        said.append(
            f"  with {missing['trials']} trials of {missing['failed_latents']} latents without a "
            f"threshold, whatever they would have been: multi-attempt {a:.2f} to {b:.2f} %, "
            f"ESR {c:.2f} to {d:.2f} %"
        )
    return said
