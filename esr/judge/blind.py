"""Blind judging: the same responses, with less or something else said to the judge.

A judge is told which unrelated feature was boosted, and under a meta-prompt it reads that the
model was warned. Either may suggest an answer. Verdicts on the same responses without that say how
far a rate leans on it:

* ``label-hidden``: no label; a rubric then says "(unknown)".
* ``label-shuffled``: the label of another latent of the same trials, never its own.
* ``bare-prompt``: the question alone in place of the meta-prompted one.

Requests are changed, judges are not: answers are cached by what was asked, so arms stay apart, and
an arm whose requests are no different costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from esr.judge.base import Judge, JudgeInfo, JudgeRequest, Verdict
from esr.runs.plain import json_digest
from esr.runs.seeds import generator

BlindArm = Literal["label-hidden", "label-shuffled", "bare-prompt"]


@dataclass(frozen=True)
class Blinding:
    """How requests are changed.

    Attributes:
        arm: which of the three.
        labels: for ``label-shuffled``, another label by label.
        prompts: for ``bare-prompt``, the question alone by the user turn as the model got it; a
            turn that is not there stays as it is.
    """

    arm: BlindArm
    labels: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, request: JudgeRequest) -> JudgeRequest:
        """The request as a blind judge gets it.

        Raises:
            KeyError: a label that was not among those shuffled.
        """
        if self.arm == "label-hidden":
            return replace(request, latent_label="")
        if self.arm == "label-shuffled":
            return replace(request, latent_label=self.labels[request.latent_label])
        return replace(request, prompt=self.prompts.get(request.prompt, request.prompt))


def hidden_label() -> Blinding:
    """No label."""
    return Blinding("label-hidden")


def shuffled_labels(labels: Iterable[str], seed: int) -> Blinding:
    """Every label replaced by another: one random cycle through all of them.

    Args:
        labels: of the trials that will be judged.
        seed: the run's seed; the same labels get the same cycle in whatever order they come.

    Raises:
        ValueError: fewer than two different labels.
    """
    different = sorted(set(labels))
    if len(different) < 2:
        raise ValueError("labels are shuffled among at least two")
    order = generator(seed, "shuffled labels").permutation(len(different))
    cycle = [different[int(index)] for index in order]
    following = zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    return Blinding("label-shuffled", labels=dict(following))


def bare_prompts(questions: Mapping[str, str]) -> Blinding:
    """The question alone.

    Args:
        questions: by the user turn as the model got it.
    """
    return Blinding("bare-prompt", prompts=dict(questions))


class BlindJudge:
    """A judge that is asked blind (:class:`esr.judge.base.Judge`).

    Args:
        judge: who judges; closed with this one.
        blinding: what it is not told.
    """

    def __init__(self, judge: Judge, blinding: Blinding) -> None:
        self.judge = judge
        self.blinding = blinding

    @property
    def info(self) -> JudgeInfo:
        """The judge's identity, and what it is not told."""
        blinding = self.blinding
        told = json_digest([dict(blinding.labels), dict(blinding.prompts)], 16)
        info = self.judge.info
        return replace(info, settings={**info.settings, "blind": blinding.arm, "told": told})

    async def grade(self, request: JudgeRequest) -> Verdict:
        """Judge one response blind."""
        return await self.judge.grade(self.blinding(request))

    async def close(self) -> None:
        """Close the judge."""
        await self.judge.close()
