"""Figures: what is drawn and written equals the metrics; nothing is clipped or made up.

The scores are made up for these tests and written to temporary folders only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from esr.analysis import metrics, quantities
from esr.analysis.outcomes import Outcome
from esr.errors import UserError
from esr.judge.base import Status
from esr.runs.paths import REPOSITORY
from esr.runs.run_metadata import RunMetadata
from plotting import plot_exp1, rates, style
from plotting.figure import Drawn, Panel, compose, save
from plotting.published import published
from plotting.selection import find_sources
from plotting.sources import Source, differing_settings
from tests.plotting.printed import PAPER, check, clipped_text, overlapping_text, said, texts


def made_up(seed: int, latents: int = 40, share: float = 0.2) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    made = []
    for latent in range(latents):
        restarts = rng.beta(0.5, 0.5 / share - 0.5)
        for trial in range(5):
            n = 1 + int(rng.random() < restarts)
            scores = tuple(float(5 * s) for s in rng.integers(0, 21, n))
            repeats = bool(rng.random() < 0.1)
            prompt = f"prompt {(7 * latent + trial) % 12}"
            made.append(
                Outcome(latent, f"{latent}/{trial}", scores, Status.GRADED, repeats, prompt=prompt)
            )
    return made


def source(model: str, outcomes: Sequence[Outcome], **changes: Any) -> Source:
    settings = {"judge_id": "scripted", "seed": 3}
    fields = {"title": model, "path": Path(model), "organism": False, "settings": settings}
    return Source(model=model, outcomes=outcomes, **{**fields, **changes})


def of_the_paper(model: str) -> Source:
    """A model whose counts are the published ones; which trial restarts is made up."""
    numbers = {
        number.quantity: number
        for number in published()
        if (number.experiment, number.model, number.arm) == (1, model, "steered")
    }
    n = numbers["multi_attempt_rate"].n or 0
    shares = [numbers[name].value or 0.0 for name in ("multi_attempt_rate", "esr_rate")]
    multi, improved = (round(share * n / 100) for share in shares)
    first = round(numbers["mean_first_score"].value or 0.0)
    outcomes = []
    for trial in range(n):
        last = () if trial >= multi else ((first + 20.0,) if trial < improved else (first - 20.0,))
        scores = (float(first), *last)
        outcomes.append(Outcome(trial * 31 % 997, f"{trial}", scores, Status.GRADED))
    return source(model, outcomes)


UNGRADED = [
    Outcome(0, "lost", None, Status.FAILED),
    Outcome(0, "none", None, Status.NO_ATTEMPTS),
]

FOUR = [
    source("70b", made_up(1) + UNGRADED),
    source("gemma-2b", [Outcome(1, "a", (20.0,), Status.GRADED)] * 9),
    source("8b", UNGRADED),
    source("tiny", made_up(2), organism=True, settings={"judge_id": "lexical", "seed": 4}),
]


def drawn(sources: Sequence[Source], **options: bool) -> Drawn:
    """The figure of experiment 1."""
    (made,) = plot_exp1.figures(sources, **options)
    return made


class TestStyle:
    def test_families_share_a_colour_and_differ_from_each_other(self) -> None:
        assert style.colour("70b") == style.colour("8b")
        distinct = {style.colour(key) for key in ("70b", "gemma-2b", "tiny", "unknown")}
        assert len(distinct) == 4

    def test_families_differ_in_lightness_too(self) -> None:
        """So that they can be told apart in grey and by colour-blind readers."""
        grey = [
            float(np.dot(matplotlib.colors.to_rgb(c), (0.2126, 0.7152, 0.0722)))
            for c in (style.LLAMA, style.GEMMA, style.ORGANISM)
        ]
        assert len({round(g, 2) for g in grey}) == 3

    def test_saves_three_files_side_by_side(self, tmp_path: Path) -> None:
        table = pd.DataFrame({"x": [0, 1], "y": [1.0, 1 / 3]})
        rows = [(1.0, [Panel(lambda axes: axes.plot([1, 2]))])]
        notes = ["A line.", "", "No bar."]
        drawn = compose("name", "any", rows, table, about="Lines.", sources=[], notes=notes)
        paths = save(drawn, tmp_path / "new")
        names = ["name.png", "name.pdf", "name.csv", "name.caption.md"]
        assert [p.name for p in paths] == names
        assert paths[3].read_text() == "**Lines.**\n\nA line.\n\nNo bar.\n"
        assert paths[0].read_bytes().startswith(b"\x89PNG")
        assert paths[1].read_bytes().startswith(b"%PDF")
        pd.testing.assert_frame_equal(pd.read_csv(paths[2]), table)
        width = int.from_bytes(paths[0].read_bytes()[16:20], "big")
        assert width == round(300 * style.COLUMN_WIDTH)

    def test_unwritable_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot write"):
            save(Drawn("name", Figure(), pd.DataFrame()), tmp_path / "file" / "x")

    def test_fine_tuned_organisms_are_named_by_their_base(self) -> None:
        titles = ["small", "small, base", "small, base, fine-tuned on 10 %"]
        assert style.organism_note(titles) == f"small; small, base: {style.ORGANISM_NOTE}"
        assert style.organism_note([]) == ""

    def test_clipped_and_overlapping_text_is_found(self) -> None:
        figure = Figure((3.4, 1.0))
        figure.text(0.9, 0.5, "much too long to fit into the figure")
        figure.text(0.1, 0.5, "fits")
        assert clipped_text(figure) == ["much too long to fit into the figure"]
        assert overlapping_text(figure) == []
        figure.text(0.12, 0.52, "over it")
        assert overlapping_text(figure) == [("fits", "over it")]

    def test_tick_labels_of_neighbours_that_meet_are_found(self) -> None:
        figure = Figure((3.4, 1.0))
        for place in (0.1, 0.5):
            axes = figure.add_axes((place, 0.4, 0.4, 0.5))
            axes.set_xticks([0, 1], ["nought", "one hundred"])
        assert overlapping_text(figure) == [("one hundred", "nought")]

    def test_an_undefined_bar_draws_nothing_and_says_so(self) -> None:
        axes = Figure().subplots()
        undefined: dict[str, Any] = {"rate": None, "count": 0, "n": 0, "wilson": None}
        undefined |= {"paper_interval": None, "cluster_interval": None}
        rate: dict[str, Any] = {"rate": 0.25, "count": 1, "n": 4, "wilson": None}
        rate |= {"paper_interval": (0.2, 0.3), "two_way_interval": (-0.1, 1.6)}
        rate |= {"cluster_interval": (0.1, 0.5)}
        rates.bars(axes, [rates.Bar("a", undefined, "red"), rates.Bar("b", rate, "red")], 1.0)
        assert [p.get_width() for p in axes.patches if isinstance(p, Rectangle)] == [25.0]
        shown = [text.get_text() for text in axes.findobj(Text)]
        assert "not defined (n 0)" in shown
        assert "25.0 % (1/4)" in shown
        ends = np.concatenate([np.asarray(line.get_xdata()) for line in axes.lines])
        assert (ends.min(), ends.max()) == (0, 100), "an interval beyond 0 to 100"
        assert rates.top(rate) == 1.0

    def test_both_references_are_drawn_under_their_bar(self) -> None:
        axes = Figure().subplots()
        rate: dict[str, Any] = {"rate": 0.5, "count": 2, "n": 4, "cluster_interval": None}
        null = {"rate": 0.4, "n": 4, "cluster_interval": (0.3, 0.6)}
        other = {"rate": 0.7, "n": 4, "cluster_interval": (0.6, 0.9)}
        rates.bars(axes, [rates.Bar("a", rate, "red", (null, other))], 1.0)
        drawn = [sorted(map(float, np.asarray(line.get_xdata()))) for line in axes.lines]
        assert drawn == [[30.0, 60.0], [40.0], [60.0, 90.0], [70.0]]
        fills = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "D"]
        assert fills == ["white", style.INK]
        rates.bars(axes, [rates.Bar("a", rate, "red", (null, None))], 1.0)
        rows = [float(np.asarray(line.get_ydata())[0]) for line in axes.lines]
        assert max(rows) < -0.2, "below the bar, not in it"

    def test_few_trials_are_pale_and_n_stands_above(self) -> None:
        axes = Figure().subplots()
        both = [{"rate": 0.5, "n": n, "cluster_interval": None} for n in (9, 10)]
        rates.points(axes, [0, 1], both, "red")
        rates.sizes(axes, [0, 1], both)
        assert [line.get_alpha() for line in axes.lines] == [0.3, 1.0]
        assert [text.get_text() for text in axes.texts] == ["9", "10"]

    def test_long_names_fill_two_lines(self) -> None:
        axes = Figure().subplots()
        rate = {"rate": 0.5, "n": 4, "cluster_interval": None}
        rates.bars(axes, [rates.Bar("dont_get_distracted, no steering", rate, "red")], 1.0)
        (label,) = axes.get_yticklabels()
        assert label.get_text() == "dont get distracted,\nno steering"

    def test_the_mark_takes_no_room_from_the_panels(self) -> None:
        rows = [(height, [Panel(lambda axes: axes.plot([1, 2]))] * 2) for height in (1.0, 2.0)]
        drawn = compose("name", "any", rows, pd.DataFrame(), about="", sources=FOUR)
        figure = drawn.figure
        figure.draw_without_rendering()
        heights = [axes.get_window_extent().height / figure.dpi for axes in figure.axes[::2]]
        assert heights == pytest.approx([0.75, 1.75], abs=0.25)
        check(drawn)
        (mark,) = figure.texts
        assert mark.get_fontsize() == 5
        panels: list[Any] = [axes.get_tightbbox() for axes in figure.axes]
        assert not any(panel.overlaps(mark.get_window_extent()) for panel in panels)

    def test_without_rows_there_is_one_empty_panel(self) -> None:
        drawn = compose("x", "experiment_99", [], pd.DataFrame(), about="Nothing.", sources=[])
        assert len(drawn.figure.axes) == 1
        assert "no complete run of experiment_99" in texts(drawn.figure)
        assert drawn.caption == "**Nothing.**\n"

    def test_drawing_leaves_no_global_settings(self) -> None:
        before = dict(matplotlib.rcParams)
        assert drawn(FOUR[:1]).figure.axes
        assert dict(matplotlib.rcParams) == before


class TestFigureOfExperiment1:
    def test_csv_equals_the_metrics(self) -> None:
        table = drawn(FOUR).table
        for made in FOUR:
            rows: Any = table[table.model == made.model].set_index("quantity")
            for name, rate in (
                ("multi_attempt_rate", metrics.multi_attempt_rate(made.outcomes)),
                ("esr_rate", metrics.esr_rate(made.outcomes)),
                (
                    "conditional_improvement_rate",
                    metrics.conditional_improvement_rate(made.outcomes),
                ),
            ):
                row = rows.loc[name]
                assert (row["count"], row["n"]) == (rate.count, rate.n)
                np.testing.assert_equal(float(row["value"]), rate.rate)
                np.testing.assert_equal(float(row["paper_low"]), rate.paper_interval().low)
                np.testing.assert_equal(float(row["wilson_high"]), rate.wilson().high)
            null = metrics.redraw_null(made.outcomes)
            np.testing.assert_equal(float(rows.loc["redraw_null", "value"]), null.rate)
            np.testing.assert_equal(float(rows.loc["improved_minus_null", "value"]), null.excess)
            interval = quantities.cluster_interval(made.outcomes, quantities.ESR, made.seed)
            expected = [interval.low, interval.high] if interval else [np.nan, np.nan]
            ends = rows.loc["esr_rate", ["cluster_low", "cluster_high"]].astype(float)
            np.testing.assert_array_equal(ends, expected)
            two_way = quantities.Table.of(made.outcomes).two_way(quantities.ESR)
            expected = [two_way.low, two_way.high] if two_way else [np.nan, np.nan]
            ends = rows.loc["esr_rate", ["two_way_low", "two_way_high"]].astype(float)
            np.testing.assert_array_equal(ends, expected)
            assert rows.loc["failed", "value"] == metrics.tally(made.outcomes).failed
            bins = rows.loc[["trials_with_score_change"]]
            assert bins["count"].sum() == len(metrics.score_changes(made.outcomes))
            for _, row in bins.iterrows():
                within = [
                    row["bin_low"] <= change < row["bin_high"]
                    for change in metrics.score_changes(made.outcomes)
                ]
                assert row["count"] == sum(within)

    def test_drawn_bars_equal_the_csv(self) -> None:
        made = drawn(FOUR)
        for row, model in ((0, "70b"), (3, "tiny")):
            rows: Any = made.table[made.table.model == model].set_index("quantity")
            panels = made.figure.axes[3 * row : 3 * row + 3]
            left, middle, right = (
                [p for p in axes.patches if isinstance(p, Rectangle)] for axes in panels
            )
            assert [p.get_height() for p in left] == list(
                rows.loc["trials_with_score_change", "count"]
            )
            for patches, names in (
                (middle, ["multi_attempt_rate", "esr_rate"]),
                (right, ["conditional_improvement_rate", "redraw_null", "unabandoned_null"]),
            ):
                expected = 100 * rows.loc[names, "value"].astype(float)
                assert [p.get_width() for p in patches] == pytest.approx(list(expected))

    def test_models_of_a_kind_share_a_scale(self) -> None:
        ends = [axes.get_xlim()[1] for axes in drawn(FOUR).figure.axes[1::3]]
        assert ends[0] == ends[1] != ends[3]

    def test_says_what_must_be_said(self) -> None:
        made = drawn(FOUR)
        assert f"tiny: {style.ORGANISM_NOTE}" in texts(made.figure)
        assert f"tiny: {style.ORGANISM_NOTE}" in made.caption
        assert "70b: not graded and left out: 1 no attempts, 1 failed" in made.caption
        assert "Runs differ in judge (scripted, lexical); seed (3, 4)" in made.caption
        assert "no multi-attempt trials" in texts(made.figure)
        assert "none of 2 trials graded" in texts(made.figure)
        assert "N1, all firsts N2, unabandoned" in texts(made.figure)
        assert "neither says that restarting helps" in made.caption
        assert "helped" not in said(made)
        null = metrics.redraw_null(FOUR[0].outcomes)
        assert f"70b: excess over N1 {100 * null.excess:+.0f} [" in made.caption
        null = metrics.unabandoned_null(FOUR[0].outcomes)
        assert f"; excess over N2 {100 * null.excess:+.0f} [" in made.caption

    def test_settings_that_are_not_the_default_stand_in_picture_and_caption(self) -> None:
        options = {"pairing": "scheduler-order", "n_latents": 12, "profile": "release"}
        odd = "--pairing scheduler-order --profile release --n-latents 12 --seed 3"
        (plain,) = (replace(s, settings={**s.settings, "seed": 0}) for s in FOUR[:1])
        metadata = RunMetadata(schema_version=1, status="complete", model="70b", config=options)
        run = replace(FOUR[0], metadata=metadata)
        made = drawn([run])
        assert f"Settings that are not the default: {odd}." in made.caption
        assert odd in texts(made.figure)
        assert "not the default" not in said(drawn([plain]))
        other = replace(plain, title="another")
        made = drawn([other, run])
        assert f"not the default: 70b: {odd}." in made.caption
        assert f"70b: {odd}" in texts(made.figure)

    def test_says_when_too_few_latents_passed_the_filter(self) -> None:
        note = "only 12 of 40 latents pass the filter"
        few = replace(FOUR[0], data={**FOUR[0].data, "selection": {"note": note}})
        assert f"70b: {note}." in drawn([few]).caption
        assert "pass the filter" not in said(drawn(FOUR))

    def test_no_organism_no_mark(self) -> None:
        made = drawn(FOUR[:1])
        assert style.ORGANISM_NOTE not in said(made)
        assert "Judge: scripted" in made.caption

    @pytest.mark.parametrize("chosen", [[], [0], [1], [2], [3], [0, 1, 2, 3]])
    def test_no_text_is_clipped_or_covered(self, chosen: list[int]) -> None:
        check(drawn([FOUR[i] for i in chosen]))

    def test_five_models_in_the_shape_of_the_published_numbers(self) -> None:
        """Outcomes drawn so that counts are the paper's (``data/paper_numbers.json``), no data."""
        models = [of_the_paper(key) for key in PAPER]
        made = drawn(models)
        check(made)
        rows: Any = made.table[made.table.model == "70b"].set_index("quantity")
        assert (rows.loc["multi_attempt_rate", "count"], rows.loc["esr_rate", "count"]) == (
            360,
            187,
        )
        assert "7.38 % (360/4,877)" in texts(made.figure)
        assert "3.83 % (187/4,877)" in texts(made.figure)
        assert {axes.get_xlim()[1] for axes in made.figure.axes[1::3]} == {
            made.figure.axes[1].get_xlim()[1]
        }

    def test_nothing_to_draw_is_an_empty_panel(self) -> None:
        figure = drawn([]).figure
        assert "no complete run of experiment_01_esr" in texts(figure)
        assert not any(axes.patches for axes in figure.axes)
        assert drawn([]).table.empty

    def test_degraded_responses_are_left_out_on_request(self) -> None:
        kept = [o for o in FOUR[0].outcomes if not o.degraded]
        table = drawn(FOUR[:1], exclude_degraded=True).table.set_index("quantity")
        assert table.loc["esr_rate", "n"] == metrics.esr_rate(kept).n
        left_out = len(FOUR[0].outcomes) - len(kept)
        assert table.loc["left_out", "value"] == left_out > 0
        shown = drawn(FOUR[:1], exclude_degraded=True).caption
        assert f"Degraded responses left out: 70b {left_out}" in shown


