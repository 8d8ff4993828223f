"""Judges by name: which model a short name means, and the key it needs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from esr.errors import UserError
from esr.runs.paths import HOME

if TYPE_CHECKING:
    from esr.judge.rubric import Output

Provider = Literal["anthropic", "openai", "openrouter", "google", "local", "offline"]

_KEYS: dict[Provider, str] = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "google": "GEMINI_API_KEY",
}
_OPTIONAL_LOCAL_KEY = "LOCAL_JUDGE_API_KEY"


@dataclass(frozen=True)
class JudgeSpec:
    """What a judge's name means.

    Attributes:
        name: as typed.
        provider: whose SDK and key.
        model: dated id.
        output: ``schema`` where the provider enforces JSON and the model still thinks before.
        base_url: other address than the provider's; empty for the provider's own.
        retires: announced day after which the provider no longer serves this model.
    """

    name: str
    provider: Provider
    model: str
    output: Output = "tags"
    base_url: str = ""
    retires: date | None = None


# GPT-5 mini and Gemini 2.5 Flash think before a schema binds them; Claude does so only in free
# text, and not every host of Qwen enforces a schema.
_SPECS = {
    spec.name: spec
    for spec in (
        JudgeSpec("haiku", "anthropic", "claude-haiku-4-5-20251001"),
        # https://platform.claude.com/docs/en/about-claude/model-deprecations
        JudgeSpec("sonnet", "anthropic", "claude-sonnet-4-5-20250929", retires=date(2026, 11, 30)),
        # https://developers.openai.com/api/docs/deprecations
        JudgeSpec(
            "gpt-5-mini", "openai", "gpt-5-mini-2025-08-07", "schema", retires=date(2026, 12, 11)
        ),
        JudgeSpec("qwen3-32b", "openrouter", "qwen/qwen3-32b"),
        # Google names no dated id. https://ai.google.dev/gemini-api/docs/deprecations
        JudgeSpec(
            "gemini-2.5-flash", "google", "gemini-2.5-flash", "schema", retires=date(2026, 12, 1)
        ),
        JudgeSpec("lexical", "offline", "lexical"),
        JudgeSpec("overlap", "offline", "overlap"),
        JudgeSpec("keyed", "offline", "keyed"),
    )
}
_OTHER_MODELS: tuple[Provider, ...] = ("anthropic", "openai", "openrouter", "google")


def names() -> tuple[str, ...]:
    """Short names of the known judges."""
    return tuple(_SPECS)


def spec(name: str) -> JudgeSpec:
    """What a name means: a short name, ``provider:MODEL``, either with ``@URL``.

    ``openai:MODEL@URL`` is any server that speaks OpenAI's protocol; it gets no provider's key.

    Raises:
        UserError: no such judge.
    """
    base, _, url = name.partition("@")
    judge = _SPECS.get(base)
    provider, _, model = base.partition(":")
    if judge is None and model and provider in _OTHER_MODELS:
        kind: Provider = "local" if provider == "openai" and url else provider
        judge = JudgeSpec(name, kind, model)
    bad_url = bool(url) and not url.startswith(("http://", "https://"))
    if judge is None or bad_url or (url and judge.provider == "offline"):
        raise UserError(
            f"unknown judge {name!r}",
            f"{', '.join(_SPECS)}, anthropic:MODEL, openai:MODEL, openrouter:MODEL, google:MODEL, "
            "openai:MODEL@http://host:port/v1",
            "--judge haiku",
        )
    if url and not _plain_address(url):
        # Not repeated: the address may hold a key, and what is printed may be kept.
        raise UserError(
            f"the address of judge {base} holds a user, a password, a query or no host",
            "http://host:port/path; keys come from the environment or .env",
            f"--judge {base}@http://host:port/v1",
        )
    return replace(judge, name=name, base_url=url) if url else judge


def _plain_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and not (
            "@" in parts.netloc or parts.query or parts.fragment or (parts.port or 1) < 0
        )
    except ValueError:
        return False


def needs_keys(name: str) -> bool:
    """Whether a judge looks up known answers, and so grades no question without a key.

    Raises:
        UserError: no such judge.
    """
    return spec(name).model == "keyed"


def resolve(name: str) -> str:
    """The dated model id a name means. Needs no key and no SDK.

    Raises:
        UserError: no such judge.
    """
    return spec(name).model


def key_variable(name: str) -> str:
    """Environment variable with the key a judge needs; empty where it needs none."""
    return _KEYS.get(spec(name).provider, "")


def has_key(name: str) -> bool:
    """Whether a judge can be made here."""
    variable = key_variable(name)
    return not variable or bool(_find_key(variable))


def notice(name: str, today: date | None = None) -> str:
    """One line where the provider has announced the end of a judge's model; else empty."""
    judge = spec(name)
    if judge.retires is None:
        return ""
    verb = "stops" if judge.retires > (today or date.today()) else "stopped"
    return (
        f"judge {name}: its provider {verb} serving {judge.model} on {judge.retires}; answers of "
        "another model are refused"
    )


def key_of(name: str) -> tuple[str, UserError | None]:
    """The key of a judge, and what is wrong where it has to have one and there is none to use."""
    judge = spec(name)
    key = _find_key(_KEYS.get(judge.provider, _OPTIONAL_LOCAL_KEY))
    if not (key.isascii() and key.isprintable()):
        return "", UserError(
            f"the key of judge {name} holds a line break or a letter beyond ASCII",
            "the key as the provider shows it",
            f"correct it in the environment or in {env_file()}",
        )
    if key or judge.provider == "local":
        return key, None
    variable = key_variable(name)
    return "", UserError(
        f"judge {name} needs {variable}, which is neither in the environment nor in {env_file()}",
        "a key of the provider",
        f"add a line {variable}=... to that file (see .env.example), or --judge lexical",
    )


def env_file() -> Path:
    """Where keys are looked for after the environment; ``ESR_ENV_FILE`` names another file."""
    return Path(os.environ.get("ESR_ENV_FILE", HOME / ".env"))


def _find_key(variable: str) -> str:
    """A key; empty where there is none. What ``.env`` holds stays out of the environment."""
    from dotenv import dotenv_values

    value = os.environ.get(variable)
    if not value and env_file().is_file():
        value = dotenv_values(env_file()).get(variable)
    return (value or "").strip()
