"""Which files of the authors' release we use, at which commit, with which SHA-256."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from esr.errors import UserError
from esr.runs.paths import DATA
from esr.runs.plain import digest

MANIFEST = DATA / "upstream.json"
FETCH = "python -m esr.upstream fetch"


@dataclass(frozen=True)
class File:
    """One file of the release."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files and where they come from."""

    repository: str
    commit: str
    files: tuple[File, ...]

    def url(self, file: File, mirror: str = "") -> str:
        """Address of a file; ``mirror`` replaces everything before its path."""
        base = mirror.rstrip("/") or (
            f"https://raw.githubusercontent.com/{self.repository}/{self.commit}"
        )
        return f"{base}/{file.path}"


def load(path: Path | None = None) -> Manifest:
    """The committed manifest, or another one of the same shape."""
    data = json.loads((path or MANIFEST).read_text(encoding="utf-8"))
    files = tuple(File(item["path"], item["sha256"]) for item in data["files"])
    return Manifest(data["repository"], data["commit"], files)


def checked_bytes(manifest: Manifest, folder: Path, path: str) -> bytes:
    """Contents of a fetched file.

    Raises:
        UserError: the file is missing, or not the one the manifest names.
    """
    target = folder / path
    if not target.is_file():
        raise UserError(f"the authors' {path} is not at {target}", "", FETCH)
    content = target.read_bytes()
    expected = {file.path: file.sha256 for file in manifest.files}[path]
    if digest(content) != expected:
        raise UserError(f"{target} is not the file of the release (SHA-256 differs)", "", FETCH)
    return content
