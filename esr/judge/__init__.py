"""Judges: what splits a response into attempts and scores them."""

from esr.judge.base import Attempt, Judge, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.registry import (
    CONCURRENCY,
    batched,
    create,
    create_client,
    estimate,
    has_key,
    info,
    key_variable,
    names,
    notice,
    resolve,
)

__all__ = [
    "CONCURRENCY",
    "Attempt",
    "Judge",
    "JudgeInfo",
    "JudgeRequest",
    "Status",
    "Verdict",
    "batched",
    "create",
    "create_client",
    "estimate",
    "has_key",
    "info",
    "key_variable",
    "names",
    "notice",
    "resolve",
]
