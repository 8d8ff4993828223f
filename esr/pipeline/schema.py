"""What trials are made of: specs, records, thresholds and selected latents, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

from esr.analysis.outcomes import Outcome, degraded
from esr.engine.base import Sampling
from esr.judge import gate
from esr.judge.base import Status, Verdict
from esr.judge.spans import attempt_spans
from esr.models.prompts import Prompt
from esr.runs.journal import Journal
from esr.runs.plain import json_digest, restore
from esr.runs.trial_data import ScoreData, SelectionCounts, SpecEntry, TrialData
from esr.steering import interventions as iv
from esr.steering.interventions import Boost, Intervention
from esr.steering.scope import Scope

LatentFilter = Literal["release", "paper"]


@dataclass(frozen=True)
class TrialSpec:
    """One response to generate and judge: pure data.

    Attributes:
        arm: name of the condition, e.g. "steered", "calibration", "ablation".
        trial_id: names the trial over all arms; arms that replay a trial share it, and with it
            the seed.
        latent: the boosted latent, or the one the trial belongs to where nothing is boosted.
        latent_label: what the judge is told about it.
        threshold: boost in the model's units; 0 without steering.
        prompt_id: of the prompt set.
        prompt: the user turn as the model gets it, meta-prompt included.
        interventions: active for this response alone.
        sampling: seed included.
        judged: False for responses that only serve to be read.
        scope: positions that may be steered, see :mod:`esr.steering.scope`.
        prefix_token_ids: tokens of the response that are given, not generated; what is judged is
            prefix and generated text together.
        given: a whole response to be judged: nothing is generated. None where one is.
    """

    arm: str
    trial_id: str
    latent: int
    latent_label: str
    threshold: float
    prompt_id: str
    prompt: str
    interventions: tuple[Intervention, ...]
    sampling: Sampling
    judged: bool = True
    scope: Scope = "all"
    prefix_token_ids: tuple[int, ...] = ()
    given: str | None = None

    def to_json(self) -> SpecEntry:
        """Plain data, all that can change the output; prefix and text where they are given."""
        data: SpecEntry = {
            "arm": self.arm,
            "trial_id": self.trial_id,
            "latent": self.latent,
            "latent_label": self.latent_label,
            "threshold": self.threshold,
            "prompt_id": self.prompt_id,
            "prompt": self.prompt,
            "judged": self.judged,
            "scope": self.scope,
            "interventions": iv.to_json(self.interventions),
            "sampling": vars(self.sampling),
        }
        if self.prefix_token_ids:
            data["prefix_token_ids"] = list(self.prefix_token_ids)
        if self.given is not None:
            data["given"] = self.given
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialSpec:
        """Inverse of :meth:`to_json`; further keys are ignored."""
        values = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        values["prefix_token_ids"] = tuple(data.get("prefix_token_ids", ()))
        values["interventions"] = iv.from_json(data["interventions"])
        values["sampling"] = Sampling(**data["sampling"])
        return cls(**values)

    def unsteered(self) -> TrialSpec:
        """The same trial with nothing boosted or clamped."""
        return replace(self, threshold=0.0, interventions=())

    @cached_property
    def key(self) -> str:
        """Hash of all that can change the output, 20 hex digits."""
        return json_digest(self.to_json(), 20)


@dataclass(frozen=True)
class TrialRecord:
    """A trial and what came of it.

    Attributes:
        response: None where generation has not happened or was refused.
        token_ids: of the response.
        finish_reason: "stop" or "length".
        verdict: None for trials that are not judged, or not yet.
        generated_from: first character of the response that was generated; what stands before
            it was given.
        pairing: tokens steered by the trial's own, another and no intervention, see
            :attr:`esr.engine.base.Generation.pairing`; None where they were not counted.
        error: one line where the trial has no usable verdict; None else.
    """

    spec: TrialSpec
    response: str | None = None
    token_ids: tuple[int, ...] = ()
    finish_reason: str = ""
    verdict: Verdict | None = None
    error: str | None = None
    generated_from: int = 0
    pairing: Mapping[str, int] | None = None

    @property
    def failure(self) -> str:
        """Why the verdict failed; empty where there is none, or one that did not."""
        if self.verdict is None or self.verdict.answered:
            return ""
        return f"{self.verdict.status} ({self.verdict.reason})"

    @property
    def status(self) -> str:
        """The verdict's status; "failed" without one."""
        return str(self.verdict.status if self.verdict else Status.FAILED)

    def outcome(self) -> Outcome:
        """What the metrics need."""
        attempts = self.verdict.attempts if self.verdict else ()
        return Outcome(
            latent=self.spec.latent,
            trial_id=self.spec.trial_id,
            scores=tuple(attempt.score for attempt in attempts) or None,
            status=self.status,
            degraded=degraded(self.response or ""),
            announced=None if self.response is None else gate.announced(self.response),
            windows=tuple(window for attempt in attempts for window in attempt.windows),
            prompt=self.spec.prompt_id,
            steered=self.spec.threshold != 0,
            arm=self.spec.arm,
        )

    def to_json(self) -> TrialData:
        """One entry of ``trials`` in ``results.json``."""
        spec, verdict = self.spec, self.verdict
        score: ScoreData | None = None
        if verdict is not None:
            spans = attempt_spans(self.response or "", [a.text for a in verdict.attempts])
            score = {
                "raw_response": verdict.raw,
                "attempts": [
                    {**a.to_json(), "span": span}
                    for a, span in zip(verdict.attempts, spans, strict=True)
                ],
                "status": str(verdict.status),
            }
        data: TrialData = {
            "prompt": spec.prompt,
            "feature_index_in_sae": spec.latent,
            "feature_label": spec.latent_label,
            "threshold": spec.threshold,
            "seed": spec.sampling.seed,
            "response": self.response,
            "score": score,
            "error": self.error,
            "trial_id": spec.trial_id,
            "arm": spec.arm,
            "prompt_id": spec.prompt_id,
            "finish_reason": self.finish_reason,
            "degraded": degraded(self.response or ""),
            "spec": spec.to_json(),
        }
        if spec.prefix_token_ids:
            data["generated_from"] = self.generated_from
        if self.pairing is not None:
            data["pairing"] = dict(self.pairing)
        return data


