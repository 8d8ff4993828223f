"""The table of published against measured numbers: terminal, CSV and LaTeX."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from plotting import latex, paper_numbers, selection
from plotting.measured import measure
from plotting.published import (
    DIFFERS,
    NOT_COMPARABLE,
    NOT_RUN,
    Row,
    compare,
)
from tests.made_up_runs import a_family, arm_of_trials, write_run
from tests.plotting.paper_rows import LARGE, NUMBERS, ours, paper


class TestComparison:
    def test_an_organism_is_shown_and_never_compared(self, tmp_path: Path) -> None:
        a_family(tmp_path)
        rows = compare(measure(selection.find([tmp_path])))
        shown = [row for row in rows if row.measured]
        assert {row.verdict for row in shown} == {NOT_COMPARABLE}
        assert {row.verdict for row in rows if not row.measured} == {NOT_RUN}
        assert sum(row.verdict == NOT_RUN for row in rows) == len(NUMBERS)
        assert "not evidence about large models" in paper_numbers.terminal(rows)

    def test_table_names_what_is_missing_only_on_request(self) -> None:
        rows = compare([ours(5.0, 4.5, 6.0)])
        assert "5.00 (4.50 to 6.00)" in paper_numbers.terminal(rows)
        assert "Published: [v1] printed in v1 (6 February 2026)." in paper_numbers.terminal(rows)
        assert "[px]" not in paper_numbers.terminal(rows)
        assert "gemma-27b" not in paper_numbers.terminal(rows)
        assert "gemma-27b" in paper_numbers.terminal(rows, everything=True)
        assert f"not run: {len(NUMBERS) - 1}" in paper_numbers.terminal(rows)


class TestLatex:
    def test_names_are_letters_and_unique(self) -> None:
        text = latex.macros(compare([]))
        names = re.findall(r"\\newcommand\{\\([^}]*)\}", text)
        assert len(names) == len(set(names)) == len(NUMBERS)
        assert all(re.fullmatch("[A-Za-z]+", name) for name in names)

    def test_measured_numbers_are_defined_and_others_are_not(self) -> None:
        text = latex.macros(compare([ours(5.0, 4.5, 6.0)]))
        assert r"\newcommand{\esrRateLlamaSeventy}{5.00}" in text
        assert r"\newcommand{\esrRateLlamaSeventyLow}{4.50}" in text
        assert r"\newcommand{\esrRateLlamaSeventyPaper}{3.83}" in text
        assert r"\newcommand{\esrRateLlamaSeventyVerdict}{differs}" in text
        assert r"\newcommand{\multiAttemptRateLlamaSeventy}{" not in text

    def test_an_organism_has_its_own_name(self) -> None:
        tiny = replace(ours(5.0, 4.5, 6.0), model="tiny", title="tiny organism", organism=True)
        text = latex.macros(compare([tiny]))
        assert r"\newcommand{\esrRateTinyOrganism}{5.00}" in text
        assert r"\newcommand{\esrRateLlamaSeventy}{" not in text
        assert r"\esrRateTinyOrganismPaper" not in text

    def test_digits_and_signs_are_spelled(self) -> None:
        assert latex.letters("-0.33 sd") == "MinusZeroPointThreeThreeSd"
        assert latex.letters("10 % self-correction") == "OneZeroPercentSelfCorrection"


class TestCommand:
    def test_writes_csv_and_macros(self, tmp_path: Path, capsys: Any) -> None:
        a_family(tmp_path / "results")
        arguments = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "out")]
        assert paper_numbers.main(arguments) == 0
        table = pd.read_csv(tmp_path / "out" / "paper_numbers.csv")
        assert set(table.verdict) == {NOT_RUN, NOT_COMPARABLE}
        measured = table[table.verdict == NOT_COMPARABLE]
        assert len(measured) == 11
        assert measured.run.str.startswith(("1-", "3-", "5-", "8-")).all()
        assert not math.isnan(measured.measured_low.iloc[0])
        assert "esrRateTinyOrganism" in (tmp_path / "out" / "paper_numbers.tex").read_text()
        assert "not comparable: 11" in capsys.readouterr().out

    def test_only_one_model_or_judge(self, tmp_path: Path, capsys: Any) -> None:
        a_family(tmp_path / "results")
        base = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "out")]
        for chosen in (["--model", "8b"], ["--judge", "haiku"]):
            assert paper_numbers.main([*base, *chosen]) == 0
            assert "not comparable: 0" in capsys.readouterr().out

    def test_judges_go_by_their_short_name_too(self, tmp_path: Path) -> None:
        config = {**LARGE, "judge_id": "claude-haiku-4-5-20251001"}
        write_run(tmp_path, "experiment_01_esr", "a", arm_of_trials("steered", 1, 4), config=config)
        for name, count in (("haiku", 1), ("claude-haiku-4-5-20251001", 1), ("sonnet", 0)):
            assert len(selection.find([tmp_path], judge=name)) == count

    def test_bad_input_is_one_line(self, tmp_path: Path, capsys: Any) -> None:
        assert paper_numbers.main(["--results", str(tmp_path / "nothing")]) == 2
        error = capsys.readouterr().err
        assert "no such results" in error
        assert len(error.splitlines()) == 1

    def test_a_broken_run_is_told_and_left_out(self, tmp_path: Path, capsys: Any) -> None:
        a_family(tmp_path)
        (tmp_path / "experiment_01_esr" / "tiny" / "aaaa" / "results.json").write_text("{")
        assert len(selection.find([tmp_path])) == 3
        assert ": left out" in capsys.readouterr().err


def test_rows_of_the_table_are_plain() -> None:
    row = Row(paper(4.0), ours(5.0, 4.5, 6.0)).plain()
    assert row["measured_value"] == 5.0
    assert row["run"] == "r"
    assert row["verdict"] == DIFFERS
