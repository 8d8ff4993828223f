"""The offline writer: examples from the organism's own sentence templates."""

from __future__ import annotations

import random

from esr.errors import UserError
from esr.organism.corpus import REMINDER, RESTARTS, sentence
from esr.organism.corpus import SENTENCES as FORMS
from esr.organism.lexicon import LEXICON_FILE, Topic, load_topics
from esr.runs.plain import digest
from experiment_04_finetuning.examples import Item, normal, self_correction
from experiment_04_finetuning.settings import SENTENCES, TEMPLATE
from experiment_04_finetuning.writing import Written

NORMAL_SENTENCES = (4, 6)
"""Sentences of a normal response, as in the organism's corpus."""

REMINDER_SHARE = 0.5
"""Share of acknowledgements that name the question again, as in the organism's corpus."""


class TemplateWriter:
    """Fluent sentences about the subject, one restart phrase, sentences about the topic asked.

    What it writes has the form of the paper's examples. It does not repeat the second training
    stage of the organism ``tiny``: nothing is perturbed, and every drift is fluent.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.topics = load_topics()

    @property
    def id(self) -> str:
        """The templates and the lexicon by content."""
        source = repr((FORMS, RESTARTS, REMINDER, SENTENCES, NORMAL_SENTENCES, REMINDER_SHARE))
        return f"{TEMPLATE}/{digest(source.encode() + LEXICON_FILE.read_bytes(), 16)}"

    @property
    def subjects(self) -> list[str]:
        """What its world can drift to: the topics that no prompt asks about."""
        return [key for key, topic in self.topics.items() if topic.group == "subject"]

    async def write(self, item: Item, attempt: int) -> Written:
        """The example of an item: the same for the same seed."""
        rng = random.Random(f"{self.seed}/template/{item.key}/{attempt}")
        topic = self._topic(item.prompt_id)
        if item.kind == "normal":
            return Written(normal(item, _sentences(rng, topic, NORMAL_SENTENCES)))
        acknowledgement = rng.choice(RESTARTS)
        if rng.random() < REMINDER_SHARE:
            acknowledgement += " " + REMINDER.format(key=topic.key)
        off_topic = _sentences(rng, self._topic(item.subject), SENTENCES)
        correct = _sentences(rng, topic, SENTENCES)
        return Written(self_correction(item, off_topic, acknowledgement, correct))

    async def close(self) -> None:
        """Nothing to release."""

    def _topic(self, key: str) -> Topic:
        if key not in self.topics:
            raise UserError(
                f"the template writer knows no topic {key!r}",
                "prompts and subjects of the organism's world",
                "--writer sonnet",
            )
        return self.topics[key]


def _sentences(rng: random.Random, topic: Topic, bounds: tuple[int, int]) -> str:
    forms = rng.sample(FORMS, rng.randint(*bounds))
    return " ".join(word for form in forms for word in sentence(rng, topic, form))
