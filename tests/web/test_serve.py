"""The server under the API: what connections cost when their clients are gone."""

import http.client
import os

import trio

from tests.patience import PATIENCE_SECONDS
from tests.web.world import Engine, api

ASKED = 60


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def ask_and_leave(port: int) -> None:
    for _ in range(ASKED):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        connection.close()


async def test_a_client_that_left_takes_its_connection_with_it() -> None:
    """Else whoever asks with a new connection each time uses up the process's descriptors within a minute.

    Found by the soak: Hypercorn began to wait for a client's next request when the client had gone already.
    """
    async with api(Engine()) as client:
        before = descriptors()
        await trio.to_thread.run_sync(ask_and_leave, client.base_url.port)
        with trio.fail_after(PATIENCE_SECONDS):
            while descriptors() > before:  # noqa: ASYNC110 (the operating system tells nobody)
                await trio.sleep(0.02)
