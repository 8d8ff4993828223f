"""What the worker reads: pooled in blocks, once per position, and complete or said not to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esr.steering.batch import Layout, Steering
from esr.steering.pooling import Pool, add_rows
from esr.steering.sae import Dictionary
from esr.steering.task import ReadTask, Task
from tests.engine.asked import CPU
from tests.engine.engine_models import D_MODEL, D_SAE


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
