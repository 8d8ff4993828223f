"""Where an SAE comes from; torch-free, so that the model registry can name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class SaeSource:
    """Where an SAE comes from: a SAELens release and id, or a local SAELens folder."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    release: str = ""
    sae_id: str = ""
    folder: Path | None = None

    def describe(self) -> str:
        """One line for messages and ``run.json``."""
        return str(self.folder) if self.folder else f"{self.release}/{self.sae_id}"
