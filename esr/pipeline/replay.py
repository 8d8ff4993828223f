"""The run whose trials another experiment replays: ours, or a results file of the authors."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from esr.analysis.outcomes import Outcome, outcomes_from_results, trial_name
from esr.engine.base import Sampling
from esr.errors import UserError
from esr.models.prompts import PromptSet
from esr.pipeline import results_file
from esr.pipeline.schema import Threshold, TrialSpec
from esr.runs.folder import newest_complete, read_run
from esr.runs.plain import digest
from esr.steering.interventions import Boost

EXPERIMENT_1 = "experiment_01_esr"

_CARRIED = ("model.calibration.", "model.max_tokens", "profile.repetition_penalty")
"""Settings that a replayed trial takes along, boost and sampling: they cannot differ."""


@dataclass(frozen=True)
class ReplayedRun:
    """A finished run of experiment 1, or any file in its schema.

    Attributes:
        path: run folder or results file.
        data: the results.
        digest: SHA-256 of the results file, first 16 hex digits.
        run_id: of our run; empty for a file of the authors.
        settings: :attr:`esr.pipeline.context.RunContext.settings` of our run; empty for a file of
            the authors.
    """

    path: Path
    data: dict[str, Any]
    digest: str
    run_id: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, str]:
        """What names this parent in the identity of a child run."""
        return {"run_id": self.run_id, "digest": self.digest}

    def labels(self) -> dict[int, str]:
        """Latent -> label, in the order of the file."""
        return {e["feature_index_in_sae"]: e.get("feature_label") or "" for e in self._features()}

    def thresholds(self) -> dict[int, Threshold]:
        """Latent -> threshold, of the latents that have one."""
        found = {}
        for entry in self._features():
            latent, value = entry["feature_index_in_sae"], entry["threshold"]
            if value is not None:
                known = entry.get("calibration")
                found[latent] = (
                    Threshold(**known) if known else Threshold(latent, value, value, value, 0, 0)
                )
        return found

    def outcomes(self, trial_ids: Collection[str] | None = None) -> list[Outcome]:
        """What the judge said of every trial, for paired comparisons by trial id.

        Args:
            trial_ids: the trials wanted, where not all were replayed.
        """
        found = outcomes_from_results(self.data)
        return [o for o in found if trial_ids is None or o.trial_id in trial_ids]

    def differences(self, settings: Mapping[str, Any]) -> list[str] | None:
        """Names of the settings in which a child run differs: each confounds a comparison.

        Args:
            settings: of the child, :attr:`esr.pipeline.context.RunContext.settings`.

        Returns:
            None where the parent's settings are not recorded.
        """
        if not self.settings:
            return None
        ours, theirs = _flat(json.loads(json.dumps(settings, default=str))), _flat(self.settings)
        names = {name for name in {*ours, *theirs} if not name.startswith(_CARRIED)}
        return sorted(name for name in names if ours.get(name) != theirs.get(name))

    def replayable(self, n_latents: int | None = None, n_trials: int | None = None) -> int:
        """How many trials :meth:`replay` gives for the same limits."""
        counts = [len(trials) for _, trials in self._responses(n_latents, n_trials)]
        return sum(counts)

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
        for entry, trials in self._responses(n_latents, n_trials):
            for trial in trials:
                if "spec" in trial:
                    yield TrialSpec.from_json(trial["spec"])
                else:
                    yield _foreign(sampling, entry, trial, by_text)

    def _responses(
        self, n_latents: int | None, n_trials: int | None
    ) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Latents with their trials that have a response, within limits."""
        answered = (
            (e, [t for t in e["trials"] if t.get("response") is not None][:n_trials])
            for e in self._features()
        )
        return [(entry, trials) for entry, trials in answered if trials][:n_latents]

    def _features(self) -> list[dict[str, Any]]:
        return list(self.data["results_by_feature"])


def _flat(context: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in context.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _foreign(
    sampling: Callable[[int], Sampling],
    entry: dict[str, Any],
    trial: dict[str, Any],
    by_text: dict[str, str],
) -> TrialSpec:
    """The spec of a trial in a file of the authors, which names no prompt ids."""
    latent, text = int(entry["feature_index_in_sae"]), str(trial["prompt"])
    prompt_id = by_text.get(text) or "text-" + digest(text, 8)
    threshold = float(trial.get("threshold", entry["threshold"]))
    return TrialSpec(
        arm="steered",
        trial_id=trial_name(trial, latent),
        latent=latent,
        latent_label=trial.get("feature_label") or entry.get("feature_label") or "",
        threshold=threshold,
        prompt_id=prompt_id,
        prompt=text,
        interventions=(Boost(latent, threshold),),
        sampling=sampling(int(trial["seed"])),
    )


def find(
    from_results: str, output: Path, model: str, experiment: str = EXPERIMENT_1
) -> ReplayedRun:
    """The parent named on the command line, or the newest complete run of the model.

    Raises:
        UserError: none found, not a results file, or a run of another model.
    """
    path = Path(from_results) if from_results else newest_complete(output, experiment, model)
    data = results_file.load(path)
    run_id, context = "", {}
    if path.is_dir():
        facts = read_run(path)
        run_id = str(facts["run_id"])
        context = facts.get("identity", {}).get("context", {})
        if facts["model"] != model:
            raise UserError(
                f"{path} is a run of model {facts['model']}",
                f"a run of {model}",
                f"name the model {facts['model']}, or another run with --from-results",
            )
    content = results_file.results_file(path).read_bytes()
    return ReplayedRun(path, data, digest(content, 16), run_id, context)


def find_or_none(from_results: str, output: Path, model: str) -> ReplayedRun | None:
    """:func:`find`, and None where no run is named and there is none yet.

    Raises:
        UserError: the run named is not usable.
    """
    if not from_results:
        try:
            newest_complete(output, EXPERIMENT_1, model)
        except UserError:
            return None
    return find(from_results, output, model)