def write_results(file: Path, config: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """A results file in the authors' schema."""
    features: dict[int, list[dict[str, Any]]] = {}
    for i, outcome in enumerate(outcomes):
        attempts = [{"attempt_text": "t", "score": score} for score in outcome.scores or ()]
        trial = {"prompt": "p", "seed": i, "response": "r", "error": None}
        failed = outcome.status == Status.FAILED
        trial["score"] = None if failed else {"raw_response": "", "attempts": attempts}
        features.setdefault(outcome.latent, []).append(trial)
    entries = [
        {"feature_index_in_sae": k, "feature_label": "", "threshold": 1.0, "trials": trials}
        for k, trials in features.items()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"experiment_config": config, "results_by_feature": entries}))


def write_run(root: Path, model: str, name: str, started: str, status: str = "complete") -> Path:
    folder = root / "experiment_01_esr" / model / name
    config = {"model": model, "model_title": "The model", "organism": True, "judge_id": "lexical"}
    write_results(folder / "results.json", {**config, "seed": 7}, made_up(5, latents=12))
    facts = {"schema_version": 1, "model": model, "status": status, "started": started}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


class TestSources:
    def test_newest_complete_run_of_each_model(self, tmp_path: Path) -> None:
        write_run(tmp_path, "tiny", "a", "2026-01-01")
        newest = write_run(tmp_path, "tiny", "b", "2026-01-03")
        write_run(tmp_path, "tiny", "c", "2026-01-05", status="interrupted")
        other = write_run(tmp_path, "8b", "d", "2026-01-02")
        found = find_sources("experiment_01_esr", [tmp_path])
        assert [s.path for s in found] == [other, newest]
        assert found[1].title == "The model"
        assert found[1].organism
        assert found[1].seed == 7

    def test_a_named_run_that_is_not_complete_says_so(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, "tiny", "a", "2026-01-01", status="interrupted")
        found = find_sources("experiment_01_esr", [run])
        assert "The model (interrupted)" in texts(drawn(found).figure)

    def test_a_file_of_the_authors(self, tmp_path: Path) -> None:
        config = {
            "model_name": "meta-llama/Llama-3.3-70B-Instruct",
            "judge_model_name": "claude-haiku-4-5-20251001",
        }
        write_results(tmp_path / "theirs.json", config, FOUR[0].outcomes)
        (found,) = find_sources("experiment_01_esr", [tmp_path / "theirs.json"])
        assert (found.title, found.model, found.organism) == ("Llama-3.3-70B", "70b", False)
        assert found.settings["judge_id"] == "claude-haiku-4-5-20251001"
        assert metrics.tally(found.outcomes).failed == 1
        assert metrics.esr_rate(found.outcomes) == metrics.esr_rate(FOUR[0].outcomes)

    def test_equal_settings_need_no_note(self) -> None:
        assert differing_settings([FOUR[0], FOUR[1]]) == ""

    def test_no_such_path(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such results"):
            find_sources("experiment_01_esr", [tmp_path / "nothing"])


class TestCommand:
    def test_writes_the_figure(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_run(tmp_path / "results", "tiny", "a", "2026-01-01")
        arguments = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "figures")]
        assert plot_exp1.main(arguments) == 0
        made = sorted(p.name for p in (tmp_path / "figures").iterdir())
        assert made == [f"exp1_esr.{kind}" for kind in ("caption.md", "csv", "pdf", "png")]
        assert "ESR rate" in capsys.readouterr().out
        first = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
        assert plot_exp1.main(arguments) == 0
        assert first == {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}

    def test_no_data(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "results").mkdir()
        arguments = ["--results", str(tmp_path / "results"), "--output", str(tmp_path)]
        assert plot_exp1.main(arguments) == 1
        assert "python -m experiment_01_esr tiny" in capsys.readouterr().err

    def test_not_a_results_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "x.json").write_text('{"a": 1}')
        assert plot_exp1.main(["--results", str(tmp_path / "x.json")]) == 2
        error = capsys.readouterr().err
        assert "not a results file" in error
        assert len(error.splitlines()) == 1

    def test_imports_no_engine_and_no_torch(self) -> None:
        code = (
            "import sys, plotting.plot_exp1; "
            "heavy = {'torch', 'vllm', 'transformers', 'esr.engine'}; "
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
        )
        assert done.stdout.strip() == "[]"
