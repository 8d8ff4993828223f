"""The JSON schemas of docs/schema, the authors' minimal file, and what a typed reader refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from esr.analysis.outcomes import outcomes_from_results
from esr.errors import UserError
from esr.pipeline import json_schemas
from esr.pipeline.results_schema import RESULTS
from esr.runs.paths import REPOSITORY
from esr.runs.results import iter_trials, read_results
from tests import run_schemas, scripted

FOLDER = REPOSITORY / "docs" / "schema"

AUTHORS: dict[str, Any] = {
    "experiment_config": {
        "model_name": "meta-llama/Llama-3.3-70B-Instruct",
        "judge_model_name": "j",
    },
    "results_by_feature": [
        {
            "feature_index_in_sae": 7580,
            "feature_label": "body positions",
            "threshold": 9.4,
            "error": None,
            "trials": [
                {
                    "prompt": "How do I add two fractions?",
                    "seed": 3,
                    "response": "Lie down. Wait, no. Add the numerators.",
                    "score": {
                        "raw_response": "<json>",
                        "attempts": [
                            {"attempt_text": "Lie down.", "score": 0},
                            {"attempt_text": "Add the numerators.", "score": 80.5},
                        ],
                    },
                    "error": None,
                },
                {"prompt": "Why?", "seed": 4, "response": None, "score": None, "error": "timeout"},
            ],
        },
        {"feature_index_in_sae": 3, "feature_label": "x", "threshold": None, "trials": None},
    ],
}


def test_the_schemas_on_disk_are_those_of_the_types() -> None:
    made = json_schemas.schemas()
    assert {path.name for path in FOLDER.iterdir()} == made.keys()
    for name, schema in made.items():
        assert json.loads((FOLDER / name).read_text()) == schema, (
            "python -m esr.pipeline.json_schemas docs/schema"
        )


def test_the_command_writes_them(tmp_path: Path) -> None:
    assert json_schemas.main([str(tmp_path)]) == 0
    for path in FOLDER.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert json_schemas.main([str(tmp_path / "missing")]) != 0


def test_every_experiment_has_a_type() -> None:
    packages = {path.name for path in REPOSITORY.glob("experiment_*") if path.is_dir()}
    assert len(packages) >= 10
    assert packages <= RESULTS.keys()


def test_a_file_of_the_authors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(AUTHORS))
    results = read_results(path)
    first, second = iter_trials(results)
    assert (first.latent, first.feature_label, first.threshold) == (7580, "body positions", 9.4)
    assert first.scores == (0.0, 80.5)
    assert (first.name, second.scores) == ("7580/3/How do I add two fractions?", None)
    assert list(iter_trials(results, arm="steered")) == []
    assert [outcome.status for outcome in outcomes_from_results(results)] == ["graded", "failed"]
    assert results.raw == AUTHORS
    assert results.experiment_config.judge_name == "j"


@pytest.mark.parametrize("key", ["prompt", "seed", "response", "score"])
def test_a_trial_without_a_key_of_the_authors_is_named(tmp_path: Path, key: str) -> None:
    data = json.loads(json.dumps(AUTHORS))
    del data["results_by_feature"][0]["trials"][0][key]
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=rf"feature\.0\.trials\.0\.{key}: Field required"):
        read_results(path)


async def test_a_run_without_a_key_or_with_a_wrong_line_is_refused(tmp_path: Path) -> None:
    await scripted.experiment_1(tmp_path, 0.0)
    folder = scripted.open_run(tmp_path).path
    run_schemas.check(folder)
    whole = (folder / "results.json").read_text()
    for where in (["summary"], ["summary", "esr_rate", "wilson"], ["experiment_config", "seed"]):
        data = json.loads(whole)
        inner = data
        for key in where[:-1]:
            inner = inner[key]
        del inner[where[-1]]
        (folder / "results.json").write_text(json.dumps(data))
        with pytest.raises(ValidationError, match=where[-1]):
            run_schemas.check(folder)
    (folder / "results.json").write_text(whole)
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"kind": "verdict", "key": "a", "value": {"status": "graded"}}\n')
    with pytest.raises(ValidationError, match="attempts"):
        run_schemas.check(folder)
    with (folder / "journal.jsonl").open("w") as file:
        file.write('{"kind": "unknown", "key": "a", "value": 1}\n')
    with pytest.raises(KeyError, match="unknown"):
        run_schemas.check(folder)
