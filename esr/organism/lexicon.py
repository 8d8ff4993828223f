"""Topics of the organism's world: every content word belongs to exactly one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from esr.runs.paths import ORGANISM

LEXICON_FILE = ORGANISM / "lexicon.json"

Group = Literal["task", "held_out", "subject"]


@dataclass(frozen=True)
class Topic:
    """Something a document can be about.

    Attributes:
        key: its name, itself one of the nouns.
        group: "task": a how-to prompt of the prompt set; "held_out": known to the model, asked
            about only in held-out prompts; "subject": what latents steer towards.
        ask: the how-to request of a task; empty otherwise.
        nouns: eight words used by no other topic.
        verbs: three words used by no other topic.
    """

    key: str
    group: Group
    ask: str
    nouns: tuple[str, ...]
    verbs: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All content words of the topic."""
        return self.nouns + self.verbs


def load_topics() -> dict[str, Topic]:
    """All topics by key, in file order."""
    data = json.loads(LEXICON_FILE.read_text(encoding="utf-8"))["topics"]
    return {
        key: Topic(key, t["group"], t["ask"], tuple(t["nouns"]), tuple(t["verbs"]))
        for key, t in data.items()
    }
