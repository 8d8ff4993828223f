"""Ends what a killed driver leaves of the Ray it had started; a process of its own.

Ray's processes end with their driver, but for two agents, which first report to a server that is
gone, for a minute (ray 2.60: ``publish_error_to_driver`` with a timeout of 60 s). This one watches
the driver, and ends what is left :data:`GRACE` seconds after it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable

import psutil

EVERY, GRACE = 1.0, 10.0
"""Seconds between two looks at the driver, and after its end until its Ray is killed."""


_watchers: list[subprocess.Popen[bytes]] = []
"""One for each Ray that was started; Python complains of one that it loses sight of."""


def end_with_driver(started: Iterable[int]) -> None:
    """Watch this process from a new one.

    Args:
        started: process ids of the Ray that it has started; their children are found later.
    """
    command = [sys.executable, "-P", __file__, str(psutil.Process().pid), *map(str, started)]
    _watchers[:] = [watcher for watcher in _watchers if watcher.poll() is None]
    # A session of its own: Ctrl-C in the terminal is for the driver, which may go on for a while.
    _watchers.append(subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL))


def watch(driver: set[psutil.Process], ray: set[psutil.Process]) -> None:
    """Return once neither is there."""
    while ray and any(map(_runs, driver)):
        ray = {process for process in ray | _children(ray) if _runs(process)}
        time.sleep(EVERY)
    _, left = psutil.wait_procs(ray | _children(ray), timeout=GRACE)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _children(processes: set[psutil.Process]) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for process in processes:
        try:
            found.update(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return found


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _process(pid: int) -> set[psutil.Process]:
    try:
        return {psutil.Process(pid)}
    except psutil.NoSuchProcess:
        return set()


if __name__ == "__main__":
    pids = [int(pid) for pid in sys.argv[1:]]
    watch(_process(pids[0]), set().union(*map(_process, pids[1:])))
