"""Concreteness of labels, boundaries of episodes, prices, and the second offline judge."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path

import pytest

from esr import judge
from esr.errors import JudgeError
from esr.judge import CallSettings, JudgeRequest, Status, prices
from esr.judge.boundaries import Boundaries, annotate, locate
from esr.judge.concreteness import rate
from esr.judge.overlap import OverlapJudge
from esr.judge.prices import Usage
from tests.judge_replies import Call, Reply
from tests.judge_server import JudgeServer

QUICK = CallSettings(retries=0)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-key-0123")


@pytest.fixture
async def server() -> AsyncIterator[JudgeServer]:
    async with JudgeServer().running() as running:
        yield running


def rate_by_length(call: Call) -> Reply:
    """Rates every label by its length."""
    labels = re.findall(r'^(\d+)\. (".*")$', call.user, re.MULTILINE)
    ratings = [{"number": int(n), "rating": len(json.loads(label))} for n, label in labels]
    return Reply(f"<json>{json.dumps({'ratings': ratings})}</json>")


def answer(ratings: list[dict[str, object]]) -> Callable[[Call], Reply]:
    return lambda _: Reply(f"<json>{json.dumps({'ratings': ratings})}</json>")


def judge_of(server: JudgeServer, folder: Path) -> judge.Judge:
    return judge.create(f"haiku@{server.url}", cache=folder / "c.sqlite", calls=QUICK)


async def test_labels_in_batches_of_fifty(server: JudgeServer, tmp_path: Path) -> None:
    server.behaviour = rate_by_length
    labels = [f"{'x' * (i % 40)}{i}" for i in range(120)] + ["feature_17", 'with "quotes"\nhere']
    grader = judge_of(server, tmp_path)
    assert await rate(grader, labels) == [
        0.0 if label == "feature_17" else float(len(label)) for label in labels
    ]
    assert len(server.calls) == 3
    assert all("feature_17" not in call.user for call in server.calls)
    await grader.close()


async def test_failed_rating_says_why_and_is_asked_again(
    server: JudgeServer, tmp_path: Path
) -> None:
    labels = ["volcanoes", "however", "knitting", "rivers"]
    grader = judge_of(server, tmp_path)
    for reply in (Reply("down", status=500), Reply("no idea"), Reply("", stop="refusal")):
        server.behaviour = lambda _, reply=reply: reply  # type: ignore[misc]
        with pytest.raises(JudgeError, match=rf"4 of 4 labels.*{reply.text}"):
            await rate(grader, labels)
    some: list[dict[str, object]] = [
        {"number": 1, "rating": 90},
        {"number": 2, "rating": 120},
        {"number": 3, "rating": "?"},
        {"number": 9, "rating": 50},
    ]
    server.behaviour = lambda call: (
        answer(some)(call) if "volcanoes" in call.user else Reply("no idea")
    )
    with pytest.raises(JudgeError, match=r"3 of 4 labels.*no idea"):
        await rate(grader, labels)
    server.behaviour = answer([{"number": n, "rating": 10 * n} for n in (1, 2, 3)])
    assert await rate(grader, labels) == [90.0, 10.0, 20.0, 30.0], "ratings so far are kept"
    asked = len(server.calls)
    assert await rate(grader, labels) == [90.0, 10.0, 20.0, 30.0]
    assert len(server.calls) == asked
    await grader.close()


async def test_word_list_rating() -> None:
    concrete, mixed, function, talk, none, placeholder = await rate(
        judge.create("lexical"),
        [
            "volcano, lava, crater",
            "the history of the violin",
            "of the and with",
            "sorry, wait, let me try again",
            "12, 34",
            "feature_123",
        ],
    )
    assert concrete == 100.0
    assert 0 < mixed < 65
    assert function == talk == none == placeholder == 0.0


EPISODE = "Boil the reef. Corals grow. Wait, that's wrong. To boil an egg, heat water."


async def test_boundaries(server: JudgeServer, tmp_path: Path) -> None:
    quotes = {
        "off_topic": "Boil the reef.",
        "correction": "wait, that's wrong.",
        "on_topic": "To boil an egg",
    }
    server.behaviour = lambda _: Reply(f"Thinking.\n<json>{json.dumps(quotes)}</json>")
    client = judge.create_client(f"haiku@{server.url}", cache=tmp_path / "c.sqlite")
    request = JudgeRequest("How do I boil an egg?", EPISODE, "coral reefs")
    annotation = await annotate(client, request)
    expected = Boundaries(0, EPISODE.index("Wait"), EPISODE.index("To boil"))
    assert annotation.boundaries == expected
    cost = client.ledger.spent
    assert cost > 0
    assert (await annotate(client, request)).boundaries == expected
    assert (len(server.calls), client.ledger.spent) == (1, cost)
    await client.close()


@pytest.mark.parametrize(
    ("reply", "status", "reason"),
    [
        (Reply("down", status=500), Status.FAILED, "server"),
        (Reply("", stop="refusal"), Status.REFUSED, "refused"),
        (Reply("no json"), Status.UNPARSEABLE, "no_json"),
        (
            Reply('{"off_topic": "Boil", "correction": "Nowhere to be found", "on_topic": "To"}'),
            Status.UNPARSEABLE,
            "quotes_not_found",
        ),
        (
            Reply('{"off_topic": "Wait", "correction": "Boil", "on_topic": "To"}'),
            Status.UNPARSEABLE,
            "quotes_not_found",
        ),
        (
            Reply('{"off_topic": null, "correction": null, "on_topic": null}'),
            Status.NO_ATTEMPTS,
            "",
        ),
    ],
)
async def test_no_boundaries(
    server: JudgeServer, reply: Reply, status: Status, reason: str
) -> None:
    server.behaviour = lambda _: reply
    client = judge.create_client(f"haiku@{server.url}", calls=QUICK)
    annotation = await annotate(client, JudgeRequest("p", EPISODE, "l"))
    assert (annotation.status, annotation.reason, annotation.boundaries) == (status, reason, None)
    await client.close()


def test_repeated_words_are_found_in_order() -> None:
    text = "No. Corals. No. Water."
    assert locate(text, "No.", "No.", "Water") == Boundaries(0, 12, 16)


def test_price_of_cached_tokens() -> None:
    usage = Usage(10_000, 1_000, cache_read=6_000, cache_write=2_000)
    haiku = prices.TABLE["claude-haiku-4-5"]
    expected = (
        2_000 * haiku.input
        + 6_000 * haiku.cache_read
        + 2_000 * haiku.cache_write
        + 1_000 * haiku.output
    ) / 1e6
    model = judge.resolve("haiku")
    assert prices.dollars(model, usage) == pytest.approx(expected)
    assert prices.dollars(model, usage, batch=True) == pytest.approx(expected / 2)
    assert prices.dollars("my-own-model", usage) == 0.0
    assert prices.price("my-own-model") is None
    assert prices.price("gemini-2.5-flash-lite") is None, "another model's price was used"


def test_every_named_judge_has_a_price() -> None:
    for name in judge.names():
        estimate = judge.estimate(name, 100)
        assert estimate.calls == 100
        assert estimate.dollars is not None
        assert (estimate.dollars > 0) == (name not in ("lexical", "overlap", "keyed"))


def test_estimate_grows_with_what_is_sent() -> None:
    def cost(**options: object) -> float:
        found = judge.estimate("haiku", 1000, **options).dollars  # type: ignore[arg-type]
        assert found is not None
        return found

    assert cost(response_characters=2000) > cost(response_characters=200)
    assert cost(batch=True) == pytest.approx(cost() / 2)
    assert str(judge.estimate("openai:mine@http://127.0.0.1:1/v1", 3)).endswith("price unknown")


def test_announced_end_of_a_model() -> None:
    assert judge.notice("haiku") == ""
    assert "stops serving" in judge.notice("gpt-5-mini", date(2026, 12, 10))
    assert "stopped serving" in judge.notice("gpt-5-mini", date(2026, 12, 11))


@pytest.mark.parametrize(
    ("text", "attempts"),
    [
        ("Heat the butter. Crack the eggs into the pan.", 1),
        ("The reef is blue. Wait, that's wrong. Heat the butter and crack the eggs.", 2),
        ("The reef is blue . wait , sorry . let me start over . heat the butter and eggs .", 2),
        ("The reef is deep. Sorry, that was a mistake. No, wrong again. Heat the pan slowly.", 2),
        ("Wait, let me start over. Heat the butter and crack the eggs.", 1),
        ("Heat the butter slowly. Wait, that was wrong.", 1),
        ("Wait for the butter to melt. Stir the eggs again.", 1),
        ("", 0),
        ("... 1 2 3", 0),
    ],
)
async def test_overlap_splits(text: str, attempts: int) -> None:
    verdict = await OverlapJudge().grade(JudgeRequest("How do I fry eggs?", text, "coral reefs"))
    assert len(verdict.attempts) == attempts
    assert verdict.status is (Status.GRADED if attempts else Status.NO_ATTEMPTS)


async def test_overlap_scores_follow_the_subject(tmp_path: Path) -> None:
    plain = OverlapJudge(tmp_path / "none.json")
    on, off = [
        (await plain.grade(JudgeRequest("How do I fry eggs?", text, "coral reefs"))).attempts[0]
        for text in ("To fry eggs, put the eggs into a frying pan.", "Corals build reefs. Reefs.")
    ]
    assert on.score > 90
    assert off.score < 10
    mixed = await plain.grade(
        JudgeRequest(
            "How do I fry eggs?", "The reefs are blue. Wait, wrong! Fry the eggs.", "coral reefs"
        )
    )
    first, *_, last = (attempt.score for attempt in mixed.attempts)
    assert first < last
