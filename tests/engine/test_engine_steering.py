"""The worker's bookkeeping without vLLM: rows, plans, banks, reads, and the link to a runner."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
import torch

from esr.engine.admission import RowBudget
from esr.steering import plan
from esr.steering.batch import Layout, Steering
from esr.steering.effects import COLUMNS
from esr.steering.in_play import RowsInPlay, load
from esr.steering.interventions import Boost, Clamp, Intervention, Row, Scale, Slot
from esr.steering.sae import Dictionary
from esr.steering.task import Task
from tests.engine.asked import CPU, asked
from tests.engine.engine_models import D_MODEL, D_SAE


def steered_alone(
    task: Task, layer: int, stream: torch.Tensor, position: int, dictionary: Dictionary
) -> torch.Tensor:
    """Row by row and slot by slot, from the task's table alone."""
    rows, writes, reads = task.effects.rows
    bank = load(dictionary, rows)
    result = stream.clone()
    for line, write, read in zip(task.effects.table, writes, reads, strict=True):
        slot = dict(zip(COLUMNS, line.tolist(), strict=True))
        for i, row in enumerate(stream):
            if slot["layer"] != layer or not slot["start"] <= position + i < slot["end"]:
                continue
            p = torch.relu(row @ bank.encoder[read] + bank.encoder_bias[read])
            p = p * (p > bank.threshold[read]) * (slot["read"] >= 0)
            if slot["low"] <= p < slot["high"]:
                amount = slot["boost"] + slot["target"] + slot["gain"] * p
                result[i] += amount * bank.decoder[write]
    return result


@pytest.mark.parametrize("with_residual", [True, False])
def test_every_row_gets_its_own_interventions(dictionary: Dictionary, with_residual: bool) -> None:
    """Random batches in which requests come, go, wait and change places; two layers, all scopes."""
    rng = random.Random(3)
    torch.manual_seed(3)
    layers = (0, 2)
    steering = Steering(dictionary, CPU, layers=layers, feature_layer=1)
    tasks: dict[str, Task] = {}
    for step in range(60):
        for name in [n for n in tasks if rng.random() < 0.15]:
            del tasks[name]
            steering.forget(name)
        while len(tasks) < 6:
            name = f"q{step}.{len(tasks)}"
            scope = rng.choice(["all", "prompt", "generated", "until 2"])
            k = rng.randrange(99)
            kinds: list[tuple[Intervention, ...]] = [
                (),
                (Boost(k, 2.0, scope=scope),),
                (Clamp(k, scope=scope), Boost(100 + k, -1.0, layer=2), Clamp(200, 3.0)),
                (Slot(Row(k), Row(k + 1), gain=2.0, low=0.5, layer=2, scope=scope),),
            ]
            tasks[name] = asked(name, *rng.choice(kinds), n_prompt=rng.choice([0, 4]))
            steering.admit(name, tasks[name])
        ids = rng.sample(list(tasks), rng.randint(1, len(tasks)))
        counts = [rng.randint(1, 4) for _ in ids]
        positions = [rng.randint(0, 6) for _ in ids]
        steering.begin_step(Layout(ids, counts, positions, ids))
        for layer in layers:
            hidden, residual = torch.randn(2, sum(counts) + 2, D_MODEL)
            stream = hidden + residual if with_residual else hidden.clone()
            steering.touch(layer, hidden, residual if with_residual else None)
            after = hidden + residual if with_residual else hidden
            row = 0
            for name, count, position in zip(ids, counts, positions, strict=True):
                part = slice(row, row + count)
                expected = steered_alone(tasks[name], layer, stream[part], position, dictionary)
                torch.testing.assert_close(after[part], expected, rtol=1e-5, atol=1e-5)
                row += count
            assert torch.equal(after[row:], stream[row:]), "padding rows stay as they were"
        steering.end_step()


@pytest.mark.parametrize("device_rows", [1, 2**24])
def test_many_latents_at_once_equal_one_after_the_other(
    dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch, device_rows: int
) -> None:
    """Long and short pieces, shared latents, up to 60 of them; tables in one block and in many."""
    monkeypatch.setattr(plan, "COEFFICIENTS", device_rows)
    rng = random.Random(8)
    steering = Steering(dictionary, CPU)
    tasks, counts = [], []
    for i in range(40):
        chosen = rng.sample(range(D_SAE), rng.choice([1, 2, 3, 27, 60]))
        kinds: list[Intervention] = [
            rng.choice([Boost, Clamp, Scale])(latent, rng.uniform(-3, 3)) for latent in chosen
        ]
        if len(kinds) > 1:
            kinds.append(Boost(7, 1.0))
        if len(kinds) == 4:
            kinds.append(Slot(Row(9), Row(7), boost=1.0, low=0.1))
        tasks.append(asked(str(i), *(kinds if i % 4 else ())))
        counts.append(rng.choice([1, 1, 1, 5, 40]))
        steering.admit(str(i), tasks[-1])
    hidden, residual = torch.randn(2, sum(counts), D_MODEL)
    stream = hidden + residual
    ids = [task.key for task in tasks]
    steering.begin_step(Layout(ids, counts, [0] * 40, ids))
    n_long = sum(bool(task.effects) and n == 40 for task, n in zip(tasks, counts, strict=True))
    layer = steering._layers[0]
    assert isinstance(layer, plan.Layer)
    assert len(layer.blocks) >= n_long + 1
    steering.touch(0, hidden, residual)
    steering.end_step()
    row = 0
    for task, count in zip(tasks, counts, strict=True):
        part = slice(row, row + count)
        expected = steered_alone(task, 0, stream[part], 0, dictionary)
        torch.testing.assert_close((hidden + residual)[part], expected, rtol=1e-5, atol=1e-4)
        row += count


