"""The end of a worker whose client is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import psutil

from esr.engine.options import CLIENT


def end_with_client(every: float = 1.0) -> None:
    """End the engine when the process that started it is gone.

    vLLM's processes survive a client that is killed: they would go on computing for nobody,
    and hold the memory the next run needs.
    """
    ancestors = {process.pid: process for process in psutil.Process().parents()}
    client = ancestors.get(int(os.environ.get(CLIENT, "0")))
    if client is None:
        return  # The engine runs inside its client.
    # Our parent is vLLM's engine process, or the client itself where worker and engine are one.
    engine = psutil.Process(os.getpid() if os.getppid() == client.pid else os.getppid())

    def alive() -> bool:
        try:
            return bool(client.is_running() and client.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def watch() -> None:
        while alive():
            time.sleep(every)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in {engine, psutil.Process()}:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            time.sleep(10)

    threading.Thread(target=watch, name="end-with-client", daemon=True).start()
