"""Marking episodes by a model: paid for once, failures asked again, within the spend limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esr.analysis.episodes import Episode
from esr.errors import SpendLimitError, UserError
from esr.judge.boundaries import Boundaries
from esr.judge.client import Client
from esr.judge.completion import Completion, Request, Stop, failed
from esr.judge.faults import Fault
from esr.judge.llm import LlmJudge
from esr.judge.prices import Usage
from esr.judge.rubric import Rubric
from esr.pipeline.annotation import EpisodeConfig, mark
from esr.pipeline.context import RunContext
from esr.runs.folder import RunFolder
from tests import scripted

RESPONSE = "Lava flows. Wait, wrong. Peel apple {n}."


class Model(Client):
    """Quotes the three parts; fails for the responses named."""

    provider = "scripted"

    def __init__(self, failing: set[int]) -> None:
        super().__init__("model-2026", key="", base_url="")
        self.failing = failing
        self.asked: list[int] = []

    async def _send(self, request: Request) -> Completion:
        number = int(request.user.split("apple ")[1][0])
        self.asked.append(number)
        if number in self.failing:
            return failed(Fault.SERVER, "down")
        quotes = {"off_topic": "Lava", "correction": "Wait, wrong", "on_topic": "Peel apple"}
        text = f"<json>{json.dumps(quotes)}</json>"
        return Completion(text, Stop.END, Usage(1, 1, charged=0.25))

    async def _close(self) -> None:
        return None


def episodes(n: int) -> list[Episode]:
    return [
        Episode(f"t{i}", 1, "lava", 2.0, "q", RESPONSE.format(n=i), ("a", "b"), (0.0, 90.0))
        for i in range(n)
    ]


def context_of(run: RunFolder, folder: Path, model: Model, **options: Any) -> RunContext:
    context = scripted.context(
        run, folder, judge=LlmJudge(model, Rubric("r", "s", "$prompt")), **options
    )
    model.ledger = context.ledger
    return context


CONFIG = EpisodeConfig(judge="haiku")


async def test_marks_are_kept_and_failures_asked_again(tmp_path: Path) -> None:
    model = Model({1})
    with scripted.open_run(tmp_path) as run:
        context = context_of(run, tmp_path, model)
        first = await mark(CONFIG, context, episodes(3))
        text = RESPONSE
        expected = Boundaries(0, text.index("Wait"), text.index("Peel"))
        assert first["t0"].boundaries == first["t2"].boundaries == expected
        assert first["t0"].method == "model-2026"
        assert first["t1"].boundaries is None
        assert first["t1"].status == "failed"
        assert context.ledger.spent == 0.5
        model.failing.clear()
        again = await mark(CONFIG, context, episodes(3))
    assert again["t1"].boundaries == expected
    assert sorted(model.asked) == [0, 1, 1, 2]


async def test_the_spend_limit_holds_over_repetitions(tmp_path: Path) -> None:
    model = Model({0})
    for _ in range(3):
        with pytest.raises(SpendLimitError), scripted.open_run(tmp_path) as run:  # noqa: PT012
            context = context_of(run, tmp_path, model, max_spend=0.7)
            for episode in episodes(6):
                await mark(CONFIG, context, [episode])
    assert sorted(model.asked) == [0, 1, 2, 3], "0.25 each, of 0.7; a failure is free"


async def test_an_offline_judge_asks_nobody(tmp_path: Path) -> None:
    offline = EpisodeConfig(judge="lexical")
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path)
        marks = await mark(offline, context, episodes(1))
        assert marks["t0"].boundaries is None, "the quotations do not stand in the text"
        assert (marks["t0"].method, marks["t0"].status) == ("offline", "not located")
        forced = EpisodeConfig(judge="lexical", boundaries="judge")
        with pytest.raises(UserError, match="'lexical' is no language model"):
            await mark(forced, context, episodes(1))
