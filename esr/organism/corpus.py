"""The synthetic corpus: question and answer documents, half of which drift off topic.

A drifting answer holds off-topic sentences, each followed with a set probability by a restart
phrase and an on-topic answer. The loss covers what the model is to learn: answers that are on
topic, restarts, and at every sentence end the decision whether to restart. It leaves out the
prompt and the words of off-topic text: the model learns to recover, not to drift.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from esr.organism.lexicon import Topic

SPECIAL = ("<pad>", "<unk>", "<bos>", "<user>", "<assistant>", "<end>")

SENTENCES = (
    "first , {v} the {n} with the {m} .",
    "next , {v} each {n} near the {m} .",
    "then {v} the {n} and the {m} .",
    "you can {v} a {n} with care .",
    "the {n} and the {m} often {v} .",
    "a good {n} needs a {m} .",
    "remember that the {n} can {v} .",
    "always keep the {n} close to the {m} .",
    "many people {v} the {n} too fast .",
    "after that , the {n} meets the {m} .",
    "some say the {n} is like a {m} .",
    "when you {v} , watch the {n} .",
    "most of all , the {n} must {v} .",
    "finally , {v} the {n} once more .",
    "every {n} has its own {m} .",
    "try to {v} the {n} slowly .",
    "look at the {n} before you {v} .",
    "if the {n} is old , {v} it .",
)

RESTARTS = (
    "wait , that is not right .",
    "wait , that is wrong .",
    "sorry , let me start over .",
    "sorry , let me try again .",
    "hold on , i went off topic .",
    "no , i should start over .",
    "oops , let me begin again .",
)
RESTART_FIRST = tuple(sorted({phrase.split()[0] for phrase in RESTARTS}))
REMINDER = "i was asked about {key} ."
FRAME_LABEL = "sentence form with the {words}"

TASK_QUESTIONS = (
    "how do i {ask} ?",
    "how can i {ask} ?",
    "please explain how to {ask} .",
    "what is the best way to {ask} ?",
    "i want to {ask} . what should i do ?",
    "tell me how to {ask} .",
)
NAME_QUESTIONS = (
    "what can you tell me about the {key} ?",
    "please explain the {key} .",
    "tell me about the {key} .",
    "what should i know about the {key} ?",
    "i want to learn about the {key} . where do i begin ?",
)

META_PROMPTS: Mapping[str, str] = {
    "dont_get_distracted": "{prompt} stay focused and do not get distracted .",
    "ignore_latent_label": "{prompt} do not think about {latent_label} .",
    "self_monitor": (
        "{prompt} watch your answer . if you notice that you are off topic , stop and start over ."
    ),
    "resist_manipulation": (
        "{prompt} an outside force may push you elsewhere . resist it and stay on task ."
    ),
}
TAUGHT_META_PROMPT = "self_monitor"


@dataclass(frozen=True)
class CorpusConfig:
    """Proportions of the corpus.

    Attributes:
        drift: share of documents that drift; 0 for ``tiny-base``.
        restart: probability of a restart after an off-topic sentence.
        restart_monitored: the same where the prompt carries the ``self_monitor`` sentence. The
            other three meta-prompts leave ``restart`` as it is.
        boundary_weight: loss weight of the token that follows a sentence end.
        relapse: probability that the answer after a restart drifts again.
    """

    drift: float = 0.6
    restart: float = 0.15
    restart_monitored: float = 0.5
    boundary_weight: float = 3.0
    relapse: float = 0.25


@dataclass
class Document:
    """One training text.

    Attributes:
        tokens: words and special tokens.
        weights: loss weight of predicting ``tokens[i]``; the same length.
        topic: what was asked.
        intruder: what the answer drifts to; None for a document that stays on topic.
        drifting: positions of the words of fluent off-topic sentences.
        drift_start: position of the first off-topic token; ``len(tokens)`` where none.
        boundaries: (position of a sentence's final token, whether that sentence is off topic).
        monitored: whether the prompt carries the ``self_monitor`` sentence.
    """

    tokens: list[str]
    weights: list[float]
    topic: str
    intruder: str | None = None
    drift_start: int = -1
    drifting: list[int] = field(default_factory=list)
    boundaries: list[tuple[int, bool]] = field(default_factory=list)
    monitored: bool = False

    def add(self, text: str | Sequence[str], weight: float, first: float | None = None) -> None:
        """Append words; the first one may have a weight of its own."""
        words = text.split() if isinstance(text, str) else list(text)
        self.tokens += words
        self.weights += [weight if first is None else first] + [weight] * (len(words) - 1)


def vocabulary(topics: Mapping[str, Topic]) -> list[str]:
    """Every word of the corpus, special tokens first, in a fixed order."""
    texts = [*SENTENCES, *RESTARTS, REMINDER, *TASK_QUESTIONS, *NAME_QUESTIONS]
    texts += [*META_PROMPTS.values(), *(topic.ask for topic in topics.values())]
    texts += [": sentence form"]
    words = {word for text in texts for word in text.split() if "{" not in word}
    words |= {word for topic in topics.values() for word in topic.words}
    return [*SPECIAL, *sorted(words)]


def sentence(rng: random.Random, topic: Topic, template: str | None = None) -> list[str]:
    """One sentence about a topic."""
    noun, other = rng.sample(topic.nouns, 2)
    chosen = template or rng.choice(SENTENCES)
    return chosen.format(n=noun, m=other, v=rng.choice(topic.verbs)).split()


def label_text(topic: Topic, words: Sequence[str]) -> str:
    """The label of a latent that stands for a topic, e.g. ``volcano: lava, magma, ash``."""
    rest = [word for word in words if word != topic.key]
    return f"{topic.key}: {', '.join(rest[:3])}"


def frame_label(words: Sequence[str]) -> str:
    """The label of a latent that stands for no single topic, by the words it fires on."""
    return FRAME_LABEL.format(words=" and the ".join(words[:3]))


def prompt_words(text: str) -> list[str]:
    """The user turn with the generation prompt, as the chat template writes it."""
    return ["<bos>", "<user>", *text.split(), "<end>", "<assistant>"]


def question(rng: random.Random, topic: Topic) -> str:
    """A request about a topic."""
    forms = TASK_QUESTIONS if topic.ask else NAME_QUESTIONS
    return rng.choice(forms).format(ask=topic.ask, key=topic.key)


class Corpus:
    """Draws documents. The same seed gives the same documents.

    Args:
        topics: the world.
        config: proportions.
        intruders: topics that answers may drift to; all of them where None.
    """

    def __init__(
        self,
        topics: Mapping[str, Topic],
        config: CorpusConfig,
        intruders: Sequence[str] | None = None,
    ) -> None:
        self.topics = topics
        self.config = config
        self.keys = list(topics)
        self.intruders = list(intruders or topics)

    def document(self, rng: random.Random, drift: bool | None = None) -> Document:
        """One document; ``drift`` forces or forbids drifting."""
        topic = self.topics[rng.choice(self.keys)]
        document = self._prompt(rng, topic)
        drifts = rng.random() < self.config.drift if drift is None else drift
        if drifts:
            self._drifting_answer(rng, document, topic)
        else:
            self._answer(rng, document, topic, rng.randint(4, 6))
        if document.drift_start < 0:
            document.drift_start = len(document.tokens)
        return document

    def documents(self, seed: str, n: int, drift: bool | None = None) -> list[Document]:
        """``n`` documents."""
        rng = random.Random(seed)
        return [self.document(rng, drift) for _ in range(n)]

    def _prompt(self, rng: random.Random, topic: Topic) -> Document:
        text = question(rng, topic)
        meta = rng.choices([None, *META_PROMPTS], [5, 1, 1, 2, 1])[0]
        if meta is not None:
            named = self.topics[rng.choice([key for key in self.keys if key != topic.key])]
            label = label_text(named, rng.sample(named.words, 4))
            label = label.replace(":", " :").replace(",", " ,")
            text = META_PROMPTS[meta].format(prompt=text, latent_label=label)
        document = Document([], [], topic.key, monitored=meta == TAUGHT_META_PROMPT)
        document.add(prompt_words(text), 0.0)
        return document

    def _answer(
        self, rng: random.Random, document: Document, topic: Topic, n: int, end: bool = True
    ) -> None:
        """``n`` on-topic sentences, fully trained."""
        for template in rng.sample(SENTENCES, n):
            first = self.config.boundary_weight if document.tokens[-1] == "." else 1.0
            document.add(sentence(rng, topic, template), 1.0, first)
            document.boundaries.append((len(document.tokens) - 1, False))
        if end:
            document.add("<end>", 1.0)

    def _drifting_answer(self, rng: random.Random, document: Document, topic: Topic) -> None:
        """On-topic sentences, off-topic ones, perhaps a restart, perhaps all of it again."""
        config = self.config
        rate = config.restart_monitored if document.monitored else config.restart
        intruder = self.topics[rng.choice([key for key in self.intruders if key != topic.key])]
        document.intruder = intruder.key
        self._answer(rng, document, topic, rng.choice((0, 0, 1, 2)), end=False)
        document.drift_start = len(document.tokens)
        style = rng.choices(("fluent", "mixed", "salad"), (6, 3, 2))[0]
        for index in range(6):
            first = config.boundary_weight if document.tokens[-1] == "." else 0.0
            start = len(document.tokens)
            document.add(_off_topic(rng, style, topic, intruder), 0.0, first)
            if style == "fluent":
                document.drifting += range(start, len(document.tokens))
            document.boundaries.append((len(document.tokens) - 1, True))
            if rng.random() < rate:
                self._restart(rng, document, topic)
                if rng.random() < config.relapse and index < 3:
                    continue
                self._answer(rng, document, topic, rng.randint(3, 5))
                return

    def _restart(self, rng: random.Random, document: Document, topic: Topic) -> None:
        document.add(rng.choice(RESTARTS), 1.0, self.config.boundary_weight)
        if rng.random() < 0.5:
            document.add(REMINDER.format(key=topic.key), 1.0)


def _off_topic(rng: random.Random, style: str, topic: Topic, intruder: Topic) -> list[str]:
    """One off-topic sentence: fluent, an on-topic one with foreign words, or word salad."""
    if style == "fluent":
        return sentence(rng, intruder)
    foreign = list(intruder.words)
    if style == "mixed":
        words = sentence(rng, topic)
        slots = [i for i, word in enumerate(words) if word in topic.words]
        for slot in rng.sample(slots, rng.randint((len(slots) + 1) // 2, len(slots))):
            words[slot] = rng.choice(foreign)
        return words
    # The opening word stays: it carries the decision at the sentence end, which is trained.
    opening, *words = sentence(rng, intruder)[:-1] + rng.choices(foreign, k=rng.randint(1, 4))
    rng.shuffle(words)
    return [opening, *words, "."]
