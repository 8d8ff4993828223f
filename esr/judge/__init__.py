"""Judges: what splits a response into attempts and scores them."""

from esr.judge.base import Attempt, CallSettings, Judge, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.registry import batched, create, create_client, estimate, info
from esr.judge.specs import has_key, key_variable, names, needs_keys, notice, resolve, spec

__all__ = [
    "Attempt",
    "CallSettings",
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
    "needs_keys",
    "notice",
    "resolve",
    "spec",
]
