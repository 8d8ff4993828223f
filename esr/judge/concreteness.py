"""How concrete a latent's label is, 0 to 100 (paper A.1.2; the release asks in batches of 50).

A rating that could not be had is None, never 0.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Annotated, Protocol

from pydantic import BaseModel, Field, ValidationError

from esr.judge import registry
from esr.judge.cache import Store, default_path, key_of
from esr.judge.client import Client, Completion, Request, Stop
from esr.judge.parsing import Reason, find_json
from esr.runs.plain import digest

BATCH = 50
"""Labels per question (release)."""

PLACEHOLDER = "feature_"
"""Start of labels that name nothing; they are not asked about and rated 0 (release)."""


class ConcretenessRater(Protocol):
    """Rates labels."""

    async def rate(self, labels: Sequence[str]) -> list[float | None]:
        """Concreteness of each label, 0 to 100, in order; None where rating failed."""
        ...


_SYSTEM = """\
You rate how concrete the labels of features of a language model are. A concrete label names \
something with a vocabulary of its own, so that one could tell at a glance whether a text is \
about it: an object, an animal, a place, a craft, a field of knowledge. An abstract label names \
grammar, form, tone, or something that could occur in any text.

Give each label a whole number from 0 to 100:
- 80 to 100: things, beings, places, substances, crafts ("volcanoes and lava", "knitting");
- 60 to 80: a definite field or event ("contract law", "football matches");
- 30 to 60: broad or partly abstract subjects ("social change", "measurement");
- 10 to 30: abstract ideas, evaluations, relations ("importance", "contrast between ideas");
- 0 to 10: punctuation, function words, positions in a text, formatting, code syntax.
Labels about conversation itself are low, at most 20, whatever they mention: greetings, \
apologies, hedging, offers of help, a speaker changing their mind or correcting themselves.

Answer with JSON between tags, one entry per label, by its number, and nothing else:
<json>{"ratings": [{"number": 1, "rating": 0}]}</json>"""


class _Rating(BaseModel):
    number: int
    rating: Annotated[float, Field(ge=0, le=100, strict=True)]


class LlmConcreteness:
    """Asks a language model, and remembers what it said of each label.

    Args:
        client: who is asked.
        store: where ratings are kept; None keeps none.
        batch: labels per question.
    """

    def __init__(self, client: Client, store: Store | None = None, batch: int = BATCH) -> None:
        self.client = client
        self.store = store
        self.batch = batch
        self.cost = 0.0
        self.failures: list[str] = []
        self.rubric_hash = digest(_SYSTEM)

    async def rate(self, labels: Sequence[str]) -> list[float | None]:
        """Concreteness of each label, in order; None where the model did not give one."""
        ratings: dict[str, float] = {}
        for label in set(labels):
            known = 0.0 if label.startswith(PLACEHOLDER) else self._stored(label)
            if known is not None:
                ratings[label] = known
        open_labels = list(dict.fromkeys(label for label in labels if label not in ratings))
        size = self.batch
        batches = [open_labels[i : i + size] for i in range(0, len(open_labels), size)]
        for found in await asyncio.gather(*(self._ask(batch) for batch in batches)):
            ratings.update(found)
        return [ratings.get(label) for label in labels]

    async def _ask(self, labels: list[str]) -> dict[str, float]:
        """Ratings of one batch: those that were given and can be read."""
        user = "\n".join(f"{n}. {json.dumps(label)}" for n, label in enumerate(labels, 1))
        completion = await self.client.complete(Request(_SYSTEM, user))
        self.cost += completion.cost
        found = {labels[n - 1]: r for n, r in _read(completion).items() if 0 < n <= len(labels)}
        if len(found) < len(labels):
            missing = len(labels) - len(found)
            self.failures.append(f"{missing} of {len(labels)} not rated: {completion.text[:200]}")
        if self.store is not None:
            for label, rating in found.items():
                self.store.put(self._key(label), rating)
        return found

    def _stored(self, label: str) -> float | None:
        value = self.store.get(self._key(label)) if self.store is not None else None
        return None if value is None else float(value)

    def _key(self, label: str) -> str:
        return key_of("concreteness", self.client.model, self.rubric_hash, label)

    async def close(self) -> None:
        """Close connections."""
        await self.client.close()


def _read(completion: Completion) -> dict[int, float]:
    if completion.stop not in (Stop.END, Stop.LENGTH):
        return {}
    found = find_json(completion.text, "ratings")
    entries = [] if isinstance(found, Reason) else found["ratings"]
    ratings: dict[int, float] = {}
    for entry in entries if isinstance(entries, list) else []:
        try:
            rating = _Rating.model_validate(entry)
        except ValidationError:
            continue
        ratings[rating.number] = rating.rating
    return ratings


_FUNCTION_WORDS = """
    a about above after again all also although always am an and any are as at be because been
    before being below between both but by can could did do does doing down during each either else
    ever every few for from further had has have having he her here hers him his how however i if
    in into is it its itself just least less many may me might more most much must my neither never
    no nor not now of off often on once one only or other our out over own per quite rather same
    shall she should so some such than that the their them then there these they this those though
    through to too under until up upon us very was we were what when where whether which while who
    whom whose why will with within without would yet you your"""
_CONVERSATION = """
    actually apologies apologize apology correct correction excuse fine good goodbye greeting
    greetings hello help hey hi hm let maybe mistake ok okay oops pardon perhaps please really right
    sorry start starting sure thank thanks try wait welcome well wrong yeah yes"""
_GRAMMAR = """
    comma form grammar phrase punctuation question sentence syntax token word words"""
_EMPTY_WORDS = frozenset((_FUNCTION_WORDS + _CONVERSATION + _GRAMMAR).split())


class StopWordConcreteness:
    """Offline rating by word lists: the share of a label's words that carry content.

    Function words, words of conversation and words about language carry none. It knows nothing
    of meaning: it serves the organism, whose labels are lists of words, and dry runs.
    """

    async def rate(self, labels: Sequence[str]) -> list[float | None]:
        """100 × content words / words of each label; never None."""
        return [share_of_content(label) for label in labels]

    async def close(self) -> None:
        """Nothing to close."""


def share_of_content(label: str) -> float:
    """100 × content words / words; 0 for a placeholder and for a label without words."""
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", label.lower())
    if not words or label.startswith(PLACEHOLDER):
        return 0.0
    content = [word for word in words if word not in _EMPTY_WORDS and len(word) > 1]
    return 100.0 * len(content) / len(words)


async def rate(judge_name: str, labels: Sequence[str]) -> list[float | None]:
    """Rate labels with the model behind a judge; with word lists where the judge is offline.

    Raises:
        UserError: no such judge, or its key is missing.
    """
    if registry.spec(judge_name).provider == "offline":
        return await StopWordConcreteness().rate(labels)
    store = Store(default_path())
    rater = LlmConcreteness(registry.create_client(judge_name), store)
    try:
        return await rater.rate(labels)
    finally:
        await rater.close()
        store.close()
