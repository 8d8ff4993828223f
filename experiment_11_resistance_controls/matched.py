"""The control matched-prefix: what is given after the first attempt, and what follows it.

Four beginnings of each response that starts over, the boost on throughout:

    natural     first attempt, announcement, the first tokens of the corrective text
    on-topic    first attempt, as many tokens of an unsteered response to the same prompt
    phrase      first attempt, announcement
    removed     first attempt

What the model writes after them is graded by itself, beside the whole response. All four may write
equally many tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialSpec
from esr.pipeline.trials import finished, run_trials
from esr.runs import seeds
from experiment_11_resistance_controls.config import Config
from experiment_11_resistance_controls.episodes import Beginnings, Episode

NOTE = "trials that start over alone; unsteered responses, one per prompt, come on top"
NATURAL, ON_TOPIC, PHRASE, REMOVED = ARMS = (
    *("matched-natural", "matched-on-topic"),
    *("matched-phrase", "matched-removed"),
)
CONTINUATION = "/continuation"
"""Ends the name of the arm that grades what follows a beginning by itself."""


@dataclass(frozen=True)
class Pieces:
    """Tokens of a response that starts over: first attempt, announcement, corrective text."""

    first: tuple[int, ...]
    announcement: tuple[int, ...]
    corrective: tuple[int, ...]

    @classmethod
    def of(cls, episode: Episode, texts: Beginnings, n: int) -> Pieces | None:
        """None where it does not start over, or fewer than ``n`` tokens follow."""
        if episode.restart is None:
            return None
        ids, _ = texts.tokens[episode.name]
        start = texts.tokens_before(episode, episode.restart.start)
        end = max(start, texts.tokens_before(episode, episode.restart.end))
        if not start or len(ids) < end + n:
            return None
        return cls(ids[:start], ids[start:end], ids[end : end + n])


async def specs(config: Config, context: RunContext, texts: Beginnings) -> list[TrialSpec]:
    """The trials of all four arms, and verdicts on what follows each beginning."""
    n = config.matched_tokens
    pieces = {e.name: found for e in texts.episodes if (found := Pieces.of(e, texts, n))}
    usable = [episode for episode in texts.episodes if episode.name in pieces]
    on_topic = await _on_topic(context, [episode.spec for episode in usable])
    begun = [
        spec
        for episode in usable
        for spec in _begun(episode.spec, pieces[episode.name], on_topic, context)
    ]
    await run_trials(begun, context, description="matched-prefix")
    return [*begun, *_continuations(begun, context)]


async def _on_topic(context: RunContext, steered: list[TrialSpec]) -> Mapping[str, tuple[int, ...]]:
    """Tokens of one unsteered response to each prompt, by prompt id."""
    asked = {spec.prompt_id: spec for spec in steered}
    unsteered = [
        replace(
            spec.unsteered(),
            arm="matched-unsteered",
            trial_id=f"unsteered/{prompt}",
            judged=False,
            sampling=replace(
                spec.sampling, seed=seeds.derive(context.seed, "on-topic text", prompt)
            ),
        )
        for prompt, spec in asked.items()
    ]
    records = await run_trials(unsteered, context, description="on-topic texts")
    return {r.spec.prompt_id: context.chat.response_ids(r.response or "")[0] for r in records}


def _begun(
    spec: TrialSpec,
    pieces: Pieces,
    on_topic: Mapping[str, tuple[int, ...]],
    context: RunContext,
) -> Iterator[TrialSpec]:
    corrective = pieces.announcement + pieces.corrective
    other = on_topic[spec.prompt_id][: len(corrective)]
    if len(other) < len(corrective):
        return
    left = max(1, spec.sampling.max_tokens - len(pieces.first) - len(corrective))
    seed = seeds.derive(context.seed, "matched prefix", spec.trial_id)
    beginnings = (corrective, other, pieces.announcement, ())
    for arm, what in zip(ARMS, beginnings, strict=True):
        yield replace(
            spec,
            arm=arm,
            prefix_token_ids=pieces.first + what,
            sampling=replace(spec.sampling, max_tokens=left, seed=seed),
        )


def _continuations(begun: list[TrialSpec], context: RunContext) -> Iterator[TrialSpec]:
    for record in finished(begun, context):
        text = (record.response or "")[record.generated_from :].strip()
        yield replace(
            record.spec, arm=record.spec.arm + CONTINUATION, given=text, prefix_token_ids=()
        )
