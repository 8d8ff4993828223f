"""Options of experiment 9."""

from __future__ import annotations

from dataclasses import dataclass

from simple_parsing import field

from esr.analysis.episodes import MIN_BASELINE_SCORE
from esr.errors import UserError
from esr.pipeline.annotation import EpisodeConfig


@dataclass(frozen=True, kw_only=True)
class Config(EpisodeConfig):
    """Activations of detectors and backtracking latents in self-correcting episodes (A.4)."""

    n_episodes: int = field(default=0, metavar="N")
    """Episodes, drawn at random; 0 for all there are, 146 in the paper (A.4)."""

    n_baseline: int = field(default=50, metavar="N")
    """Single-attempt responses of the baseline, drawn at random (A.4)."""

    min_baseline_score: float = field(default=MIN_BASELINE_SCORE, metavar="SCORE")
    """Least score of a baseline response (A.4)."""

    n_backtracking: int = field(default=16, metavar="N")
    """Backtracking latents, at most: those whose labels score highest (A.4)."""

    backtracking_latents: tuple[int, ...] = field(default=(), metavar="LATENT")
    """Backtracking latents by number, in place of the search over labels."""

    window: int = field(default=150, metavar="TOKENS")
    """Tokens shown before and after the correction (Figure A.15)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("n_episodes", 0), ("n_baseline", 1), ("n_backtracking", 0)):
            if getattr(self, name) < least:
                option = "--" + name.replace("_", "-")
                raise UserError(
                    f"{option} {getattr(self, name)}", f"{least} or more", f"{option} {least}"
                )
        if self.window < 1:
            raise UserError(f"--window {self.window}", "1 or more", "--window 150")
