"""Ray under the replicas: started for this machine alone, or joined at ``RAY_ADDRESS``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from esr.engine import memory, throughput
from esr.engine.ray_end import end_with_driver
from esr.errors import UserError
from esr.models.spec import ModelSpec
from esr.runs import provenance

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

WAIT_FOR_RESOURCES = 60.0
"""Seconds that a cluster may take to reserve the GPUs."""

STARTS = 3
"""Tries to start Ray on this machine: on a busy one its processes may be too slow."""

ANSWER_SECONDS = 5.0
"""Seconds that a cluster named in ``RAY_ADDRESS`` gets to take a connection."""


def start_ray(cpus: int) -> None:
    """Join the cluster of ``RAY_ADDRESS``, or start Ray here with at least so many ``cpus``.

    Raises:
        UserError: no cluster answers there, or Ray does not start.
    """
    import psutil
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
    for tries_left in reversed(range(STARTS if not address else 1)):
        before = set(psutil.Process().children())
        try:
            ray.init(**options)
            break
        # Ray raises a bare Exception where its processes take more than 30 seconds to start.
        except Exception as error:
            for child in set(psutil.Process().children()) - before:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            if not tries_left:
                raise _does_not_start(error) from error
    if not address:
        end_with_driver(child.pid for child in set(psutil.Process().children()) - before)
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler would end the run without its partial results.
        signal.signal(signal.SIGTERM, on_term)


def _does_not_start(error: Exception) -> UserError:
    return UserError(
        f"Ray does not start: {reason_of(error)}",
        "no RAY_ADDRESS for this machine alone, or the address of a running cluster",
        "ray start --head, or leave out --replicas",
    )


def has_gpus() -> bool:
    """Whether there are GPUs in the cluster of ``RAY_ADDRESS``; False without one."""
    return bool(os.environ.get("RAY_ADDRESS")) and sum(gpus_by_machine()) > 0


def gpus_by_machine() -> list[int]:
    """GPUs of each machine of the cluster of ``RAY_ADDRESS``.

    Raises:
        UserError: no cluster answers there.
    """
    import ray

    joined = not ray.is_initialized()
    if joined:
        start_ray(1)
    try:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return [int(machine.get("GPU", 0)) for machine in machines]
    finally:
        if joined:
            ray.shutdown()


def replicas_that_fit(spec: ModelSpec, in_flight: int, ranks: int) -> int:
    """``--replicas auto``: as many engines as the GPUs here, or those of the cluster, hold.

    Args:
        spec: the model.
        in_flight: requests in flight of each engine.
        ranks: GPUs of each engine; 0: as few as hold it.

    Raises:
        UserError: in a cluster without ``ranks``; Ray does not say how large its GPUs are.
    """
    if not os.environ.get("RAY_ADDRESS"):
        gpus = [gpu.memory for gpu in throughput.gpus(provenance.gpus())]
        return memory.replicas(spec, gpus, in_flight, ranks)
    if not ranks:
        raise UserError(
            "--replicas auto in a cluster does not know how large its GPUs are",
            "--tensor-parallel N beside it, or a number of replicas",
            "--replicas auto --tensor-parallel 1",
        )
    return max(1, sum(n // ranks for n in gpus_by_machine()))


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


def reserve(replicas: int, bundle: dict[str, int], needs: str = "") -> PlacementGroup:
    """Reserve one bundle per replica; a bundle lies on one machine.

    Args:
        replicas: how many.
        bundle: cores and GPUs of each.
        needs: what the memory plan asks of each GPU, told where no machine suffices.

    Raises:
        UserError: the machines have too few.
    """
    import ray
    from ray.util import placement_group, remove_placement_group

    group: PlacementGroup = placement_group([bundle] * replicas, strategy="PACK")
    if group.wait(WAIT_FOR_RESOURCES):
        return group
    remove_placement_group(group)
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(have.get(name, 0) >= n for name, n in bundle.items()) for have in machines):
        largest = {name: int(max(have.get(name, 0) for have in machines)) for name in bundle}
        raise UserError(
            f"a replica needs {bundle} on one machine, and the largest has {largest}"
            + (f"; {needs}" if needs else ""),
            "an engine within one machine: split over machines it would need pipeline "
            "parallelism, which leaves the steering layer on one of them",
            f"--tensor-parallel {max(1, largest.get('GPU', 1))}, or machines with more GPUs",
        )
    have = {name: ray.cluster_resources().get(name, 0) for name in bundle}
    raise UserError(
        f"{replicas} replicas need {bundle} each, and there are {have} in all",
        "what fits",
        "fewer --replicas, --replicas auto, or a smaller --tensor-parallel",
    )


def reason_of(error: BaseException) -> str:
    """What happened, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Ray's own reasons end in advice; their first sentences say what happened.
    return ". ".join(lines[-1].split(". ")[:2])[:200] if lines else type(error).__name__
