"""The keyed judge: no model and no opinion; the question has a known answer, and words decide.

For prompt sets with keys (``--prompts keyed --judge keyed``). The rule, version 1, fixed before it
graded anything:

* Attempts are those that announced restarts separate (:mod:`esr.judge.gate`).
* An attempt is read in windows of 16 words; a rest of fewer than 8 belongs to the window before.
  Restart phrases are left out, and so are the numbers of a list.
* A window counts *on* by the different accepted forms of the answer and words of the key in it,
  and *off* by the different content words of the latent's label that are not in the key. It is
  ``correct`` if on exceeds off and it holds the answer or two words of the key, ``steered`` if off
  exceeds on, else ``other``. How often a word is repeated does not matter.
* The score of an attempt is 100 * correct windows / windows, and 0 where the answer occurs nowhere
  in it: text about the right subject with a wrong answer, or with none, is no answer.

So silent changes show that no judge of whole attempts counts (:mod:`esr.analysis.keyed`). What it
cannot see: an answer in other words than the accepted ones, and steered text that uses none of the
label's words, which counts as ``other``. Labels of the organism are the top words of their latent,
those of large models descriptions: there ``steered`` is a lower bound.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from esr.judge import gate
from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.splitting import content, masked, stem, words
from esr.runs.plain import digest
from esr.runs.summary import WindowState

if TYPE_CHECKING:
    from esr.models.prompts import Key

VERSION = 1
WINDOW = 16
"""Words of a window."""
MIN_WORDS_OF_KEY = 2
"""Different words of the key that make a window correct where the answer itself is not in it."""

_TOKEN = re.compile(r"\w+(?:['\u2019]\w+)?")
_LIST_NUMBER = re.compile(r"(?m)^\s*\d+[.)](?=\s)")


class KeyedJudge:
    """A :class:`esr.judge.base.Judge` of questions that have a key."""

    @property
    def info(self) -> JudgeInfo:
        """Identity: rule version, window, and the restart gate's."""
        return JudgeInfo(
            "keyed", digest(json.dumps([VERSION, WINDOW, MIN_WORDS_OF_KEY, gate.identity()]))
        )

    async def grade(self, request: JudgeRequest) -> Verdict:
        """Split and score one response; one to a question without a key has failed."""
        if request.key is None:
            return Verdict(Status.FAILED, raw="the question has no key", reason="no_key")
        vocabulary = _Vocabulary(request.key, request.latent_label)
        response = request.response
        text = masked(response, gate.restarts(response))
        if not _TOKEN.search(text):
            return Verdict(Status.NO_ATTEMPTS, raw="nothing attempted")
        # A bare number is an answer here, though it has no word that the gate would cut around.
        spans = gate.attempts(response) or [(0, len(response))]
        attempts = (_graded(response[a:b], text[a:b], vocabulary) for a, b in spans)
        return Verdict(Status.GRADED, tuple(attempts), raw=f"keyed rule {VERSION}")

    async def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True)
class _Vocabulary:
    """What counts on and what counts off."""

    key: Key
    label: str

    @cached_property
    def answers(self) -> dict[str, re.Pattern[str]]:
        """Accepted forms, each as a pattern; single words in either number are one form."""
        return {stem(form.lower()): _pattern(form) for form in self.key.accepted}

    @cached_property
    def on(self) -> frozenset[str]:
        """Words of the key that are no answer."""
        return frozenset(stem(word.lower()) for word in self.key.words).difference(self.answers)

    @cached_property
    def off(self) -> frozenset[str]:
        """Words of the steered concept."""
        known = {word for form in self.key.accepted for word in words(form)}
        return frozenset(content(self.label)) - self.on - known


@lru_cache(maxsize=4096)
def _pattern(form: str) -> re.Pattern[str]:
    """An accepted form as whole words in either number; 8 is not in 1.8, nor 18 in 18,000."""
    singular = stem(form.lower())
    spelled = r"\s+".join(map(re.escape, singular.split()))
    plural = "s?" if singular[-1:].isalpha() else ""
    return re.compile(rf"(?<!\w)(?<!\d[.,]){spelled}{plural}(?!\w|[.,]\d)", re.IGNORECASE)


def _graded(written: str, text: str, vocabulary: _Vocabulary) -> Attempt:
    """One attempt.

    Args:
        written: as it stands in the response.
        text: the same with blanks in place of restart phrases.
        vocabulary: of its question and its latent.
    """
    text = masked(text, (match.span() for match in _LIST_NUMBER.finditer(text)))
    starts = _window_starts(text)
    answers = [(m.start(), f) for f, p in vocabulary.answers.items() for m in p.finditer(text)]
    states = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        said = {form for at, form in answers if start <= at < end}
        seen = set(words(text[start:end]))
        on, off = len(said) + len(seen & vocabulary.on), len(seen & vocabulary.off)
        states.append(_state(on, off, bool(said)))
    share = states.count("correct") / len(states) if answers and states else 0.0
    return Attempt(written.strip(), round(100 * share, 1), tuple(states))


def _window_starts(text: str) -> list[int]:
    """First characters of the windows of a text."""
    tokens = [match.start() for match in _TOKEN.finditer(text)]
    starts = tokens[::WINDOW]
    if len(starts) > 1 and len(tokens) % WINDOW and len(tokens) % WINDOW < WINDOW // 2:
        starts.pop()
    return starts


def _state(on: int, off: int, answered: bool) -> WindowState:
    if on > off and (answered or on >= MIN_WORDS_OF_KEY):
        return "correct"
    return "steered" if off > on else "other"
