"""Bodies handed in over HTTP: the status of each answer, and the waiting for it."""

import json
from decimal import Decimal

import pytest
import trio

from engine.core.messages import (
    Action,
    Check,
    Confirmed,
    Malformed,
    Outcome,
    Plan,
    Quantity,
    Refusal,
    Side,
    Signal,
    SignalRow,
)
from engine.edges import http
from engine.edges.base import Arrival, Receipt, Status
from engine.edges.http import HttpSource, status_of
from engine.runtime.clock import virtual_clock

SIGNAL = Signal(
    signal_id="s-1",
    account="main",
    symbol="BTCUSDT",
    action=Action.OPEN,
    source="http",
    dialect="surefire",
    body_hash="h",
    trace_id="t-1",
    received_ns=1,
    valid_until_ns=2,
    side=Side.BUY,
    size=Quantity(Decimal("0.10")),
)
PLAN = Plan(Action.OPEN, Side.BUY, Decimal("0.10"), stop_loss=Decimal("59000.0"))
FAILED = Check("RSK4.position_max", False, Decimal("1.20"), Decimal("1E+0"), "BTC", "the position would be 1.2")
PASSED = Check("RSK1.symbol", True)
TAKEN = SignalRow(SIGNAL, Outcome.ACCEPTED, (PASSED,), PLAN)


def told(receipt: Receipt) -> tuple[int, dict[str, object]]:
    status, body = status_of(receipt)
    return status, json.loads(body)


def test_an_accepted_signal_is_202_with_its_state() -> None:
    status, body = told(Receipt("accepted", TAKEN))
    assert status == 202
    assert body["signal_id"] == "s-1"
    assert body["trace_id"] == "t-1"
    assert body["outcome"] == "accepted"
    assert body["reasons"] == []
    assert body["plan"]["qty"] == "0.1"
    assert body["plan"]["stop_loss"] == "59000"


def test_a_refused_signal_is_422_with_the_failed_checks_and_their_numbers() -> None:
    status, body = told(Receipt("refused", SignalRow(SIGNAL, Outcome.REFUSED, (PASSED, FAILED))))
    assert status == 422
    assert body["outcome"] == "refused"
    assert body["reasons"] == [
        {
            "rule": "RSK4.position_max",
            "reason": "the position would be 1.2",
            "value": "1.2",
            "limit": "1",
            "unit": "BTC",
        }
    ]


def test_a_malformed_body_is_422_with_every_reason_at_once() -> None:
    reasons = (Refusal("qty", "is missing"), Refusal("side", "must be one of buy, sell"))
    status, body = told(Receipt("malformed", malformed=Malformed("http", reasons, "{}", 1, "s-1")))
    assert status == 422
    assert body["signal_id"] == "s-1"
    assert body["reasons"] == [{"field": r.field, "reason": r.reason} for r in reasons]


def test_a_repeat_is_200_with_the_first_outcome() -> None:
    confirmed = Confirmed(
        at_ns=9, signal_id="s-1", outcome=Outcome.EXECUTED, filled_qty=Decimal("0.10"), avg_price=Decimal("60000.50")
    )
    status, body = told(Receipt("repeated", SignalRow(SIGNAL, Outcome.EXECUTED, (), PLAN, confirmed)))
    assert (status, body["outcome"]) == (200, "executed")
    assert body["confirmation"]["avg_price"] == "60000.5"
    assert body["confirmation"]["filled_qty"] == "0.1"


@pytest.mark.parametrize(
    ("status", "code"), [("recorded", 200), ("conflict", 409), ("busy", 503), ("refused", 422), ("malformed", 422)]
)
def test_each_status_has_its_code(status: Status, code: int) -> None:
    assert told(Receipt(status, text="why"))[0] == code
    assert told(Receipt(status, text="why"))[1]["text"] == "why"


def test_busy_says_when_to_come_back() -> None:
    assert told(Receipt("busy"))[1]["retry_after_seconds"] == http.RETRY_AFTER_SECONDS


async def test_a_body_is_answered_when_the_engine_answers(autojump_clock: object) -> None:
    source = HttpSource("http", virtual_clock(1_000))
    send, receive = trio.open_memory_channel[Arrival](1)
    got: list[Receipt] = []

    async def client() -> None:
        got.append(await source.submit(b"{}", "trace", "key-1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, send)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client)
        arrival = await receive.receive()
        assert (arrival.raw, arrival.source, arrival.trace_id, arrival.fallback_id) == (b"{}", "http", "trace", "key-1")
        assert arrival.received_ns == 1_000
        await trio.sleep(5)
        assert got == []
        arrival.answer(Receipt("accepted", TAKEN))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert got == [Receipt("accepted", TAKEN)]


async def test_without_an_engine_nothing_is_taken() -> None:
    receipt = await HttpSource("http", virtual_clock(0)).submit(b"{}", None)
    assert receipt.status == "busy"


async def test_an_engine_without_room_is_busy_soon_and_has_taken_nothing(autojump_clock: object) -> None:
    source = HttpSource("http", virtual_clock(0))
    send, receive = trio.open_memory_channel[Arrival](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, send)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        assert (await source.submit(b"{}", None)).status == "busy"
        assert trio.current_time() - began == pytest.approx(http.ROOM_SECONDS)
        with pytest.raises(trio.WouldBlock):
            receive.receive_nowait()
        await receive.aclose()
        assert (await source.submit(b"{}", None)).status == "busy"
        nursery.cancel_scope.cancel()
    assert (await source.submit(b"{}", None)).status == "busy"


async def test_an_answer_that_does_not_come_is_asked_for_again_and_may_still_come_late(autojump_clock: object) -> None:
    source = HttpSource("http", virtual_clock(0))
    send, receive = trio.open_memory_channel[Arrival](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, send)
        await trio.testing.wait_all_tasks_blocked()
        receipt = await source.submit(b"{}", None)
        assert receipt.status == "busy"
        assert "same signal_id" in receipt.text
        (await receive.receive()).answer(Receipt("accepted", TAKEN))
        nursery.cancel_scope.cancel()
