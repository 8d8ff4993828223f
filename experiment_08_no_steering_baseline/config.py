"""Options of experiment 8."""

from __future__ import annotations

from dataclasses import dataclass

from esr.pipeline.cli import ReplayConfig


@dataclass(frozen=True, kw_only=True)
class Config(ReplayConfig):
    """No steering: the trials of experiment 1 with the boost off (paper A.3.1)."""
