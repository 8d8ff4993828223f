"""Options of experiment 3."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from simple_parsing import field

from esr.analysis.detectors import DERANGEMENTS, MIN_SHARE, PERMUTATIONS, SILENT, TOP
from esr.errors import UserError
from esr.models.prompts import DISCOVERY
from esr.pipeline.cli import CommonConfig
from esr.pipeline.detector_files import DetectorConfig
from esr.runs.bounds import bounded


@dataclass(frozen=True, kw_only=True)
class FindConfig(CommonConfig):
    """Find latents that are active only where a response does not fit its prompt (section 2.3)."""

    prompts: str = field(default=DISCOVERY, metavar="SET")
    """Prompt set of the search: discovery, questions of its own, on which nothing else is measured
    (the authors have a set of their own too, which is not released); or any other set."""

    responses_per_prompt: int = bounded(1, ge=1, metavar="N")
    """Unsteered responses per prompt (2.3)."""

    derangements: int = bounded(DERANGEMENTS, ge=1, metavar="N")
    """Mismatched pairings of each response; the paper has one."""

    silent: float = bounded(SILENT, gt=0, metavar="A")
    """A latent below this in a whole chat is silent there (2.3)."""

    min_share: float = bounded(MIN_SHARE, gt=0, le=1, metavar="SHARE")
    """Least share of mismatched pairs a strict detector is active on (2.3)."""

    top: int = bounded(TOP, ge=1, metavar="N")
    """Latents listed by separability; 26 is the size of the paper's set."""

    permutations: int = bounded(PERMUTATIONS, ge=1, le=10**6, metavar="N")
    """Relabelings behind the separability null (ours)."""


@dataclass(frozen=True, kw_only=True)
class AblateConfig(DetectorConfig):
    """Replay the trials of experiment 1 with the detectors clamped to 0 (section 3.4)."""

    doses: tuple[float, ...] = bounded((0.0,), ge=0, metavar="C")
    """Arms: each multiplies the detectors' own activation by C. 0 is the paper's ablation (3.4);
    1 is a plain replay, which shows the noise of replaying."""

    split: Literal["none", "sign"] = "none"
    """sign adds two arms that clamp to 0 the detectors of positive and of negative effect size
    (Cohen's d, off-topic minus on-topic, from experiment 9 or the paper's Table 2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.doses)) < max(1, len(self.doses)):
            typed = " ".join(map(str, self.doses))
            raise UserError(f"--doses {typed}", "one or more, each once", "--doses 0 0.5 1 2")

    def parent_options(self) -> AblateConfig:
        """New prompts take latents and thresholds of the usual run."""
        return replace(self, prompts="")

    def identity(self) -> dict[str, Any]:
        """With the sign of each detector where the set is split by it."""
        signs = {"signs": self.detector_set.by_sign()} if self.split == "sign" else {}
        return {**super().identity(), **signs}
