"""The memory plan, against the sizes that models and stores really have."""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from esr import models
from esr.engine import memory, throughput
from esr.errors import UserError
from esr.models import weights
from esr.pipeline.dry_run import total_hours
from esr.pipeline.stages import Stage
from esr.steering.batch import Layout, Steering
from esr.steering.effects import Effects
from esr.steering.in_play import KEEP, RowsInPlay
from esr.steering.interventions import Clamp
from esr.steering.pooling import ENCODER_BLOCK, Pool, add_rows
from esr.steering.rows import SaeRows
from esr.steering.sae import Dictionary, write_rows
from esr.steering.task import Task

GIB = 2**30
BIG_FIVE = ("70b", "8b", "gemma-2b", "gemma-9b", "gemma-27b")


def plan(key: str, devices: int) -> memory.MemoryPlan:
    spec = models.get(key)
    assert spec.shape is not None
    return memory.plan(spec, spec.shape, devices)


def test_the_paper_s_machine_holds_every_model() -> None:
    """2 x H100 of 80 GB, tensor parallel over both (section 2.1)."""
    for key in BIG_FIVE:
        memory.check(models.get(key), "vllm", 2, 64, [80 * GIB] * 2)


def test_what_cannot_fit_is_refused_in_one_line_before_anything_loads() -> None:
    spec = models.get("70b")
    with pytest.raises(UserError, match=r"70b needs at least 7\d\.\d GiB on each GPU, which has"):
        memory.check(spec, "vllm", 1, 64, [48 * GIB])
    assert memory.check(spec, "vllm", 2, 64, [48 * GIB] * 2) == memory.GPU_SHARE
    with pytest.raises(UserError, match=r"70b needs weights of 131.* GiB on the GPU"):
        memory.check(spec, "transformers", 2, 64, [80 * GIB] * 2)
    with pytest.raises(UserError, match="split over 4 GPUs, and there are 2; allowed: 1 to 2"):
        memory.check(spec, "vllm", 4, 64, [80 * GIB] * 2)


def test_on_a_small_gpu_vllm_gets_what_steering_leaves() -> None:
    spec, plan_ = models.get("gemma-2b"), plan("gemma-2b", 1)
    share = memory.check(spec, "vllm", 1, 64, [12 * GIB])
    assert share < memory.GPU_SHARE
    assert share * 12 * GIB == pytest.approx(12 * GIB - plan_.beside)
    assert share * 12 * GIB > plan_.inside
    with pytest.raises(UserError, match="gemma-2b needs at least"):
        memory.check(spec, "vllm", 1, 64, [6 * GIB])


def test_a_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "main_memory", lambda: 4 * GIB)
    with pytest.raises(UserError, match=r"gemma-2b needs weights of 4.87 GiB on a machine"):
        memory.check(models.get("gemma-2b"), "vllm", 1, 64, [])
    monkeypatch.setattr(weights, "main_memory", lambda: 8 * GIB)
    memory.check(models.get("gemma-2b"), "vllm", 1, 64, [])


def test_as_many_replicas_as_the_gpus_hold() -> None:
    """--replicas auto: an engine on as few GPUs as hold all requests in flight, if any do."""
    eight = [80 * GIB] * 8
    assert memory.replicas(models.get("8b"), eight, 64) == 8
    # On one GPU it would fit with hardly a request in flight.
    assert plan("70b", 1).least < 80 * GIB < plan("70b", 1).least + plan("70b", 1).all_responses
    assert memory.replicas(models.get("70b"), eight, 64) == 4
    assert memory.replicas(models.get("70b"), eight[:3], 64) == 1
    assert memory.replicas(models.get("70b"), eight[:1], 64) == 1
    # Heads are not split over three, and two are too small.
    assert memory.replicas(models.get("70b"), [32 * GIB] * 8, 64) == 2
    assert memory.replicas(models.get("8b"), eight, 64, ranks=2) == 4
    assert memory.replicas(models.get("8b"), [], 64) == 1
    assert memory.replicas(models.get("70b"), [GIB] * 2, 64) == 1


def test_an_unknown_shape_refuses_nothing() -> None:
    unknown = replace(models.get("70b"), shape=None)
    assert weights.shape_of(unknown) is None
    memory.check(unknown, "vllm", 1, 64, [GIB])


def test_weights_are_as_published() -> None:
    """fp8 shrinks the linear layers and leaves embedding and output matrix in bf16."""
    spec = models.get("70b")
    assert spec.shape is not None
    embeddings = 2 * 128256 * 8192
    assert spec.shape.embedding(8192) == embeddings
    assert weights.weight_bytes(spec, spec.shape, quantised=False) / GIB == pytest.approx(
        131.4, 0.01
    )
    assert weights.weight_bytes(spec, spec.shape) == spec.shape.linear(8192) + 2 * embeddings
    # Keys and values of one token: 80 layers, 8 heads of 128, bf16; halved by two ranks.
    assert plan("70b", 1).one_response == 4097 * 2 * 80 * 8 * 128 * 2
    assert plan("70b", 2).one_response * 2 == plan("70b", 1).one_response
    # No rank has less than one head.
    assert plan("70b", 16).one_response == plan("70b", 8).one_response


def test_rows_in_play_not_the_dictionary() -> None:
    for key in ("70b", "gemma-27b"):
        spec, found = models.get(key), plan(key, 1)
        assert found.dictionary_file == 2 * 4 * spec.d_sae * spec.d_model
        assert found.sae_rows == 4 * KEEP * (2 * spec.d_model + 4)
        assert found.sae_rows + found.pooled_reads < 0.4 * found.dictionary_file


