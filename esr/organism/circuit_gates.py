"""The gates of ``tiny-circuit``, K1 to K6, fixed before anything was measured.

The experiments that look for a circuit are run on a model in which it is known, on its decoy, and
on models without one. Every gate is reported as passed or not passed with its figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from esr.models import REGISTRY, registry
from esr.organism import circuit_power
from esr.organism import circuit_runs as runs
from esr.organism.build import directions_file, load_model, read_build, word_index
from esr.organism.carriers import LEAST, shares
from esr.organism.circuit_checks import check
from esr.organism.circuit_runs import Plan, Subject
from esr.organism.circuit_table import REFERENCES
from esr.organism.interchange import Directions
from esr.organism.lexicon import load_topics
from esr.organism.recipe import RECIPE
from esr.organism.weakened import name_of
from esr.runs.folder import find_runs, read_run, write_json
from esr.runs.paths import ORGANISM

MEMBER = "tiny-circuit"
ALIGNED = 0.9
"""Least |cos| of a decoder row with u that K1 asks for."""

TOPS = (3, 10, 26)
PAIRS = 400


def run(folders: Sequence[Path], output: Path, plan: Plan) -> None:
    """Measure every build folder, then the members without a circuit; write one JSON file.

    Args:
        folders: written by ``python -m esr.organism build --member circuit``, one per seed.
        output: the file; what it holds of other seeds is kept.
        plan: how the experiments are run.
    """
    for folder in folders:
        build = read_build(folder)
        facts = {"seed": build["seed"], **build.get("weakened", {})}
        _keep(output, name_of(build), facts | measure_circuit(folder, plan))
    for key in REFERENCES:
        subject = Subject(key)
        if runs.search(subject, plan):
            runs.examine(subject, plan)
            runs.draw_random(subject, plan)
        _keep(output, key, _procedure(subject, plan))


def _keep(output: Path, name: str, entry: Mapping[str, Any]) -> None:
    entries = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    dated = {"date": datetime.now(UTC).date().isoformat(), **entry}
    write_json(output, entries | {name: dated})


def measure_circuit(folder: Path, plan: Plan) -> dict[str, Any]:
    """What is true of one build, and what the experiments say of it."""
    subject, truth = subject_of(folder), _truth(folder)
    planted = {"true": truth["carriers"]["u"], "decoy": truth["carriers"]["d"]}
    searched = runs.search(subject, plan)
    if searched:
        runs.examine(subject, plan)
        runs.draw_random(subject, plan)
    for name, latents in planted.items():
        file = plan.output / f"{subject.key}-{name}.json"
        known = {"model_name": subject.key, "method": name, "off_topic_detectors": latents}
        write_json(file, known)
        if searched and latents:
            runs.examine(subject, plan, file)
    procedure = _procedure(subject, plan, planted["true"], truth["aligned"])
    return {
        **truth,
        **procedure,
        "power": _power(subject, plan, procedure),
        **{name: _known(subject, plan, latents) for name, latents in planted.items()},
        "scale": {name: value for name, value in asdict(plan).items() if name != "output"},
    }


def _known(subject: Subject, plan: Plan, latents: Sequence[int]) -> dict[str, Any]:
    """What the experiments say of latents that are known to carry a planted direction."""
    return {
        "latents": list(latents),
        "hits": hits(_search(subject, plan), latents),
        "ablation": runs.ablation(plan, subject, latents),
        "statistics": runs.statistics(plan, subject, latents),
        "trace": runs.trace(plan, subject, latents),
    }


def _truth(folder: Path) -> dict[str, Any]:
    """What is known of a build without any experiment.

    Returns:
        ``follows``, see :func:`esr.organism.circuit_checks.check`; ``nearest``, the largest cosines
        of decoder rows with the directions; ``aligned``, the latents that are nearer to ``u`` than
        :data:`ALIGNED`; ``shares``, see :func:`esr.organism.carriers.shares`; ``carriers``, the
        latents with at least :data:`esr.organism.carriers.LEAST`, of ``d`` without those of ``u``.
    """
    from sae_lens import SAE

    topics, directions = load_topics(), Directions.load(directions_file(folder))
    index, model = word_index(topics), load_model(folder / MEMBER)
    sae = SAE.load_from_disk(str(folder / f"{MEMBER}-sae"))
    cosines = {name: _cosines(sae.W_dec, getattr(directions, name)) for name in ("u", "d")}
    parts = shares(model, sae, topics, index, directions, "carriers")
    of_u = [latent for latent, share in parts["u"].items() if share >= LEAST]
    of_d = [k for k, share in parts["d"].items() if share >= LEAST and k not in of_u]
    return {
        "follows": check(model, topics, index, directions, RECIPE.circuit.corpus, "gates", n=PAIRS),
        "nearest": {name: dict(list(of.items())[:5]) for name, of in cosines.items()},
        "aligned": [latent for latent, cosine in cosines["u"].items() if abs(cosine) >= ALIGNED],
        "shares": parts,
        "carriers": {"u": of_u, "d": of_d},
    }


def _procedure(
    subject: Subject,
    plan: Plan,
    carriers: Sequence[int] | None = None,
    aligned: Sequence[int] = (),
) -> dict[str, Any]:
    """What the experiments say of a model: search, ablation, random sets, statistics, trace."""
    data = _search(subject, plan)
    if data is None:
        return {"search": None}
    chosen = data["off_topic_detectors"] or data["separability_detectors"]
    return {
        "search": {
            "strict": data["off_topic_detectors"],
            "separability": data["separability_detectors"],
            "above_null": data["separability_null"]["latents_above_95"],
            "nearest_to_strict": data["nearest_to_strict"],
        },
        "hits": None if carriers is None else hits(data, carriers),
        "aligned_hits": hits(data, aligned),
        "ablation": runs.ablation(plan, subject, chosen),
        "random": runs.random_sets(plan, subject),
        "statistics": runs.statistics(plan, subject, chosen),
        "trace": runs.trace(plan, subject, chosen),
    }


def _power(subject: Subject, plan: Plan, procedure: Mapping[str, Any]) -> dict[str, Any] | None:
    """Power over how much of the restarts passes through the circuit; None without the arms."""
    cut = procedure.get("ablation")
    trials = circuit_power.read(plan, subject, cut["latents"]) if cut else None
    if trials is None or not trials.baseline.any():
        return None
    return circuit_power.curves(trials, plan.seed)


def hits(data: Mapping[str, Any] | None, carriers: Sequence[int]) -> dict[str, dict[str, int]]:
    """Carriers among the first 3, 10 and 26 of either list of the search."""
    lists = {
        "strict": data["off_topic_detectors"] if data else [],
        "separability": data["separability_detectors"] if data else [],
    }
    return {
        name: {str(top): len(set(latents[:top]) & set(carriers)) for top in TOPS}
        for name, latents in lists.items()
    }


def _search(subject: Subject, plan: Plan) -> dict[str, Any] | None:
    for path in find_runs(plan.output, runs.SEARCH, subject.key):
        if read_run(path).status == "complete":
            text = (path / "off_topic_detectors.json").read_text(encoding="utf-8")
            return dict(json.loads(text))
    return None


def _cosines(rows: Any, direction: Any) -> dict[int, float]:
    """Latent -> cosine of its decoder row with a direction, the largest in size first."""
    cosines = (rows @ direction).detach() / rows.detach().norm(dim=-1)
    order = cosines.abs().argsort(descending=True).tolist()
    return {int(latent): round(float(cosines[latent]), 4) for latent in order}


def subject_of(folder: Path) -> Subject:
    """The registered member, or a file that describes the one of another build folder."""
    if folder.resolve() == ORGANISM.resolve() and MEMBER in REGISTRY:
        return Subject(MEMBER)
    build = read_build(folder)
    norm = build["dictionaries"][MEMBER]["residual_norm"]
    spec = registry.organism(MEMBER, "tiny organism, planted circuit", norm, folder.resolve())
    words = name_of(build).replace("share ", "share").replace("seed ", "seed")
    key = f"{MEMBER}-{words.replace(' ', '-')}"
    names = ("hf_id", "steering_layer", "feature_layer", "dtype", "prompt_set", "judge")
    sizes = ("max_tokens", "context", "in_flight", "n_latents", "n_trials", "organism")
    plain = {name: getattr(spec, name) for name in (*names, *sizes)}
    plain |= {"key": key, "title": f"{spec.title}, {name_of(build)}"}
    plain["labels"] = str(spec.labels)
    tables = {
        "sae": {"folder": str(spec.sae.folder)},
        "calibration": asdict(spec.calibration),
        "profiles.paper": {"repetition_penalty": 1.0},
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(v)}" for name, v in values.items())]
    file = folder / f"{MEMBER}.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Subject(key, file)
