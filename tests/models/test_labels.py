"""Label files: what is read, and what each malformed one is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from esr import models
from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.labels import load_labels


def model(labels: Path) -> ModelSpec:
    return replace(models.get("tiny"), d_sae=10, labels=labels)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_are_read_and_empty_ones_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", 'index,description\n3,"cats, dogs"\n0, fish \n7,\n')
    assert load_labels(model(path)) == {3: "cats, dogs", 0: "fish"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text\n1,a\n", "no column description, index"),
        ("index,description\n12,a\n", "line 2: index '12'; allowed: each latent once, 0 to 9"),
        ("index,description\nx,a\n", "line 2: index 'x'"),
        ("index,description\n²,a\n", "line 2: index '²'"),
        ("index,description\n1,a\n1,b\n", "line 3: index '1' stands twice"),
        ("", "no column"),
    ],
)
def test_malformed_label_files_name_line_and_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path / "l.csv", text)
    with pytest.raises(UserError, match=message):
        load_labels(model(path))


def test_missing_or_binary_label_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no latent labels at"):
        load_labels(model(tmp_path / "none.csv"))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00index")
    with pytest.raises(UserError, match="is not a label file"):
        load_labels(model(tmp_path / "b.csv"))
    assert load_labels(model(tmp_path / "none.csv"), required=False) == {}
