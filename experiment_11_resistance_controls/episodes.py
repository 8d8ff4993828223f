"""The parent's trials as the controls need them: the text, its tokens, and where it starts over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from esr.analysis.nulls import cut_positions
from esr.analysis.places import Place, first_restart
from esr.pipeline.context import Chat
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.schema import TrialSpec
from esr.runs import seeds
from esr.runs.results import Trial, iter_trials


@dataclass(frozen=True)
class Episode:
    """One trial of the parent.

    Attributes:
        spec: as it was asked for.
        text: its response.
        graded: whether the judge scored it.
        multi: whether the judge found several attempts.
        restart: where it starts over; None for a single attempt, or where that is not known.
    """

    spec: TrialSpec
    text: str
    graded: bool
    multi: bool
    restart: Place | None

    @property
    def name(self) -> str:
        """Trial id, the same over all arms."""
        return self.spec.trial_id


def episodes(parent: ReplayedRun, specs: Sequence[TrialSpec]) -> list[Episode]:
    """The trials that ``specs`` replay, in their order."""
    trials = {trial.name: trial for trial in iter_trials(parent.results)}
    return [_episode(spec, trials[spec.trial_id]) for spec in specs]


def _episode(spec: TrialSpec, trial: Trial) -> Episode:
    scores = () if trial.error else trial.scores or ()
    multi = len(scores) > 1
    place = first_restart(trial) if multi else None
    return Episode(spec, trial.response or "", bool(scores), multi, place)


@dataclass(frozen=True)
class Beginnings:
    """Beginnings of responses, up to where they start over, or as long as those where they do not.

    Attributes:
        episodes: all graded trials.
        chat: of the model, which turns text into tokens.
        seed: the run's.
    """

    episodes: Sequence[Episode]
    chat: Chat = field(repr=False)
    seed: int

    @cached_property
    def tokens(self) -> Mapping[str, tuple[tuple[int, ...], tuple[tuple[int, int], ...]]]:
        """Token ids of each response and their characters, by trial id."""
        return {e.name: self.chat.response_ids(e.text) for e in self.episodes}

    @cached_property
    def restarts(self) -> Mapping[str, int]:
        """Tokens before each restart, by trial id, of trials in which it has a place."""
        return {
            e.name: self.tokens_before(e, e.restart.start)
            for e in self.episodes
            if e.restart is not None
        }

    def tokens_before(self, episode: Episode, character: int) -> int:
        """How many whole tokens of a response end at or before a character."""
        _, spans = self.tokens[episode.name]
        return sum(end <= character for _, end in spans)

    @cached_property
    def lengths(self) -> Mapping[str, int]:
        """Tokens of the beginning of each response, by trial id.

        A response that does not start over is cut where another one does, of the same latent where
        there is one (:func:`esr.analysis.nulls.cut_positions`); without one that lies inside it has
        no beginning.
        """
        singles = [episode for episode in self.episodes if not episode.multi]
        cuts = cut_positions(
            [
                (e.spec.latent, self.restarts[e.name])
                for e in self.episodes
                if e.name in self.restarts
            ],
            [(e.spec.latent, len(self.tokens[e.name][0])) for e in singles],
            seeds.generator(self.seed, "places of restarts"),
        )
        lengths = {name: n for name, n in self.restarts.items() if n}
        lengths |= {e.name: n for e, n in zip(singles, cuts, strict=True) if n}
        return lengths

    def prefix(self, episode: Episode) -> tuple[int, ...]:
        """Token ids of its beginning."""
        return self.tokens[episode.name][0][: self.lengths[episode.name]]

    def parts(self, episode: Episode) -> tuple[str, str]:
        """The text before and behind the end of its beginning."""
        _, spans = self.tokens[episode.name]
        cut = spans[self.lengths[episode.name] - 1][1]
        return episode.text[:cut].strip(), episode.text[cut:].strip()
