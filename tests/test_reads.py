"""Reads: made once, kept in the run folder, taken up after an interruption."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from esr.engine.base import Reading, ReadRequest
from esr.errors import UserError
from esr.pipeline.context import RunContext
from esr.pipeline.reads import ReadRecord, read_key, recorded, run_reads
from esr.steering.interventions import Boost, Clamp
from esr.steering.pooling import PooledReading
from tests import scripted


class CountingEngine(scripted.ScriptedEngine):
    """Answers fixed by the request; stops answering after ``stop_after`` reads."""

    def __init__(self, log: Path, stop_after: int = 10**9) -> None:
        super().__init__(log)
        self.reads: list[str] = []
        self.stop_after = stop_after

    async def read(self, request: ReadRequest) -> Reading:
        if len(self.reads) >= self.stop_after:
            raise asyncio.CancelledError
        if len(request.token_ids) > 50:
            raise UserError("a text of 51 tokens exceeds the context", "50", "shorter")
        self.reads.append(request.request_id)
        make = torch.Generator().manual_seed(sum(request.token_ids))
        n = len(request.token_ids) - request.first_token
        if request.latents is not None:
            values = torch.rand(n, len(request.latents), generator=make)
            return Reading(request.request_id, values=values)
        maximum = torch.rand(scripted.D_SAE, generator=make)
        pooled = PooledReading(maximum, maximum / 2, (maximum > 0.5).float(), n)
        return Reading(request.request_id, pooled=pooled)


def requests() -> list[ReadRequest]:
    texts = [tuple(range(start, start + 5)) for start in range(6)]
    return [ReadRequest(f"pooled/{t[0]}", t) for t in texts] + [
        ReadRequest(f"values/{t[0]}", t, latents=(3, 1), interventions=(Boost(2, 1.5),))
        for t in texts
    ]


def with_engine(run: scripted.RunFolder, folder: Path, engine: CountingEngine) -> RunContext:
    context = scripted.context(run, folder)

    async def start() -> CountingEngine:
        return engine

    context.start_engine = start
    return context


async def test_readings_survive_the_disk_to_the_bit_and_are_made_once(tmp_path: Path) -> None:
    engine = CountingEngine(tmp_path / "log")
    with scripted.open_run(tmp_path) as run:
        context = with_engine(run, tmp_path, engine)
        assert recorded(requests()[0], context) is None
        first = await run_reads(requests(), context)
        again = await run_reads(requests(), context)
    assert len(engine.reads) == len(requests())
    assert [r.request.request_id for r in first] == [r.request_id for r in requests()]
    for request, one, two in zip(requests(), first, again, strict=True):
        fresh = await CountingEngine(tmp_path / "log").read(request)
        for record in (one, two):
            assert record.error is None
            assert record.reading is not None
            assert record.reading.request_id == request.request_id
        assert one.reading is not None
        assert two.reading is not None
        if fresh.values is not None:
            assert one.reading.values is not None
            assert torch.equal(one.reading.values, fresh.values)
        else:
            assert one.reading.pooled is not None
            assert fresh.pooled is not None
            assert one.reading.pooled.n_tokens == fresh.pooled.n_tokens == 5
            for name in ("maximum", "mean", "frequency"):
                assert torch.equal(getattr(two.reading.pooled, name), getattr(fresh.pooled, name))


async def test_an_interrupted_list_goes_on_where_it_stopped(tmp_path: Path) -> None:
    stopped = CountingEngine(tmp_path / "log", stop_after=5)
    with scripted.open_run(tmp_path) as run, pytest.raises(asyncio.CancelledError):
        await run_reads(requests(), with_engine(run, tmp_path, stopped))
    assert len(stopped.reads) == 5
    rest = CountingEngine(tmp_path / "log")
    with scripted.open_run(tmp_path) as run:
        records = await run_reads(requests(), with_engine(run, tmp_path, rest))
    assert len(rest.reads) == len(requests()) - 5
    assert not set(rest.reads) & set(stopped.reads)
    assert all(record.reading for record in records)


async def test_what_the_engine_refuses_is_a_record_with_an_error(tmp_path: Path) -> None:
    engine = CountingEngine(tmp_path / "log")
    too_long = ReadRequest("long", tuple(range(51)))
    with scripted.open_run(tmp_path) as run:
        context = with_engine(run, tmp_path, engine)
        records = await run_reads([requests()[0], too_long], context)
    assert records[0].reading is not None
    assert records[1].reading is None
    assert "exceeds the context" in str(records[1].error)


def mean_of(record: ReadRecord) -> list[float]:
    """The pooled mean; a copy, since tensors look into the file that they were read from."""
    assert record.reading is not None
    assert record.reading.pooled is not None
    return record.reading.pooled.mean.tolist()


async def test_equal_reads_are_read_once_and_a_damaged_file_again(tmp_path: Path) -> None:
    engine = CountingEngine(tmp_path / "log")
    one, other = ReadRequest("a", (1, 2, 3)), ReadRequest("b", (1, 2, 3))
    with scripted.open_run(tmp_path) as run:
        context = with_engine(run, tmp_path, engine)
        records = await run_reads([one, other], context)
        assert len(engine.reads) == 1
        assert [r.reading.request_id for r in records if r.reading] == ["a", "b"]
        means = [mean_of(record) for record in records]
        (path,) = (run.path / "reads").iterdir()
        whole = path.read_bytes()
        flipped = whole[:-5] + bytes([whole[-5] ^ 4]) + whole[-4:]
        for count, damaged in enumerate((whole[:40], b"", flipped), 2):
            path.write_bytes(damaged)
            assert recorded(one, context) is None
            path.write_bytes(damaged)
            again = await run_reads([one, other], context)
            assert len(engine.reads) == count
            assert [mean_of(record) for record in again] == means
        assert path.with_name(f"{path.name}.damaged").read_bytes() == flipped


def test_the_key_holds_all_that_can_change_a_reading() -> None:
    base = ReadRequest("a", (1, 2, 3))
    assert read_key(base) == read_key(ReadRequest("b", (1, 2, 3)))
    others = [
        ReadRequest("a", (1, 2)),
        ReadRequest("a", (1, 2, 3), latents=(1,)),
        ReadRequest("a", (1, 2, 3), latents=(2,)),
        ReadRequest("a", (1, 2, 3), first_token=1),
        ReadRequest("a", (1, 2, 3), interventions=(Clamp(1),)),
        ReadRequest("a", (1, 2, 3), interventions=(Boost(1, 0.0),)),
    ]
    assert len({read_key(r) for r in [base, *others]}) == 1 + len(others)
