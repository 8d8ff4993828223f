"""Episodes, boundaries without a language model, and characters as tokens by offsets."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from esr.analysis.episodes import (
    Episode,
    Regions,
    by_clarity,
    from_results,
    offline_boundaries,
    regions,
    self_correcting,
    single_attempt,
    token_at,
)
from esr.judge.boundaries import Boundaries
from esr.judge.spans import attempt_spans
from esr.models.chat import ChatFormat
from esr.organism.tokenizer import build_tokenizer

TEXT = "Die Köche löschen 🌋 Lava… Wait, that's not right. Schäle die Äpfel · dünn 🍏."


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    """A byte-level BPE as Llama's: characters beyond ASCII take several tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    corpus = ["wait that's not right the cook the wait right", "peel the apples thin"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False)


def test_offsets_on_multi_byte_text(byte_level: PreTrainedTokenizerFast) -> None:
    ids, spans = ChatFormat(byte_level).response_ids(TEXT)
    assert len(ids) == len(spans)
    assert byte_level.decode(ids) == TEXT
    # Why decoded lengths cannot be summed: a piece of a character decodes to a stand-in.
    summed = sum(len(byte_level.decode([i])) for i in ids)
    assert summed > len(TEXT)
    for character in range(len(TEXT)):
        token = token_at(spans, character)
        start, end = spans[token]
        assert start <= character < end
        assert token == 0 or spans[token - 1][1] <= character, "the first token that holds it"
    volcano = TEXT.index("🌋")
    pieces = [i for i, (start, end) in enumerate(spans) if start <= volcano < end]
    assert len(pieces) >= 2
    assert token_at(spans, volcano) == pieces[0]
    assert token_at(spans, len(TEXT)) == len(spans)


def test_text_before_a_boundary_is_exactly_the_tokens_before_it(
    byte_level: PreTrainedTokenizerFast,
) -> None:
    ids, spans = ChatFormat(byte_level).response_ids(TEXT)
    at = TEXT.index("Wait")
    token = token_at(spans, at)
    assert byte_level.decode(ids[:token]).rstrip() == TEXT[:at].rstrip()
    assert byte_level.decode(ids[token:]).lstrip().startswith("Wait, that's")


def test_offsets_of_the_word_level_tokenizer() -> None:
    tokenizer = build_tokenizer(
        ["<pad>", "<unk>", "<bos>", "<end>", "<user>", "<assistant>", "wait", ",", "peel", "apples"]
    )
    text = "Peel  strange\tapples , wait"
    ids, spans = ChatFormat(tokenizer).response_ids(text)
    words = [text[start:end] for start, end in spans]
    assert words == ["Peel", "strange", "apples", ",", "wait"]
    assert tokenizer.convert_ids_to_tokens(ids)[1] == "<unk>"
    assert token_at(spans, text.index("strange") - 1) == 1, "white space belongs to the next token"


def test_tokens_without_characters_hold_none() -> None:
    assert token_at([(0, 0), (0, 2), (2, 2), (2, 3)], 0) == 1
    assert token_at([(0, 0), (0, 2), (2, 2), (2, 3)], 2) == 3
    assert token_at([], 0) == 0


def test_regions() -> None:
    spans = [(i, i + 2) for i in range(0, 20, 2)]
    found = regions(spans, Boundaries(1, 8, 13))
    assert found == Regions(0, 4, 6, 10)
    assert found.parts["correction"] == slice(4, 6)
    assert found.complete
    assert not Regions(3, 3, 4, 10).complete
    assert not Regions(3, 4, 10, 10).complete


