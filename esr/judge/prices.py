"""What calls cost: the one price table, and estimates from it.

US dollars per million tokens, list prices without batch discount, as the providers' pages gave
them on ``READ_ON``. Check them before you rely on an estimate; a model that is not in the table
is counted at no cost, and its estimate says that the price is unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

READ_ON = "2026-11-21"

BATCH_FACTOR = 0.5
"""Both batch endpoints charge half the list price, in and out."""

CHARACTERS_PER_TOKEN = 4.0
"""Rule of thumb for English text, for estimates alone."""

THINKING_TOKENS = 300
"""Output of a verdict beyond the response it quotes: an assumption, for estimates alone."""


QUOTED_CHARACTERS = 300
"""Most of a response that a verdict quotes (the rubric's limit), for estimates alone."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one call.

    Attributes:
        input_tokens: all of the prompt, cached tokens included.
        output_tokens: all that is paid as output, hidden reasoning included.
        cache_read: prompt tokens served from the provider's cache.
        cache_write: prompt tokens written to it.
        charged: US dollars, where the provider says what it charged.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read: int = 0
    cache_write: int = 0
    charged: float | None = None

    @property
    def sane(self) -> bool:
        """Whether these are numbers a provider can mean; what is not is never added up."""
        counts = (self.input_tokens, self.output_tokens, self.cache_read, self.cache_write)
        whole = all(type(count) is int and count >= 0 for count in counts)
        charge = self.charged is None or 0 <= self.charged < math.inf
        return whole and charge and self.cache_read + self.cache_write <= self.input_tokens


@dataclass(frozen=True)
class Price:
    """List price of one model.

    Attributes:
        input: US dollars per million prompt tokens that no cache served.
        output: US dollars per million output tokens, hidden reasoning included.
        cache_read: US dollars per million prompt tokens from the provider's cache.
        cache_write: US dollars per million prompt tokens written to it.
        cache_from: length in tokens below which the provider does not cache a prefix.
        source: page the numbers come from.
    """

    input: float
    output: float
    cache_read: float
    cache_write: float
    cache_from: int
    source: str


_CLAUDE = "https://platform.claude.com/docs/en/about-claude/pricing"
_OPENAI = "https://developers.openai.com/api/docs/pricing"
_GOOGLE = "https://ai.google.dev/gemini-api/docs/pricing"
_OPENROUTER = "https://openrouter.ai/qwen/qwen3-32b"

TABLE: dict[str, Price] = {
    "claude-haiku-4-5": Price(1.00, 5.00, 0.10, 1.25, 4096, _CLAUDE),
    "claude-sonnet-4-5": Price(3.00, 15.00, 0.30, 3.75, 1024, _CLAUDE),
    "gpt-5-mini": Price(0.25, 2.00, 0.025, 0.25, 1024, _OPENAI),
    "gemini-2.5-flash": Price(0.30, 2.50, 0.03, 0.30, 1024, _GOOGLE),
    # A market price that differs between hosts; the charge OpenRouter reports comes first.
    "qwen/qwen3-32b": Price(0.08, 0.28, 0.08, 0.08, 0, _OPENROUTER),
}


def price(model: str) -> Price | None:
    """Price of a model id, dated or not; None where the table does not know it."""
    for name, entry in TABLE.items():
        if model == name or model.startswith(f"{name}-2"):
            return entry
    return None


def dollars(model: str, usage: Usage, *, batch: bool = False) -> float:
    """Cost of one call in US dollars; 0 for a model that is not in the table."""
    if usage.charged is not None:
        return usage.charged
    entry = price(model)
    if entry is None:
        return 0.0
    plain = usage.input_tokens - usage.cache_read - usage.cache_write
    total = (
        plain * entry.input
        + usage.cache_read * entry.cache_read
        + usage.cache_write * entry.cache_write
        + usage.output_tokens * entry.output
    )
    return total * (BATCH_FACTOR if batch else 1.0) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What a run would ask of a judge.

    Attributes:
        calls: judge calls.
        input_tokens: of all calls.
        output_tokens: of all calls.
        dollars: US dollars; None where the model has no price here.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    dollars: float | None

    def __add__(self, other: Estimate) -> Estimate:
        priced = self.dollars is not None and other.dollars is not None
        return Estimate(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            (self.dollars or 0.0) + (other.dollars or 0.0) if priced else None,
        )

    def __str__(self) -> str:
        cost = "price unknown" if self.dollars is None else f"about ${self.dollars:,.2f}"
        return (
            f"{self.calls:,} calls, about {self.input_tokens:,} tokens in and "
            f"{self.output_tokens:,} out, {cost}"
        )


def estimate_tokens(characters: float) -> int:
    """Tokens of a text of so many characters, by rule of thumb."""
    return round(characters / CHARACTERS_PER_TOKEN)


def estimate_calls(
    model: str,
    calls: int,
    *,
    fixed_characters: int,
    variable_characters: float,
    quoted_characters: float,
    batch: bool = False,
) -> Estimate:
    """Tokens and money of ``calls`` verdicts of a model, from rules of thumb.

    Args:
        model: dated id.
        calls: number of verdicts.
        fixed_characters: of the rubric, which is the same in every call.
        variable_characters: of prompt, response and label, on average.
        quoted_characters: of the response, which the judge quotes back, on average.
        batch: whether the batch endpoint is used.
    """
    fixed = estimate_tokens(fixed_characters)
    each_in = fixed + estimate_tokens(variable_characters)
    each_out = estimate_tokens(quoted_characters) + THINKING_TOKENS
    entry = price(model)
    cost = None
    if entry is not None:
        cached = bool(entry.cache_from) and fixed >= entry.cache_from
        rate = entry.cache_read if cached else entry.input
        each = fixed * rate + (each_in - fixed) * entry.input + each_out * entry.output
        cost = calls * each / 1e6 * (BATCH_FACTOR if batch else 1.0)
    return Estimate(calls, calls * each_in, calls * each_out, cost)
