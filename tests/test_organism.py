"""The organism: corpus, tokenizer, training, and the committed members."""

from __future__ import annotations

import asyncio
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from esr import models
from esr.judge.base import JudgeRequest
from esr.judge.lexical import LexicalJudge
from esr.organism import build as organism_build
from esr.organism.corpus import (
    META_PROMPTS,
    RESTARTS,
    SENTENCES,
    SPECIAL,
    Corpus,
    CorpusConfig,
    Document,
    vocabulary,
)
from esr.organism.lexicon import load_topics
from esr.organism.perturbations import added, directions, pad
from esr.organism.recipe import (
    MEMBERS,
    RECIPE,
    CircuitStage,
    DictionaryConfig,
    Recipe,
    Shape,
    Stage,
)
from esr.organism.tokenizer import build_tokenizer
from esr.organism.training import build_model, loss_of, train
from esr.runs.paths import DATA

TOPICS = load_topics()
WORDS = vocabulary(TOPICS)
INDEX = organism_build.word_index(TOPICS)
SMALL = Shape(d_model=32, n_layers=2, n_heads=1, d_mlp=32)
COMMITTED = [member for member in MEMBERS if member in models.REGISTRY]
PROMPTS = json.loads((DATA / "prompts" / "organism.json").read_text())


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(TOPICS, CorpusConfig())


def test_every_content_word_belongs_to_one_topic_and_to_no_template() -> None:
    words = [word for topic in TOPICS.values() for word in topic.words]
    assert len(words) == len(set(words))
    frame = {word for text in [*SENTENCES, *RESTARTS] for word in text.split()}
    assert not frame & set(words)
    groups = [topic.group for topic in TOPICS.values()]
    assert (groups.count("task"), groups.count("held_out")) == (38, 10)


def test_corpus_is_a_function_of_its_seed(corpus: Corpus) -> None:
    again = Corpus(TOPICS, CorpusConfig()).documents("seed", 50)
    assert corpus.documents("seed", 50) == again
    assert corpus.documents("other", 50) != again


def test_restart_rates_are_the_configured_ones(corpus: Corpus) -> None:
    counts = {False: [0, 0], True: [0, 0]}
    firsts = {phrase.split()[0] for phrase in RESTARTS}
    for document in corpus.documents("rates", 4000, drift=True):
        for position, off_topic in document.boundaries:
            following = document.tokens[position + 1 : position + 2]
            if off_topic and following:
                counts[document.monitored][0] += 1
                counts[document.monitored][1] += following[0] in firsts
            elif following:
                assert following[0] not in firsts
    # Documents end after six off-topic sentences, so the last decision of some is missing.
    assert counts[False][1] / counts[False][0] == pytest.approx(0.15, abs=0.03)
    assert counts[True][1] / counts[True][0] == pytest.approx(0.5, abs=0.04)


def test_loss_covers_recovery_and_not_drift(corpus: Corpus) -> None:
    for document in corpus.documents("mask", 300):
        _check_mask(document, corpus.config)


def _check_mask(document: Document, config: CorpusConfig) -> None:
    start = document.tokens.index("<assistant>")
    assert not any(document.weights[: start + 1])
    ends = {position + 1 for position, _ in document.boundaries}
    own = set(TOPICS[document.topic].words)
    foreign = {
        word for key, topic in TOPICS.items() if key != document.topic for word in topic.words
    }
    for position in range(start + 1, len(document.tokens)):
        word, weight = document.tokens[position], document.weights[position]
        if word in foreign:
            assert weight == 0.0, document
        if position in ends and word != "<end>" and position - 1 > start:
            assert weight in (config.boundary_weight, 1.0)
            assert weight > 0
    if document.intruder is None:
        assert all(document.weights[start + 1 :])
        assert document.tokens[-1] == "<end>"
        assert own & set(document.tokens)


def test_base_corpus_never_drifts() -> None:
    base = Corpus(TOPICS, RECIPE.base.corpus)
    firsts = {phrase.split()[0] for phrase in RESTARTS}
    for document in base.documents("base", 300):
        assert document.intruder is None
        assert not firsts & set(document.tokens[document.tokens.index("<assistant>") :])


def test_tokenizer_round_trip_and_unknown_words(corpus: Corpus) -> None:
    tokenizer = build_tokenizer(WORDS)
    for document in corpus.documents("round trip", 30):
        text = " ".join(t for t in document.tokens if t not in SPECIAL)
        ids = tokenizer(text)["input_ids"]
        assert ids == [INDEX[t] for t in document.tokens if t not in SPECIAL]
        assert tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer("A Zyzzyva needs a pump.")["input_ids"]) == [
        "a",
        "<unk>",
        "needs",
        "a",
        "pump",
        ".",
    ]


