"""The lexical judge against hand-written responses."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from esr.judge.base import JudgeRequest, Status, Verdict
from esr.judge.lexical import RESTART_PHRASES, LexicalJudge

PROMPT = "How do I change a bicycle tire?"
LABEL = "volcano: lava, magma, ash"
ON = "first , inflate the tube with the pump . the lever and the rim often patch ."
OFF = "a good volcano needs a crater . the lava can erupt ."


@pytest.fixture(scope="module")
def judge() -> LexicalJudge:
    return LexicalJudge()


def grade(judge: LexicalJudge, response: str, prompt: str = PROMPT, label: str = LABEL) -> Verdict:
    return asyncio.run(judge.grade(JudgeRequest(prompt, response, label)))


@pytest.mark.parametrize(
    "phrase",
    [
        "wait , that is not right .",
        "Wait, that's not right.",
        "Wait, that\u2019s not right.",
        "Wait a minute, that isn't right.",
        "wait , that is wrong .",
        "let me try again .",
        "Let me start over.",
        "sorry , let me start over .",
        "Sorry, let me try that again!",
        "hold on , i went off topic .",
        "no , i should start over .",
        "oops , let me begin again .",
        "Hmm. I got off track; I'll start again.",
        "Wait, no, that's not what you asked.",
        "I apologize for the confusion.",
    ],
)
def test_explicit_restart_opens_an_attempt(judge: LexicalJudge, phrase: str) -> None:
    verdict = grade(judge, f"{OFF} {phrase} {ON}")
    assert verdict.status is Status.GRADED
    assert [a.score for a in verdict.attempts] == [0.0, 100.0]
    # Nothing of the response is lost or said twice.
    joined = " ".join(a.text for a in verdict.attempts)
    assert joined.split() == f"{OFF} {phrase} {ON}".split()


@pytest.mark.parametrize(
    "text",
    [
        "inflate the tube . another way is to patch the rim . pedal the wheel with the pump .",
        "inflate the tube . in other words , patch the tube . also , pedal with the pump and rim .",
        "inflate the tube . inflate the tube . patch the rim . pedal the wheel .",
        "inflate the tube and wait a while . if the rim is right , patch the wheel and pump .",
        "inflate the tube . you can start the pump again . try the lever again and patch the rim .",
        "let me explain . inflate the tube , patch the rim , and pedal the wheel .",
    ],
)
def test_elaboration_and_repetition_are_one_attempt(judge: LexicalJudge, text: str) -> None:
    verdict = grade(judge, text)
    assert len(verdict.attempts) == 1
    assert verdict.first_score is not None
    assert verdict.first_score > 90


def test_leading_restart_is_no_attempt_of_its_own(judge: LexicalJudge) -> None:
    verdict = grade(judge, f"I'll try again. {ON}")
    assert [a.score for a in verdict.attempts] == [100.0]


def test_one_content_word_is_not_an_attempt(judge: LexicalJudge) -> None:
    assert len(grade(judge, f"the lava . let me try again . {ON}").attempts) == 1
    assert len(grade(judge, f"the lava ash . let me try again . {ON}").attempts) == 2


def test_trailing_restart_opens_nothing(judge: LexicalJudge) -> None:
    verdict = grade(judge, f"{OFF} wait , that is not right . let me")
    assert len(verdict.attempts) == 1
    assert verdict.first_score == 0.0


def test_two_restarts_and_adjacent_phrases(judge: LexicalJudge) -> None:
    three = grade(judge, f"{OFF} let me try again . {OFF} sorry , let me start over . {ON}")
    assert [a.score for a in three.attempts] == [0.0, 0.0, 100.0]
    two = grade(
        judge, f"{OFF} wait , that is not right . i went off topic . let me try again . {ON}"
    )
    assert [a.score for a in two.attempts] == [0.0, 100.0]


@pytest.mark.parametrize(
    "text", ["", "   \n", "wait , that is not right .", "... let me try again !"]
)
def test_nothing_attempted(judge: LexicalJudge, text: str) -> None:
    verdict = grade(judge, text)
    assert verdict.status is Status.NO_ATTEMPTS
    assert verdict.attempts == ()


@pytest.mark.parametrize("text", ["the of the the of", "xyzzy plugh qwerty", "of"])
def test_nonsense_is_an_attempt_with_a_low_score(judge: LexicalJudge, text: str) -> None:
    verdict = grade(judge, text)
    assert verdict.status is Status.GRADED
    assert [a.score for a in verdict.attempts] == [0.0]


def test_mixed_answer_scores_the_share_of_topic_words(judge: LexicalJudge) -> None:
    # four words of the topic (tube, rim, patch, pump), four of others (lava, magma, chess, pawn)
    text = "the tube and the lava . the rim and the magma . patch the chess . the pump and a pawn ."
    assert grade(judge, text).first_score == pytest.approx(50.0)


def test_few_topic_words_and_repetition_cost(judge: LexicalJudge) -> None:
    assert grade(judge, "the tube is in the rim .").first_score == pytest.approx(50.0)
    assert grade(judge, "tube tube tube tube tube").first_score == pytest.approx(
        100 * 5 / 9 / 4, abs=0.1
    )


def test_label_named_in_the_prompt_is_not_the_topic(judge: LexicalJudge) -> None:
    prompt = f"{PROMPT} Do not think about {LABEL}."
    assert grade(judge, OFF, prompt).first_score == 0.0
    assert grade(judge, ON, prompt).first_score == 100.0


def test_fallback_outside_the_lexicon(judge: LexicalJudge) -> None:
    prompt, label = "What is the capital of France?", "references to submarines"
    good = grade(judge, "The capital of France is Paris.", prompt, label)
    bad = grade(judge, "Submarines dive under water, as submarines do.", prompt, label)
    assert good.first_score == 100.0
    assert bad.first_score == 0.0


def test_identity_follows_phrases_and_lexicon(judge: LexicalJudge, tmp_path: Path) -> None:
    assert judge.info.id == "lexical"
    assert LexicalJudge().info == judge.info
    fewer = LexicalJudge(phrases=RESTART_PHRASES[:-1])
    path = tmp_path / "lexicon.json"
    path.write_text(json.dumps({"topics": {"a": {"nouns": ["alpha"], "verbs": ["beta"]}}}))
    other = LexicalJudge(path)
    assert len({judge.info.rubric_hash, fewer.info.rubric_hash, other.info.rubric_hash}) == 3
    asyncio.run(judge.close())
