"""Settings in which runs must agree to stand for each other, as parent of a run or in a figure.

A run that an experiment replays, or that a figure shows, is chosen by its age. Age alone would let
a trial run of two latents, held-out prompts or another judge take the place of the run that is
meant; such a run has to be named by its path. Seed and engine do not decide: a figure says them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from esr.runs.run_metadata import RunMetadata

DEFAULTS: Mapping[str, Any] = {
    "pairing": "request-id",
    "profile": "paper",
    "prompts": "",
    "latent_filter": "release",
    "judge": "",
    "rubric": "own",
    "calibration": "paper",
}
"""Options that must agree, with their defaults (:class:`esr.pipeline.cli.CommonConfig`)."""

SIZES = ("n_latents", "n_trials")
"""How large a run is; None for as large as its model asks."""

DEFAULT_SIZES: Mapping[str, Mapping[str, int]] = {
    "experiment_02_multi_boost": {"n_latents": 46, "n_trials": 5},
    "experiment_04_finetuning": {"n_latents": 280},
}
"""Sizes that are the default of an experiment, beside None."""

OWN_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "experiment_03_find_detectors": {"prompts": "discovery"},
}
"""Options whose default an experiment changes."""

COMPARED = ("model", "profile", "prompts", "judge", "pairing", "latent_filter")
"""What two runs are compared by: parts of :attr:`RunMetadata.context`, to which the options
resolved, files by their content; and the latent filter."""


def non_default_settings(run: RunMetadata) -> dict[str, object]:
    """Options of a run that are not the default: name -> value.

    Whether the model itself is as the registry has it cannot be told from one run; compare two
    with :func:`differing_settings`.
    """
    options = _options(run)
    sizes = {"n_trials": None, **DEFAULT_SIZES.get(run.experiment, {})}
    changed = {
        name: options[name]
        for name, default in {**DEFAULTS, **OWN_DEFAULTS.get(run.experiment, {})}.items()
        if options.get(name) not in (None, default)
    }
    smaller = {
        name: options[name] for name in SIZES if options.get(name) not in (None, sizes.get(name))
    }
    return {**changed, **smaller}


def differing_settings(run: RunMetadata, wanted: RunMetadata) -> dict[str, tuple[object, object]]:
    """Settings in which a run is not what is wanted: dotted name -> (of the run, wanted).

    Compared are the model by content, profile, prompts by content, judge with its rubric, pairing
    and the latent filter. A run smaller than what is wanted differs in its size; a larger one holds
    what is wanted. What one of the two does not record is not compared.

    Args:
        run: a run that exists.
        wanted: what it is to stand for; only :attr:`RunMetadata.identity` is looked at.
    """
    differing: dict[str, tuple[object, object]] = {}
    parts, wanted_parts = _parts(run), _parts(wanted)
    for part in parts.keys() & wanted_parts.keys():
        theirs, ours = flat({part: parts[part]}), flat({part: wanted_parts[part]})
        for name in sorted({*theirs, *ours}):
            if theirs.get(name) != ours.get(name):
                differing[name] = (theirs.get(name), ours.get(name))
    for name in SIZES:
        size, least = _options(run).get(name), _options(wanted).get(name)
        if isinstance(size, int) and not (isinstance(least, int) and least <= size):
            differing[name] = (size, least)
    return dict(sorted(differing.items()))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, as JSON would give them back.

    >>> flat({"judge": {"id": "haiku"}, "layers": (33, 34)})
    {'judge.id': 'haiku', 'layers': [33, 34]}
    """
    named: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            named |= flat(value, f"{prefix}{name}.")
        else:
            named[prefix + name] = json.loads(json.dumps(value, default=str))
    return named


def as_options(settings: Mapping[str, object]) -> str:
    """Settings as they are typed: ``--pairing scheduler-order --n-latents 2``."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())


def _options(run: RunMetadata) -> dict[str, Any]:
    return {**run.config, **run.identity}


def _parts(run: RunMetadata) -> dict[str, Any]:
    """What a run records of the settings that must agree."""
    recorded = {**run.context, "latent_filter": _options(run).get("latent_filter")}
    return {name: recorded[name] for name in COMPARED if recorded.get(name) is not None}
