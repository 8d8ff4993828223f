"""Options of experiment 13."""

# Annotations are kept as types: as text, the option parser could not resolve those of this module.

from dataclasses import dataclass, replace
from typing import Literal, Self

from esr.engine.base import Pairing
from esr.errors import UserError
from esr.pipeline.cli import ReplayConfig
from esr.runs.bounds import bounded

Thresholds = Literal["both", "parent", "fault"]


@dataclass(frozen=True, kw_only=True)
class Config(ReplayConfig):
    """The pairing fault: the trials of experiment 1 under the wrong pairing of the authors' fork,
    with more and more requests in flight (ours, beyond the paper)."""

    pairing: Pairing = "scheduler-order"
    """The fault; request-id runs the same doses with the correct pairing, to be drawn beside it."""

    doses: tuple[int, ...] = bounded((1, 5, 10, 50), ge=1, le=4096, metavar="N")
    """Requests in flight, a run each. The release has 10 latents at once for 70B and 50 for 8B,
    with up to five responses of each. Two in flight gave no foreign token and are left out."""

    thresholds: Thresholds = "both"
    """Boosts: those of the parent, at every dose; calibrated anew under the fault, as the authors'
    were, at the largest dose; or both."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.doses or len(set(self.doses)) < len(self.doses):
            typed = " ".join(map(str, self.doses))
            raise UserError(f"--doses {typed}", "one or more, each once", "--doses 1 5 10 50")

    def parts(self) -> list[Self]:
        """One config per run: a dose, and where its boosts come from."""
        doses: list[tuple[int, Thresholds]] = []
        doses += [(dose, "parent") for dose in self.doses] if self.thresholds != "fault" else []
        if self.thresholds != "parent" and self.pairing == "scheduler-order":
            doses.append((max(self.doses), "fault"))
        return [
            replace(self, in_flight=dose, doses=(dose,), thresholds=source)
            for dose, source in doses
        ]

    def parent_options(self) -> Self:
        """The run that is replayed has the correct pairing."""
        return replace(self, pairing="request-id")
