"""The providers' batch endpoints: send, find again, wait, fetch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from esr.errors import UserError
from esr.judge.client import Client
from esr.judge.completion import Completion, failed
from esr.judge.faults import Fault

if TYPE_CHECKING:
    from esr.judge.anthropic import AnthropicClient
    from esr.judge.openai import OpenAIClient


class BatchApi(Protocol):
    """A provider's batch endpoint. Any method may raise what the SDK raises."""

    @property
    def marked(self) -> bool:
        """Whether a batch carries our mark, so that :meth:`find` cannot give another's."""
        ...

    async def submit(self, bodies: dict[str, dict[str, Any]], mark: str) -> str:
        """Send requests by id, once; the id of the batch."""
        ...

    def find(self, mark: str, since: float, count: int) -> AsyncIterator[str]:
        """Batches that may be ours, of those made after ``since``, the newest first."""
        ...

    async def finished(self, batch: str) -> bool:
        """Whether the batch has ended, one way or the other."""
        ...

    async def results(self, batch: str) -> dict[str, Completion]:
        """Completions by request id; what the provider did not answer is left out."""
        ...


class OpenAIBatches:
    """Batches of chat completions (:class:`BatchApi`), marked by their metadata."""

    marked = True

    def __init__(self, client: OpenAIClient) -> None:
        self._sdk = client.sdk

    async def submit(self, bodies: dict[str, dict[str, Any]], mark: str) -> str:
        """Upload the requests and start a batch."""
        url = "/v1/chat/completions"
        lines = (
            json.dumps({"custom_id": key, "method": "POST", "url": url, "body": body})
            for key, body in bodies.items()
        )
        content = "\n".join(lines).encode()
        file = await self._sdk.files.create(file=("requests.jsonl", content), purpose="batch")
        batch = await self._sdk.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"esr": mark},
        )
        return batch.id

    async def find(self, mark: str, since: float, count: int) -> AsyncIterator[str]:  # noqa: ARG002
        """The batch with that mark; the list is read until it is older than ``since``."""
        async for batch in self._sdk.batches.list(limit=100):
            if batch.created_at < since:
                return
            if (batch.metadata or {}).get("esr") == mark:
                yield batch.id

    async def finished(self, batch: str) -> bool:
        """Whether the batch has ended."""
        state = (await self._sdk.batches.retrieve(batch)).status
        return state in ("completed", "failed", "expired", "cancelled")

    async def results(self, batch: str) -> dict[str, Completion]:
        """Completions by request id, errors included."""
        ended = await self._sdk.batches.retrieve(batch)
        completions = {}
        for file in (ended.output_file_id, ended.error_file_id):
            if file:
                content = await self._sdk.files.content(file)
                for line in content.text.splitlines():
                    item = json.loads(line)
                    completions[item["custom_id"]] = _from_line(item)
        return completions


def _from_line(item: dict[str, Any]) -> Completion:
    from openai.types.chat import ChatCompletion

    from esr.judge.openai import read

    response = item.get("response") or {}
    if response.get("status_code") != 200:
        return failed(Fault.SERVER, json.dumps(item.get("error") or response.get("body")))
    try:
        return read(ChatCompletion.model_validate(response["body"]))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return failed(Fault.MALFORMED, f"{type(error).__name__}: {error}")


class AnthropicBatches:
    """Message batches (:class:`BatchApi`). Anthropic has no place for a mark."""

    marked = False

    def __init__(self, client: AnthropicClient) -> None:
        self._batches = client.sdk.messages.batches

    async def submit(self, bodies: dict[str, dict[str, Any]], mark: str) -> str:  # noqa: ARG002
        """Send a batch."""
        requests: Any = [{"custom_id": key, "params": body} for key, body in bodies.items()]
        return (await self._batches.create(requests=requests)).id

    async def find(self, mark: str, since: float, count: int) -> AsyncIterator[str]:  # noqa: ARG002
        """Batches of that size; the list is read until it is older than ``since``."""
        async for batch in self._batches.list(limit=100):
            if batch.created_at.timestamp() < since:
                return
            counts = batch.request_counts
            ended = counts.succeeded + counts.errored + counts.canceled + counts.expired
            if counts.processing + ended == count:
                yield batch.id

    async def finished(self, batch: str) -> bool:
        """Whether the batch has ended."""
        return (await self._batches.retrieve(batch)).processing_status == "ended"

    async def results(self, batch: str) -> dict[str, Completion]:
        """Completions by request id."""
        from esr.judge.anthropic import read

        completions = {}
        async for item in await self._batches.results(batch):
            if item.result.type == "succeeded":
                completions[item.custom_id] = read(item.result.message)
            else:
                completions[item.custom_id] = failed(Fault.SERVER, item.result.to_json())
        return completions


def batch_api(client: Client) -> BatchApi:
    """The batch endpoint of a client's provider.

    Raises:
        UserError: it has none.
    """
    if client.provider == "anthropic":
        return AnthropicBatches(cast("AnthropicClient", client))
    if client.provider == "openai":
        return OpenAIBatches(cast("OpenAIClient", client))
    raise UserError(
        f"judge {client.model} has no batch endpoint",
        "haiku, sonnet, gpt-5-mini",
        "leave out --judge-batch",
    )
