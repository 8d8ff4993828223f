"""Figures: what is drawn and written equals the metrics; nothing is clipped or made up.

The scores are made up for these tests and written to temporary folders only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from esr.errors import UserError
from plotting import rates, style
from plotting.figure import Drawn, Panel, compose, save
from tests.plotting.made_up_sources import (
    FOUR,
    drawn,
)
from tests.plotting.printed import check, clipped_text, overlapping_text, texts


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
