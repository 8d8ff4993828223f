"""What goes wrong between us and a provider: which fault an SDK's exception is, in plain words."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """What went wrong on the provider's side."""

    AUTH = "auth"
    QUOTA = "quota"
    NOT_FOUND = "not_found"
    RATE_LIMIT = "rate_limit"
    BAD_REQUEST = "bad_request"
    SERVER = "server"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    MALFORMED = "malformed_response"
    WRONG_MODEL = "wrong_model"


LASTING = frozenset({Fault.AUTH, Fault.QUOTA, Fault.NOT_FOUND})
"""Faults that stay until somebody mends them: the run stops at the first."""

PASSING = frozenset({Fault.RATE_LIMIT, Fault.SERVER, Fault.TIMEOUT, Fault.CONNECTION})
"""Faults after which a call is tried again."""

MEANING = {
    Fault.AUTH: "refuses the key",
    Fault.QUOTA: "has no credit left for this key",
    Fault.NOT_FOUND: "knows no such model or address",
    Fault.RATE_LIMIT: "asks for fewer calls",
    Fault.BAD_REQUEST: "refuses the question",
    Fault.SERVER: "has a fault of its own",
    Fault.TIMEOUT: "does not answer in time",
    Fault.CONNECTION: "cannot be reached",
    Fault.MALFORMED: "answers in another form than its protocol",
    Fault.WRONG_MODEL: "answers with another model",
}
"""A fault in words that follow the judge's name."""

_BY_STATUS = {
    401: Fault.AUTH,
    402: Fault.QUOTA,
    403: Fault.AUTH,
    404: Fault.NOT_FOUND,
    408: Fault.TIMEOUT,
    429: Fault.RATE_LIMIT,
}
_BY_WORDS = {
    "insufficient_quota": Fault.QUOTA,  # OpenAI, with status 429
    "credit balance is too low": Fault.QUOTA,  # Anthropic, with status 400
    "api_key_invalid": Fault.AUTH,  # Google, with status 400
    "api key not valid": Fault.AUTH,
}


def fault_of(error: Exception, transport: tuple[type[Exception], ...] = (OSError,)) -> Fault:
    """Sort an exception by its HTTP status, else by its kind.

    Args:
        error: what an SDK raised.
        transport: exceptions that mean that no answer came; what is none of them is an answer
            that could not be read.
    """
    status = status_of(error)
    if status is not None:
        text = str(error).lower()
        by_words = (fault for words, fault in _BY_WORDS.items() if words in text)
        if status < 400:
            return Fault.MALFORMED
        return next(by_words, None) or _BY_STATUS.get(
            status, Fault.SERVER if status >= 500 else Fault.BAD_REQUEST
        )
    causes = list(_causes(error))
    if any(isinstance(e, TimeoutError) or "Timeout" in type(e).__name__ for e in causes):
        return Fault.TIMEOUT
    reached = isinstance(error, ValueError) or not isinstance(error, transport)
    return Fault.MALFORMED if reached else Fault.CONNECTION


def status_of(error: Exception) -> int | None:
    """HTTP status of an SDK's exception, where it has one."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else None


def describe(error: Exception) -> str:
    """An exception in one text, with what is behind it where no answer came."""
    text = f"{type(error).__name__}: {error}"
    *_, root = _causes(error)
    if root is error or status_of(error) is not None:
        return text
    return f"{text} ({type(root).__name__}: {root})"


def _causes(error: BaseException) -> list[BaseException]:
    """An exception and those behind it."""
    chain = [error]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) and deeper not in chain:
        chain.append(deeper)
    return chain


def asked_delay(error: BaseException | None) -> float | None:
    """Seconds a provider asks to wait before the next call; None where it does not say."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    details = re.search(r"'retryDelay': '([\d.]+)s'", str(getattr(error, "details", "")))  # Google
    asked = str(headers.get("retry-after") or (details.group(1) if details else ""))
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        return None
