"""Judges by name: which model a short name means, which key it needs, how it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, cast

from esr.errors import UserError
from esr.judge import keys, prices
from esr.judge.base import Judge, JudgeInfo

if TYPE_CHECKING:
    from esr.judge.client import Client
    from esr.judge.rubric import Output

CONCURRENCY = 16
"""Judge calls in flight at once."""

Provider = Literal["anthropic", "openai", "openrouter", "google", "local", "offline"]

_KEYS: dict[Provider, str] = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "google": "GEMINI_API_KEY",
}
_OPTIONAL_LOCAL_KEY = "LOCAL_JUDGE_API_KEY"
_OPENROUTER = "https://openrouter.ai/api/v1"


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
    found = _SPECS.get(base)
    provider, _, model = base.partition(":")
    if found is None and model and provider in _OTHER_MODELS:
        kind: Provider = "local" if provider == "openai" and url else provider
        found = JudgeSpec(name, kind, model)
    bad_url = bool(url) and not url.startswith(("http://", "https://"))
    if found is None or bad_url or (url and found.provider == "offline"):
        raise UserError(
            f"unknown judge {name!r}",
            f"{', '.join(_SPECS)}, anthropic:MODEL, openai:MODEL, openrouter:MODEL, google:MODEL, "
            "openai:MODEL@http://host:port/v1",
            "--judge haiku",
        )
    return replace(found, name=name, base_url=url) if url else found


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
    return not variable or bool(keys.find(variable))


def notice(name: str, today: date | None = None) -> str:
    """One line where the provider has announced the end of a judge's model; else empty."""
    found = spec(name)
    if found.retires is None:
        return ""
    verb = "stops" if found.retires > (today or date.today()) else "stopped"
    return (
        f"judge {name}: its provider {verb} serving {found.model} on {found.retires}; answers of "
        "another model are refused"
    )


def create(
    name: str,
    *,
    concurrency: int = CONCURRENCY,
    rubric: str = "own",
    cache: Path | None = None,
) -> Judge:
    """A judge, ready to be asked. Checks the key, sends nothing.

    Verdicts of language models are kept in a file and never paid twice; offline judges are free.

    Args:
        name: see :func:`spec`.
        concurrency: calls in flight at once.
        rubric: ``own`` or ``upstream``; offline judges have rules of their own.
        cache: file that keeps verdicts; the one shared by all runs when left out.

    Raises:
        UserError: no such judge or rubric, or its key is missing.
    """
    found = spec(name)
    if found.provider == "offline":
        return _offline(found.model)
    from esr.judge.cache import CachedJudge
    from esr.judge.llm import LlmJudge
    from esr.judge.rubric import get

    rules = get(rubric)
    client = create_client(name, concurrency=concurrency)
    judge = LlmJudge(client, rules, found.output, _address(found))
    return CachedJudge(judge, cache, concurrency)


def info(name: str, rubric: str = "own") -> JudgeInfo:
    """The identity of a judge, as :func:`create` would make it; needs no key.

    Raises:
        UserError: no such judge or rubric.
    """
    found = spec(name)
    if found.provider == "offline":
        return _offline(found.model).info
    from esr.judge.llm import LlmJudge
    from esr.judge.rubric import get

    # Of the client, the identity has its model and its provider alone.
    client = cast("Client", SimpleNamespace(model=found.model, provider=found.provider))
    return LlmJudge(client, get(rubric), found.output, _address(found)).info


def _address(found: JudgeSpec) -> dict[str, str]:
    return {"base_url": found.base_url} if found.base_url else {}


def batched(grader: Judge, state: Path) -> Judge:
    """The same judge through its provider's batch endpoint, at half price, within a day.

    Args:
        grader: made by :func:`create`; the new judge takes it over and closes it.
        state: journal of the batches, beside the run.

    Raises:
        UserError: the judge has no batch endpoint.
    """
    from esr.judge.batch import BatchJudge
    from esr.judge.cache import CachedJudge
    from esr.judge.llm import LlmJudge

    if not isinstance(grader, CachedJudge) or not isinstance(grader.judge, LlmJudge):
        raise UserError(
            f"judge {grader.info.id} has no batch endpoint",
            "haiku, sonnet, gpt-5-mini",
            "leave out --judge-batch",
        )
    grader.store.close()
    return CachedJudge(BatchJudge(grader.judge, state), grader.store.path, concurrency=0)


def create_client(name: str, *, concurrency: int = CONCURRENCY) -> Client:
    """The bare model behind a judge's name, for everything but grading.

    Raises:
        UserError: no such judge, an offline one, or its key is missing.
    """
    found = spec(name)
    if found.provider == "offline":
        raise UserError(f"judge {name!r} is no language model", "haiku, sonnet, ...", "name one")
    key = _required_key(found)
    if found.provider == "anthropic":
        from esr.judge import anthropic

        url = found.base_url or anthropic.BASE_URL
        return anthropic.AnthropicClient(
            found.model, key=key, base_url=url, concurrency=concurrency
        )
    if found.provider == "google":
        from esr.judge import google

        url = found.base_url or google.BASE_URL
        return google.GoogleClient(found.model, key=key, base_url=url, concurrency=concurrency)
    from esr.judge import openai

    url = found.base_url or (_OPENROUTER if found.provider == "openrouter" else openai.BASE_URL)
    return openai.OpenAIClient(
        found.model,
        provider=found.provider,
        key=key,
        base_url=url,
        concurrency=concurrency,
        # A local server may call its model what it likes.
        verify_model=found.provider != "local",
    )


def _offline(model: str) -> Judge:
    if model == "overlap":
        from esr.judge.overlap import OverlapJudge

        return OverlapJudge()
    from esr.judge.lexical import LexicalJudge

    return LexicalJudge()


def _required_key(found: JudgeSpec) -> str:
    if found.provider == "local":
        return keys.find(_OPTIONAL_LOCAL_KEY)
    variable = _KEYS[found.provider]
    key = keys.find(variable)
    if not key:
        raise UserError(
            f"judge {found.name} needs {variable}, which is neither in the environment nor in "
            f"{keys.env_file()}",
            "",
            f"add a line {variable}=... to that file (see .env.example), or --judge lexical",
        )
    return key


def estimate(
    name: str,
    calls: int,
    *,
    prompt_characters: float = 60,
    response_characters: float = 1500,
    rubric: str = "own",
    batch: bool = False,
) -> prices.Estimate:
    """What ``calls`` verdicts would cost, for ``--dry-run``. Needs no key and no SDK.

    Args:
        name: of the judge.
        calls: number of verdicts.
        prompt_characters: of a prompt, on average.
        response_characters: of a response, on average; 512 tokens are some 2,000.
        rubric: ``own`` or ``upstream``.
        batch: whether the batch endpoint is used.
    """
    found = spec(name)
    if found.provider == "offline":
        return prices.Estimate(calls, 0, 0, 0.0)
    from esr.judge.rubric import get

    rules = get(rubric)
    return prices.estimate_calls(
        found.model,
        calls,
        fixed_characters=rules.characters(rules.output(found.output)),
        variable_characters=prompt_characters + response_characters,
        quoted_characters=min(response_characters, 300.0),
        batch=batch,
    )
