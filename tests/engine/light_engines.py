"""Engines without a model, quick to start in an actor: no import of torch."""

from __future__ import annotations

import os
from pathlib import Path

from esr.engine.base import Generation, GenerationRequest, Reading, ReadRequest
from esr.errors import UserError


class Fatal:
    """Its process ends with the first request; it starts while a file is there."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            raise UserError(f"{file} is gone")

    async def generate(self, request: GenerationRequest) -> Generation:
        os._exit(len(request.request_id))

    async def read(self, request: ReadRequest) -> Reading:
        os._exit(len(request.request_id))

    def describe(self) -> dict[str, object]:
        return {}

    async def close(self) -> None:
        pass
