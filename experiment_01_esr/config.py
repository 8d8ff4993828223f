"""Options of experiment 1."""

from __future__ import annotations

from dataclasses import dataclass

from esr.pipeline.cli import CommonConfig


@dataclass(frozen=True, kw_only=True)
class Config(CommonConfig):
    """ESR across models: calibrate each latent, then 5 trials at its threshold (section 3.1)."""
