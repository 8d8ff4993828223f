"""What options resolve to: the model, and all that can change what a trial yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from esr import judge, models
from esr.errors import UserError
from esr.models import ModelSpec, prompts
from esr.models.identity import model_identity
from esr.models.prompts import PromptSet
from esr.models.weights import check_split, shape_of
from esr.pipeline import constants
from esr.pipeline.cli import CommonConfig
from esr.runs.run_metadata import SCHEMA_VERSION, RunMetadata
from esr.runs.same_settings import DEFAULTS, SIZES


def resolve(config: CommonConfig) -> ModelSpec:
    """The model of a config, with its profile's steering layer.

    Raises:
        UserError: unknown model or profile.
    """
    spec = models.get(config.model)
    # More latents are calibrated at once where more engines share them; changes no result.
    spec = replace(spec, in_flight=spec.in_flight * config.replicas)
    layer = spec.profile(config.profile).steering_layer
    _check(config, spec)
    return spec if layer is None else replace(spec, steering_layer=layer)


def _check(config: CommonConfig, spec: ModelSpec) -> None:
    """Refuse what no run could do as asked, before anything is loaded or planned."""
    prompt_set = prompts.load(config.prompts, spec.prompt_set)
    questions = len(prompt_set.prompts)
    for option, value, most, why in (
        ("--n-latents", config.n_latents, spec.d_sae, "the dictionary has no more"),
        ("--n-trials", config.n_trials, questions, "each trial has a prompt of its own"),
    ):
        if value is not None and value > most:
            raise UserError(f"{option} {value}", f"1 to {most}: {why}", f"{option} {most}")
    check_split(spec, config.tensor_parallel or 1)
    name = config.judge or spec.judge
    check_keyed("--judge", name, prompt_set)
    if config.rubric != "own" and judge.spec(name).provider == "offline":
        raise UserError(
            f"--rubric {config.rubric} with the judge {name}, which reads none",
            "a language model as judge",
            "--judge haiku, or leave --rubric out",
        )


def check_keyed(option: str, name: str, prompt_set: PromptSet) -> None:
    """Refuse a judge that looks up known answers where the questions have none.

    Args:
        option: that names the judge, e.g. ``--judge``.
        name: of the judge.
        prompt_set: the questions.

    Raises:
        UserError: a question has no key.
    """
    if judge.needs_keys(name) and not prompt_set.keyed:
        raise UserError(
            f"{option} {name} with the prompts {prompt_set.name}, which have no known answers",
            "prompts with keys: keyed, or a .json file with a key for every question",
            f"--prompts keyed {option} {name}",
        )


def require_keyed(name: str, prompt_set: PromptSet) -> None:
    """Refuse to look for known answers where prompts or judge do not allow it.

    Raises:
        UserError: the questions have no keys, or the judge does not look them up.
    """
    check_keyed("--judge", "keyed", prompt_set)
    if not judge.needs_keys(name):
        raise UserError(
            f"--judge {name} looks up no known answers",
            "a judge that does: keyed",
            "--prompts keyed --judge keyed",
        )


def check_latents(option: str, latents: Sequence[int], spec: ModelSpec) -> None:
    """Refuse latents that the dictionary does not have.

    Raises:
        UserError: names the first.
    """
    for latent in latents:
        if not 0 <= latent < spec.d_sae:
            raise UserError(f"{option} {latent}", f"0 to {spec.d_sae - 1}", f"{option} 0")


def check_layers(option: str, layers: Sequence[int], spec: ModelSpec) -> None:
    """Refuse layers that the model does not have, where its shape is known without a download.

    Raises:
        UserError: names the first.
    """
    shape = shape_of(spec)
    for layer in layers:
        if shape is not None and not 0 <= layer < shape.layers:
            allowed = f"0 to {shape.layers - 1}, the layers of {spec.key}"
            raise UserError(f"{option} {layer}", allowed, f"{option} {spec.steering_layer}")


def settings_of(
    config: CommonConfig, spec: ModelSpec, model: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """:attr:`esr.pipeline.context.RunContext.settings`; needs no key.

    Args:
        config: the options.
        spec: the model.
        model: its :func:`model_identity`, where that is known.

    Raises:
        UserError: an unknown judge, rubric, prompt set or profile.
    """
    name = config.judge or spec.judge
    settings = {
        "model": dict(model or model_identity(spec)),
        "profile": asdict(spec.profile(config.profile)),
        "prompts": prompts.load(config.prompts, spec.prompt_set).digest,
        "judge": asdict(judge.info(name, config.rubric)),
        "engine": config.engine,
        "pairing": config.pairing,
        "constants": constants.identity(),
    }
    if judge.spec(name).provider != "offline":
        from esr.judge import concreteness

        settings["concreteness"] = concreteness.prompt_digest()
    if config.calibration == "adaptive":
        from esr.pipeline import curves

        settings["adaptive"] = curves.identity()
    if config.pairing == "scheduler-order":
        # Who shares a step decides who gets whose boost.
        settings["batches"] = {
            "in_flight": config.in_flight,
            "replicas": config.replicas,
            "latents": spec.in_flight,
        }
    return settings


def wanted_run(config: CommonConfig, spec: ModelSpec, *, judged: bool = True) -> RunMetadata:
    """What a run of these options would record, to compare others with.

    Args:
        config: the options.
        spec: the model.
        judged: False where neither judge, filter nor size matter, as in a search for detectors.
    """
    settings = settings_of(config, spec)
    names = [*DEFAULTS, *SIZES]
    if not judged:
        del settings["judge"]
        names = ["profile", "prompts", "pairing"]
    identity = {**{name: getattr(config, name) for name in names}, "context": settings}
    return RunMetadata(schema_version=SCHEMA_VERSION, model=spec.key, identity=identity)
