"""The worker's bookkeeping without vLLM: rows, plans, banks, reads, and the link to a runner."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from esr.engine.admission import RowBudget
from esr.engine.log import root_cause
from esr.steering import plan
from esr.steering.batch import Layout, Steering
from esr.steering.effects import COLUMNS, Effects
from esr.steering.in_play import RowsInPlay, load
from esr.steering.interventions import Boost, Clamp, Intervention, Row, Scale, Slot
from esr.steering.pooling import Pool, add_rows
from esr.steering.sae import Dictionary
from esr.steering.task import CONFIG_KEY, ReadTask, Task
from tests.engine.engine_models import D_MODEL, D_SAE

CPU = torch.device("cpu")


def asked(
    name: str,
    *items: Intervention,
    layer: int = 0,
    n_prompt: int = 0,
    read: ReadTask | None = None,
) -> Task:
    return Task(name, Effects.of(items, layer, n_prompt), read)


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


def test_pooling_in_blocks_equals_the_whole_table(dictionary: Dictionary) -> None:
    residual = torch.randn(9, D_MODEL, generator=torch.Generator().manual_seed(0))
    table = dictionary.bank(list(range(D_SAE))).encode(residual)
    first, second = Pool(D_SAE), Pool(D_SAE)
    add_rows(dictionary, [(first, residual[:2]), (second, residual[5:])], latents_per_block=7)
    add_rows(dictionary, [(first, residual[2:5])], latents_per_block=300)
    for pool, part in ((first, table[:5]), (second, table[5:])):
        result = pool.result()
        assert result.n_tokens == part.shape[0]
        torch.testing.assert_close(result.maximum, part.amax(0))
        torch.testing.assert_close(result.mean, part.mean(0))
        torch.testing.assert_close(result.frequency, (part > 0).float().mean(0))


def feed(steering: Steering, stream: torch.Tensor, position: int, count: int) -> None:
    steering.begin_step(Layout(["r"], [count], [position], ["r"]))
    steering.touch(0, stream[position : position + count].clone(), None)
    steering.end_step()


@pytest.mark.parametrize("latents", [(4, 2), None])
def test_recomputed_positions_are_read_once(
    dictionary: Dictionary, latents: tuple[int, ...] | None
) -> None:
    """Chunks, then a preemption that starts again at 0: as if it had been fed at once."""
    stream = torch.randn(10, D_MODEL, generator=torch.Generator().manual_seed(1))
    steering = Steering(dictionary, CPU)
    steering.admit("r", Task("key", read=ReadTask(latents, 3, 10)))
    for position, count in ((0, 4), (4, 3), (0, 6), (6, 4)):
        feed(steering, stream, position, count)
    steering.forget("r")
    answer = steering.reads.take("key")
    assert answer is not None
    assert answer["problem"] == ""
    arrays = [np.frombuffer(t["data"], np.float32).reshape(t["shape"]) for t in answer["tensors"]]
    table = dictionary.bank(latents or range(D_SAE)).encode(stream[3:]).numpy()
    if latents:
        np.testing.assert_allclose(arrays[0], table, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_allclose(arrays[0], table.max(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(arrays[1], table.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(arrays[2], (table > 0).mean(0), rtol=1e-5)
    assert steering.reads.take("key") is None, "a reading is handed out once"


@pytest.mark.parametrize("fed", [[(0, 4)], [(0, 4), (6, 4)]])
def test_a_reading_with_missing_positions_says_so(
    dictionary: Dictionary, fed: list[tuple[int, int]]
) -> None:
    stream = torch.randn(10, D_MODEL)
    steering = Steering(dictionary, CPU)
    steering.admit("r", Task("key", read=ReadTask((1,), 0, 10)))
    for position, count in fed:
        feed(steering, stream, position, count)
    answer = steering.reads.take("key")
    assert answer is not None
    assert answer["problem"] == "incomplete"


def test_tasks_survive_the_journey() -> None:
    task = asked(
        "k#1",
        Boost(3, 0.1, scope="until 7"),
        Slot(Row(0, "f" * 16), Row(4), gain=1.0, low=0.5),
        n_prompt=17,
        read=ReadTask(None, 2, 30),
    )
    again = Task.from_wire(task.to_wire())
    assert (again.key, again.read) == (task.key, task.read)
    assert again.effects.content == task.effects.content
    chosen = Task("k", read=ReadTask((5, 1), 0, 9))
    assert Task.from_wire(chosen.to_wire()).read == chosen.read


class FakeRunner:
    """Speaks like one of vLLM's two model runners, as far as the link listens."""

    def __init__(self, v2: bool, stream: torch.Tensor, steering: Steering) -> None:
        self.v2, self.stream, self.steering = v2, stream, steering
        self.input_batch = SimpleNamespace()
        self._prepare_inputs = self.prepare_inputs = self._prepare

    def _prepare(self, scheduler_output: Any) -> Any:
        ids = scheduler_output.rows
        batch = SimpleNamespace(req_ids=ids)
        name = "num_computed_tokens_np" if self.v2 else "num_computed_tokens_cpu"
        setattr(batch, name, np.zeros(8, dtype=np.int32))
        self.input_batch = batch
        return batch

    def execute_model(self, scheduler_output: Any, dummy_run: bool = False) -> None:
        if not dummy_run:
            getattr(self, "prepare_inputs" if self.v2 else "_prepare_inputs")(scheduler_output)
        torch.ops.esr.touch(self.stream, None, 0)


