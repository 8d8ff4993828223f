"""The authors' prompts and rubric as a prompt set and a rubric of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from esr.models.prompts import MetaPrompt, Prompt, PromptSet
from esr.runs.folder import write_json
from esr.runs.plain import json_digest, plain
from esr.upstream.extract import assigned_text, returned_pairs
from esr.upstream.manifest import Manifest, checked_bytes

PROMPTS, RUBRIC = "prompts.json", "rubric.toml"

_QUESTIONS = "prompts.txt"
_VARIANTS = "experiment_05_prompt_variants/__init__.py"
_JUDGE = "judge.py"
_LAYOUT = "Prompt: $prompt\nResponse: $response\nUnrelated feature: $label"
"""Order and words of the lines are the authors' (data/upstream.json, judge.py)."""


def convert(manifest: Manifest, folder: Path) -> tuple[int, int]:
    """Write the prompt set and the rubric beside the fetched files.

    Returns:
        Numbers of questions and of meta-prompts.

    Raises:
        UserError: a file is missing, is not the one of the manifest, or has another shape.
    """

    def text(path: str) -> str:
        return checked_bytes(manifest, folder, path).decode("utf-8")

    questions = [line.strip() for line in text(_QUESTIONS).splitlines() if line.strip()]
    variants = returned_pairs(text(_VARIANTS), "_default_prompt_variants", _VARIANTS)
    prompts = PromptSet(
        "upstream",
        tuple(Prompt(f"upstream-{n:02d}", question) for n, question in enumerate(questions, 1)),
        tuple(MetaPrompt(name, template) for name, template in variants),
    )
    judge = text(_JUDGE)
    rubric = {
        "name": "upstream",
        "system": assigned_text(judge, "SYSTEM_PROMPT", _JUDGE),
        "fixed": assigned_text(judge, "INSTRUCTIONS", _JUDGE) + "\n\n",
        "layout": _LAYOUT,
    }
    write_json(folder / PROMPTS, {**plain(prompts), "digest": prompts.digest})
    (folder / RUBRIC).unlink(missing_ok=True)
    (folder / RUBRIC).write_text(
        _toml({**rubric, "digest": json_digest(rubric, 16)}), encoding="utf-8"
    )
    return len(questions), len(variants)


def _toml(texts: Mapping[str, str]) -> str:
    """TOML of texts: its basic strings are JSON's, without escaped surrogates."""
    lines = (f"{key} = {json.dumps(text, ensure_ascii=False)}\n" for key, text in texts.items())
    return "".join(lines).replace("\x7f", "\\u007f")
