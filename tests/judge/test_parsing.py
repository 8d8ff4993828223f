"""Reading a judge's answer: what counts, and how each kind of rubbish is named."""

from __future__ import annotations

import pytest

from esr.judge.base import Attempt, JudgeRequest, Status, Verdict
from esr.judge.parsing import Reason, read_attempts, verbatim
from esr.judge.rubric import Rubric, get

OWN = get("own")
ONE = '{"attempts": [{"attempt_text": "a", "score": 70}]}'
TWO = '{"attempts": [{"attempt_text": "a", "score": 5}, {"attempt_text": "b", "score": 80.5}]}'


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        (f"<json>{ONE}</json>", [70.0]),
        (f"The response restarts once.\n<json>\n{TWO}\n</json>\nThat is all.", [5.0, 80.5]),
        (f"<json>```json\n{ONE}\n```</json>", [70.0]),
        (f"```json\n{ONE}\n```", [70.0]),
        (f"Here you are: {ONE} - hope it helps", [70.0]),
        (ONE, [70.0]),
        (f"<json>{ONE}", [70.0]),
        (f"<JSON>{ONE}</JSON>", [70.0]),
        (f"<think>maybe <json>{TWO}</json></think><json>{ONE}</json>", [70.0]),
        (f"First I thought <json>{TWO}</json> but no: <json>{ONE}</json>", [70.0]),
        ('The text says {oops}. <json>{"attempts": []}</json>', []),
        ('<json>{"attempts": [{"attempt_text": "line\nbreak", "score": 0}]}</json>', [0.0]),
        ('{"reasoning": "two", "attempts": [{"attempt_text": "x", "score": 100}]}', [100.0]),
    ],
)
def test_answers(text: str, scores: list[float]) -> None:
    status, attempts, reason = read_attempts(text)
    assert status is (Status.GRADED if scores else Status.NO_ATTEMPTS)
    assert [attempt.score for attempt in attempts] == scores
    assert reason is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.EMPTY),
        (" \n", Reason.EMPTY),
        ("<think>never got further</think>", Reason.EMPTY),
        ("I would say about 70.", Reason.NO_JSON),
        ("<json></json>", Reason.NO_JSON),
        (f"<json>{TWO[:50]}</json>", Reason.BAD_JSON),
        (TWO[:-3], Reason.BAD_JSON),
        ('<json>{"score": 70}</json>', Reason.NO_ATTEMPTS_KEY),
        ('{"attempts": "none"}', Reason.BAD_ATTEMPT),
        ('{"attempts": [{"attempt_text": "a"}]}', Reason.BAD_ATTEMPT),
        ('{"attempts": [{"attempt_text": "a", "score": "high"}]}', Reason.BAD_ATTEMPT),
        ('{"attempts": [{"attempt_text": "a", "score": true}]}', Reason.BAD_ATTEMPT),
        ('{"attempts": [{"attempt_text": "a", "score": 101}]}', Reason.SCORE_RANGE),
        ('{"attempts": [{"attempt_text": "a", "score": -1}]}', Reason.SCORE_RANGE),
        ('{"attempts": [{"attempt_text": "a", "score": Infinity}]}', Reason.SCORE_RANGE),
        ('{"attempts": [{"attempt_text": "a", "score": NaN}]}', Reason.SCORE_RANGE),
        (
            '{"attempts": [{"attempt_text": "a", "score": 50}, {"attempt_text": "b"}]}',
            Reason.BAD_ATTEMPT,
        ),
    ],
)
def test_rubbish(text: str, reason: Reason) -> None:
    assert read_attempts(text) == (Status.UNPARSEABLE, (), reason)


def test_token_cap() -> None:
    assert read_attempts(TWO[:50], truncated=True)[2] is Reason.TRUNCATED
    # The cap may also fall behind the answer.
    assert read_attempts(f"<json>{ONE}</json>", truncated=True)[0] is Status.GRADED


def test_attempt_text_is_the_response() -> None:
    response = "First the glacier, cold and blue. Wait, that's wrong. Heat the butter, then eggs."
    quotes = (
        Attempt("First the glacier ... and blue.", 10),
        Attempt("Wait, that's wrong. Heat the", 90),
    )
    whole = verbatim(quotes, response)
    assert [a.text for a in whole] == [response[:33], response[34:]]
    assert [a.score for a in whole] == [10, 90]
    assert verbatim((Attempt("not in it", 10),), response) == (Attempt("not in it", 10),)
    swapped = quotes[::-1]
    assert verbatim(swapped, response) == swapped, "quotes out of order are left as they are"


def test_verdict_survives_the_journal() -> None:
    verdict = Verdict(Status.UNPARSEABLE, raw="?", input_tokens=3, cost=0.1, reason="no_json")
    assert Verdict.from_json(verdict.to_json()) == verdict
    old = {key: value for key, value in verdict.to_json().items() if key != "reason"}
    assert Verdict.from_json(old).reason == ""


def test_rubric_hash_covers_what_is_sent() -> None:
    assert OWN.hash("tags") != OWN.hash("schema")
    assert Rubric("x", OWN.system + " ", OWN.layout, endings=OWN.endings).hash("tags") != OWN.hash(
        "tags"
    )
    assert Rubric("x", OWN.system, OWN.layout, endings=OWN.endings).hash("tags") == OWN.hash("tags")


def test_request_keeps_odd_text() -> None:
    question = JudgeRequest("cost in $?", "${response} $label <json>{}</json>", "")
    request = OWN.request(question, "tags")
    assert question.response in request.user
    assert question.prompt in request.user
    assert "(unknown)" in request.user
    plain = Rubric("upstream", "s", "Prompt: $prompt", fixed="i")
    assert plain.output("schema") == "tags", "a rubric without a schema form asks for tags"
