"""Rows of the page's tables, as plain data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import urlencode

from esr.analysis import metrics
from esr.models import REGISTRY
from esr.runs.run_metadata import RunMetadata
from esr.runs.same_settings import as_options
from plotting.measured import Measured
from plotting.paper_numbers import shown
from plotting.published import NOT_RUN, VERDICTS, Row, document
from plotting.selection import unusual
from plotting.sources import Source

_QUANTITIES = {
    "multi_attempt_rate": "multi-attempt rate",
    "conditional_improvement_rate": "improved, given several attempts",
    "esr_rate": "ESR rate",
    "mean_first_score": "mean first-attempt score",
    "multi_attempt_reduction": "reduction of multi-attempts",
}
_OUTCOMES = {
    "esr_rate": {"outcome": "improved"},
    "conditional_improvement_rate": {"attempts": "multi"},
    "multi_attempt_rate": {"attempts": "multi"},
}
"""What a rate counts, as filters of the transcripts."""

_OTHER_RUNS = {
    "experiment_03_find_detectors": "3 · Search for off-topic detectors",
    "finetuning-data": "4 · Data for fine-tuning",
    "finetuning": "4 · Fine-tuning, training",
}
"""Results folders without trials of an experiment, and what their runs are."""


def headline(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Experiment 1: one line per model that was measured."""
    lines: dict[str, dict[str, Any]] = {}
    for row in rows:
        ours = row.measured
        if row.published.experiment != 1 or ours is None:
            continue
        line = lines.setdefault(
            ours.run,
            {"title": ours.title, "organism": ours.organism, "paper": "not comparable"},
        )
        if ours.quantity == "multi_attempt_rate":
            line |= {"multi": shown(ours), "n": f"{ours.n:,}"}
        if ours.quantity == "esr_rate":
            line |= {"esr": shown(ours), "link": _link_to_trials(ours)}
            if not ours.organism:
                line["paper"] = row.published.printed
    return list(lines.values())


def _link_to_trials(ours: Measured) -> str:
    """The trials that a number counts, in the browser of transcripts; empty where it has none."""
    if ours.quantity not in (*_OUTCOMES, "mean_first_score") or not ours.run_arm:
        return ""
    return link(run=ours.run, arm=ours.run_arm, **_OUTCOMES.get(ours.quantity, {}))


def link(**filters: str) -> str:
    """A view of the transcripts."""
    return f"#transcripts?{urlencode(filters, errors='replace')}"


def verdict_line(rows: Sequence[Row]) -> str:
    """How many numbers came to which verdict."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def numbers(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Published and measured numbers, grouped by experiment; measured ones first."""
    groups = []
    for key, title in document()["experiments"].items():
        own = [row for row in rows if row.published.experiment == int(key)]
        if not own:
            continue  # Ours, beyond the paper.
        own.sort(key=lambda row: row.verdict == NOT_RUN)
        group = {"experiment": int(key), "title": title, "verdicts": verdict_line(own)}
        measured = any(row.measured for row in own)
        groups.append({**group, "measured": measured, "rows": [_number(row) for row in own]})
    return groups


def _number(row: Row) -> dict[str, Any]:
    paper, ours = row.published, row.measured
    return {
        "model": ours.title if ours else _title(paper.model),
        "paper_model": _title(paper.model),
        "organism": bool(ours and ours.organism),
        "arm": paper.arm,
        "quantity": _QUANTITIES.get(paper.quantity, paper.quantity),
        "published": f"{paper.printed} %" if paper.unit == "%" else paper.printed,
        "marks": " ".join(paper.marks),
        "where": paper.reported_by or paper.where,
        "measured": shown(ours),
        "n": f"{ours.n:,}" if ours and ours.n else "",
        "verdict": row.verdict,
        "link": _link_to_trials(ours) if ours else "",
    }


def _title(model: str) -> str:
    spec = REGISTRY.get(model)
    return spec.title if spec else {"all": "all models", "gemma": "Gemma-2"}.get(model, model)


