"""What a line of ``journal.jsonl`` holds, by its kind."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from esr.pipeline.results_schema import AttemptData
from esr.pipeline.schema import Selection
from esr.runs.summary import Number, SpecEntry, ThresholdEntry


@with_config(extra="allow")
class GenerationData(TypedDict):
    """A response; ``finish_reason`` is "stop" or "length"."""

    spec: SpecEntry
    token_ids: list[int]
    text: str
    finish_reason: str


@with_config(extra="allow")
class VerdictData(TypedDict):
    """What the judge said of a response, and what it cost in US dollars."""

    status: str
    attempts: list[AttemptData]
    raw: str
    input_tokens: int
    output_tokens: int
    cost: Number
    reason: str


class GenerationLine(TypedDict):
    """Under the hash of the trial's spec."""

    kind: Literal["generation"]
    key: str
    value: GenerationData


class VerdictLine(TypedDict):
    """Under the hash of the trial's spec."""

    kind: Literal["verdict"]
    key: str
    value: VerdictData


class ThresholdLine(TypedDict):
    """Under the latent."""

    kind: Literal["threshold"]
    key: str
    value: ThresholdEntry


class SelectionLine(TypedDict):
    """Under the filter and the number of latents."""

    kind: Literal["selection"]
    key: str
    value: Selection


class SweepData(TypedDict):
    """Boosts of experiment 2."""

    mean: float
    std: float
    thresholds: int
    levels: list[dict[str, Number | str]]


class SweepLine(TypedDict):
    """Boosts of experiment 2."""

    kind: Literal["sweep"]
    key: str
    value: SweepData


class MarkData(TypedDict):
    """Where an episode goes off topic, restarts and is on topic again, in characters."""

    boundaries: dict[str, int] | None
    method: str
    status: str


class MarkLine(TypedDict):
    """Under the trial id."""

    kind: Annotated[str, Field(pattern="^boundaries/")]
    key: str
    value: MarkData


class EpisodeLine(TypedDict):
    """The episode of experiment 6 and its boundaries in characters."""

    kind: Literal["episode"]
    key: str
    value: dict[str, int | str]


class SetsData(TypedDict):
    """Random sets of experiment 10, and how they were matched."""

    sets: list[list[int]]
    matching: dict[str, object]


class SetsLine(TypedDict):
    """Under the way of matching."""

    kind: Literal["sets"]
    key: str
    value: SetsData


class ExampleLine(TypedDict):
    """A training example of experiment 4."""

    kind: Literal["example"]
    key: str
    value: dict[str, object]


class CostLine(TypedDict):
    """US dollars of one answer of experiment 4's writer."""

    kind: Literal["cost"]
    key: str
    value: Number


class FailureLine(TypedDict):
    """Why an example of experiment 4 could not be written."""

    kind: Literal["failure"]
    key: str
    value: str


JournalLine = (
    GenerationLine
    | VerdictLine
    | ThresholdLine
    | SelectionLine
    | SweepLine
    | MarkLine
    | EpisodeLine
    | SetsLine
    | ExampleLine
    | CostLine
    | FailureLine
)
