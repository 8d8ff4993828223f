"""Several engines behind one: each replica is a Ray actor with GPUs of its own.

Trials are independent, so a request goes to the replica with the fewest in flight. Where a replica
is lost, with its process, its machine or its vLLM, its requests go to the others, and a new actor
takes its place, where Ray has room: on the same machine or, in a cluster, on another. There is one
caller, one run folder and one journal: an answer reaches the caller once, whatever became of
earlier tries.

Without ``RAY_ADDRESS`` Ray runs on this machine alone, with no dashboard and no usage report.
With it, replicas are spread over the cluster; every machine needs this repository installed at
the same commit, with the model and the dictionary in its cache or within its reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from esr.engine import cluster
from esr.engine.base import CLOSED, Engine, Generation, GenerationRequest, Reading, ReadRequest
from esr.engine.cluster import reason_of
from esr.errors import EngineError, UserError

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

T = TypeVar("T")

MakeEngine = Callable[[], Engine]

WAIT_FOR_END = 30.0
"""Seconds that a replica gets to stop by itself."""

RESTART_AFTER = (2.0, 15.0, 60.0)
"""Seconds before each new start of a replica that has answered nothing since it was lost: the
memory of the old one may not be free at once. After the last it is given up."""

WAIT_FOR_ROOM = 600.0
"""Seconds that a new actor may wait for a place and for its imports; loading may take any time."""

TRIES = 3
"""Engines that may end while they answer one request, before it is taken to be the cause."""


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

    async def ready(self) -> None:
        """Answers as soon as the actor runs."""

    async def close(self) -> None:
        """Free the model."""
        if self._engine is not None:
            await self._engine.close()


@dataclass
class _Member:
    """A replica as the caller sees it.

    Attributes:
        actor: the one at work, or the last that was.
        in_flight: requests it was handed and has not answered.
        lost: whether no actor is at work.
        losses: actors that were lost since the last answer.
    """

    number: int
    actor: Any
    in_flight: int = 0
    lost: bool = False
    losses: int = 0


class ReplicatedEngine:
    """An engine made of replicas; see the module.

    Args:
        make: makes one engine, in the actor's process; it travels there by pickle.
        replicas: how many.
        gpus: of each replica, on one machine; 0 for none.
        in_flight: requests one replica answers at once.
        needs: what the memory plan asks of each GPU, for the message where no machine has so many.

    Raises:
        UserError: the machine or cluster has too few GPUs or cores, or the model does not load.
    """

    def __init__(
        self,
        make: MakeEngine,
        *,
        replicas: int,
        gpus: int = 0,
        in_flight: int = 64,
        needs: str = "",
    ) -> None:
        import ray

        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            cluster.start_ray(replicas)
        try:
            bundle = {"CPU": 1} | ({"GPU": gpus} if gpus else {})
            self._group = cluster.reserve(replicas, bundle, needs)
            self._actor = _Actors(make, self._group, gpus, in_flight)
            self._members = [_Member(i, self._actor(i)) for i in range(replicas)]
            answers = ray.get([member.actor.start.remote() for member in self._members])
            for answer in answers:
                if isinstance(answer, UserError):
                    raise answer
        except BaseException:
            if self._owns_ray:
                ray.shutdown()
            raise
        self._description: dict[str, object] = {**answers[0], "replicas": replicas}
        self._restarts: dict[int, asyncio.Task[None]] = {}
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
        for task in self._restarts.values():
            task.cancel()
        await asyncio.gather(*self._restarts.values(), return_exceptions=True)
        await asyncio.gather(*(_stop(member.actor) for member in self._members if not member.lost))
        remove_placement_group(self._group)
        if self._owns_ray:
            ray.shutdown()

    async def _ask(self, method: str, request: GenerationRequest | ReadRequest) -> object:
        """Ask the least busy replica; the next one where it is lost."""
        reason: Exception | None = None
        for _ in range(TRIES):
            member = await self._least_busy()
            if member is None:
                cause = reason_of(reason) if reason else "see the messages above"
                raise EngineError(f"all replicas are lost: {cause}") from reason
            actor = member.actor
            member.in_flight += 1
            try:
                answer = await actor.call.remote(method, request)
            except Exception as error:
                if self._closed:
                    raise EngineError(CLOSED) from error
                # Its process is gone, or its engine failed in a way that is no answer.
                reason = error
                self._lose(member, actor, error)
                continue
            finally:
                member.in_flight -= 1
            member.losses = 0
            if isinstance(answer, UserError):
                raise answer
            return answer
        assert reason is not None
        raise EngineError(
            f"{TRIES} engines ended with request {request.request_id} in flight: "
            f"{reason_of(reason)}"
        ) from reason

    async def _least_busy(self) -> _Member | None:
        """A replica at work, if need be once one works again; None if none will."""
        while not self._closed:
            working = [member for member in self._members if not member.lost]
            if working:
                return min(working, key=lambda member: member.in_flight)
            restarts = [task for task in self._restarts.values() if not task.done()]
            if not restarts:
                return None
            await asyncio.wait(restarts, return_when=asyncio.FIRST_COMPLETED)
        raise EngineError(CLOSED)

    def _lose(self, member: _Member, actor: Any, error: Exception) -> None:
        """Every request that was in flight there tells of the loss; the first one counts."""
        if member.lost or member.actor is not actor:
            return
        member.lost = True
        left = sum(not other.lost for other in self._members)
        _say(f"replica {member.number} is lost ({reason_of(error)}); {left} left")
        self._restarts[member.number] = asyncio.create_task(self._restart(member))

    async def _restart(self, member: _Member) -> None:
        """A new actor in the place of a lost one."""
        import ray

        await _stop(member.actor)
        while member.losses < len(RESTART_AFTER):
            await asyncio.sleep(RESTART_AFTER[member.losses])
            member.losses += 1
            actor = self._actor(member.number)
            try:
                await asyncio.wait_for(_of(actor.ready.remote()), WAIT_FOR_ROOM)
                problem = await actor.start.remote()
            except asyncio.CancelledError:
                ray.kill(actor)
                raise
            except Exception as error:
                problem = error
            if not isinstance(problem, Exception):
                member.actor, member.lost = actor, False
                _say(f"replica {member.number} works again")
                return
            ray.kill(actor)
            why = problem if isinstance(problem, UserError) else reason_of(problem)
            _say(f"replica {member.number} does not start again ({why})")
        _say(f"replica {member.number} is given up")


@dataclass(frozen=True)
class _Actors:
    """Makes the actor of a replica."""

    make: MakeEngine
    group: PlacementGroup
    gpus: int
    in_flight: int

    def __call__(self, number: int) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        place = PlacementGroupSchedulingStrategy(
            placement_group=self.group, placement_group_bundle_index=number
        )
        return (
            ray.remote(Replica)
            .options(
                num_cpus=1,
                num_gpus=self.gpus,
                scheduling_strategy=place,
                # More than asked for, so that closing does not wait behind requests.
                max_concurrency=self.in_flight + 1,
                # An actor that Ray started again would have no model, and its vLLM may end alone.
                max_restarts=0,
            )
            .remote(self.make)
        )


async def _stop(actor: Any) -> None:
    import ray

    # A clean end first, because vLLM's own processes outlive a killed actor for a while.
    with contextlib.suppress(Exception):
        await asyncio.wait_for(_of(actor.close.remote()), WAIT_FOR_END)
    ray.kill(actor)


async def _of(answer: Awaitable[T]) -> T:
    return await answer


def _say(line: str) -> None:
    print(line, file=sys.stderr)
