"""The offline judge: splits at explicit restarts, scores by vocabulary.

Deterministic, needs no key and no network; the default judge of the embedded organism alone,
whose world has exclusive vocabularies (``data/organism/lexicon.json``). Outside that world it
falls back to the words of prompt and label, which is good enough to exercise the pipeline and
not to judge a real model; figures say which judge was used.

The rule, version 1, fixed before any effect was measured:

* A response is cut before every restart phrase. Elaboration, repetition and "another way is"
  are none. A stretch counts as an attempt if it has at least two content words outside restart
  phrases; other stretches join the following one. So a restart phrase as the very first words
  opens no second attempt, and neither does one with nothing after it.
* ``score = 100 * on / (on + off) * min(1, distinct / 4)``, with ``on`` the number of words of
  the prompt's topic, ``off`` the number of words of any other topic or of the label, ``distinct``
  the number of different on-topic words. An immediate repetition of a word counts as off.
  A stretch with neither scores 0. An answer with four different words of its topic and none of
  another scores 100.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.splitting import (
    GAP,
    MIN_CONTENT_WORDS,
    content,
    phrase_pattern,
    split,
    stem,
    words,
)
from esr.runs.paths import ORGANISM
from esr.runs.plain import digest

VERSION = 1
FULL_COVERAGE = 4

# Spaces stand for any run of spaces and light punctuation, so that word-level text such as
# "wait , that is not right ." is matched like "Wait, that's not right.".
RESTART_PHRASES = (
    r"(?:no |hold on |sorry |oops |actually )?wait (?:a (?:minute|second|moment) )?"
    r"(?:no |actually )?(?:that|this|it)(?: is|'s| was)(?: not)? "
    r"(?:right|wrong|correct|incorrect|a mistake|off topic|what you asked(?: for)?)",
    r"(?:no )?(?:that|this)(?: is|'s| was) not (?:right|correct|what you asked(?: for)?)",
    r"(?:wait |no )?(?:that|this) isn't (?:right|correct|what you asked(?: for)?)",
    r"(?:no|oops|sorry) (?:that|this)(?: is|'s| was) (?:wrong|incorrect)",
    r"(?:(?:sorry|oops|wait|no|ok|okay|hold on|apologies|my apologies|i apologi[sz]e) )*"
    r"(?:let me|let us|let's|i will|i'll|i should|i need to|i must|allow me to) (?:please )?"
    r"(?:try (?:that |this |it )?(?:once )?again|start (?:all )?over(?: again)?|start again"
    r"|begin again|restart|redo (?:that|this|it)|correct (?:myself|that)|rephrase (?:that|this)"
    r"|(?:get|go|come) back (?:on|to) (?:topic|track|(?:the|your) question)"
    r"|return to (?:the|your) question)",
    r"(?:(?:sorry|oops|wait|hold on|no) )*i(?: have|'ve)? "
    r"(?:went|got|gone|drifted|strayed|wandered|am|'m) off(?: the)? (?:topic|track|course)",
    r"(?:sorry |apologies )?(?:about that |for that )?i (?:got|was) (?:distracted|sidetracked)",
    r"(?:sorry|apologies|i apologi[sz]e) (?:about|for) (?:that|the confusion|the mistake)",
    r"(?:sorry |oops )?i made (?:a mistake|an error)",
    r"scratch that",
)


@cache
def _openings() -> re.Pattern[str]:
    """A row of restart phrases with the light punctuation between and behind them."""
    return re.compile(rf"(?:{phrase_pattern(RESTART_PHRASES).pattern}(?:{GAP})?)+", re.IGNORECASE)


def end_of_restart(text: str) -> int:
    """Position behind the restart phrases that ``text`` opens with; 0 where it opens with none."""
    opening = _openings().match(text)
    return opening.end() if opening else 0


def restart_spans(text: str) -> list[tuple[int, int]]:
    """Where known restart phrases stand: (first character, one past the last)."""
    return [match.span() for match in phrase_pattern(RESTART_PHRASES).finditer(text)]


class LexicalJudge:
    """A :class:`esr.judge.base.Judge` that needs nothing but a word list.

    Args:
        lexicon: JSON file ``{"topics": {name: {"nouns": [...], "verbs": [...]}}}``.
        phrases: regular expressions of restart phrases, a space matching light punctuation.
    """

    def __init__(
        self,
        lexicon: Path = ORGANISM / "lexicon.json",
        phrases: tuple[str, ...] = RESTART_PHRASES,
    ) -> None:
        self._source = lexicon.read_text(encoding="utf-8")
        self._phrases = phrases
        self._restart = phrase_pattern(phrases)

    @cached_property
    def _topics(self) -> Mapping[str, frozenset[str]]:
        topics = json.loads(self._source)["topics"]
        return {
            name: frozenset(stem(word) for word in [*entry["nouns"], *entry["verbs"]])
            for name, entry in topics.items()
        }

    @property
    def info(self) -> JudgeInfo:
        """Identity: phrases, lexicon and rule version."""
        rubric = json.dumps(
            [VERSION, MIN_CONTENT_WORDS, FULL_COVERAGE, self._phrases, self._source]
        )
        return JudgeInfo("lexical", digest(rubric))

    async def grade(self, request: JudgeRequest) -> Verdict:
        """Split and score one response. Never fails."""
        texts = self.split(request.response)
        if not texts:
            return Verdict(Status.NO_ATTEMPTS, raw="nothing attempted")
        on_topic, off_topic = self._vocabularies(request.prompt, request.latent_label)
        attempts = tuple(Attempt(text, self._score(text, on_topic, off_topic)) for text in texts)
        return Verdict(Status.GRADED, attempts, raw=f"lexical rule {VERSION}")

    async def close(self) -> None:
        """Nothing to release."""

    def split(self, response: str) -> list[str]:
        """The attempts of a response, restart phrases at the head of the attempt they open."""
        restarts = [match.span() for match in self._restart.finditer(response)]
        return [response[start:end].strip() for start, end in split(response, restarts)]

    def _vocabularies(self, prompt: str, label: str) -> tuple[frozenset[str], frozenset[str]]:
        """Words that count as on topic, and words that count as off topic."""
        label_words = frozenset(content(label))
        asked = frozenset(content(prompt)) - label_words
        on = self._topic_of(asked)
        if not on:
            return asked, label_words
        others = frozenset().union(*self._topics.values()) - on
        return on, others | (label_words - on)

    def _topic_of(self, words: frozenset[str]) -> frozenset[str]:
        """Vocabulary of the topic that shares most words with ``words``; empty where none does."""
        best = max(self._topics.values(), key=lambda topic: len(topic & words), default=frozenset())
        return best if best & words else frozenset()

    def _score(self, text: str, on_topic: frozenset[str], off_topic: frozenset[str]) -> float:
        listed = words(self._restart.sub(" ", text))
        repeated = sum(a == b for a, b in pairwise(listed))
        on = [word for word in listed if word in on_topic]
        off = sum(word in off_topic for word in listed) + repeated
        if not on:
            return 0.0
        needed = min(FULL_COVERAGE, len(on_topic))
        coverage = min(1.0, len(set(on)) / needed)
        return round(100 * len(on) / (len(on) + off) * coverage, 1)
