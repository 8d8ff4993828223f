"""What a trial came to: the light record that every metric works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esr.judge import gate
from esr.judge.base import FAILURES, Status
from esr.runs.results import Results, Trial, iter_trials, parse_results
from esr.runs.summary import WindowState


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        latent: the boosted latent; trials that share it form a cluster.
        trial_id: the same for the same trial under another condition.
        scores: of all attempts, 0 to 100, in the order of the response; None or empty unless
            graded.
        status: one of :class:`esr.judge.base.Status`.
        degraded: whether the response repeats a word (:func:`degraded`).
        announced: whether the response announces a restart (:func:`esr.judge.gate.announced`);
            None where the text is not known.
        windows: of a keyed judge, what each window of the response is about, in order.
        prompt: id of the question, the question itself in files that name none; trials that share
            it form a cluster too. Empty where it is not recorded.
        steered: whether a boost is on; where none is, the latent ties no trials together.
        arm: the condition; trials of several arms may share an id.
    """

    latent: int
    trial_id: str
    scores: tuple[float, ...] | None
    status: str
    degraded: bool = False
    announced: bool | None = None
    windows: tuple[WindowState, ...] = ()
    prompt: str = ""
    steered: bool = True
    arm: str = ""

    def __post_init__(self) -> None:
        if (self.status == Status.GRADED) != bool(self.scores):
            raise ValueError(f"trial {self.trial_id}: {self.status} with scores {self.scores}")

    @property
    def cell(self) -> tuple[int, str]:
        """Its latent and its prompt."""
        return self.latent, self.prompt

    @property
    def graded(self) -> bool:
        """Whether there is at least one scored attempt."""
        return bool(self.scores)

    @property
    def multi(self) -> bool:
        """At least two scored attempts."""
        return len(self.scores or ()) >= 2

    @property
    def improved(self) -> bool:
        """Multi-attempt, and the last score is strictly above the first."""
        return self.multi and self.change > 0

    @property
    def first(self) -> float:
        """First-attempt score; NaN where not graded."""
        return float(self.scores[0]) if self.scores else float("nan")

    @property
    def change(self) -> float:
        """Last minus first score; NaN where not graded."""
        return float(self.scores[-1] - self.scores[0]) if self.scores else float("nan")


def paired(a: Sequence[Outcome], b: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Trials graded on both sides, two arms or two judges, matched by id, in the order of ``a``.

    Raises:
        ValueError: a ``trial_id`` that occurs twice on one side.
    """
    first, second = ({o.trial_id: o for o in outcomes} for outcomes in (a, b))
    if len(first) < len(a) or len(second) < len(b):
        raise ValueError("a trial id occurs twice on one side")
    both = ((x, second[name]) for name, x in first.items() if name in second)
    return [(x, y) for x, y in both if x.graded and y.graded]


def degraded(text: str, repeats: int = 5) -> bool:
    """Whether a word longer than one character stands ``repeats`` times in a row (section 2.3).

    Words are what white space separates, compared as they stand.
    """
    run, previous = 0, ""
    for word in text.split():
        run = run + 1 if word == previous else 1
        previous = word
        if run >= repeats and len(word) > 1:
            return True
    return False


def outcomes_from_results(
    results: Results | Mapping[str, Any], arm: str | None = None
) -> list[Outcome]:
    """Outcomes from a results file in the authors' schema, ours or theirs.

    Args:
        results: typed, or the parsed file.
        arm: the one arm wanted of a file of ours that holds several; all trials where left out.

    Raises:
        UserError: the data do not follow the schema.
    """
    return [outcome_of(trial) for trial in iter_trials(parse_results(results), arm)]


def outcome_of(trial: Trial) -> Outcome:
    """What a recorded trial came to.

    A trial with an ``error`` or without a score is failed; one with a score but no attempts is
    ``no_attempts``. Our own files name the status of a verdict, which tells the kinds of failure
    apart.
    """
    scores = trial.scores
    status = Status.GRADED if scores else Status.NO_ATTEMPTS
    if trial.error or scores is None:
        named = trial.score.status if trial.score else None
        status = Status(named) if named in FAILURES else Status.FAILED
    return Outcome(
        latent=trial.latent,
        trial_id=trial.name,
        scores=scores if status == Status.GRADED else None,
        status=status,
        degraded=degraded(trial.response or ""),
        announced=None if trial.response is None else gate.announced(trial.response),
        windows=tuple(window for attempt in trial.attempts for window in attempt.windows),
        prompt=trial.prompt_id or trial.prompt or "",
        steered=trial.threshold != 0,
        arm=trial.arm or "",
    )
