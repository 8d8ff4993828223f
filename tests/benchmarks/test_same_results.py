"""The comparison of two snapshots sees what differs, and only that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.same_results import main

RESULTS: dict[str, Any] = {
    "parent": "0123456789",
    "summary": {"rate": 0.25, "counts": [3, 4], "mean": float("nan")},
}


def _snapshot(folder: Path, results: Any, run_id: str = "0123456789", rate: str = "25.0") -> Path:
    files = {
        "ids.json": json.dumps({"1": {"experiment_01_esr/tiny": run_id}}),
        "results/1/experiment_01_esr.tiny.json": json.dumps(results),
        "figures/exp1.csv": f"model,rate\ntiny,{rate}\n",
        "dry-runs/exp1.txt": f"responses 600\nreplayed: {run_id}\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _changed(**summary: Any) -> dict[str, Any]:
    return {**RESULTS, "summary": {**RESULTS["summary"], **summary}}


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return _snapshot(tmp_path / "before", RESULTS)


def test_equal_but_for_rounding(
    before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = _snapshot(tmp_path / "after", _changed(rate=0.25 * (1 + 1e-15)), rate="25.00")
    assert main(["compare", str(before), str(after)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ids run ids: equal",
        "results 1/experiment_01_esr.tiny.json: equal",
        "figures exp1.csv: equal",
        "dry-runs exp1.txt: equal",
    ]


def test_a_new_run_id_is_one_difference(
    before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where results and dry runs name the run, its new id is no second difference."""
    after = _snapshot(tmp_path / "after", {**RESULTS, "parent": "9876543210"}, "9876543210")
    assert main(["compare", str(before), str(after)]) == 1
    assert capsys.readouterr().out.count("differ") == 1
    kinds = ["--only", "results", "--only", "figures", "--only", "dry-runs"]
    assert main(["compare", str(before), str(after), *kinds]) == 0


@pytest.mark.parametrize(
    ("results", "line"),
    [
        (_changed(rate=0.26), "summary.rate: 0.25 -> 0.26"),
        (_changed(rate=0.25 + 1e-9), "summary.rate: 0.25 -> 0.250000001"),
        (_changed(counts=[3, 5]), "summary.counts.1: 4 -> 5"),
        (_changed(counts=[3]), "summary.counts.1: gone (was 4)"),
        (_changed(counts=[]), "summary.counts.0: gone (was 3)"),
        (_changed(counts=[3, True]), "summary.counts.1: 4 -> True"),
        (_changed(mean=None), "summary.mean: nan -> None"),
        (_changed(new=1), "summary.new: new (1)"),
        ({"parent": "0123456789"}, "summary.rate: gone (was 0.25)"),
    ],
)
def test_a_difference_is_told(
    before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], results: Any, line: str
) -> None:
    after = _snapshot(tmp_path / "after", results)
    assert main(["compare", str(before), str(after)]) == 1
    shown = capsys.readouterr().out
    assert f"    {line}\n" in shown
    assert main(["compare", str(before), str(after), "--only", "figures"]) == 0


def test_added_keys_are_named_and_hide_nothing(
    before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = _snapshot(tmp_path / "after", _changed(new={"a": 1, "b": 2}))
    assert main(["compare", str(before), str(after), "--added-keys-allowed"]) == 0
    assert "tiny.json: equal, 2 added: a, b\n" in capsys.readouterr().out
    after = _snapshot(tmp_path / "after", _changed(new=1, rate=0.5))
    assert main(["compare", str(before), str(after), "--added-keys-allowed"]) == 1


def test_the_digest_of_a_parent_that_gained_keys_is_no_difference(tmp_path: Path) -> None:
    folders = []
    for name, parent in (("before", RESULTS), ("after", _changed(new=1))):
        folder = _snapshot(tmp_path / name, parent)
        content = (folder / "results/1/experiment_01_esr.tiny.json").read_bytes()
        child = {"parent": {"digest": hashlib.sha256(content).hexdigest()[:16]}}
        (folder / "results/1/child.json").write_text(json.dumps(child))
        folders.append(str(folder))
    assert main(["compare", *folders, "--added-keys-allowed"]) == 0


def test_files_that_one_side_lacks(
    before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = _snapshot(tmp_path / "after", RESULTS, rate="24.0")
    (after / "figures/exp2.csv").write_text("model\ntiny\n")
    assert main(["compare", str(before), str(after), "--only", "figures"]) == 1
    shown = capsys.readouterr().out
    assert "line 2, rate: 25.0 -> 24.0" in shown
    assert "figures exp2.csv: only after\n" in shown
    (after / "figures/exp1.csv").unlink()
    assert main(["compare", str(before), str(after), "--added-keys-allowed"]) == 1
    assert "figures exp1.csv: only before\n" in capsys.readouterr().out
