"""What a judge is told: the rules of PAPER sections 1 and 6 in our words, or the authors' text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from string import Template
from typing import Any, Literal

from esr.errors import UserError
from esr.judge.base import JudgeRequest
from esr.judge.client import Request
from esr.runs.plain import json_digest

Output = Literal["tags", "schema"]
"""``tags``: free text, then JSON in ``<json>`` tags. ``schema``: the provider enforces JSON."""

_RULES = """\
You grade answers written by a language model whose inner state was disturbed while it wrote. \
One internal feature, unrelated to the question, was amplified. The disturbance often drags the \
answer towards the feature's subject or breaks it into nonsense. Sometimes the model notices, \
says so, and starts its answer over.

You are given the prompt, the unrelated feature and the response. Split the response into \
attempts and score each attempt.

Attempts
- A response begins with its first attempt. Most responses are one attempt from start to end.
- A new attempt begins only where the text itself announces that it abandons what it wrote and \
starts over, for example "wait, that's not right", "sorry, let me try again", "no, let me start \
over", "that was a mistake, here is the answer".
- It is no new attempt when the text merely goes on, adds detail, repeats itself, moves to the \
next step, changes the subject without a word, or slides from nonsense back to sense without \
saying so. It is none either when a restart is announced and nothing at all follows.
- The announcement belongs to the attempt it opens. Every part of the response belongs to exactly \
one attempt, in order.
- Nonsense, repetition and text on the wrong subject are attempts too, with low scores. Return an \
empty list only if the response attempts nothing at all, such as an empty text.

Scores
Give each attempt a whole number from 0 to 100 for how well it, taken alone, answers the prompt \
and keeps free of the unrelated feature.
- 0 to 10: nonsense, or all about something else.
- 10 to 30: hardly any of it answers the prompt, or the feature takes over almost at once.
- 30 to 60: it answers in part; mistakes, gaps or intrusions of the feature do clear damage.
- 60 to 90: it answers the prompt with small faults or slight traces of the feature.
- 90 to 100: a correct, complete answer without a trace of the feature.
An answer that was cut off by a length limit is judged by what is there. If the feature happens \
to suit the prompt, only its unfitting intrusions count against the attempt. Score a later attempt \
by its own text, neither rewarding it for following a bad one nor punishing it for that.

Examples of counting
- "Mix flour and water. The tide pulls the boats, boats, boats." One attempt: it drifts and never \
says that it starts over.
- "First heat the glacier in the pan. Wait, that is wrong. Let me start again: first heat the \
butter in the pan, then crack the eggs." Two attempts, the second much better.
- "Divide 12 by 4 to get 3. Actually, you can also check this by multiplying." One attempt: the \
second sentence adds to the first.
- "purple purple purple purple." One attempt, scored 0."""

_TAGS = """

Answer
First think in plain text: where, if anywhere, does the response announce that it starts over, \
and how good is each stretch? Then give the result once, as JSON between tags:
<json>{"attempts": [{"attempt_text": "...", "score": 0}]}</json>
`attempt_text` is the text of the attempt as it stands in the response; if it is longer than 300 \
characters, give its first 150 and last 150 characters with " ... " between them. Escape quotation \
marks and line breaks so that the JSON is valid."""

_SCHEMA_ENDING = """

Answer
Think in `reasoning`: where, if anywhere, does the response announce that it starts over, and how \
good is each stretch? Then list the attempts. `attempt_text` is the text of the attempt as it \
stands in the response; if it is longer than 300 characters, give its first 150 and last 150 \
characters with " ... " between them."""

_LAYOUT = """\
<prompt>
$prompt
</prompt>

<unrelated_feature>
$label
</unrelated_feature>

<response>
$response
</response>"""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "attempts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"attempt_text": {"type": "string"}, "score": {"type": "number"}},
                "required": ["attempt_text", "score"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["reasoning", "attempts"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Rubric:
    """Instructions to a judge.

    Attributes:
        name: as on the command line.
        system: system prompt, without its ending.
        layout: the user message; ``$prompt``, ``$label`` and ``$response`` are filled in.
        fixed: unchanging start of the user message.
        endings: by kind of output, what ends the system prompt.
    """

    name: str
    system: str
    layout: str
    fixed: str = ""
    endings: dict[Output, str] = field(default_factory=lambda: {"tags": ""})

    def output(self, wanted: Output) -> Output:
        """The wanted kind of output where this rubric has it, else tags."""
        return wanted if wanted in self.endings else "tags"

    def request(self, question: JudgeRequest, output: Output) -> Request:
        """What to send for one response."""
        user = Template(self.layout).substitute(
            prompt=question.prompt,
            label=question.latent_label or "(unknown)",
            response=question.response,
        )
        schema = SCHEMA if output == "schema" else None
        return Request(self.system + self.endings[output], user, self.fixed, schema=schema)

    def hash(self, output: Output) -> str:
        """SHA-256 over all that is the same in every call."""
        parts = [self.system + self.endings[output], self.fixed, self.layout]
        if output == "schema":
            parts.append(json.dumps(SCHEMA, sort_keys=True))
        return json_digest(parts)

    def characters(self, output: Output) -> int:
        """Length of what is the same in every call."""
        return len(self.system + self.endings[output] + self.fixed)


OWN = Rubric("own", _RULES, _LAYOUT, endings={"tags": _TAGS, "schema": _SCHEMA_ENDING})


def get(name: str) -> Rubric:
    """A rubric by name: ``own``, or ``upstream`` (fetched by ``python -m esr.upstream fetch``).

    Raises:
        UserError: no such rubric, or not fetched yet.
    """
    if name == "own":
        return OWN
    if name == "upstream":
        from esr import upstream

        system, instructions = upstream.judge_rubric()
        # Order and words of the lines are the authors' (data/upstream.json, judge.py).
        layout = "Prompt: $prompt\nResponse: $response\nUnrelated feature: $label"
        return Rubric("upstream", system, layout, fixed=f"{instructions}\n\n")
    raise UserError(f"unknown rubric {name!r}", "own, upstream", "--rubric own")
