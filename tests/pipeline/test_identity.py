"""What can change a result names a run: commits, SAEs by content, batches, constants, prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from esr import models
from esr.errors import UserError
from esr.judge import boundaries, concreteness
from esr.models.identity import model_identity, pinned
from esr.pipeline import constants
from esr.pipeline.cli import CommonConfig
from esr.pipeline.opening import complete_place, located
from esr.pipeline.settings import settings_of
from esr.runs import hub
from esr.steering.sae import write_rows
from experiment_06_sequential_activations.config import Config as Sequential

A, B = "a" * 40, "b" * 40
NAME = "experiment_01_esr"


@pytest.fixture(autouse=True)
def _nothing_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("ESR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_ask", lambda *_: ("", "no network"))


def download(revision: str, commit: str) -> None:
    reference = hub.folder(models.get("8b").hf_id) / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)


def rows(seed: int) -> None:
    """Rows of the 8B model's SAE, as a download leaves them: of a smaller one."""
    make = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 3, generator=make)
    write_rows(
        models.get("8b").sae.rows_file(),
        encoder=matrix,
        encoder_bias=torch.zeros(4),
        threshold=torch.zeros(4),
        decoder=2 * matrix,
        input_bias=torch.zeros(3),
    )


def test_a_branch_is_never_part_of_an_identity() -> None:
    spec = models.get("8b")
    assert spec.revision == "main"
    assert model_identity(spec)["revision"] is None
    download("main", A)
    assert model_identity(spec)["revision"] == A
    download("main", B)
    assert model_identity(spec)["revision"] == B
    assert model_identity(replace(spec, revision=A))["revision"] == A
    assert model_identity(replace(spec, revision="v2"))["revision"] is None


def test_a_published_sae_is_named_by_its_rows() -> None:
    spec = models.get("8b")
    assert model_identity(spec)["dictionary"] is None
    digests = []
    for seed in (1, 1, 2):
        rows(seed)
        digests.append(model_identity(spec)["dictionary"])
    assert digests[0] == digests[1] != digests[2]
    spec.sae.rows_file().write_bytes(b"damaged")
    assert model_identity(spec)["dictionary"] is None


def test_the_hub_is_asked_once_and_its_answer_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rows(1)
    spec = models.get("8b")
    with pytest.raises(UserError, match="no network"):
        pinned(spec)
    monkeypatch.setattr(hub, "_ask", lambda *_: (A, ""))
    assert pinned(spec).revision == A
    monkeypatch.setattr(hub, "_ask", lambda *_: (B, ""))
    assert pinned(spec).revision == A, "a branch that moves does not rename the run"
    assert pinned(models.get("tiny")) == models.get("tiny")


def settings(**options: Any) -> dict[str, Any]:
    config = CommonConfig(model="8b", **options)
    return settings_of(config, models.get("8b"))


def test_batches_count_where_they_decide_who_is_steered() -> None:
    assert settings(in_flight=8) == settings(in_flight=64) == settings(replicas=2)
    fault = {"pairing": "scheduler-order"}
    found = [settings(**fault, in_flight=n, replicas=r) for n, r in ((64, 1), (8, 1), (64, 2))]
    assert found[0] != found[1]
    assert found[0] != found[2]
    assert found[0] == settings(**fault)


@pytest.mark.parametrize("name", constants.identity())
def test_every_constant_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings()
    monkeypatch.setattr(constants, name, 77)
    assert settings() != before


def test_prompts_of_the_other_questions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before, offline = settings(), settings(judge="lexical")
    marked = Sequential(detectors=str(Path("data/off_topic_detectors_paper.json").resolve()))
    named = marked.identity()
    monkeypatch.setattr(concreteness, "_SYSTEM", "Rate.")
    monkeypatch.setattr(boundaries, "_SYSTEM", "Mark.")
    assert settings() != before
    assert settings(judge="lexical") == offline
    assert marked.identity() != named
    assert replace(marked, boundaries="offline").identity() != named


def test_a_complete_run_is_shown_where_the_model_is_not(tmp_path: Path) -> None:
    config = CommonConfig(model="8b", output=str(tmp_path))
    spec = models.get("8b")
    assert complete_place(NAME, config, spec) is None
    with pytest.raises(UserError, match="cannot be reached"):
        located(NAME, config, replace(spec, sae=models.get("tiny").sae))
    download("main", A)
    rows(1)
    place = located(NAME, config, spec)
    with place.folder:
        pass
    hub.folder(spec.hf_id).rename(tmp_path / "moved")
    spec.sae.rows_file().unlink()
    shown = complete_place(NAME, config, spec)
    assert shown is not None
    assert shown.folder.path == place.folder.path
    assert located(NAME, config, spec).folder.path == place.folder.path
    assert complete_place(NAME, replace(config, seed=1), spec) is None
