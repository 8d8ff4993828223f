"""Marking where episodes go off topic, restart and are on topic again: by a model, or offline.

Paper sections 3.6 and A.4. Marks are journaled, so that nothing is paid for twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from esr import judge
from esr.analysis.episodes import Episode, offline_boundaries
from esr.errors import UserError
from esr.judge.base import JudgeRequest, Status
from esr.judge.boundaries import Boundaries, annotate, prompt_digest
from esr.judge.client import Client
from esr.judge.llm import client_of
from esr.models import ModelSpec
from esr.pipeline.context import Progress, RunContext
from esr.pipeline.detector_files import DetectorConfig
from esr.runs.plain import plain, restore


@dataclass(frozen=True, kw_only=True)
class EpisodeConfig(DetectorConfig):
    """Options of an experiment on self-correcting episodes."""

    boundaries: Literal["auto", "judge", "offline"] = "auto"
    """Who marks the parts of an episode: the judge's model (A.4), or what the judge quoted of the
    attempts; auto asks the model unless the judge is an offline one."""

    def identity(self) -> dict[str, Any]:
        """With what a model is told that may be asked."""
        asked = {"boundaries_prompt": prompt_digest()} if self.boundaries != "offline" else {}
        return {**super().identity(), **asked}

    def judge_name(self, context: RunContext) -> str:
        """Name of the judge of this run."""
        return self.judge or context.spec.judge

    def offline(self, context: RunContext) -> bool:
        """Whether boundaries come from the attempts' own text."""
        return not self.asks(context.spec)

    def asks(self, spec: ModelSpec) -> bool:
        """Whether a model is asked for them."""
        offline = judge.spec(self.judge or spec.judge).provider == "offline"
        return self.boundaries == "judge" or (self.boundaries == "auto" and not offline)


@dataclass(frozen=True)
class Mark:
    """The boundaries of one episode.

    Attributes:
        boundaries: None where they could not be found.
        method: "offline", or the id of the model that was asked.
        status: "graded", "no_attempts" where the model sees no correction, or a failure.
    """

    boundaries: Boundaries | None
    method: str
    status: str


async def mark(
    config: EpisodeConfig, context: RunContext, episodes: Sequence[Episode]
) -> dict[str, Mark]:
    """The boundaries of every episode, by trial id. Failures are asked for again when repeated.

    Raises:
        SpendLimitError: ``--max-spend`` is reached.
        JudgeError: the judge rejects what it is asked, or cannot be reached.
        UserError: the judge of the run is no language model.
    """
    if config.offline(context):
        return {e.trial_id: _offline(e) for e in episodes}
    name, client = config.judge_name(context), client_of(context.urgent_judge or context.judge)
    if client is None:
        raise UserError(
            f"judge {name!r} is no language model", "haiku, sonnet, ...", "--boundaries offline"
        )
    unmarked = [e for e in episodes if _recorded(context, name, e) is None]
    if unmarked:
        with context.progress(len(unmarked), "boundaries") as progress:
            await _gather([_ask(context, client, name, e, progress) for e in unmarked])
    missing = Mark(None, name, str(Status.FAILED))
    return {e.trial_id: _recorded(context, name, e) or missing for e in episodes}


def _offline(episode: Episode) -> Mark:
    boundaries = offline_boundaries(episode.response, episode.spans)
    return Mark(boundaries, "offline", "graded" if boundaries else "not located")


def _recorded(context: RunContext, name: str, episode: Episode) -> Mark | None:
    data = context.run.journal.get(f"boundaries/{name}", episode.trial_id)
    return restore(Mark, data) if data else None


async def _ask(
    context: RunContext, client: Client, name: str, episode: Episode, progress: Progress
) -> None:
    request = JudgeRequest(episode.prompt, episode.response, episode.latent_label)
    annotation = await annotate(client, request)
    if annotation.answered:
        mark = Mark(annotation.boundaries, client.model, str(annotation.status))
        context.run.journal.put(f"boundaries/{name}", episode.trial_id, plain(mark))
    progress.step()


async def _gather(waiting: list[Any]) -> None:
    tasks = [asyncio.create_task(item) for item in waiting]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