class TestOfflineBoundaries:
    def check(self, response: str, attempts: list[str]) -> tuple[str, str, str]:
        found = offline_boundaries(response, attempt_spans(response, attempts))
        assert found is not None
        return (
            response[found.off_topic : found.correction],
            response[found.correction : found.on_topic],
            response[found.on_topic :],
        )

    def test_the_restart_opens_the_second_attempt(self) -> None:
        first, second = "Lava flows .", "wait , that is not right . peel the apples ."
        parts = self.check(f"{first} {second}", [first, second])
        assert parts == ("Lava flows . ", "wait , that is not right . ", "peel the apples .")

    def test_two_phrases_in_a_row(self) -> None:
        first = "Lava flows."
        second = "Wait, that's not right. Let me try again: peel them."
        assert self.check(f"{first} {second}", [first, second])[2] == "peel them."

    def test_the_judge_left_the_announcement_out(self) -> None:
        response = "Lava flows. Hm, no! Peel the apples."
        parts = self.check(response, ["Lava flows.", "Peel the apples."])
        assert parts == ("Lava flows. ", "Hm, no! ", "Peel the apples.")

    def test_an_unknown_announcement_is_the_first_sentence(self) -> None:
        second = "Oh dear me. Peel the apples."
        parts = self.check(f"Lava flows. {second}", ["Lava flows.", second])
        assert parts[1:] == ("Oh dear me. ", "Peel the apples.")

    @pytest.mark.parametrize(
        "attempts",
        [
            ["Lava flows."],
            ["Lava stands.", "Peel the apples."],
            ["Lava flows.", "Cut the apples."],
            ["Peel the apples.", "Lava flows."],
            ["", "Peel the apples."],
            ["Lava flows.", "wait"],
        ],
    )
    def test_what_does_not_stand_there_gives_none(self, attempts: list[str]) -> None:
        text = "Lava flows. Peel the apples."
        assert offline_boundaries(text, attempt_spans(text, attempts)) is None


def trial(name: str, scores: list[float | None], response: str = "text", **more: Any) -> Any:
    attempts = [{"attempt_text": f"a{i}", "score": s} for i, s in enumerate(scores)]
    return {
        "trial_id": name,
        "prompt": "question",
        "response": response,
        "seed": 1,
        "score": {"attempts": attempts},
        "error": None,
        **more,
    }


def results(*trials: Any) -> dict[str, Any]:
    entry = {"feature_index_in_sae": 7, "feature_label": "lava", "threshold": 2.5}
    return {"results_by_feature": [{**entry, "trials": list(trials)}]}


def test_episodes_are_two_attempts_of_which_the_second_is_better() -> None:
    found = list(
        from_results(
            results(
                trial("better", [10.0, 60.0], threshold=3.0),
                trial("worse", [60.0, 10.0]),
                trial("three", [0.0, 10.0, 90.0]),
                trial("one", [50.0]),
                trial("low", [49.0]),
                trial("none", []),
                trial("failed", [1.0, 2.0], error="judge: failed"),
                trial("unscored", [1.0, None]),
                {**trial("no score", []), "score": None},
            )
        )
    )
    assert [e.trial_id for e in self_correcting(found)] == ["better"]
    assert found[0].threshold == 3.0
    assert found[1].threshold == 2.5
    assert found[0].latent_label == "lava"
    assert [e.trial_id for e in single_attempt(found)] == ["one"]


def test_the_clearest_episode() -> None:
    def episode(name: str, scores: tuple[float, float], response: str = "some text") -> Episode:
        return Episode(name, 1, "", 1.0, "q", response, ("a", "b"), scores)

    found = [
        episode("small", (0.0, 50.0)),
        episode("large", (10.0, 90.0)),
        episode("large, lower", (5.0, 85.0)),
        episode("large, lower, longer", (5.0, 85.0), "a much longer text"),
        episode("repeats", (0.0, 100.0), "lava lava lava lava lava"),
        episode("none", (50.0, 50.0)),
    ]
    names = [e.trial_id for e in by_clarity(found)]
    assert names == ["large, lower, longer", "large, lower", "large", "small", "repeats"]
    assert [e.trial_id for e in by_clarity(reversed(found))] == names
