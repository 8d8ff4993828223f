"""What a judge is told: the rules of the paper in our words, or the authors' text.

A rubric is a TOML file: ``data/rubrics/own-2.toml``, ``upstream/rubric.toml``.
Versions of ours are kept: answers are cached by what was asked, and an old run names its own.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Literal

from esr.errors import UserError
from esr.judge.base import JudgeRequest
from esr.judge.completion import Request
from esr.runs import paths
from esr.runs.plain import json_digest, restore

Output = Literal["tags", "schema"]
"""``tags``: free text, then JSON in ``<json>`` tags. ``schema``: the provider enforces JSON."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "attempts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"attempt_text": {"type": "string"}, "score": {"type": "number"}},
                "required": ["attempt_text", "score"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["reasoning", "attempts"],
    "additionalProperties": False,
}


OWN = {"own": "own-2", "own-1": "own-1"}
"""Our rubrics by name; version 1 had wording and an example that expected improvement."""


@dataclass(frozen=True)
class Rubric:
    """Instructions to a judge.

    Attributes:
        name: as on the command line.
        system: system prompt, without its ending.
        layout: the user message; ``$prompt``, ``$label`` and ``$response`` are filled in.
        fixed: unchanging start of the user message.
        endings: by kind of output, what ends the system prompt.
    """

    name: str
    system: str
    layout: str
    fixed: str = ""
    endings: dict[Output, str] = field(default_factory=lambda: {"tags": ""})

    def output(self, wanted: Output) -> Output:
        """The wanted kind of output where this rubric has it, else tags."""
        return wanted if wanted in self.endings else "tags"

    def request(self, question: JudgeRequest, output: Output) -> Request:
        """What to send for one response."""
        user = Template(self.layout).substitute(
            prompt=question.prompt,
            label=question.latent_label or "(unknown)",
            response=question.response,
        )
        schema = SCHEMA if output == "schema" else None
        return Request(self.system + self.endings[output], user, self.fixed, schema=schema)

    def hash(self, output: Output) -> str:
        """SHA-256 over all that is the same in every call."""
        parts = [self.system + self.endings[output], self.fixed, self.layout]
        if output == "schema":
            parts.append(json.dumps(SCHEMA, sort_keys=True))
        return json_digest(parts)

    def characters(self, output: Output) -> int:
        """Length of what is the same in every call."""
        return len(self.system + self.endings[output] + self.fixed)


def get(name: str) -> Rubric:
    """A rubric by name: ``own``, the newest of ours, an older one such as ``own-1``, or
    ``upstream`` (fetched by ``python -m esr.upstream fetch``).

    Raises:
        UserError: no such rubric, not fetched yet, or no longer what was fetched.
    """
    if name in OWN:
        return read(paths.DATA / "rubrics" / f"{OWN[name]}.toml")
    if name == "upstream":
        return read(paths.WORK / "upstream" / "rubric.toml")
    raise UserError(f"unknown rubric {name!r}", ", ".join([*OWN, "upstream"]), "--rubric own")


def read(path: Path) -> Rubric:
    """A rubric file: a Rubric's fields, and ``digest`` where it must stay as it is.

    Raises:
        UserError: missing, no rubric, or not what its digest says.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("digest", "")
        if digest and digest != json_digest(content, 16):
            raise ValueError("it was edited: its digest differs")
        return restore(Rubric, content)
    except FileNotFoundError as error:
        raise UserError(
            f"no rubric at {path}",
            "the authors' rubric, once fetched",
            "python -m esr.upstream fetch",
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a rubric ({str(error).splitlines()[0]})",
            "a file like data/rubrics/own-2.toml",
            "python -m esr.upstream fetch, or git checkout data/rubrics",
        ) from error
