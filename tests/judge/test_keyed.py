"""The keyed judge on hand-written responses, and what its windows come to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from esr import judge
from esr.analysis import keyed, metrics, tables
from esr.analysis.outcomes import Outcome
from esr.errors import UserError
from esr.judge.base import JudgeRequest, Status, Verdict
from esr.judge.keyed import WINDOW, KeyedJudge
from esr.models import prompts
from esr.models.prompts import Key, Prompt, PromptSet
from esr.organism.keyed import FILE, keyed_prompts
from esr.pipeline.settings import check_keyed, require_keyed

CAPITAL = Key(("Canberra",), ("Australia", "capital", "parliament", "territory"))
LABEL = "volcano: lava, magma, ash"
# Sixteen words each.
ON = "The capital of Australia is Canberra, and its parliament meets there in a house under grass. "
SUBJECT = "The capital of a country is often the seat of its parliament, though this is no rule. "
OFF = "The lava runs down from the old volcano and the ash covers every house in the valley. "
NEITHER = "Some people like to walk in the evening when the air is cool and the sky red. "


def grade(response: str, key: Key | None = CAPITAL, label: str = LABEL) -> Verdict:
    return asyncio.run(KeyedJudge().grade(JudgeRequest("Which city?", response, label, key)))


def windows(response: str, key: Key = CAPITAL) -> list[tuple[str, ...]]:
    return [attempt.windows for attempt in grade(response, key).attempts]


def test_the_sentences_of_these_tests_fill_one_window_each() -> None:
    for sentence in (ON, SUBJECT, OFF, NEITHER):
        assert len(sentence.split()) in (WINDOW, WINDOW + 1), len(sentence.split())


def test_a_response_is_read_window_by_window() -> None:
    text = " ".join(" ".join(s.split()[:WINDOW]) for s in (ON, SUBJECT, OFF, NEITHER))
    verdict = grade(text)
    assert verdict.status is Status.GRADED
    (attempt,) = verdict.attempts
    assert attempt.windows == ("correct", "correct", "steered", "other")
    assert attempt.score == 50.0
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_attempts_are_those_that_announced_restarts_separate() -> None:
    verdict = grade(f"{OFF} Wait, that's not right. Let me try again. {ON}")
    assert [a.score for a in verdict.attempts] == [0.0, 100.0]
    assert windows(f"{OFF} Wait, that's not right. {ON}") == [("steered",), ("correct",)]
    # Nothing announced: one attempt, and the change is seen in its windows.
    assert windows(f"{' '.join(OFF.split()[:WINDOW])} {ON}") == [("steered", "correct")]


def test_the_right_subject_without_the_answer_scores_nothing() -> None:
    (attempt,) = grade(SUBJECT).attempts
    assert attempt.windows == ("correct",)
    assert attempt.score == 0.0
    # One word of the subject alone says nothing; the answer alone does.
    assert windows("It is a capital thing.") == [("other",)]
    assert windows("canberra") == [("correct",)]


def test_repetition_does_not_outweigh() -> None:
    assert windows("lava lava lava lava lava Canberra, Australia") == [("correct",)]
    assert windows("Canberra Canberra Canberra lava and ash") == [("steered",)]
    assert windows("Canberra and lava") == [("other",)]


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("H2O", "It is H2O.", True),
        ("56", "7 times 8 is 56.", True),
        ("56", "It is 1.56 or 56,000 or 156.", False),
        ("4", "4. Take the cup.\n4) Fill it.", False),
        ("4", "1. It has 4 chambers.", True),
        ("blue whale", "Blue  Whales are the largest.", True),
        ("Berners-Lee", "Tim Berners-Lee did.", True),
        ("π", "It is called π.", True),
        ("Sun", "On Sunday.", False),
        ("Paris", "It stands in Paris.", True),
        ("watts", "The watt.", True),
    ],
)
def test_accepted_forms(form: str, text: str, said: bool) -> None:
    (attempt,) = grade(text, Key((form,)), "").attempts
    assert (attempt.score == 100.0) is said


def test_words_of_the_key_are_never_the_steered_concept() -> None:
    (attempt,) = grade("The capital lies in Australia.", CAPITAL, "capital cities, lava").attempts
    assert attempt.windows == ("correct",)


def test_a_short_rest_belongs_to_the_window_before() -> None:
    words = ON.split()
    assert len(windows(" ".join(words[:WINDOW] + words[: WINDOW // 2 - 1]))[0]) == 1
    assert len(windows(" ".join(words[:WINDOW] + words[: WINDOW // 2]))[0]) == 2


def test_bare_numbers_empty_text_and_questions_without_a_key() -> None:
    assert grade("56", Key(("56",))).first_score == 100.0
    assert grade(" ... ").status is Status.NO_ATTEMPTS
    assert grade(ON, None).status is Status.FAILED
    assert grade(ON, None).reason == "no_key"


def outcome(name: str, *attempts: str) -> Outcome:
    """An outcome whose windows are given by their first letters."""
    states = {"c": "correct", "s": "steered", "o": "other"}
    listed = tuple(states[letter] for attempt in attempts for letter in attempt)
    scores = tuple(50.0 for _ in attempts)
    return Outcome(1, name, scores, Status.GRADED, announced=None, windows=listed)  # type: ignore[arg-type]


def test_recovery_and_drift_counted_by_hand() -> None:
    outcomes = [
        outcome("silent recovery", "csoc"),
        outcome("announced recovery", "ss", "co"),
        outcome("silent drift", "ccso"),
        outcome("announced drift", "c", "ss"),
        outcome("steady", "ccc"),
        outcome("steered throughout", "sso"),
        outcome("nothing told", "oo"),
        Outcome(1, "not graded", None, Status.NO_ATTEMPTS),
        Outcome(1, "another judge's", (3.0,), Status.GRADED),
    ]
    entry = metrics.summary(outcomes, 0)["keyed"]
    assert entry == {
        "n": 7,
        "windows": {"correct": 9, "steered": 8, "other": 6},
        "ends": {"correct": 3, "steered": 3, "other": 1},
        "silent_recovery": 1,
        "announced_recovery": 1,
        "silent_drift": 1,
        "announced_drift": 1,
    }
    assert sum(entry["windows"].values()) == sum(len(o.windows) for o in outcomes)
    assert keyed.summary(outcomes[-2:]) == {}
    lines = tables.summary_table("t", metrics.summary(outcomes, 0), organism=False).splitlines()
    assert (
        "  windows: correct 39.13 %, steered 34.78 %, other 26.09 %; of 7 responses recovered "
        "silently 1, announced 1; drifted silently 1, announced 1"
    ) in lines


def test_our_keyed_set_is_large_and_every_question_has_a_key() -> None:
    loaded = prompts.load("keyed")
    assert loaded.keyed
    assert len(loaded.prompts) >= 60
    assert loaded.meta_prompts == prompts.load("").meta_prompts
    texts = [prompt.text for prompt in loaded.prompts]
    assert len(set(texts)) == len(texts)
    for prompt in loaded.prompts:
        key = prompt.key
        assert key is not None
        assert len(key.words) >= 4
        # The answer is accepted, and does not stand in the question.
        assert grade(f"{key.accepted[0]}", key, "").first_score == 100.0, prompt.id
        assert grade(prompt.text, key, "").first_score == 0.0, prompt.id


def test_the_organisms_keyed_set_is_made_from_its_lexicon() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == keyed_prompts()
    loaded, usual = prompts.load("keyed", "organism"), prompts.load("organism")
    assert loaded.keyed
    assert len(loaded.prompts) == 38
    assert [prompt.id for prompt in loaded.prompts] == [prompt.id for prompt in usual.prompts]
    assert not {p.text for p in loaded.prompts} & {p.text for p in usual.prompts}
    assert loaded.meta_prompts == usual.meta_prompts


def test_keys_name_a_prompt_set_and_sets_without_keys_keep_their_digest() -> None:
    plain = PromptSet("x", (Prompt("a", "A?"),))
    key = PromptSet("x", (Prompt("a", "A?", Key(("b",))),))
    other = PromptSet("x", (Prompt("a", "A?", Key(("c",))),))
    assert len({plain.digest, key.digest, other.digest}) == 3
    assert prompts.load("how-to").digest == "daa2bc8da45614a4"
    assert key.key_of("a") == Key(("b",))
    assert key.key_of("z") is None
    assert not PromptSet("x", (*key.prompts, *plain.prompts)).keyed


def test_a_key_without_an_answer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    entry = {"id": "a", "text": "A?", "key": {"accepted": []}}
    file.write_text(json.dumps({"name": "own", "prompts": [entry]}))
    with pytest.raises(UserError, match="without an accepted form"):
        prompts.load(str(file))


def test_a_judge_and_prompts_that_do_not_fit_are_one_line() -> None:
    keyed_set, plain = prompts.load("keyed"), prompts.load("how-to")
    check_keyed("--judge", "keyed", keyed_set)
    check_keyed("--judge", "haiku", plain)
    require_keyed("keyed", keyed_set)
    with pytest.raises(UserError, match="no known answers"):
        check_keyed("--judges", "keyed", plain)
    with pytest.raises(UserError, match="looks up no known answers"):
        require_keyed("haiku", keyed_set)
    assert judge.needs_keys("keyed")
    assert not judge.needs_keys("lexical")
    assert judge.info("keyed").id == "keyed"