def test_chat_template_and_its_assistant_mask() -> None:
    tokenizer = build_tokenizer(WORDS)
    turns = [
        {"role": "user", "content": "How do I darn a sock?"},
        {"role": "assistant", "content": "first, darn the heel."},
    ]
    asked = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, tokenize=False)
    assert asked == "<bos><user>How do I darn a sock?<end><assistant>"
    full = tokenizer.apply_chat_template(
        turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    tokens = tokenizer.convert_ids_to_tokens(full["input_ids"])
    assert tokens[0] == "<bos>"
    masked = [t for t, m in zip(tokens, full["assistant_masks"], strict=True) if m]
    assert masked == ["first", ",", "darn", "the", "heel", ".", "<end>"]


def test_prompts_are_in_vocabulary() -> None:
    tokenizer = build_tokenizer(WORDS)
    assert len(PROMPTS["prompts"]) == 38
    assert {m["id"] for m in PROMPTS["meta_prompts"]} == set(META_PROMPTS)
    assert len(PROMPTS["held_out"]) == 20
    assert len(PROMPTS["discovery"]) == 38
    label = "volcano: lava, magma, ash"
    texts = [p["text"] for p in [*PROMPTS["prompts"], *PROMPTS["held_out"], *PROMPTS["discovery"]]]
    texts += [
        m["template"].replace("{prompt}", texts[0]).replace("{latent_label}", label)
        for m in PROMPTS["meta_prompts"]
    ]
    for text in texts:
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text
    # Held-out prompts ask about topics that no prompt of the set asks about.
    held = {p["id"].rsplit("_", 1)[0] for p in PROMPTS["held_out"]}
    assert held == {key for key, topic in TOPICS.items() if topic.group == "held_out"}
    assert not held & {p["id"] for p in PROMPTS["prompts"]}
    # Detectors are searched on questions about other topics still.
    searched = {p["id"] for p in PROMPTS["discovery"]}
    assert len(searched) == 38
    assert searched < {key for key, topic in TOPICS.items() if topic.group == "subject"}


def test_loss_mask_hides_what_it_should() -> None:
    model = build_model(SMALL, len(WORDS), 0)
    ids = torch.randint(6, 100, (2, 12), generator=torch.Generator().manual_seed(0))
    weights = torch.zeros(2, 12)
    weights[0, 5], weights[1, 7] = 1.0, 3.0
    logits = model(input_ids=ids).logits
    each = torch.nn.functional.cross_entropy(
        torch.stack([logits[0, 4], logits[1, 6]]), ids[[0, 1], [5, 7]], reduction="none"
    )
    expected = (each * torch.tensor([1.0, 3.0])).sum() / 4
    assert torch.allclose(loss_of(model, ids, weights), expected, atol=1e-5)


def test_added_vector_moves_one_layer_and_goes_away() -> None:
    model = build_model(SMALL, len(WORDS), 0).eval()
    received: list[torch.Tensor] = []
    model.model.layers[1].register_forward_pre_hook(lambda _, args: received.append(args[0]))
    ids = torch.arange(6, 16)[None].repeat(2, 1)
    vectors = torch.stack([torch.ones(32), torch.zeros(32)])
    model(input_ids=ids)
    with added(model, 0, vectors):
        model(input_ids=ids)
    model(input_ids=ids)
    plain, moved, again = received
    assert torch.allclose(moved[0], plain[0] + 1.0, atol=1e-5)
    assert torch.equal(moved[1], plain[1])
    assert torch.equal(again, plain)


def test_directions_are_unit_vectors_per_topic(corpus: Corpus) -> None:
    model = build_model(SMALL, len(WORDS), 0)
    unit, norm = directions(model, corpus, INDEX, (1,), "test")[1]
    assert set(unit) == set(TOPICS)
    assert all(float(vector.norm()) == pytest.approx(1.0, abs=1e-4) for vector in unit.values())
    assert norm > 0


def test_five_steps_lower_the_loss_and_repeat_exactly(corpus: Corpus, tmp_path: Path) -> None:
    stage = Stage("test", 5, batch=8, perturbed=0.75, layers=(0, 1))
    losses = []
    for run in range(2):
        model = build_model(SMALL, len(WORDS), 3)
        probe = pad(corpus.documents("probe", 16), INDEX)
        before = float(loss_of(model, *probe).detach())
        train(model, corpus, INDEX, stage, 0, tmp_path / f"{run}.jsonl")
        losses.append(float(loss_of(model, *probe).detach()))
        assert losses[-1] < before
        line = json.loads((tmp_path / f"{run}.jsonl").read_text().splitlines()[-1])
        assert line["step"] == 5
        assert set(line["residual_norm"]) == {"0", "1"}
    assert losses[0] == losses[1]


@pytest.mark.filterwarnings("ignore")
def test_build_writes_what_the_registry_loads(tmp_path: Path) -> None:
    recipe = Recipe(
        Stage("base", 2, batch=4),
        Stage("finish", 1, batch=4),
        Stage("detect", 2, batch=4),
        Stage("notice", 2, batch=4),
        Stage("sharpen", 2, batch=4),
        Stage("stage 1", 2, batch=4),
        Stage("stage 2", 1, batch=4, perturbed=0.75, layers=(0, 1), spared_subjects=10),
        Stage("settle", 1, batch=4, perturbed=0.75, layers=(0, 1), spared_subjects=10),
        circuit=CircuitStage(
            "circuit", 2, batch=4, check_every=2, perturbed=0.75, layers=(0, 1), spared_subjects=10
        ),
        layer=1,
        shape=SMALL,
        dictionary=DictionaryConfig(
            d_sae=64, k=4, samples=512, batch=128, documents=40, label_documents=40
        ),
    )
    organism_build.build(0, tmp_path, recipe=recipe)
    facts = json.loads((tmp_path / "build.json").read_text())
    assert facts["seed"] == 0
    for member in MEMBERS:
        assert organism_build.load_model(tmp_path / member).dtype == torch.float32
        with (tmp_path / f"{member}-labels.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert facts["dictionaries"][member]["labelled_latents"] == len(rows) > 0
        assert all(0 <= int(row["index"]) < 64 and row["description"] for row in rows)


@pytest.mark.filterwarnings("ignore")
def test_members_built_one_by_one_share_stages_and_one_list_of_figures(tmp_path: Path) -> None:
    quick = [Stage(name, 1, batch=4) for name in ("base", "finish", "detect", "notice", "sharpen")]
    small = DictionaryConfig(d_sae=64, k=4, samples=512, batch=128, documents=40)
    base, finish, detect, notice, sharpen = quick
    recipe = Recipe(
        base,
        finish,
        detect,
        notice,
        sharpen,
        stage1=Stage("stage 1", 1, batch=4),
        layer=1,
        shape=SMALL,
        dictionary=replace(small, label_documents=40),
    )
    organism_build.build(0, tmp_path, ["tiny-restarts"], recipe)
    organism_build.build(0, tmp_path, ["tiny-base"], recipe)
    facts = json.loads((tmp_path / "build.json").read_text())
    assert set(facts["dictionaries"]) == {"tiny-restarts", "tiny-base"}
    assert list(facts["training_seconds"]) == [
        *("base", "detect", "notice", "sharpen", "stage 1"),
        "finish",
    ]
    organism_build.build(1, tmp_path, ["tiny-base"], recipe)
    assert set(json.loads((tmp_path / "build.json").read_text())["dictionaries"]) == {"tiny-base"}


def _answer(member: Any, prompt: str) -> str:
    from transformers import AutoTokenizer

    spec = models.get(member)
    tokenizer = AutoTokenizer.from_pretrained(spec.hf_id)
    model = organism_build.load_model(Path(spec.hf_id))
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    # Greedy answers say one noun over and over; the experiments sample at 0.6.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = model.generate(**inputs, max_new_tokens=96, do_sample=True, temperature=0.6)
    return str(
        tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    )


@pytest.mark.parametrize("member", COMMITTED)
def test_committed_member_answers_on_topic(member: Any) -> None:
    judge = LexicalJudge()
    scores = []
    for prompt in PROMPTS["prompts"][:5]:
        verdict = asyncio.run(
            judge.grade(JudgeRequest(prompt["text"], _answer(member, prompt["text"]), ""))
        )
        assert len(verdict.attempts) == 1
        scores.append(verdict.first_score or 0.0)
    assert sum(scores) / len(scores) > 80


@pytest.mark.parametrize("member", COMMITTED)
def test_committed_dictionary_and_labels_match_the_registry(member: Any) -> None:
    from sae_lens import SAE
    from transformers import AutoConfig

    spec = models.get(member)
    config = AutoConfig.from_pretrained(spec.hf_id)
    assert (config.hidden_size, config.vocab_size) == (spec.d_model, len(WORDS))
    assert spec.steering_layer < config.num_hidden_layers
    assert RECIPE.layer == spec.feature_layer
    sae = SAE.load_from_disk(str(spec.sae.folder))
    assert (sae.cfg.d_in, sae.cfg.d_sae) == (spec.d_model, spec.d_sae)
    tokenizer = build_tokenizer(WORDS)
    with spec.label_file.open() as file:
        labels = {int(row["index"]): row["description"] for row in csv.DictReader(file)}
    # Latents that never fire have no label.
    assert len(labels) > spec.d_sae // 4
    assert all(0 <= latent < spec.d_sae for latent in labels)
    unknown = tokenizer.unk_token_id
    assert all(unknown not in tokenizer(label)["input_ids"] for label in labels.values())
