"""The loopback judge: scores fixed by the response, faults by plan, every answer logged.

A run names itself by its key, so that one server, at one address, serves all runs at once. Start:
``python -m tests.faults.judge FOLDER``; the address goes to ``FOLDER/url``.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

from tests.judge_replies import Call, Reply
from tests.judge_server import JudgeServer

RESPONSE = re.compile(r"seed (\d+) boost (-?[\d.]+)")
"""What the stand-in engine says first: it names the response."""

SENTENCE = re.compile(r"seed \d+ boost -?[\d.]+[^.]*\.")
TOKENS = (1000, 100, 0)

DEAD = {401: "invalid key", 402: "insufficient_quota"}
BODIES: list[str] = [
    "",
    "<html>502 Bad Gateway</html>",
    "[]",
    "null",
    '{"choices": [null]}',
    '{"choices": []}',
    '{"choices": [{"index": 0, "message": "text", "finish_reason": "stop"}]}',
    '{"choices": [{"message": {"content": ["a", 1]}}], "usage": "many"}',
    '{"choices": [{"message": {"content": 5}}], "usage": {"prompt_tokens": null}}',
    '{"error": {"message": "upstream", "code": 502}}',
    "{" * 5000,
]


def plain_reply(call: Call) -> Reply:
    """What a healthy judge answers."""
    system = json.dumps(call.body)
    if "ratings" in system and "how concrete" in system:
        count = len(re.findall(r"^\d+\. ", call.user, re.MULTILINE))
        ratings = [{"number": n + 1, "rating": 80} for n in range(count)]
        return Reply(f"<json>{json.dumps({'ratings': ratings})}</json>", usage=TOKENS)
    attempts = [
        {"attempt_text": part, "score": max(0, 90 - 12 * part.count(" off"))}
        for part in SENTENCE.findall(call.user)
    ]
    return Reply(f"<json>{json.dumps({'attempts': attempts})}</json>", usage=TOKENS)


def faulty_reply(call: Call, dice: random.Random, kind: str) -> Reply:
    """A fault; none of them is an answer that can be believed."""
    whole = plain_reply(call)
    faults: dict[str, list[Reply]] = {
        "passing": [
            *(Reply("slow down", status=429, headers={"retry-after": "0.01"}) for _ in range(2)),
            *(Reply("down", status=status) for status in (500, 502, 503, 529, 408)),
            Reply(whole.text, cut=True),
        ],
        "bodies": [Reply(raw=body) for body in BODIES],
        "answers": [
            Reply("I can not grade this."),
            Reply(whole.text[: len(whole.text) // 2]),
            Reply(whole.text.replace('"score"', '"grade"')),
            Reply("", refusal="I will not."),
            Reply("", stop="content_filter"),
            Reply("lone \ud800 surrogate <json>{</json>"),
            Reply("{" * 20_000),
            Reply(whole.text, model="another-model"),
            Reply(whole.text, usage=(-5, -5, 0)),
            Reply("bad", status=400),
        ],
    }
    return dice.choice(faults.get(kind) or [reply for some in faults.values() for reply in some])


class Plans:
    """Reads what to do to a run from ``FOLDER/<run>.json`` and logs to ``FOLDER/<run>.calls``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = JudgeServer(self.reply)
        self.counts: dict[str, int] = {}

    def reply(self, call: Call) -> Reply:
        self.server.calls.clear()
        self.server._asked.clear()
        name = call.headers.get("authorization", "").removeprefix("Bearer ")
        file = self.folder / f"{name}.json"
        plan: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        number = self.counts[name] = self.counts.get(name, 0) + 1
        dice = random.Random(f"{plan.get('seed')}/{number}")
        reply, healthy = plain_reply(call), True
        if number - plan.get("since", 0) > plan.get("dead_after", 10**9):
            reply, healthy = Reply(DEAD[plan["dead"]], status=plan["dead"]), False
        elif dice.random() < plan.get("share", 0.0):
            reply, healthy = faulty_reply(call, dice, plan.get("kind", "")), False
        match = RESPONSE.search(call.user)
        question = f"{match[1]}/{match[2]}" if match else "other"
        line = {"question": question, "healthy": healthy, "billed": TOKENS if healthy else None}
        with (self.folder / f"{name}.calls").open("a") as log:
            log.write(json.dumps(line) + "\n")
        return reply


async def main(folder: Path) -> None:
    """Serve until the process is ended."""
    async with Plans(folder).server.running() as server:
        (folder / "url.partial").write_text(server.url)
        (folder / "url.partial").rename(folder / "url")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
