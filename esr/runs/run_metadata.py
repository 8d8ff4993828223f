"""``run.json``: what a run is, where it comes from and how it stands."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

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


class RunMetadata(Entry):
    """``run.json``. Undeclared keys, such as those of a fine-tuning, are kept.

    Attributes:
        identity: resolved config, from which the run id is hashed.
        resumed: how often the run was taken up again.
        error: one line where the run failed.
        config: options as given.
        title: of the model.
        organism: whether the model is a trained demonstration organism.
        engine: what the engine says of itself.
        spend: US dollars of judging.
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

    @property
    def context(self) -> dict[str, Any]:
        """:attr:`esr.pipeline.context.RunContext.settings` of the run; empty where not recorded."""
        context: dict[str, Any] = self.identity.get("context") or {}
        return context

    def updated(self, **changes: Any) -> RunMetadata:
        """A copy with keys replaced or added."""
        return RunMetadata.model_validate({**self.plain(), **changes})

    def plain(self) -> dict[str, Any]:
        """Plain JSON of the keys that are set, in the order declared."""
        return self.model_dump(exclude_unset=True)
