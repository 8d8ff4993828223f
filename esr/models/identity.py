"""What names a model in the identity of a run: its entry, and local files by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from esr.models.spec import ModelSpec
from esr.models.weights import is_local
from esr.runs import hub
from esr.runs.plain import file_digest

_NAMED_ELSEWHERE = (
    *("title", "labels", "in_flight", "neuronpedia", "shape"),
    *("n_latents", "n_trials", "judge", "prompt_set", "profiles"),
)
"""Fields of a model that change nothing, or that the config and the context name resolved."""


UNRESOLVED = ("revision", "dictionary")
"""Keys of an identity that are None where this machine does not know them yet."""


def model_identity(spec: ModelSpec) -> dict[str, Any]:
    """Everything about a model that can change a measurement, files by content.

    Weights on the hub are named by their commit, a published SAE by its rows; both are None
    before they are here (:func:`pinned`), and never the name of a branch or a release alone.
    """
    identity = asdict(spec)
    for name in _NAMED_ELSEWHERE:
        identity.pop(name)
    identity["sae"] = spec.sae.describe()
    if not is_local(spec):
        identity["revision"] = hub.commit(spec.hf_id, spec.revision)
    if spec.sae.folder is None:
        identity["dictionary"] = spec.sae.published_digest()
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


def named(spec: ModelSpec) -> dict[str, str]:
    """What names a model at no cost: its id, a folder's name for a local one, and its revision."""
    if is_local(spec):
        return {"hf_id": Path(spec.hf_id).name}
    return {"hf_id": spec.hf_id, "revision": hub.commit(spec.hf_id, spec.revision) or ""}


def unresolved(identity: Mapping[str, Any]) -> list[str]:
    """Keys that this machine does not know yet."""
    return [name for name in UNRESOLVED if identity.get(name, "") is None]


def pinned(spec: ModelSpec) -> ModelSpec:
    """The model at a commit of its weights, with its SAE on this machine, which is downloaded
    where it is not.

    Raises:
        UserError: neither on this machine nor on the hub.
    """
    if spec.sae.folder is None and spec.sae.published_digest() is None:
        from esr.steering import sae

        sae.load(spec.sae)
    return at_commit(spec)


def at_commit(spec: ModelSpec) -> ModelSpec:
    """The model at the commit that its revision means; a local one as it is.

    Raises:
        UserError: neither on this machine nor on the hub.
    """
    if is_local(spec):
        return spec
    return replace(spec, revision=hub.resolve(spec.hf_id, spec.revision))


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(folder)).encode())
            digest.update(bytes.fromhex(file_digest(file)))
    return digest.hexdigest()[:16]
