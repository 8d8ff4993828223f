"""Labels of a dictionary's latents: a CSV file with columns ``index`` and ``description``."""

from __future__ import annotations

import csv

from esr.errors import UserError
from esr.models.spec import ModelSpec

_COLUMNS = ("index", "description")


def load_labels(spec: ModelSpec, *, required: bool = True) -> dict[int, str]:
    """Latent -> label of a model; latents without a label are left out.

    Args:
        spec: the model; its ``label_file`` is read.
        required: False lets the file be missing, for labels that only a reader wants.

    Raises:
        UserError: missing file or column, an index that is no latent, or twice the same index.
    """
    path = spec.label_file
    if not required and not path.is_file():
        return {}
    download = f"python -m esr.upstream labels {spec.key}"
    allowed = f"a CSV in UTF-8 with the header {','.join(_COLUMNS)}"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = sorted(set(_COLUMNS) - set(reader.fieldnames or ()))
            if missing:
                raise UserError(f"{path} has no column {', '.join(missing)}", allowed, download)
            return _read(reader, spec)
    except OSError as error:
        raise UserError(
            f"no latent labels at {path} ({error.strerror})", allowed, download
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a label file ({error})", allowed, download) from error


def _read(reader: csv.DictReader[str], spec: ModelSpec) -> dict[int, str]:
    labels: dict[int, str] = {}
    for row in reader:
        text = (row["index"] or "").strip()
        latent = int(text) if text.isdecimal() else -1
        if not 0 <= latent < spec.d_sae or latent in labels:
            raise UserError(
                f"{spec.label_file} line {reader.line_num}: index {text!r}"
                + (" stands twice" if latent in labels else ""),
                f"each latent once, 0 to {spec.d_sae - 1}",
                "correct the line, or download the labels again",
            )
        if label := (row["description"] or "").strip():
            labels[latent] = label
    return labels
