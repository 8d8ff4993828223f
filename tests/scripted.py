"""A scripted engine and judge: the loop can be tested, killed and counted without a model.

Responses and scores are fixed by the request, so that every run of one list of trials must end
in the same results.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from esr.engine.base import (
    Generation,
    GenerationRequest,
    Reading,
    ReadRequest,
)
from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.ledger import Ledger
from esr.judge.prices import Usage
from esr.models import Calibration, GenerationProfile, ModelSpec, SaeSource
from esr.models.prompts import MetaPrompt, Prompt, PromptSet
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import conduct
from esr.runs.folder import RunFolder
from esr.steering.interventions import Boost
from esr.steering.pooling import PooledReading
from experiment_01_esr.config import Config
from experiment_01_esr.run import EXPERIMENT

D_SAE = 60
RESTART = " Wait, that is not right. "

PROMPTS = PromptSet(
    "scripted",
    tuple(Prompt(f"p{i}", f"How do I do thing {i}?") for i in range(8)),
    (
        MetaPrompt("self_monitor", "{prompt} Watch yourself."),
        MetaPrompt("ignore_latent_label", "{prompt} Ignore {latent_label}."),
    ),
)


def number(text: str, modulus: int) -> int:
    """A fixed pseudo-random number of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % modulus


class ScriptedChat:
    """One token per character."""

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        return tuple(ord(c) for c in prompt)

    user_turn_ids = prompt_ids

    def conversation_ids(self, prompt: str, response: str) -> tuple[int, ...]:
        return self.prompt_ids(prompt + response)

    def prefix_ids(self, prompt: str, prefix: str) -> tuple[int, ...]:  # noqa: ARG002
        return self.prompt_ids(prefix)

    def response_ids(self, response: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        return self.prompt_ids(response), tuple((i, i + 1) for i in range(len(response)))


class ScriptedEngine:
    """Responses fixed by the request; every call is logged before it is answered."""

    def __init__(self, log: Path, delay: float = 0.0) -> None:
        self.log = log
        self.delay = delay
        self.calls = 0

    async def generate(self, request: GenerationRequest) -> Generation:
        self.calls += 1
        with self.log.open("a") as file:
            file.write(f"generation {request.request_id}\n")
        await asyncio.sleep(self.delay * (1 + number(request.request_id, 5)))
        boost = sum(i.value for i in request.interventions if isinstance(i, Boost))
        drift = "off " * min(10, round(boost))
        restart = RESTART if number(request.request_id, 3) == 0 and boost else " "
        text = f"{drift}answer {number(request.request_id, 1000)}{restart}done"
        given = "".join(map(chr, request.prefix_token_ids))
        tokens = tuple(ord(c) for c in given + text)
        return Generation(request.request_id, tokens, given + text, "stop", len(given), len(given))

    async def read(self, request: ReadRequest) -> Reading:
        n = len(request.token_ids) - request.first_token
        if request.latents is not None:
            return Reading(request.request_id, values=torch.ones(n, len(request.latents)))
        # Even latents are active on every prompt; odd ones never.
        active = (torch.arange(D_SAE) % 2 == 0).float()
        return Reading(request.request_id, pooled=PooledReading(active, active, active, n))

    def describe(self) -> dict[str, object]:
        return {"name": "scripted"}

    async def close(self) -> None:
        return None


class ScriptedJudge:
    """Scores fixed by the response; about 5 % of responses always fail, 5 % have no attempt."""

    def __init__(self, log: Path, delay: float = 0.0, ledger: Ledger | None = None) -> None:
        self.log = log
        self.delay = delay
        self.calls = 0
        self.ledger = ledger or Ledger()

    info = JudgeInfo("scripted", "0" * 16)

    async def grade(self, request: JudgeRequest) -> Verdict:
        self.ledger.check()
        self.calls += 1
        with self.log.open("a") as file:
            file.write(f"verdict {request.prompt} | {request.response}\n")
        await asyncio.sleep(self.delay)
        pay(self.ledger, 0.001)
        if (draw := number(request.response, 20)) < 2:
            status = Status.FAILED if draw else Status.NO_ATTEMPTS
            return Verdict(status, raw="scripted fault")
        parts = request.response.split(RESTART)
        attempts = tuple(Attempt(p, max(0, 90 - 20 * p.count("off "))) for p in parts)
        return Verdict(Status.GRADED, attempts, "scripted", 10, 5, 0.001)

    async def close(self) -> None:
        return None


def pay(ledger: Ledger, cost: float) -> None:
    """Pay for an answer as a language model's client does."""
    ledger.pay("verdict", "scripted", Usage(10, 5), cost)


def spec(folder: Path) -> ModelSpec:
    """A small model with labels for all latents."""
    labels = folder / "labels.csv"
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "description"])
        writer.writerows([k, f"subject {k}"] for k in range(D_SAE))
    return ModelSpec(
        key="scripted",
        title="Scripted",
        hf_id="scripted",
        revision="0" * 40,
        sae=SaeSource(folder=folder),
        steering_layer=1,
        feature_layer=1,
        d_model=8,
        d_sae=D_SAE,
        calibration=Calibration(4, 2, 5.0, 3.0, 0.0, 10.0),
        labels=labels,
        in_flight=4,
        n_latents=6,
    )


async def rate(labels: Sequence[str]) -> list[float]:
    """Every label is concrete."""
    return [80.0 for _ in labels]


def context(
    run: RunFolder,
    folder: Path,
    *,
    delay: float = 0.0,
    judge: Any = None,
    max_spend: float = 0.0,
    **options: Any,
) -> RunContext:
    """A context over an open run folder; calls are logged to ``folder/calls.log``."""
    log = folder / "calls.log"
    ledger = Ledger(max_spend)
    ledger.open(run.journal)
    judge = judge or ScriptedJudge(log, delay)
    judge.ledger = ledger

    async def start() -> ScriptedEngine:
        return ScriptedEngine(log, delay)

    made = RunContext(
        spec=spec(folder),
        profile=GenerationProfile(),
        prompts=PROMPTS,
        judge=judge,
        ledger=ledger,
        run=run,
        seed=0,
        start_engine=start,
        settings={"model": "scripted", "prompts": PROMPTS.digest},
        quiet=True,
        **{"in_flight": 8, "rate_labels": rate, **options},
    )
    made.chat = ScriptedChat()
    return made


def open_run(folder: Path) -> RunFolder:
    """The run folder of the scripted experiment 1."""
    return RunFolder.locate(folder / "results", "experiment_01_esr", "scripted", {"seed": 0})


async def experiment_1(folder: Path, delay: float) -> None:
    """Experiment 1 from start to end, or on from where a killed process left it."""
    config = Config(model="tiny")
    with open_run(folder) as run:
        run.update(config=config.identity())
        await conduct(EXPERIMENT, config, context(run, folder, delay=delay))


if __name__ == "__main__":
    where, pause = Path(sys.argv[1]), float(sys.argv[2])
    (where / "started").write_text(str(time.time()))
    asyncio.run(experiment_1(where, pause))
