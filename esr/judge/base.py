"""The judge contract. A failure is a status with the raw text, never a score of 0."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from esr.runs.summary import WindowState
from esr.runs.trial_data import AttemptData

if TYPE_CHECKING:
    from esr.models.prompts import Key


class Status(StrEnum):
    """What became of a judge call.

    Only ``GRADED`` and ``NO_ATTEMPTS`` are answers; the others are failures, which are never
    cached and are tried again when the command is repeated.
    """

    GRADED = "graded"
    NO_ATTEMPTS = "no_attempts"
    UNPARSEABLE = "unparseable"
    REFUSED = "refused"
    FAILED = "failed"


FAILURES = frozenset({Status.UNPARSEABLE, Status.REFUSED, Status.FAILED})


@dataclass(frozen=True)
class Attempt:
    """A stretch of the response between explicit restarts, scored 0 to 100.

    Attributes:
        text: of the attempt.
        score: 0 to 100.
        windows: what each window of the text is about, of a judge that looks at windows
            (:mod:`esr.judge.keyed`).
    """

    text: str
    score: float
    windows: tuple[WindowState, ...] = ()

    def to_json(self) -> AttemptData:
        """Plain data for the journal."""
        plain: AttemptData = {"attempt_text": self.text, "score": self.score}
        if self.windows:
            plain["windows"] = list(self.windows)
        return plain


@dataclass(frozen=True)
class Verdict:
    """One judge call.

    Attributes:
        attempts: in the order of the response; non-empty exactly when ``status`` is GRADED.
        raw: what the judge answered, or the error.
        input_tokens: as the provider reports, cached tokens included.
        output_tokens: as the provider reports.
        cost: US dollars.
        reason: why a failure failed, one of :class:`esr.judge.parsing.Reason`; else empty.
    """

    status: Status
    attempts: tuple[Attempt, ...] = ()
    raw: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    reason: str = ""

    @property
    def answered(self) -> bool:
        """Whether the judge gave an answer that need not be asked for again."""
        return self.status not in FAILURES

    @property
    def first_score(self) -> float | None:
        """Score of attempt 1; None where nothing was scored."""
        return self.attempts[0].score if self.attempts else None

    def to_json(self) -> dict[str, Any]:
        """Plain data for the journal."""
        return {
            "status": str(self.status),
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "raw": self.raw,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost": self.cost,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Verdict:
        """Inverse of :meth:`to_json`."""
        return cls(
            Status(data["status"]),
            tuple(
                Attempt(a["attempt_text"], a["score"], tuple(a.get("windows", ())))
                for a in data["attempts"]
            ),
            data["raw"],
            data["input_tokens"],
            data["output_tokens"],
            data["cost"],
            data.get("reason", ""),
        )


@dataclass(frozen=True)
class JudgeRequest:
    """What a judge sees: the prompt as the model got it, the response, the latent's label.

    The key of a question with a known answer is there for judges that look it up; no language
    model is told.
    """

    prompt: str
    response: str
    latent_label: str
    key: Key | None = None


@dataclass(frozen=True)
class JudgeInfo:
    """Identity of a judge: everything that can change a verdict, and what a call costs.

    Attributes:
        id: dated model id, e.g. ``claude-haiku-4-5-20251001``; ``lexical`` for the offline one.
        rubric_hash: SHA-256 of the instructions the judge works by.
        settings: further settings that can change an answer (temperature, max tokens).
    """

    id: str
    rubric_hash: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CallSettings:
    """How language models are asked; nothing here changes an answer.

    Attributes:
        concurrency: calls on their way at once (``--judge-concurrency``).
        retries: further tries of a call after a passing fault.
        timeout: seconds without a sign of life after which a call is given up and tried again.
        longest_wait: seconds; a provider that asks to be left alone for longer has failed.
        patience: calls that fail in a row before the run stops.
    """

    concurrency: int = 32
    retries: int = 5
    timeout: float = 120.0
    longest_wait: float = 300.0
    patience: int = 10


class Judge(Protocol):
    """Splits responses into attempts and scores them (paper sections 2.1 and A.2)."""

    @property
    def info(self) -> JudgeInfo:
        """Who judges, by which rules."""
        ...

    async def grade(self, request: JudgeRequest) -> Verdict:
        """Judge one response. Never raises for a provider's fault: that is a status."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
