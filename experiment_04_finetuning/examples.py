"""Training examples: a prompt, and a response in segments that are trained or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from esr.errors import UserError
from esr.models.prompts import Prompt
from esr.runs import seeds
from esr.runs.paths import DATA
from esr.runs.user_files import read_json
from experiment_04_finetuning.settings import DataSettings

Kind = Literal["self_correction", "normal"]

SUBJECTS_FILE = DATA / "off_topic_subjects.json"


@dataclass(frozen=True)
class Segment:
    """A stretch of a response.

    Attributes:
        text: with its leading space, except in the first segment.
        trained: whether the loss covers it.
    """

    text: str
    trained: bool


@dataclass(frozen=True)
class Item:
    """What is to be written: one example.

    Attributes:
        kind: a self-correction, or a normal response.
        prompt_id: of the prompt set.
        prompt: the user turn.
        subject: what a self-correction drifts to; empty for a normal response.
        number: tells several examples of one prompt apart.
    """

    kind: Kind
    prompt_id: str
    prompt: str
    subject: str
    number: int

    @property
    def key(self) -> str:
        """Names the item in the journal."""
        return f"{self.kind}/{self.prompt_id}/{self.subject or self.number}"


@dataclass(frozen=True)
class Example:
    """One training text: the item and its response, cut into segments."""

    item: Item
    segments: tuple[Segment, ...]

    @cached_property
    def response(self) -> str:
        """The assistant turn."""
        return "".join(segment.text for segment in self.segments)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self.item), "segments": [asdict(segment) for segment in self.segments]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Example:
        """Inverse of :meth:`to_json`; further keys are ignored."""
        item = Item(**{name: data[name] for name in Item.__dataclass_fields__})
        return cls(item, tuple(Segment(**segment) for segment in data["segments"]))


def self_correction(item: Item, off_topic: str, acknowledgement: str, correct: str) -> Example:
    """Drift, acknowledgement, answer: the drift is shown and not trained (section 3.5)."""
    return Example(
        item,
        (
            Segment(off_topic.strip(), trained=False),
            Segment(f" {acknowledgement.strip()} {correct.strip()}", trained=True),
        ),
    )


def normal(item: Item, response: str) -> Example:
    """An answer that stays on topic, trained as a whole."""
    return Example(item, (Segment(response.strip(), trained=True),))


def share(examples: int, percent: int) -> int:
    """Self-corrections among ``examples``, to the nearest whole one."""
    return round(examples * percent / 100)


def items(
    prompts: Sequence[Prompt], subjects: Sequence[str], settings: DataSettings, seed: int
) -> list[Item]:
    """Everything to be written: each prompt as often as every other, with different subjects.

    No mix needs more than ``examples`` of a kind. The mixes wanted have no say, so that one data
    set serves them all.

    Args:
        prompts: of the prompt set.
        subjects: to drift to; a subject meets a prompt once at most.
        settings: decides how many.
        seed: of the run; decides which subject goes with which prompt.
    """
    orders = {
        p.id: seeds.generator(seed, "off-topic subjects", p.id).permutation(len(subjects))
        for p in prompts
    }
    drifting = [
        Item("self_correction", p.id, p.text, subjects[orders[p.id][turn]], turn)
        for turn in range(len(subjects))
        for p in prompts
    ]
    clean = [
        Item("normal", p.id, p.text, "", turn)
        for turn in range(settings.normal_per_prompt)
        for p in prompts
    ]
    return drifting[: settings.examples] + clean[: settings.examples]


def load_subjects(path: Path = SUBJECTS_FILE) -> list[str]:
    """Off-topic subjects.

    Raises:
        UserError: not a JSON list of different texts.
    """
    form, example = 'JSON, e.g. ["volcanoes", "falconry"]', f"compare with {SUBJECTS_FILE}"
    subjects = read_json(path, list[str], "a list of subjects", form, example)
    if not subjects or len(set(subjects)) < len(subjects) or not all(map(str.strip, subjects)):
        raise UserError(f"{path} is no list of different subjects", form, example)
    return subjects
