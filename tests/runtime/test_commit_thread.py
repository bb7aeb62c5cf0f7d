"""The thread that ends commits: the loop gives way to it where an order waits, and never waits for the disk itself."""

import threading

import trio

from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.sqlite import _CommitThread


async def test_the_loop_goes_on_though_the_thread_is_still_at_the_commit_before() -> None:
    disk, landed = threading.Event(), trio.Event()
    told: list[str] = []

    def land() -> None:
        assert disk.wait(60), "nobody let the disk go on"

    def tell(name: str) -> None:
        told.append(name)
        if len(told) == 2:
            landed.set()

    def first(error: JournalFailed | None) -> None:
        tell("first")

    def second(error: JournalFailed | None) -> None:
        tell("second")

    thread = _CommitThread(land)
    try:
        thread.take_at_once(first)
        thread.take_at_once(second)  # cannot begin: it comes back all the same
        assert not disk.is_set() and not told
    finally:
        disk.set()
    await landed.wait()
    thread.stop()
    assert told == ["first", "second"]