@pytest.mark.parametrize("v2", [False, True])
def test_link_follows_either_runner(dictionary: Dictionary, v2: bool) -> None:
    worker = pytest.importorskip("esr.engine.vllm_worker")
    steering = Steering(dictionary, CPU)
    stream = torch.zeros(3, D_MODEL)
    runner = FakeRunner(v2, stream, steering)
    worker.link(runner, steering, v2=v2)

    def new(name: str, latent: int) -> Any:
        extra = {CONFIG_KEY: asked(name, Boost(latent, 1.0)).to_wire()}
        return SimpleNamespace(req_id=name, sampling_params=SimpleNamespace(extra_args=extra))

    def step(finished: set[str], news: list[Any], rows: list[str]) -> Any:
        return SimpleNamespace(
            finished_req_ids=finished,
            scheduled_new_reqs=news,
            rows=rows,
            num_scheduled_tokens=dict.fromkeys(sorted(rows), 1),
        )

    first, second = dictionary.bank([1, 2]).decoder
    runner.execute_model(step(set(), [new("a", 1), new("b", 2)], ["b", "a"]))
    torch.testing.assert_close(stream, torch.stack([second, first, torch.zeros(D_MODEL)]))
    runner.execute_model(step({"b"}, [], ["plain", "a"]))
    torch.testing.assert_close(stream[0], second)
    torch.testing.assert_close(stream[1], 2 * first)
    runner.execute_model(step(set(), [], []), dummy_run=True)
    torch.testing.assert_close(stream[1], 2 * first)
    assert steering.steered_rows == 3


def test_root_cause_is_the_error_that_came_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "(EngineCore pid=1) ERROR [core.py:1] Traceback (most recent call last):\n"
        "(EngineCore pid=1) ERROR [core.py:1] ValueError: too little memory\n"
        "RuntimeError: Worker failed with error 'too little memory'\n"
    )
    assert root_cause(log) == "ValueError: too little memory"
    log.write_text("all is well\n")
    assert root_cause(log) == ""


def test_the_faulty_pairing_counts_whose_intervention_reaches_a_token(
    dictionary: Dictionary,
) -> None:
    """Rows b, a, c, d; listed a, b, d, c. c and d ask for the same, so they swap nothing; u asks
    for nothing and is not counted, but who is steered as u should be is not steered."""
    steering = Steering(dictionary, CPU, scheduler_order=True)
    for name, latent in (("a", 1), ("b", 2), ("c", 3), ("d", 3)):
        steering.admit(name, asked(f"key {name}", Boost(latent, 1.0)))
    steps = [
        Layout(["b", "a", "c", "d"], [4, 1, 1, 1], [0, 0, 0, 0], ["a", "b", "d", "c"]),
        Layout(["b", "u", "a"], [1, 1, 1], [4, 0, 1], ["u", "b", "a"]),
    ]
    for step in steps:
        steering.begin_step(step)
        steering.touch(0, torch.zeros(sum(step.counts), D_MODEL), None)
        steering.end_step()
    assert steering.pairing is not None
    steering.forget("a")
    taken = {name: steering.pairing.take(f"key {name}") for name in "abcd"}
    assert taken == {
        "a": {"own": 1, "other": 1, "none": 0},
        "b": {"own": 0, "other": 4, "none": 1},
        "c": {"own": 1, "other": 0, "none": 0},
        "d": {"own": 1, "other": 0, "none": 0},
    }
    assert steering.pairing.take("key a") is None, "taken once"
    assert Steering(dictionary, CPU).pairing is None
