"""Options of experiment 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from simple_parsing import field

from esr.analysis.detectors import DERANGEMENTS, MIN_SHARE, PERMUTATIONS, SILENT, TOP
from esr.errors import UserError
from esr.pipeline.cli import CommonConfig
from esr.pipeline.detector_files import DetectorConfig


@dataclass(frozen=True, kw_only=True)
class FindConfig(CommonConfig):
    """Find latents that are active only where a response does not fit its prompt (section 2.3)."""

    responses_per_prompt: int = field(default=1, metavar="N")
    """Unsteered responses per prompt (2.3)."""

    derangements: int = field(default=DERANGEMENTS, metavar="N")
    """Mismatched pairings of each response; the paper has one."""

    silent: float = field(default=SILENT, metavar="A")
    """A latent below this in a whole chat is silent there (2.3)."""

    min_share: float = field(default=MIN_SHARE, metavar="SHARE")
    """Least share of mismatched pairs a strict detector is active on (2.3)."""

    top: int = field(default=TOP, metavar="N")
    """Latents listed by separability; 26 is the size of the paper's set."""

    permutations: int = field(default=PERMUTATIONS, metavar="N")
    """Relabelings behind the separability null (ours)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("responses_per_prompt", "derangements", "top", "permutations"):
            if getattr(self, name) < 1:
                option = "--" + name.replace("_", "-")
                raise UserError(f"{option} {getattr(self, name)}", "1 or more", f"{option} 1")
        if not 0 < self.min_share <= 1:
            raise UserError(
                f"--min-share {self.min_share}", "above 0, at most 1", "--min-share 0.8"
            )


@dataclass(frozen=True, kw_only=True)
class AblateConfig(DetectorConfig):
    """Replay the trials of experiment 1 with the detectors clamped to 0 (section 3.4)."""

    doses: tuple[float, ...] = field(default=(0.0,), metavar="C")
    """Arms: each multiplies the detectors' own activation by C. 0 is the paper's ablation (3.4);
    1 is a plain replay, which shows the noise of replaying."""

    split: Literal["none", "sign"] = "none"
    """sign adds two arms that clamp to 0 the detectors of positive and of negative effect size
    (Cohen's d, off-topic minus on-topic, from experiment 9 or the paper's Table 2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.doses or min(self.doses) < 0 or len(set(self.doses)) < len(self.doses):
            raise UserError(
                f"--doses {' '.join(map(str, self.doses))}",
                "0 or more, each once",
                "--doses 0 0.5 1 2",
            )

    def identity(self) -> dict[str, Any]:
        """With the sign of each detector where the set is split by it."""
        signs = {"signs": self.detector_set.by_sign()} if self.split == "sign" else {}
        return {**super().identity(), **signs}
