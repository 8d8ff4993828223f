"""What names a model in the identity of a run: its entry, and local files by their content."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from esr.models.spec import ModelSpec
from esr.runs.plain import file_digest

_NAMED_ELSEWHERE = (
    *("title", "labels", "in_flight", "neuronpedia", "shape"),
    *("n_latents", "n_trials", "judge", "prompt_set", "profiles"),
)
"""Fields of a model that change nothing, or that the config and the context name resolved."""


def model_identity(spec: ModelSpec) -> dict[str, Any]:
    """Everything about a model that can change a measurement, local files by content."""
    identity = asdict(spec)
    for name in _NAMED_ELSEWHERE:
        identity.pop(name)
    identity["sae"] = spec.sae.describe()
    folders = {"weights": Path(spec.hf_id), "dictionary": spec.sae.folder}
    for name, folder in folders.items():
        if folder is not None and folder.is_dir():
            identity[name] = _content(folder)
    if spec.label_file.is_file():
        identity["label_digest"] = file_digest(spec.label_file, 16)
    # A folder is named by its content, so that a clone elsewhere makes the same run id.
    if Path(spec.hf_id).is_dir():
        identity["hf_id"] = Path(spec.hf_id).name
        identity["sae"] = spec.sae.folder.name if spec.sae.folder else identity["sae"]
    return identity


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(folder)).encode())
            digest.update(bytes.fromhex(file_digest(file)))
    return digest.hexdigest()[:16]
