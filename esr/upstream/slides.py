"""Responses in which the topic of another vector turns up: counted in a results file by a rule.

Written for the authors' published transcripts (docs/pairing-fault.md), works on any results file.

The rule knows labels alone. The words of a label are those of five letters and more, case
folded; a label *stands* in a response if a word of the response begins
with one of them and no word of the prompt does. For each response it asks this of every label that
is given, its own set aside, whether or not that label's vector was in flight; the labels that were
not say how often such words turn up without any cause.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esr.runs import seeds
from esr.runs.results import Results, Trial, iter_trials

SHORTEST = 5
"""Letters of a word that counts: shorter ones ("good", "king") are too common."""

DRAWS = 10_000
"""Sets of labels drawn for the chance of what was counted."""


def words(text: str) -> list[str]:
    """Runs of letters, case folded."""
    return re.findall(r"[^\W\d_]+", text.casefold())


def stands(label: str, response: str, prompt: str) -> bool:
    """Whether a word of ``label`` begins one of the response, and none of the prompt."""
    said, asked = words(response), words(prompt)
    return any(
        any(word.startswith(stem) for word in said)
        and not any(word.startswith(stem) for word in asked)
        for stem in words(label)
        if len(stem) >= SHORTEST
    )


@dataclass(frozen=True)
class Slide:
    """One label in one response that is another vector's."""

    trial: str
    own: str
    other: str


@dataclass(frozen=True)
class Slides:
    """What was counted.

    Attributes:
        responses: with a text.
        slides: each label of another vector of the file that stands in a response.
        pairs: responses times other labels of the file.
        own: responses in which their own label stands.
        elsewhere: of labels that are no vector of the file, how many stand in responses.
        elsewhere_pairs: responses times such labels.
        chance: share of sets of as many labels, drawn from all given, of which at least as many
            stand in responses; None without further labels.
    """

    responses: int
    slides: tuple[Slide, ...]
    pairs: int
    own: int
    elsewhere: int = 0
    elsewhere_pairs: int = 0
    chance: float | None = None

    @property
    def with_slide(self) -> int:
        """Responses with at least one."""
        return len({slide.trial for slide in self.slides})


def count(results: Results, others: Sequence[str] = (), seed: int = 0) -> Slides:
    """Count the labels of other vectors in every response.

    Args:
        results: of ours or of the authors.
        others: labels to compare with, such as all titles the vectors were drawn from; those of
            the file's own vectors among them are known by their text.
        seed: of the sets that are drawn.
    """
    trials = [trial for trial in iter_trials(results) if trial.response]
    present = list(dict.fromkeys(_label(trial) for trial in trials))
    further = [label for label in dict.fromkeys(others) if label not in present]
    table = np.array([_row(trial, (*present, *further)) for trial in trials], dtype=bool)
    own = [present.index(_label(trial)) for trial in trials]
    foreign = table.copy()
    foreign[range(len(trials)), own] = False
    slides = tuple(
        Slide(trial.name, _label(trial), present[int(k)])
        for trial, row in zip(trials, foreign[:, : len(present)], strict=True)
        for k in np.flatnonzero(row)
    )
    return Slides(
        responses=len(trials),
        slides=slides,
        pairs=len(trials) * (len(present) - 1),
        own=int(table[range(len(trials)), own].sum()),
        elsewhere=int(foreign[:, len(present) :].sum()),
        elsewhere_pairs=len(trials) * len(further),
        chance=_chance(foreign, len(present), len(slides), seed) if further else None,
    )


def _label(trial: Trial) -> str:
    return trial.feature_label or ""


def _row(trial: Trial, labels: Sequence[str]) -> list[bool]:
    return [stands(label, trial.response or "", trial.prompt or "") for label in labels]


def _chance(foreign: NDArray[np.bool_], drawn: int, seen: int, seed: int) -> float:
    """Of sets of ``drawn`` labels from all columns, the share in which as many stand."""
    counts = foreign.sum(0)
    rng = seeds.generator(seed, "labels of no vector in flight")
    order = rng.permuted(np.tile(counts, (DRAWS, 1)), axis=1)[:, :drawn]
    return (1 + int((order.sum(1) >= seen).sum())) / (1 + DRAWS)
