"""Made-up outcomes for tests of rates: a few by hand, many at random."""

from __future__ import annotations

import numpy as np

from esr.analysis.outcomes import Outcome
from esr.judge.base import Status


def graded(latent: int, *scores: float, name: str = "", degraded: bool = False) -> Outcome:
    return Outcome(latent, name or f"{latent}/{scores}", scores, Status.GRADED, degraded)


def ungraded(latent: int, status: Status, degraded: bool = False) -> Outcome:
    return Outcome(latent, f"{latent}/{status}", None, status, degraded)


SMALL = [
    graded(1, 20, 60),  # improved
    graded(1, 40),
    graded(1, 10),
    graded(2, 50, 50),  # equal: multi, not improved
    graded(2, 30, 80, 20),  # the last counts, not the best
    graded(3, 0, 100),  # improved; alone under its latent
    ungraded(3, Status.NO_ATTEMPTS, degraded=True),
    ungraded(3, Status.FAILED),
    ungraded(2, Status.UNPARSEABLE),
    ungraded(2, Status.REFUSED),
]


def random_outcomes(seed: int, latents: int = 30, trials: int = 5) -> list[Outcome]:
    """Made-up scores with a strong dependence within latents."""
    rng = np.random.default_rng(seed)
    made = []
    for latent in range(latents):
        restarts = rng.beta(0.4, 1.6)
        for trial in range(trials):
            n = 1 + int(rng.random() < restarts)
            scores = tuple(float(s) for s in rng.integers(0, 101, n))
            made.append(Outcome(latent, f"{latent}/{trial}", scores, Status.GRADED))
    return made
