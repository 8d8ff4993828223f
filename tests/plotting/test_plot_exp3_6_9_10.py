"""Figures of experiments 3, 6, 9 and 10: what is drawn and written equals the results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from esr.pipeline.replay import ReplayedRun
from experiment_03_off_topic_detectors import ablate
from experiment_03_off_topic_detectors.config import AblateConfig
from experiment_09_activation_stats.commands import STEPS
from experiment_10_random_latent_control.config import Config as RandomConfig
from experiment_10_random_latent_control.run import EXPERIMENT as RANDOM
from plotting import plot_exp3, plot_exp6, plot_exp9, plot_exp10
from plotting.selection import find_sources
from plotting.sources import Source
from tests import replaying, test_experiment_06, test_experiment_09
from tests.plotting.printed import check, five, said


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


@pytest.fixture
def detectors(tmp_path: Path) -> str:
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"off_topic_detectors": [17, 33, 5], "method": "strict"}))
    return str(path)


def one(experiment: str, path: Path) -> tuple[Source, dict[str, Any]]:
    (source,) = find_sources(experiment, [path])
    data: dict[str, Any] = json.loads((path / "results.json").read_text())
    return source, data


async def test_ablation(tmp_path: Path, replayed: ReplayedRun, detectors: str) -> None:
    config = AblateConfig(detectors=detectors, doses=(0.0, 1.0, 2.0))
    path = await replaying.child_run(ablate.EXPERIMENT, config, tmp_path, replayed)
    source, data = one(plot_exp3.EXPERIMENT, path)
    (drawn,) = plot_exp3.figures([source])
    check(drawn)
    assert "3 detectors clamped to 0" in said(drawn)
    assert "replayed, nothing clamped" in said(drawn)
    check(plot_exp3.figures(five(source))[0])
    separable = {**data, "detectors": {**data["detectors"], "method": "separability"}}
    (named,) = plot_exp3.figures([replace(source, data=separable)])
    assert "3 separable latents clamped to 0" in set(named.table["arm"])
    rows = {(row["arm"], row["quantity"]): row for _, row in drawn.table.iterrows()}
    assert len(rows) == len(drawn.table) == 3 * 4
    found = data["arms"]["ablation"]
    for quantity in ("multi_attempt_rate", "esr_rate"):
        row = rows["3 detectors clamped to 0", quantity]
        assert row["value"] == found["summary"][quantity]["rate"]
        assert row["n"] == found["summary"][quantity]["n"]
        assert row["mcnemar_p"] == found["comparison"][quantity]["paired"]["test"]["p_value"]
        base = rows["baseline", quantity]
        assert base["count"] == data["baseline"][quantity]["count"]
        assert pd.isna(base["mcnemar_p"])
    score = rows["baseline", "mean_first_score"]
    assert score["value"] == data["baseline"]["mean_first_score"]["mean"]
    first = [axes for axes in drawn.figure.axes if "first-attempt" in axes.get_title("left")]
    lengths = [patch.get_width() for patch in first[0].patches if isinstance(patch, Rectangle)]
    expected = [row["value"] for key, row in rows.items() if key[1] == "mean_first_score"]
    assert lengths == pytest.approx(expected)
    multi, esr = (axes.get_xlim() for axes in drawn.figure.axes[:2])
    assert multi == esr, "rates that are compared share a scale"


async def test_random_control(tmp_path: Path, replayed: ReplayedRun, detectors: str) -> None:
    config = RandomConfig(detectors=detectors, matching="uniform", output=str(tmp_path / "results"))
    path = await replaying.child_run(RANDOM, config, tmp_path, replayed)
    source, data = one(plot_exp10.EXPERIMENT, path)
    (drawn,) = plot_exp10.figures([source])
    check(drawn)
    assert "no ablation of these detectors" in said(drawn)
    check(plot_exp10.figures(five(source))[0])
    rows = drawn.table.set_index(["arm", "quantity"])
    pooled = data["pooled"]["summary"]["multi_attempt_rate"]
    assert rows.loc[("all random sets", "multi_attempt_rate"), "count"] == pooled["count"]
    first = data["arms"]["random-1"]["summary"]["esr_rate"]
    assert rows.loc[("random set 1: 3 latents", "esr_rate"), "value"] == first["rate"]


async def test_episode(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = test_experiment_06.config(tmp_path, latents=(3,))
    await test_experiment_06.episode(tmp_path, replayed, config)
    (path,) = (tmp_path / "results" / plot_exp6.EXPERIMENT).glob("*/*")
    source, data = one(plot_exp6.EXPERIMENT, path)
    (drawn,) = plot_exp6.figures([source])
    check(drawn)
    assert drawn.table["detectors"].tolist() == data["series"]["detectors"]
    assert "".join(drawn.table["text"]) == data["episode"]["response"]
    parts = data["regions"]
    assert (drawn.table["region"] == "correction").sum() == parts["on_topic"] - parts["correction"]
    # Smoothing by hand.
    values = data["series"]["detectors"]
    expected = [values[0]]
    for value in values[1:]:
        expected.append(0.5 * value + 0.5 * expected[-1])
    assert drawn.table["detectors, smoothed"].tolist() == pytest.approx(expected)


async def test_statistics(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = test_experiment_09.config(tmp_path)
    path, _ = await test_experiment_09.steps(tmp_path, replayed, list(STEPS), config)
    source, data = one(plot_exp9.EXPERIMENT, path)
    aligned, bars = plot_exp9.figures([source])
    check(aligned)
    check(bars)
    for each in plot_exp9.figures(five(source)):
        check(each)
    rows = bars.table.set_index(["group", "region"])
    for group, found in data["groups"].items():
        for region in ("off_topic", "correction", "on_topic", "baseline"):
            assert rows.loc[(group, region), "mean"] == found[f"{region}_mean"]
    trace = aligned.table[aligned.table["group"] == "detectors"]
    assert trace["offset"].tolist() == data["aligned"]["detectors"]["offset"]
    known = [v for v in data["aligned"]["detectors"]["mean"] if v is not None]
    assert trace["mean"].dropna().tolist() == known
    drawn = [line.get_ydata() for line in aligned.figure.axes[0].lines]
    assert any(set(np.asarray(values, dtype=float)) <= {*known} for values in drawn)


@pytest.mark.parametrize("module", [plot_exp3, plot_exp6, plot_exp9, plot_exp10])
def test_without_data_there_is_an_empty_panel(
    module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for drawn in module.figures([]):
        assert "no complete run of" in said(drawn)
        assert drawn.table.empty
    (tmp_path / "none").mkdir()
    options = ["--results", str(tmp_path / "none"), "--output", str(tmp_path)]
    assert module.main(options) == 1
    assert "no complete run of" in capsys.readouterr().err
