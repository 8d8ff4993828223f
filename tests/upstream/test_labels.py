"""The label export of Neuronpedia, fetched batch by batch from a local server."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from esr import models
from esr.errors import UserError
from esr.upstream.labels import fetch_labels
from tests.upstream.site import Site


def label_batches(site: Site, model: models.ModelSpec) -> str:
    base = f"/v1/{model.neuronpedia}/explanations"
    rows = [
        [{"index": "3", "description": "volcanoes, lava"}, {"index": "0", "description": "eggs"}],
        [{"index": "3", "description": "mountains"}, {"index": "7", "description": ' "odd"\n one'}],
    ]
    for number, batch in enumerate(rows):
        lines = "\n".join(map(json.dumps, batch)).encode()
        site.files[f"{base}/batch-{number}.jsonl.gz"] = gzip.compress(lines)
    return base


def test_labels(site: Site, tmp_path: Path) -> None:
    model = replace(models.get("8b"), labels=tmp_path / "labels" / "8b.csv")
    base = label_batches(site, model)
    site.cut.append(f"{base}/batch-1.jsonl.gz")
    with pytest.raises(UserError, match="repeat the command"):
        fetch_labels(model, site.url, quiet=True)
    assert not model.label_file.exists(), "half of the labels were taken for all"
    site.asked.clear()
    export = fetch_labels(model, site.url, quiet=True)
    assert [path for path, _ in site.asked] == [
        f"{base}/batch-1.jsonl.gz",
        f"{base}/batch-2.jsonl.gz",
    ]
    assert (export.labels, export.repeated, export.batches) == (3, 1, 2)
    with model.label_file.open(newline="") as file:
        found = list(csv.reader(file))
    rows = [["0", "eggs"], ["3", "volcanoes, lava"], ["7", '"odd" one']]
    assert found == [["index", "description"], *rows]
    assert sorted(path.name for path in model.label_file.parent.iterdir()) == ["8b.csv"]


def test_labels_faults(site: Site, tmp_path: Path) -> None:
    model = replace(models.get("8b"), labels=tmp_path / "8b.csv")
    with pytest.raises(UserError, match="does not exist"):
        fetch_labels(model, site.url, quiet=True)
    with pytest.raises(UserError, match="no Neuronpedia export"):
        fetch_labels(models.get("tiny"), site.url)
    base = label_batches(site, model)
    good = site.files[f"{base}/batch-0.jsonl.gz"]
    site.files[f"{base}/batch-0.jsonl.gz"] = good[:-9]
    with pytest.raises(UserError, match="damaged"):
        fetch_labels(model, site.url, quiet=True)
    site.files[f"{base}/batch-0.jsonl.gz"] = good
    with pytest.raises(UserError, match="labels latent 7"):
        fetch_labels(replace(model, d_sae=5), site.url, quiet=True)
    assert fetch_labels(model, site.url, quiet=True).labels == 3


def test_an_export_without_an_end_is_given_up(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(models.get("8b"), labels=tmp_path / "8b.csv")
    base = label_batches(site, model)
    monkeypatch.setattr("esr.upstream.labels.MOST_BATCHES", 2)
    assert fetch_labels(model, site.url, quiet=True).batches == 2
    site.files[f"{base}/batch-2.jsonl.gz"] = site.files[f"{base}/batch-0.jsonl.gz"]
    with pytest.raises(UserError, match="goes on and on; allowed: 2 batches"):
        fetch_labels(model, site.url, quiet=True)
    assert not any("batch-3" in path for path, _ in site.asked)


@pytest.mark.parametrize(
    "content",
    [
        b"[1, 2]",
        b"null",
        b'{"index": null, "description": "a"}',
        b'{"index": 1, "description": ["a"]}',
        b'{"index": 1e999, "description": "a"}',
        b"[" * 100_000,
        b'{"index": 1, "description": "' + b"x" * 3_000_000 + b'"}',
    ],
)
def test_a_damaged_batch_is_dropped_and_fetched_again(
    content: bytes, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esr.upstream.labels.LARGEST_BATCH", 1_000_000)
    model = replace(models.get("8b"), labels=tmp_path / "8b.csv")
    base = label_batches(site, model)
    good = site.files[f"{base}/batch-1.jsonl.gz"]
    site.files[f"{base}/batch-1.jsonl.gz"] = gzip.compress(content)
    with pytest.raises(UserError, match=r"batch-1\.jsonl\.gz of the label export is damaged"):
        fetch_labels(model, site.url, quiet=True)
    site.files[f"{base}/batch-1.jsonl.gz"] = good
    assert fetch_labels(model, site.url, quiet=True).labels == 3


def test_registry_points_to_the_exports() -> None:
    expected = {
        "70b": "llama3.3-70b-it/50-resid-post-gf",
        "8b": "llama3.1-8b-it/19-resid-post-gf",
        "gemma-2b": "gemma-2-2b/16-gemmascope-res-16k",
        "gemma-9b": "gemma-2-9b/26-gemmascope-res-16k",
        "gemma-27b": "gemma-2-27b/22-gemmascope-res-131k",
    }
    assert {key: models.get(key).neuronpedia for key in expected} == expected
