"""No key and no path of a machine leaves it in what others are to read.

Responses and the judges' answers are what they are. What a program wrote beside them, an error or
a judge's failure, may name a file, a key or an address.
"""

from __future__ import annotations

import os
import re

_KEYS = re.compile(r"\b(?:sk|hf|gsk|key)[-_][A-Za-z0-9_-]{12,}|\bAIza[A-Za-z0-9_-]{20,}")
_PATHS = re.compile(r"(?:(?<=^)|(?<=[\s'\"(=:\[]))(?:/[\w.@+-]+){2,}/?|\b[A-Za-z]:\\[^\s'\"]+")
_ADDRESSES = re.compile(r"\bhttps?://[^\s'\")\]]+")

SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def redacted(text: str | None) -> str | None:
    """A program's message without keys, addresses and paths."""
    if not text:
        return text
    for value in _secrets():
        text = text.replace(value, "[key]")
    text = _KEYS.sub("[key]", text)
    text = _ADDRESSES.sub("[address]", text)
    return _PATHS.sub("[path]", text)


def _secrets() -> list[str]:
    """Values of this process's environment that are named like a secret."""
    named = (v for k, v in os.environ.items() if any(part in k.upper() for part in SECRET_NAMES))
    return sorted((value for value in named if len(value) > 7), key=len, reverse=True)
