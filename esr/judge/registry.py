"""Judges by name: which model a short name means, which key it needs, how it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from esr.errors import UserError
from esr.judge import keys, prices
from esr.judge.base import CallSettings, Judge, JudgeInfo

if TYPE_CHECKING:
    from esr.judge.client import Client
    from esr.judge.ledger import Ledger
    from esr.judge.rubric import Output

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
    judge = spec(name)
    if judge.retires is None:
        return ""
    verb = "stops" if judge.retires > (today or date.today()) else "stopped"
    return (
        f"judge {name}: its provider {verb} serving {judge.model} on {judge.retires}; answers of "
        "another model are refused"
    )


def create(
    name: str,
    *,
    calls: CallSettings | None = None,
    rubric: str = "own",
    cache: Path | None = None,
    ledger: Ledger | None = None,
) -> Judge:
    """A judge, ready to be asked. Sends nothing; a missing key is told by the first question.

    Answers of language models are kept in a file and never paid twice; offline judges are free.

    Args:
        name: see :func:`spec`.
        calls: how it is asked.
        rubric: ``own`` or ``upstream``; offline judges have rules of their own.
        cache: file that keeps answers; the one shared by all runs when left out.
        ledger: where answers are paid; one without limit when left out.

    Raises:
        UserError: no such judge or rubric.
    """
    judge = spec(name)
    if judge.provider == "offline":
        return _offline(judge.model)
    from esr.judge.llm import LlmJudge
    from esr.judge.rubric import get

    rules = get(rubric)
    client = create_client(name, calls=calls, cache=cache, ledger=ledger)
    return LlmJudge(client, rules, judge.output, _address(judge))


def info(name: str, rubric: str = "own") -> JudgeInfo:
    """The identity of a judge, as :func:`create` would make it; needs no key and no SDK.

    Raises:
        UserError: no such judge or rubric.
    """
    judge = spec(name)
    if judge.provider == "offline":
        return _offline(judge.model).info
    from esr.judge.llm import identity
    from esr.judge.rubric import get

    return identity(judge.model, judge.provider, get(rubric), judge.output, _address(judge))


def _address(judge: JudgeSpec) -> dict[str, str]:
    return {"base_url": judge.base_url} if judge.base_url else {}


def batched(judge: Judge, state: Path) -> Judge:
    """The same judge through its provider's batch endpoint, at half price, within a day.

    Args:
        judge: made by :func:`create`; the new judge shares its cache and ledger, and closes it.
        state: journal of the batches, beside the run.

    Raises:
        UserError: the judge has no batch endpoint.
    """
    from esr.judge.llm import LlmJudge

    if not isinstance(judge, LlmJudge):
        raise UserError(
            f"judge {judge.info.id} has no batch endpoint",
            "haiku, sonnet, gpt-5-mini",
            "leave out --judge-batch",
        )
    from esr.judge.batch import BatchClient

    return LlmJudge(BatchClient(judge.client, state), judge.rubric, judge.output, judge.settings)


def create_client(
    name: str,
    *,
    calls: CallSettings | None = None,
    cache: Path | None = None,
    ledger: Ledger | None = None,
) -> Client:
    """The bare model behind a judge's name, for everything but grading; see :func:`create`.

    Raises:
        UserError: no such judge, or an offline one.
    """
    from esr.judge.cache import Store, default_path

    judge = spec(name)
    if judge.provider == "offline":
        raise UserError(f"judge {name!r} is no language model", "haiku, sonnet, ...", "name one")
    key = keys.find(_KEYS.get(judge.provider, _OPTIONAL_LOCAL_KEY))
    unusable = None if key or judge.provider == "local" else missing_key(name)
    if not (key.isascii() and (key.isprintable())):
        key, unusable = (
            "",
            UserError(
                f"the key of judge {name} holds a line break or a letter beyond ASCII",
                "the key as the provider shows it",
                f"correct it in the environment or in {keys.env_file()}",
            ),
        )
    options: dict[str, Any] = {
        "key": key,
        "missing_key": unusable,
        "calls": calls or CallSettings(),
        "store": Store(cache or default_path()),
        "ledger": ledger,
    }
    if judge.provider == "anthropic":
        from esr.judge import anthropic

        options["base_url"] = judge.base_url or anthropic.BASE_URL
        return anthropic.AnthropicClient(judge.model, **options)
    if judge.provider == "google":
        from esr.judge import google

        options["base_url"] = judge.base_url or google.BASE_URL
        return google.GoogleClient(judge.model, **options)
    from esr.judge import openai

    base = _OPENROUTER if judge.provider == "openrouter" else openai.BASE_URL
    options["base_url"] = judge.base_url or base
    # A local server may call its model what it likes.
    options["verify_model"] = judge.provider != "local"
    return openai.OpenAIClient(judge.model, provider=judge.provider, **options)


def missing_key(name: str) -> UserError:
    """What is said where a judge's key is not there."""
    variable = key_variable(name)
    return UserError(
        f"judge {name} needs {variable}, which is neither in the environment nor in "
        f"{keys.env_file()}",
        "",
        f"add a line {variable}=... to that file (see .env.example), or --judge lexical",
    )


def _offline(model: str) -> Judge:
    if model == "overlap":
        from esr.judge.overlap import OverlapJudge

        return OverlapJudge()
    from esr.judge.lexical import LexicalJudge

    return LexicalJudge()


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
    judge = spec(name)
    if judge.provider == "offline":
        return prices.Estimate(calls, 0, 0, 0.0)
    from esr.judge.rubric import get

    rules = get(rubric)
    return prices.estimate_calls(
        judge.model,
        calls,
        fixed_characters=rules.characters(rules.output(judge.output)),
        variable_characters=prompt_characters + response_characters,
        quoted_characters=min(response_characters, prices.QUOTED_CHARACTERS),
        batch=batch,
    )
