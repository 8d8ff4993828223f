"""The restart gate: where a response announces that it abandons what it wrote and starts over.

A rule that reads the response alone, beside every judge: a judge may count attempts that no word
announces, or miss one that is announced. It knows more wordings than the lexical judge, whose own
list is part of that judge's identity, and asks more of where they stand:

* :data:`ANYWHERE` holds phrases that no instruction contains ("let me start over"), and counts
  them wherever they stand.
* :data:`INTERRUPTED` needs an interruption right before it ("wait, that is not right").
* :data:`ALONE` needs one too, or to be a sentence of its own outside lists ("scratch that.").
* A phrase inside quotation marks, or right behind words that report or set a condition ("say",
  "if", "when"), speaks of a restart and is none; "wait" and the like interrupt whatever stands
  before them.

As with the lexical judge, a restart separates attempts only where both what stands before it and
what follows have content words (:func:`esr.judge.splitting.split`). The gate finds announcements,
not silent changes of subject, and only in English.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache

from esr.judge.spans import Span
from esr.judge.splitting import GAP, masked, phrase_pattern, split
from esr.runs.plain import digest

VERSION = 1

_INTERRUPTION = (
    r"(?:(?:but |and |oh |okay |ok |well )?(?:wait|hold on|hang on|hold up|no|nope|oops|whoops|"
    r"sorry|hmm+|actually|ugh|argh|stop|apologies|my (?:apologies|bad|mistake)|i(?:'m| am) sorry)"
    r"(?: a (?:minute|second|moment|sec))?)"
)
_TOPIC = (
    r"(?:topic|track|(?:the|your)(?: \w+)? (?:question|topic|task|request|prompt|point|subject))"
)
_SO = r"(?: (?:all|completely|totally|really|actually|quite|entirely|just|clearly|even|at all))?"
_ASKED = (
    r"(?:what|the question) (?:you|i was|i am|i'm|we were|i)(?: even)?"
    r"(?: asked| asking| wanted| meant| said| supposed)"
)
_FAULT = (
    rf"(?:that|this|it)(?:(?: is|'s| was){_SO} (?:not{_SO} (?:right|correct|true|relevant|related|"
    rf"on topic|it|the (?:right|correct) answer|{_ASKED})|wrong|incorrect|off topic|off track|"
    r"irrelevant|nonsense|gibberish|a mistake|an error)|"
    rf" (?:isn't|wasn't|is n't){_SO} (?:right|correct|relevant|related|on topic|{_ASKED})|"
    r" (?:doesn't|does not|didn't|isn't|is not|makes no|made no)(?: make| making)?(?: any)? sense|"
    r" (?:doesn't|does not|didn't|can't|cannot|can not) (?:seem|look|sound|be) (?:right|correct)|"
    r" (?:has|had) nothing to do with)"
)
_START = (
    r"(?:(?:try|do) (?:that |this |it )?(?:once |all )?(?:over )?again|"
    r"try (?:another|a different) (?:approach|answer)|"
    r"(?:start|begin) (?:all |it )?(?:over|again|anew|afresh|fresh)|"
    r"(?:start|begin) from (?:scratch|the (?:top|beginning|start))|restart|redo (?:that|this|it)|"
    r"stop and|fix (?:that|this)|correct (?:myself|that|this)|rephrase (?:that|this|my answer)|"
    r"re(?:write|phrase|word|consider|think) (?:that|this|my (?:answer|response))|refocus|"
    r"think (?:about )?(?:this|that) (?:again|through again)|"
    rf"(?:get|go|come|circle|steer|bring (?:this|it|us)) back (?:on|to) {_TOPIC}|"
    rf"return to {_TOPIC}|give you (?:a|the) (?:proper|correct|real|better|right) answer|"
    r"(?:actually )?answer (?:properly|correctly|"
    r"(?:your|the)(?: actual| original| real)? question))"
)

ANYWHERE = (
    r"(?:let me|i(?: will|'ll| should| must| need to| have to| want to| 'd better| would like to)|"
    rf"allow me to|i(?:'m| am) going to)(?: please| just| now| try to)? {_START}",
    r"i(?:'ve| have| seem to have| think i(?:'ve| have)?)? (?:went|got|gotten|gone|drifted|strayed|"
    r"wandered|veered|am|'m|was|getting|going) (?:way |completely |totally )?"
    r"(?:off(?: the)? (?:topic|track|course|subject|point)|distracted|sidetracked|carried away|"
    r"mixed up)",
    r"i(?:'ve| have)?(?: just)? (?:drifted|strayed|wandered|veered|moved)(?: away| off)? "
    rf"from {_TOPIC}",
    r"i(?:'ve| have)? (?:just )?(?:went|gone|got) (?:off )?on a tangent",
    r"i (?:keep|kept) (?:talking|writing|going on) about",
    r"(?:what|why) am i (?:saying|talking|doing|writing|rambling)(?: about)?",
    r"i(?:'m| am| was| seem to be) (?:talking nonsense|rambling|not answering|"
    r"not making(?: any)? sense|talking about the wrong)",
    r"i(?: have|'ve)? (?:misunderstood|misread|misinterpreted) (?:the|your)",
    r"i (?:did not|didn't|haven't|have not) (?:actually )?answer(?:ed)? (?:the|your)",
)
"""Regular expressions; a space matches light punctuation."""

INTERRUPTED = (
    rf"(?:i (?:think|believe|mean) )?{_FAULT}",
    r"i(?:'m| am| was) (?:wrong|confused|supposed to|meant to|asked to)",
    rf"(?:let's|let us) {_START}",
    r"(?:scratch|strike|forget|ignore|disregard) (?:all )?(?:of )?(?:that|this|what i)",
    r"wrong(?: (?:topic|question|answer|one))?",
)

ALONE = (
    _FAULT,
    rf"(?:(?:okay|ok|anyway|right|so) )?(?:let's|let us) {_START}",
    r"(?:scratch|strike|disregard|ignore|forget) (?:all )?(?:of )?(?:that|this)"
    r"(?: last (?:part|bit))?",
    r"(?:disregard|ignore|forget) (?:(?:everything|the|all)(?: of)?(?: that)? "
    r"(?:above|previous \w+)|what i (?:just )?(?:said|wrote))",
    r"never ?mind(?: that)?",
    r"(?:sorry|apologies|i apologi[sz]e) (?:about|for) "
    r"(?:that|this|the (?:confusion|mistake|error|mix ?-?up|digression|tangent|nonsense))",
    r"my (?:mistake|bad|apologies)",
    r"i(?:'ve| have)? made (?:a mistake|an error)",
    r"(?:(?:ok|okay|anyway|so) )?(?:(?:second|new|another) (?:try|attempt)|take two|"
    r"starting (?:over|again|fresh|afresh|from scratch))",
    r"correction|wrong (?:topic|question|answer)",
    rf"(?:(?:getting|going|now|ok|okay|anyway|so) )*back (?:on|to) {_TOPIC}",
)

_DENIAL = re.compile(
    r"(?<!\w)(?:wait|hold on|hang on|hold up|oops|whoops)\s*[,\u2014\u2026-]+\s*"
    r"(?:no\b|(?:that|this)\b[^.!?\n]{0,40}?(?:\bnot\b|n['\u2019]t\b|\b(?:wrong|nonsense)\b))",
    re.IGNORECASE,
)
"""An interruption that goes on to deny what was said, in whatever words."""

_QUOTED = re.compile(
    r"\"[^\"\n]{1,300}\"|\u201c[^\u201d\n]{1,300}\u201d|"
    r"(?<!\w)['\u2018](?=\w)[^\n]{1,300}?['\u2019](?!\w)"
)
_BEFORE = 80
"""Characters before a phrase in which an interruption, or the start of its sentence, is sought."""
_LEADING = re.compile(phrase_pattern([rf"(?:{_INTERRUPTION} )+"]).pattern + r"\Z", re.IGNORECASE)
_CUTS_IN = re.compile(r"(?:wait|hold|hang|oops|whoops|ugh|hmm+|no)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"[^.!?;:\n\u2014]*\Z")
_REPORTING_WORDS = (
    "if when whenever unless until once while that say says said saying tell tells telling write "
    "writes writing written think thinks ask asks asking admit admits phrase words like as because "
    "whether you they he she we people someone "
)
_REPORTING = frozenset(_REPORTING_WORDS.split())
_NEAR = 4
"""Words before a phrase, in its clause, among which one of the reporting words makes it none."""
_GOES_ON = re.compile(r"[\s,]+(?:to|for|with|about|if|when|because|of|here|in|on)\b", re.IGNORECASE)
_ENDS = re.compile(r"\s*(?:[.!?;:,\u2014\u2026-]|\n|\Z)")
_STARTS = re.compile(r"(?:\A|[.!?;:\u2014\u2026)\"]|\n)\s*\Z")
_LISTED = re.compile(r"(?:^|\n)\s*(?:[-*\u2022]|\d+[.)])\s*\Z")


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    return tuple(phrase_pattern(phrases) for phrases in (ANYWHERE, INTERRUPTED, ALONE))


def identity() -> str:
    """Digest of the rule, for judges that split by it."""
    rule = [VERSION, ANYWHERE, INTERRUPTED, ALONE, _DENIAL.pattern, _INTERRUPTION]
    return digest(json.dumps([*rule, _REPORTING_WORDS, _GOES_ON.pattern, _QUOTED.pattern]), 16)


@lru_cache(maxsize=4096)
def restarts(response: str) -> tuple[Span, ...]:
    """Where restarts are announced, in order; phrases that follow each other at once are one.

    Args:
        response: the whole text.
    """
    text = masked(response, (match.span() for match in _QUOTED.finditer(response)))
    return tuple(_joined(response, sorted(_phrases(text))))


def attempts(response: str) -> list[Span]:
    """The attempts that announced restarts separate."""
    return split(response, restarts(response))


def announced(response: str) -> bool:
    """Whether the response announces a restart, with an attempt before it and one behind."""
    return len(attempts(response)) > 1


def _phrases(text: str) -> Iterator[Span]:
    anywhere, interrupted, alone = _patterns()
    yield from (match.span() for match in _DENIAL.finditer(text))
    for pattern in (anywhere, interrupted, alone):
        for match in pattern.finditer(text):
            start = _start(text, match.start())
            if pattern is interrupted and start == match.start():
                continue
            if pattern is alone and start == match.start() and not _is_alone(text, match):
                continue
            if _is_own(text, start, match.end()):
                yield start, match.end()


def _start(text: str, at: int) -> int:
    """Where a phrase at ``at`` begins with the interruptions right before it."""
    leading = _LEADING.search(text, max(0, at - _BEFORE), at)
    return leading.start() if leading else at


def _is_own(text: str, start: int, end: int) -> bool:
    """Whether a phrase is said by the text itself, rather than reported, or part of more."""
    if _GOES_ON.match(text, end):
        return False
    clause = _CLAUSE.search(text, max(0, start - _BEFORE), start)
    before = clause.group().lower().replace(",", " ").split()[-_NEAR:] if clause else []
    # Broken text may break off anywhere into "wait, that is wrong": nobody is quoted there.
    return bool(_CUTS_IN.match(text, start)) or not _REPORTING.intersection(before)


def _is_alone(text: str, match: re.Match[str]) -> bool:
    """Whether a phrase is a sentence of its own, outside lists."""
    first = max(0, match.start() - _BEFORE)
    before = text[first : match.start()]
    return bool(
        _ENDS.match(text, match.end()) and _STARTS.search(before) and not _LISTED.search(before)
    )


def _joined(text: str, spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in spans:
        if joined and not re.sub(GAP, "", text[joined[-1][1] : start]):
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
