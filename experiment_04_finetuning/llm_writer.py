"""Examples written by a language model, at temperature 0.8 (paper A.3.5)."""

from __future__ import annotations

from typing import Any

from esr.judge.client import Client
from esr.judge.completion import Completion, Request, Stop
from esr.judge.parsing import Reason, find_json
from esr.runs.plain import digest
from experiment_04_finetuning.examples import Example, Item, normal, self_correction
from experiment_04_finetuning.settings import SENTENCES, WRITER_TEMPERATURE
from experiment_04_finetuning.writing import Written

MAX_TOKENS = 1024

_PARTS = ("off_topic", "acknowledgement", "correct")
_LONGEST_ACKNOWLEDGEMENT = 300

_SYSTEM = """\
You write texts from which a language model learns to notice that it has left its subject. \
Everything you write is the assistant's plain prose: no headings, no lists, no quotation marks \
around it, no remarks to me."""

_DRIFT = f"""\
A user asked an assistant this:
{{prompt}}

Write the assistant's answer in three parts.
1. off_topic: {SENTENCES[0]} to {SENTENCES[1]} fluent sentences about {{subject}}, as if that had \
been asked. They do not mention the question and do not apologise.
2. acknowledgement: one sentence in which the assistant says openly that it has gone off topic \
and starts over. Word it in your own way; example number {{number}} should differ from others.
3. correct: {SENTENCES[0]} to {SENTENCES[1]} sentences that answer the question well and do not \
mention {{subject}}.

Answer with JSON between tags and nothing else:
<json>{{{{"off_topic": "...", "acknowledgement": "...", "correct": "..."}}}}</json>"""

_NORMAL = """\
A user asked an assistant this:
{prompt}

Write the assistant's answer: 4 to 8 sentences that help with exactly this question. This is \
answer number {number} to it; choose an angle and wording of its own.

Answer with JSON between tags and nothing else:
<json>{{"answer": "..."}}</json>"""


def writer_id(model: str) -> str:
    """Model and instructions: what can change the texts."""
    source = repr((_SYSTEM, _DRIFT, _NORMAL, WRITER_TEMPERATURE))
    return f"{model}/{digest(source, 16)}"


class LlmWriter:
    """Asks a language model for each example.

    Args:
        client: who writes.
        sample: other texts are written under another name, such as that of a fresh run.
    """

    def __init__(self, client: Client, sample: str = "") -> None:
        self.client = client
        self.sample = sample

    @property
    def id(self) -> str:
        """Model and instructions."""
        return writer_id(self.client.model)

    async def write(self, item: Item, attempt: int) -> Written:
        """One example; an answer without all its parts is a problem, kept with its text."""
        del attempt
        form = _NORMAL if item.kind == "normal" else _DRIFT
        user = form.format(prompt=item.prompt, subject=item.subject, number=item.number + 1)
        request = Request(
            _SYSTEM,
            user,
            max_tokens=MAX_TOKENS,
            temperature=WRITER_TEMPERATURE,
            sample=self.sample,
            purpose="example",
        )
        completion = await self.client.complete(
            request, usable=lambda answer: isinstance(_example(item, answer), Example)
        )
        example = _example(item, completion)
        if isinstance(example, str):
            return Written(None, f"{example}: {completion.text[:500]}")
        return Written(example)

    async def close(self) -> None:
        """Close connections."""
        await self.client.close()


def _example(item: Item, completion: Completion) -> Example | str:
    """The example in an answer, or what is wrong with it."""
    if completion.stop is not Stop.END:
        return str(completion.fault or completion.stop)
    parts = _PARTS if item.kind == "self_correction" else ("answer",)
    answer: dict[str, Any] | Reason = find_json(completion.text, parts[0])
    if isinstance(answer, Reason):
        return str(answer)
    texts = [answer.get(name) for name in parts]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return "a part is missing"
    if item.kind == "normal":
        return normal(item, str(texts[0]))
    if len(str(texts[1])) > _LONGEST_ACKNOWLEDGEMENT:
        return "the acknowledgement is no single sentence"
    return self_correction(item, *(str(text) for text in texts))
