"""Prompt sets and meta-prompts (paper sections 2.1 and 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel

from esr.errors import UserError
from esr.runs import paths
from esr.runs.plain import digest, json_digest
from esr.runs.user_files import read_json, read_text

FOLDER = paths.DATA / "prompts"

HELD_OUT = "held-out"
DISCOVERY = "discovery"
"""Name of the questions of a set that nothing is chosen or trained on."""


@dataclass(frozen=True)
class Key:
    """The known answer of a question, for a judge that looks it up (:mod:`esr.judge.keyed`).

    Attributes:
        accepted: forms of the answer, any of which will do, such as ``("H2O", "H₂O")``.
        words: further single words of the answer's subject, none of which answers.
    """

    accepted: tuple[str, ...]
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.accepted or not all(form.strip() for form in self.accepted):
            raise ValueError("a key without an accepted form of the answer")


@dataclass(frozen=True)
class Prompt:
    """One user question, and its known answer where it has one."""

    id: str
    text: str
    key: Key | None = None


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

    ``digest`` is the SHA-256 of questions, keys and templates, first 16 hex digits.
    """

    name: str
    prompts: tuple[Prompt, ...]
    meta_prompts: tuple[MetaPrompt, ...] = ()

    @property
    def digest(self) -> str:
        content = [(p.id, p.text) for p in self.prompts]
        templates = [(m.id, m.template) for m in self.meta_prompts]
        keys = [(p.id, p.key.accepted, p.key.words) for p in self.prompts if p.key]
        return json_digest([content, templates, *([keys] if keys else [])], 16)

    @property
    def keyed(self) -> bool:
        """Whether every question has a key."""
        return all(prompt.key for prompt in self.prompts)

    def key_of(self, prompt_id: str) -> Key | None:
        """The key of a question; None where it has none, or is not of this set."""
        return self._keys.get(prompt_id)

    @cached_property
    def _keys(self) -> dict[str, Key]:
        return {prompt.id: prompt.key for prompt in self.prompts if prompt.key}

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
            questions of the default set (paper v2); ``discovery`` for those that detectors are
            searched on, on other subjects than either; ``keyed`` for questions with known answers,
            the organism's where that is the default; ``upstream`` for the authors' own, once
            fetched; or a ``.json`` or ``.txt`` file (one question per line).
        default: the model's own set.

    Raises:
        UserError: no such set, or a file that is not one.
    """
    if name == "upstream":
        path = paths.WORK / "upstream" / "prompts.json"
        if not path.is_file():
            raise UserError(
                f"no prompts at {path}",
                "the authors' prompts, once fetched",
                "python -m esr.upstream fetch",
            )
        return _read(path)
    if name in (HELD_OUT, DISCOVERY):
        return _read(FOLDER / f"{default}.json", name)
    if name == "keyed":
        own = FOLDER / f"keyed-{default}.json"
        keyed = _read(own if own.is_file() else FOLDER / "keyed.json")
        return replace(keyed, meta_prompts=_read(FOLDER / f"{default}.json").meta_prompts)
    own_file = name.endswith((".json", ".txt"))
    path = Path(name) if own_file else FOLDER / f"{name or default}.json"
    if not own_file and not path.is_file():
        sets = sorted(p.stem for p in FOLDER.glob("*.json"))
        raise UserError(
            f"no prompt set {name or default!r}",
            f"{', '.join(sets)}, held-out, discovery, upstream, or a .json or .txt file",
            f"--prompts {sets[0]}",
        )
    return _read(path)


class _File(BaseModel):
    """A JSON file under ``data/prompts``; one that states its digest may not be edited."""

    name: str
    prompts: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...] = ()
    discovery: tuple[Prompt, ...] = ()
    meta_prompts: tuple[MetaPrompt, ...] = ()
    digest: str = ""


def _read(path: Path, part: str = "") -> PromptSet:
    """A file; ``part`` names those of its questions that are set apart."""
    example = f"compare with {FOLDER / 'how-to.json'}"
    if path.suffix == ".txt":
        text = read_text(path, "a text file in UTF-8, one question per line", example)
        lines = [line.strip() for line in text.splitlines()]
        numbered = enumerate(lines, start=1)
        result = PromptSet(path.stem, tuple(Prompt(f"line-{i}", q) for i, q in numbered if q))
    else:
        form = 'JSON with "name" and "prompts": [{"id", "text"}]'
        file = read_json(path, _File, "a prompt set", form, example)
        result = PromptSet(
            f"{file.name}-{part}" if part else file.name,
            {HELD_OUT: file.held_out, DISCOVERY: file.discovery}.get(part, file.prompts),
            file.meta_prompts,
        )
        if file.digest and file.digest != result.digest:
            problem = f"{path} was edited: its digest differs"
            raise UserError(problem, "the file as it was fetched", "python -m esr.upstream fetch")
    ids = [prompt.id for prompt in result.prompts]
    if not all(prompt.text.strip() for prompt in result.prompts):
        raise UserError(f"{path} has an empty question", "text in every question", f"edit {path}")
    if not ids or len(set(ids)) < len(ids):
        lacks = f"no {part + ' ' if part else ''}questions"
        raise UserError(
            f"{path} has {'two questions of one id' if ids else lacks}",
            "at least one question, every id once",
            f"edit {path}",
        )
    return result
