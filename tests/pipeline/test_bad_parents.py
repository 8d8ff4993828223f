"""A results file that cannot be replayed is refused before anything is generated, in one line."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esr.errors import UserError
from esr.pipeline import replay
from esr.pipeline.cli import ReplayConfig
from tests import replaying, scripted

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
async def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results file of a complete scripted run."""
    parent = await replaying.parent_run(tmp_path_factory.mktemp("parent"))
    text = (parent.path / "results.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def feature(data: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(data, "results_by_feature")[0]  # type: ignore[no-any-return]


def trial(data: dict[str, Any]) -> dict[str, Any]:
    return feature(data)["trials"][0]  # type: ignore[no-any-return]


def emptied(data: dict[str, Any]) -> None:
    for entry in data["results_by_feature"]:
        entry["trials"] = []


CHANGES: dict[str, tuple[Change, str]] = {
    "threshold a text": (lambda d: feature(d).update(threshold="high"), "0.threshold"),
    "latent a text": (lambda d: feature(d).update(feature_index_in_sae="abc"), "feature_index_in"),
    "latent beyond": (
        lambda d: feature(d).update(feature_index_in_sae=99_999),
        r"boosts latent 99999; scripted has 0 to",
    ),
    "spec of other keys": (lambda d: trial(d).update(spec={"a": 1}), "trials.0.spec.arm: Field"),
    "spec a list": (lambda d: trial(d).update(spec=[1]), "trials.0.spec: "),
    "interventions": (
        lambda d: trial(d)["spec"].update(interventions=[{"kind": "x"}]),
        "has a spec in trial .* that is none",
    ),
    "score a number": (lambda d: trial(d).update(score=3), "trials.0.score: "),
    "score a text": (
        lambda d: trial(d)["score"]["attempts"][0].update(score="good"),
        "attempts.0.score",
    ),
    "score NaN": (
        lambda d: trial(d)["score"]["attempts"][0].update(score=float("nan")),
        "a boost or score in trial .* that is no number",
    ),
    "boost infinite": (
        lambda d: trial(d).update(threshold=float("inf")),
        "a boost or score in trial .* that is no number",
    ),
    "response a number": (lambda d: trial(d).update(response=5), "trials.0.response"),
    "seed a text": (lambda d: trial(d).update(seed="x"), "trials.0.seed"),
    "trial twice": (
        lambda d: feature(d)["trials"].append(copy.deepcopy(trial(d))),
        "has the trial .* twice",
    ),
    "no trials": (emptied, "has no trial with a response"),
    "no features": (lambda d: d.update(results_by_feature=[]), "has no trial with a response"),
    "features a table": (lambda d: d.update(results_by_feature={}), "results_by_feature: "),
    "config a list": (lambda d: d.update(experiment_config=[]), "experiment_config: "),
}


async def test_the_file_itself_is_replayed(good: dict[str, Any], tmp_path: Path) -> None:
    assert find(good, tmp_path).replayable() > 0


@pytest.mark.parametrize("name", CHANGES)
async def test_a_spoilt_file_is_refused(name: str, good: dict[str, Any], tmp_path: Path) -> None:
    change, message = CHANGES[name]
    data = copy.deepcopy(good)
    change(data)
    with pytest.raises(UserError) as caught:
        find(data, tmp_path)
    assert re.search(message, str(caught.value)), caught.value
    assert re.search(r"results\.json .*; allowed: .*; next: ", str(caught.value))
    assert "\n" not in str(caught.value)


def find(data: dict[str, Any], tmp_path: Path) -> replay.ReplayedRun:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return replay.find(ReplayConfig(from_results=str(path)), scripted.spec(tmp_path))
