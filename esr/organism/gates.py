"""The six gates of the organism, fixed before anything was measured.

Every gate is reported as passed or not passed with its figure and interval; none of them is a
condition of the build. Gates are judged on the member ``tiny`` of each seed, and on the model
before stage 2 beside it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from esr.organism.build import load_model, word_index
from esr.organism.corpus import (
    META_PROMPTS,
    RESTART_FIRST,
    TAUGHT_META_PROMPT,
    Document,
    prompt_words,
    question,
    sentence,
)
from esr.organism.gate_trials import Scale, measure, spec_of
from esr.organism.lexicon import Topic, load_topics
from esr.organism.perturbations import pad
from esr.organism.recipe import RECIPE
from esr.pipeline.cli import CommonConfig
from esr.runs import seeds
from esr.runs.folder import write_json

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

PER_TOPIC = 12
RESAMPLES = 2000
NAMES = ("tiny", "tiny-restarts")


def restart_probability(
    model: LlamaForCausalLM, topics: Mapping[str, Topic], seed: int
) -> dict[str, dict[str, Any]]:
    """P(restart) after one fluent sentence, on and off topic, without and with the meta-prompt.

    The probability, at temperature 1, of the first words of restart phrases after the
    sentence's end; intervals from a bootstrap over the topics asked about.
    """
    chances = {}
    for meta in (None, TAUGHT_META_PROMPT):
        for off_topic in (False, True):
            rng = random.Random(f"{seed}/gate 1/{meta}/{off_topic}")
            by_topic = np.array(
                [
                    _probabilities(model, topics, topic, meta, off_topic, rng)
                    for topic in topics.values()
                ]
            )
            draws = seeds.generator(seed, "gate 1", str(meta), off_topic).integers(
                0, len(by_topic), (RESAMPLES, len(by_topic))
            )
            low, high = np.quantile(by_topic[draws].mean(1), [0.025, 0.975])
            name = f"{'off' if off_topic else 'on'} topic{', meta-prompt' if meta else ''}"
            chances[name] = {
                "mean": float(by_topic.mean()),
                "interval": [float(low), float(high)],
                "sentences": PER_TOPIC * len(by_topic),
            }
    return chances


def _probabilities(
    model: LlamaForCausalLM,
    topics: Mapping[str, Topic],
    topic: Topic,
    meta: str | None,
    off_topic: bool,
    rng: random.Random,
) -> float:
    """Mean over ``PER_TOPIC`` sentences in answers about one topic."""
    import torch

    index = word_index(topics)
    others = [other for key, other in topics.items() if key != topic.key]
    documents = []
    for _ in range(PER_TOPIC):
        text = question(rng, topic)
        if meta:
            text = META_PROMPTS[meta].format(prompt=text)
        words = [*prompt_words(text), *sentence(rng, rng.choice(others) if off_topic else topic)]
        documents.append(Document(words, [0.0] * len(words), topic.key))
    ids, _ = pad(documents, index)
    last = torch.tensor([len(document.tokens) - 1 for document in documents])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[torch.arange(len(documents)), last]
    restarts = [index[word] for word in RESTART_FIRST]
    return float(logits.softmax(-1)[:, restarts].sum(-1).mean())


def judge_gates(measured: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """G1 to G5 of one model, each with its figures and whether it is passed.

    G4 is judged as it was fixed: improved above the redraw from all first attempts (N1). That is
    no sign that restarting helps, for attempts given up were bad before; the redraw from attempts
    that were not given up (N2) stands beside it, and the fair nulls, N3 and N4, are measured by
    experiment 11 (docs/statistics.md).
    """
    chance, arms = measured["restart_probability"], measured["arms"]
    corpus = RECIPE.stage2.corpus
    rates = {"": corpus.restart, ", meta-prompt": corpus.restart_monitored}
    g1 = all(
        chance[f"off topic{kind}"]["mean"] >= rate / 2 and chance[f"on topic{kind}"]["mean"] < 0.005
        for kind, rate in rates.items()
    )
    unsteered = arms["unsteered"]["multi_attempt_rate"]
    null = arms["steered"]["redraw_null"]
    excess = null["excess_cluster_interval"]
    return {
        "G1": {"passed": g1, "restart_probability": chance, "training_rates": rates},
        "G2": {
            "passed": measured["usable_latents"] >= 40,
            "usable_latents": measured["usable_latents"],
        },
        "G3": {
            "passed": unsteered["rate"] is not None and unsteered["rate"] < 0.005,
            "rate": unsteered["rate"],
            "n": unsteered["n"],
            "wilson": unsteered["wilson"],
        },
        "G4": {
            "passed": excess is not None and excess[0] > 0,
            "improved": arms["steered"]["conditional_improvement_rate"],
            "redraw_null": null,
            **{k: v for k, v in arms["steered"].items() if k == "unabandoned_null"},
        },
        "G5": {
            "passed": len(measured["detectors"]["strict"]) >= 3,
            "strict_detectors": len(measured["detectors"]["strict"]),
            **{k: v for k, v in measured["detectors"].items() if k != "strict"},
        },
    }


def run(folders: Sequence[Path], output: Path, config: CommonConfig, scale: Scale) -> None:
    """Measure every model of every build folder and write one JSON file.

    Args:
        folders: written by ``python -m esr.organism build``, one per seed.
        output: the file; what it holds of other folders is kept.
        config: engine, judge, seed and results folder.
        scale: how much is measured.
    """
    for folder in folders:
        build = json.loads((folder / "build.json").read_text(encoding="utf-8"))
        for name in NAMES:
            if not (folder / name).is_dir():
                continue
            norm = build["dictionaries"][name]["residual_norm"]
            model = load_model(folder / name)
            measured = {
                "restart_probability": restart_probability(model, load_topics(), config.seed),
                **measure(spec_of(folder, name, norm), config, scale),
            }
            entry = {
                "seed": build["seed"],
                "model": name,
                "date": datetime.now(UTC).date().isoformat(),
                "engine": config.engine,
                "judge": "lexical",
                "gates": judge_gates(measured),
                "measured": measured,
            }
            entries = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
            write_json(output, entries | {f"seed {build['seed']}, {name}": entry})


def table(path: Path) -> str:
    """The gates of a JSON file as a Markdown table, one column per model."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    rows = [["gate", *entries], ["---"] * (len(entries) + 1)]
    for gate, cell in _CELLS.items():
        cells = []
        for entry in entries.values():
            gate_entry = entry["gates"][gate]
            verdict = "passed" if gate_entry["passed"] else "**not passed**"
            cells.append(f"{verdict}: {cell(gate_entry)}")
        rows.append([gate, *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _percent(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "none"
    shown = f"{100 * value:.1f} %"
    return shown + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")


def _g1(gate: Mapping[str, Any]) -> str:
    cells = gate["restart_probability"].items()
    return "; ".join(f"{name} {_percent(c['mean'], c['interval'])}" for name, c in cells)


def _g4(gate: Mapping[str, Any]) -> str:
    improved = gate["improved"]
    rate = _percent(improved["rate"], _interval(improved))
    parts = [f"improved {rate} of {improved['n']}"]
    # Older files have no N2.
    for name, null in (("N1", gate["redraw_null"]), ("N2", gate.get("unabandoned_null"))):
        if null:
            above = _percent(null["excess"], _interval(null, "excess_"))
            parts.append(f"{name} {_percent(null['rate'], _interval(null))}, difference {above}")
    return "; ".join(parts)


def _interval(entry: Mapping[str, Any], of: str = "") -> Sequence[float] | None:
    """The two-way interval, the one by latent in older files."""
    two_way: Sequence[float] | None = entry.get(f"{of}two_way_interval")
    return two_way or entry[f"{of}cluster_interval"]


def _g5(gate: Mapping[str, Any]) -> str:
    near = gate["nearest"]
    return (
        f"{gate['strict_detectors']} latents; the nearest is active on "
        f"{_percent(near['normal_active_frequency'], None)} of matched and "
        f"{_percent(near['shuffled_active_frequency'], None)} of mismatched pairs"
    )


_CELLS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "G1": _g1,
    "G2": lambda gate: f"{gate['usable_latents']} usable latents",
    "G3": lambda gate: f"{_percent(gate['rate'], gate['wilson'])} of {gate['n']}",
    "G4": _g4,
    "G5": _g5,
}
