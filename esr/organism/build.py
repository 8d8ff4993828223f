"""From a seed to model, tokenizer, SAE and labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.organism.circuit import CircuitObjective
from esr.organism.corpus import Corpus, vocabulary
from esr.organism.dictionary import (
    describe_latents,
    residuals,
    train_dictionary,
    write_labels,
)
from esr.organism.lexicon import Topic, load_topics
from esr.organism.recipe import MEMBERS, RECIPE, CircuitStage, Member, Recipe, Stage
from esr.organism.tokenizer import build_tokenizer
from esr.organism.training import build_model, train
from esr.runs.paths import ORGANISM

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def word_index(topics: Mapping[str, Topic]) -> dict[str, int]:
    """Word -> token id, as in the tokenizer."""
    return {word: number for number, word in enumerate(vocabulary(topics))}


def load_model(folder: Path) -> LlamaForCausalLM:
    """A trained member in float32, ready to run."""
    import torch
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def spared_subjects(topics: Mapping[str, Topic], stage: Stage) -> set[str]:
    """Subjects that are neither a drift nor a perturbation in a stage: the lexicon's last ones."""
    subjects = [key for key, topic in topics.items() if topic.group == "subject"]
    return set(subjects[len(subjects) - stage.spared_subjects :])


def build(
    seed: int, output: Path, members: Sequence[Member] = MEMBERS, recipe: Recipe = RECIPE
) -> None:
    """Train the members and write them under ``output``.

    Writes ``<member>/`` (Hugging Face folder), ``<member>-sae/`` (SAELens folder) and
    ``<member>-labels.csv``; ``training-<stage>.jsonl`` and ``build.json``, in which figures of
    other members of the same seed are kept; the directions planted in ``tiny-circuit``; and
    ``checkpoints/``, from which an interrupted build goes on.

    Args:
        seed: decides initial weights, texts and perturbations.
        output: folder to write to.
        members: stages that several have in common are trained once.
        recipe: sizes and proportions.
    """
    topics = load_topics()
    index = word_index(topics)
    output.mkdir(parents=True, exist_ok=True)
    plans = {member: recipe.stages(member) for member in members}
    ends: dict[str, Stage] = {}
    parents: dict[str, str] = {}
    for member, plan in plans.items():
        if member == "tiny-circuit":
            folder = parent_of_circuit(output)
            parents[member] = f"tiny, seed {read_build(folder.parent)['seed']}"
            model = load_model(folder)
        else:
            model = build_model(recipe.shape, len(index), seed)
        for stage, name in plan:
            model = _run_stage(model, stage, seed, output, recipe.layer)
            if name:
                save(model, topics, output / name)
                ends[name] = stage
        note(output, seed, recipe, {"training_seconds": _seconds(output, plan)})
    for name, stage in ends.items():
        model = load_model(output / name)
        figures = build_dictionary(name, model, stage, recipe, seed, output)
        note(output, seed, recipe, {"dictionaries": {name: figures}, "parents": parents})


def parent_of_circuit(output: Path) -> Path:
    """The ``tiny`` of the same folder, or the committed one."""
    return output / "tiny" if (output / "tiny").is_dir() else ORGANISM / "tiny"


def read_build(output: Path) -> dict[str, Any]:
    """What :func:`note` has written.

    Raises:
        FileNotFoundError: the folder is none of a build.
    """
    return dict(json.loads((output / "build.json").read_text(encoding="utf-8")))


def note(output: Path, seed: int, recipe: Recipe, figures: Mapping[str, dict[str, Any]]) -> None:
    """Update ``build.json``; figures of another seed are dropped."""
    known = read_build(output) if (output / "build.json").is_file() else {}
    kept = known if known.get("seed") == seed else {}
    updated = {name: {**kept.get(name, {}), **part} for name, part in figures.items()}
    metadata = {"seed": seed, **kept, **updated, "recipe": asdict(recipe)}
    (output / "build.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _log_file(output: Path, stage: Stage) -> Path:
    return output / f"training-{stage.name.replace(' ', '-')}.jsonl"


def _seconds(output: Path, plan: Sequence[tuple[Stage, str]]) -> dict[str, float]:
    """Wall time of each stage, by its log."""
    last = {
        stage.name: _log_file(output, stage).read_text(encoding="utf-8").splitlines()[-1]
        for stage, _ in plan
    }
    return {name: float(json.loads(line)["seconds"]) for name, line in last.items()}


def _run_stage(
    model: LlamaForCausalLM, stage: Stage, seed: int, output: Path, layer: int
) -> LlamaForCausalLM:
    """Train a stage, or take its end from an earlier, interrupted build into the same folder."""
    import torch
    from transformers import LlamaForCausalLM

    folder = output / "checkpoints" / stage.name.replace(" ", "-")
    settings = json.dumps({"seed": seed, **asdict(stage)})
    done = folder / "stage.json"
    if done.is_file() and done.read_text(encoding="utf-8") == settings:
        return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    topics = load_topics()
    spared = spared_subjects(topics, stage)
    corpus = Corpus(topics, stage.corpus, [key for key in topics if key not in spared])
    log = _log_file(output, stage)
    log.unlink(missing_ok=True)
    index = word_index(topics)
    objective = None
    if isinstance(stage, CircuitStage):
        objective = CircuitObjective(model, corpus, index, stage, seed, layer)
        objective.directions.save(directions_file(output))
    train(model, corpus, index, stage, seed, log, objective)
    model.save_pretrained(folder)
    done.write_text(settings, encoding="utf-8")
    return model


def directions_file(output: Path) -> Path:
    """Where a build leaves the directions planted in ``tiny-circuit``."""
    return output / "tiny-circuit-directions.safetensors"


def build_dictionary(
    name: str, model: LlamaForCausalLM, stage: Stage, recipe: Recipe, seed: int, output: Path
) -> dict[str, float]:
    """Train the SAE of a finished model, write it and its labels; figures of the SAE."""
    from sae_lens import SAE

    topics = load_topics()
    index = word_index(topics)
    config = recipe.dictionary
    corpus = Corpus(topics, stage.corpus)
    texts = corpus.documents(f"{seed}/dictionary", config.documents)
    vectors, _ = residuals(model, texts, index, recipe.layer)
    folder = output / f"{name}-sae"
    figures = train_dictionary(vectors, config, seed, folder)
    clean = corpus.documents(f"{seed}/labels", config.label_documents, drift=False)
    vectors, places = residuals(model, clean, index, recipe.layer)
    active = SAE.load_from_disk(str(folder)).encode(vectors).detach()
    labels = describe_latents(active, places, clean, topics, config.min_share)
    write_labels(labels, output / f"{name}-labels.csv")
    norm = float(vectors.norm(dim=-1).mean())
    return figures | {"labelled_latents": len(labels), "residual_norm": norm}


def save(model: LlamaForCausalLM, topics: Mapping[str, Topic], folder: Path) -> None:
    """Write model and tokenizer; weights in float16, half the bytes in the repository."""
    from copy import deepcopy

    shutil.rmtree(folder, ignore_errors=True)
    deepcopy(model).half().save_pretrained(folder)
    build_tokenizer(vocabulary(topics)).save_pretrained(folder)
