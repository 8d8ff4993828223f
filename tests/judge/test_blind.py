"""Blind judging: what the judge is told, and that cached answers of two arms stay apart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from esr.judge.base import Judge, JudgeRequest, Status, Verdict
from esr.judge.blind import BlindJudge, bare_prompts, hidden_label, shuffled_labels
from esr.judge.cache import Store
from esr.judge.completion import Completion, Stop
from esr.judge.lexical import LexicalJudge
from esr.judge.llm import LlmJudge
from esr.judge.prices import Usage
from esr.judge.rubric import get
from esr.models.prompts import Key
from tests.judge.test_cache import Scripted
from tests.judge_replies import ANSWER

REQUEST = JudgeRequest("Fry eggs? Stay on topic.", "Heat the pan.", "volcano", Key(("pan",)))
LABELS = ["volcano", "ghost", "moon", "whale", "ghost", "rose"]


class Listener:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.requests: list[JudgeRequest] = []
        self.info = LexicalJudge().info
        self.closed = False

    async def grade(self, request: JudgeRequest) -> Verdict:
        self.requests.append(request)
        return Verdict(Status.NO_ATTEMPTS)

    async def close(self) -> None:
        self.closed = True


def test_each_arm_changes_one_thing() -> None:
    hidden = hidden_label()(REQUEST)
    assert (hidden.latent_label, hidden.prompt) == ("", REQUEST.prompt)
    shuffled = shuffled_labels(LABELS, 0)(REQUEST)
    assert shuffled.latent_label in set(LABELS) - {"volcano"}
    bare = bare_prompts({REQUEST.prompt: "Fry eggs?"})(REQUEST)
    assert (bare.latent_label, bare.prompt) == ("volcano", "Fry eggs?")
    assert bare_prompts({})(REQUEST) == REQUEST
    for changed in (hidden, shuffled, bare):
        assert (changed.response, changed.key) == (REQUEST.response, REQUEST.key)


def test_every_label_gets_another_and_is_another_once() -> None:
    for seed in range(50):
        labels = shuffled_labels(LABELS, seed).labels
        assert set(labels) == set(labels.values()) == set(LABELS)
        assert all(label != other for label, other in labels.items())
        assert labels == shuffled_labels(reversed(LABELS), seed).labels
    assert len({tuple(shuffled_labels(LABELS, seed).labels.items()) for seed in range(50)}) > 10
    with pytest.raises(ValueError, match="at least two"):
        shuffled_labels(["moon", "moon"], 0)
    with pytest.raises(KeyError):
        shuffled_labels(["moon", "rose"], 0)(REQUEST)


def test_the_judge_behind_is_asked_blind_and_its_identity_says_so() -> None:
    listener = Listener()
    blind = BlindJudge(listener, hidden_label())
    asyncio.run(blind.grade(REQUEST))
    asyncio.run(blind.close())
    assert [request.latent_label for request in listener.requests] == [""]
    assert listener.closed
    infos = [
        listener.info,
        blind.info,
        BlindJudge(listener, shuffled_labels(LABELS, 0)).info,
        BlindJudge(listener, shuffled_labels(LABELS, 1)).info,
    ]
    assert len({str(info) for info in infos}) == 4
    assert {info.id for info in infos} == {"lexical"}


async def test_cached_answers_of_the_arms_stay_apart(tmp_path: Path) -> None:
    client = Scripted(
        Completion(ANSWER, Stop.END, Usage(10, 1)), store=Store(tmp_path / "c.sqlite")
    )
    told = LlmJudge(client, get("own"))
    arms: list[Judge] = [
        told,
        BlindJudge(told, hidden_label()),
        BlindJudge(told, shuffled_labels(LABELS, 0)),
        BlindJudge(told, bare_prompts({REQUEST.prompt: "Fry eggs?"})),
    ]
    for repeated in (False, True):
        for number, arm in enumerate(arms, 1):
            assert (await arm.grade(REQUEST)).status is Status.GRADED
            assert client.asked == (len(arms) if repeated else number)
    # An arm that is told the same is not paid again.
    await BlindJudge(told, bare_prompts({})).grade(REQUEST)
    assert client.asked == len(arms)
    await told.close()
