"""Judges by name: how one is made, and what it would cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.errors import UserError
from esr.judge import prices
from esr.judge.base import CallSettings, Judge, JudgeInfo
from esr.judge.specs import JudgeSpec, key_of, spec

if TYPE_CHECKING:
    from esr.judge.client import Client
    from esr.judge.ledger import Ledger

_OPENROUTER = "https://openrouter.ai/api/v1"


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
    key, missing = key_of(name)
    options: dict[str, Any] = {
        "key": key,
        "missing_key": missing,
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


def _offline(model: str) -> Judge:
    if model == "overlap":
        from esr.judge.overlap import OverlapJudge

        return OverlapJudge()
    if model == "keyed":
        from esr.judge.keyed import KeyedJudge

        return KeyedJudge()
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