def test_steady_decoding_reuses_the_plan(dictionary: Dictionary) -> None:
    steering = Steering(dictionary, CPU)
    ids = ["a", "b", "c"]
    for i, name in enumerate(ids):
        steering.admit(name, asked(name, Boost(i, 1.0)))
    for step in range(10):
        steering.begin_step(Layout(ids, [1] * 3, [5 + step] * 3, ids))
        steering.touch(0, torch.zeros(3, D_MODEL), torch.zeros(3, D_MODEL))
        steering.end_step()
    assert steering.plans_built == 1
    assert steering.steered_rows == 30


def test_a_request_that_takes_over_a_place_is_not_mistaken_for_the_former(
    dictionary: Dictionary,
) -> None:
    steering = Steering(dictionary, CPU)
    for latent in (3, 4):
        steering.admit("same-id", asked(f"k{latent}", Boost(latent, 1.0)))
        hidden = torch.zeros(1, D_MODEL)
        steering.begin_step(Layout(["same-id"], [1], [0], ["same-id"]))
        steering.touch(0, hidden, None)
        torch.testing.assert_close(hidden[0], dictionary.bank([latent]).decoder[0])


def test_a_hook_that_did_not_run_stops_the_engine(dictionary: Dictionary) -> None:
    steering = Steering(dictionary, CPU)
    steering.admit("a", asked("a", Boost(1, 1.0)))
    steering.begin_step(Layout(["a"], [2], [0], ["a"]))
    with pytest.raises(RuntimeError, match="did not run"):
        steering.end_step()


def test_scheduler_order_pairs_by_place_in_the_list(dictionary: Dictionary) -> None:
    rows = dictionary.bank([1, 2]).decoder
    for faulty in (False, True):
        steering = Steering(dictionary, CPU, scheduler_order=faulty)
        steering.admit("a", asked("a", Boost(1, 1.0)))
        steering.admit("b", asked("b", Boost(2, 1.0)))
        hidden = torch.zeros(2, D_MODEL)
        steering.begin_step(Layout(["b", "a"], [1, 1], [0, 0], ["a", "b"]))
        steering.touch(0, hidden, None)
        torch.testing.assert_close(hidden, rows if faulty else rows.flip(0))


def test_rows_in_play_stay_at_the_front_while_they_are_used(dictionary: Dictionary) -> None:
    in_play = RowsInPlay(dictionary, CPU, capacity=80)
    address = in_play.packed.data_ptr()
    held = in_play.acquire([Row(k) for k in range(10)])
    for start in range(10, 290, 20):
        some = range(start, start + 20)
        lines = in_play.acquire([Row(k) for k in some])
        assert in_play.n == 30
        expected, chosen = dictionary.bank(list(some)).centred(), torch.from_numpy(lines)
        for name in ("encoder", "encoder_bias", "threshold", "decoder"):
            front = getattr(in_play.front(30), name)
            assert torch.equal(front[chosen], getattr(expected, name)), name
            assert torch.equal(getattr(in_play.chosen(chosen), name), getattr(expected, name))
        in_play.acquire([Row(k) for k in some])
        in_play.release([Row(k) for k in some])
        assert in_play.n == 30, "another request uses them"
        in_play.release([Row(k) for k in some])
        assert in_play.n == 10
    assert in_play.acquire([Row(k) for k in range(10)]).tolist() == held.tolist()
    assert in_play.packed.data_ptr() == address
    with pytest.raises(RuntimeError, match="all 80 rows are in use, 71 more are needed"):
        in_play.acquire([Row(k) for k in range(100, 171)])


async def test_requests_wait_for_rows_that_others_use() -> None:
    """No more latents are in flight than the worker has rows; all get their turn."""
    budget, held, most, rng = RowBudget(100), Counter[int](), 0, random.Random(4)

    async def request(latents: list[int]) -> None:
        nonlocal most
        async with budget.hold(latents):
            held.update(latents)
            most = max(most, len(+held))
            try:
                await asyncio.sleep(0.001 * rng.random())
            finally:
                held.subtract(latents)

    wanted = [rng.sample(range(300), rng.choice([0, 1, 40, 100])) for _ in range(200)]
    tasks = [asyncio.create_task(request(latents)) for latents in wanted]
    await asyncio.sleep(0)
    tasks[5].cancel()
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert [i for i, answer in enumerate(answers) if answer is not None] == [5]
    assert most == 100
