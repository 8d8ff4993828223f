"""Options of experiment 11."""

from __future__ import annotations

from dataclasses import dataclass

from esr.errors import UserError
from esr.pipeline.cli import ReplayConfig
from esr.runs.bounds import bounded

CONTROLS = {
    "redraw": "is a restart better than another try?",
    "position": "does text get better with length anyway?",
    "prefill-unsteered": "is noticing driven by the text?",
    "prefill-steered": "the same beginnings under the boost: the partner of prefill-unsteered",
    "matched-prefix": "how much of the recovery is conditioning on recent on-topic tokens?",
    "scope": "where must the push act?",
    "concept": "is it the dictionary? A difference-of-means vector of the same concept",
    "random": "does the model resist a concept, or a disturbance?",
    "blind": "does the judge lean on what it is told?",
    "length": "is it truncation?",
}
"""Name of a control and its question."""


@dataclass(frozen=True, kw_only=True)
class Config(ReplayConfig):
    """Resistance controls: the trials of experiment 1 with one thing changed, control by control
    (ours, beyond the paper)."""

    controls: tuple[str, ...] = ()
    """Controls to run: redraw, position, prefill-unsteered, prefill-steered, matched-prefix, scope,
    concept, random, blind, length; default: all that have something to work on."""

    redraws: int = bounded(4, ge=1, le=100, metavar="N")
    """New seeds of each trial in the control redraw."""

    off_after: tuple[int, ...] = bounded((16, 64), ge=1, metavar="N")
    """Generated tokens after which the control scope takes the boost off, an arm each."""

    concept_texts: int = bounded(50, ge=10, le=1000, metavar="N")
    """Texts about each concept, and as many others, that the control concept is fitted on."""

    matched_tokens: int = bounded(16, ge=1, le=512, metavar="N")
    """Tokens of corrective text that the control matched-prefix gives, or replaces."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.controls:
            if name not in CONTROLS:
                raise UserError(
                    f"--controls {name}", ", ".join(CONTROLS), f"--controls {next(iter(CONTROLS))}"
                )
        for option, values in (("controls", self.controls), ("off-after", self.off_after)):
            if len(set(values)) < len(values):
                typed = " ".join(map(str, values))
                raise UserError(f"--{option} {typed}", "each once", f"--{option} {values[0]}")
