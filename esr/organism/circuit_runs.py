"""The experiments that look for a circuit, run as anybody runs them, read from their folders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esr.analysis.crossed import Clusters, Estimate
from esr.analysis.outcomes import outcome_of
from esr.runs.folder import find_runs, read_run, warn
from esr.runs.plain import plain
from esr.runs.results import Results, Trial, iter_trials, read_results

ESR = "experiment_01_esr"
SEARCH = "experiment_03_find_detectors"
ABLATION = "experiment_03_off_topic_detectors"
TRACE = "experiment_06_sequential_activations"
STATISTICS = "experiment_09_activation_stats"
RANDOM = "experiment_10_random_latent_control"


@dataclass(frozen=True)
class Plan:
    """How the experiments are run.

    Attributes:
        output: results folder.
        latents: boosted latents.
        trials: per latent.
        sets: matched random sets.
        engine: what generates.
        seed: run seed.
    """

    output: Path
    latents: int = 40
    trials: int = 15
    sets: int = 20
    engine: str = "vllm"
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """A model under study.

    Attributes:
        key: of the registry or of the file.
        file: TOML file of a model that is not registered.
    """

    key: str
    file: Path | None = None

    def options(self, plan: Plan) -> list[str]:
        """On every command line."""
        model = ["--model-file", str(self.file)] if self.file else [self.key]
        shared = ("--engine", plan.engine, "--seed", str(plan.seed), "--output", str(plan.output))
        return [*model, *shared]


def conduct(module: str, subject: Subject, plan: Plan, *options: str, step: str = "") -> bool:
    """Run one experiment, or take it up again; whether it came to an end."""
    command = [sys.executable, "-m", module, *([step] if step else [])]
    done = subprocess.run([*command, *subject.options(plan), *options], check=False)
    if done.returncode:
        warn(f"{subject.key}: {module} {step} {' '.join(options)} ended with {done.returncode}")
    return not done.returncode


def search(subject: Subject, plan: Plan) -> bool:
    """Trials of experiment 1 and the search of experiment 3."""
    size = ("--n-latents", str(plan.latents), "--n-trials", str(plan.trials))
    return conduct(ESR, subject, plan, *size) and conduct(ABLATION, subject, plan, step="find")


def examine(subject: Subject, plan: Plan, detectors: Path | None = None) -> None:
    """Ablation, activation statistics and trace of the detectors found, or of those in a file."""
    named = (*_replaying(plan, subject), *(("--detectors", str(detectors)) if detectors else ()))
    conduct(ABLATION, subject, plan, *named, step="ablate")
    conduct(STATISTICS, subject, plan, *named)
    conduct(TRACE, subject, plan, *named)


def draw_random(subject: Subject, plan: Plan) -> None:
    """Matched random sets in place of the detectors that were found."""
    sets = ("--n-sets", str(plan.sets))
    conduct(RANDOM, subject, plan, *_replaying(plan, subject), *sets, step="run-random")


def _replaying(plan: Plan, subject: Subject) -> tuple[str, ...]:
    """Names the parent, which may have another number of trials than a default run."""
    path = newest_path(plan, ESR, subject)
    return ("--from-results", str(path)) if path else ()


def newest(
    plan: Plan, experiment: str, subject: Subject, latents: Sequence[int] | None = None
) -> Results | None:
    """The newest complete run, of these detectors where named; None without one."""
    path = newest_path(plan, experiment, subject, latents)
    return read_results(path) if path else None


def newest_path(
    plan: Plan, experiment: str, subject: Subject, latents: Sequence[int] | None = None
) -> Path | None:
    """Folder of :func:`newest`."""
    for path in find_runs(plan.output, experiment, subject.key):
        if read_run(path).status != "complete":
            continue
        results = read_results(path)
        used = results.raw.get("ablated_latents") or results.raw.get("detectors", {}).get("latents")
        if latents is None or set(used or ()) == set(latents):
            return path
    return None


def ablation(plan: Plan, subject: Subject, latents: Sequence[int]) -> dict[str, Any] | None:
    """Rates without and with the latents clamped, and the two-way interval of the difference."""
    parent, clamped = newest(plan, ESR, subject), newest(plan, ABLATION, subject, latents)
    if parent is None or clamped is None:
        return None
    return {"latents": list(latents), **effect(clamped, "ablation", parent)}


def effect(clamped: Results, arm: str, parent: Results) -> dict[str, Any]:
    """One arm against the trials it replays: multi-attempt rates and first-attempt scores."""
    pairs = list(graded_pairs(clamped, arm, parent))
    multi = np.array([[float(outcome_of(t).multi) for t in pair] for pair in pairs])
    first = np.array([[outcome_of(t).first for t in pair] for pair in pairs])
    if not len(pairs):
        return {"pairs": 0}
    clusters = Clusters.of([t.latent for t, _ in pairs], [t.prompt or "" for t, _ in pairs])
    change = Estimate.of(multi[:, 0] - multi[:, 1], np.ones(len(pairs)), clusters)
    interval = change.mean_interval()
    before, after = multi[:, 1].mean(), multi[:, 0].mean()
    figures = {
        "pairs": len(pairs),
        "baseline": before,
        "ablated": after,
        "ratio": after / before if before else None,
        "difference": change.value,
        "interval": [interval.low, interval.high] if interval else None,
        "first_score": {"baseline": first[:, 1].mean(), "ablated": first[:, 0].mean()},
    }
    return dict(plain(figures))


def graded_pairs(clamped: Results, arm: str, parent: Results) -> Iterator[tuple[Trial, Trial]]:
    """(trial of the arm, the trial it replays), both graded."""
    replayed = {trial.name: trial for trial in iter_trials(parent)}
    for trial in iter_trials(clamped, arm):
        own = replayed.get(trial.name)
        if own is not None and outcome_of(trial).graded and outcome_of(own).graded:
            yield trial, own


def random_sets(plan: Plan, subject: Subject) -> dict[str, Any] | None:
    """Multi-attempt rate of every random set over that of the baseline."""
    parent, drawn = newest(plan, ESR, subject), newest(plan, RANDOM, subject)
    if parent is None or drawn is None:
        return None
    arms = [name for name in drawn.arms or {} if name.startswith("random-")]
    effects = [effect(drawn, arm, parent) for arm in arms]
    quality = drawn.raw["matching"]["quality"]
    return {
        "caliper": drawn.raw["matching"]["caliper"],
        "matched": [fit["matched"] for fit in quality],
        "targets": [fit["targets"] for fit in quality],
        "ratios": [each.get("ratio") for each in effects],
        "first_scores": [each["first_score"]["ablated"] for each in effects if each["pairs"]],
    }


def statistics(plan: Plan, subject: Subject, latents: Sequence[int]) -> dict[str, Any] | None:
    """Effect sizes of experiment 9, of the group and of each latent."""
    results = newest(plan, STATISTICS, subject, latents)
    if results is None or "detectors" not in results.raw.get("groups", {}):
        return None
    group = results.raw["groups"]["detectors"]
    rows = [row for row in results.raw["latents"] if row["group"] == "detectors"]
    names = ("n", "off_topic_mean", "on_topic_mean", "cohens_d", "cliffs_delta", "wilcoxon_p")
    return {
        **{name: group[name] for name in names},
        "by_latent": {str(row["latent"]): row["cohens_d"] for row in rows},
        "around_restart": around(results.raw["aligned"]["detectors"]),
    }


def around(aligned: Mapping[str, Any], window: int = 10) -> dict[str, float | None]:
    """Mean of the aligned curve over the tokens just before the correction and behind it.

    The correction itself, a restart phrase of up to 12 words, is left out.
    """
    offset = np.array(aligned["offset"])
    mean = np.array([np.nan if m is None else m for m in aligned["mean"]], dtype=float)
    before = mean[(offset >= -window) & (offset < 0)]
    behind = mean[(offset >= 12) & (offset < 12 + window)]
    return {
        name: float(np.nanmean(part)) if np.isfinite(part).any() else None
        for name, part in (("before", before), ("behind", behind))
    }


def trace(plan: Plan, subject: Subject, latents: Sequence[int]) -> dict[str, Any] | None:
    """Experiment 6's episode: rank correlation of the detectors' sum with "before the restart".

    Tokens of the correction are on neither side.
    """
    results = newest(plan, TRACE, subject, latents)
    if results is None or "series" not in results.raw:
        return None
    from scipy.stats import spearmanr

    regions, series = results.raw["regions"], np.array(results.raw["series"]["detectors"])
    before = series[regions["off_topic"] : regions["correction"]]
    behind = series[regions["on_topic"] : regions["end"]]
    side = np.concatenate([np.ones(len(before)), np.zeros(len(behind))])
    values = np.concatenate([before, behind])
    rho = spearmanr(values, side).statistic if len(set(values)) > 1 else None
    figures = {
        "episode": results.raw["episode"]["trial_id"],
        "spearman": rho,
        "before": before.mean(),
        "behind": behind.mean(),
        "tokens": len(values),
    }
    return dict(plain(figures))
