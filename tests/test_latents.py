"""Choosing latents: both filters, and label files a user may get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esr.engine.base import Reading, ReadRequest
from esr.errors import JudgeError
from esr.pipeline import latents
from esr.steering.pooling import PooledReading
from tests import scripted


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


async def test_release_filter_keeps_concrete_latents_silent_on_every_prompt(
    tmp_path: Path,
) -> None:
    async def rate(labels: list[str]) -> list[float | None]:
        return [64.0 if int(label.split()[1]) % 3 == 0 else 65.0 for label in labels]

    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path, rate_labels=rate)
        chosen = await latents.select(context, 5)
        assert len(chosen.labels) == 5
        # Odd latents are silent in the scripted engine; multiples of 3 are not concrete.
        assert all(k % 2 == 1 and k % 3 for k in chosen.labels)
        assert chosen.labels == {k: f"subject {k}" for k in chosen.labels}
        again = await latents.select(context, 5)
        assert again == chosen
        everything = await latents.select(context, 50)
    assert set(everything.labels) == {k for k in range(60) if k % 2 == 1 and k % 3}
    assert everything.note == "only 20 of 50 latents pass the filter"
    assert everything.drawn == 60


async def test_the_draw_depends_on_the_seed(tmp_path: Path) -> None:
    found: list[list[int]] = []
    for seed in (0, 0, 1):
        folder = tmp_path / f"{len(found)}"
        folder.mkdir()
        with scripted.open_run(folder) as run:
            context = scripted.context(run, folder)
            context.seed = seed
            found.append(list((await latents.select(context, 6)).labels))
    assert found[0] == found[1]
    assert found[0] != found[2]


async def test_a_rating_that_failed_stops_and_nothing_is_chosen(tmp_path: Path) -> None:
    async def fail(_: list[str]) -> list[float]:
        raise JudgeError("1 of 15 labels could not be rated")

    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path, rate_labels=fail)
        with pytest.raises(JudgeError):
            await latents.select(context, 5)
        assert context.run.journal.count("selection") == 0


async def test_paper_filter_bars_the_most_active_latents_prompt_by_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "MOST_ACTIVE_PER_PROMPT", 10)

    async def read(_: object, request: ReadRequest) -> Reading:
        # On prompt p<i>, the latents 6i to 6i+9 are the most active.
        start = 6 * int(request.request_id[-1])
        mean = torch.rand(60, generator=torch.Generator().manual_seed(0))
        mean[start : start + 10] += 2
        assert request.first_token > 0, "responses are read, not prompts"
        return Reading(request.request_id, pooled=PooledReading(mean, mean, mean, 3))

    monkeypatch.setattr(scripted.ScriptedEngine, "read", read)

    async def rate(labels: list[str]) -> list[float | None]:
        return [float(label.split()[1]) for label in labels]

    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path, rate_labels=rate)
        chosen = await latents.select(context, 20, "paper")
    assert chosen.drawn == 60
    assert chosen.concrete == 30, "half lie at or above the median"
    assert min(chosen.labels) >= 30
    for latent, prompts in chosen.barred.items():
        assert prompts == [f"p{i}" for i in range(8) if 6 * i <= latent < 6 * i + 10]
    assert chosen.barred
