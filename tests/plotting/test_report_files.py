"""The report page as files: attempts in place, text never markup, every trial in its script."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from esr.errors import UserError
from esr.judge.lexical import restart_spans
from esr.judge.spans import attempt_spans
from plotting import selection
from plotting.report import page, tables, transcripts
from plotting.sources import load_source
from tests.made_up_runs import (
    OFF,
    ON,
    RESTART,
    a_family,
    arm_of_trials,
    attempts,
    write_run,
)
from tests.plotting.reports import make, script_data

if TYPE_CHECKING:
    pass


class TestAttempts:
    def test_restart_phrases(self) -> None:
        text = f"{OFF}{RESTART}{ON}"
        phrases = [text[a:b] for a, b in restart_spans(text)]
        assert phrases == ["Wait, that's not right", "Let me start over"]
        assert restart_spans(ON) == []

    def test_stretches_hold_the_whole_response(self) -> None:
        text = f"Well. {OFF}{RESTART}{ON}The end."
        quotes = [OFF.strip(), f"{RESTART}{ON}".strip(), "said by nobody"]
        attempts = zip(attempt_spans(text, quotes), quotes, (0.0, 75.5, None), strict=True)
        stretches = transcripts.blocks(text, attempts)
        assert [(b.attempt, b.score, b.quoted) for b in stretches] == [
            (0, None, False),
            (1, 0.0, False),
            (0, None, False),
            (2, 75.5, False),
            (3, None, True),
            (0, None, False),
        ]
        assert "".join(part for b in stretches if not b.quoted for part in b.parts) == text
        assert stretches[3].parts[1::2] == ["Wait, that's not right", "Let me start over"]
        assert stretches[4].parts == ["said by nobody"]

    def test_spans_that_overlap_repeat_no_text(self) -> None:
        attempts = [((0, 5), "", 1.0), ((3, 8), "", 2.0), ((2, 4), "inside", 3.0)]
        stretches = transcripts.blocks("0123456789", attempts)
        assert [b.parts for b in stretches] == [["01234"], ["567"], ["inside"], ["89"]]


class TestFolder:
    def test_text_of_responses_is_never_markup(self, report: Path) -> None:
        text = report.read_text()
        assert "&lt;/script&gt;&lt;img src=x" in text
        assert "<img src=x" not in text
        assert "<b>volcanoes" not in text
        assert "no &lt;run&gt;." in text
        for script in report.parent.glob("*/*.js"):
            assert script.read_bytes().isascii() or script.parent.name == "assets"

    def test_nothing_is_loaded_from_elsewhere(self, report: Path) -> None:
        folder = report.parent
        used = re.findall(r'(?:src|href)="([^"#]+)"', report.read_text())
        assert {"assets/page.css", "assets/page.js", "assets/data.js"} < set(used)
        for name in used:
            assert name == "data:," or (folder / name).is_file(), name
        named = {
            address
            for file in folder.rglob("*.*s")
            for address in re.findall(r'https?://[^"/]*', file.read_text())
        }
        # The name of a format, and a page that is only linked to.
        assert named == {"http://www.w3.org", "https://www.neuronpedia.org"}

    def test_says_it_is_an_organism_in_every_part(self, report: Path) -> None:
        parts = re.split(r"<section ", report.read_text())[1:]
        assert [re.findall('id="([a-z]+)"', p)[0] for p in parts] == [
            *("overview", "figures", "numbers", "runs", "transcripts")
        ]
        assert all("not evidence about large models" in part for part in parts)

    def test_transcripts_hold_every_trial(self, report: Path) -> None:
        run = load_source(report.parent.parent / "results/experiment_01_esr/tiny/aaaa")
        data = script_data(report.parent / "transcripts" / f"{run.key}.js")
        recorded = [t for f in run.data["results_by_feature"] for t in f["trials"]]
        assert len(data["trials"]) == len(recorded) == 200
        place = {name: k for k, name in enumerate(data["fields"])}
        for row, trial in zip(data["trials"], recorded, strict=True):
            assert row[place["id"]] == trial["trial_id"]
            assert row[place["prompt"]] == trial["prompt"]
            assert row[place["label"]] == trial["feature_label"]
            assert row[place["status"]] == trial["score"]["status"]
            stretches = [transcripts.Block(*block) for block in row[place["blocks"]]]
            whole = "".join(part for b in stretches if not b.quoted for part in b.parts)
            assert whole == trial["response"]
            attempts = [(b.score, "".join(b.parts)) for b in stretches if b.attempt]
            quoted = trial["score"]["attempts"]
            assert attempts == [(a["score"], a["attempt_text"].strip()) for a in quoted]

    def test_what_the_judge_answered_and_how_boosts_came_about(self, report: Path) -> None:
        run = load_source(report.parent.parent / "results/experiment_01_esr/tiny/aaaa")
        folder = report.parent / "transcripts"
        answers = script_data(folder / f"{run.key}.answers.js")
        recorded = [t for f in run.data["results_by_feature"] for t in f["trials"]]
        assert answers == [t["score"]["raw_response"] for t in recorded]
        latents = script_data(folder / f"{run.key}.js")["latents"]
        assert latents["7"]["scores"] == [[5.0, 80.0], [9.0, None], [9.5, 35.0]]
        assert (latents["7"]["value"], latents["7"]["low"]) == (9.5, 7.5)

    def test_half_a_character_ends_no_report(self, tmp_path: Path) -> None:
        trials = arm_of_trials("steered", 1, 4)
        trials[3]["response"] = OFF + RESTART + ON
        attempt_texts = [OFF, RESTART + ON]
        trials[3]["score"] = {"attempts": attempts(attempt_texts, [0.0, 100.0]), "status": "graded"}
        trials[3]["prompt"] = trials[3]["feature_label"] = "half \ud83c of a volcano"
        write_run(tmp_path / "results", "experiment_01_esr", "a", trials)
        text = make(tmp_path / "results", tmp_path / "out").read_text()
        assert "half \\ud83c of a volcano" in text

    def test_runs_are_told_apart_by_name(self, tmp_path: Path) -> None:
        root, trials = tmp_path / "results", arm_of_trials("self_monitor", 1, 4)
        package = "experiment_05_prompt_variants"
        for name in ("self_monitor", "resist_manipulation"):
            write_run(root, package, name, trials, config={"prompt_variant_id": name})
        off = {"prompt_variant_id": "self_monitor", "no_steering": True}
        write_run(root, package, "off", trials, config=off)
        write_run(root, "experiment_01_esr", "few", trials, config={"n_latents": 4})
        write_run(root, "experiment_03_find_detectors", "a", [])
        write_run(root, "finetuning-data", "b", [])
        write_run(root, "finetuning", "c", [])
        text = make(root, tmp_path / "out").read_text()
        names = re.findall(r"<summary><strong>([^<]*)</strong>, (.*?) <span", text)
        assert [heading[0] for heading, _ in names] == ["1", "3", "4", "4", "5", "5", "5"]
        assert sorted(names) == [
            ("1 · ESR across models", "tiny organism, --n-latents 4"),
            ("3 · Search for off-topic detectors", "tiny organism"),
            ("4 · Data for fine-tuning", "tiny organism"),
            ("4 · Fine-tuning, training", "tiny organism"),
            ("5 · Meta-prompts", "tiny organism, resist_manipulation"),
            ("5 · Meta-prompts", "tiny organism, self_monitor"),
            ("5 · Meta-prompts", "tiny organism, self_monitor, no steering"),
        ]
        runs = re.split('<section id="', text)[4]
        assert "Later versions" not in runs

    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            (
                ["/x/bin/python", "/y/experiment_01_esr/__main__.py", "tiny"],
                "/x/bin/python -m experiment_01_esr tiny",
            ),
            (
                ["python", "-m", "a", "--variants", "do {prompt} it"],
                "python -m a --variants 'do {prompt} it'",
            ),
            ([], ""),
        ],
    )
    def test_the_command_can_be_typed(self, argv: list[str], expected: str) -> None:
        assert tables.command(argv) == expected

    def test_latents_that_failed_are_told(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path, "experiment_01_esr", "a", arm_of_trials("steered", 1, 3))
        data = json.loads((folder / "results.json").read_text())
        data["results_by_feature"][1] |= {"error": "calibration: 1 of 5 rounds scored"}
        (folder / "results.json").write_text(json.dumps(data))
        told = tables.latents(load_source(folder))
        assert told == "3, of which 1 failed (1: calibration: 1 of 5 rounds scored)"

    def test_a_run_that_cannot_be_shown_costs_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_run(tmp_path / "r", "experiment_01_esr", "a", arm_of_trials("steered", 1, 3))
        odd = {"hardware": {"gpus": 3, "cores": 2}}
        trials = arm_of_trials("steered", 1, 3)
        write_run(tmp_path / "r", "experiment_01_esr", "odd", trials, facts=odd)
        text = make(tmp_path / "r", tmp_path / "out").read_text()
        assert text.count('<details id="run-') == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "odd cannot be used (TypeError" in line

    def test_captions_stand_below_the_figures(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"\x89PNG" + b"\0" * 30)
        (tmp_path / "a.caption.md").write_text("**What it shows.**\n\nJudge: <lexical>.\n")
        figure = page.Figure("a", "Title", "Figure 1", 1)
        text = page.write(tmp_path, [], [], [figure], []).read_text()
        assert "<p>What it shows.</p><p>Judge: &lt;lexical&gt;." in text

    def test_unjudged_responses_and_runs_without_results(self, tmp_path: Path) -> None:
        trials = arm_of_trials("unsteered", 1, 4)
        for trial in trials:
            trial["spec"] = {"judged": False}
        package = "experiment_03_off_topic_detectors"
        write_run(tmp_path / "results", package, "a", trials)
        folder = write_run(tmp_path / "results", package, "b", [], facts={"status": "failed"})
        (folder / "results.json").unlink()
        text = make(tmp_path / "results", tmp_path / "out").read_text()
        assert "No trials yet." in text
        assert 'class="status-failed">failed' in text
        assert not list((tmp_path / "out").glob("transcripts/*"))

    def test_unwritable_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot write"):
            page.write(tmp_path / "file" / "x", [], [], [], [])

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "results").mkdir()
        text = make(tmp_path / "results", tmp_path / "out").read_text()
        assert "python -m experiment_01_esr tiny" in text
        assert "There are no runs." in text
        assert "organism" not in re.sub(r"experiment_\S+ tiny", "", text)

    def test_rates_of_the_page_are_those_of_the_metrics(self, tmp_path: Path) -> None:
        a_family(tmp_path)
        for source in selection.find([tmp_path]):
            run = tables.run(source)
            for name, outcomes in source.arms.items():
                counts = run["arms"][name]["counts"]
                assert counts["improved"] == sum(o.improved for o in outcomes)
                assert counts["trials"] == len(outcomes) == run["trials"]
