"""Starting the engine that the options ask for, once it is needed, on the GPUs there are."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from esr.engine import VllmOptions, cluster, memory, throughput
from esr.engine.base import Engine
from esr.engine.replicas import ReplicatedEngine
from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.identity import pinned
from esr.models.weights import gib
from esr.pipeline.cli import CommonConfig
from esr.runs import progress, provenance

StartEngine = Callable[[], Awaitable[Engine]]
"""Gives the engine; starts it on the first call alone."""


@asynccontextmanager
async def one_engine(
    config: CommonConfig, spec: ModelSpec, layers: Sequence[int] = ()
) -> AsyncIterator[StartEngine]:
    """A function that starts the engine once, on first use; the engine is closed at the end.

    Args:
        config: the options.
        spec: the model.
        layers: that interventions may name beside the model's steering and feature layer.
    """
    started: list[Engine] = []

    async def start() -> Engine:
        if not started:
            with progress.saying("starting the engine"):
                started.append(await start_engine(config, spec, layers))
        return started[0]

    try:
        yield start
    finally:
        for engine in started:
            await engine.close()


async def start_engine(config: CommonConfig, spec: ModelSpec, layers: Sequence[int] = ()) -> Engine:
    """The engine of the options, replicas where asked for; memory is checked first."""
    spec = pinned(spec)
    gpus = throughput.gpus(provenance.gpus())
    ranks = config.tensor_parallel or max(1, len(gpus) // config.replicas)
    # Elsewhere in a cluster there may be other GPUs than here: each engine checks its own again.
    if not os.environ.get("RAY_ADDRESS"):
        devices = [gpu.memory for gpu in gpus]
        memory.check(spec, config.engine, ranks, config.in_flight, devices)
    options = VllmOptions(config.in_flight, config.pairing, ranks, layers=tuple(layers))
    make = partial(_make_engine, config.engine, spec, options)
    if config.replicas == 1:
        return make()
    return ReplicatedEngine(
        make,
        replicas=config.replicas,
        gpus=ranks if gpus or cluster.has_gpus() else 0,
        in_flight=config.in_flight,
        needs=_needs(spec, ranks, config.in_flight),
    )


def _needs(spec: ModelSpec, ranks: int, in_flight: int) -> str:
    shape = memory.shape_of(spec)
    if shape is None:
        return ""
    least = memory.plan(spec, shape, ranks, in_flight).least
    return f"{spec.key} split over {ranks} needs at least {gib(least)} of each GPU"


def _make_engine(name: str, spec: ModelSpec, options: VllmOptions) -> Engine:
    """One engine on this machine; replicas run it elsewhere, where other GPUs may be."""
    from esr import engine
    from esr.steering import sae

    dictionary = sae.load(spec.sae)
    if (dictionary.d_model, dictionary.d_sae) != (spec.d_model, spec.d_sae):
        raise UserError(
            f"SAE {spec.sae.describe()} has {dictionary.d_sae} latents of width "
            f"{dictionary.d_model}, the entry of {spec.key} says {spec.d_sae} of {spec.d_model}",
            "d_sae and d_model of the SAE",
            "correct the model's entry",
        )
    devices = [gpu.memory for gpu in throughput.gpus(provenance.gpus())]
    share = memory.check(spec, name, options.tensor_parallel, options.max_in_flight, devices)
    return engine.create(name, spec, dictionary, replace(options, gpu_memory=share))
