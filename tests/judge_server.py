"""A local server that speaks the wire formats of the three providers, faults included."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.judge_replies import (
    Call,
    Reply,
    anthropic_message,
    anthropic_user,
    google_response,
    openai_completion,
)

Behaviour = Callable[[Call], Reply]


class JudgeServer:
    """Answers by a behaviour, and remembers what it was asked."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or (lambda _: Reply())
        self.calls: list[Call] = []
        self.batches: dict[str, dict[str, Any]] = {}
        self.files: dict[str, str] = {}
        self.batches_end = True
        self.lose_next_batch_answer = False
        self.hidden_lists = 0
        self.url = ""
        self._asked: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[JudgeServer]:
        """Serve on a free port of the loopback."""
        app = web.Application(client_max_size=1 << 28)
        app.add_routes(
            [
                web.post("/v1/messages", self._anthropic),
                web.post("/v1/chat/completions", self._openai),
                web.post("/{version}/models/{model}:generateContent", self._google),
                web.post("/v1/messages/batches", self._anthropic_submit),
                web.get("/v1/messages/batches", self._anthropic_list),
                web.get("/v1/messages/batches/{id}", self._anthropic_batch),
                web.get("/v1/messages/batches/{id}/results", self._anthropic_results),
                web.post("/v1/files", self._openai_upload),
                web.get("/v1/files/{id}/content", self._openai_file),
                web.post("/v1/batches", self._openai_submit),
                web.get("/v1/batches", self._openai_list),
                web.get("/v1/batches/{id}", self._openai_batch),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _respond(
        self,
        request: web.Request,
        provider: str,
        body: dict[str, Any],
        user: str,
        form: Callable[[Reply], Any],
        error: Callable[[Reply], Any],
    ) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(provider, body, headers, user, self._asked[user])
        self._asked[user] += 1
        self.calls.append(call)
        reply = self.behaviour(call)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        content = reply.raw
        if content is None:
            content = json.dumps(form(reply) if reply.status == 200 else error(reply))
        if not reply.cut:
            return web.Response(
                text=content,
                status=reply.status,
                headers=reply.headers,
                content_type="application/json",
            )
        response = web.StreamResponse(headers={"Content-Length": str(len(content) + 100)})
        await response.prepare(request)
        await response.write(content[:20].encode())
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._respond(
            request,
            "anthropic",
            body,
            anthropic_user(body),
            lambda reply: anthropic_message(body, reply),
            lambda reply: {"type": "error", "error": {"type": "fault", "message": reply.text}},
        )

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._respond(
            request,
            "openai",
            body,
            body["messages"][-1]["content"],
            lambda reply: openai_completion(body, reply),
            lambda reply: {"error": {"message": reply.text, "type": "fault", "code": None}},
        )

    async def _google(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model = request.match_info["model"]
        return await self._respond(
            request,
            "google",
            body,
            body["contents"][0]["parts"][0]["text"],
            lambda reply: google_response(model, reply),
            lambda reply: {
                "error": {"code": reply.status, "message": reply.text, "status": "FAULT"}
            },
        )

    async def _anthropic_submit(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        items = {item["custom_id"]: item["params"] for item in body["requests"]}
        return self._submitted(self._new_batch(items), self._anthropic_form)

    async def _anthropic_list(self, request: web.Request) -> web.Response:
        page, more = self._page(request, "after_id")
        data = [self._anthropic_form(batch) for batch in page]
        last = page[-1] if page else None
        return web.json_response({"data": data, "has_more": more, "last_id": last})

    def _page(self, request: web.Request, cursor: str) -> tuple[list[str], bool]:
        """One page of batches, the newest first, and whether there are more."""
        if self.hidden_lists:
            self.hidden_lists -= 1
            return [], False
        newest = list(reversed(self.batches))
        after = request.query.get(cursor)
        start = newest.index(after) + 1 if after else 0
        end = start + int(request.query["limit"])
        return newest[start:end], end < len(newest)

    async def _anthropic_batch(self, request: web.Request) -> web.Response:
        return web.json_response(self._anthropic_form(request.match_info["id"]))

    async def _anthropic_results(self, request: web.Request) -> web.Response:
        lines = []
        for key, params in self.batches[request.match_info["id"]]["items"].items():
            reply = self._batch_reply("anthropic", params, anthropic_user(params))
            result: dict[str, Any] = {
                "type": "succeeded",
                "message": anthropic_message(params, reply),
            }
            if reply.status != 200:
                fault = {"type": "api_error", "message": reply.text}
                result = {"type": "errored", "error": {"type": "error", "error": fault}}
            lines.append(json.dumps({"custom_id": key, "result": result}))
        return web.Response(text="\n".join(lines))

    def _anthropic_form(self, batch: str) -> dict[str, Any]:
        n, made = len(self.batches[batch]["items"]), self.batches[batch]["made"]
        counts = dict.fromkeys(("processing", "errored", "canceled", "expired"), 0)
        return {
            "id": batch,
            "type": "message_batch",
            "processing_status": "ended" if self.batches_end else "in_progress",
            "created_at": datetime.fromtimestamp(made, UTC).isoformat(),
            "expires_at": "2099-01-02T00:00:00Z",
            "request_counts": {**counts, "succeeded": n},
            "results_url": f"{self.url}/v1/messages/batches/{batch}/results",
        }

    async def _openai_upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload: Any = form["file"]
        name = f"file-{len(self.files)}"
        self.files[name] = upload.file.read().decode()
        return web.json_response(
            {
                "id": name,
                "object": "file",
                "bytes": 1,
                "created_at": 0,
                "filename": "requests.jsonl",
                "purpose": "batch",
                "status": "processed",
            }
        )

    async def _openai_file(self, request: web.Request) -> web.Response:
        return web.Response(text=self.files[request.match_info["id"]])

    async def _openai_submit(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        lines = map(json.loads, self.files[body["input_file_id"]].splitlines())
        items = {line["custom_id"]: line["body"] for line in lines}
        batch = self._new_batch(items, metadata=body["metadata"])
        self.files[f"out-{batch}"] = "\n".join(map(json.dumps, self._openai_lines(items)))
        return self._submitted(batch, self._openai_form)

    def _openai_lines(self, items: dict[str, Any]) -> list[dict[str, Any]]:
        lines = []
        for key, body in items.items():
            reply = self._batch_reply("openai", body, body["messages"][-1]["content"])
            good = reply.status == 200
            answer = openai_completion(body, reply) if good else {"error": reply.text}
            response = {"status_code": reply.status, "body": answer}
            lines.append({"custom_id": key, "response": response, "error": None})
        return lines

    async def _openai_list(self, request: web.Request) -> web.Response:
        page, more = self._page(request, "after")
        data = [self._openai_form(batch) for batch in page]
        return web.json_response({"object": "list", "data": data, "has_more": more})

    async def _openai_batch(self, request: web.Request) -> web.Response:
        return web.json_response(self._openai_form(request.match_info["id"]))

    def _openai_form(self, batch: str) -> dict[str, Any]:
        return {
            "id": batch,
            "object": "batch",
            "completion_window": "24h",
            "created_at": int(self.batches[batch]["made"]),
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-0",
            "status": "completed" if self.batches_end else "in_progress",
            "output_file_id": f"out-{batch}",
            "metadata": self.batches[batch]["metadata"],
        }

    def _new_batch(self, items: dict[str, Any], metadata: Any = None) -> str:
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {"items": items, "metadata": metadata, "made": time.time()}
        return name

    def add_others(self, count: int, item: dict[str, Any], size: int = 1) -> None:
        """Newer batches of somebody else."""
        for number in range(count):
            self._new_batch({f"other-{number}-{i}": item for i in range(size)})

    def _submitted(self, batch: str, form: Callable[[str], Any]) -> web.Response:
        if self.lose_next_batch_answer:
            self.lose_next_batch_answer = False
            return web.json_response({"error": {"message": "lost"}}, status=502)
        return web.json_response(form(batch))

    def _batch_reply(self, provider: str, body: dict[str, Any], user: str) -> Reply:
        call = Call(provider, body, {}, user, self._asked[user])
        self._asked[user] += 1
        return self.behaviour(call)
