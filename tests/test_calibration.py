"""Calibration: finds a known root, does not loop on a mute judge, keeps what it measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.base import Judge as JudgeProtocol
from esr.pipeline.calibration import calibrate
from esr.pipeline.constants import TRIES_PER_ROUND
from esr.pipeline.schema import boosted
from esr.pipeline.trials import run_trials
from tests import scripted


class CurveJudge:
    """First-attempt score 100 without boost, falling linearly; 30 at boost 7."""

    info = JudgeInfo("curve", "0" * 16)

    def __init__(self) -> None:
        self.calls = 0

    async def grade(self, request: JudgeRequest) -> Verdict:
        self.calls += 1
        boost = float(request.response.split()[0])
        score = max(0.0, min(100.0, 100.0 - 10.0 * boost))
        return Verdict(Status.GRADED, (Attempt(request.response, score),))

    async def close(self) -> None:
        return None


class MuteJudge(CurveJudge):
    """Finds no attempt, ever."""

    async def grade(self, request: JudgeRequest) -> Verdict:
        self.calls += 1
        return Verdict(Status.NO_ATTEMPTS, raw=request.response)


@pytest.fixture(autouse=True)
def _responses_name_their_boost(monkeypatch: pytest.MonkeyPatch) -> None:
    generate = scripted.ScriptedEngine.generate

    async def named(self, request):  # type: ignore[no-untyped-def]
        answer = await generate(self, request)
        boost = sum(i.value for i in request.interventions)
        return scripted.Generation(answer.request_id, (), f"{boost} said", "stop")

    monkeypatch.setattr(scripted.ScriptedEngine, "generate", named)


async def run(folder: Path, judge: JudgeProtocol, latents: tuple[int, ...] = (3, 4)):  # type: ignore[no-untyped-def]
    with scripted.open_run(folder) as opened:
        context = scripted.context(opened, folder, judge=judge)
        return await calibrate(context, {k: f"subject {k}" for k in latents})


async def test_finds_the_root_and_reports_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = scripted.Calibration(12, 2, 5.0, 3.0, 0.0, 10.0)
    original = scripted.spec
    monkeypatch.setattr(scripted, "spec", lambda f: replace(original(f), calibration=settings))
    found = await run(tmp_path, CurveJudge())
    for threshold in found.values():
        assert threshold.value == pytest.approx(7.0, abs=0.75)
        assert threshold.low < threshold.value < threshold.high
        assert threshold.value == round(threshold.value, 2)
        assert (threshold.rounds, threshold.skipped, threshold.error) == (12, 0, None)


async def test_a_second_run_takes_thresholds_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    judge = CurveJudge()
    first = await run(tmp_path / "a", judge)
    calls = judge.calls
    assert await run(tmp_path / "b", judge) == first
    assert judge.calls == calls
    more = await run(tmp_path / "b", judge, (3, 4, 5))
    assert judge.calls > calls
    assert {k: more[k] for k in first} == first


async def test_a_mute_judge_ends_after_bounded_tries_and_is_not_cached(tmp_path: Path) -> None:
    judge = MuteJudge()
    (threshold,) = (await run(tmp_path, judge, (3,))).values()
    rounds = scripted.spec(tmp_path).calibration
    assert judge.calls == rounds.rounds * rounds.prompts_per_round * TRIES_PER_ROUND
    assert threshold.value is None
    assert threshold.skipped == rounds.rounds
    assert threshold.error == "calibration: 0 of 4 rounds scored"
    # Asked again, the judge answers: what failed was not kept.
    (again,) = (await run(tmp_path, CurveJudge(), (3,))).values()
    assert again.value is None, "answered verdicts of the journal are final"
    (tmp_path / "fresh").mkdir()
    (fresh,) = (await run(tmp_path / "fresh", CurveJudge(), (3,))).values()
    assert fresh.value is not None


async def test_calibration_does_not_wait_for_batches(tmp_path: Path) -> None:
    batches, urgent = CurveJudge(), CurveJudge()
    with scripted.open_run(tmp_path) as opened:
        context = scripted.context(opened, tmp_path, judge=batches, urgent_judge=urgent)
        found = await calibrate(context, {3: "subject 3"})
        assert found[3].value is not None
        assert (batches.calls, urgent.calls > 0) == (0, True)
        asked = urgent.calls
        trial = boosted(
            "trials", 3, "subject 3", 1.0, context.prompts.prompts[0], "t", context.sampling(1)
        )
        await run_trials([trial], context)
        assert (batches.calls, urgent.calls) == (1, asked)


async def test_every_round_is_recorded_with_its_boost_and_score(tmp_path: Path) -> None:
    threshold = (await run(tmp_path, CurveJudge(), (3,)))[3]
    assert len(threshold.scores) == threshold.rounds == 4
    assert threshold.scores[0][0] == pytest.approx(5.0, abs=1e-3)
    for boost, score in threshold.scores:
        assert boost is not None
        assert score == pytest.approx(100 - 10 * boost)


async def test_a_skipped_round_has_no_score(tmp_path: Path) -> None:
    threshold = (await run(tmp_path, MuteJudge(), (3,)))[3]
    assert [score for _, score in threshold.scores] == [None] * threshold.skipped
    assert threshold.skipped == 4


@pytest.mark.parametrize("key", [3, "3"])
async def test_prompts_that_a_latent_is_barred_from_are_not_drawn(
    tmp_path: Path, key: int | str
) -> None:
    every = [f"p{i}" for i in range(8)]
    with scripted.open_run(tmp_path) as opened:
        context = scripted.context(opened, tmp_path, judge=CurveJudge())
        assert [prompt.id for prompt in context.prompts.prompts] == every
        opened.journal.put("selection", "paper/2", {"barred": {key: every[2:]}})
        first, other = (await calibrate(context, {3: "subject 3", 4: "subject 4"})).values()
        assert first.value is not None
        assert other.value is not None
        drawn: dict[int, set[str]] = {3: set(), 4: set()}
        for _, made in opened.journal.values("generation"):
            drawn[made["spec"]["latent"]].add(made["spec"]["prompt_id"])
    assert drawn[3] == set(every[:2])
    assert drawn[4] > drawn[3]
