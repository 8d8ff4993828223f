"""Activation reads: the only loop over them. Read once, kept in the run folder, never read again.

Each reading is a safetensors file ``reads/<key>.safetensors``, named by a hash of all that can
change it and written atomically: the file is the journal entry.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from esr.engine.base import Reading, ReadRequest
from esr.errors import StorageError, UserError
from esr.pipeline.context import Progress, RunContext
from esr.runs.entries import crc_of, set_aside
from esr.runs.plain import json_digest
from esr.steering import interventions as iv

if TYPE_CHECKING:
    from torch import Tensor


_WHOLE = ("values", "states", "logprobs")
"""Readings that are one tensor each."""


@dataclass(frozen=True)
class ReadRecord:
    """A read and what came of it.

    Attributes:
        request: what was asked.
        reading: None where the engine refused the request.
        error: one line where there is no reading; None else.
    """

    request: ReadRequest
    reading: Reading | None
    error: str | None = None


def read_key(request: ReadRequest) -> str:
    """Hash of all that can change a reading, 20 hex digits; the request id is not part of it."""
    parts: list[object] = [
        list(request.token_ids),
        None if request.latents is None else list(request.latents),
        iv.to_json(request.interventions),
        request.first_token,
    ]
    if request.n_prompt is not None:
        parts += [request.n_prompt, request.n_prefix]
    if request.states or request.logprobs:
        parts += [request.states, request.layer, request.logprobs]
    return json_digest(parts, 20)


async def run_reads(
    requests: Sequence[ReadRequest],
    context: RunContext,
    *,
    description: str = "reads",
    progress: Progress | None = None,
) -> list[ReadRecord]:
    """Read every request, in any order; records come back in the order of requests.

    What the run folder holds is taken from there. Requests that differ in their id alone are
    read once. A request that can never run, such as a text beyond the context, is a record with
    an error. ``progress`` is a bar to share; a new one where left out.
    """
    by_key = {read_key(request): request for request in requests}
    refused: dict[str, str] = {}

    async def one(key: str, request: ReadRequest, shared: Progress) -> None:
        if recorded(request, context) is None:
            try:
                _write(_file(context, key), await context.read(request))
            except UserError as error:
                refused[key] = f"engine: {error.problem}"
        shared.step()

    bar = nullcontext(progress) if progress else context.progress(len(by_key), description)
    with bar as shared:
        tasks = [asyncio.create_task(one(key, item, shared)) for key, item in by_key.items()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return [
        ReadRecord(request, recorded(request, context), refused.get(read_key(request)))
        for request in requests
    ]


def recorded(request: ReadRequest, context: RunContext) -> Reading | None:
    """The reading in the run folder; None where it has not been made, or is damaged."""
    from esr.steering.pooling import PooledReading

    path = _file(context, read_key(request))
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        # Files from before there was a CRC are taken as they are.
        if metadata.get("crc", _crc(tensors)) != _crc(tensors):
            raise ValueError("its CRC differs")
        for name in _WHOLE:
            if name in tensors:
                return Reading(request.request_id, **{name: tensors[name]})
        pooled = PooledReading(**tensors, n_tokens=int(metadata["n_tokens"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        set_aside(path, str(error))
        return None
    return Reading(request.request_id, pooled=pooled)


def _crc(tensors: Mapping[str, Tensor]) -> str:
    return crc_of({name: tensor.numpy() for name, tensor in tensors.items()})


def _file(context: RunContext, key: str) -> Path:
    return context.run.path / "reads" / f"{key}.safetensors"


def _write(path: Path, reading: Reading) -> None:
    from safetensors.torch import save_file

    if reading.pooled is not None:
        pooled = reading.pooled
        tensors = {
            "maximum": pooled.maximum,
            "mean": pooled.mean,
            "frequency": pooled.frequency,
        }
        metadata = {"n_tokens": str(pooled.n_tokens)}
    elif whole := [name for name in _WHOLE if getattr(reading, name) is not None]:
        tensors, metadata = {whole[0]: getattr(reading, whole[0])}, {}
    else:
        raise RuntimeError(f"the engine returned an empty reading for {reading.request_id}")
    contiguous = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(exist_ok=True)
        save_file(contiguous, partial, metadata={**metadata, "crc": _crc(contiguous)})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        # safetensors says of the system's error only its text.
        raise StorageError(path, error if isinstance(error, OSError) else str(error)) from error
