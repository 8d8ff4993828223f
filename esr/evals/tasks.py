"""The task ``esr/esr``: trials of a run of experiment 1, steered once more and judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfigArgs, Model, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from esr import judge as judges
from esr.engine.base import Sampling
from esr.errors import UserError
from esr.evals.provider import EsrAPI, one_line
from esr.evals.scorer import CLUSTER, attempts
from esr.models import prompts
from esr.pipeline import replay
from esr.pipeline.cli import ReplayConfig
from esr.pipeline.schema import TrialSpec
from esr.runs import seeds

CARRIED = ("prompt_id", "interventions", "scope", "sampling", "prefix_token_ids")
"""What a sample's metadata takes over from a trial's spec."""

STEERING = ("interventions", "scope", "prefix_token_ids")
"""What of it goes to the provider as it is."""

VERSION = 1
"""Of the task: raised whenever its samples, its solver or its scores change."""


@task
def esr(
    run: str = "",
    judge: str = "",
    rubric: str = "own",
    steering: bool = True,
    n_latents: int | None = None,
    n_trials: int | None = None,
) -> Task:
    """How often a model that is steered off topic starts over and answers (ESR rate).

    Args:
        run: run folder or results file of experiment 1; the newest complete one of the model, of
            the default settings, where left out.
        judge: the model's default where left out.
        rubric: ``own`` or ``upstream``.
        steering: False gives the same questions without a boost.
        n_latents: only the first so many latents.
        n_trials: only the first so many trials of each.
    """
    with one_line():
        api = engine_of(get_model())
        options = ReplayConfig(**{**vars(api.options), "from_results": run, "judge": judge})
        parent = replay.find(options, api.spec)
        judges.info(judge or api.spec.judge, rubric)
    questions = prompts.load("", api.spec.prompt_set)

    def sampling(seed: int) -> Sampling:
        penalty = api.profile.repetition_penalty
        return Sampling(max_tokens=api.spec.max_tokens, repetition_penalty=penalty, seed=seed)

    specs = list(parent.specs(questions, sampling, n_latents, n_trials))
    samples = [sample(spec if steering else spec.unsteered()) for spec in specs]
    return Task(
        dataset=MemoryDataset(samples, name=f"{parent.run_id or parent.digest} {api.spec.key}"),
        solver=steered(),
        scorer=attempts(judge or api.spec.judge, rubric),
        version=VERSION,
        metadata={
            "parent": dict(parent.identity()),
            "thresholds": {str(latent): t.value for latent, t in parent.thresholds().items()},
        },
    )


def engine_of(model: Model) -> EsrAPI:
    """The provider of a model.

    Raises:
        UserError: the model is not one of ours, and would answer unsteered.
    """
    if not isinstance(model.api, EsrAPI):
        raise UserError(
            f"model {model} cannot be steered", "esr/MODEL", "--model esr/tiny, or esr/my.toml"
        )
    return model.api


def sample(spec: TrialSpec) -> Sample:
    """A trial: its question, and in the metadata what steers it and how tokens are drawn."""
    plain = spec.to_json()
    return Sample(
        id=spec.trial_id,
        input=spec.prompt,
        metadata={
            CLUSTER: spec.latent,
            "label": spec.latent_label,
            "boost": spec.threshold,
            **{key: value for key, value in plain.items() if key in CARRIED},
        },
    )


@solver
def steered() -> Solver:
    """Generates with the interventions of the sample's metadata, by the trial's own seed.

    Of several epochs the first has the trial's seed, and so its response; others have seeds
    derived from it.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        engine_of(get_model())
        return await generate(state, **generate_config(state.metadata, state.epoch))

    return solve


def generate_config(metadata: dict[str, Any], epoch: int = 1) -> GenerateConfigArgs:
    """What a sample asks of the provider."""
    drawn = Sampling(**metadata["sampling"])
    if epoch > 1:
        drawn = replace(drawn, seed=seeds.derive(drawn.seed, "epoch", epoch))
    return GenerateConfigArgs(
        temperature=drawn.temperature,
        top_p=drawn.top_p,
        max_tokens=drawn.max_tokens,
        seed=drawn.seed,
        extra_body={
            **{key: value for key, value in metadata.items() if key in STEERING},
            "repetition_penalty": drawn.repetition_penalty,
        },
    )
