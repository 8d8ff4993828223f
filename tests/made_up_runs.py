"""Run folders of made-up trials, for tests of the report: written to temporary folders only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

OFF = "A volcano is a mountain that spits hot stone, and the lava runs down its side. "
RESTART = "Wait, that's not right. Let me start over. "
ON = "Add the numerators once the denominators agree, then shorten the fraction. "
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"> & \U0001f30b \u2028 "
MODEL = {"model": "tiny", "model_title": "tiny organism", "organism": True}


def attempts(texts: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    """As a judge gives them."""
    return [{"attempt_text": t, "score": s} for t, s in zip(texts, scores, strict=True)]


def trial(latent: int, number: int, arm: str, draw: np.random.Generator) -> dict[str, Any]:
    """One trial: about 1 in 10 restarts, 1 in 50 fails."""
    chance = draw.random()
    first, last = (float(5 * s) for s in draw.integers(0, 21, 2))
    texts, scores = [OFF * int(draw.integers(1, 20))], [first]
    if chance < 0.1:
        texts, scores = [*texts, RESTART + ON * 2], [first, last]
    score: dict[str, Any] | None = {
        "raw_response": f"<judge> {len(texts)} attempts",
        "attempts": attempts([t.strip() for t in texts], scores),
        "status": "graded",
    }
    if chance > 0.98:
        score = {"raw_response": "?", "attempts": [], "status": "refused"}
    return {
        "prompt": f"How do I do thing {number}?",
        "feature_index_in_sae": latent,
        "feature_label": f"subject {latent}",
        "threshold": 0.0 if arm == "no-steering" else 7.5 + latent % 5,
        "seed": latent * 10 + number,
        "response": "".join(texts),
        "score": score,
        "error": "judge: refused" if chance > 0.98 else None,
        "trial_id": f"{latent}/p{number}",
        "arm": arm,
    }


def calibration(latent: int) -> dict[str, Any]:
    """As a run records it: three rounds, one of them skipped."""
    boost = 7.5 + latent % 5
    scores = [[5.0, 80.0], [9.0, None], [boost, 35.0]]
    ends = {"low": boost - 2, "high": boost + 2}
    counts = {"rounds": 2, "skipped": 1, "error": None}
    return {"latent": latent, "value": boost, **ends, **counts, "scores": scores}


def write_run(
    root: Path,
    package: str,
    run_id: str,
    trials: Sequence[dict[str, Any]],
    *,
    config: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
    calibrated: bool = False,
) -> Path:
    """A complete run of the given trials."""
    known = {**MODEL, "judge_id": "lexical", "seed": 3, "run_id": run_id, **(config or {})}
    folder = root / package / str(known["model"]) / run_id
    folder.mkdir(parents=True)
    by_latent: dict[int, list[dict[str, Any]]] = {}
    for item in trials:
        by_latent.setdefault(item["feature_index_in_sae"], []).append(item)
    features = [
        {
            "feature_index_in_sae": latent,
            "feature_label": own[0]["feature_label"],
            "threshold": own[0]["threshold"],
            "error": None,
            "trials": own,
            **({"calibration": calibration(latent)} if calibrated else {}),
        }
        for latent, own in by_latent.items()
    ]
    results = {"experiment_config": known, "results_by_feature": features, **(extra or {})}
    (folder / "results.json").write_text(json.dumps(results))
    run = {
        "schema_version": 1,
        "experiment": package,
        "model": known["model"],
        "run_id": run_id,
        "status": "complete",
        "started": "2026-01-01T00:00:00+00:00",
        "config": known,
        "argv": ["python", "-m", package],
        "git": {"commit": "0" * 40, "dirty": False},
        **(facts or {}),
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def arm_of_trials(arm: str, seed: int, latents: int = 40, each: int = 5) -> list[dict[str, Any]]:
    """So many trials per latent."""
    draw = np.random.default_rng(seed)
    return [trial(latent, n, arm, draw) for latent in range(latents) for n in range(each)]


def a_family(root: Path, latents: int = 40) -> None:
    """Experiment 1, and what replays it: ablation, meta-prompt, no steering."""
    steered = arm_of_trials("steered", 1, latents)
    clear = steered[7]
    clear["response"] = HOSTILE + OFF + RESTART + ON
    clear["score"] = {
        "raw_response": "",
        "attempts": attempts([HOSTILE + OFF, RESTART + ON], [0.0, 100.0]),
        "status": "graded",
    }
    clear["feature_label"] = "<b>volcanoes</b>"
    clear["error"] = None
    write_run(root, "experiment_01_esr", "aaaa", steered, calibrated=True)
    parent = {"parent": {"run_id": "aaaa", "digest": "d", "path": "x"}}
    for package, arm, seed in (
        ("experiment_03_off_topic_detectors", "ablation", 2),
        ("experiment_05_prompt_variants", "self_monitor", 3),
        ("experiment_08_no_steering_baseline", "no-steering", 4),
    ):
        write_run(root, package, f"b{seed}", arm_of_trials(arm, seed, latents), facts=parent)
