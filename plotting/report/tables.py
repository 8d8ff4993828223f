"""Rows of the page's tables, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from esr.models import REGISTRY
from plotting.measured import Measured
from plotting.paper_numbers import shown
from plotting.published import NOT_RUN, VERDICTS, Row, document
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
            line |= {"esr": shown(ours), "link": link(ours)}
            if not ours.organism:
                line["paper"] = row.published.printed
    return list(lines.values())


def link(ours: Measured) -> str:
    """The trials that a number counts, in the browser of transcripts; empty where it has none."""
    if ours.quantity not in (*_OUTCOMES, "mean_first_score") or not ours.run_arm:
        return ""
    filters = {"run": ours.run, "arm": ours.run_arm, **_OUTCOMES.get(ours.quantity, {})}
    return f"#transcripts?{urlencode(filters)}"


def verdict_line(rows: Sequence[Row]) -> str:
    """How many numbers came to which verdict."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    known = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"published numbers: {known}"


def numbers(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Published and measured numbers, grouped by experiment; measured ones first."""
    groups = []
    for key, title in document()["experiments"].items():
        own = [row for row in rows if row.published.experiment == int(key)]
        own.sort(key=lambda row: row.verdict == NOT_RUN)
        measured = sum(row.measured is not None for row in own)
        groups.append(
            {
                "experiment": int(key),
                "title": title,
                "measured": measured,
                "told": verdict_line(own).removeprefix("published numbers: "),
                "rows": [_number(row) for row in own],
            }
        )
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
        "where": f"{paper.where}; {paper.note}" if paper.note else paper.where,
        "measured": shown(ours),
        "n": f"{ours.n:,}" if ours and ours.n else "",
        "verdict": row.verdict,
        "link": link(ours) if ours else "",
    }


def _title(model: str) -> str:
    known = REGISTRY.get(model)
    return known.title if known else {"all": "all models", "gemma": "Gemma-2"}.get(model, model)


def runs(found: Sequence[Source], facts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs with where they come from."""
    titles = document()["experiments"]
    return [
        {
            **known,
            "experiment_title": titles.get(str(run.experiment), "other"),
            "provenance": provenance(run),
            "arms": [(name, arm["counts"]) for name, arm in known["arms"].items()],
        }
        for run, known in zip(found, facts, strict=True)
    ]


def provenance(run: Source) -> list[tuple[str, str]]:
    """What ``run.json`` and the results say of a run; what is not recorded is left out."""
    facts, config = run.metadata.plain() if run.metadata else {}, run.settings
    git = facts.get("git") or {}
    commit = str(git.get("commit") or "")[:12]
    parent = facts.get("parent") or {}
    hardware = facts.get("hardware") or {}
    listed = [
        ("File", run.path.name if run.metadata is None else ""),
        ("Command", " ".join(str(a) for a in facts.get("argv") or [])),
        ("Started", facts.get("started")),
        ("Ended", facts.get("ended")),
        ("Resumed", facts.get("resumed") or None),
        ("Error", facts.get("error")),
        ("Commit", f"{commit}, with changes" if commit and git.get("dirty") else commit),
        ("Replays", parent.get("run_id") or parent.get("digest")),
        ("Engine", config.get("engine")),
        ("Pairing", config.get("pairing")),
        ("Profile", config.get("profile")),
        ("Layers", _layers(config)),
        ("Prompts", config.get("prompt_set")),
        ("Seed", config.get("seed")),
        ("Judge", run.judge),
        ("Rubric", str(config.get("rubric_hash") or "")[:16]),
        ("Spent", None if facts.get("spend") is None else f"${facts['spend']:.2f}"),
        ("Python", facts.get("python")),
        ("Packages", ", ".join(f"{k} {v}" for k, v in (facts.get("packages") or {}).items())),
        ("Machine", _machine(hardware)),
        ("Results", run.digest and f"SHA-256 {run.digest}…"),
    ]
    return [(name, str(value)) for name, value in listed if value not in (None, "")]


def _layers(config: Mapping[str, Any]) -> str:
    steering, feature = config.get("steering_layer"), config.get("feature_layer")
    return "" if steering is None else f"steered at {steering}, read at {feature}"


def _machine(hardware: Mapping[str, Any]) -> str:
    gpus = ", ".join(hardware.get("gpus") or [])
    parts = [hardware.get("system"), f"{hardware['cores']} cores" if hardware.get("cores") else ""]
    memory = hardware.get("memory_gib")
    parts += [f"{memory} GiB" if memory else "", gpus]
    return ", ".join(str(part) for part in parts if part)
