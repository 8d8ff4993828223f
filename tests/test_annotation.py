"""Marking episodes by a model: paid for once, failures asked again, within the spend limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esr.analysis.episodes import Episode
from esr.errors import SpendLimitError
from esr.judge import registry
from esr.judge.boundaries import Boundaries
from esr.judge.client import Completion, Request, Stop
from esr.pipeline.annotation import EpisodeConfig, mark
from tests import scripted

RESPONSE = "Lava flows. Wait, wrong. Peel apple {n}."


class Model:
    """Quotes the three parts; fails for the responses named."""

    model = "model-2026"

    def __init__(self, failing: set[int]) -> None:
        self.failing = failing
        self.asked: list[int] = []

    async def complete(self, request: Request) -> Completion:
        number = int(request.user.split("apple ")[1][0])
        self.asked.append(number)
        if number in self.failing:
            return Completion("", Stop.FAILED, cost=0.0)
        quotes = {"off_topic": "Lava", "correction": "Wait, wrong", "on_topic": "Peel apple"}
        return Completion(f"<json>{json.dumps(quotes)}</json>", Stop.END, cost=0.25)

    async def close(self) -> None:
        return None


def episodes(n: int) -> list[Episode]:
    return [
        Episode(f"t{i}", 1, "lava", 2.0, "q", RESPONSE.format(n=i), ("a", "b"), (0.0, 90.0))
        for i in range(n)
    ]


def asking(monkeypatch: pytest.MonkeyPatch, failing: set[int]) -> Model:
    model = Model(failing)

    def create(name: str, **options: Any) -> Model:
        del name, options
        return model

    monkeypatch.setattr(registry, "create_client", create)
    return model


CONFIG = EpisodeConfig(judge="haiku")


async def test_marks_are_kept_and_failures_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = asking(monkeypatch, {1})
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path)
        first = await mark(CONFIG, context, episodes(3))
        text = RESPONSE
        expected = Boundaries(0, text.index("Wait"), text.index("Peel"))
        assert first["t0"].boundaries == first["t2"].boundaries == expected
        assert first["t0"].method == "model-2026"
        assert first["t1"].boundaries is None
        assert first["t1"].status == "failed"
        assert context.spent == 0.5
        model.failing.clear()
        again = await mark(CONFIG, context, episodes(3))
    assert again["t1"].boundaries == expected
    assert sorted(model.asked) == [0, 1, 1, 2]


async def test_the_spend_limit_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking(monkeypatch, set())
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path, max_spend=0.2)
        context.spent = 0.3
        with pytest.raises(SpendLimitError):
            await mark(CONFIG, context, episodes(2))


async def test_an_offline_judge_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = asking(monkeypatch, set())
    offline = EpisodeConfig(judge="lexical")
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path)
        found = await mark(offline, context, episodes(1))
        assert found["t0"].boundaries is None, "the quotations do not stand in the text"
        assert (found["t0"].method, found["t0"].status) == ("offline", "not located")
        forced = EpisodeConfig(judge="lexical", boundaries="judge")
        assert not forced.offline(context)
    assert model.asked == []
