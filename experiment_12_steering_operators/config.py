"""Options of experiment 12."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simple_parsing import field

from esr.errors import UserError, unknown
from esr.pipeline.cli import ReplayConfig
from esr.runs.bounds import bounded
from esr.steering.interventions import to_json

if TYPE_CHECKING:
    from esr.steering.steering_file import SteeringFile

OPERATORS = (
    *("boost", "diffmean", "swfc", "sttp", "stmp"),
    *("floor", "pin", "rotate", "probe", "random"),
)
"""All that push towards a concept, and the two that do so without knowing it."""

TAKES_AWAY = ("cap", "ablate", "selective")
"""Operators that are no push of their own: see the README."""

LATENTS, TRIALS = 8, 10
"""Of the parent, by default: what fits into ten minutes on the organism."""

EQUAL: tuple[Literal["score", "kl"], ...] = ("score", "kl")
Calibration = Literal["score", "kl", "none"]


@dataclass(frozen=True, kw_only=True)
class PushConfig(ReplayConfig):
    """What both steps share."""

    scope: Literal["all", "generated"] = "all"
    """Positions that are steered; in arXiv 2604.08169 worth half the effect."""

    n_texts: int = bounded(50, ge=10, le=10_000, metavar="N")
    """Texts of either side to which directions are fitted (arXiv 2604.08169)."""

    states: Literal["mean", "last"] = "mean"
    """States that are fitted: averaged over an answer, or at its last token."""

    geometry: int = bounded(20, ge=0, le=10_000, metavar="N")
    """Responses per arm over which gates and changes of the stream are measured."""

    @property
    def latents(self) -> int:
        """How many latents of the parent."""
        return self.n_latents or LATENTS

    @property
    def trials(self) -> int:
        """How many trials of each."""
        return self.n_trials or TRIALS


@dataclass(frozen=True, kw_only=True)
class Config(PushConfig):
    """Push towards unrelated concepts by every operator, at equal effect (ours)."""

    operators: tuple[str, ...] = field(default=OPERATORS, metavar="NAME")
    """Ways to steer; boost is the parent's own trials."""

    calibrations: tuple[Literal["score", "kl"], ...] = field(default=EQUAL, metavar="{score,kl}")
    """What is equal between operators: the first-attempt score of 30 (A.1.4), or the divergence of
    the first 32 tokens from the unsteered model that the parent's boosts have."""

    layers: tuple[int, ...] = bounded((), ge=0, metavar="LAYER")
    """Layers at which every operator acts at once, the push shared among them; default: the
    model's steering layer. With --layer-sweep each of them is an arm of its own."""

    layer_sweep: bool = field(default=False, action="store_true")
    """One arm per operator and layer at equal KL: where does it work best?"""

    steering: str = field(default="", metavar="TOML")
    """One more arm: the trials under a steering file of your own, as it is (docs/steering.md)."""

    def identity(self) -> dict[str, Any]:
        """A steering file by what it asks for."""
        if not self.steering:
            return super().identity()
        return {**super().identity(), "steering": to_json(self.file.interventions)}

    @property
    def file(self) -> SteeringFile:
        """The steering file, which must be there."""
        from esr.steering.steering_file import load

        return load(Path(self.steering))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.operators:
            if name in TAKES_AWAY:
                raise UserError(
                    f"operator {name} is no push towards a concept",
                    ", ".join(OPERATORS),
                    "leave it out; it works in a request (docs/steering.md)",
                )
            if name not in OPERATORS:
                raise unknown("operator", name, OPERATORS, "--operators sttp")
        for option, values in (
            ("operators", self.operators),
            ("layers", self.layers),
            ("calibrations", self.calibrations),
        ):
            needed = option != "layers"
            if len(set(values)) < max(int(needed), len(values)):
                typed = " ".join(map(str, values))
                option = option.replace("_", "-")
                raise UserError(f"--{option} {typed}", "one or more, each once", "leave it out")


@dataclass(frozen=True, kw_only=True)
class DefenceConfig(PushConfig):
    """Steer back to the question while a boost pushes away (the setting of arXiv 2604.08169)."""

    defence_layers: tuple[int, ...] = bounded((), ge=0, metavar="LAYER")
    """Where the defence acts; default: the layer after the steering layer, for at the same layer
    it would read the stream before the boost."""

    swfc: tuple[float, ...] = bounded((1.0, 2.0, 4.0), gt=0, le=1000, metavar="A")
    """Strengths of SwFC (arXiv 2604.08169: 1 to 5)."""

    sttp: tuple[float, ...] = bounded((0.0, 6.0, 24.0), ge=0, le=1000, metavar="A")
    """Strengths of StTP (arXiv 2604.08169: 0 to 36)."""

    stmp: tuple[float, ...] = bounded((1.0, 2.0, 4.0), gt=0, le=1000, metavar="A")
    """Strengths of StMP (arXiv 2604.08169: 1 to 4)."""

    @property
    def strengths(self) -> dict[str, tuple[float, ...]]:
        """Operator -> strengths."""
        return {"swfc": self.swfc, "sttp": self.sttp, "stmp": self.stmp}
