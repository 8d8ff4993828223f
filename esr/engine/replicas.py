"""Several engines behind one: each replica is a Ray actor with GPUs of its own.

Trials are independent, so a request goes to the replica with the fewest in flight. A replica that
is lost, with its process, its machine or its vLLM, is not asked again, and its requests go to the
others. There is one caller, one run folder and one journal: an answer reaches the caller once,
whatever became of earlier tries.

Without ``RAY_ADDRESS`` Ray runs on this machine alone, with no dashboard and no usage report.
With it, replicas are spread over the cluster; every machine needs this repository installed at
the same commit, with the model and the dictionary in its cache or within its reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from esr.engine.base import CLOSED, Engine, Generation, GenerationRequest, Reading, ReadRequest
from esr.errors import EngineError, UserError

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

MakeEngine = Callable[[], Engine]

WAIT_FOR_RESOURCES = 60.0
"""Seconds that a cluster may take to reserve the GPUs."""

ANSWER_SECONDS = 5.0
"""Seconds that a cluster named in ``RAY_ADDRESS`` gets to take a connection."""

WAIT_FOR_END = 30.0
"""Seconds that a replica gets to stop by itself."""


class Replica:
    """One engine; runs inside a Ray actor."""

    def __init__(self, make: MakeEngine) -> None:
        self._make = make
        self._engine: Engine | None = None

    async def start(self) -> dict[str, object] | UserError:
        """Load the model; its description for ``run.json``, or what is wrong."""
        try:
            self._engine = self._make()
        except UserError as error:
            return error
        return self._engine.describe()

    async def call(
        self, method: str, request: GenerationRequest | ReadRequest
    ) -> Generation | Reading | UserError:
        """Answer a request. A refused one is an answer too: no other replica would take it."""
        assert self._engine is not None
        try:
            return cast("Generation | Reading", await getattr(self._engine, method)(request))
        except UserError as error:
            return error

    async def close(self) -> None:
        """Free the model."""
        if self._engine is not None:
            await self._engine.close()


@dataclass
class _Member:
    """A replica as the caller sees it."""

    number: int
    actor: Any
    in_flight: int = 0
    lost: bool = False


class ReplicatedEngine:
    """An engine made of replicas; see the module.

    Args:
        make: makes one engine, in the actor's process; it travels there by pickle.
        replicas: how many.
        gpus: of each replica, on one machine; 0 for none.
        in_flight: requests one replica answers at once.

    Raises:
        UserError: the machine or cluster has too few GPUs or cores, or the model does not load.
    """

    def __init__(
        self, make: MakeEngine, *, replicas: int, gpus: int = 0, in_flight: int = 64
    ) -> None:
        import ray

        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            _start_ray(replicas)
        try:
            self._group = _reserve(replicas, {"CPU": 1} | ({"GPU": gpus} if gpus else {}))
            self._members = [
                _Member(i, _actor(make, self._group, i, gpus, in_flight)) for i in range(replicas)
            ]
            answers = ray.get([member.actor.start.remote() for member in self._members])
            for answer in answers:
                if isinstance(answer, UserError):
                    raise answer
        except BaseException:
            if self._owns_ray:
                ray.shutdown()
            raise
        self._description: dict[str, object] = {**answers[0], "replicas": replicas}
        self._closed = False

    async def generate(self, request: GenerationRequest) -> Generation:
        """See :meth:`esr.engine.base.Engine.generate`."""
        return cast("Generation", await self._ask("generate", request))

    async def read(self, request: ReadRequest) -> Reading:
        """See :meth:`esr.engine.base.Engine.read`."""
        return cast("Reading", await self._ask("read", request))

    def describe(self) -> dict[str, object]:
        """Of one replica, and how many there are."""
        return dict(self._description)

    async def close(self) -> None:
        """Stop all replicas, and Ray where this engine started it."""
        import ray
        from ray.util import remove_placement_group

        if self._closed:
            return
        self._closed = True
        for member in self._members:
            if not member.lost:
                await self._stop(member)
        remove_placement_group(self._group)
        if self._owns_ray:
            ray.shutdown()

    async def _ask(self, method: str, request: GenerationRequest | ReadRequest) -> object:
        """Ask the least busy replica; the next one where it is lost."""
        if self._closed:
            raise EngineError(CLOSED)
        reason: BaseException | None = None
        while member := self._least_busy():
            member.in_flight += 1
            try:
                answer = await member.actor.call.remote(method, request)
            except Exception as error:
                if self._closed:
                    raise EngineError(CLOSED) from error
                # Its process is gone, or its engine failed in a way that is no answer. If the
                # request itself is at fault, every replica fails over it, and the run ends below.
                reason = error
                await self._lose(member, error)
                continue
            finally:
                member.in_flight -= 1
            if isinstance(answer, UserError):
                raise answer
            return answer
        cause = _reason(reason) if reason else "see the messages above"
        raise EngineError(f"all replicas are lost: {cause}") from reason

    def _least_busy(self) -> _Member | None:
        working = [member for member in self._members if not member.lost]
        return min(working, key=lambda member: member.in_flight, default=None)

    async def _lose(self, member: _Member, error: Exception) -> None:
        if member.lost:
            return
        member.lost = True
        left = sum(not other.lost for other in self._members)
        print(
            f"replica {member.number} is lost ({_reason(error)}); {left} left",
            file=sys.stderr,
        )
        await self._stop(member)

    async def _stop(self, member: _Member) -> None:
        import ray

        # A clean end first, because vLLM's own processes outlive a killed actor for a while.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(_ended(member.actor), WAIT_FOR_END)
        ray.kill(member.actor)


async def _ended(actor: Any) -> None:
    await actor.close.remote()


def _start_ray(cpus: int) -> None:
    import ray

    # Set before Ray's processes start. What the user has set stays.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address := os.environ.get("RAY_ADDRESS"):
        _answers(address)
    else:
        # Cores are counted as asked for: an engine's threads are not bound by Ray.
        options |= {
            "address": "local",
            "include_dashboard": False,
            # Whoever reaches Ray's ports may run programs: on one machine, only that machine.
            "_node_ip_address": "127.0.0.1",
            "num_cpus": max(cpus, os.cpu_count() or 1),
            "object_store_memory": 2**28,
        }
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler would end the run without its partial results.
            signal.signal(signal.SIGTERM, on_term)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"Ray does not start: {_reason(error)}",
            "no RAY_ADDRESS for this machine alone, or the address of a running cluster",
            "ray start --head, or leave out --replicas",
        ) from error


def _answers(address: str) -> None:
    """Ask a named cluster before Ray does: Ray says twenty lines, over a minute, where none is."""
    try:
        place = urlsplit(address if "://" in address else f"ray://{address}")
        if place.hostname is None or place.port is None:  # "auto", "local": Ray knows where
            return
        socket.create_connection((place.hostname, place.port), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({reason})",
            "host:port of a running cluster, auto, or no RAY_ADDRESS for this machine alone",
            "ray start --head",
        ) from error


def _reserve(replicas: int, bundle: dict[str, int]) -> PlacementGroup:
    """Reserve one bundle per replica; a bundle lies on one machine."""
    import ray
    from ray.util import placement_group, remove_placement_group

    group: PlacementGroup = placement_group([bundle] * replicas, strategy="PACK")
    if not group.wait(WAIT_FOR_RESOURCES):
        remove_placement_group(group)
        have = {name: ray.cluster_resources().get(name, 0) for name in bundle}
        raise UserError(
            f"{replicas} replicas need {bundle} each, and there are {have} in all",
            "what fits",
            "fewer --replicas, or a smaller --tensor-parallel",
        )
    return group


def _actor(make: MakeEngine, group: PlacementGroup, number: int, gpus: int, in_flight: int) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    place = PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=number
    )
    return (
        ray.remote(Replica)
        .options(
            num_cpus=1,
            num_gpus=gpus,
            scheduling_strategy=place,
            # One more than asked for, so that closing does not wait behind requests.
            max_concurrency=in_flight + 1,
            max_restarts=0,
        )
        .remote(make)
    )


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Ray's own reasons end in advice; their first sentences say what happened.
    return ". ".join(lines[-1].split(". ")[:2])[:200] if lines else type(error).__name__
