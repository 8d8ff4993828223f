"""From a seed to model, tokenizer, SAE and labels."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from esr.organism.corpus import Corpus, vocabulary
from esr.organism.dictionary import (
    describe_latents,
    residuals,
    train_dictionary,
    write_labels,
)
from esr.organism.lexicon import Topic, load_topics
from esr.organism.recipe import MEMBERS, RECIPE, Member, Recipe, Stage
from esr.organism.tokenizer import build_tokenizer
from esr.organism.training import build_model, train

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


def stage_corpus(topics: Mapping[str, Topic], stage: Stage) -> Corpus:
    """The texts of a stage; spared subjects are never what an answer drifts to."""
    subjects = [key for key, topic in topics.items() if topic.group == "subject"]
    spared = set(subjects[len(subjects) - stage.spared_subjects :])
    return Corpus(topics, stage.corpus, [key for key in topics if key not in spared])


def build(
    seed: int, output: Path, members: Sequence[Member] = MEMBERS, recipe: Recipe = RECIPE
) -> None:
    """Train the members and write them under ``output``.

    Writes ``<member>/`` (Hugging Face folder), ``<member>-sae/`` (SAELens folder) and
    ``<member>-labels.csv``; for both together ``training.jsonl`` and ``build.json``; and
    ``tiny-stage1/``, the model before the second stage, with its SAE and labels.

    Args:
        seed: decides initial weights, texts and perturbations.
        output: folder to write to.
        members: ``tiny-base`` is where ``tiny`` sets out from, so it costs nothing more.
        recipe: sizes and proportions.
    """
    topics = load_topics()
    index = word_index(topics)
    output.mkdir(parents=True, exist_ok=True)
    log = output / "training.jsonl"
    log.unlink(missing_ok=True)
    started = time.monotonic()
    model = build_model(recipe.shape, len(index), seed)
    plan = [("tiny-base", recipe.base)]
    if "tiny" in members:
        plan += [("tiny-stage1", recipe.stage1), ("tiny", recipe.stage2)]
    figures = {}
    for name, stage in plan:
        train(model, stage_corpus(topics, stage), index, stage, seed, log)
        if name in members or name == "tiny-stage1":
            save(model, topics, output / name)
            finished = load_model(output / name)
            figures[name] = build_dictionary(name, finished, stage, recipe, seed, output)
    facts = {
        "seed": seed,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "dictionaries": figures,
        "recipe": asdict(recipe),
    }
    (output / "build.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


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
    clean = corpus.documents(f"{seed}/labels", 12 * len(topics), drift=False)
    vectors, places = residuals(model, clean, index, recipe.layer)
    active = SAE.load_from_disk(str(folder)).encode(vectors).detach()
    labels = describe_latents(active, places, clean, topics, config.min_share)
    write_labels(labels, output / f"{name}-labels.csv")
    return figures | {"labelled_latents": len(labels)}


def save(model: LlamaForCausalLM, topics: Mapping[str, Topic], folder: Path) -> None:
    """Write model and tokenizer; weights in float16, half the bytes in the repository."""
    from copy import deepcopy

    shutil.rmtree(folder, ignore_errors=True)
    deepcopy(model).half().save_pretrained(folder)
    build_tokenizer(vocabulary(topics)).save_pretrained(folder)
