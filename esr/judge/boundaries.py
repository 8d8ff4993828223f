"""Where a self-correcting response goes off topic, restarts and is on topic again (paper A.4).

The model is asked for the words each stretch begins with, and these are looked up in the
response: models quote well and count characters badly.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from esr.judge.base import FAILURES, JudgeRequest, Status
from esr.judge.client import Client
from esr.judge.completion import Completion, Request, Stop
from esr.judge.parsing import Reason, find_json
from esr.judge.spans import find
from esr.runs.plain import digest

_SYSTEM = """\
A language model answered a prompt while one of its internal features, unrelated to the prompt, \
was amplified. The answer drifts off topic, then says that it starts over, and comes back to the \
prompt. Mark where three stretches begin:
- off_topic: where the text first leaves the prompt for the feature's subject or for nonsense; \
this is the very beginning if it never was on topic;
- correction: the first words of the remark that announces the new start, such as "wait, that's \
not right";
- on_topic: where, after the correction, the answer to the prompt begins; this is the correction \
itself if announcement and answer cannot be told apart.

For each give the first six to ten words of the stretch, copied exactly, with the same spelling, \
capitals and punctuation. First think in plain text, then answer with JSON between tags:
<json>{"off_topic": "...", "correction": "...", "on_topic": "..."}</json>
If the text never corrects itself, answer <json>{"off_topic": null, "correction": null, \
"on_topic": null}</json>"""


def prompt_digest() -> str:
    """Digest of what a model is told, 16 hex digits."""
    return digest(_SYSTEM, 16)


@dataclass(frozen=True)
class Boundaries:
    """Character positions in the response: off topic < correction <= on topic."""

    off_topic: int
    correction: int
    on_topic: int


@dataclass(frozen=True)
class Annotation:
    """What became of one annotation.

    Attributes:
        status: GRADED with boundaries, NO_ATTEMPTS where the text does not correct itself, or a
            failure, which is asked for again when the command is repeated.
        boundaries: None unless GRADED.
        raw: what the model answered.
        reason: why a failure failed.
    """

    status: Status
    boundaries: Boundaries | None = None
    raw: str = ""
    reason: str = ""

    @property
    def answered(self) -> bool:
        """Whether the model gave an answer that need not be asked for again."""
        return self.status not in FAILURES


class _Quotes(BaseModel):
    off_topic: str | None
    correction: str | None
    on_topic: str | None


async def annotate(client: Client, request: JudgeRequest) -> Annotation:
    """Boundaries of one response, asked of a language model; a provider's fault is a status."""
    user = (
        f"<prompt>\n{request.prompt}\n</prompt>\n\n<unrelated_feature>\n"
        f"{request.latent_label}\n</unrelated_feature>\n\n"
        f"<response>\n{request.response}\n</response>"
    )
    completion = await client.complete(
        Request(_SYSTEM, user, purpose="boundaries"),
        usable=lambda answer: read(answer, request.response).answered,
    )
    return read(completion, request.response)


def read(completion: Completion, response: str) -> Annotation:
    """Boundaries from an answer, as positions in the response."""
    text = completion.text
    if completion.stop is Stop.FAILED:
        return Annotation(Status.FAILED, None, text, str(completion.fault))
    if completion.stop in (Stop.REFUSED, Stop.FILTERED):
        return Annotation(Status.REFUSED, None, text, str(completion.stop))
    answer = find_json(text, "correction")
    if isinstance(answer, Reason):
        return Annotation(Status.UNPARSEABLE, None, text, str(answer))
    try:
        quotes = _Quotes.model_validate(answer)
    except ValidationError:
        return Annotation(Status.UNPARSEABLE, None, text, "quotes_malformed")
    if quotes.correction is None:
        return Annotation(Status.NO_ATTEMPTS, None, text)
    boundaries = locate(response, quotes.off_topic, quotes.correction, quotes.on_topic)
    if boundaries is None:
        return Annotation(Status.UNPARSEABLE, None, text, "quotes_not_found")
    return Annotation(Status.GRADED, boundaries, text)


def locate(
    response: str, off_topic: str | None, correction: str, on_topic: str | None
) -> Boundaries | None:
    """Positions of three quotes; None unless they are found in order."""
    if not (off_topic and correction and on_topic):
        return None
    first = find(response, off_topic, any_case=True)
    # A model may write the same words twice, so the correction is sought after the first stretch.
    second = find(response, correction, first[0] + 1, any_case=True) if first else None
    third = find(response, on_topic, second[0], any_case=True) if second else None
    return Boundaries(first[0], second[0], third[0]) if first and second and third else None
