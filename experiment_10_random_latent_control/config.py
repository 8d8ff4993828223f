"""Options of experiment 10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simple_parsing import field

from esr.analysis.matching import CALIPER
from esr.errors import UserError
from esr.pipeline.detector_files import DetectorConfig


@dataclass(frozen=True, kw_only=True)
class Config(DetectorConfig):
    """Clamp random latents instead of the detectors, in the same trials (A.3.3)."""

    n_sets: int = field(default=3, metavar="N")
    """Sets, each as large as the detector set (A.3.3)."""

    matching: Literal["matched", "uniform"] = "matched"
    """matched on how often and how strongly a latent is active, as the paper says; uniform draws
    from the whole dictionary, as the release does."""

    caliper: float = field(default=CALIPER, metavar="SD")
    """Largest difference of a matched latent in log frequency and in log magnitude (ours)."""

    match_responses: int = field(default=200, metavar="N")
    """Responses of the replayed run over which activity is measured (ours)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_sets", "match_responses"):
            if getattr(self, name) < 1:
                option = "--" + name.replace("_", "-")
                raise UserError(f"{option} {getattr(self, name)}", "1 or more", f"{option} 1")
        if not self.caliper > 0:
            raise UserError(f"--caliper {self.caliper}", "above 0", f"--caliper {CALIPER}")
