"""``run.json``: what a run is, where it comes from and how it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from esr.runs.plain import json_digest, json_text
from esr.runs.summary import Number

SCHEMA_VERSION = 1
RunStatus = Literal["running", "complete", "interrupted", "failed"]


class Entry(BaseModel):
    """Part of a file; undeclared keys are kept."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class GitState(Entry):
    """Commit of this package; None where there is no repository."""

    commit: str | None = None
    dirty: bool | None = None


class ParentRun(Entry):
    """The run whose trials are replayed; ``run_id`` is empty for a file of the authors."""

    path: str = ""
    run_id: str = ""
    digest: str = ""


class Start(Entry):
    """A start that added something to the run: by which code, on what, when.

    Attributes:
        time: UTC, ISO 8601.
        argv: the command, as it can be typed again.
    """

    time: str = ""
    git: GitState = GitState()
    packages: dict[str, str] = {}
    hardware: dict[str, Any] = {}
    argv: list[str] = []
    python: str = ""


class ChecksumError(ValueError):
    """A file does not hold what was written."""


class RunMetadata(Entry):
    """``run.json``. Undeclared keys, such as those of a fine-tuning, are kept.

    Attributes:
        identity: resolved config, from which the run id is hashed.
        git: of the last start that added something, as the four keys after it.
        provenance: every start that added something, the first one first.
        resumed: how often the run was taken up again.
        error: one line where the run failed, or the cause of an interruption.
        config: options as given.
        title: of the model.
        organism: whether the model is a trained demonstration organism.
        engine: what the engine says of itself.
        spend: US dollars of judging.
        results_digest: SHA-256 of ``results.json`` when the run was completed.
        checksum: of all other keys, in the file alone.
    """

    schema_version: int
    experiment: str = ""
    model: str = ""
    run_id: str = ""
    identity: dict[str, Any] = {}
    git: GitState = GitState()
    packages: dict[str, str] = {}
    hardware: dict[str, Any] = {}
    argv: list[str] = []
    python: str = ""
    provenance: list[Start] = []
    started: str = ""
    resumed: int = -1
    status: RunStatus | Literal[""] = ""
    error: str | None = None
    ended: str = ""
    config: dict[str, Any] = {}
    title: str = ""
    organism: bool | None = None
    parent: ParentRun | None = None
    engine: dict[str, Any] = {}
    spend: Number = 0.0
    results_digest: str = ""
    checksum: str = ""

    @property
    def context(self) -> dict[str, Any]:
        """:attr:`esr.pipeline.context.RunContext.settings` of the run; empty where not recorded."""
        context: dict[str, Any] = self.identity.get("context") or {}
        return context

    def updated(self, **changes: Any) -> RunMetadata:
        """A copy with keys replaced or added."""
        return RunMetadata.model_validate({**self.plain(), **changes})

    def starts(self) -> list[dict[str, Any]]:
        """:attr:`provenance` as plain JSON; of an older file, the one start that it tells of."""
        if self.provenance or not self.git.model_fields_set:
            return [start.model_dump(exclude_unset=True) for start in self.provenance]
        keys = ("git", "packages", "hardware", "argv", "python")
        return [{"time": self.started, **{k: v for k, v in self.plain().items() if k in keys}}]

    def signed(self) -> dict[str, Any]:
        """:meth:`plain` with its checksum: the content of a file."""
        # Through text, as a reader gets it: pairs become lists and keys strings.
        data: dict[str, Any] = json.loads(json_text(self.plain()))
        return {**data, "checksum": _checksum(data)}

    def plain(self) -> dict[str, Any]:
        """Plain JSON of the keys that are set, in the order declared."""
        return self.model_dump(exclude_unset=True)


def without_checksum(data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file; one without a checksum is older, and taken as it is.

    Raises:
        ChecksumError: the content is not what was written.
    """
    rest = {key: value for key, value in data.items() if key != "checksum"}
    if "checksum" in data and data["checksum"] != _checksum(rest):
        raise ChecksumError("the checksum differs")
    return rest


def _checksum(data: Mapping[str, Any]) -> str:
    return json_digest(data, 16)