def boosted(
    arm: str,
    latent: int,
    label: str,
    threshold: float,
    prompt: Prompt,
    trial_id: str,
    sampling: Sampling,
) -> TrialSpec:
    """The usual trial: one boost at a threshold, the prompt as it is."""
    return TrialSpec(
        arm=arm,
        trial_id=trial_id,
        latent=latent,
        latent_label=label,
        threshold=threshold,
        prompt_id=prompt.id,
        prompt=prompt.text,
        interventions=(Boost(latent, threshold),),
        sampling=sampling,
    )


@dataclass(frozen=True)
class Threshold:
    """A calibrated latent.

    Attributes:
        latent: id in the dictionary.
        value: posterior median, rounded to 2 decimals; None where calibration failed.
        low: lower end of the central 95 % of the posterior: model-based, not calibrated. Its law
            uses only on which side of the target a score lies, and holds the truth less often.
        high: upper end.
        rounds: rounds that gave a score.
        skipped: rounds without any scored response after all tries.
        error: one line where ``value`` is None.
        scores: of each round, its boost and the mean first-attempt score, 0 to 100; None where
            it was skipped. Empty in older files.
        unjudged: verdicts of its rounds that failed; a threshold with any serves this run, and is
            measured again when the command is repeated.
        method: "bisection", the paper's, whose interval is model-based and does not hold its 95 %
            (docs/statistics.md), or "adaptive", whose interval is that of the pooled curves.
        expected_error: of "adaptive", expected root mean square error of the true mean score at
            ``value``, in points.
    """

    latent: int
    value: float | None
    low: float
    high: float
    rounds: int
    skipped: int
    error: str | None = None
    scores: list[list[float | None]] = field(default_factory=list)
    unjudged: int = 0
    method: str = "bisection"
    expected_error: float | None = None

    @property
    def final(self) -> bool:
        """Whether it need not be measured again."""
        return self.value is not None and not self.unjudged

    @classmethod
    def recorded(
        cls, journal: Journal, latents: Iterable[int], operator: str = ""
    ) -> dict[int, Threshold]:
        """Those of ``latents`` that a run has calibrated so far, failures with their reason.

        ``operator``: what was calibrated, where that was not a boost.
        """
        before = f"{operator}/" if operator else ""
        entries = {latent: journal.get("threshold", f"{before}{latent}") for latent in latents}
        return {latent: cls(**entry) for latent, entry in entries.items() if entry}


@dataclass(frozen=True)
class Match:
    """What a search for a target divergence came to.

    Attributes:
        value: whose divergence was nearest to the target; None where the search failed.
        nats: of it.
        target: nats per token.
        steps: every value tried, and its divergence.
        error: one line where the target was not reached; None else.
    """

    value: float | None
    nats: float
    target: float
    steps: list[list[float]] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True)
class Selection:
    """Latents to boost.

    Attributes:
        labels: latent -> label, in the order drawn.
        barred: latent -> ids of prompts it is not used with.
        wanted: how many latents were asked for.
        drawn: candidates drawn.
        concrete: candidates with a concrete label.
        note: one line where fewer latents than wanted were found.
    """

    labels: dict[int, str]
    barred: dict[int, list[str]] = field(default_factory=dict)
    wanted: int = 0
    drawn: int = 0
    concrete: int = 0
    note: str = ""

    @classmethod
    def recorded(cls, journal: Journal) -> Selection:
        """The selection of a run; an empty one before latents were chosen."""
        for _, data in journal.values("selection"):
            return restore(cls, data)
        return cls({})

    def counts(self, thresholds: Mapping[int, Threshold]) -> SelectionCounts:
        """Counts for ``results.json``, with what became of the calibrations so far."""
        failed = sum(threshold.value is None for threshold in thresholds.values())
        return {
            "wanted": self.wanted,
            "drawn": self.drawn,
            "concrete": self.concrete,
            "note": self.note,
            "calibrated": len(thresholds) - failed,
            "failed": failed,
        }
