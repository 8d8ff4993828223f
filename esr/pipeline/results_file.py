"""Reading ``results.json``, ours or the authors' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from esr.errors import UserError


def results_file(path: Path) -> Path:
    """The results file behind a run folder or a file path."""
    return path / "results.json" if path.is_dir() else path


def load(path: Path) -> dict[str, Any]:
    """A results file, ours or the authors', or the one in a run folder.

    Raises:
        UserError: missing, not JSON, or without the schema's keys.
    """
    file = results_file(path)
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for entry in data["results_by_feature"]:
            entry["feature_index_in_sae"], entry["threshold"]
            for item in entry["trials"]:
                item["prompt"], item["seed"], item["response"], item["score"]
    except OSError as error:
        raise UserError(
            f"cannot read {file} ({error.strerror})",
            "a run folder or a results file",
            "ls data/results/*/*/*",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not a results file ({type(error).__name__}: {error})",
            "JSON with experiment_config and results_by_feature[].trials[]",
            "name a results.json of a run folder or of the authors' release",
        ) from error
    return data
