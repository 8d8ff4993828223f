"""Sources of experiment 1 with made-up outcomes, and run folders on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esr.analysis.outcomes import Outcome
from esr.judge.base import Status
from plotting import plot_exp1
from plotting.figure import Drawn
from plotting.published import published
from plotting.sources import Source


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
