"""Mail between actors never waits: a post that finds no room is an error, an offer that finds none is an answer."""

import pytest
import trio

from engine.runtime.mail import MailboxFull, offer, post


async def test_a_post_arrives_and_one_without_room_says_how_full_it_is() -> None:
    send, receive = trio.open_memory_channel[str](2)
    post(send, "a")
    post(send, "b")
    with pytest.raises(MailboxFull, match="2 of 2 in use"):
        post(send, "c")
    assert [receive.receive_nowait(), receive.receive_nowait()] == ["a", "b"]
    post(send, "c")
    assert receive.receive_nowait() == "c"


async def test_an_offer_says_whether_there_was_room() -> None:
    send, receive = trio.open_memory_channel[str](1)
    assert offer(send, "a")
    assert not offer(send, "b")
    assert receive.receive_nowait() == "a"
    assert offer(send, "c")


async def test_a_post_to_a_reader_that_is_gone_is_an_error() -> None:
    send, receive = trio.open_memory_channel[str](1)
    receive.close()
    with pytest.raises(trio.BrokenResourceError):
        post(send, "a")
