"""Self-correcting episodes: which trials they are, where their parts begin, which tokens those are.

Paper sections 3.6 and A.4. Pure functions of results, texts and offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esr.analysis.outcomes import degraded
from esr.judge.boundaries import Boundaries
from esr.judge.lexical import end_of_restart
from esr.judge.spans import Span, spans_of
from esr.runs.results import Results, iter_trials, parse_results

MIN_BASELINE_SCORE = 50.0
"""Least score of a single-attempt response of the baseline (paper A.4)."""

_SENTENCE_ENDS = ".!?:\n"


@dataclass(frozen=True)
class Episode:
    """A graded response.

    Attributes:
        trial_id: of the run it comes from.
        latent: the boosted one.
        latent_label: its label.
        threshold: its boost.
        prompt: the user turn.
        response: the text.
        attempts: what the judge quoted of each attempt.
        scores: of each attempt, 0 to 100.
        spans: where each attempt stands in the response; None where it does not.
    """

    trial_id: str
    latent: int
    latent_label: str
    threshold: float
    prompt: str
    response: str
    attempts: tuple[str, ...]
    scores: tuple[float, ...]
    spans: tuple[Span | None, ...] = ()

    @property
    def gain(self) -> float:
        """Last minus first score."""
        return self.scores[-1] - self.scores[0]


def from_results(results: Results | Mapping[str, Any], arm: str | None = None) -> Iterator[Episode]:
    """The graded trials of a results file, ours or the authors', in its order.

    Args:
        results: typed, or the parsed file.
        arm: the one arm wanted of a file of ours that holds several.
    """
    for trial in iter_trials(parse_results(results), arm):
        if trial.error or not trial.response or not trial.scores:
            continue
        placed = zip(trial.attempts, spans_of(trial), strict=True)
        scored = [(attempt, span) for attempt, span in placed if attempt.score is not None]
        yield Episode(
            trial_id=trial.name,
            latent=trial.latent,
            latent_label=trial.feature_label or "",
            threshold=float(trial.threshold or 0.0),
            prompt=trial.prompt or "",
            response=trial.response,
            attempts=tuple(attempt.attempt_text for attempt, _ in scored),
            scores=trial.scores,
            spans=tuple(span for _, span in scored),
        )


def self_correcting(graded: Iterable[Episode]) -> list[Episode]:
    """Exactly two attempts, the second with the higher score (paper A.4)."""
    return [e for e in graded if len(e.scores) == 2 and e.gain > 0]


def single_attempt(
    graded: Iterable[Episode], min_score: float = MIN_BASELINE_SCORE
) -> list[Episode]:
    """The baseline: one attempt, with at least that score (paper A.4)."""
    return [e for e in graded if len(e.scores) == 1 and e.scores[0] >= min_score]


def by_clarity(graded: Iterable[Episode]) -> list[Episode]:
    """Self-correcting episodes, the clearest first.

    The largest gain, then the lower first score, then the longer text, then the id; responses
    that repeat a word come last.
    """
    return sorted(
        self_correcting(graded),
        key=lambda e: (degraded(e.response), -e.gain, e.scores[0], -len(e.response), e.trial_id),
    )


def offline_boundaries(response: str, spans: Sequence[Span | None]) -> Boundaries | None:
    """Boundaries from where the judge's two attempts stand, without asking anyone.

    The off-topic part begins with the first attempt: where in it the drift sets in is not known
    here. The correction begins with the words between the attempts, if there are any, else with
    the second attempt; the on-topic part behind the restart phrase, or behind the first sentence
    where no known phrase stands there.

    Returns:
        None unless there are two attempts and both stand in the response.
    """
    places = [span for span in spans if span is not None]
    if len(spans) != 2 or len(places) != 2:
        return None
    (start, end), (again, _) = places
    if any(c.isalnum() for c in response[end:again]):
        correction, on_topic = _skip_space(response, end), again
    else:
        correction = again
        on_topic = again + (end_of_restart(response[again:]) or _first_sentence(response[again:]))
    if not start < correction <= on_topic < len(response):
        return None
    return Boundaries(start, correction, on_topic)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and not text[at].isalnum():
        at += 1
    return at


def _first_sentence(text: str) -> int:
    """Position of the first word behind the first sentence; the length where there is none."""
    ends = [at for at in (text.find(mark) for mark in _SENTENCE_ENDS) if at >= 0]
    return _skip_space(text, min(ends)) if ends else len(text)


@dataclass(frozen=True)
class Regions:
    """Tokens of a response: ``off_topic`` to ``correction`` to ``on_topic`` to ``end``."""

    off_topic: int
    correction: int
    on_topic: int
    end: int

    @property
    def parts(self) -> dict[str, slice]:
        """The three regions by name."""
        return {
            "off_topic": slice(self.off_topic, self.correction),
            "correction": slice(self.correction, self.on_topic),
            "on_topic": slice(self.on_topic, self.end),
        }

    @property
    def complete(self) -> bool:
        """Whether both compared regions have a token."""
        return self.off_topic < self.correction and self.on_topic < self.end


def token_at(spans: Sequence[tuple[int, int]], character: int) -> int:
    """The first token that holds a character, or the next one where it lies between tokens.

    Args:
        spans: characters of each token, (first, one past the last), as the tokenizer gives them;
            tokens without characters are (n, n).
        character: position in the text.

    Returns:
        index of the token; ``len(spans)`` behind the last one.
    """
    for index, (start, end) in enumerate(spans):
        if end > character and end > start:
            return index
    return len(spans)


def regions(spans: Sequence[tuple[int, int]], boundaries: Boundaries) -> Regions:
    """Boundaries in characters as boundaries in tokens."""
    return Regions(
        off_topic=token_at(spans, boundaries.off_topic),
        correction=token_at(spans, boundaries.correction),
        on_topic=token_at(spans, boundaries.on_topic),
        end=len(spans),
    )
