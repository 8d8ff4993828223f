"""What a calibration searches the value of: the paper's boost, or another operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from esr.steering.interventions import Boost, Intervention


@dataclass(frozen=True)
class Push:
    """What is calibrated: how a value of the search becomes interventions.

    Attributes:
        name: of the operator, which names its trials, its seeds and its thresholds; "" is the
            paper's boost.
        of: latent and value -> interventions; a larger value must push harder. Values lie on the
            scale of the model's calibration: boosts, or what moves the stream as far.
    """

    name: str
    of: Callable[[int, float], tuple[Intervention, ...]]

    def part(self, latent: int) -> str:
        """Of trial ids and of the journal's keys."""
        return f"{self.name}/{latent}" if self.name else str(latent)


def _boost(latent: int, value: float) -> tuple[Intervention, ...]:
    return (Boost(latent, value),)


BOOST = Push("", _boost)
