"""Mail between actors never waits. `post` must arrive, `offer` may be refused; each channel has a number.

"No room" in a post means that a reader has been stuck for as long as the channel's number says, which must not happen:
it is a broken invariant, and the supervisor halts the sender's scope. At the front, where a source can be told to
wait, `offer` hands the refusal back as pressure.
"""

from typing import TypeVar

import trio

T = TypeVar("T")


class MailboxFull(Exception):
    """A post found no room: the receiver is stuck."""


def post(channel: trio.MemorySendChannel[T], message: T) -> None:
    """Raises MailboxFull; trio.BrokenResourceError when the receiver is gone."""
    try:
        channel.send_nowait(message)
    except trio.WouldBlock:
        stats = channel.statistics()
        raise MailboxFull(f"{stats.current_buffer_used} of {stats.max_buffer_size} in use") from None


def waiting(channel: trio.MemoryReceiveChannel[T]) -> int:
    """How many tasks wait for mail: it is then empty, and its reader is not in the middle of anything."""
    return channel.statistics().tasks_waiting_receive


def offer(channel: trio.MemorySendChannel[T], message: T) -> bool:
    """Whether there was room."""
    try:
        channel.send_nowait(message)
    except trio.WouldBlock:
        return False
    return True
