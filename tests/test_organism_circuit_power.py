"""Power of an ablation over how much of the restarts passes through the circuit."""

from __future__ import annotations

import numpy as np
import pytest

from esr.organism import circuit_power as power
from esr.organism.circuit_power import Trials, curves


def _trials(clamped_rate: float, random_rate: float = 0.5) -> Trials:
    rng = np.random.default_rng(0)
    latents = np.repeat(np.arange(20), 10)
    baseline = (rng.random(200) < 0.5).astype(float)
    return Trials(
        latents=latents.tolist(),
        prompts=[f"prompt {n % 10}" for n in range(200)],
        baseline=baseline,
        clamped=(rng.random(200) < clamped_rate).astype(float),
        random=(rng.random((20, 200)) < random_rate).astype(float),
    )


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "DRAWS", 40)
    monkeypatch.setattr(power, "SHARES", (0.0, 0.5, 1.0))


def test_a_whole_circuit_is_always_seen_and_none_hardly_ever() -> None:
    found = curves(_trials(0.0), seed=0)
    assert found["share"] == [0.0, 0.5, 1.0]
    assert found["measured"][0] <= 0.15
    assert found["measured"][-1] == found["outside"][-1] == 1.0
    assert found["outside"][0] <= 0.25
    assert found["cut"][-1] == pytest.approx(1.0)
    assert found["trials"] == 200
    assert found["measured"] == sorted(found["measured"])


def test_detectors_that_do_what_random_sets_do_are_not_seen() -> None:
    found = curves(_trials(0.5), seed=0)
    assert max(found["measured"]) <= 0.3
    assert abs(found["cut"][-1]) < 0.25


def test_the_same_seed_gives_the_same_curve() -> None:
    assert curves(_trials(0.1), 3) == curves(_trials(0.1), 3)


def test_the_papers_rate_needs_far_more_than_the_organism() -> None:
    found = curves(_trials(0.25), seed=0)
    assert found["paper"][1] <= found["measured"][1] + 0.1
