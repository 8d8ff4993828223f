"""What a line of ``journal.jsonl`` holds, by its kind."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cache
from typing import Any, Literal, NotRequired

from pydantic import TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from esr.pipeline.schema import Match, Selection
from esr.runs.summary import Number
from esr.runs.trial_data import AttemptData, SpecEntry, ThresholdEntry


@with_config(extra="allow")
class GenerationData(TypedDict):
    """A response; ``finish_reason`` is "stop" or "length".

    Where a prefix was given, ``token_ids`` and ``text`` begin with it: ``n_prefix`` tokens, and
    all characters before ``generated_from``. ``pairing`` counts tokens by what steered
    them, under the wrong pairing alone. A text that was given whole has no tokens.
    """

    spec: SpecEntry
    token_ids: list[int]
    text: str
    finish_reason: str
    n_prefix: NotRequired[int]
    generated_from: NotRequired[int]
    pairing: NotRequired[dict[str, int]]


@with_config(extra="allow")
class VerdictData(TypedDict):
    """What the judge said of a response, and what it cost in US dollars."""

    status: Literal["graded", "no_attempts", "unparseable", "refused", "failed"]
    attempts: list[AttemptData]
    raw: str
    input_tokens: int
    output_tokens: int
    cost: Number
    reason: NotRequired[str]


@with_config(extra="allow")
class PaidData(TypedDict):
    """One answer of a judge or a writer: what it was asked for and what it cost in US dollars."""

    purpose: str
    model: str
    input_tokens: int
    output_tokens: int
    cost: float


class SweepData(TypedDict):
    """Boosts of experiment 2."""

    mean: float
    std: float
    thresholds: int
    levels: list[dict[str, Number | str]]


class MarkData(TypedDict):
    """Where an episode goes off topic, restarts and is on topic again, in characters."""

    boundaries: dict[str, int] | None
    method: str
    status: str


class SetsData(TypedDict):
    """Random sets of experiment 10, and how they were matched."""

    sets: list[list[int]]
    matching: dict[str, Any]


VALUES: dict[str, Any] = {
    # Under the hash of the trial's spec.
    "generation": GenerationData,
    "verdict": VerdictData,
    # Under a key of its own each: what was paid is never replaced.
    "paid": PaidData,
    # Under the latent; under the filter and the number of latents.
    "threshold": ThresholdEntry,
    "selection": Selection,
    "sweep": SweepData,
    # Under the trial id; the kind goes on with the name of the judge: "boundaries/haiku".
    "boundaries": MarkData,
    # The episode of experiment 6 and its boundaries in characters.
    "episode": dict[str, int | str],
    # Under the way of matching.
    "sets": SetsData,
    # Experiment 12: the value of an operator at equal divergence, under operator and latent; and
    # what an arm came to beside its trials, under its name.
    "match": Match,
    "operator": dict[str, Any],
    # Experiment 4: training examples, and why one could not be written.
    "example": dict[str, Any],
    "failure": str,
}
"""Kind of a line, up to a slash -> its value. A later line of one kind and key replaces it."""


def is_valid(kind: str, value: Any) -> bool:
    """Whether a value is what its kind holds; a kind that is not listed may hold anything.

    Text does not pass for a number.
    """
    typed = _adapter(kind.partition("/")[0])
    if typed is None:
        return True
    adapter, strict = typed
    try:
        adapter.validate_python(value, strict=strict)
    except ValidationError:
        return False
    return True


@cache
def _adapter(kind: str) -> tuple[TypeAdapter[Any], bool] | None:
    """The type of a kind, and whether it is strict: a dataclass would not take JSON data then."""
    value = VALUES.get(kind)
    return None if value is None else (TypeAdapter(value), not is_dataclass(value))
