"""From a judge's words to attempts. Whatever cannot be read is a failure with its reason."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from esr.judge.base import Attempt, Status
from esr.judge.spans import attempt_spans


class Reason(StrEnum):
    """Why an answer that did arrive is no verdict. Faults: :class:`esr.judge.faults.Fault`."""

    EMPTY = "empty_answer"
    TRUNCATED = "truncated"
    NO_JSON = "no_json"
    BAD_JSON = "bad_json"
    NO_ATTEMPTS_KEY = "attempts_missing"
    BAD_ATTEMPT = "attempt_malformed"
    SCORE_RANGE = "score_out_of_range"
    REFUSED = "refusal"
    FILTERED = "content_filter"


class _Attempt(BaseModel):
    attempt_text: str
    score: Annotated[float, Field(ge=0, le=100, strict=True)]


class _Answer(BaseModel):
    attempts: list[_Attempt]


_TAGGED = re.compile(r"<json>(.*?)(?:</json>|\Z)", re.DOTALL | re.IGNORECASE)
_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)


def find_json(text: str, key: str) -> dict[str, Any] | Reason:
    """The answer object in a model's text.

    Looked for in the last ``<json>`` tags, then anywhere: prose, code fences and hidden-thinking
    tags around the object do not matter.

    Args:
        text: the whole answer.
        key: a key the object must have.

    Returns:
        The object, or why there is none.
    """
    thought, closed, rest = text.rpartition("</think>")
    text = _THINKING.sub("", thought + closed) + rest
    if not text.strip():
        return Reason.EMPTY
    tagged = _TAGGED.findall(text)
    objects, broken = _objects(tagged[-1] if tagged else text)
    matching = [item for item in objects if key in item]
    if matching:
        return matching[-1]
    if broken:
        return Reason.BAD_JSON
    return Reason.NO_ATTEMPTS_KEY if objects else Reason.NO_JSON


def _objects(text: str) -> tuple[list[dict[str, Any]], bool]:
    """JSON objects in a text, in order, and whether some brace opened none.

    What is read in vain is counted, so that a text made to be slow is given up in linear time.
    """
    decoder, at, broken = json.JSONDecoder(object_hook=_printable, strict=False), 0, False
    objects: list[dict[str, Any]] = []
    allowed = 4 * len(text)
    while allowed > 0 and (start := text.find("{", at)) >= 0:
        try:
            value: dict[str, Any]
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            at, broken = start + 1, True
            # An error that names no place, as of a number with too many digits, may have read all.
            end = error.pos if isinstance(error, json.JSONDecodeError) else len(text)
            # Making the error costs a look at every line before it.
            allowed -= end - start + 1 + len(text) // 500
        else:
            objects.append(value)
    return objects, broken


def _printable(item: dict[str, Any]) -> dict[str, Any]:
    """An object whose texts can be written to a file: an escape may name half a character."""
    return {
        key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for key, value in item.items()
    }


def read_attempts(
    text: str, *, truncated: bool = False
) -> tuple[Status, tuple[Attempt, ...], Reason | None]:
    """Attempts of a judge's answer.

    Args:
        text: the answer.
        truncated: whether the provider says that it hit the token cap.

    Returns:
        Status, attempts, and the reason where the status is a failure.
    """
    parsed = find_json(text, "attempts")
    if isinstance(parsed, Reason):
        return Status.UNPARSEABLE, (), Reason.TRUNCATED if truncated else parsed
    try:
        answer = _Answer.model_validate(parsed)
    except ValidationError as error:
        return Status.UNPARSEABLE, (), _reason(error)
    attempts = tuple(Attempt(a.attempt_text, a.score) for a in answer.attempts)
    return (Status.GRADED if attempts else Status.NO_ATTEMPTS), attempts, None


def verbatim(attempts: tuple[Attempt, ...], response: str) -> tuple[Attempt, ...]:
    """Attempts with their text cut from the response instead of the judge's abridged quote.

    An attempt reaches from where its quote begins to where the next one's begins. Left as quoted
    where a quote is not found in order.
    """
    spans = [span for span in attempt_spans(response, [a.text for a in attempts]) if span]
    if len(spans) < len(attempts):
        return attempts
    starts = [start for start, _ in spans]
    parts = zip(attempts, starts, [*starts[1:], len(response)], strict=False)
    return tuple(Attempt(response[start:end].strip(), a.score) for a, start, end in parts)


def _reason(error: ValidationError) -> Reason:
    kinds = {detail["type"] for detail in error.errors()}
    if kinds & {"greater_than_equal", "less_than_equal", "finite_number"}:
        return Reason.SCORE_RANGE
    return Reason.BAD_ATTEMPT
