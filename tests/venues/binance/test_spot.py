"""The Spot client against a server that says what it is told to."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from engine.core.messages import (
    Acked,
    Cancel,
    Failed,
    FillReport,
    Leg,
    NotFound,
    Order,
    OrderReport,
    OrderType,
    PositionReport,
    Quote,
    Rejection,
    Side,
    Silence,
    State,
)
from engine.venues.base import StreamDown
from engine.venues.binance.spot import SpotVenue
from engine.venues.rest import Rest
from tests.patience import PATIENCE_SECONDS as PATIENCE
from tests.venues.binance.fake import CUT, HANG, SPOT_SYMBOL, Fake, Said, spot_venue
from tests.venues.binance.test_reports import EXECUTION, ORDER_ROW

D = Decimal
CID = "sf1" + "a" * 24 + "aa"
OTHER = "sf1" + "b" * 24 + "aa"


def order(cid: str = CID, leg: Leg = Leg.ENTRY, order_type: OrderType = OrderType.MARKET, **fields: Any) -> Order:
    closes = leg is not Leg.ENTRY
    given: dict[str, Any] = {
        "cid": cid,
        "account": "main",
        "symbol": "BTCUSDT",
        "signal_id": "s",
        "leg": leg,
        "attempt": 0,
        "side": Side.SELL if closes else Side.BUY,
        "order_type": order_type,
        "qty": D("0.01"),
        "reduce_only": closes,
    }
    return Order(**{**given, **fields})


def stop(cid: str, price: str = "90") -> Order:
    return order(cid, Leg.STOP, OrderType.STOP_MARKET, trigger_price=D(price))


TARGET = order("t" + CID[1:], Leg.TARGET, OrderType.TAKE_PROFIT_MARKET, trigger_price=D(110))


def placed(number: int) -> tuple[int, dict[str, Any]]:
    return 200, {"symbol": "BTCUSDT", "orderId": number, "transactTime": 1_700_000_000_500}


def replaced(number: int) -> tuple[int, dict[str, Any]]:
    return 200, {
        "cancelResult": "SUCCESS",
        "newOrderResult": "SUCCESS",
        "cancelResponse": {},
        "newOrderResponse": placed(number)[1],
    }


def refused(code: int, text: str = "", status: int = 400) -> tuple[int, dict[str, Any]]:
    return status, {"code": code, "msg": text}


def nothing() -> None:
    pass


async def until(true: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.005)


# ------------------------------------------------------------------------------------------------------------ orders


async def test_an_order_is_stamped_signed_and_sent_once() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["POST /api/v3/order"] = placed(7)
        wire: list[int] = []
        answer = await venue.submit(order(), lambda: wire.append(1))
        assert answer == Acked("7", 1_700_000_000_500_000_000) and wire == [1]
        (said,) = fake.said("POST /api/v3/order")
        assert said["newClientOrderId"] == CID and said["quantity"] == "0.01" and said["recvWindow"] == "5000"
        assert abs(int(said["timestamp"]) - fake.now_ms()) < 60_000


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refused(-2010, "Account has insufficient balance for requested action."), "insufficient"),
        (refused(-2010, "Duplicate order sent."), "duplicate"),
        (refused(-1021, "outside of the recvWindow"), "unavailable"),
        (refused(-1013, "Filter failure: LOT_SIZE"), "invalid"),
        (refused(-2015, "Invalid API-key", 401), "auth"),
        ((403, b"<html>WAF</html>"), "auth"),
        (refused(-1007, "Timeout", 504), None),
        (refused(-4999, "unheard of"), None),
        ((200, b"<html>a proxy's page</html>"), None),
        ((200, b'{"orderId":'), None),
        ((200, {"orderId": "seven"}), None),
        ((200, {}), None),
        ((200, []), None),
        ((502, b""), None),
        (CUT, None),
        (HANG, None),
    ],
)
async def test_what_an_answer_means_for_the_order(answer: Any, expected: str | None) -> None:
    # Only what hangs needs a time-out to end, and long enough for a loaded machine to get the request there before it.
    async with spot_venue(timeout=3.0 if answer is HANG else PATIENCE) as (fake, venue):
        fake.rest["POST /api/v3/order"] = answer
        outcome = await venue.submit(order(), nothing)
        if expected is None:
            assert isinstance(outcome, Silence)
        else:
            assert isinstance(outcome, Rejection) and outcome.kind == expected
        assert len(fake.said("POST /api/v3/order")) == 1, "never sent again"


async def test_an_order_sent_before_the_venues_clock_was_known_is_not_taken_for_an_older_one() -> None:
    async with spot_venue() as (fake, venue):
        fake.ahead_ms = -60_000  # ours runs a minute ahead, and nobody has asked for the time yet
        fake.rest["POST /api/v3/order"] = placed(8)
        assert isinstance(await venue.submit(order(), nothing), Acked)
        fake.rest["GET /api/v3/order"] = (200, {**ORDER_ROW, "orderId": 8, "time": fake.now_ms()})
        assert isinstance(await venue.order("BTCUSDT", CID), OrderReport)


async def test_an_order_of_an_attempt_that_landed_after_all_is_not_taken_for_an_older_one() -> None:
    async with spot_venue() as (fake, venue):
        await venue.server_time_ns()
        made_ms = fake.now_ms()
        fake.rest["POST /api/v3/order"] = [refused(-1015, "too many"), refused(-2010, "Duplicate order sent.")]
        fake.rest["GET /api/v3/order"] = (200, {**ORDER_ROW, "time": made_ms})
        await venue.submit(order(), nothing)
        await trio.sleep(1.2)  # as between two attempts
        again = await venue.submit(order(), nothing)
        assert isinstance(again, Rejection) and again.kind == "duplicate"
        assert isinstance(await venue.order("BTCUSDT", CID), OrderReport)


async def test_a_sale_that_is_cut_off_on_its_way_holds_back_the_next() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["GET /api/v3/openOrders"] = (200, [])
        fake.rest["POST /api/v3/order"] = [HANG, placed(8)]
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(venue.submit, order(leg=Leg.EXIT), nothing)
                with trio.fail_after(PATIENCE):
                    while not fake.said("POST /api/v3/order"):  # noqa: ASYNC110
                        await trio.sleep(0.001)
                scope.cancel()
        answer = await venue.submit(order(OTHER, Leg.EXIT), nothing)
        assert isinstance(answer, Rejection) and answer.kind == "unsent" and "in doubt" in answer.text
        assert len(fake.said("POST /api/v3/order")) == 1, "nothing proves that the first one sold nothing"


async def test_an_order_that_could_not_be_sent_is_no_doubt() -> None:
    async with spot_venue() as (_, venue):
        await venue.server_time_ns()
        await venue.api.rest.close()
        venue.api.rest = Rest("http://127.0.0.1:9", venue.api.clock)  # nobody listens there
        answer = await venue.submit(order(), nothing)
        assert isinstance(answer, Rejection) and answer.kind == "not_sent"


async def test_a_too_late_order_makes_the_clock_be_measured_anew() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["POST /api/v3/order"] = [refused(-1021, "Timestamp"), placed(8)]
        await venue.submit(order(), nothing)
        fake.ahead_ms = 90_000
        assert isinstance(await venue.submit(order(OTHER), nothing), Acked)
        second = fake.said("POST /api/v3/order")[1]
        assert abs(int(second["timestamp"]) - fake.now_ms()) < 30_000, "by the venue's clock"


async def test_after_too_many_requests_nothing_goes_before_the_venue_says_so() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["POST /api/v3/order"] = (429, {"code": -1003, "msg": "Too many"}, {"Retry-After": "30"})
        answer = await venue.submit(order(), nothing)
        assert isinstance(answer, Rejection) and answer.kind == "rate_limited"
        left = venue.api.throttle.ban.until_ns - fake.clock.now_ns()
        assert 20 * 10**9 < left <= 30 * 10**9


async def test_a_ban_lasts_until_the_moment_that_the_text_names() -> None:
    async with spot_venue() as (fake, venue):
        until_ms = fake.now_ms() + 500_000
        fake.rest["POST /api/v3/order"] = (418, {"code": -1003, "msg": f"IP banned until {until_ms}. Please"})
        await venue.submit(order(), nothing)
        left = venue.api.throttle.ban.until_ns - fake.clock.now_ns()
        assert 400 * 10**9 < left <= 501 * 10**9


async def test_the_venues_own_counts_correct_ours() -> None:
    async with spot_venue() as (fake, venue):
        headers = {"X-MBX-USED-WEIGHT-1M": "5999", "X-MBX-ORDER-COUNT-10S": "7"}
        fake.rest["POST /api/v3/order"] = (*placed(1), headers)
        await venue.submit(order(), nothing)
        used = {bucket.limit.name: bucket._used for bucket in venue.api.throttle.buckets}
        assert (used["weight-1M"], used["orders-10S"]) == (5999, 7)


# -------------------------------------------------------------------------------------------------------- order socket


async def test_orders_go_over_the_socket_while_it_is_up_and_never_both_ways() -> None:
    async with spot_venue(order_socket=True) as (fake, venue), trio.open_nursery() as nursery:
        fake.rest["POST /api/v3/order"] = placed(1)
        fake.calls["order.place"] = placed(2)
        assert await venue.submit(order(), nothing) == Acked("1", 1_700_000_000_500_000_000)
        nursery.start_soon(venue.run)
        assert venue.socket is not None
        await until(lambda: venue.socket is not None and venue.socket.ready)
        wire: list[int] = []
        assert await venue.submit(order(OTHER), lambda: wire.append(1)) == Acked("2", 1_700_000_000_500_000_000)
        (said,) = fake.said("order.place")
        assert said["newClientOrderId"] == OTHER and wire == [1]
        assert len(fake.said("POST /api/v3/order")) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [CUT, (400, {"code": -1006, "msg": "unexpected"}), (200, b"garbage")])
async def test_an_order_in_doubt_on_the_socket_is_not_sent_by_rest(answer: Any) -> None:
    async with spot_venue(order_socket=True) as (fake, venue), trio.open_nursery() as nursery:
        fake.rest["POST /api/v3/order"] = placed(1)
        fake.calls["order.place"] = answer
        nursery.start_soon(venue.run)
        await until(lambda: venue.socket is not None and venue.socket.ready)
        assert isinstance(await venue.submit(order(), nothing), Silence)
        assert len(fake.said("order.place")) == 1 and fake.said("POST /api/v3/order") == []
        nursery.cancel_scope.cancel()


async def test_a_refusal_on_the_socket_means_the_same() -> None:
    async with spot_venue(order_socket=True) as (fake, venue), trio.open_nursery() as nursery:
        retry = fake.now_ms() + 60_000
        fake.calls["order.place"] = [
            (400, {"code": -2010, "msg": "Account has insufficient balance for requested action."}),
            (429, {"code": -1003, "msg": "Too many", "data": {"serverTime": 1, "retryAfter": retry}}),
        ]
        nursery.start_soon(venue.run)
        await until(lambda: venue.socket is not None and venue.socket.ready)
        first, second = await venue.submit(order(), nothing), await venue.submit(order(OTHER), nothing)
        assert isinstance(first, Rejection) and first.kind == "insufficient"
        assert isinstance(second, Rejection) and second.kind == "rate_limited"
        left = venue.api.throttle.ban.until_ns - fake.clock.now_ns()
        assert 30 * 10**9 < left <= 60 * 10**9
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------------ cover


async def test_the_next_stop_takes_the_place_of_the_one_that_holds_the_coins() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["POST /api/v3/order"] = placed(1)
        fake.rest["POST /api/v3/order/cancelReplace"] = replaced(2)
        assert isinstance(await venue.submit(stop(CID), nothing), Acked)
        assert await venue.submit(stop(OTHER, "95"), nothing) == Acked("2", 1_700_000_000_500_000_000)
        (said,) = fake.said("POST /api/v3/order/cancelReplace")
        assert said["cancelOrigClientOrderId"] == CID and said["newClientOrderId"] == OTHER
        assert said["cancelReplaceMode"] == "STOP_ON_FAILURE"


async def test_an_exit_takes_the_place_of_the_stop() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["POST /api/v3/order"] = placed(1)
        fake.rest["POST /api/v3/order/cancelReplace"] = replaced(2)
        await venue.submit(stop(CID), nothing)
        assert isinstance(await venue.submit(order(OTHER, Leg.EXIT), nothing), Acked)
        (said,) = fake.said("POST /api/v3/order/cancelReplace")
        assert (said["type"], said["side"]) == ("MARKET", "SELL")


async def test_after_a_restart_the_stop_that_stands_is_found_first() -> None:
    async with spot_venue() as (fake, venue):
        row = {**ORDER_ROW, "type": "STOP_LOSS", "side": "SELL", "stopPrice": "90", "price": "0", "status": "NEW"}
        fake.rest["GET /api/v3/openOrders"] = (200, [row])
        fake.rest["POST /api/v3/order/cancelReplace"] = replaced(2)
        assert isinstance(await venue.submit(order(OTHER, Leg.EXIT), nothing), Acked)
        (said,) = fake.said("POST /api/v3/order/cancelReplace")
        assert said["cancelOrigClientOrderId"] == ORDER_ROW["clientOrderId"]


HALVES = [
    # the stop was gone: nothing sold, and the next attempt goes alone
    (
        (400, {"code": -2022, "msg": "failed", "data": {"cancelResult": "FAILURE", "newOrderResult": "NOT_ATTEMPTED"}}),
        "unavailable",
        "POST /api/v3/order",
    ),
    # the stop was cancelled and the new one refused: told as the new one's refusal, and nothing stands any more
    (
        (
            409,
            {
                "code": -2021,
                "msg": "partially",
                "data": {
                    "cancelResult": "SUCCESS",
                    "newOrderResult": "FAILURE",
                    "newOrderResponse": {"code": -2010, "msg": "Order would trigger immediately."},
                },
            },
        ),
        "triggered",
        "POST /api/v3/order",
    ),
    # refused before anything was done: the stop stands
    (refused(-1013, "Filter failure: NOTIONAL"), "invalid", "POST /api/v3/order/cancelReplace"),
]


@pytest.mark.parametrize(("answer", "kind", "next_goes_by"), HALVES)
async def test_which_half_of_a_replacement_was_done(answer: Any, kind: str, next_goes_by: str) -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["POST /api/v3/order"] = placed(1)
        fake.rest["POST /api/v3/order/cancelReplace"] = [answer, replaced(9)]
        await venue.submit(stop(CID), nothing)
        outcome = await venue.submit(stop(OTHER), nothing)
        assert isinstance(outcome, Rejection) and outcome.kind == kind
        before = len(fake.said(next_goes_by))
        await venue.submit(stop("sf1" + "c" * 24 + "aa"), nothing)
        assert len(fake.said(next_goes_by)) == before + 1


async def test_a_sale_that_is_not_covered_by_a_purchase_is_refused_here() -> None:
    async with spot_venue() as (fake, venue):
        answer = await venue.submit(order(side=Side.SELL), nothing)
        assert isinstance(answer, Rejection) and "short" in answer.text
        assert fake.said("POST /api/v3/order") == []


async def test_a_target_waits_with_us_and_shows_as_an_open_order() -> None:
    async with spot_venue() as (fake, venue):
        answer = await venue.submit(TARGET, nothing)
        assert isinstance(answer, Acked) and fake.said("POST /api/v3/order") == []
        (report,) = await open_orders(venue)
        assert (report.cid, report.status, report.trigger_price) == (TARGET.cid, "open", 110)
        assert await venue.order("BTCUSDT", TARGET.cid) == report


async def open_orders(venue: SpotVenue) -> tuple[OrderReport, ...]:
    found = await venue.open_orders()
    assert not isinstance(found, Failed), found
    return found


async def test_a_held_target_that_is_cancelled_says_so_on_the_stream_and_ever_after() -> None:
    async with spot_venue() as (_, venue):
        await venue.submit(TARGET, nothing)
        with pytest.raises(StreamDown):
            async with venue.stream() as reports:
                assert isinstance(await venue.cancel(Cancel(TARGET.cid, "BTCUSDT")), Acked)
                report = await reports.receive()
                assert isinstance(report, OrderReport) and (report.cid, report.status) == (TARGET.cid, "canceled")
                venue._listening.end("enough")
                assert [r async for r in reports] == []
        found = await venue.order("BTCUSDT", TARGET.cid)
        assert isinstance(found, OrderReport) and found.status == "canceled"


async def test_a_target_that_the_market_reaches_takes_the_stops_place() -> None:
    bid = [D(100)]
    venues: list[SpotVenue] = []

    def quote(symbol: str) -> Quote:
        return Quote(symbol, bid[0], bid[0] + 1, at_ns=venues[0].api.clock.now_ns())

    async with spot_venue(quote) as (fake, venue):
        venues.append(venue)
        fake.rest["POST /api/v3/order"] = placed(1)
        fake.rest["POST /api/v3/order/cancelReplace"] = replaced(2)
        await venue.submit(stop(CID), nothing)
        await venue.submit(TARGET, nothing)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_for_ever, venue)
            await until(lambda: fake.sockets)
            await trio.sleep(0.3)
            assert fake.said("POST /api/v3/order/cancelReplace") == []
            bid[0] = D(110)
            await until(lambda: fake.said("POST /api/v3/order/cancelReplace"))
            nursery.cancel_scope.cancel()
        (said,) = fake.said("POST /api/v3/order/cancelReplace")
        assert (said["type"], said["newClientOrderId"], said["cancelOrigClientOrderId"]) == ("MARKET", TARGET.cid, CID)
        assert await open_orders(venue) == ()


WAITED = replace(TARGET, state=State.OPEN, venue_order_id=f"held-{TARGET.cid}")
STANDING = {
    **ORDER_ROW,
    "clientOrderId": CID,
    "status": "NEW",
    "type": "STOP_LOSS",
    "side": "SELL",
    "stopPrice": "90",
    "price": "0",
}


def high(venues: list[SpotVenue]) -> Callable[[str], Quote]:
    return lambda symbol: Quote(symbol, D(110), D(111), at_ns=venues[0].api.clock.now_ns())


async def test_after_a_restart_a_target_waits_on_and_takes_the_stops_place() -> None:
    """Before, it was missing until it was proven lost, about a minute after the restart."""
    venues: list[SpotVenue] = []
    async with spot_venue(high(venues)) as (fake, venue):
        venues.append(venue)
        fake.rest["GET /api/v3/order"] = refused(-2013, "Order does not exist.")
        fake.rest["GET /api/v3/openOrders"] = (200, [STANDING])
        fake.rest["POST /api/v3/order/cancelReplace"] = replaced(2)
        venue.take_back([WAITED, replace(WAITED, cid=OTHER, venue_order_id="77"), replace(WAITED, state=State.CLOSED)])
        assert [r.cid for r in await open_orders(venue)] == [CID, TARGET.cid]
        found = await venue.order("BTCUSDT", TARGET.cid)
        assert isinstance(found, OrderReport) and found.status == "open"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_for_ever, venue)
            await until(lambda: fake.said("POST /api/v3/order/cancelReplace"))
            nursery.cancel_scope.cancel()
        (said,) = fake.said("POST /api/v3/order/cancelReplace")
        assert (said["newClientOrderId"], said["cancelOrigClientOrderId"]) == (TARGET.cid, CID)
        assert fake.said("POST /api/v3/order") == []


async def test_a_target_that_went_out_just_before_the_restart_is_not_sent_again() -> None:
    venues: list[SpotVenue] = []
    sold = {**ORDER_ROW, "clientOrderId": TARGET.cid, "status": "FILLED", "side": "SELL", "type": "MARKET"}
    async with spot_venue(high(venues)) as (fake, venue):
        venues.append(venue)
        fake.rest["GET /api/v3/order"] = (200, sold)
        fake.rest["GET /api/v3/openOrders"] = (200, [])
        venue.take_back([WAITED])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_for_ever, venue)
            await until(lambda: fake.said("GET /api/v3/order"))
            await until(lambda: not venue._held)
            nursery.cancel_scope.cancel()
        found = await venue.order("BTCUSDT", TARGET.cid)
        assert isinstance(found, OrderReport) and found.status == "filled"
        assert fake.said("POST /api/v3/order") == [] and fake.said("POST /api/v3/order/cancelReplace") == []


async def test_a_target_of_before_the_restart_that_no_stop_stands_for_waits_until_nothing_can_arrive() -> None:
    venues: list[SpotVenue] = []
    async with spot_venue(high(venues)) as (fake, venue):
        venues.append(venue)
        fake.rest["GET /api/v3/order"] = refused(-2013, "Order does not exist.")
        fake.rest["GET /api/v3/openOrders"] = (200, [])
        fake.rest["POST /api/v3/order"] = placed(1)
        venue.take_back([WAITED])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_for_ever, venue)
            await until(lambda: fake.said("GET /api/v3/openOrders"))
            assert fake.said("POST /api/v3/order") == [], "it may be on its way, and would be sold twice"
            venue._unsure[TARGET.cid] -= 70 * 10**9  # more than window, queue and visibility together
            await until(lambda: fake.said("POST /api/v3/order"))
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [(500, b""), (200, b"<html>"), CUT])
async def test_a_target_of_before_the_restart_is_not_cancelled_by_a_guess(answer: Any) -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["GET /api/v3/order"] = answer
        venue.take_back([WAITED])
        assert isinstance(await venue.cancel(Cancel(TARGET.cid, "BTCUSDT")), Rejection)
        fake.rest["GET /api/v3/order"] = refused(-2013, "Order does not exist.")
        assert isinstance(await venue.cancel(Cancel(TARGET.cid, "BTCUSDT")), Acked)
        assert fake.said("DELETE /api/v3/order") == []


async def test_a_target_that_is_refused_is_not_tried_again_with_every_look() -> None:
    venues: list[SpotVenue] = []

    def quote(symbol: str) -> Quote:
        return Quote(symbol, D(110), D(111), at_ns=venues[0].api.clock.now_ns())

    async with spot_venue(quote) as (fake, venue):
        venues.append(venue)
        fake.rest["POST /api/v3/order"] = placed(1)
        fake.rest["POST /api/v3/order/cancelReplace"] = [HALVES[0][0]]
        await venue.submit(stop(CID), nothing)
        await venue.submit(TARGET, nothing)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_for_ever, venue)
            await until(lambda: venue._fire_ns)
            (again_ns,) = venue._fire_ns.values()
            await until(lambda: len(fake.said("POST /api/v3/order")) == 2)
            assert venue.api.clock.now_ns() >= again_ns
            nursery.cancel_scope.cancel()


async def read_for_ever(venue: SpotVenue) -> None:
    async with venue.stream() as reports:
        async for _ in reports:
            pass


# ---------------------------------------------------------------------------------------------------------- queries


async def test_an_order_is_found_by_its_number_its_id_or_that_of_its_cancel() -> None:
    async with spot_venue() as (fake, venue):

        def row(said: Said) -> tuple[int, Any]:
            if said.get("origClientOrderId") != f"{CID}-c":
                return refused(-2013, "Order does not exist.")
            return 200, {**ORDER_ROW, "clientOrderId": f"{CID}-c", "status": "CANCELED"}

        fake.rest["GET /api/v3/order"] = row
        found = await venue.order("BTCUSDT", CID)
        assert isinstance(found, OrderReport) and (found.cid, found.status) == (CID, "canceled")


async def test_an_order_of_an_earlier_life_with_the_same_id_is_not_ours() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["POST /api/v3/order"] = HANG
        venue.api.rest._timeout = 0.3
        assert isinstance(await venue.submit(order(), nothing), Silence)
        row = {**ORDER_ROW, "time": fake.now_ms() - 86_400_000, "status": "FILLED"}
        fake.rest["GET /api/v3/order"] = (200, row)
        assert await venue.order("BTCUSDT", CID) == NotFound(CID)
        fake.rest["GET /api/v3/order"] = (200, {**row, "time": fake.now_ms()})
        assert isinstance(await venue.order("BTCUSDT", CID), OrderReport)


@pytest.mark.parametrize(
    "answer",
    [(200, b"<html>"), (200, b"[{"), (500, b""), refused(-1003, "", 429), (200, {"a": 1}), CUT, (200, [ORDER_ROW, 1])],
)
async def test_a_failed_question_is_never_an_empty_answer(answer: Any) -> None:
    async with spot_venue() as (fake, venue):
        for path in ("openOrders", "order", "myTrades", "account"):
            fake.rest[f"GET /api/v3/{path}"] = answer
        venue._names.asks("BTCUSDT", CID)
        assert isinstance(await venue.open_orders(), Failed)
        venue.api.throttle.ban = type(venue.api.throttle.ban)(0, "")
        assert isinstance(await venue.order("BTCUSDT", CID), Failed)
        venue.api.throttle.ban = type(venue.api.throttle.ban)(0, "")
        assert isinstance(await venue.fills(1), Failed)
        venue.api.throttle.ban = type(venue.api.throttle.ban)(0, "")
        assert isinstance(await venue.positions(), Failed)


async def test_the_wallet_is_the_position_as_far_as_spot_can_tell() -> None:
    async with spot_venue() as (fake, venue):
        rows = [{"asset": "BTC", "free": "0.5", "locked": "0.25"}, {"asset": "USDT", "free": "7", "locked": "0"}]
        fake.rest["GET /api/v3/account"] = (200, {"balances": rows})
        found = await venue.positions()
        assert not isinstance(found, Failed)
        (position,) = found
        assert position == PositionReport("BTCUSDT", D("0.75"), D(0), position.venue_ns, wallet=True)


async def test_a_purchase_beyond_the_venues_largest_holding_is_kept_back_only_where_it_is_sure() -> None:
    most = {"filterType": "MAX_POSITION", "maxPosition": "1"}
    async with spot_venue() as (fake, venue):
        listed = {**SPOT_SYMBOL, "filters": [*SPOT_SYMBOL["filters"], most]}
        fake.rest["GET /api/v3/exchangeInfo"] = (200, {"symbols": [listed]})
        await venue.instruments()
        fake.rest["POST /api/v3/order"] = placed(1)
        assert isinstance(await venue.submit(order(qty=D("1.01")), nothing), Acked), "nothing is known of the wallet"
        rows = [{"asset": "BTC", "free": "0.3", "locked": "0.2"}]
        fake.rest["GET /api/v3/account"] = (200, {"balances": rows})
        resting = {**ORDER_ROW, "side": "BUY", "origQty": "0.3", "executedQty": "0.1", "status": "PARTIALLY_FILLED"}
        fake.rest["GET /api/v3/openOrders"] = (200, [resting])
        await venue.positions()
        await open_orders(venue)
        assert isinstance(await venue.submit(order(qty=D("0.3")), nothing), Acked), "just as much as may be"
        kept = await venue.submit(order(qty=D("0.31")), nothing)
        assert isinstance(kept, Rejection) and (kept.kind, kept.text[:12]) == ("unsent", "MAX_POSITION")
        assert len(fake.said("POST /api/v3/order")) == 2
        fake.rest["GET /api/v3/openOrders"] = (200, [])
        await open_orders(venue)
        assert isinstance(await venue.submit(order(qty=D("0.31")), nothing), Acked), "the order that stood has gone"


def trade(number: int, order_id: int, at_ms: int) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "id": number,
        "orderId": order_id,
        "price": "100",
        "qty": "0.01",
        "commission": "0.00001",
        "commissionAsset": "BTC",
        "time": at_ms,
        "isBuyer": True,
        "isMaker": False,
    }


async def test_executions_come_page_by_page_and_each_once() -> None:
    async with spot_venue() as (fake, venue):
        now = fake.now_ms()
        rows = [trade(n, 7, now - 5000 + n // 10) for n in range(1, 2501)]  # many in the same millisecond

        def page(said: Said) -> tuple[int, Any]:
            limit = int(said["limit"])
            if "fromId" in said:
                return 200, [r for r in rows if r["id"] >= int(said["fromId"])][:limit]
            start, end = int(said["startTime"]), int(said["endTime"])
            return 200, [r for r in rows if start <= r["time"] <= end][:limit]

        fake.rest["GET /api/v3/myTrades"] = page
        fake.rest["GET /api/v3/order"] = (200, {**ORDER_ROW, "orderId": 7})
        found = await venue.fills((now - 3 * 86_400_000) * 1_000_000)
        assert not isinstance(found, Failed)
        assert [f.exec_id for f in found if isinstance(f, FillReport)] == [f"{n}-7" for n in range(1, 2501)]
        assert {f.cid for f in found if isinstance(f, FillReport)} == {CID}
        assert len(fake.said("GET /api/v3/order")) == 1, "whose order it was is asked for once"


async def test_a_page_that_never_gets_on_ends_the_question() -> None:
    async with spot_venue() as (fake, venue):
        now = fake.now_ms()
        fake.rest["GET /api/v3/myTrades"] = (200, [trade(n, 7, now) for n in range(1, 1001)])
        fake.rest["GET /api/v3/order"] = (200, {**ORDER_ROW, "orderId": 7})
        found = await venue.fills((now - 1000) * 1_000_000)
        assert not isinstance(found, Failed) and len(found) == 1000
        assert len(fake.said("GET /api/v3/myTrades")) == 2


async def test_an_engine_without_a_memory_starts_with_what_happens_from_now_on() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["GET /api/v3/myTrades"] = (200, [])
        began = await venue.server_time_ns()
        assert isinstance(began, int)
        assert await venue.fills(0) == ()
        (said,) = fake.said("GET /api/v3/myTrades")
        assert int(said["startTime"]) == began // 1_000_000


async def test_executions_of_one_order_are_asked_for_by_its_number() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["POST /api/v3/order"] = placed(7)
        fake.rest["GET /api/v3/myTrades"] = (200, [trade(1, 7, fake.now_ms())])
        await venue.submit(order(), nothing)
        found = await venue.fills(1, CID)
        assert not isinstance(found, Failed) and [getattr(f, "cid", "") for f in found] == [CID]
        assert fake.said("GET /api/v3/myTrades")[0]["orderId"] == "7"


async def test_a_symbol_outside_of_ascii_is_sent_as_it_was_signed() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["GET /api/v3/order"] = refused(-2013)
        assert await venue.order("\uff11\uff12/x y", CID) == NotFound(CID)
        assert fake.said("GET /api/v3/order")[0]["symbol"] == "\uff11\uff12/x y"
        assert fake.bad == []


async def test_many_symbols_are_asked_for_at_once_and_others_left_out() -> None:
    names = ("BTCUSDT", *(f"X{n}" for n in range(20)))
    async with spot_venue(symbols=names) as (fake, venue):
        listed = [{**SPOT_SYMBOL, "symbol": name} for name in names]
        fake.rest["GET /api/v3/exchangeInfo"] = (200, {"symbols": listed})
        await venue.instruments()
        rows = [{**ORDER_ROW, "symbol": name} for name in ("X3", "OTHER")]
        fake.rest["GET /api/v3/openOrders"] = (200, rows)
        assert [o.symbol for o in await open_orders(venue)] == ["X3"]
        assert fake.said("GET /api/v3/openOrders")[-1].get("symbol") is None


# ------------------------------------------------------------------------------------------------------------ stream


async def test_the_stream_is_a_signed_subscription_and_tells_executions() -> None:
    async with spot_venue() as (fake, venue), trio.open_nursery() as nursery:
        heard: list[Any] = []
        nursery.start_soon(collect, venue, heard)
        await until(lambda: fake.sockets)
        (said,) = fake.said("userDataStream.subscribe.signature")
        assert set(said) == {"apiKey", "timestamp", "recvWindow", "signature"}
        await fake.push({"subscriptionId": 0, "event": EXECUTION})
        await until(lambda: len(heard) == 2)
        assert isinstance(heard[0], FillReport) and isinstance(heard[1], OrderReport)
        nursery.cancel_scope.cancel()


async def collect(venue: Any, heard: list[Any]) -> None:
    async with venue.stream() as reports:
        async for report in reports:
            heard.append(report)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b'{"event":{"e":"eventStreamTerminated","E":1}}', "eventStreamTerminated"),
        (b'{"event":{"e":"serverShutdown","E":1}}', "serverShutdown"),
        (b'{"event":{"e":"executionReport"', "garbage"),
        (b'{"event":{"e":"executionReport","s":1}}', "garbage"),
        (b'{"id":null,"status":401,"error":{"code":-2015,"msg":"revoked"}}', "401"),
        (b'{"event":{"e":"x","y":"' + b"z" * 5_000_000 + b'"}}', "1009"),
    ],
    ids=["terminated", "shutdown", "cut", "types", "revoked", "large"],
)
async def test_a_frame_that_ends_the_stream(frame: bytes, why: str) -> None:
    async with spot_venue() as (fake, venue), trio.open_nursery() as nursery:

        async def push() -> None:
            await until(lambda: fake.sockets)
            await fake.push(frame)

        nursery.start_soon(push)
        with pytest.raises(StreamDown, match=why), trio.fail_after(PATIENCE):
            await collect(venue, [])


@pytest.mark.parametrize("answer", [(401, {"code": -2015, "msg": "Invalid API-key"}), (200, b"<html>"), CUT])
async def test_a_subscription_that_is_refused_is_a_stream_that_is_down(answer: Any) -> None:
    async with spot_venue() as (fake, venue):
        fake.calls["userDataStream.subscribe.signature"] = answer
        with pytest.raises(StreamDown), trio.fail_after(PATIENCE):
            await collect(venue, [])


async def test_an_execution_that_the_stream_never_told_ends_it() -> None:
    async with spot_venue() as (fake, venue), trio.open_nursery() as nursery:
        downs: list[str] = []

        async def read() -> None:
            try:
                await collect(venue, [])
            except StreamDown as down:
                downs.append(str(down))

        nursery.start_soon(read)
        await until(lambda: fake.sockets)
        await until(lambda: venue._listening.witness._up_ns)
        venue._listening.witness.up(fake.clock.now_ns() - 60 * 10**9)
        fake.rest["GET /api/v3/myTrades"] = (200, [trade(1, 7, fake.now_ms() - 20_000)])
        fake.rest["GET /api/v3/order"] = (200, {**ORDER_ROW, "orderId": 7})
        await venue.fills((fake.now_ms() - 60_000) * 1_000_000)
        await until(lambda: downs)
        assert "never told of execution 1-7" in downs[0]


# ------------------------------------------------------------------------------------------------------------- start


async def test_two_megabytes_of_instruments_are_read() -> None:
    async with spot_venue() as (fake, venue):
        others = [{**fake.rest["GET /api/v3/exchangeInfo"][1]["symbols"][0], "symbol": f"X{n}"} for n in range(6000)]
        mine = fake.rest["GET /api/v3/exchangeInfo"][1]["symbols"]
        fake.rest["GET /api/v3/exchangeInfo"] = (200, {"symbols": others + mine, "rateLimits": []})
        found = await venue.instruments()
        assert not isinstance(found, Failed) and [i.symbol for i in found] == ["BTCUSDT"]


RIGHTS = {
    "enableReading": True,
    "enableSpotAndMarginTrading": True,
    "enableFutures": True,
    "enableWithdrawals": False,
    "ipRestrict": True,
}


async def wrong(venue: SpotVenue, allowed: bool = False) -> list[str]:
    remarks = await venue.look_over(allowed)
    assert not isinstance(remarks, Failed), remarks
    return [remark.what for remark in remarks if not remark.ok]


@pytest.mark.parametrize(
    ("rights", "allowed", "expected"),
    [
        (RIGHTS, False, []),
        ({**RIGHTS, "enableWithdrawals": True}, False, ["withdrawals"]),
        ({**RIGHTS, "enableWithdrawals": True}, True, []),
        ({**RIGHTS, "enableSpotAndMarginTrading": False}, False, ["key"]),
        ({**RIGHTS, "enableReading": False}, False, ["key"]),
    ],
)
async def test_a_key_is_looked_at_before_it_is_used(rights: Any, allowed: bool, expected: list[str]) -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["GET /sapi/v1/account/apiRestrictions"] = (200, rights)
        fake.rest["GET /api/v3/account"] = (200, {"balances": []})
        assert await wrong(venue, allowed) == expected


async def test_an_account_that_may_not_trade_is_told() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["GET /sapi/v1/account/apiRestrictions"] = (200, RIGHTS)
        fake.rest["GET /api/v3/account"] = (200, {"balances": [], "canTrade": False})
        assert await wrong(venue) == ["account"]
        fake.rest["GET /api/v3/account"] = refused(-2015, "Invalid API-key", 401)
        assert await wrong(venue) == ["account"]
        fake.rest["GET /api/v3/account"] = (502, b"")
        assert isinstance(await venue.look_over(False), Failed), "no answer is no judgement"


@pytest.mark.parametrize(
    ("answer", "expected"), [(refused(-2015, "Invalid API-key", 401), ["key"]), ((200, {"enableReading": True}), None)]
)
async def test_permissions_that_are_not_told_are_no_permission(answer: Any, expected: list[str] | None) -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["GET /sapi/v1/account/apiRestrictions"] = answer
        fake.rest["GET /api/v3/account"] = (200, {"balances": []})
        if expected is None:
            assert isinstance(await venue.look_over(False), Failed)
        else:
            assert await wrong(venue) == expected


async def test_a_look_at_the_streams_enters_and_leaves_them() -> None:
    async with spot_venue(order_socket=True) as (fake, venue), trio.open_nursery() as nursery:
        nursery.start_soon(venue.run)
        await until(lambda: venue.socket is not None and venue.socket.ready)
        assert [r.ok for r in await venue.look_at_streams()] == [True, True]
        fake.calls["userDataStream.subscribe.signature"] = (401, {"code": -2015, "msg": "no"})
        private, entry = await venue.look_at_streams()
        assert not private.ok and "-2015" in private.text and entry.ok
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------- cancel and amend


async def test_a_cancel_goes_by_number_and_bears_an_id_that_leads_back() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["DELETE /api/v3/order"] = placed(7)
        assert isinstance(await venue.cancel(Cancel(CID, "BTCUSDT", "7")), Acked)
        (said,) = fake.said("DELETE /api/v3/order")
        assert (said["orderId"], said["newClientOrderId"]) == ("7", f"{CID}-c")


async def test_a_cancel_of_an_order_that_is_gone_is_no_end_of_it() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["DELETE /api/v3/order"] = refused(-2011, "Unknown order sent.")
        answer = await venue.cancel(Cancel(CID, "BTCUSDT"))
        assert isinstance(answer, Rejection) and answer.kind == "not_found"


async def test_amending_keeps_the_orders_place_and_id() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["PUT /api/v3/order/amend/keepPriority"] = (200, {"transactTime": 1, "amendedOrder": {}})
        assert isinstance(await venue.amend("BTCUSDT", CID, D("0.005")), Acked)
        (said,) = fake.said("PUT /api/v3/order/amend/keepPriority")
        assert (said["newQty"], said["newClientOrderId"]) == ("0.005", CID)
        fake.rest["PUT /api/v3/order/amend/keepPriority"] = refused(-2038, "The order quantity...")
        assert isinstance(await venue.amend("BTCUSDT", CID, D("0.005")), Rejection)


async def test_cancelling_all_lets_go_of_held_targets_too() -> None:
    async with spot_venue() as (fake, venue):
        fake.rest["DELETE /api/v3/openOrders"] = (200, [])
        await venue.submit(TARGET, nothing)
        assert isinstance(await venue.cancel_all("BTCUSDT"), Acked)
        assert await open_orders(venue) == ()


def test_the_fake_knows_a_wrong_signature() -> None:
    fake = Fake()
    fake._check("GET /x", "a=1&signature=00", b"x-mbx-apikey: the-key", {"signature": "00"})
    assert fake.bad == ["GET /x"]
