"""A language model as judge, whichever provider serves it."""

from __future__ import annotations

from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.client import MAX_TOKENS, Client, Completion, Stop
from esr.judge.parsing import Reason, read_attempts, verbatim
from esr.judge.rubric import Output, Rubric


class LlmJudge:
    """Judges by asking a model (:class:`esr.judge.base.Judge`).

    Args:
        client: who is asked.
        rubric: by which rules.
        output: how the answer is to be given, where the rubric has that form.
        settings: further facts for the judge's identity, such as a server's address.
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
        self._info = JudgeInfo(
            client.model,
            rubric.hash(self.output),
            {
                "provider": client.provider,
                "rubric": rubric.name,
                "output": self.output,
                "max_tokens": MAX_TOKENS,
                "temperature": None,
                **(settings or {}),
            },
        )

    @property
    def info(self) -> JudgeInfo:
        """Who judges, by which rules. Temperature None: the provider's default."""
        return self._info

    async def grade(self, request: JudgeRequest) -> Verdict:
        """Judge one response; a provider's fault is a status."""
        completion = await self.client.complete(self.rubric.request(request, self.output))
        return verdict(completion, request.response)

    async def close(self) -> None:
        """Close connections."""
        await self.client.close()

    def __repr__(self) -> str:
        return f"LlmJudge({self.client.model!r}, rubric={self.rubric.name!r})"


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
