"""Options of experiment 10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from esr.analysis.matching import CALIPER
from esr.pipeline.detector_files import DetectorConfig
from esr.runs.bounds import bounded


@dataclass(frozen=True, kw_only=True)
class Config(DetectorConfig):
    """Clamp random latents instead of the detectors, in the same trials (A.3.3)."""

    n_sets: int = bounded(3, ge=1, le=1000, metavar="N")
    """Sets, each as large as the detector set (A.3.3). Three say little of how unusual the
    detectors are: with 50, theirs can be the lowest rate of 51 by chance in 2 of 100 cases."""

    matching: Literal["matched", "uniform"] = "matched"
    """matched on how often and how strongly a latent is active, as the paper says; uniform draws
    from the whole dictionary, as the release does."""

    caliper: float = bounded(CALIPER, gt=0, metavar="SD")
    """Largest difference of a matched latent in log frequency and in log magnitude (ours)."""

    match_responses: int = bounded(200, ge=1, metavar="N")
    """Responses of the replayed run over which activity is measured (ours)."""
