"""Exports: tables that pandas and ``datasets`` read, a true card, and logs that Inspect opens."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.analysis import metrics
from esr.analysis.outcomes import outcomes_from_results
from esr.errors import UserError
from esr.export import commands, parquet, source
from esr.export.columns import TABLES
from esr.export.redaction import redacted
from esr.runs.paths import REPOSITORY
from esr.runs.results import read_results
from tests import made_up_runs

KEY = "sk-ant-api03-" + "a1B2" * 8
RUN = "abcdef0123"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a failed verdict that tells too much, and a latent whose calibration failed."""
    trials = made_up_runs.arm_of_trials("steered", 1, latents=12)
    trials[3]["error"] = (
        f"judge: failed (/home/someone/.env line 2: {KEY} at http://10.0.0.7:80/v1)"
    )
    trials[3]["score"] = {"raw_response": f"401 {KEY}", "attempts": [], "status": "failed"}
    trials[5]["response"] = "half a character: \ud83c"
    folder = made_up_runs.write_run(
        *(tmp_path_factory.mktemp("runs"), "experiment_01_esr", RUN, trials),
        config={"prompt_set": "/home/someone/questions.json"},
        calibrated=True,
    )
    data = json.loads((folder / "results.json").read_text())
    failed = {"latent": 99, "value": None, "low": 0.0, "high": 9.0, "rounds": 0, "skipped": 3}
    data["results_by_feature"].append(
        {
            "feature_index_in_sae": 99,
            "feature_label": "no threshold",
            "threshold": None,
            "error": "no scored round",
            "trials": [],
            "calibration": {**failed, "error": "no scored round"},
        }
    )
    (folder / "results.json").write_text(json.dumps(data))
    return folder


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of that run."""
    target = tmp_path_factory.mktemp("export")
    assert commands.main(["parquet", str(run), "--output", str(target)]) == 0
    return target


@pytest.fixture(scope="module")
def tables(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}


def test_the_rate_of_the_tables_is_the_rate_of_the_run(
    run: Path, tables: dict[str, pd.DataFrame]
) -> None:
    outcomes = outcomes_from_results(read_results(run))
    verdicts = tables["verdicts"]
    graded = verdicts[verdicts.status == "graded"]
    assert len(verdicts) == len(outcomes) == 60
    assert len(graded) < 60
    rate = metrics.esr_rate(outcomes)
    assert (int(graded.improved.sum()), len(graded)) == (rate.count, rate.n)
    assert float(graded["first"].mean()) == pytest.approx(metrics.mean_first_score(outcomes).mean)


def test_a_failed_verdict_is_a_row_without_a_score(tables: dict[str, pd.DataFrame]) -> None:
    verdicts = tables["verdicts"]
    failed = verdicts[~verdicts.status.isin(["graded", "no_attempts"])]
    assert "failed" in set(failed.status)
    assert failed[["first", "last", "multi", "improved"]].isna().all(axis=None)
    assert (failed.attempts == 0).all()


def test_attempts_stand_where_they_say(tables: dict[str, pd.DataFrame]) -> None:
    trials = tables["trials"].set_index("trial_id")
    placed = tables["attempts"].dropna(subset=["start"])
    assert len(placed) > 50
    for row in placed.to_dict("records"):
        response = trials.loc[row["trial_id"], "response"]
        assert response[int(row["start"]) : int(row["end"])] == row["text"]


def test_a_failed_calibration_is_a_row_with_its_reason(tables: dict[str, pd.DataFrame]) -> None:
    row = tables["thresholds"].set_index("latent").loc[99]
    assert pd.isna(row["value"])
    assert row["error"] == "no scored round"
    first = tables["thresholds"].set_index("latent").loc[0]
    assert list(first["round_boosts"]) == [5.0, 9.0, 7.5]
    assert pd.isna(first["round_scores"][1])


def test_no_key_and_no_path_of_a_machine_is_in_it(
    run: Path, folder: Path, tables: dict[str, pd.DataFrame]
) -> None:
    texts = [(folder / parquet.CARD).read_text(encoding="utf-8")]
    texts += [frame.to_json() for frame in tables.values()]
    for text in texts:
        for secret in (KEY, "/home/someone", "\\/home\\/someone", "10.0.0.7", str(run.parent)):
            assert secret not in text
    row = tables["verdicts"][tables["verdicts"].status == "failed"].iloc[0]
    assert row["raw"] == "401 [key]"
    assert list(tables["runs"].prompt_set) == ["questions.json"]


def test_what_a_response_says_is_left_alone() -> None:
    """A path in a sentence of a model is no path of a machine: only messages are redacted."""
    assert redacted("see (/usr/lib/x.py) or 3/4 of it") == "see ([path]) or 3/4 of it"
    assert redacted("HTTP 429: slow down") == "HTTP 429: slow down"
    assert redacted("") == ""


def test_a_key_of_the_environment_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_JUDGE_API_KEY", "correct horse battery")
    assert redacted("rejected: correct horse battery") == "rejected: [key]"


def test_the_card_names_every_column_and_run(folder: Path) -> None:
    text = (folder / parquet.CARD).read_text(encoding="utf-8")
    assert f"| {RUN} | experiment_01_esr | tiny | lexical | 000000000000 |" in text
    for name, columns in TABLES.items():
        for column in columns:
            assert f"| `{column.name}` | {column.kind} | {column.about} |" in text, name
    assert "no evidence about large models" in text


def test_datasets_loads_each_table_by_its_name(
    folder: Path, tmp_path: Path, tables: dict[str, pd.DataFrame]
) -> None:
    from datasets import load_dataset

    for name in ("trials", "thresholds"):
        loaded: Any = load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path))
        assert loaded.num_rows == len(tables[name])
        assert loaded.column_names == [column.name for column in TABLES[name]]


def test_the_same_runs_give_the_same_bytes(run: Path, folder: Path, tmp_path: Path) -> None:
    parquet.write(source.read(run), tmp_path)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_tree_gives_all_its_runs_and_a_file_of_the_authors_is_read(
    run: Path, tmp_path: Path
) -> None:
    made_up_runs.a_family(tmp_path / "tree", latents=3)
    sources = source.read_all([str(tmp_path / "tree"), str(tmp_path / "tree")])
    assert len(sources) == len({s.path for s in sources}) > 3
    (theirs,) = source.read(run / "results.json")
    assert theirs.metadata is None
    assert re.fullmatch("[0-9a-f]{16}", theirs.name)


def test_what_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in"):
        source.read(tmp_path)
    for arguments in (["parquet", str(tmp_path)], ["parquet"], ["nosuch"]):
        command = [sys.executable, "-m", "esr.export", *arguments]
        result = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert "next: " in result.stderr


def test_a_log_opens_in_inspect_with_attempts_and_the_same_rates(run: Path, tmp_path: Path) -> None:
    from inspect_ai.log import read_eval_log

    assert commands.main(["inspect", str(run), "--output", str(tmp_path)]) == 0
    log = read_eval_log(str(tmp_path / f"{RUN}-steered.eval"))
    outcomes = outcomes_from_results(read_results(run))
    assert log.status == "success"
    assert log.samples
    assert log.results
    assert len(log.samples) == len(outcomes)
    scores = {score.name: score for score in log.results.scores}
    summary = metrics.summary(outcomes, 0)
    graded = summary["counts"]["graded"]
    for name, value in (
        ("esr", summary["esr_rate"]["rate"]),
        ("multi", summary["multi_attempt_rate"]["rate"]),
        ("first", summary["mean_first_score"]["mean"]),
    ):
        assert scores[name].metrics["mean"].value == pytest.approx(value)
        assert scores[name].scored_samples == graded
        assert scores[name].unscored_samples == len(outcomes) - graded > 0
    by_id = {str(sample.id): sample for sample in log.samples}
    recorded = {str(s.id): (s.scores or {})["attempts"] for s in log.samples}
    several = [name for name in recorded if len((recorded[name].metadata or {})["attempts"]) > 1]
    assert several
    texts = [a["text"] for a in (recorded[several[0]].metadata or {})["attempts"]]
    assert all(text in by_id[several[0]].output.completion for text in texts)
    (failed,) = (s for s in recorded.values() if (s.metadata or {})["status"] == "failed")
    assert failed.value != failed.value, "a failed verdict has no value"
    assert KEY not in log.model_dump_json()