def run(source: Source, exclude_degraded: bool = False) -> dict[str, Any]:
    """What the page says of a run before its trials are loaded, the rates of each arm included."""
    arms = {}
    for name, outcomes in source.arms.items():
        counted = [o for o in outcomes if not (exclude_degraded and o.degraded)]
        summary: Mapping[str, Any] = metrics.summary(counted, source.seed)
        rates = {key: summary[key] for key in ("counts", "multi_attempt_rate", "esr_rate")}
        view = link(run=source.key, arm=name)
        arms[name] = {**rates, "left_out": len(outcomes) - len(counted), "link": view}
    base = REGISTRY.get(str(source.settings.get("base_model") or source.model))
    return {
        "key": source.key,
        "experiment": source.experiment,
        "heading": heading(source),
        "variant": variant(source),
        "model": source.model,
        "title": source.title,
        "organism": source.organism,
        "run_id": source.run_id,
        "status": source.status,
        "judge": source.judge,
        "started": source.started,
        "family": source.family,
        "neuronpedia": base.neuronpedia if base else "",
        "arms": arms,
        "trials": sum(map(len, source.arms.values())),
        "provenance": provenance(source),
    }


def heading(source: Source) -> str:
    """Number and name of the experiment; what a run does that belongs to none of the ten."""
    title = document()["experiments"].get(str(source.experiment))
    if not source.experiment or not title:
        return _OTHER_RUNS.get(source.package, source.package)
    return f"{source.experiment} · {title}"


def variant(source: Source) -> str:
    """What tells a run from others of its experiment and model; empty for the default."""
    settings = source.settings
    parts = [
        settings.get("prompt_variant_id"),
        "no steering" if settings.get("no_steering") else "",
        as_options(unusual(source.metadata)) if source.metadata else source.path.name,
    ]
    return ", ".join(str(part) for part in parts if part)


def provenance(source: Source) -> list[tuple[str, str]]:
    """What ``run.json`` and the results say of a run; what is not recorded is left out."""
    run_json, config = source.metadata or RunMetadata(schema_version=1), source.settings
    commit = (run_json.git.commit or "")[:12]
    parent, hardware = run_json.parent, run_json.hardware
    layers = (config.get("steering_layer"), config.get("feature_layer"))
    listed = [
        ("File", "" if source.metadata else source.path.name),
        ("Command", command(run_json.argv)),
        ("Started", run_json.started),
        ("Ended", run_json.ended),
        ("Resumed", run_json.resumed if run_json.resumed > 0 else ""),
        ("Error", run_json.error),
        ("Commit", f"{commit}, with changes" if commit and run_json.git.dirty else commit),
        ("Replays", parent.run_id or parent.digest if parent else ""),
        ("Latents", latents(source)),
        ("Engine", config.get("engine")),
        ("Pairing", config.get("pairing")),
        ("Profile", config.get("profile")),
        ("Layers", "steered at {}, read at {}".format(*layers) if layers[0] is not None else ""),
        ("Prompts", config.get("prompt_set")),
        ("Seed", config.get("seed")),
        ("Judge", source.judge),
        ("Rubric", str(config.get("rubric_hash") or "")[:16]),
        ("Spent", f"${run_json.spend:.2f}" if "spend" in run_json.model_fields_set else ""),
        ("Python", run_json.python),
        ("Packages", ", ".join(f"{k} {v}" for k, v in run_json.packages.items())),
        ("Machine", _machine(hardware)),
        ("Results", source.digest and f"SHA-256 {source.digest}…"),
    ]
    return [(name, str(value)) for name, value in listed if value not in (None, "")]


def command(argv: Sequence[str]) -> str:
    """A recorded command as it can be typed: a package by its name, not by its file."""
    words: list[str] = []
    for word in argv:
        path = PurePath(word)
        words += ["-m", path.parent.name] if path.name == "__main__.py" else [word]
    return shlex.join(words)


def latents(source: Source) -> str:
    """How many latents there are, and of those without a boost the reason."""
    features = source.results.features if source.results else []
    failed = [f for f in features if f.error]
    reasons = "; ".join(f"{f.feature_index_in_sae}: {f.error}" for f in failed[:20])
    if not failed:
        return f"{len(features):,}" if features else ""
    return f"{len(features):,}, of which {len(failed):,} failed ({reasons})"


def _machine(hardware: Mapping[str, Any]) -> str:
    cores, memory = hardware.get("cores"), hardware.get("memory_gib")
    parts = [
        hardware.get("system"),
        f"{cores} cores" if cores else "",
        f"{memory} GiB" if memory else "",
        *(hardware.get("gpus") or []),
    ]
    return ", ".join(str(part) for part in parts if part)
