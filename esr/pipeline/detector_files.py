"""Files of off-topic detectors, ours and the authors', and the options that name one.

Keys of a file: ``model_name``, ``off_topic_detectors`` (latents, best first), ``detector_stats``
(by latent). Ours add what separability chose, for dictionaries in which no latent passes the
strict criterion, and a digest of the model they were found on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, FiniteFloat

from esr.errors import UserError
from esr.models import REGISTRY
from esr.models.prompts import DISCOVERY
from esr.pipeline.candidates import Candidates
from esr.pipeline.cli import CommonConfig, ReplayConfig, incidental
from esr.pipeline.context import RunContext
from esr.pipeline.settings import resolve, wanted_run
from esr.runs.plain import json_digest
from esr.runs.user_files import read_json

FIND = "experiment_03_find_detectors"
"""Results folder of the search, where other experiments look for its file."""

FILE_NAME = "off_topic_detectors.json"

Method = Literal["auto", "strict", "separability"]


@dataclass(frozen=True)
class DetectorSet:
    """Latents to clamp or to read.

    Attributes:
        path: of the file.
        model_name: as the file has it; empty where it does not say.
        latents: best first.
        method: how they were chosen: "strict", "separability", or what the file says.
        stats: by latent, as the file has them.
        model_digest: of the model they were found on; empty in files of the authors.
    """

    path: Path
    model_name: str
    latents: tuple[int, ...]
    method: str
    stats: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    model_digest: str = ""

    def identity(self) -> dict[str, Any]:
        """What names the set in the identity of a run."""
        return {"latents": list(self.latents), "method": self.method}

    def by_sign(self) -> dict[str, tuple[int, ...]]:
        """The set split by the sign of its effect sizes: "positive" and "negative" (0 is neither).

        Raises:
            UserError: a latent without an effect size.
        """
        sizes: dict[int, float] = {
            k: float(self.stats[k]["cohens_d"])
            for k in self.latents
            if self.stats.get(k, {}).get("cohens_d") is not None
        }
        missing = [k for k in self.latents if k not in sizes]
        if missing:
            raise UserError(
                f"{self.path} has no effect size (cohens_d) for latent {missing[0]}",
                "a file with cohens_d for each detector",
                "run experiment 9 and name the detectors_with_effect.json it writes",
            )
        return {
            "positive": tuple(k for k in self.latents if sizes[k] > 0),
            "negative": tuple(k for k in self.latents if sizes[k] < 0),
        }

    def check(self, context: RunContext) -> None:
        """Refuse detectors of another model: their numbers would mean other latents.

        Raises:
            UserError: the file names another model, or latents the dictionary does not have.
        """
        spec = context.spec
        others = {s.key for s in REGISTRY.values()} | {s.hf_id for s in REGISTRY.values()}
        wrong = self.model_name in others - {spec.key, spec.hf_id}
        stale = self.model_digest not in ("", model_digest(context))
        if wrong or stale:
            origin = f"another build of {spec.key}" if stale else self.model_name
            raise UserError(
                f"the detectors in {self.path} were found on {origin}",
                f"detectors of {spec.key}",
                f"python -m experiment_03_off_topic_detectors find {spec.key}",
            )
        beyond = [k for k in self.latents if not 0 <= k < spec.d_sae]
        if beyond:
            raise UserError(
                f"{self.path} names latent {beyond[0]}, which the dictionary does not have",
                f"0 to {spec.d_sae - 1}",
                "name a file of this model",
            )


def model_digest(context: RunContext) -> str:
    """Hash of what decides which latent a number means: weights, dictionary, feature layer."""
    model: Any = context.settings["model"]
    if isinstance(model, Mapping):
        names = ("hf_id", "revision", "sae", "weights", "dictionary", "feature_layer")
        model = {name: model.get(name) for name in names}
    return json_digest(model, 16)


class _Stats(BaseModel, extra="allow"):
    """What is known of one detector; of it only the effect size decides anything."""

    cohens_d: FiniteFloat | None = None


class _File(BaseModel):
    """A file of detectors; further keys are for readers."""

    off_topic_detectors: list[int]
    separability_detectors: list[int] | None = None
    detector_stats: dict[int, _Stats] = {}
    model_name: str | None = None
    model_digest: str | None = None
    method: str | None = None


def load(path: Path, method: Method = "auto") -> DetectorSet:
    """A file of detectors, ours or the authors'.

    Args:
        path: of the file.
        method: which list of a file of ours; "auto" takes the strict one unless it is empty.

    Raises:
        UserError: unreadable, not such a file, or without any detector.
    """
    file = read_json(
        path,
        _File,
        "a detectors file",
        "JSON with model_name, off_topic_detectors, detector_stats",
        "python -m experiment_03_off_topic_detectors find MODEL writes one",
    )
    separable = file.separability_detectors
    by_separability = method == "separability" or (
        method == "auto" and not file.off_topic_detectors
    )
    chosen, name = file.off_topic_detectors, file.method or "as listed"
    if by_separability and separable is not None:
        chosen, name = separable, "separability"
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(
            f"{path} names {'a latent twice' if chosen else f'no detectors (method {method})'}",
            "at least one latent, each once",
            "--method separability, or another file",
        )
    return DetectorSet(
        path=path,
        model_name=file.model_name or "",
        latents=tuple(chosen),
        method=name,
        stats={k: v.model_dump(exclude_unset=True) for k, v in file.detector_stats.items()},
        model_digest=file.model_digest or "",
    )


def newest_search(config: CommonConfig) -> Path:
    """The file of the newest complete search on the same model, profile and pairing.

    The search is one on the discovery questions of the model's own prompts, whatever the prompts of
    the config; under ``--as-published`` on the authors' prompts, which have none.

    Raises:
        UserError: there is none.
    """
    usual = replace(config, prompts="" if config.as_published else DISCOVERY)
    wanted = wanted_run(usual, resolve(usual), judged=False)
    command = "python -m experiment_03_off_topic_detectors find"
    searches = Candidates(Path(config.output), FIND, wanted, "--detectors", command, FILE_NAME)
    path = searches.newest()
    if path is None:
        raise searches.none()
    return path / FILE_NAME


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(ReplayConfig):
    """Options of an experiment on the detectors and on the trials of experiment 1."""

    detectors: str = incidental("", alias=["--ablate"], metavar="FILE")
    """Detectors file; default: what the newest complete search of this model found (2.3)."""

    # Spelled out: simple-parsing looks names of inherited fields up in the base's module.
    method: Literal["auto", "strict", "separability"] = "auto"
    """Which list of the file: the strict criterion (2.3), or separability; auto takes the strict
    one unless it is empty."""

    @cached_property
    def detector_set(self) -> DetectorSet:
        """The detectors the options name, read once: a run keeps those it has started with.

        Raises:
            UserError: no such file, no search yet, or no detectors in it.
        """
        if self.detectors:
            return load(Path(self.detectors), self.method)
        return load(newest_search(self), self.method)

    def identity(self) -> dict[str, Any]:
        """Names the detectors by what they are, not by where the file lies."""
        return {**super().identity(), "detectors": self.detector_set.identity()}
