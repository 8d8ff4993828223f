"""The planted circuit: marks, interchange, losses, and how far a decision follows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from esr.organism.build import word_index
from esr.organism.carriers import shares
from esr.organism.circuit import CircuitObjective
from esr.organism.circuit_checks import check, text_pairs
from esr.organism.corpus import RESTART_FIRST, Corpus, CorpusConfig, Document
from esr.organism.decisions import decision_loss, elsewhere_loss, log_restart, restart_ids
from esr.organism.interchange import Change, Directions, Marks, replaced, watched
from esr.organism.lexicon import load_topics
from esr.organism.perturbations import pad
from esr.organism.recipe import CircuitStage, Shape
from esr.organism.training import build_model, next_token_loss, train

TOPICS = load_topics()
INDEX = word_index(TOPICS)
SMALL = Shape(d_model=32, n_layers=2, n_heads=1, d_mlp=32)
CONFIG = CorpusConfig(restart=0.2, restart_monitored=0.6)
LAYER = 0


@pytest.fixture
def objective() -> CircuitObjective:
    model = build_model(SMALL, len(INDEX), 0)
    stage = CircuitStage("circuit", 4, CONFIG, batch=6, perturbed=0.75, layers=(0,))
    return CircuitObjective(model, Corpus(TOPICS, CONFIG), INDEX, stage, 0, LAYER)


def test_marks_of_a_text_by_hand() -> None:
    own, other = list(TOPICS.values())[:2]
    prompt = ["<bos>", "<user>", other.nouns[0], "<end>", "<assistant>"]
    answer = ["first", ",", own.verbs[0], "the", own.nouns[0], "."]
    drift = ["a", other.nouns[0], "with", own.nouns[1], other.nouns[1], "now", ".", "wait", "."]
    words = [*prompt, *answer, *drift]
    document = Document(words, [0.0] * len(words), own.key, monitored=True)
    document.boundaries = [(10, False), (17, True)]
    marks = Marks.of([document], TOPICS, CONFIG)
    said = [*[0] * 11, *(0, 0, 1, 1, 0, 1, 1, 0, 0)]
    assert marks.off_topic[0].tolist() == said
    assert marks.foreign[0].nonzero()[:, 0].tolist() == [12, 15]
    assert marks.answer[0].tolist() == [0] * 5 + [1] * 15
    assert marks.end[0].nonzero()[:, 0].tolist() == [10, 17]
    assert torch.allclose(marks.rate, torch.tensor(0.6))


def test_every_sentence_end_says_what_its_sentence_is() -> None:
    documents = Corpus(TOPICS, CONFIG).documents("marks", 200)
    marks = Marks.of(documents, TOPICS, CONFIG)
    for row, document in enumerate(documents):
        for position, off_topic in document.boundaries:
            assert bool(marks.off_topic[row, position]) is off_topic
            assert not marks.foreign[row, position]


def test_directions_are_orthogonal_units_of_their_seed(tmp_path: Path) -> None:
    first, again, other = (Directions.draw(32, seed) for seed in (0, 0, 1))
    assert torch.equal(first.u, again.u)
    assert not torch.equal(first.u, other.u)
    assert float(first.u.norm()) == pytest.approx(1, abs=1e-5)
    assert float(first.u @ first.d) == pytest.approx(0, abs=1e-5)
    first.save(tmp_path / "directions.safetensors")
    loaded = Directions.load(tmp_path / "directions.safetensors")
    assert torch.equal(loaded.d, first.d)


@torch.no_grad()
def test_a_replaced_value_is_the_new_one_and_nothing_else_moves() -> None:
    model = build_model(SMALL, len(INDEX), 0).eval()
    directions = Directions.draw(32, 0)
    ids = torch.arange(6, 14)[None]
    where = torch.zeros(1, 8)
    where[0, 3] = 1.0
    values = torch.full((1, 8), 7.0)
    with watched(model, LAYER) as before:
        model(input_ids=ids)
    with replaced(model, LAYER, [Change(directions.u, values, where)]), watched(model, 0) as after:
        model(input_ids=ids)
    (plain,), (moved,) = before, after
    assert float(moved[0, 3] @ directions.u) == pytest.approx(7.0, abs=1e-4)
    rest = moved - (moved @ directions.u)[..., None] * directions.u
    own = plain - (plain @ directions.u)[..., None] * directions.u
    assert torch.allclose(rest, own, atol=1e-4)
    assert torch.equal(moved[0, :3], plain[0, :3])
    assert not model.model.layers[LAYER]._forward_hooks


def test_log_probabilities_of_a_restart_add_up() -> None:
    restarts = restart_ids(INDEX)
    logits = torch.randn(5, len(INDEX), generator=torch.Generator().manual_seed(0))
    yes, no = log_restart(logits, restarts)
    wanted = logits.softmax(-1)[:, [INDEX[word] for word in RESTART_FIRST]].sum(-1)
    assert torch.allclose(yes.exp(), wanted, atol=1e-6)
    assert torch.allclose(yes.exp() + no.exp(), torch.ones(5), atol=1e-5)


def test_decision_loss_is_least_at_its_target() -> None:
    restarts = restart_ids(INDEX)
    end = torch.tensor([[0.0, 1.0]])

    def loss(chance: float) -> float:
        logits = torch.zeros(1, 2, len(INDEX))
        others = len(INDEX) - len(restarts)
        odds = torch.tensor(chance / (1 - chance) * others / len(restarts))
        logits[0, 1, restarts] = odds.log()
        return float(decision_loss(logits, end, torch.tensor([[0.0, 0.3]]), restarts))

    assert loss(0.3) < min(loss(0.2), loss(0.4))
    entropy = torch.distributions.Bernoulli(torch.tensor(0.3)).entropy()
    assert loss(0.3) == pytest.approx(float(entropy), abs=1e-4)


def test_elsewhere_loss_sees_everything_but_the_restart() -> None:
    document = Document(
        ["<bos>", "<user>", "<assistant>", "the", "."], [0.0] * 5, next(iter(TOPICS))
    )
    document.boundaries = [(4, False)]
    marks = Marks.of([document], TOPICS, CONFIG)
    restarts = restart_ids(INDEX)
    plain = torch.randn(1, 5, len(INDEX), generator=torch.Generator().manual_seed(0))
    moved = plain.clone()
    moved[0, 4, restarts] += 3.0
    moved[0, 1] += torch.randn(len(INDEX), generator=torch.Generator().manual_seed(1))
    assert float(elsewhere_loss(moved, plain, marks, restarts)) == pytest.approx(0, abs=1e-5)
    moved[0, 3, restarts[0]] += 3.0
    assert float(elsewhere_loss(moved, plain, marks, restarts)) > 1e-3


@torch.no_grad()
def test_next_token_loss_is_that_of_the_hidden_states() -> None:
    from esr.organism.training import loss_of

    model = build_model(SMALL, len(INDEX), 0)
    ids, weights = pad(Corpus(TOPICS, CONFIG).documents("loss", 4), INDEX)
    logits = model(input_ids=ids).logits
    own, wanted = next_token_loss(logits[:, :-1], ids, weights), loss_of(model, ids, weights)
    assert torch.allclose(own, wanted, atol=1e-5)


@torch.no_grad()
def test_interchanged_values_come_from_where_they_say(objective: CircuitObjective) -> None:
    documents = objective.corpus.documents("interchange", 12)
    marks = Marks.of(documents, TOPICS, CONFIG)
    n, width = marks.text.shape
    # A residual stream whose value along u is 10 at off-topic ends, 1 at the others, 0 elsewhere.
    along = marks.end * (1 + 9 * marks.off_topic)
    hidden = along[..., None] * objective.directions.u
    (of_u, of_d), said = objective.interchange(hidden, marks)
    there = of_u.where > 0
    assert torch.allclose(of_u.values[there], 1 + 9 * said[there], atol=1e-4)
    assert torch.equal(of_u.where, of_d.where)
    whole = (of_u.where == marks.answer).all(1)
    assert 0 < int(whole.sum()) < n
    assert (of_u.where[~whole] == marks.end[~whole]).all()
    assert all(len(set(said[row].tolist())) == 1 for row in whole.nonzero()[:, 0].tolist())
    assert width == said.shape[1]


def test_steps_of_the_circuit_stage_lower_its_loss_and_repeat_exactly(tmp_path: Path) -> None:
    ends = []
    for run in range(2):
        model = build_model(SMALL, len(INDEX), 3)
        corpus = Corpus(TOPICS, CONFIG)
        stage = CircuitStage(
            "circuit", 6, CONFIG, batch=6, perturbed=0.75, layers=(0,), learning_rate=1e-2
        )
        objective = CircuitObjective(model, corpus, INDEX, stage, 0, LAYER)
        probe = corpus.documents("probe", 24)
        before = _total(objective, probe)
        log = tmp_path / f"{run}.jsonl"
        train(model, corpus, INDEX, stage, 0, log, objective)
        ends.append(_total(objective, probe))
        assert ends[-1] < before
        assert '"follows"' in log.read_text()
        assert '"parts"' in log.read_text()
    assert ends[0] == ends[1]


@torch.no_grad()
def _total(objective: CircuitObjective, documents: list[Document]) -> float:
    return float(torch.stack([*objective.parts(0, documents).values()]).sum())


def test_pairs_differ_in_the_words_of_the_last_sentence_alone() -> None:
    on, off = text_pairs(TOPICS, "pairs", 50)
    for left, right in zip(on, off, strict=True):
        assert len(left.tokens) == len(right.tokens)
        differ = [
            i for i, (a, b) in enumerate(zip(left.tokens, right.tokens, strict=True)) if a != b
        ]
        assert differ
        own = set(TOPICS[left.topic].words)
        assert all(left.tokens[i] in own and right.tokens[i] not in own for i in differ)
        assert min(differ) > max([i for i, t in enumerate(left.tokens[:-1]) if t == "."], default=0)


class Oracle(torch.nn.Module):
    """Writes what the marks say along both directions, and reads one of them for restarts."""

    def __init__(self, directions: Directions, read: torch.Tensor) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Identity()])
        self.model = SimpleNamespace(layers=self.layers)
        self.directions, self.read = directions, read
        self.said: dict[tuple[int, ...], torch.Tensor] = {}
        for side in text_pairs(TOPICS, "check", 24):
            marks = Marks.of(side, TOPICS, CONFIG)
            along = marks.off_topic[..., None] * directions.u
            hidden = along + marks.foreign[..., None] * directions.d
            for row, ids in enumerate(pad(side, INDEX)[0].tolist()):
                self.said[tuple(ids)] = hidden[row]

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        hidden = torch.stack([self.said[tuple(ids)] for ids in input_ids.tolist()])
        hidden = self.layers[0](hidden)
        logits = torch.zeros(*hidden.shape[:2], len(INDEX))
        logits[..., restart_ids(INDEX)] = 6 * (hidden @ self.read)[..., None]
        return SimpleNamespace(logits=logits)


def test_check_of_a_decision_that_reads_u_and_of_one_that_reads_d() -> None:
    directions = Directions.draw(32, 0)
    oracle = Oracle(directions, directions.u)
    checked = check(oracle, TOPICS, INDEX, directions, CONFIG, "check", LAYER, 24)
    assert checked["restart"]["gap"] > 0.5
    for place in ("end", "answer"):
        assert checked[f"u, {place}"] == {"followed": 1.0, "accuracy": 1.0, "elsewhere": 0.0}
        assert checked[f"d, {place}"] == {"followed": 0.0, "accuracy": 1.0, "elsewhere": 0.0}
    other = Oracle(directions, directions.u + directions.d)
    checked = check(other, TOPICS, INDEX, directions, CONFIG, "check", LAYER, 24)
    # The decoy says nothing at sentence ends, so a decision that reads it too follows u there.
    assert checked["u, end"]["followed"] == 1.0
    assert checked["values"]["u, no"] == checked["values"]["d, no"] == 0.0


class Dictionary:
    """Two latents: one along u, one half along u and half along d."""

    def __init__(self, directions: Directions) -> None:
        self.W_dec = torch.stack([directions.u, (directions.u + directions.d) / 2])
        self.rows = torch.stack([directions.u - directions.d, 2 * directions.d])

    def encode(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.rows.T


def test_shares_of_a_dictionary_add_up_to_what_a_direction_says() -> None:
    directions = Directions.draw(32, 0)
    oracle = Oracle(directions, directions.u)
    dictionary = Dictionary(directions)
    found = shares(oracle, dictionary, TOPICS, INDEX, directions, "check", LAYER, 24)
    # At sentence ends the stream is u: the first latent has all of it, the second is silent.
    assert found["u"] == {0: 1.0}
    # At foreign words it is d, which the second latent has; the first is negative along u alone.
    assert found["d"] == {1: 1.0}
