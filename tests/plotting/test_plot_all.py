"""Everything in one command: what has data is drawn, what has none is said, nothing is made up."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from esr.runs.paths import REPOSITORY
from plotting import plot_all
from plotting.plot_all import SCRIPTS, Script
from plotting.sources import PACKAGES
from tests.made_up_runs import arm_of_trials, write_run
from tests.plotting.printed import heavy_imports

LARGE = {
    "model": "70b",
    "model_title": "Llama-3.3-70B",
    "organism": False,
    "judge_id": "claude-haiku-4-5-20251001",
}


def run(results: Path, output: Path, *options: str) -> int:
    return plot_all.main(["--results", str(results), "--output", str(output), *options])


@pytest.fixture
def only_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot_all, "SCRIPTS", SCRIPTS[:2])


class TestScripts:
    def test_one_for_each_experiment(self) -> None:
        assert [script.experiment for script in SCRIPTS] == sorted(PACKAGES)
        assert {*range(1, 14)} <= PACKAGES.keys()

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.module)
    def test_exists_and_says_what_it_lacks(
        self, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "results").mkdir()
        given = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "figures")]
        assert script.main(given) == 1
        assert "run: python" in capsys.readouterr().err

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.module)
    def test_its_command_exists(self, script: Script) -> None:
        words = script.command.split()
        if words[1] == "-m":
            assert words[2] == PACKAGES[script.experiment]
            assert importlib.util.find_spec(words[2]) is not None
        else:
            assert (REPOSITORY / words[1]).is_file()

    def test_imports_no_engine_and_no_torch(self) -> None:
        assert heavy_imports("import plotting.plot_all as p; [s.main for s in p.SCRIPTS]") == "[]"


@pytest.mark.usefixtures("only_first")
class TestCommand:
    def test_draws_what_has_data(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_run(tmp_path / "r", "experiment_01_esr", "a", arm_of_trials("steered", 1, 20))
        assert run(tmp_path / "r", tmp_path / "out") == 0
        told = capsys.readouterr().out
        assert "Figure 2, ESR across models: " in told
        assert (
            "Figure 3, Boost-level sweep: no complete run. "
            "Next: python -m experiment_02_multi_boost tiny" in told
        )
        made = {path.name for path in (tmp_path / "out").iterdir()}
        figures = {f"exp1_esr.{kind}" for kind in ("png", "pdf", "csv", "caption.md")}
        numbers = {"paper_numbers.csv", "paper_numbers.tex"}
        assert made == figures | numbers | {"index.html", "assets", "transcripts"}
        page = (tmp_path / "out" / "index.html").read_text()
        assert 'src="exp1_esr.png"' in page
        assert "1 of 2 sets of figures have data" in page

    def test_nothing_to_draw(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "r").mkdir()
        assert run(tmp_path / "r", tmp_path / "out") == 1
        assert "Next: python -m experiment_01_esr tiny" in capsys.readouterr().out
        assert not list((tmp_path / "out").glob("*.png"))
        assert (tmp_path / "out" / "index.html").is_file()

    def test_one_model_and_one_judge(self, tmp_path: Path) -> None:
        trials = arm_of_trials("steered", 1, 20)
        write_run(tmp_path / "r", "experiment_01_esr", "a", trials)
        write_run(tmp_path / "r", "experiment_01_esr", "b", trials, config=LARGE)
        for options, kept, gone in (
            ((), ("tiny organism", "Llama-3.3-70B"), ()),
            (("--model", "70b"), ("Llama-3.3-70B",), ("tiny organism",)),
            (("--judge", "lexical"), ("tiny organism",), ("Llama-3.3-70B",)),
        ):
            assert run(tmp_path / "r", tmp_path / "out", *options) == 0
            table = (tmp_path / "out" / "exp1_esr.csv").read_text()
            assert all(name in table for name in kept)
            assert not any(name in table for name in gone)

    def test_a_file_of_the_authors_is_drawn_and_compared(self, tmp_path: Path) -> None:
        trials = arm_of_trials("steered", 1, 20)
        made = write_run(tmp_path / "r", "experiment_01_esr", "a", trials)
        data = json.loads((made / "results.json").read_text())
        data["experiment_config"] = {"model_name": "google/gemma-2-9b-it"}
        (tmp_path / "theirs.json").write_text(json.dumps(data))
        assert run(tmp_path / "theirs.json", tmp_path / "out") == 0
        assert "Gemma-2-9B" in (tmp_path / "out" / "exp1_esr.csv").read_text()
        numbers = (tmp_path / "out" / "paper_numbers.csv").read_text()
        assert "1/gemma-9b/steered/esr_rate" in numbers
        assert "differs" in numbers
        page = (tmp_path / "out" / "index.html").read_text()
        assert "theirs.json" in page
        assert 'class="organism"' not in page

    def test_without_degraded_responses(self, tmp_path: Path) -> None:
        trials = arm_of_trials("steered", 1, 20)
        trials[0]["response"] = "lava " * 9
        write_run(tmp_path / "r", "experiment_01_esr", "a", trials)
        assert run(tmp_path / "r", tmp_path / "out", "--exclude-degraded") == 0
        assert "left_out,1.0" in (tmp_path / "out" / "exp1_esr.csv").read_text()
        assert "repeat a word are left out" in (tmp_path / "out" / "index.html").read_text()

    def test_bad_input_is_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(tmp_path / "nothing", tmp_path / "out") == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


class Fake(Script):
    """A script whose command is a function of the test."""

    @property
    def main(self) -> Any:
        return self.__dict__["own"]


def fake(main: Any) -> Script:
    made = Fake(1, "Made up", "Figure 0", "python -m nothing")
    made.__dict__["own"] = main
    return made


class TestFaults:
    def test_one_that_fails_costs_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def broken(_: Sequence[str]) -> int:
            raise KeyError("a defect")

        monkeypatch.setattr(plot_all, "SCRIPTS", (fake(broken), SCRIPTS[0]))
        write_run(tmp_path / "r", "experiment_01_esr", "a", arm_of_trials("steered", 1, 20))
        assert run(tmp_path / "r", tmp_path / "out") == 2
        told = capsys.readouterr().out
        assert "Made up: not drawn: KeyError: 'a defect'." in told
        assert "ESR across models: " in told

    def test_one_that_cannot_leave_responses_out_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def draws_all(argv: Sequence[str]) -> int:
            if "--exclude-degraded" in argv:
                raise SystemExit(2)
            folder = Path(argv[argv.index("--output") + 1])
            (folder / "x.png").write_bytes(b"\x89PNG" + b"\0" * 30)
            return 0

        monkeypatch.setattr(plot_all, "SCRIPTS", (fake(draws_all),))
        (tmp_path / "r").mkdir()
        assert run(tmp_path / "r", tmp_path / "out", "--exclude-degraded") == 0
        assert "degraded ones included" in (tmp_path / "out" / "index.html").read_text()
