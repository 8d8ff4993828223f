"""The run whose trials another experiment replays: ours, or a results file of the authors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from esr.analysis.outcomes import Outcome, outcomes_from_results
from esr.engine.base import Sampling
from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.prompts import PromptSet
from esr.pipeline.candidates import Candidates
from esr.pipeline.cli import ReplayConfig
from esr.pipeline.schema import Threshold, TrialSpec
from esr.pipeline.settings import wanted_run
from esr.runs.folder import read_run
from esr.runs.plain import digest, file_digest
from esr.runs.results import Results, Trial, read_results, results_file
from esr.runs.same_settings import flat
from esr.runs.summary import ParentEntry
from esr.steering.interventions import Boost

EXPERIMENT_1 = "experiment_01_esr"

OPTION = "--from-results"
"""Names a parent."""

_CARRIED = ("model.calibration.", "model.max_tokens", "profile.repetition_penalty")
"""Settings that a replayed trial takes along, boost and sampling: they cannot differ."""


@dataclass(frozen=True)
class ReplayedRun:
    """A finished run of experiment 1, or any file in its schema.

    Attributes:
        path: run folder or results file.
        results: its results.
        digest: SHA-256 of the results file, first 16 hex digits.
        run_id: of our run; empty for a file of the authors.
        settings: :attr:`esr.pipeline.context.RunContext.settings` of our run; empty for a file of
            the authors.
    """

    path: Path
    results: Results
    digest: str
    run_id: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> ParentEntry:
        """What names this parent in the identity of a child run."""
        return {"run_id": self.run_id, "digest": self.digest}

    def labels(self) -> dict[int, str]:
        """Latent -> label, in the order of the file."""
        return {f.feature_index_in_sae: f.feature_label or "" for f in self.results.features}

    def thresholds(self) -> dict[int, Threshold]:
        """Latent -> threshold, of the latents that have one."""
        thresholds = {}
        for feature in self.results.features:
            latent, value = feature.feature_index_in_sae, feature.threshold
            if feature.calibration and value is not None:
                thresholds[latent] = Threshold(**feature.calibration)
            elif value is not None:
                thresholds[latent] = Threshold(latent, value, value, value, 0, 0)
        return thresholds

    def outcomes(self, trial_ids: Collection[str] | None = None) -> list[Outcome]:
        """What the judge said of every trial, for paired comparisons by trial id.

        Args:
            trial_ids: the trials wanted, where not all were replayed.
        """
        outcomes = outcomes_from_results(self.results)
        return [o for o in outcomes if trial_ids is None or o.trial_id in trial_ids]

    def differences(self, settings: Mapping[str, Any]) -> list[str] | None:
        """Names of the settings in which a child run differs: each confounds a comparison.

        Args:
            settings: of the child, :attr:`esr.pipeline.context.RunContext.settings`.

        Returns:
            None where the parent's settings are not recorded.
        """
        if not self.settings:
            return None
        ours, theirs = flat(settings), flat(self.settings)
        names = {name for name in {*ours, *theirs} if not name.startswith(_CARRIED)}
        return sorted(name for name in names if ours.get(name) != theirs.get(name))

    def replayable(self, n_latents: int | None = None, n_trials: int | None = None) -> int:
        """How many trials :meth:`replay` gives for the same limits."""
        return len(self.answered(n_latents, n_trials))

    def replay(
        self,
        prompts: PromptSet,
        sampling: Callable[[int], Sampling],
        arm: str,
        change: Callable[[TrialSpec], TrialSpec] = lambda spec: spec,
        n_latents: int | None = None,
        n_trials: int | None = None,
    ) -> list[TrialSpec]:
        """The parent's trials once more, as another arm: same latent, boost, prompt and seed.

        Args:
            prompts: whose ids a file of the authors gets by text.
            sampling: by seed, where the parent is a file of the authors.
            arm: name of the new arm.
            change: what this arm does differently, e.g. adds clamps.
            n_latents: only the first so many latents that have trials; all where left out.
            n_trials: only the first so many trials of each; all where left out.
        """
        specs = self.specs(prompts, sampling, n_latents, n_trials)
        return [change(replace(spec, arm=arm)) for spec in specs]

    def specs(
        self,
        prompts: PromptSet,
        sampling: Callable[[int], Sampling],
        n_latents: int | None = None,
        n_trials: int | None = None,
    ) -> Iterator[TrialSpec]:
        """The specs of the trials of the parent that have a response."""
        by_text = {prompt.text: prompt.id for prompt in prompts.prompts}
        for trial in self.answered(n_latents, n_trials):
            if trial.spec is not None:
                yield TrialSpec.from_json(trial.spec)
            else:
                yield _foreign(sampling, trial, by_text)

    def answered(self, n_latents: int | None = None, n_trials: int | None = None) -> list[Trial]:
        """Trials that have a response, within limits."""
        by_latent = (
            [trial for trial in feature.trials if trial.response is not None][:n_trials]
            for feature in self.results.features
        )
        limited = islice((trials for trials in by_latent if trials), n_latents)
        return [trial for trials in limited for trial in trials]


def _foreign(
    sampling: Callable[[int], Sampling],
    trial: Trial,
    by_text: dict[str, str],
) -> TrialSpec:
    """The spec of a trial in a file of the authors, which names no prompt ids."""
    if trial.threshold is None or trial.seed is None:
        raise UserError(
            f"trial {trial.name} has a response but no boost or no seed",
            "trials with threshold and seed",
            "name another results file with --from-results",
        )
    text, threshold = str(trial.prompt), float(trial.threshold)
    return TrialSpec(
        arm="steered",
        trial_id=trial.name,
        latent=trial.latent,
        latent_label=trial.feature_label or "",
        threshold=threshold,
        prompt_id=by_text.get(text) or f"text-{digest(text, 8)}",
        prompt=text,
        interventions=(Boost(trial.latent, threshold),),
        sampling=sampling(trial.seed),
    )


def find(config: ReplayConfig, spec: ModelSpec) -> ReplayedRun:
    """The parent named on the command line, or the newest complete run of the same settings.

    Args:
        config: options of the experiment that replays.
        spec: its model.

    Raises:
        UserError: none there, not a results file, or a run of another model.
    """
    parent = find_or_none(config, spec)
    if parent is None:
        raise _candidates(config, spec).none()
    return parent


def find_or_none(config: ReplayConfig, spec: ModelSpec) -> ReplayedRun | None:
    """:func:`find`, and None where no run is named and none is there.

    Raises:
        UserError: the run named is not usable.
    """
    if config.from_results:
        return _usable(read(Path(config.from_results), config.parent_model()), spec)
    path = _candidates(config, spec).newest()
    return _usable(read(path, spec.key), spec) if path else None


def _candidates(config: ReplayConfig, spec: ModelSpec) -> Candidates:
    wanted = wanted_run(config.parent_options(), spec)
    command = f"python -m {EXPERIMENT_1}"
    return Candidates(Path(config.output), EXPERIMENT_1, wanted, OPTION, command)


def _usable(parent: ReplayedRun, spec: ModelSpec) -> ReplayedRun:
    """The parent, if its trials can be run again: otherwise a child would be empty, or wrong.

    Raises:
        UserError: no trial with a response, one twice, or one of a latent, boost or score that
            cannot be.
    """
    trials = parent.answered()
    # An arm replays the trials of another under their names.
    names = Counter((trial.arm, trial.name) for trial in trials)
    fault = "" if trials else "has no trial with a response"
    if names and (most := names.most_common(1)[0])[1] > 1:
        fault = f"has the trial {most[0][1]} twice"
    latents = {f.feature_index_in_sae for f in parent.results.features}
    for latent in {*latents, *(trial.latent for trial in trials)}:
        if not 0 <= latent < spec.d_sae:
            fault = f"boosts latent {latent}; {spec.key} has 0 to {spec.d_sae - 1}"
    for trial in trials:
        scores = [a.score for a in (trial.score and trial.score.attempts) or []]
        numbers = [n for n in (trial.threshold, *scores) if n is not None]
        if not all(map(math.isfinite, numbers)):
            fault = f"has a boost or score in trial {trial.name} that is no number"
        elif trial.spec is not None:
            try:
                TrialSpec.from_json(trial.spec)
            except (ValueError, TypeError, LookupError, StopIteration) as error:
                fault = f"has a spec in trial {trial.name} that is none ({error})"
    if fault:
        raise UserError(
            f"{parent.path} {fault}",
            f"a finished run of experiment 1 on {spec.key}, or a results file of the authors",
            f"name another with {OPTION}",
        )
    return parent


def read(path: Path, model: str) -> ReplayedRun:
    """A run folder or a results file as parent.

    Raises:
        UserError: not a results file, or a run of another model.
    """
    file = results_file(path)
    return _read(path, model, file_digest(file, 16) if file.is_file() else "")


@lru_cache(maxsize=4)
def _read(path: Path, model: str, digest: str) -> ReplayedRun:
    """One command asks several times: to count, to see what is missing, to run."""
    results = read_results(path)
    run_id, settings = "", {}
    if path.is_dir():
        metadata = read_run(path)
        run_id, settings = metadata.run_id, metadata.context
        if metadata.model != model:
            raise UserError(
                f"{path} is a run of model {metadata.model}",
                f"a run of {model}",
                f"name the model {metadata.model}, or another run with {OPTION}",
            )
    return ReplayedRun(path, results, digest, run_id, settings)
