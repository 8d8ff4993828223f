"""Options of experiment 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simple_parsing import field

from esr.errors import UserError
from esr.pipeline.cli import ReplayConfig


@dataclass(frozen=True, kw_only=True)
class Config(ReplayConfig):
    """Boost sweep: the same trials at 10 boosts, the same for all latents (section 3.2)."""

    parent_required: ClassVar[bool] = False

    n_latents: int | None = field(default=46, metavar="N")
    """Latents in the sweep. With 5 trials at 10 boosts each, 46 give 2,300 responses, the fewest
    latents that reach the 2,262 of the paper, which names neither number (Figure 3)."""

    n_trials: int | None = field(default=5, metavar="N")
    """Trials per latent and boost: the first ones of experiment 1 (A.1.4)."""

    n_calibrated: int | None = field(default=None, metavar="N")
    """Latents whose thresholds give mean and sd where there is no run of experiment 1 to take
    them from: from the cache, or measured; default: the model's, 1,000 for the paper's five."""

    n_boosts: int = field(default=10, metavar="N")
    """Boosts, evenly spaced (section 3.2)."""

    span: float = field(default=3.0, metavar="SD")
    """Boosts reach so many standard deviations to either side of the mean (section 3.2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_boosts", "n_calibrated"):
            value = getattr(self, name)
            if value is not None and value < 2:
                option = "--" + name.replace("_", "-")
                raise UserError(f"{option} {value}", "2 or more", f"{option} 10")
        if not self.span > 0:
            raise UserError(f"--span {self.span}", "more than 0", "--span 3")
