"""The authors' own prompts, meta-prompts and rubrics, once fetched.

``python -m esr.upstream fetch`` downloads the files that ``data/upstream.json`` lists, at one
commit and with their SHA-256, into ``data/upstream/`` (git-ignored). They are parsed, never
executed. ``python -m esr.upstream labels MODEL`` downloads a model's latent labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from esr.models.prompts import MetaPrompt, Prompt, PromptSet
from esr.runs import paths
from esr.upstream import manifest
from esr.upstream.extract import assigned_text, returned_pairs

_PROMPTS = "prompts.txt"
_JUDGE = "judge.py"
_VARIANTS = "experiment_05_prompt_variants/__init__.py"
_CONCRETENESS = "concreteness_filtering.py"
_BOUNDARIES = "experiment_09_activation_stats/annotate_boundaries.py"
_WRITER = "experiment_04_finetuning/generate_prompted_self_correction_data.py"
_SUBJECTS = "experiment_04_finetuning/off_topic_subjects.txt"
_TRAINING_RESPONSES = "experiment_04_finetuning/dataset_normal_responses.json"
_RESPONSES = "data/normal_responses.json"
_DETECTORS = "data/off_topic_detectors.json"


def prompts() -> list[str]:
    """The 38 questions."""
    return _lines(_PROMPTS)


def meta_prompts() -> list[tuple[str, str]]:
    """Id and template of the meta-prompts, with ``{prompt}`` and ``{latent_label}``."""
    return returned_pairs(_text(_VARIANTS), "_default_prompt_variants", _VARIANTS)


def prompt_set() -> PromptSet:
    """Questions and meta-prompts as a prompt set, for ``--prompts upstream``."""
    questions = (Prompt(f"upstream-{i + 1:02d}", text) for i, text in enumerate(prompts()))
    variants = (MetaPrompt(name, template) for name, template in meta_prompts())
    return PromptSet("upstream", tuple(questions), tuple(variants))


def judge_rubric() -> tuple[str, str]:
    """System prompt and instructions of the judge, for ``--rubric upstream``."""
    source = _text(_JUDGE)
    return (
        assigned_text(source, "SYSTEM_PROMPT", _JUDGE),
        assigned_text(source, "INSTRUCTIONS", _JUDGE),
    )


def concreteness_prompt() -> str:
    """Prompt of the concreteness rating; expressions of the original stand in braces."""
    scope = "ConcretenessGrader._grade_single_label_batch"
    return assigned_text(_text(_CONCRETENESS), "prompt", _CONCRETENESS, scope)


def boundary_prompts() -> tuple[str, str]:
    """System prompt and user template of the boundary annotation."""
    source = _text(_BOUNDARIES)
    return (
        assigned_text(source, "SYSTEM_PROMPT", _BOUNDARIES),
        assigned_text(source, "USER_PROMPT_TEMPLATE", _BOUNDARIES),
    )


def self_correction_prompt() -> str:
    """System prompt of the writer of training texts, with ``{off_topic_subject}``."""
    return assigned_text(_text(_WRITER), "", _WRITER, "get_system_prompt")


def off_topic_subjects() -> list[str]:
    """The 50 subjects the training texts digress to."""
    return _lines(_SUBJECTS)


def normal_training_responses() -> list[dict[str, Any]]:
    """Normal responses of the fine-tuning data: dictionaries with ``messages``."""
    return _json(_TRAINING_RESPONSES)  # type: ignore[no-any-return]


def unsteered_responses() -> Any:
    """The authors' unsteered 70B responses, as published."""
    return _json(_RESPONSES)


def separability_detectors() -> Any:
    """The authors' 25 detectors of the separability method, as published."""
    return _json(_DETECTORS)


def digests() -> dict[str, str]:
    """SHA-256 of every file, from the manifest they were checked against; for ``run.json``."""
    return {file.path: file.sha256 for file in manifest.load().files}


def folder() -> Path:
    """Where fetched files lie."""
    return paths.DATA / "upstream"


def _text(path: str) -> str:
    return manifest.checked_bytes(folder(), path).decode("utf-8")


def _lines(path: str) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _json(path: str) -> Any:
    return json.loads(_text(path))
