"""Public transcripts of replications as results files, for other judges to read (experiment 7).

``data/transcripts.json`` lists them with repository, commit and SHA-256. A file without a known
SHA-256 is not fetched: the user names a copy with the digest it should have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esr.errors import UserError, unknown
from esr.runs.folder import write_json
from esr.runs.paths import DATA
from esr.runs.plain import digest
from esr.upstream.manifest import File, Manifest

LISTED = DATA / "transcripts.json"
COMMAND = "python -m esr.upstream transcripts"


@dataclass(frozen=True)
class Transcripts:
    """One public file of responses.

    Attributes:
        name: as the command takes it.
        repository: ``owner/name`` on GitHub.
        commit: at which it was read.
        path: in the repository.
        sha256: None where it is not known.
        model: Hugging Face id of the model that answered.
        holds: one sentence.
    """

    name: str
    repository: str
    commit: str
    path: str
    sha256: str | None
    model: str
    holds: str

    def manifest(self) -> Manifest:
        """As :func:`esr.upstream.fetch.fetch` takes it.

        Raises:
            UserError: its SHA-256 is not pinned.
        """
        if self.sha256 is None:
            raise UserError(
                f"the SHA-256 of {self.path} of {self.repository} at {self.commit[:12]} is not "
                "pinned in data/transcripts.json, so it is not fetched",
                "a file of known content",
                f"{COMMAND} {self.name} --file FILE --sha256 DIGEST",
            )
        return Manifest(self.repository, self.commit, (File(self.path, self.sha256),))


def get(name: str) -> Transcripts:
    """An entry of the list.

    Raises:
        UserError: no such transcripts.
    """
    entries = {e["name"]: Transcripts(**e) for e in json.loads(LISTED.read_text("utf-8"))}
    if name not in entries:
        raise unknown("transcripts", name, list(entries), f"{COMMAND} {next(iter(entries))}")
    return entries[name]


def own_copy(file: Path, sha256: str) -> bytes:
    """The content of a file that the user has.

    Raises:
        UserError: it cannot be read, or its SHA-256 is another one.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {file} ({error.strerror})", "a file", f"ls {file.parent}"
        ) from error
    if (there := digest(content)) != sha256.lower():
        raise UserError(f"{file} has SHA-256 {there}, not {sha256}", "that digest", "--sha256")
    return content


def convert(source: Transcripts, content: bytes, target: Path) -> tuple[int, int]:
    """Write responses as a results file in the authors' schema, not judged yet.

    Concepts stand in the place of latents, numbered in the order of the file, so that intervals
    draw them; an unsteered response belongs to the concept ``none``.

    Args:
        source: where they come from.
        content: JSON lines with id, prompt, concept, alpha, sample and response.
        target: file to write.

    Returns:
        responses and concepts.

    Raises:
        UserError: a line is of another shape.
    """
    rows = list(_rows(content, source.path))
    concepts = {name: place for place, name in enumerate(dict.fromkeys(r["concept"] for r in rows))}
    features = [
        {
            "feature_index_in_sae": place,
            "feature_label": name,
            "threshold": None,
            "error": None,
            "trials": [_trial(r, place) for r in rows if r["concept"] == name],
        }
        for name, place in concepts.items()
    ]
    origin = {"repository": source.repository, "commit": source.commit, "path": source.path}
    config = {"model_name": source.model, "transcripts": {**origin, "sha256": digest(content)}}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"experiment_config": config, "results_by_feature": features})
    return len(rows), len(concepts)


def _rows(content: bytes, path: str) -> Iterable[Mapping[str, Any]]:
    kinds = {"id": str, "prompt": str, "concept": str, "response": str, "sample": int}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(line)
            float(row["alpha"])
            right = all(isinstance(row[key], kind) for key, kind in kinds.items())
        except (ValueError, TypeError, LookupError):
            right = False
        if not right:
            raise UserError(
                f"line {number} of {path} is not of the expected shape",
                f"JSON with {', '.join(kinds)}, alpha",
                "name the file that data/transcripts.json lists",
            )
        yield row


def _trial(row: Mapping[str, Any], latent: int) -> dict[str, Any]:
    return {
        "prompt": row["prompt"],
        "feature_index_in_sae": latent,
        "feature_label": row["concept"],
        "threshold": float(row["alpha"]),
        "seed": row["sample"],
        "response": row["response"],
        "score": None,
        "error": None,
        "trial_id": row["id"],
        "arm": "steered" if row["alpha"] else "no-steering",
    }
