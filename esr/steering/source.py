"""Where an SAE comes from; torch-free, so that the model registry can name it."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from esr.runs.paths import cache
from esr.runs.plain import json_digest


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

    def rows_file(self, *content: str) -> Path:
        """Where this machine keeps the rows, once loaded.

        Args:
            content: of the files in a local folder; a published SAE is taken as it was loaded.
        """
        parts = [self.describe(), importlib.metadata.version("sae-lens"), *content]
        return cache() / "sae" / f"{json_digest(parts, 16)}.safetensors"

    def published_digest(self) -> str | None:
        """Digest of the rows of a published SAE as this machine has them; None where it has none:
        the name of a release says nothing about its content, which may be replaced.
        """
        try:
            with self.rows_file().open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
                return str(header["__metadata__"]["digest"])
        except (OSError, ValueError, KeyError, OverflowError, MemoryError):
            return None
