"""Prompt sets and meta-prompts (paper sections 2.1 and 3.3)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esr.errors import UserError
from esr.runs.paths import DATA
from esr.runs.plain import digest, json_digest

FOLDER = DATA / "prompts"


@dataclass(frozen=True)
class Prompt:
    """One user question."""

    id: str
    text: str


@dataclass(frozen=True)
class MetaPrompt:
    """A template with ``{prompt}`` and optionally ``{latent_label}`` (paper section 3.3)."""

    id: str
    template: str

    def __post_init__(self) -> None:
        if "{prompt}" not in self.template:
            raise UserError(
                f"meta-prompt {self.id!r} has no {{prompt}}: {self.template[:60]!r}",
                "a template with {prompt} and optionally {latent_label}",
                "add {prompt} to the template",
            )

    def render(self, prompt: str, latent_label: str) -> str:
        """The user turn. Braces other than the two placeholders are left alone."""
        return self.template.replace("{latent_label}", latent_label).replace("{prompt}", prompt)


@dataclass(frozen=True)
class PromptSet:
    """Questions, and the meta-prompts that go with them.

    ``digest`` is the SHA-256 of questions and templates, first 16 hex digits.
    """

    name: str
    prompts: tuple[Prompt, ...]
    meta_prompts: tuple[MetaPrompt, ...] = ()

    @property
    def digest(self) -> str:
        content = [(p.id, p.text) for p in self.prompts]
        templates = [(m.id, m.template) for m in self.meta_prompts]
        return json_digest([content, templates], 16)

    def meta_prompt(self, name: str) -> MetaPrompt:
        """A meta-prompt by id, or a user's template given in full.

        Raises:
            UserError: neither an id of this set nor a template.
        """
        for item in self.meta_prompts:
            if item.id == name:
                return item
        if "{prompt}" in name:
            return MetaPrompt(f"template-{digest(name, 8)}", name)
        raise UserError(
            f"unknown meta-prompt {name!r}",
            ", ".join(m.id for m in self.meta_prompts) + ", or a template with {prompt}",
            "--variants " + (self.meta_prompts[0].id if self.meta_prompts else "'{prompt} ...'"),
        )


def load(name: str, default: str = "how-to") -> PromptSet:
    """A prompt set.

    Args:
        name: "" for ``default``; a set under ``data/prompts``; ``held-out`` for the held-out
            questions of the default set (paper v2); ``upstream`` for the authors' own, once
            fetched; or a ``.json`` or ``.txt`` file (one question per line).
        default: the model's own set.

    Raises:
        UserError: no such set, or a file that is not one.
    """
    if name == "upstream":
        from esr.upstream import prompt_set

        return prompt_set()
    if name == "held-out":
        return _read(FOLDER / f"{default}.json", held_out=True)
    path = Path(name) if name.endswith((".json", ".txt")) else FOLDER / f"{name or default}.json"
    if not path.is_file():
        raise UserError(
            f"no prompt set {name or default!r} ({path} does not exist)",
            ", ".join(sorted(p.stem for p in FOLDER.glob("*.json")))
            + ", held-out, upstream, or a .json or .txt file",
            f"--prompts {default}",
        )
    return _read(path)


def _read(path: Path, held_out: bool = False) -> PromptSet:
    if path.suffix == ".txt":
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        prompts = tuple(Prompt(f"line-{i + 1}", line) for i, line in enumerate(lines) if line)
        return _checked(PromptSet(path.stem, prompts), path)
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        questions = data["held_out" if held_out else "prompts"]
        found = PromptSet(
            data["name"] + ("-held-out" if held_out else ""),
            tuple(Prompt(item["id"], item["text"]) for item in questions),
            tuple(MetaPrompt(i["id"], i["template"]) for i in data.get("meta_prompts", [])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a prompt set ({type(error).__name__}: {error})",
            'JSON with "name" and "prompts": [{"id", "text"}]',
            f"compare with {FOLDER / 'how-to.json'}",
        ) from error
    return _checked(found, path)


def _checked(found: PromptSet, path: Path) -> PromptSet:
    ids = [prompt.id for prompt in found.prompts]
    if not ids or len(set(ids)) < len(ids):
        raise UserError(
            f"{path} has {'no questions' if not ids else 'two questions of one id'}",
            "at least one question, every id once",
            f"edit {path}",
        )
    return found
