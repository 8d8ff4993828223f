"""Public transcripts: nothing of unknown content is fetched, a copy is checked and converted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from esr.analysis.outcomes import outcomes_from_results
from esr.errors import UserError
from esr.runs import paths
from esr.runs.results import iter_trials, read_results
from esr.upstream import commands, transcripts

ROWS = [
    {"id": f"p{n}_{c}_s0", "prompt": f"How {n}?", "concept": c, "alpha": a, "sample": 0}
    for n in range(2)
    for c, a in (("none", 0.0), ("body positions", 0.8))
]
CONTENT = "".join(json.dumps({**r, "response": f"Well, {r['id']}."}) + "\n" for r in ROWS).encode()


def test_what_is_not_pinned_is_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["transcripts", "esr-values"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gen_concept_L33.jsonl of FranciscoHS/esr-values at 98b20b27b8e9 is not pinned" in line
    assert "--file FILE --sha256 DIGEST" in line
    with pytest.raises(UserError, match="unknown transcripts 'nosuch'"):
        transcripts.get("nosuch")


def test_a_copy_of_known_content_becomes_a_results_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paths, "WORK", tmp_path)
    file = tmp_path / "copy.jsonl"
    file.write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    given = ["transcripts", "esr-values", "--file", str(file), "--sha256"]
    assert commands.main([*given, "0" * 64]) == 2
    assert f"has SHA-256 {sha256}, not" in capsys.readouterr().err
    assert commands.main([*given, sha256]) == 0
    assert "4 responses under 2 concepts" in capsys.readouterr().out
    results = read_results(tmp_path / "upstream" / "transcripts" / "esr-values.json")
    trials = list(iter_trials(results))
    assert [(t.latent, t.arm, t.threshold) for t in trials[:2]] == [(0, "no-steering", 0.0)] * 2
    assert [(t.latent, t.feature_label, t.threshold) for t in trials[2:]] == [
        (1, "body positions", 0.8)
    ] * 2
    assert {o.status for o in outcomes_from_results(results)} == {"failed"}, "not judged yet"


def test_a_line_of_another_shape_is_refused(tmp_path: Path) -> None:
    source = transcripts.get("esr-values")
    for wrong in (
        b"{}\n",
        b"[]\n",
        CONTENT + b"half a li",
        CONTENT.replace(b'"sample": 0', b'"x":1'),
    ):
        with pytest.raises(UserError, match="is not of the expected shape"):
            transcripts.convert(source, wrong, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
