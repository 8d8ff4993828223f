"""A language model as judge, whichever provider serves it."""

from __future__ import annotations

from collections.abc import Mapping

from esr.judge.base import Attempt, Judge, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.client import Client
from esr.judge.completion import MAX_TOKENS, Completion, Stop
from esr.judge.parsing import Reason, read_attempts, verbatim
from esr.judge.rubric import Output, Rubric


class LlmJudge:
    """Judges by asking a model (:class:`esr.judge.base.Judge`).

    Args:
        client: who is asked.
        rubric: by which rules.
        output: how the answer is to be given, where the rubric has that form.
        settings: further settings for the judge's identity, such as a server's address.
    """

    def __init__(
        self,
        client: Client,
        rubric: Rubric,
        output: Output = "tags",
        settings: dict[str, str] | None = None,
    ) -> None:
        self.client = client
        self.rubric = rubric
        self.output = rubric.output(output)
        self.settings = settings or {}

    @property
    def info(self) -> JudgeInfo:
        """Who judges, by which rules."""
        client = self.client
        return identity(client.model, client.provider, self.rubric, self.output, self.settings)

    async def grade(self, request: JudgeRequest) -> Verdict:
        """Judge one response; a single fault of the provider is a status."""
        completion = await self.client.complete(
            self.rubric.request(request, self.output),
            usable=lambda answer: verdict(answer, request.response).answered,
        )
        return verdict(completion, request.response)

    async def close(self) -> None:
        """Close connections."""
        await self.client.close()

    def __repr__(self) -> str:
        return f"LlmJudge({self.client.model!r}, rubric={self.rubric.name!r})"


def identity(
    model: str, provider: str, rubric: Rubric, output: Output, settings: Mapping[str, str]
) -> JudgeInfo:
    """Identity of a judge; see :class:`LlmJudge`. Temperature None: the provider's default."""
    output = rubric.output(output)
    fixed = {"max_tokens": MAX_TOKENS, "temperature": None}
    asked = {"provider": provider, "rubric": rubric.name, "output": output, **fixed, **settings}
    return JudgeInfo(model, rubric.hash(output), asked)


def client_of(judge: Judge) -> Client | None:
    """The language model behind a judge; None behind an offline one."""
    return judge.client if isinstance(judge, LlmJudge) else None


def verdict(completion: Completion, response: str) -> Verdict:
    """What a completion says of a response, tokens and money included."""
    status, attempts, reason = _read(completion)
    return Verdict(
        status,
        verbatim(attempts, response),
        completion.text,
        completion.usage.input_tokens,
        completion.usage.output_tokens,
        completion.cost,
        reason=reason,
    )


def _read(completion: Completion) -> tuple[Status, tuple[Attempt, ...], str]:
    if completion.stop is Stop.FAILED:
        return Status.FAILED, (), str(completion.fault)
    if completion.stop is Stop.REFUSED:
        return Status.REFUSED, (), str(Reason.REFUSED)
    if completion.stop is Stop.FILTERED:
        return Status.REFUSED, (), str(Reason.FILTERED)
    cut = completion.stop is Stop.LENGTH
    status, attempts, reason = read_attempts(completion.text, truncated=cut)
    return status, attempts, str(reason or "")
