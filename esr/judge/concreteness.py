"""How concrete a latent's label is, 0 to 100 (paper A.1.2; the release asks in batches of 50)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from esr.errors import JudgeError
from esr.judge.base import Judge
from esr.judge.client import Client
from esr.judge.completion import Completion, Request
from esr.judge.llm import client_of
from esr.judge.parsing import Reason, find_json
from esr.runs.plain import digest

BATCH = 50
"""Labels per question (release)."""

PLACEHOLDER = "feature_"
"""Start of labels that name nothing; they are not asked about and rated 0 (release)."""


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


def prompt_digest() -> str:
    """Digest of what a model is told, 16 hex digits."""
    return digest(_SYSTEM, 16)


async def rate(judge: Judge, labels: Sequence[str]) -> list[float]:
    """Concreteness of each label, 0 to 100, in order: by the model behind a judge, or by word
    lists where the judge is offline.

    Raises:
        JudgeError: the model left labels without a rating; says what it answered.
        SpendLimitError: the limit is reached.
    """
    client = client_of(judge)
    if client is None:
        return [share_of_content(label) for label in labels]
    ratings = {label: 0.0 for label in labels if label.startswith(PLACEHOLDER)}
    while missing := [label for label in dict.fromkeys(labels) if label not in ratings]:
        batches = [missing[i : i + BATCH] for i in range(0, len(missing), BATCH)]
        answers = await asyncio.gather(*(_ask(client, batch) for batch in batches))
        given = {label: rating for _, rated in answers for label, rating in rated.items()}
        if not given:
            raise JudgeError(
                f"{len(missing)} of {len(labels)} labels could not be rated for concreteness: "
                f"judge {client.model} said {answers[0][0][:200]!r}; next: repeat the command, "
                "ratings so far are kept"
            )
        ratings |= given
    return [ratings[label] for label in labels]


async def _ask(client: Client, labels: list[str]) -> tuple[str, dict[str, float]]:
    """The answer for one batch, and the ratings in it that can be read."""
    user = "\n".join(f"{n}. {json.dumps(label)}" for n, label in enumerate(labels, 1))
    request = Request(_SYSTEM, user, purpose="concreteness")
    completion = await client.complete(request, usable=lambda answer: bool(_read(answer)))
    rated = {labels[n - 1]: r for n, r in _read(completion).items() if 0 < n <= len(labels)}
    return completion.text, rated


def _read(completion: Completion) -> dict[int, float]:
    if not completion.complete:
        return {}
    answer = find_json(completion.text, "ratings")
    entries = [] if isinstance(answer, Reason) else answer["ratings"]
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


def share_of_content(label: str) -> float:
    """100 × content words / words; 0 for a placeholder and for a label without words.

    Function words, words of conversation and words about language carry none. It knows nothing
    of meaning: it serves the organism, whose labels are lists of words.
    """
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", label.lower())
    if not words or label.startswith(PLACEHOLDER):
        return 0.0
    content = [word for word in words if word not in _EMPTY_WORDS and len(word) > 1]
    return 100.0 * len(content) / len(words)
