"""Words, restart phrases, and how a response is cut into attempts where restarts are known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from esr.judge.spans import Span

MIN_CONTENT_WORDS = 2
"""Words outside restart phrases that make a stretch an attempt."""

_FUNCTION_WORD_LIST = (
    "a about after again all also an and another any are as at be because been before but by can "
    "could did do does done each for from had has have he her here him his how i if in into is it "
    "its just like many may me more most much must my no not of off often on once one or other "
    "our out over own please put she should so some such tell than that the their them then there "
    "these they this those to too two up us very was way we were what when where which while who "
    "will with would yes you your first next finally always every good use using make need needs "
    "want best explain know remember try watch wait sorry let "
)
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())
GAP = r"[\s,;:.!\-\u2013\u2014\u2026]+"
"""What a space of a phrase matches: any run of spaces and light punctuation."""
_APOSTROPHE = r"\s?['\u2019]\s?"
WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")


def phrase_pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """Any of some phrases as whole words; a space matches :data:`GAP`, case does not matter.

    So word-level text such as "wait , that is not right ." is matched like "Wait, that's not
    right.".
    """
    joined = "|".join(phrases).replace(" ", GAP).replace("'", _APOSTROPHE)
    return re.compile(rf"(?<!\w)(?:{joined})(?!\w)", re.IGNORECASE)


def stem(word: str) -> str:
    """Plural s only, so that "egg" and "eggs" meet; word lists are stemmed alike."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def words(text: str) -> list[str]:
    """Words of a text in small letters, stemmed."""
    return [stem(word.lower()) for word in WORD.findall(text)]


def content(text: str) -> list[str]:
    """Words that carry meaning: three letters or more, no function words."""
    spelled = (word.lower() for word in WORD.findall(text))
    return [stem(word) for word in spelled if len(word) > 2 and word not in _FUNCTION_WORDS]


def masked(text: str, spans: Iterable[Span]) -> str:
    """The text with blanks in place of some stretches; every other character keeps its place."""
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def split(response: str, restarts: Sequence[Span]) -> list[Span]:
    """The attempts of a response, restart phrases at the head of the attempt they open.

    A stretch from one restart to the next is an attempt if it has at least
    :data:`MIN_CONTENT_WORDS` content words outside restart phrases; other stretches join the
    following one, at the end the one before. So a restart phrase as the very first words opens no
    second attempt, and neither does one with nothing after it.

    Args:
        response: the whole text.
        restarts: where restart phrases stand, in order.
    """
    plain = masked(response, restarts)
    cuts = [start for start, _ in restarts]
    attempts: list[Span] = []
    begin = 0
    for end in [*cuts, len(response)]:
        if len(content(plain[begin:end])) >= MIN_CONTENT_WORDS:
            attempts.append((begin, end))
            begin = end
    if response[begin:].strip():
        if attempts:
            attempts[-1] = (attempts[-1][0], len(response))
        elif WORD.search(plain[begin:]):
            attempts.append((begin, len(response)))
    return attempts
