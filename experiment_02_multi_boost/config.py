"""Options of experiment 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from esr.pipeline.cli import ReplayConfig
from esr.runs.bounds import bounded


@dataclass(frozen=True, kw_only=True)
class Config(ReplayConfig):
    """Boost sweep: the same trials at 10 boosts, the same for all latents (section 3.2)."""

    parent_required: ClassVar[bool] = False

    n_latents: int | None = bounded(46, ge=1, metavar="N")
    """Latents in the sweep. With 5 trials at 10 boosts each, 46 give 2,300 responses, the fewest
    latents that reach the 2,262 of the paper (Figure 3). The paper's text names neither number; the
    paper_numbers.md of the release says 25 latents x 10 prompts a level: --n-latents 25 --n-trials
    10."""

    n_trials: int | None = bounded(5, ge=1, metavar="N")
    """Trials per latent and boost: the first ones of experiment 1 (A.1.4)."""

    n_calibrated: int | None = bounded(None, ge=2, metavar="N")
    """Latents whose thresholds give mean and sd where there is no run of experiment 1 to take
    them from: from the cache, or measured; default: the model's, 1,000 for the paper's five."""

    n_boosts: int = bounded(10, ge=2, le=1000, metavar="N")
    """Boosts, evenly spaced (section 3.2)."""

    span: float = bounded(3.0, gt=0, metavar="SD")
    """Boosts reach so many standard deviations to either side of the mean (section 3.2)."""
