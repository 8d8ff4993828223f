"""Inspect on the organism, offline: provider, task, scorer, and what they refuse."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_ai import eval as run_eval
from inspect_ai._util.error import PrerequisiteError
from inspect_ai._util.registry import registry_lookup
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    get_model,
)
from inspect_ai.scorer import Score

from esr.engine.base import GenerationRequest, Sampling
from esr.engine.transformers import TransformersEngine
from esr.errors import UserError
from esr.evals import registry
from esr.evals.provider import EsrAPI
from esr.evals.scorer import VALUES, as_score
from esr.evals.tasks import engine_of, generate_config
from esr.judge.base import JudgeRequest, Status, Verdict
from esr.judge.lexical import LexicalJudge
from esr.models import chat, get
from esr.models.prompts import Prompt
from esr.pipeline.schema import TrialSpec, boosted
from esr.runs.paths import REPOSITORY
from esr.steering.interventions import Boost
from esr.steering.sae import load as load_sae
from tests import made_up_runs

LABELS = {1013: "presentations", 200: "truffles"}
QUESTION = Prompt("fractions", "How do I add two fractions?")


def spec(latent: int, number: int) -> TrialSpec:
    """A short trial; every latent has two, which differ in their seed."""
    drawn = Sampling(max_tokens=40, seed=10 * latent + number)
    name = f"{latent}/{number}"
    return boosted("steered", latent, LABELS[latent], 300.0, QUESTION, name, drawn)


SPECS = [spec(latent, number) for latent in LABELS for number in range(2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of experiment 1 with those trials; what it recorded of them is made up."""
    trials = made_up_runs.arm_of_trials("steered", 1, latents=2, each=2)
    for trial, own in zip(trials, SPECS, strict=True):
        trial |= {"feature_index_in_sae": own.latent, "threshold": own.threshold}
        trial |= {"trial_id": own.trial_id, "prompt": own.prompt, "spec": own.to_json()}
    root = tmp_path_factory.mktemp("runs")
    return made_up_runs.write_run(root, "experiment_01_esr", "aaaa", trials)


def evaluated(run: Path, folder: Path, **arguments: Any) -> EvalLog:
    """The task as users run it, on the reference engine."""
    (log,) = run_eval(
        "esr/esr",
        model="esr/tiny",
        model_args={"engine": "transformers"},
        task_args={"run": str(run), **arguments},
        log_dir=str(folder),
        display="none",
    )
    return log


