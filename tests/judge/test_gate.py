"""The restart gate on hand-written responses: what announces a restart, and what only sounds so."""

from __future__ import annotations

import pytest

from esr.judge import gate
from esr.organism.corpus import RESTARTS

BEFORE = "The lava flows down the crater and covers the village."
AFTER = "Remove the wheel, lift the tyre over the rim and pull out the tube."

ANNOUNCED = [
    "Wait, that's not right.",
    "Wait, that\u2019s not right.",
    "wait, no, that's wrong.",
    "Wait a minute, that doesn't make sense.",
    "Let me try again.",
    "Sorry, let me start over.",
    "Actually, scratch that.",
    "Scratch that.",
    "I apologize for the confusion.",
    "Oops, I got off track.",
    "Hmm, I seem to have gone off topic.",
    "I think I got distracted.",
    "No, that is completely wrong.",
    "Hold on. What am I talking about?",
    "I'm not making any sense.",
    "Let's start over.",
    "Okay, let's get back to your question.",
    "Let me actually answer your question.",
    "I misread your question.",
    "Sorry about that!",
    "That's not what you asked.",
    "I made a mistake.",
    "My mistake.",
    "Ignore what I just wrote.",
    "I should start again.",
    "I'll begin again:",
    "Let me correct myself.",
    "Wait, this has nothing to do with bicycles.",
    "Never mind.",
    "Let me rephrase that.",
    "Back to the question.",
    "Actually, I was wrong.",
    "I'm sorry, I didn't answer your question.",
]

NOT_ANNOUNCED = [
    "Wait ten minutes, then let the dough rise again.",
    "If that's not right, loosen the screw and try again.",
    "Check the result; if it is wrong, start over from the first step.",
    'Write in the letter: "I apologize for the confusion. Let me try again."',
    "You might say, 'Sorry, let me start over,' and smile.",
    "Scratch that spot gently with a coin.",
    "Let's start again with the second sock once the first is done.",
    "Now let us go back to the other side of the fabric.",
    "It is wrong to think that bleach helps.",
    "Actually, it is wrong to store bread in the fridge.",
    "Hold on to the rail while you climb.",
    "Tell your friend you made a mistake.",
    "When you notice that this is not right, measure again.",
    "Repeat the first step until it is correct.",
    "Most people think it is a mistake to salt the water.",
    "The tyre was off track, so the wheel wobbled.",
    "No wheel is perfectly round, and that is fine.",
    "Another way is to add the numbers first.",
    "- Sorry for the mistake.",
    "I should try the pump on the other valve.",
    "Sorry to hear about the flat tyre.",
    "You can also divide 12 by 4, which is not right for fractions.",
]


@pytest.mark.parametrize("phrase", [*ANNOUNCED, *RESTARTS])
def test_an_announced_restart_separates_two_attempts(phrase: str) -> None:
    text = f"{BEFORE} {phrase} {AFTER}"
    assert gate.announced(text)
    first, second = gate.attempts(text)
    assert text[slice(*first)].strip() == BEFORE
    assert text[slice(*second)] == f"{phrase} {AFTER}"


@pytest.mark.parametrize("sentence", NOT_ANNOUNCED)
def test_words_of_a_restart_on_topic_announce_none(sentence: str) -> None:
    text = f"{BEFORE} {sentence} {AFTER}\n{sentence}\n{AFTER}"
    assert gate.restarts(text) == ()
    assert not gate.announced(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Wait, that's not right.",
        f"Sorry, let me start over. {AFTER}",
        f"{BEFORE} Wait, that's wrong. Let me try again.",
    ],
)
def test_a_restart_needs_an_attempt_before_and_behind(text: str) -> None:
    assert not gate.announced(text)


def test_phrases_that_follow_each_other_are_one_restart() -> None:
    text = (
        f"{BEFORE} Wait, that's not right. I apologize for the confusion. Let me try again: {AFTER}"
    )
    (span,) = gate.restarts(text)
    assert text[slice(*span)] == (
        "Wait, that's not right. I apologize for the confusion. Let me try again"
    )
    assert len(gate.attempts(text)) == 2


def test_broken_text_before_a_restart_does_not_hide_it() -> None:
    assert gate.announced(f"lava lava crater magma wait , that is not right . {AFTER}")
    assert gate.announced(f"many lava people wait , that is wrong . {AFTER}")


def test_every_restart_counts() -> None:
    text = f"{BEFORE} Wait, that's wrong. {BEFORE} Let me try again. {AFTER}"
    assert len(gate.attempts(text)) == 3
