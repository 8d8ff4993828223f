"""Trials: the only loop. Generate, judge, record; killed at any moment, resumed by repeating."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from esr import interventions as iv
from esr import seeds
from esr.engine.base import GenerationRequest, Sampling, Scope
from esr.errors import UserError
from esr.interventions import Boost, Intervention
from esr.judge.base import JudgeRequest, Status, Verdict
from esr.lab import Lab, Progress
from esr.outcomes import Outcome, degraded
from esr.prompts import Prompt

if TYPE_CHECKING:
    from esr.calibration import Threshold
    from esr.latents import Selection


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
        scope: positions that are steered.
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

    def to_json(self) -> dict[str, Any]:
        """Plain data, all that can change the output."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "interventions": iv.to_json(self.interventions),
            "sampling": vars(self.sampling),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrialSpec:
        """Inverse of :meth:`to_json`."""
        return cls(
            **{name: data[name] for name in _PLAIN},
            interventions=iv.from_json(data["interventions"]),
            sampling=Sampling(**data["sampling"]),
        )

    @cached_property
    def key(self) -> str:
        """Hash of all that can change the output, 20 hex digits."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


_PLAIN = (
    "arm",
    "trial_id",
    "latent",
    "latent_label",
    "threshold",
    "prompt_id",
    "prompt",
    "judged",
    "scope",
)


@dataclass(frozen=True)
class TrialRecord:
    """A trial and what came of it.

    Attributes:
        response: None where generation has not happened or was refused.
        token_ids: of the response.
        finish_reason: "stop" or "length".
        verdict: None for trials that are not judged, or not yet.
        error: one line where the trial has no usable verdict; None else.
    """

    spec: TrialSpec
    response: str | None = None
    token_ids: tuple[int, ...] = ()
    finish_reason: str = ""
    verdict: Verdict | None = None
    error: str | None = None

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
        )


def boosted(
    lab: Lab,
    arm: str,
    latent: int,
    label: str,
    threshold: float,
    prompt: Prompt,
    trial_id: str,
    seed: int,
    max_tokens: int = 0,
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
        sampling=lab.sampling(seed, max_tokens),
    )


def at_threshold(
    lab: Lab,
    arm: str,
    selection: Selection,
    thresholds: Mapping[int, Threshold],
    n_trials: int,
) -> list[TrialSpec]:
    """The paper's trials: per latent, ``n_trials`` prompts without replacement, at its threshold.

    Latents whose calibration failed have none. Prompts and seeds depend on the run seed, the
    latent and the position alone, so that every arm replays the same trials.
    """
    specs = []
    for latent, label in selection.labels.items():
        threshold = thresholds.get(latent)
        if threshold is None or threshold.value is None:
            continue
        barred = set(selection.barred.get(latent, ()))
        allowed = [prompt for prompt in lab.prompts.prompts if prompt.id not in barred]
        order = seeds.generator(lab.seed, "trial prompts", latent).permutation(len(allowed))
        for index in order[:n_trials]:
            prompt = allowed[int(index)]
            trial_id = f"{latent}/{prompt.id}"
            seed = seeds.derive(lab.seed, "trial", latent, prompt.id)
            specs.append(boosted(lab, arm, latent, label, threshold.value, prompt, trial_id, seed))
    return specs


async def run_trials(
    specs: Sequence[TrialSpec],
    lab: Lab,
    *,
    description: str = "trials",
    progress: Progress | None = None,
    urgent: bool = False,
) -> list[TrialRecord]:
    """Generate and judge every spec, in any order; records come back in the order of specs.

    What the journal holds is taken from there: a generation is never made again, an answered
    verdict never paid again. Failed verdicts are asked for again, once per call.

    Args:
        specs: what to run; equal specs are refused, since they would be one trial counted twice.
        lab: engine, judge and journal.
        description: of the progress bar.
        progress: a bar to share; a new one where left out.
        urgent: what comes next depends on the verdicts: no batch is waited for.

    Raises:
        ValueError: two specs are equal.
        SpendLimitError: ``--max-spend`` is reached.
    """
    if len({spec.key for spec in specs}) < len(specs):
        raise ValueError("two trial specs are equal")
    bar = nullcontext(progress) if progress else lab.progress(len(specs), description)
    with bar as shared:
        tasks = [asyncio.create_task(_run_one(spec, lab, shared, urgent)) for spec in specs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _run_one(spec: TrialSpec, lab: Lab, progress: Progress, urgent: bool) -> TrialRecord:
    try:
        await lab.run.journal.once("generation", spec.key, lambda: _generate(spec, lab))
    except UserError as refused:
        progress.step()
        return TrialRecord(spec, error=f"engine: {refused}")
    record = recorded(spec, lab)
    if spec.judged and (record.verdict is None or not record.verdict.answered):
        request = JudgeRequest(spec.prompt, record.response or "", spec.latent_label)
        verdict = await lab.grade(request, urgent=urgent)
        lab.run.journal.put("verdict", spec.key, verdict.to_json())
        record = recorded(spec, lab)
    progress.step()
    return record


async def _generate(spec: TrialSpec, lab: Lab) -> dict[str, Any]:
    request = GenerationRequest(
        request_id=spec.key,
        prompt_token_ids=lab.chat.prompt_ids(spec.prompt),
        interventions=spec.interventions,
        sampling=spec.sampling,
        scope=spec.scope,
    )
    token_ids, text, finish_reason = await lab.generate(request)
    return {
        "spec": spec.to_json(),
        "token_ids": list(token_ids),
        "text": text,
        "finish_reason": finish_reason,
    }


def recorded(spec: TrialSpec, lab: Lab) -> TrialRecord:
    """What the journal holds of a trial."""
    generation = lab.run.journal.get("generation", spec.key)
    if generation is None:
        return TrialRecord(spec, error="not run")
    judged = lab.run.journal.get("verdict", spec.key)
    verdict = Verdict.from_json(judged) if judged else None
    return TrialRecord(
        spec=spec,
        response=generation["text"],
        token_ids=tuple(generation["token_ids"]),
        finish_reason=generation["finish_reason"],
        verdict=verdict,
        error=_error(spec, verdict),
    )


def _error(spec: TrialSpec, verdict: Verdict | None) -> str | None:
    if not spec.judged:
        return None
    if verdict is None:
        return "not judged"
    return None if verdict.answered else f"judge: {verdict.status}"


def finished(specs: Iterable[TrialSpec], lab: Lab) -> list[TrialRecord]:
    """The records of those specs that have been generated: what a partial result shows."""
    records = (recorded(spec, lab) for spec in specs)
    return [record for record in records if record.response is not None]
