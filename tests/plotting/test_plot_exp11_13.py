"""Figures of experiments 11 and 13: what is written equals the results of scripted runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from experiment_11_resistance_controls.config import Config as ControlsConfig
from experiment_13_pairing_fault.config import Config as PairingConfig
from plotting import plot_exp11, plot_exp13
from plotting.measured import measure
from plotting.published import NOT_COMPARABLE, compare
from plotting.sources import load_source
from tests import replaying, test_experiment_11, test_experiment_13


async def test_a_row_per_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replayed = await replaying.parent_run(tmp_path / "parent")
    config = ControlsConfig(controls=("redraw", "position", "scope", "blind"))
    data = await test_experiment_11.ran(config, tmp_path / "run", replayed)
    run = replaying.run_folder("experiment_11_resistance_controls", tmp_path / "run").path
    given = ["--results", str(tmp_path / "none"), "--run", str(run), "--output", str(tmp_path)]
    (tmp_path / "none").mkdir()
    assert plot_exp11.main(given) == 0, capsys.readouterr().err
    table = pd.read_csv(tmp_path / "exp11_controls.csv")
    whole = [name for name, arm in data["arms"].items() if not arm["part"]]
    ours = table[table["quantity"].isin(plot_exp11.QUANTITIES)]
    assert list(dict.fromkeys(ours["arm"])) == ["parent", *whole]
    rows = table[table["quantity"] == "esr_rate"].set_index("arm")
    for name in whole:
        entry = data["arms"][name]
        assert rows.loc[name, "value"] == pytest.approx(entry["summary"]["esr_rate"]["rate"])
        compared = entry["comparison"]["esr_rate"]
        assert rows.loc[name, "difference"] == pytest.approx(compared["difference"])
    assert rows.loc["parent", "value"] == data["baseline"]["summary"]["esr_rate"]["rate"]
    caption = (tmp_path / "exp11_controls.caption.md").read_text()
    null = data["findings"]["redraw"]
    tries = table[table["quantity"] == plot_exp11.TRIES].set_index("arm")
    assert tries.loc["another try", "value"] == pytest.approx(null["rate"])
    assert tries.loc["another try", "n"] == null["compared"]
    assert tries.loc["a restart, where it could be tried again", "count"] == null["improved"]
    assert f"{null['improved']} of {null['n']} restarts improved, another try" in caption


async def test_a_point_per_dose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replayed = await replaying.parent_run(tmp_path / "parent")
    runs = []
    for part in PairingConfig(doses=(2, 10)).parts():
        folder = tmp_path / f"{part.in_flight}-{part.thresholds}"
        await test_experiment_13.run_part(part, folder, replayed)
        runs.append(replaying.run_folder("experiment_13_pairing_fault", folder).path)
    (tmp_path / "none").mkdir()
    given = ["--results", str(tmp_path / "none"), "--run", *map(str, runs)]
    assert plot_exp13.main([*given, "--output", str(tmp_path)]) == 0, capsys.readouterr().err
    table = pd.read_csv(tmp_path / "exp13_pairing_fault.csv")
    places = {(row.in_flight, row.boosts) for row in table.itertuples()}
    assert places == {(2, "parent"), (10, "parent"), (10, "fault")}
    for run in runs:
        data = json.loads((run / "results.json").read_text())
        own = table[
            (table["in_flight"] == data["in_flight"]) & (table["boosts"] == data["thresholds_from"])
        ].set_index("quantity")
        assert own.loc["esr_rate", "value"] == pytest.approx(data["summary"]["esr_rate"]["rate"])
        share = data["steered_by"]["other"]["rate"]
        assert own.loc["foreign tokens", "value"] == pytest.approx(share)


async def test_beginnings_stand_beside_what_others_report(tmp_path: Path) -> None:
    replayed = await replaying.parent_run(tmp_path / "parent")
    config = ControlsConfig(controls=("prefill-unsteered", "prefill-steered"))
    data = await test_experiment_11.ran(config, tmp_path / "run", replayed)
    run = replaying.run_folder("experiment_11_resistance_controls", tmp_path / "run").path
    source = replace(load_source(run), model="70b", title="Llama-3.3-70B")
    measured = [m for m in measure([source]) if m.experiment == 0]
    assert {m.arm for m in measured} == {
        "prefill, unsteered model continues",
        "prefill, steered model continues",
    }
    summary = data["arms"]["prefill-steered"]["summary"]
    rows = {(r.published.arm, r.published.quantity): r for r in compare(measured) if r.measured}
    row = rows["prefill, steered model continues", "multi_attempt_rate"]
    assert row.measured is not None
    assert row.measured.value == pytest.approx(100 * summary["multi_attempt_rate"]["rate"])
    assert row.verdict == NOT_COMPARABLE, "no target"
