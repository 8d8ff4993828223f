"""The figure of experiment 1: what is drawn is what the sources hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from esr.analysis import metrics, quantities
from esr.runs.run_metadata import RunMetadata
from plotting import plot_exp1, style
from tests.plotting.made_up_sources import (
    FOUR,
    drawn,
    of_the_paper,
    write_run,
)
from tests.plotting.printed import PAPER, check, heavy_imports, said, texts


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
        assert heavy_imports("import plotting.plot_exp1") == "[]"
