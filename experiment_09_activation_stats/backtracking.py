"""Latents whose labels speak of noticing and mending a mistake: a keyword score (paper A.4)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

KEYWORDS: Mapping[str, int] = {
    r"self.?correct\w*": 3,
    r"correct(?:ing|ion|ions|s)?\b": 3,
    r"mistake\w*": 3,
    r"backtrack\w*": 3,
    r"retract\w*": 3,
    r"apolog\w*": 3,
    r"start\w* over": 3,
    r"restart\w*": 3,
    r"try\w* again": 3,
    r"wait\b": 2,
    r"oops\b": 2,
    r"sorry\b": 2,
    r"errors?\b": 2,
    r"wrong\b": 2,
    r"incorrect\w*": 2,
    r"reconsider\w*": 2,
    r"rephras\w*": 2,
    r"revis(?:e|es|ed|ing|ion|ions)\b": 2,
    r"hesitat\w*": 2,
    r"clarif\w*": 1,
    r"actually\b": 1,
    r"rather\b": 1,
    r"contradict\w*": 1,
    r"misunderst\w*": 1,
}
"""Regular expression -> weight; each counts once per label. Our own list: the paper names the
method and the 16 latents it gave, not the words."""

_PATTERNS = [(re.compile(rf"\b{word}", re.IGNORECASE), weight) for word, weight in KEYWORDS.items()]


def score(label: str) -> int:
    """Sum of the weights of the keywords a label holds."""
    return sum(weight for pattern, weight in _PATTERNS if pattern.search(label))


def find(labels: Mapping[int, str], top: int, barred: Collection[int] = ()) -> dict[int, int]:
    """The best ``top`` latents with a score above 0, best first, ties by number: latent -> score.

    Args:
        labels: latent -> label.
        top: how many at most.
        barred: latents that are never taken, such as the detectors.
    """
    scored = {k: score(label) for k, label in labels.items() if k not in barred}
    order = sorted((k for k in scored if scored[k] > 0), key=lambda k: (-scored[k], k))
    return {k: scored[k] for k in order[:top]}
