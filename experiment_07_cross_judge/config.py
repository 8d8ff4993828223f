"""Options of experiment 7."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simple_parsing import field

from esr.pipeline.cli import ReplayConfig
from esr.runs.bounds import bounded


@dataclass(frozen=True, kw_only=True)
class Config(ReplayConfig):
    """Cross-judge validation: recorded trials of experiment 1 before other judges (A.2.2)."""

    model: str = field(default="", positional=True, nargs="?", metavar="MODEL")
    """Model key; default: every model with a complete run of experiment 1."""

    n_samples: int = bounded(1000, ge=1, metavar="N")
    """Trials to re-grade, over all large models, and as many over the organisms; multi-attempt
    trials always belong, and at least 50 and a tenth of the single-attempt ones (A.2.2)."""

    min_per_model: int = bounded(100, ge=1, metavar="N")
    """Least trials of each model (A.2.2)."""

    judges: str = field(default="", metavar="NAMES")
    """Judges, comma-separated; default: all that have a key, and for tiny the offline ones."""

    blind: str = field(default="", metavar="ARMS")
    """Verdicts of the run's own judge told less: all, or of label-hidden, label-shuffled and
    bare-prompt (the last where trials have meta-prompts), comma-separated."""

    def parent_options(self) -> Config:
        """``--judge`` is that of the run judged again; the rubric is of the new verdicts."""
        return replace(self, rubric="own")
