"""A site to fetch from, for every test here."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest

from tests.upstream.site import Site


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()
