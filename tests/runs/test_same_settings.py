"""Which settings must agree before one run stands for another, and what is not the default."""

from __future__ import annotations

import importlib
from dataclasses import MISSING, fields
from typing import Any

import pytest

from esr.pipeline.cli import CommonConfig
from esr.runs.run_metadata import RunMetadata
from esr.runs.same_settings import (
    DEFAULT_SIZES,
    DEFAULTS,
    SIZES,
    as_options,
    differing_settings,
    flat,
    non_default_settings,
)

CONTEXT: dict[str, Any] = {
    "model": {"hf_id": "tiny", "weights": "aa", "calibration": {"low": 1.0}, "layers": [3, 4]},
    "profile": {"repetition_penalty": 1.1},
    "prompts": "d1",
    "judge": {"id": "lexical", "rubric_hash": "r1"},
    "engine": "vllm",
    "pairing": "request-id",
}


def run(experiment: str = "experiment_01_esr", **changes: Any) -> RunMetadata:
    """A run with default options; a dotted name changes a part of the context."""
    context: dict[str, Any] = {**CONTEXT}
    options: dict[str, Any] = {}
    for name, value in changes.items():
        part, _, key = name.partition("__")
        if key:
            context[part] = {**context[part], key: value}
        elif part in context:
            context[part] = value
        else:
            options[name] = value
    default = {**DEFAULTS, "n_latents": None, "n_trials": None, "seed": 0}
    identity = {**default, **options, "context": context}
    return RunMetadata(schema_version=1, experiment=experiment, identity=identity)


def test_defaults_are_those_of_the_command_line() -> None:
    declared = {f.name: f.default for f in fields(CommonConfig) if f.default is not MISSING}
    assert {name: declared[name] for name in DEFAULTS} == DEFAULTS
    assert {name: declared[name] for name in SIZES} == {"n_latents": None, "n_trials": None}


@pytest.mark.parametrize("experiment", DEFAULT_SIZES)
def test_sizes_are_those_of_the_experiment(experiment: str) -> None:
    config = importlib.import_module(f"{experiment}.config").Config
    declared = {f.name: f.default for f in fields(config)}
    sizes = {name: declared[name] for name in SIZES if declared[name] is not None}
    assert sizes == DEFAULT_SIZES[experiment]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pairing", "scheduler-order"),
        ("profile", "release"),
        ("prompts", "held-out"),
        ("latent_filter", "paper"),
        ("judge", "lexical"),
        ("rubric", "upstream"),
        ("n_latents", 2),
        ("n_trials", 1),
    ],
)
def test_every_option_that_must_agree_is_named(name: str, value: object) -> None:
    changed = RunMetadata(schema_version=1, identity={**run().identity, name: value})
    assert non_default_settings(changed) == {name: value}


def test_a_default_run_has_nothing_to_name() -> None:
    assert non_default_settings(run()) == {}
    assert non_default_settings(run(seed=7)) == {}
    assert non_default_settings(RunMetadata(schema_version=1)) == {}


def test_options_are_read_from_config_where_there_is_no_identity() -> None:
    old = RunMetadata(schema_version=1, config={"pairing": "scheduler-order"})
    assert non_default_settings(old) == {"pairing": "scheduler-order"}


def test_the_size_an_experiment_has_by_default_is_no_smoke_run() -> None:
    sweep = "experiment_02_multi_boost"
    assert non_default_settings(run(sweep, n_latents=46, n_trials=5)) == {}
    assert non_default_settings(run(sweep, n_latents=4, n_trials=5)) == {"n_latents": 4}
    assert non_default_settings(run("experiment_01_esr", n_latents=46)) == {"n_latents": 46}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model__weights": "bb"}, {"model.weights": ("bb", "aa")}),
        ({"profile__repetition_penalty": 1.0}, {"profile.repetition_penalty": (1.0, 1.1)}),
        ({"prompts": "d2"}, {"prompts": ("d2", "d1")}),
        ({"judge__id": "haiku"}, {"judge.id": ("haiku", "lexical")}),
        ({"judge__rubric_hash": "r2"}, {"judge.rubric_hash": ("r2", "r1")}),
        ({"pairing": "scheduler-order"}, {"pairing": ("scheduler-order", "request-id")}),
        ({"latent_filter": "paper"}, {"latent_filter": ("paper", "release")}),
        ({"engine": "transformers"}, {}),
        ({"seed": 5}, {}),
        ({"model__layers": (3, 4)}, {}),
    ],
)
def test_where_a_run_is_not_what_is_wanted(
    change: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert differing_settings(run(**change), run()) == expected
    backwards = {name: (b, a) for name, (a, b) in expected.items()}
    assert differing_settings(run(), run(**change)) == backwards


def test_a_key_that_only_one_of_them_has_differs() -> None:
    assert differing_settings(run(model__dictionary="cc"), run()) == {
        "model.dictionary": ("cc", None)
    }


def test_a_smaller_run_differs_and_a_larger_one_does_not() -> None:
    whole, small = run(), run(n_latents=2, n_trials=1)
    assert differing_settings(small, whole) == {"n_latents": (2, None), "n_trials": (1, None)}
    assert differing_settings(whole, small) == {}
    assert differing_settings(run(n_latents=3), run(n_latents=2)) == {}
    assert differing_settings(run(n_latents=1), run(n_latents=2)) == {"n_latents": (1, 2)}


def test_what_is_not_recorded_is_not_compared() -> None:
    old = RunMetadata(schema_version=1, identity={"context": {"pairing": "scheduler-order"}})
    assert differing_settings(old, run()) == {"pairing": ("scheduler-order", "request-id")}
    assert differing_settings(RunMetadata(schema_version=1), run()) == {}


def test_for_readers() -> None:
    assert flat({"judge": {"id": "haiku"}, "layers": (33, 34)}) == {
        "judge.id": "haiku",
        "layers": [33, 34],
    }
    settings = {"pairing": "scheduler-order", "n_latents": 2}
    assert as_options(settings) == "--pairing scheduler-order --n-latents 2"