@pytest.fixture(scope="module")
def steered(run: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    return evaluated(run, tmp_path_factory.mktemp("logs"))


def answers(specs: list[TrialSpec]) -> list[str]:
    """What the reference engine says without Inspect."""
    model = get("tiny")
    engine, form = TransformersEngine(model, load_sae(model.sae)), chat.load(model)

    async def ask() -> list[str]:
        prompt = form.prompt_ids(QUESTION.text)
        requests = [
            GenerationRequest(s.trial_id, prompt, s.interventions, s.sampling) for s in specs
        ]
        texts = [(await engine.generate(request)).text for request in requests]
        await engine.close()
        return texts

    return asyncio.run(ask())


def samples(log: EvalLog) -> list[EvalSample]:
    assert log.status == "success", log.error
    return sorted(log.samples or [], key=lambda s: [t.trial_id for t in SPECS].index(str(s.id)))


def score_of(sample: EvalSample) -> Score:
    return (sample.scores or {})["attempts"]


def test_each_sample_is_steered_by_its_own_latent_and_seed(steered: EvalLog) -> None:
    texts = [sample.output.completion for sample in samples(steered)]
    assert texts == answers(SPECS)
    assert len(set(texts)) == 4
    assert [s.metadata["latent"] for s in samples(steered)] == [1013, 1013, 200, 200]


def test_without_steering_the_same_seeds_answer_otherwise(run: Path, tmp_path: Path) -> None:
    log = evaluated(run, tmp_path, steering=False, n_latents=1)
    plain = [own.unsteered() for own in SPECS[:2]]
    assert [sample.output.completion for sample in samples(log)] == answers(plain)


def test_scores_are_the_judges(steered: EvalLog) -> None:
    for sample, own in zip(samples(steered), SPECS, strict=True):
        asked = JudgeRequest(own.prompt, sample.output.completion, own.latent_label)
        verdict = asyncio.run(LexicalJudge().grade(asked))
        score = score_of(sample)
        assert [a["score"] for a in (score.metadata or {})["attempts"]] == [
            a.score for a in verdict.attempts
        ]
        assert isinstance(score.value, dict)
        assert tuple(score.value) == VALUES
        assert score.value["first"] == verdict.attempts[0].score
        assert score.value["attempts"] == len(verdict.attempts)


def test_errors_are_clustered_by_latent(steered: EvalLog) -> None:
    """Two clusters of two: the standard error comes from the clusters' sums, by hand."""
    firsts = np.array([float(score_of(s).value["first"]) for s in samples(steered)])  # type: ignore[index,call-overload,arg-type]
    deviations = (firsts - firsts.mean()).reshape(2, 2).sum(axis=1)
    by_hand = math.sqrt((deviations**2).sum() * 2 / (2 - 1)) / 4
    assert steered.results
    scores = {score.name: score.metrics for score in steered.results.scores}
    assert scores["first"]["mean"].value == pytest.approx(firsts.mean())
    assert scores["first"]["stderr"].value == pytest.approx(by_hand)
    assert steered.eval.metadata
    assert steered.eval.metadata["thresholds"] == {"1013": 300.0, "200": 300.0}


@pytest.mark.parametrize("status", [Status.FAILED, Status.REFUSED, Status.NO_ATTEMPTS])
def test_a_verdict_without_scores_is_unscored_and_keeps_its_words(status: Status) -> None:
    score = as_score(Verdict(status, raw="HTTP 529", reason="busy"), "a response", "haiku")
    assert isinstance(score.value, float)
    assert math.isnan(score.value)
    assert score.explanation == "HTTP 529"
    assert str(status) in str(score.reason)


def test_later_epochs_have_seeds_of_their_own() -> None:
    metadata = {**SPECS[0].to_json()}
    seeds = [generate_config(metadata, epoch)["seed"] for epoch in (1, 2, 3)]
    assert seeds[0] == SPECS[0].sampling.seed
    assert len(set(seeds)) == 3


def request(config: GenerateConfig) -> GenerationRequest:
    api = EsrAPI("tiny", engine="transformers")
    return api._request((1, 2, 3), config)


def test_a_request_has_the_papers_sampling_where_nothing_is_asked() -> None:
    profile = get("tiny").profile("paper")
    drawn = request(GenerateConfig()).sampling
    assert drawn == Sampling(
        max_tokens=get("tiny").max_tokens, repetition_penalty=profile.repetition_penalty
    )
    body = {"interventions": [{"boost": 7, "value": 1.5}], "repetition_penalty": 1.3}
    asked = request(GenerateConfig(temperature=0.0, seed=5, extra_body=body))
    assert (asked.sampling.temperature, asked.sampling.seed) == (0.0, 5)
    assert asked.sampling.repetition_penalty == 1.3
    assert asked.interventions == (Boost(7, 1.5),)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (GenerateConfig(extra_body={"steering": []}), "unknown key of extra_body 'steering'"),
        (GenerateConfig(extra_body={"interventions": [{"push": 1}]}), "push"),
        (GenerateConfig(top_k=5), "the engine has no top_k"),
        (GenerateConfig(stop_seqs=["."]), "the engine has no stop_seqs"),
    ],
)
def test_nothing_that_is_asked_is_dropped_in_silence(config: GenerateConfig, named: str) -> None:
    with pytest.raises(UserError, match=named):
        request(config)


def test_another_conversation_than_one_user_turn_is_refused() -> None:
    api = EsrAPI("tiny", engine="transformers")
    turns: list[ChatMessage] = [
        ChatMessageSystem(content="Be brief."),
        ChatMessageUser(content="Hello?"),
    ]
    for messages in (turns, [*turns[1:], *turns[1:]]):
        with pytest.raises(UserError, match="one user turn"):
            asyncio.run(api.generate(list(messages), [], "none", GenerateConfig()))


def test_bad_arguments_and_other_models_end_in_one_line() -> None:
    with pytest.raises(PrerequisiteError, match="unknown model argument 'enigne'"):
        get_model("esr/tiny", enigne="vllm")
    with pytest.raises(PrerequisiteError, match="unknown model 'tinny'"):
        get_model("esr/tinny")
    with pytest.raises(UserError, match="cannot be steered"):
        engine_of(get_model("mockllm/model"))


def test_the_entry_point_registers_provider_task_solver_and_scorer() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert import_module(project["entry-points"]["inspect_ai"]["esr"]) is registry
    for kind, name in (
        *(("modelapi", "esr/esr"), ("task", "esr/esr")),
        *(("solver", "esr/steered"), ("scorer", "esr/attempts")),
    ):
        assert registry_lookup(kind, name) is not None, name  # type: ignore[arg-type]


def test_inspect_lists_the_task() -> None:
    command = [str(Path(sys.executable).with_name("inspect")), "list", "tasks", "esr/evals"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "tasks.py@esr" in result.stdout, result.stderr
