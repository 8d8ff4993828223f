"""Figures of experiments 2, 5 and 8: the CSV holds what was recorded, no text is clipped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d

from esr.analysis import comparison, metrics, quantities
from esr.analysis.intervals import Proportion
from esr.analysis.outcomes import outcomes_from_results
from esr.pipeline.replay import ReplayedRun
from esr.runs.paths import REPOSITORY
from esr.runs.results import read_results
from experiment_02_multi_boost.config import Config as Sweep
from experiment_02_multi_boost.run import EXPERIMENT as EXPERIMENT_2
from experiment_05_prompt_variants.config import Config as Variants
from experiment_05_prompt_variants.run import EXPERIMENT as EXPERIMENT_5
from experiment_08_no_steering_baseline.config import Config as Unsteered
from experiment_08_no_steering_baseline.run import EXPERIMENT as EXPERIMENT_8
from plotting import plot_exp2, plot_exp5, plot_exp8, style
from plotting.figure import Drawn
from plotting.sources import Source, load_source
from tests import replaying, scripted
from tests.plotting import printed
from tests.plotting.printed import said, texts
from tests.test_experiment_02 import Uneven


@pytest.fixture
async def replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReplayedRun:
    monkeypatch.setattr(scripted, "ScriptedEngine", Uneven)
    return await replaying.parent_run(tmp_path)


@pytest.fixture
async def sweep(tmp_path: Path, replayed: ReplayedRun) -> Path:
    return await replaying.child_run(EXPERIMENT_2, Sweep(), tmp_path, replayed)


@pytest.fixture
async def unsteered(tmp_path: Path, replayed: ReplayedRun) -> Path:
    return await replaying.child_run(EXPERIMENT_8, Unsteered(), tmp_path, replayed)


@pytest.fixture
async def variants(tmp_path: Path, replayed: ReplayedRun) -> list[Path]:
    made = []
    for name in ("self_monitor", "ignore_latent_label"):
        config = Variants(model="scripted", variants=(name,))
        folder = tmp_path / name
        made.append(await replaying.child_run(EXPERIMENT_5, config, folder, replayed))
    return made


def drawn(module: Any, sources: Sequence[Source]) -> Drawn:
    """The one figure of a module."""
    (made,) = module.figures(sources)
    assert isinstance(made, Drawn)
    return made


def as_organism(source: Source) -> Source:
    return replace(source, organism=True, model="tiny", title="tiny organism")


def check_rate(row: Any, rate: Proportion) -> None:
    assert (row["count"], row["n"]) == (rate.count, rate.n)
    np.testing.assert_equal(float(row["value"]), rate.rate)
    np.testing.assert_equal(float(row["paper_high"]), rate.paper_interval().high)
    np.testing.assert_equal(float(row["wilson_low"]), rate.wilson().low)


RATES = {
    "multi_attempt_rate": metrics.multi_attempt_rate,
    "conditional_improvement_rate": metrics.conditional_improvement_rate,
    "esr_rate": metrics.esr_rate,
}


class TestSweep:
    def test_csv_holds_what_was_recorded(self, tmp_path: Path, sweep: Path) -> None:
        assert plot_exp2.main(["--results", str(sweep), "--output", str(tmp_path / "f")]) == 0
        made = sorted(p.name for p in (tmp_path / "f").iterdir())
        assert made == [f"{plot_exp2.NAME}.{kind}" for kind in ("caption.md", "csv", "pdf", "png")]
        table = pd.read_csv(tmp_path / "f" / f"{plot_exp2.NAME}.csv")
        data = read_results(sweep).raw
        for level in data["levels"]:
            outcomes = outcomes_from_results(data, level["arm"])
            rows = table[table.boost == level["boost"]].set_index("quantity")
            np.testing.assert_allclose(rows["sd"].astype(float), level["sd"])
            for name, rate in RATES.items():
                check_rate(rows.loc[name], rate(outcomes))
            null = metrics.redraw_null(outcomes).rate
            np.testing.assert_equal(float(rows.loc["redraw_null", "value"]), null)
        assert set(table.boost) == set(data["boost_levels"])

    def test_line_is_smoothed_over_levels(self, sweep: Path) -> None:
        rows = drawn(plot_exp2, [load_source(sweep)]).table.set_index("quantity").loc["esr_rate"]
        raw = rows["value"].astype(float).to_numpy()
        np.testing.assert_allclose(rows["smoothed"].astype(float), gaussian_filter1d(raw, 0.5))

    def test_smoothing_leaves_out_what_is_not_defined(self) -> None:
        found = plot_exp2.smooth(np.array([np.nan, 0.4, 0.4, np.nan, np.nan]))
        np.testing.assert_allclose(found, [np.nan, 0.4, 0.4, np.nan, np.nan])
        assert np.isnan(plot_exp2.smooth(np.array([np.nan, np.nan]))).all()

    def test_the_paper_smooths_over_levels(self) -> None:
        """One trial of 226 at -1 sd leaves 0.05 % at -1.67: what was measured off Figure 3."""
        raw = np.zeros(10)
        raw[3] = 1 / 226
        assert round(100 * float(plot_exp2.smooth(raw)[2]), 2) == 0.05

    def test_a_file_of_the_authors_is_grouped_by_boost(self, tmp_path: Path, sweep: Path) -> None:
        data = read_results(sweep).raw
        del data["levels"], data["shape"]
        data["experiment_config"] = {"model_name": "meta-llama/Llama-3.3-70B-Instruct"}
        for entry in data["results_by_feature"]:
            for trial in entry["trials"]:
                for ours in ("arm", "spec", "trial_id", "prompt_id"):
                    del trial[ours]
        (tmp_path / "theirs.json").write_text(json.dumps(data))
        found = drawn(plot_exp2, [load_source(tmp_path / "theirs.json")]).table
        expected = drawn(plot_exp2, [load_source(sweep)]).table
        assert set(found.model) == {"70b"}
        shown = ["boost", "quantity", "value", "count", "n"]
        pd.testing.assert_frame_equal(found[shown], expected[shown])

    def test_figure_says_what_must_be_said(self, sweep: Path) -> None:
        source = load_source(sweep)
        made = drawn(plot_exp2, [source, as_organism(source)])
        shown = said(made)
        assert f"tiny organism: {style.ORGANISM_NOTE}" in shown
        assert "not graded and left out" in shown
        assert "Judge: scripted" in shown
        assert "N1, how often another first attempt" in made.caption
        printed.check(made)
        printed.check(drawn(plot_exp2, [source]))
        printed.check(drawn(plot_exp2, printed.five(source)))


class TestVariants:
    def test_csv_holds_what_was_recorded(
        self, tmp_path: Path, variants: list[Path], replayed: ReplayedRun
    ) -> None:
        given = ["--results", *map(str, variants), "--output", str(tmp_path / "f")]
        assert plot_exp5.main(given) == 0
        names = {p.name for p in (tmp_path / "f").glob("*.png")}
        assert names == {f"{plot_exp5.NAME}.png", "exp5_variants_scripted.png"}
        table = pd.read_csv(tmp_path / "f" / f"{plot_exp5.NAME}.csv")
        before = replayed.outcomes()
        for path, name in zip(variants, ("self_monitor", "ignore_latent_label"), strict=True):
            outcomes = outcomes_from_results(read_results(path))
            rows = table[table.condition == name].set_index("quantity")
            for quantity, rate in RATES.items():
                check_rate(rows.loc[quantity], rate(outcomes))
            score, row = metrics.mean_first_score(outcomes), rows.loc["mean_first_score"]
            assert (row["value"], row["n"]) == (score.mean, score.n)
            found = comparison.compare(outcomes, before, quantities.MULTI_ATTEMPT, 0)
            row = rows.loc["multi_attempt_rate"]
            assert found.risk_ratio_interval is not None
            ends = found.risk_ratio_interval
            assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (
                *(found.risk_ratio, ends.low, ends.high),
            )
        rows = table[table.condition == "baseline"].set_index("quantity")
        for quantity, rate in RATES.items():
            check_rate(rows.loc[quantity], rate(before))

    def test_newest_run_of_each_variant(
        self, tmp_path: Path, variants: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        for number, path in enumerate([*variants, variants[0]]):
            folder = tmp_path / "root" / plot_exp5.EXPERIMENT / str(number)
            folder.mkdir(parents=True)
            (folder / path.name).symlink_to(path)
        given = ["--results", str(tmp_path / "root"), "--output", str(tmp_path / "f")]
        assert plot_exp5.main(given) == 0
        table = pd.read_csv(tmp_path / "f" / f"{plot_exp5.NAME}.csv")
        assert len(table) == 3 * 6
        assert "exp5_variants_scripted.pdf" in capsys.readouterr().out

    def test_another_baseline_is_not_mixed_in(self, variants: list[Path]) -> None:
        one, other = (load_source(path) for path in variants)
        baseline = {**other.data["baseline"], "digest": "another"}
        other = replace(other, data={**other.data, "baseline": baseline})
        (group,) = plot_exp5.groups([one, other])
        assert [arm.name for arm in group.arms] == [plot_exp5.NONE, "self_monitor"]
        assert "other baseline: ignore_latent_label" in plot_exp5.draw_main([group]).caption

    def test_a_file_without_a_baseline(self, variants: list[Path]) -> None:
        source = load_source(variants[0])
        left = {k: v for k, v in source.data.items() if k not in ("baseline", "comparison")}
        (group,) = plot_exp5.groups([replace(source, data=left)])
        assert [arm.name for arm in group.arms] == ["self_monitor"]
        assert "files without a baseline" in plot_exp5.draw_model(group).caption

    async def test_without_steering_there_is_no_ratio(
        self, tmp_path: Path, variants: list[Path], replayed: ReplayedRun
    ) -> None:
        config = Variants(variants=("self_monitor",), no_steering=True)
        path = await replaying.child_run(EXPERIMENT_5, config, tmp_path / "off", replayed)
        (group,) = plot_exp5.groups([as_organism(load_source(p)) for p in [*variants, path]])
        names = [arm.name for arm in group.arms[1:]]
        assert names == ["ignore_latent_label", "self_monitor", "self_monitor, no steering"]
        made = plot_exp5.draw_model(group)
        assert "self monitor, no steering" in texts(made.figure)
        printed.check(made)
        rows = plot_exp5.table([group])
        assert rows[rows.condition == names[2]]["ratio"].isna().all()
        assert not rows[rows.condition == names[1]]["ratio"].isna().all()

    def test_order_and_text(self, variants: list[Path]) -> None:
        sources = [as_organism(load_source(path)) for path in variants]
        (group,) = plot_exp5.groups(sources)
        names = [arm.name for arm in group.arms[1:]]
        assert names == ["ignore_latent_label", "self_monitor"]
        for made in (plot_exp5.draw_main([group]), plot_exp5.draw_model(group)):
            assert style.ORGANISM_NOTE in texts(made.figure)
            assert ", ratio " in texts(made.figure)
            assert "self_monitor: multi-attempt rate" in made.caption
            assert "Open diamonds: N1" in made.caption or made.name == plot_exp5.NAME
            printed.check(made)
        assert "ignore_latent_label" not in said(plot_exp5.draw_main([group]))
        for made in plot_exp5.figures([s for source in sources for s in printed.five(source)]):
            printed.check(made)
        (group,) = plot_exp5.groups(sources[1:])
        assert "no run of self_monitor" in texts(plot_exp5.draw_main([group]).figure)


class TestUnsteered:
    def test_csv_holds_what_was_recorded(
        self, tmp_path: Path, unsteered: Path, replayed: ReplayedRun
    ) -> None:
        given = ["--results", str(unsteered), "--output", str(tmp_path / "f")]
        assert plot_exp8.main(given) == 0
        arms = {
            plot_exp8.UNSTEERED: outcomes_from_results(read_results(unsteered)),
            plot_exp8.STEERED: replayed.outcomes(),
        }
        table = pd.read_csv(tmp_path / "f" / f"{plot_exp8.RATES}.csv")
        scores = pd.read_csv(tmp_path / "f" / f"{plot_exp8.SCORES}.csv")
        for arm, outcomes in arms.items():
            rows = table[table.arm == arm].set_index("quantity")
            for quantity in ("multi_attempt_rate", "esr_rate"):
                check_rate(rows.loc[quantity], RATES[quantity](outcomes))
            rows = scores[scores.arm == arm].set_index("quantity")
            mean = metrics.mean_first_score(outcomes)
            assert rows["value"]["mean_first_score"] == pytest.approx(mean.mean)
            assert rows["n"]["mean_first_score"] == mean.n
            shares = rows.loc["share_of_trials"]
            firsts = metrics.first_scores(outcomes)
            for _, row in shares.iterrows():
                last = row["bin_high"] == 100
                within = [
                    row["bin_low"] <= s < row["bin_high"] or (last and s == 100) for s in firsts
                ]
                assert row["value"] == pytest.approx(sum(within) / len(firsts))
            assert shares["value"].sum() == pytest.approx(1)

    def test_figures_say_what_must_be_said(self, unsteered: Path) -> None:
        source = load_source(unsteered)
        both = plot_exp8.figures([*printed.five(source), as_organism(source)])
        for made in both:
            assert f"tiny organism: {style.ORGANISM_NOTE}" in texts(made.figure)
            assert "not graded and left out" in made.caption
            printed.check(made)
        assert "dashed: mean" in both[0].caption
        assert "McNemar p" in both[1].caption
        # No restart without steering: an upper limit, not a bar of certainty.
        assert "dotted: Wilson" in both[1].caption

    def test_without_a_parent_there_is_one_arm(self, unsteered: Path) -> None:
        source = load_source(unsteered)
        left = {k: v for k, v in source.data.items() if k not in ("baseline", "comparison")}
        made = plot_exp8.figures([replace(source, data=left)])[1]
        assert set(made.table.arm) == {plot_exp8.UNSTEERED}
        printed.check(made)


@pytest.mark.parametrize("module", [plot_exp2, plot_exp5, plot_exp8])
class TestCommand:
    def test_no_data(self, module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "results").mkdir()
        given = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "f")]
        assert module.main(given) == 1
        assert f"python -m {module.EXPERIMENT} tiny" in capsys.readouterr().err
        for path in (tmp_path / "f").glob("*.csv"):
            assert pd.read_csv(path).empty

    def test_empty_panels_say_so(self, module: Any) -> None:
        for made in module.figures([]):
            assert f"no complete run of {module.EXPERIMENT}" in texts(made.figure)
            assert not any(axes.patches or axes.lines for axes in made.figure.axes)

    def test_bad_input(
        self, module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "x.json").write_text("{}")
        assert module.main(["--results", str(tmp_path / "x.json")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_imports_no_engine_and_no_torch(self, module: Any) -> None:
        code = (
            f"import sys, {module.__name__}; "
            "heavy = {'torch', 'vllm', 'transformers', 'esr.engine'}; "
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
        )
        assert done.stdout.strip() == "[]"
