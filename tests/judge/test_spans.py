"""Where quotations stand in a response: in order, abridged, misquoted, repeated."""

from __future__ import annotations

import pytest

from esr.judge.spans import attempt_spans, find, spans_of
from esr.runs.results import Trial
from tests.made_up_runs import ON, RESTART


def test_quotes_are_found_in_order() -> None:
    text = f"{ON}{RESTART}{ON}"
    spans = attempt_spans(text, [ON.strip(), (RESTART + ON).strip()])
    assert spans[0] == (0, len(ON) - 1)
    assert spans[1] is not None
    assert text[slice(*spans[1])] == (RESTART + ON).strip()


def test_white_space_may_differ() -> None:
    text = "one  two\n\nthree four"
    assert attempt_spans(text, ["one two", "three\nfour"]) == [(0, 8), (10, 20)]


def test_a_shortened_quotation_reaches_to_the_next() -> None:
    text = "a b c d e f g h i j. Wait. k l m n o p q."
    spans = attempt_spans(text, ["a b c d e f ...", "k l m n o p [and so on]"])
    assert spans == [(0, text.index("k")), (text.index("k"), len(text))]


@pytest.mark.parametrize("quote", ["", "not there", "not there at all, not a word of it"])
def test_what_does_not_stand_there_is_not_placed(quote: str) -> None:
    assert attempt_spans("some text", [quote]) == [None]


def test_an_abridged_quotation_may_be_short() -> None:
    text = "The reef is blue and wide. Wait, no. Heat the butter."
    assert attempt_spans(text, ["The reef ... and wide.", "Wait, no. ... butter."]) == [
        (0, text.index("Wait")),
        (text.index("Wait"), len(text)),
    ]
    assert attempt_spans(text, ["The reef is wide."]) == [None], "another text is no abridged one"


def test_the_same_words_twice() -> None:
    text = "Boil it. No. Boil it."
    assert attempt_spans(text, ["Boil it.", "No. Boil it."]) == [(0, 8), (9, 21)]
    assert attempt_spans(text, ["Boil it.", "Boil it."]) == [(0, 8), (13, 21)]


def test_capitals_differ_only_where_that_is_asked_for() -> None:
    text = "\u0130stanbul. WAIT,  no."
    assert find(text, "wait, no.") is None
    assert find(text, "wait, no.", any_case=True) == (10, 20), "lower case changes no position"


def test_a_recorded_span_is_not_looked_up_again() -> None:
    def trial(**attempt: object) -> Trial:
        attempts = [{"attempt_text": "b", "score": 1, **attempt}]
        return Trial.model_validate(
            {"prompt": "", "seed": 0, "response": "a b", "score": {"attempts": attempts}}
        )

    assert spans_of(trial(span=[0, 1])) == [(0, 1)]
    assert spans_of(trial(span=None)) == spans_of(trial()) == [(2, 3)]
