"""A second offline judge, built differently from the lexical one, to check one against the other.

The rule, version 1, fixed before it graded anything:

* Splitting: no list of phrases. A sentence is a restart if it holds cues of at least two of three
  kinds: interruption ("wait", "sorry"), fault ("wrong", "mistake"), new start ("again", "let me").
  Neighbouring sentences of hardly anything but cues count as one. A restart opens an attempt,
  together with restarts that follow it at once, provided that both what came before and what
  comes after hold at least three other words.
* Scoring: no exclusive vocabularies. Texts are bags of letter triples, weighted by how rare they
  are among the topics of the organism's world (tf-idf). ``score = 100 * on / (on + off)``, with
  ``on`` the cosine of the attempt with the prompt and the topic most similar to it, ``off`` the
  larger of its cosines with the label and with the topic, of all others, that resembles the
  attempt most. 0 where ``on`` is 0.

It knows nothing of meaning. Agreement between the two judges shows that a rate does not hang on
one construction, not that either is right.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.runs.paths import ORGANISM
from esr.runs.plain import digest

VERSION = 1
MIN_WORDS = 3
MIN_KINDS = 2

CUES: Mapping[str, str] = {
    "interruption": r"wait|hold on|sorry|oops|apologi\w+|hmm+|actually|stop|no(?=\s*[,.;!])",
    "fault": r"wrong|mistake\w*|error\w*|incorrect|confus\w+|distracted|off[- ](?:topic|track)"
    r"|not (?:right|correct|what)|isn\s?['\u2019]?\s?t (?:right|correct|what)|nonsense",
    "new start": r"again|start over|starting over|restart\w*|begin anew|from the (?:top|beginning)"
    r"|let (?:me|us)|back to|scratch that|redo",
}
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?\n]+|\Z)")
_WORD = re.compile(r"[^\W\d_]{3,}")

Weights = Mapping[str, float]


class OverlapJudge:
    """A :class:`esr.judge.base.Judge` that compares letter triples.

    Args:
        lexicon: JSON file ``{"topics": {name: {"nouns": [...], "verbs": [...]}}}``; what it knows
            of topics. Without it, prompt and label are all there is to compare with.
    """

    def __init__(self, lexicon: Path = ORGANISM / "lexicon.json") -> None:
        self._source = lexicon.read_text(encoding="utf-8") if lexicon.is_file() else ""
        self._cues = {
            kind: re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)
            for kind, pattern in CUES.items()
        }

    @cached_property
    def _topics(self) -> list[Counter[str]]:
        entries = json.loads(self._source)["topics"].values() if self._source else ()
        return [_triples(" ".join([*entry["nouns"], *entry["verbs"]])) for entry in entries]

    @cached_property
    def _rarity(self) -> Weights:
        topics = Counter(triple for topic in self._topics for triple in topic)
        return {triple: math.log(len(self._topics) / n) for triple, n in topics.items()}

    @property
    def info(self) -> JudgeInfo:
        """Identity: cues, topics and rule version."""
        rubric = json.dumps([VERSION, MIN_WORDS, MIN_KINDS, dict(CUES), self._source])
        return JudgeInfo("overlap", digest(rubric))

    async def grade(self, request: JudgeRequest) -> Verdict:
        """Split and score one response. Never fails."""
        texts = self.split(request.response)
        if not texts:
            return Verdict(Status.NO_ATTEMPTS, raw="nothing attempted")
        on, others = self._references(request.prompt)
        label = _triples(request.latent_label)
        attempts = tuple(Attempt(text, self._score(text, on, others, label)) for text in texts)
        return Verdict(Status.GRADED, attempts, raw=f"overlap rule {VERSION}")

    async def close(self) -> None:
        """Nothing to release."""

    def split(self, response: str) -> list[str]:
        """The attempts of a response, restart sentences at the head of the attempt they open."""
        attempts, current, opening = [""], 0, False
        for sentence, restart in self._sentences(response):
            if restart and not opening and current >= MIN_WORDS:
                attempts.append("")
                current = 0
            attempts[-1] += sentence
            current += 0 if restart else len(_WORD.findall(sentence))
            opening = restart or (opening and not sentence.strip())
        if len(attempts) > 1 and current < MIN_WORDS:
            last = attempts.pop()
            attempts[-1] += last
        return [text.strip() for text in attempts if _WORD.search(text)]

    def _sentences(self, text: str) -> list[tuple[str, bool]]:
        """Sentences, and whether each is (part of) a restart."""
        sentences = [sentence for sentence in _SENTENCE.findall(text) if sentence]
        kinds = [self._kinds(sentence) for sentence in sentences]
        bare = [bool(k) and self._is_bare(s) for s, k in zip(sentences, kinds, strict=True)]
        restarts = [len(each) >= MIN_KINDS for each in kinds]
        for at in range(1, len(sentences)):
            if bare[at] and bare[at - 1] and len(kinds[at] | kinds[at - 1]) >= MIN_KINDS:
                restarts[at] = restarts[at - 1] = True
        return list(zip(sentences, restarts, strict=True))

    def _kinds(self, sentence: str) -> set[str]:
        return {kind for kind, cue in self._cues.items() if cue.search(sentence)}

    def _is_bare(self, sentence: str) -> bool:
        """Whether hardly anything is left of a sentence without its cues."""
        for cue in self._cues.values():
            sentence = cue.sub(" ", sentence)
        return len(_WORD.findall(sentence)) < MIN_WORDS

    def _references(self, prompt: str) -> tuple[Counter[str], list[Counter[str]]]:
        """What is on topic, and every topic that is not."""
        asked = _triples(prompt)
        if not self._topics:
            return asked, []
        at = max(range(len(self._topics)), key=lambda i: self._cosine(asked, self._topics[i]))
        return asked + self._topics[at], self._topics[:at] + self._topics[at + 1 :]

    def _score(
        self, text: str, on: Counter[str], others: list[Counter[str]], label: Counter[str]
    ) -> float:
        bag = _triples("".join(s for s, restart in self._sentences(text) if not restart))
        near = self._cosine(bag, on)
        far = max((self._cosine(bag, other) for other in [label, *others]), default=0.0)
        return round(100 * near / (near + far), 1) if near else 0.0

    def _cosine(self, a: Counter[str], b: Counter[str]) -> float:
        """Cosine of two bags under the rarity weights; unknown triples weigh as the rarest."""
        rarest = math.log(len(self._topics)) if len(self._topics) > 1 else 1.0
        weight = self._rarity.get
        dot = sum(n * b[t] * weight(t, rarest) ** 2 for t, n in a.items() if t in b)
        norms = [
            math.sqrt(sum((n * weight(t, rarest)) ** 2 for t, n in bag.items())) for bag in (a, b)
        ]
        return dot / (norms[0] * norms[1]) if dot else 0.0


def _triples(text: str) -> Counter[str]:
    """Letter triples of the words of a text, word ends marked."""
    return Counter(
        padded[i : i + 3]
        for padded in (f" {word.lower()} " for word in _WORD.findall(text))
        for i in range(len(padded) - 2)
    )
