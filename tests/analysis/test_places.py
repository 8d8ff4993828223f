"""Where a response starts over, and how long attempts are: by hand."""

from __future__ import annotations

from typing import Any

import pytest

from esr.analysis.lengths import attempt_lengths
from esr.analysis.places import Place, first_restart
from esr.runs.results import Trial

TEXT = "the sea the sea . wait , that is not right . add the two numbers ."
BEGIN = TEXT.index("wait")
END = TEXT.index("add")


def trial(response: str, attempts: list[tuple[str, float]], **more: Any) -> Trial:
    return Trial.model_validate(
        {
            "prompt": "How do I add?",
            "seed": 1,
            "response": response,
            "score": {"attempts": [{"attempt_text": t, "score": s} for t, s in attempts]},
            **more,
        }
    )


@pytest.mark.parametrize("quote", [TEXT[BEGIN:], TEXT[END:]])
def test_the_announcement_belongs_to_the_restart_whoever_quotes_it(quote: str) -> None:
    """A judge lets the second attempt begin with the announcement, or behind it."""
    place = first_restart(trial(TEXT, [(TEXT[: BEGIN - 1], 5), (quote, 90)]))
    assert place is not None
    assert place.start == BEGIN
    assert TEXT[BEGIN : place.end].startswith("wait , that is not right")
    assert place.end <= END


def test_places_that_are_not_known() -> None:
    text = "the sea . add the two numbers ."
    begins = text.index("add")
    silent = first_restart(trial(text, [("the sea .", 5), (text[begins:], 90)]))
    assert silent == Place(begins, begins), "a judge's restart that no word announces"
    assert first_restart(trial(text, [("the sea .", 5)])) is None
    assert first_restart(trial(text, [("the sea .", 5), ("words that are not there", 90)])) is None
    assert first_restart(trial(text, [("", 5), (text, 90)])) is None, "nothing stands before it"


def test_lengths_by_hand() -> None:
    trials = [
        trial("a b c", [("a b c", 10.0)], finish_reason="length", degraded=True),
        trial("a", [("a", 30.0)], finish_reason="stop", degraded=False),
        trial("a b", [("a", 0.0), ("b c d", 80.0)], finish_reason="stop", degraded=False),
        trial("a b", [("a", 0.0)], error="judge: failed"),
    ]
    only, first, last = attempt_lengths(trials)
    assert (only["n"], only["words"], only["score"]) == (2, 2.0, 20.0)
    assert (only["cut_off"], only["degraded"]) == (0.5, 0.5)
    assert only["score_by_words"] == pytest.approx(-1)
    assert (first["n"], first["words"], first["score"]) == (1, 1.0, 0.0)
    assert (last["words"], last["score"], last["score_by_words"]) == (3.0, 80.0, None)
    assert attempt_lengths([])[0]["words"] is None
