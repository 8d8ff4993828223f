"""Options of experiment 9."""

from __future__ import annotations

from dataclasses import dataclass

from esr.analysis.episodes import MIN_BASELINE_SCORE
from esr.pipeline.annotation import EpisodeConfig
from esr.runs.bounds import bounded


@dataclass(frozen=True, kw_only=True)
class Config(EpisodeConfig):
    """Activations of detectors and backtracking latents in self-correcting episodes (A.4)."""

    n_episodes: int = bounded(0, ge=0, metavar="N")
    """Episodes, drawn at random; 0 for all there are, 146 in the paper (A.4)."""

    n_baseline: int = bounded(50, ge=1, metavar="N")
    """Single-attempt responses of the baseline, drawn at random (A.4)."""

    min_baseline_score: float = bounded(MIN_BASELINE_SCORE, ge=0, le=100, metavar="SCORE")
    """Least score of a baseline response (A.4)."""

    n_backtracking: int = bounded(16, ge=0, metavar="N")
    """Backtracking latents, at most: those whose labels score highest (A.4)."""

    backtracking_latents: tuple[int, ...] = bounded((), ge=0, metavar="LATENT")
    """Backtracking latents by number, in place of the search over labels."""

    window: int = bounded(150, ge=1, le=10**5, metavar="TOKENS")
    """Tokens shown before and after the correction (Figure A.15)."""