@pytest.fixture
def dictionary(tmp_path: Path) -> Dictionary:
    return write_rows(
        tmp_path / "rows.safetensors",
        torch.randn(900, 16),
        torch.zeros(900),
        torch.zeros(900),
        torch.randn(900, 16),
        torch.zeros(16),
    )


def test_rows_in_play_are_as_large_as_planned(dictionary: Dictionary) -> None:
    in_play = RowsInPlay(dictionary, torch.device("cpu"))
    spec = replace(models.get("8b"), d_model=dictionary.d_model)
    assert spec.shape is not None
    assert in_play.packed.nbytes == memory.plan(spec, spec.shape).sae_rows


class Peak(TorchDispatchMode):
    """Most bytes alive at once of the tensors that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.live: Counter[int] = Counter()
        self.sizes: dict[int, int] = {}
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        if isinstance(result, torch.Tensor):
            storage = result.untyped_storage()
            address = storage.data_ptr()
            if address in self.live or address not in inputs:
                if address not in self.live:
                    self.sizes[address] = storage.nbytes()
                    self.bytes += storage.nbytes()
                    self.peak = max(self.peak, self.bytes)
                self.live[address] += 1
                weakref.finalize(result, self._gone, address)
        return result

    def _gone(self, address: int) -> None:
        self.live[address] -= 1
        if not self.live[address]:
            del self.live[address]
            self.bytes -= self.sizes.pop(address)


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("n_latents", [1, 2, 27])
def test_steering_needs_no_more_than_planned(
    tmp_path: Path, n_latents: int, gathered: bool
) -> None:
    """The largest step: every row steered, in half precision, as a slice and row by row."""
    n, width = 512, 256
    rows = write_rows(
        tmp_path / "rows.safetensors",
        torch.randn(40, width),
        torch.zeros(40),
        torch.zeros(40),
        torch.randn(40, width),
        torch.randn(width),
    )
    steering = Steering(rows, torch.device("cpu"))
    counts = [n // 2, n - n // 2 - 1]
    for name in ("a", "b"):
        steering.admit(name, Task(name, Effects.of(map(Clamp, range(n_latents)), 0, 0)))
    ids = ["a", "plain", "b"] if gathered else ["a", "b"]
    steps = [counts[0], 1, counts[1]] if gathered else counts
    steering.begin_step(Layout(ids, steps, [0] * len(ids), ids))
    hidden, residual = torch.randn(2, n, width).to(torch.bfloat16)
    with Peak() as peak:
        steering.touch(0, hidden, residual)
    steering.end_step()
    assert 4 * n * width < peak.peak <= memory.STEERING_COPIES * 4 * n * width


def test_a_step_holds_a_full_context() -> None:
    spec = replace(models.get("8b"), context=32768)
    assert spec.shape is not None
    long, short = memory.plan(spec, spec.shape), plan("8b", 1)
    assert memory.step_tokens(32769) == 32769
    assert memory.step_tokens(4097) == memory.STEP_TOKENS
    assert long.steering == 6 * 4 * 32769 * spec.d_model
    assert short.steering == 6 * 4 * 8192 * spec.d_model
    assert long.activations / short.activations == pytest.approx(32769 / 8192)


def test_a_pooled_read_streams_encoder_blocks_only(
    dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[SaeRows] = []
    encode = SaeRows.encode

    def watched(bank: SaeRows, residual: torch.Tensor) -> torch.Tensor:
        seen.append(bank)
        return encode(bank, residual)

    residual = torch.randn(3, 16)
    whole = dictionary.bank(range(900)).encode(residual)
    monkeypatch.setattr(SaeRows, "encode", watched)
    monkeypatch.setattr("esr.steering.pooling.ENCODER_BLOCK", 300 * 16 * 4)
    pool = Pool(900)
    add_rows(dictionary, [(pool, residual)])
    assert [bank.encoder.shape[0] for bank in seen] == [300, 300, 300]
    assert all(bank.decoder.numel() == 0 for bank in seen)
    assert torch.equal(pool.result().maximum, whole.amax(0))
    assert 4 * models.get("8b").d_sae * models.get("8b").d_model > ENCODER_BLOCK


class TestHours:
    def test_gpus_are_read_from_what_nvidia_smi_prints(self) -> None:
        found = throughput.gpus(["NVIDIA H200, 143771 MiB", "Unheard Of 9, 1000 MiB", "nonsense"])
        assert [gpu.memory for gpu in found] == [143771 * 2**20, 1000 * 2**20]
        assert found[0].bandwidth == 4.8e12
        assert found[1].bandwidth == 0.0

    def test_a_step_is_never_faster_than_its_weights_can_be_read(self) -> None:
        for key in BIG_FIVE:
            spec = models.get(key)
            assert spec.shape is not None
            needed = weights.weight_bytes(spec, spec.shape)
            for devices in (1, 2):
                gpu = throughput.PAPER_GPU
                rate = throughput.tokens_per_second(spec, spec.shape, gpu, devices, 64)
                assert 64 / rate > needed / devices / gpu.bandwidth

    def test_stages(self) -> None:
        at_once = Stage("trials", 3600, 100)
        assert total_hours([at_once], 1000.0, 64, engines=1) == pytest.approx(0.1)
        assert total_hours([at_once] * 2, 1000.0, 64, engines=4) == pytest.approx(0.05)
        # Half of the slots are empty, and a step lasts as long.
        assert total_hours(
            [Stage("dose", 3600, 100, in_flight=32)], 1000.0, 64, engines=1
        ) == pytest.approx(0.2)
        # 10 rounds one after the other: 50 tokens at 0.064 s each, and the verdicts.
        rounds = Stage("calibration", 100, 50, at_once=10)
        hours = 10 * (50 * 0.064 + throughput.JUDGE_SECONDS) / 3600
        assert total_hours([rounds], 1000.0, 64, engines=4) == pytest.approx(hours)
