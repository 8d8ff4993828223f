"""Experiment 9: steps, region statistics against hand-made activations, tables."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import wilcoxon
from statsmodels.stats.multitest import multipletests

from esr.analysis.crossed import Clusters, Estimate
from esr.engine.base import Reading, ReadRequest
from esr.errors import UserError
from esr.pipeline import detector_files
from esr.pipeline.context import RunContext
from esr.pipeline.detector_files import DetectorSet
from esr.pipeline.detector_files import load as load_detectors
from esr.pipeline.replay import ReplayedRun
from experiment_09_activation_stats import (
    analysis,
    backtracking,
    collect,
    commands,
    position,
    tables,
)
from experiment_09_activation_stats.analysis import Measured
from experiment_09_activation_stats.collect import NAME
from experiment_09_activation_stats.commands import STEPS, run_steps
from experiment_09_activation_stats.config import Config
from tests import replaying, scripted

DETECTORS = [17, 33]


class RegionEngine(scripted.ScriptedEngine):
    """Latent 17 fires on "off", 33 on everything, others on the restart; one token a character."""

    requests: list[ReadRequest]

    async def read(self, request: ReadRequest) -> Reading:
        self.requests.append(request)
        assert request.latents is not None
        text = "".join(map(chr, request.token_ids))[request.first_token :]
        restart = text.find(scripted.RESTART.strip())
        values = torch.zeros(len(text), len(request.latents))
        for i, latent in enumerate(request.latents):
            for place, character in enumerate(text):
                if latent == 17:
                    values[place, i] = 2.0 * (character in "off")
                elif latent == 33:
                    values[place, i] = 0.5
                elif restart <= place < restart + len(scripted.RESTART.strip()):
                    values[place, i] = 1.0 if restart >= 0 else 0.0
        return Reading(request.request_id, values=values)


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


def config(folder: Path, **options: Any) -> Config:
    path = folder / "detectors.json"
    path.write_text(json.dumps({"off_topic_detectors": DETECTORS, "model_name": "scripted"}))
    settings: dict[str, Any] = {
        "backtracking_latents": (3, 1, 17),
        "boundaries": "offline",
        # The script's single attempts score low.
        "min_baseline_score": 0.0,
        **options,
    }
    return Config(detectors=str(path), **settings)


async def steps(
    folder: Path, replayed: ReplayedRun, names: list[str], settings: Config
) -> tuple[Path, list[ReadRequest]]:
    engine = RegionEngine(folder / "calls.log")
    engine.requests = []

    async def start() -> RegionEngine:
        return engine

    with replaying.run_folder(NAME, folder) as run:
        run.update(organism=False, title="Scripted", config=settings.identity())
        context = replaying.context(run, folder, replayed)
        context.start_engine = start
        await run_steps(names, settings, context)
    return run.path, engine.requests


async def test_all_steps(tmp_path: Path, replayed: ReplayedRun) -> None:
    path, read = await steps(tmp_path, replayed, list(STEPS), config(tmp_path))
    data = json.loads((path / "results.json").read_text())
    episodes = json.loads((path / "episodes.json").read_text())["episodes"]
    counts = data["counts"]
    assert counts["episodes_analysed"] == len(episodes) > 2
    assert counts["baseline"] > 0
    assert all(not request.interventions for request in read), "re-fed without steering"
    # Against the texts themselves: latent 17 is 2 on the letters o and f of each region.
    means: dict[str, list[float]] = {"off": [], "on": []}
    for episode in episodes:
        first, second = episode["response"].split(scripted.RESTART)
        means["off"].append(2.0 * sum(c in "off" for c in first + " ") / len(first + " "))
        means["on"].append(2.0 * sum(c in "off" for c in second) / len(second))
    rows = {row["latent"]: row for row in data["latents"]}
    kept = [i for i, e in enumerate(episodes) if e["latent"] != 17]
    off, on = (np.array(means[name])[kept] for name in ("off", "on"))
    assert rows[17]["off_topic_mean"] == pytest.approx(off.mean())
    assert rows[17]["on_topic_mean"] == pytest.approx(on.mean())
    assert rows[17]["n"] == len(kept)
    assert rows[17]["wilcoxon_p"] == pytest.approx(wilcoxon(off - on, alternative="greater").pvalue)
    assert rows[33]["wilcoxon_p"] == 1.0
    assert rows[33]["off_topic_mean"] == rows[33]["baseline_mean"] == pytest.approx(0.5)
    raw = [rows[k]["wilcoxon_p"] for k in DETECTORS]
    assert [rows[k]["holm_p"] for k in DETECTORS] == pytest.approx(
        list(multipletests(raw, method="holm")[1])
    )
    assert [r["latent"] for r in data["latents"] if r["group"] == "backtracking"] == [3, 1]
    restart = data["groups"]["backtracking"]
    assert restart["correction_mean"] > 0.9
    assert restart["off_topic_mean"] == restart["on_topic_mean"] == 0
    at = data["aligned"]["backtracking"]
    assert at["offset"][150] == 0
    assert at["mean"][150] == 1.0
    assert at["mean"][149] == 0.0
    assert at["n"][150] == len(episodes)
    for name in ("detectors", "backtracking", "groups"):
        text = (path / "tables" / f"{name}.tex").read_text()
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    effects = load_detectors(path / "detectors_with_effect.json")
    assert effects.latents == tuple(DETECTORS)
    assert 17 in effects.by_sign()["positive"]


async def test_each_step_runs_alone_and_ends_like_all_at_once(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    whole, read = await steps(one, replayed, list(STEPS), config(tmp_path))
    later: list[ReadRequest] = []
    for name in STEPS:
        parts, made = await steps(two, replayed, [name], config(tmp_path))
        later += made
    assert (parts / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert len(later) == len(read)
    _, again = await steps(two, replayed, list(STEPS), config(tmp_path))
    assert again == [], "nothing is read twice"


async def test_a_missing_step_is_named(tmp_path: Path, replayed: ReplayedRun) -> None:
    for name, missing in [
        ("annotate-boundaries", "extract-episodes"),
        ("collect-activations", "annotate-boundaries"),
        ("collect-baseline", "find-backtracking"),
        ("analyze", "annotate-boundaries"),
        ("generate-output", "analyze"),
    ]:
        with pytest.raises(UserError, match=f"the step {missing}"):
            await steps(tmp_path, replayed, [name], config(tmp_path))


async def test_limits(tmp_path: Path, replayed: ReplayedRun) -> None:
    settings = config(tmp_path, n_episodes=2, n_baseline=3)
    path, read = await steps(tmp_path, replayed, list(STEPS), settings)
    counts = json.loads((path / "results.json").read_text())["counts"]
    assert (counts["episodes_analysed"], counts["baseline"]) == (2, 3)
    assert counts["episodes_found"] > 2
    assert len(read) == 5


def measured(values: list[float], latent: int = 1) -> Measured:
    """One latent, two tokens a region, read off a list of six values."""
    parts = {"off_topic": slice(0, 2), "correction": slice(2, 4), "on_topic": slice(4, 6)}
    return Measured("t", latent, f"p{latent % 2}", np.array(values)[:, None], parts, 2)


class TestStatistics:
    def test_effect_sizes(self) -> None:
        a, b = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 2.0])
        pooled = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        assert analysis.cohens_d(a, b) == pytest.approx((2.0 - 4 / 3) / pooled)
        # Of nine comparisons: 1 > 0; 2 > 0, 2 = 2 twice; 3 > all; 1 < 2 twice.
        assert analysis.cliffs_delta(a, b) == pytest.approx((5 - 2) / 9)
        assert math.isnan(analysis.cohens_d(np.zeros(4), np.zeros(4)))
        assert math.isnan(analysis.cohens_d(np.ones(1), np.zeros(1)))
        assert math.isnan(analysis.cliffs_delta(np.ones(0), np.ones(2)))

    def test_one_sided(self) -> None:
        low: analysis.Array = np.arange(10, dtype=np.float64)
        high: analysis.Array = low + np.arange(10, 20) / 10
        assert analysis.wilcoxon_greater(high, low) < 0.01
        assert analysis.wilcoxon_greater(low, high) > 0.99
        assert analysis.wilcoxon_greater(low, low) == 1.0

    def test_regions_and_alignment(self) -> None:
        episodes = [measured([1, 3, 9, 9, 0, 2]), measured([3, 5, 7, 7, 2, 2], latent=2)]
        assert analysis.region_means(episodes, "off_topic").tolist() == [[2.0], [4.0]]
        assert analysis.region_means(episodes, "on_topic").tolist() == [[1.0], [2.0]]
        found = analysis.aligned(episodes, [0], 3)
        assert found["offset"] == [-3, -2, -1, 0, 1, 2, 3]
        assert found["mean"] == [None, 2.0, 4.0, 8.0, 8.0, 1.0, 2.0]
        assert found["n"] == [0, 2, 2, 2, 2, 2, 2]
        assert found["sem"][1] == pytest.approx(1.0)

    def test_the_boosted_latent_of_an_episode_is_left_out(self) -> None:
        episodes = [measured([1, 1, 0, 0, 0, 0]), measured([float("nan")] * 6)]
        assert analysis.group(episodes, [], [0], 0)["n"] == 1

    def test_a_group_beside_its_baseline(self) -> None:
        episodes = [measured([4, 4, 1, 1, 2, 2], k) for k in range(5)]
        base = [Measured("b", k, "p", np.ones((3, 1)), {}) for k in range(4)]
        found = analysis.group(episodes, base, [0], 0)
        assert found["off_topic_over_baseline"] == 4.0
        assert found["on_topic_over_baseline"] == 2.0
        assert found["baseline_n"] == 4
        assert found["off_topic_interval"] is None, "all alike: the bootstrap says nothing"
        assert found["off_topic_two_way_interval"] is None

    def test_two_way_intervals_are_those_of_every_mean(self) -> None:
        rng = np.random.default_rng(0)
        episodes = [
            replace(measured([float(rng.random())] * 6, k % 8), prompt=f"p{k % 5}")
            for k in range(40)
        ]
        episodes.append(measured([float("nan")] * 6, 99))
        means = analysis.region_means(episodes, "off_topic")[:, 0]
        found = analysis.intervals_of_mean("off_topic", means, episodes, 0)
        clusters = Clusters.of([k % 8 for k in range(40)], [k % 5 for k in range(40)])
        expected = Estimate.of(means[:40], np.ones(40), clusters).mean_interval()
        assert expected is not None
        assert found["off_topic_two_way_interval"] == [expected.low, expected.high]


def test_backtracking_by_keywords() -> None:
    labels = {
        1: "the word wait and self-correction",
        2: "volcanoes",
        3: "Apologizing for a mistake",
        4: "awaiting, corrective eyewear",
        5: "trying again after an error",
        6: "Apologizing for a mistake",
    }
    found = backtracking.find(labels, 3, barred={6})
    assert list(found) == [1, 3, 5]
    assert backtracking.score("awaiting, corrective eyewear") == 0, "whole words"
    assert backtracking.find({2: "volcanoes"}, 5) == {}


def test_latex() -> None:
    assert tables.escaped("50 % of_a {b} & c\\") == r"50 \% of\_a \{b\} \& c\textbackslash{}"
    assert tables.number(0.0000123, 2) == r"$1.2\cdot 10^{-5}$"
    assert tables.number(-0.5, 2) == "$-0.5$"


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert commands.start("python x.py", ["--help"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ["all", *STEPS])
    options = ["--output", str(tmp_path)]
    assert commands.start("x", ["all", "70b", "--dry-run", *options]) == 2
    assert "Llama-3.3-70B" in capsys.readouterr().out
    assert commands.start("x", ["analyze", "tiny", *options]) == 2
    assert "missing: parent run, detectors" in capsys.readouterr().err.splitlines()[-1]
    assert commands.start("x", ["all", "tiny", "--window", "0"]) == 2


async def test_files_are_read_once_however_many_episodes(
    tmp_path: Path, replayed: ReplayedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()

    def count_detectors(path: Path, *options: Any) -> DetectorSet:
        reads["detectors"] += 1
        return load_detectors(path, *options)

    def count_files(context: RunContext, name: str, step: str) -> Any:
        reads[name] += 1
        return load_file(context, name, step)

    load_file = collect.load
    monkeypatch.setattr(detector_files, "load", count_detectors)
    monkeypatch.setattr(collect, "load", count_files)
    settings = config(tmp_path)
    settings.identity()  # As the opening of a run asks for it.
    path, read = await steps(tmp_path, replayed, list(STEPS), settings)
    assert len(read) > 10
    assert reads["detectors"] == 1
    # Once for each step that reads latents, and by analysis for either kind of text and the groups.
    assert reads["backtracking"] <= 6
    # A search that ends in mid-run changes nothing.
    Path(settings.detectors).write_text("{}")
    assert settings.detector_set.latents == tuple(DETECTORS)
    assert json.loads((path / "results.json").read_text())["counts"]["episodes_analysed"] > 2


def fading(latent: int, length: int, drop: int, extra: float = 0.0) -> Measured:
    """Activity falls by 1 a token; off topic, the tokens before ``drop``, it is higher by extra."""
    values = (100.0 - np.arange(length, dtype=float))[:, None].repeat(2, axis=1)
    values[:drop] += extra
    regions = {"off_topic": slice(2, drop), "correction": slice(drop, drop + 1)}
    regions["on_topic"] = slice(drop + 1, length)
    return Measured(f"t{latent}-{drop}", latent, f"p{drop}", values, regions, drop)


class TestPosition:
    BASELINE = tuple(Measured(f"b{n}", 9, "p", fading(9, n, 5).values, {}) for n in (30, 25, 20))

    def test_what_merely_fades_is_no_sign_of_off_topic_text(self) -> None:
        episodes = [fading(latent, 20, 8 + latent) for latent in range(6)]
        found = position.against_position(episodes, self.BASELINE, [0, 1], 0)
        raw = analysis.group(episodes, self.BASELINE, [0, 1], 0)
        assert raw["off_topic_mean"] - raw["on_topic_mean"] > 5, "without a baseline it looks so"
        assert found["position_n"] == 6
        assert found["excess_over_position"] == pytest.approx(0)
        assert found["excess_over_position_p"] == 1.0
        assert found["position_difference"] == pytest.approx(
            raw["off_topic_mean"] - raw["on_topic_mean"]
        )

    def test_what_is_beyond_position_is_found(self) -> None:
        episodes = [fading(latent, 20, 8 + latent, 3.0 + 0.1 * latent) for latent in range(6)]
        found = position.against_position(episodes, self.BASELINE, [0, 1], 0)
        assert found["excess_over_position"] == pytest.approx(3.25)
        assert found["excess_over_position_p"] == 1 / 2**6
        for kind in ("interval", "two_way_interval"):
            low, high = found[f"excess_over_position_{kind}"]
            assert 3 < low < 3.25 < high < 3.5

    def test_only_responses_that_reach_both_parts_count(self) -> None:
        (episode,) = [fading(1, 24, 21)]
        off, on = position.matched_baseline([episode], self.BASELINE, [0])
        # On topic are tokens 22 and 23: the responses of 30 and 25 tokens have them, 20 has not.
        assert off[0] == pytest.approx(100 - np.arange(2, 21).mean())
        assert on[0] == pytest.approx(100 - 22.5)
        late = fading(1, 60, 50)
        assert np.isnan(position.matched_baseline([late], self.BASELINE, [0])[1][0])
        found = position.against_position([late], self.BASELINE, [0], 0)
        assert found["position_n"] == 0
        assert found["excess_over_position"] is None
        assert position.against_position([late], [], [0], 0)["position_n"] == 0
