"""The run whose trials another experiment replays: ours, or a results file of the authors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr import results
from esr.calibration import Threshold
from esr.errors import UserError
from esr.interventions import Boost
from esr.outcomes import Outcome, outcomes_from_results, trial_name
from esr.runs import newest_complete, read_run
from esr.trials import TrialSpec

if TYPE_CHECKING:
    from esr.lab import Lab

EXPERIMENT_1 = "experiment_01_esr"


@dataclass(frozen=True)
class Parent:
    """A finished run of experiment 1, or any file in its schema.

    Attributes:
        path: run folder or results file.
        data: the results.
        digest: SHA-256 of the results file, first 16 hex digits.
        run_id: of our run; empty for a file of the authors.
    """

    path: Path
    data: dict[str, Any]
    digest: str
    run_id: str

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

    def outcomes(self) -> list[Outcome]:
        """What the judge said of every trial, for paired comparisons by trial id."""
        return outcomes_from_results(self.data)

    def replay(
        self, lab: Lab, arm: str, change: Callable[[TrialSpec], TrialSpec] = lambda spec: spec
    ) -> list[TrialSpec]:
        """The parent's trials once more, as another arm: same latent, boost, prompt and seed.

        Args:
            lab: gives the sampling where the parent is a file of the authors.
            arm: name of the new arm.
            change: what this arm does differently, e.g. adds clamps.
        """
        return [change(replace(spec, arm=arm)) for spec in self.specs(lab)]

    def specs(self, lab: Lab) -> Iterator[TrialSpec]:
        """The specs of all trials of the parent that have a response."""
        by_text = {prompt.text: prompt.id for prompt in lab.prompts.prompts}
        for entry in self._features():
            for trial in entry["trials"]:
                if trial.get("response") is None:
                    continue
                if "spec" in trial:
                    yield TrialSpec.from_json(trial["spec"])
                else:
                    yield _foreign(lab, entry, trial, by_text)

    def _features(self) -> list[dict[str, Any]]:
        return list(self.data["results_by_feature"])


def _foreign(
    lab: Lab, entry: dict[str, Any], trial: dict[str, Any], by_text: dict[str, str]
) -> TrialSpec:
    """The spec of a trial in a file of the authors, which names no prompt ids."""
    latent, text = int(entry["feature_index_in_sae"]), str(trial["prompt"])
    prompt_id = by_text.get(text) or "text-" + hashlib.sha256(text.encode()).hexdigest()[:8]
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
        sampling=lab.sampling(int(trial["seed"])),
    )


def find(from_results: str, output: Path, model: str, experiment: str = EXPERIMENT_1) -> Parent:
    """The parent named on the command line, or the newest complete run of the model.

    Raises:
        UserError: none found, not a results file, or a run of another model.
    """
    path = Path(from_results) if from_results else newest_complete(output, experiment, model)
    data = results.load(path)
    run_id = ""
    if path.is_dir():
        facts = read_run(path)
        run_id = str(facts["run_id"])
        if facts["model"] != model:
            raise UserError(
                f"{path} is a run of model {facts['model']}",
                f"a run of {model}",
                f"name the model {facts['model']}, or another run with --from-results",
            )
    content = results.results_file(path).read_bytes()
    return Parent(path, data, hashlib.sha256(content).hexdigest()[:16], run_id)
