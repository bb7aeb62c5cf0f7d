"""Both Binance markets on the local exchange: what an account lives through, and what the exchange says of it after."""

from decimal import Decimal
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from engine.core.ids import client_order_id, is_ours
from engine.core.messages import (
    Acked,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    InstrumentKind,
    Leg,
    NotFound,
    Order,
    OrderReport,
    OrderType,
    Rejection,
    Side,
    Silence,
    TimeInForce,
)
from engine.exchange.faults import Woe
from engine.exchange.terms import ExchangeTerms, KeyTerms
from engine.market.events import FundingRate
from engine.venues.base import StreamDown
from engine.venues.binance.usdm import UsdmVenue
from tests.venues.binance.local import KINDS, Local, local, until

D = Decimal
LINEAR, SPOT = KINDS


def order(name: str, leg: Leg = Leg.ENTRY, order_type: OrderType = OrderType.MARKET, **fields: Any) -> Order:
    closes = leg is not Leg.ENTRY
    given: dict[str, Any] = {
        "cid": client_order_id("test", "main", name, leg, 0),
        "account": "main",
        "symbol": "BTCUSDT",
        "signal_id": name,
        "leg": leg,
        "attempt": 0,
        "side": Side.SELL if closes else Side.BUY,
        "order_type": order_type,
        "qty": D("0.01"),
        "reduce_only": closes,
    }
    return Order(**{**given, **fields})


ENTRY = order("e")
STOP = order("s", Leg.STOP, OrderType.STOP_MARKET, trigger_price=D(59000))
TARGET = order("t", Leg.TARGET, OrderType.TAKE_PROFIT_MARKET, trigger_price=D(62000))
RESTING = order("r", order_type=OrderType.LIMIT, price=D(50000))


def nothing() -> None:
    pass


async def read(world: Local, heard: list[Any]) -> None:
    async with world.venue.stream() as reports:
        async for report in reports:
            heard.append(report)


async def found(world: Local, wanted: Order) -> OrderReport:
    report = await world.venue.order("BTCUSDT", wanted.cid)
    assert isinstance(report, OrderReport), report
    return report


async def all_fills(world: Local) -> list[FillReport]:
    fills = await world.venue.fills(world.venue.api.now_ns() - 60 * 10**9)
    assert not isinstance(fills, Failed), fills
    return [fill for fill in fills if isinstance(fill, FillReport)]


@pytest.mark.parametrize("socket", [False, True], ids=["rest", "socket"])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_stream_and_the_lists_tell_the_same_executions(kind: InstrumentKind, socket: bool) -> None:
    async with local(kind, socket) as world, trio.open_nursery() as nursery:
        heard: list[Any] = []
        nursery.start_soon(read, world, heard)
        await until(lambda: world.venue._listening.witness._up_ns)
        for wanted in (ENTRY, STOP, TARGET):
            assert isinstance(await world.venue.submit(wanted, nothing), Acked)
        world.show("62000", "62000.1")
        world.trade("62000.5")
        await until(lambda: len([h for h in heard if isinstance(h, FillReport)]) == 2)
        listed = await all_fills(world)
        assert [h for h in heard if isinstance(h, FillReport)] == listed
        assert [fill.cid for fill in listed] == [ENTRY.cid, TARGET.cid]
        assert (await found(world, TARGET)).status == "filled"
        assert world.member.matching.account.qty(f"{kind.value}:BTCUSDT").copy_abs() < D("0.001")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stop_that_is_reached_closes_the_position(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        await world.venue.submit(ENTRY, nothing)
        await world.venue.submit(STOP, nothing)
        world.show("58900", "58900.1")
        world.trade("58900")
        assert (await found(world, STOP)).status == "filled"
        fills = await world.venue.fills(world.venue.api.now_ns() - 60 * 10**9, STOP.cid)
        assert not isinstance(fills, Failed) and [getattr(f, "qty", None) for f in fills] == [D("0.01")]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_stop_after_another_and_an_exit_past_it(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        await world.venue.submit(ENTRY, nothing)
        await world.venue.submit(STOP, nothing)
        second = order("s2", Leg.STOP, OrderType.STOP_MARKET, trigger_price=D(59500))
        assert isinstance(await world.venue.submit(second, nothing), Acked)
        await world.venue.cancel(Cancel(STOP.cid, "BTCUSDT"))
        assert (await found(world, STOP)).status == "canceled"
        assert isinstance(await world.venue.submit(order("x", Leg.EXIT), nothing), Acked)
        await world.venue.cancel(Cancel(second.cid, "BTCUSDT"))
        assert await world.venue.open_orders() == ()
        assert len(await all_fills(world)) == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_entries_of_every_kind(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        for name, tif, price, status in (
            ("gtc", TimeInForce.GTC, "50000", "open"),
            ("post", TimeInForce.POST_ONLY, "50000", "open"),
            ("ioc", TimeInForce.IOC, "50000", "expired"),
            ("take", TimeInForce.IOC, "60001", "filled"),
        ):
            wanted = order(name, order_type=OrderType.LIMIT, price=D(price), tif=tif)
            assert isinstance(await world.venue.submit(wanted, nothing), Acked), name
            assert (await found(world, wanted)).status == status, name
        taking = order("post2", order_type=OrderType.LIMIT, price=D(61000), tif=TimeInForce.POST_ONLY)
        refused = await world.venue.submit(taking, nothing)
        assert isinstance(refused, Rejection) and refused.kind == "invalid"
        passed = order("p", Leg.STOP, OrderType.STOP_MARKET, trigger_price=D(61000))
        refused = await world.venue.submit(passed, nothing)
        assert isinstance(refused, Rejection) and refused.kind == "triggered"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_id_twice_is_told_while_the_first_is_open(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        assert isinstance(await world.venue.submit(RESTING, nothing), Acked)
        again = await world.venue.submit(RESTING, nothing)
        assert isinstance(again, Rejection) and again.kind == "duplicate"


@pytest.mark.parametrize("socket", [False, True], ids=["rest", "socket"])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_is_lost_leaves_an_order_that_is_found(kind: InstrumentKind, socket: bool) -> None:
    async with local(kind, socket) as world:
        world.fault(Woe.LOSE_REPLY, on="order.place")
        assert isinstance(await world.venue.submit(RESTING, nothing), Silence)
        assert (await found(world, RESTING)).status == "open"
        world.fault(Woe.LOSE_REQUEST, on="order.place")
        lost = order("lost", order_type=OrderType.LIMIT, price=D(50000))
        assert isinstance(await world.venue.submit(lost, nothing), Silence)
        assert await world.venue.order("BTCUSDT", lost.cid) == NotFound(lost.cid)
        mine = [o for o in world.member.matching.open_orders() if o.cid == RESTING.cid]
        assert len(mine) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_restart_an_order_is_found_by_its_id_even_when_cancelled(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        await world.venue.submit(RESTING, nothing)
        await world.venue.cancel(Cancel(RESTING.cid, "BTCUSDT"))
        world.venue._names.__init__()  # all that was learnt is gone
        report = await found(world, RESTING)
        assert (report.cid, report.status) == (RESTING.cid, "canceled")


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_restart_executions_are_told_with_their_ids(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        await world.venue.submit(ENTRY, nothing)
        world.venue._names.__init__()
        assert [fill.cid for fill in await all_fills(world)] == [ENTRY.cid]
        world.venue._names.__init__()
        fills = await world.venue.fills(world.venue.api.now_ns() - 60 * 10**9, ENTRY.cid)
        assert not isinstance(fills, Failed) and len(fills) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_amend_and_cancel_all(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        await world.venue.submit(RESTING, nothing)
        if isinstance(world.venue, UsdmVenue):
            done = await world.venue.amend("BTCUSDT", RESTING.cid, Side.BUY, D("0.005"), D(50010))
            await world.venue.submit(STOP, nothing)
        else:
            done = await world.venue.amend("BTCUSDT", RESTING.cid, D("0.005"))
        assert isinstance(done, Acked)
        assert (await found(world, RESTING)).qty == D("0.005")
        assert isinstance(await world.venue.cancel_all("BTCUSDT"), Acked)
        assert await world.venue.open_orders() == ()


async def test_a_batch_of_orders_and_cancels() -> None:
    async with local(LINEAR) as world:
        assert isinstance(world.venue, UsdmVenue)
        orders = [order(f"b{n}", order_type=OrderType.LIMIT, price=D(50000)) for n in range(3)]
        orders.append(order("b3", order_type=OrderType.LIMIT, price=D("50000.05")))  # off the tick
        answers = await world.venue.submit_batch(orders, nothing)
        assert [type(a) for a in answers] == [Acked, Acked, Acked, Rejection]
        gone = await world.venue.cancel_batch("BTCUSDT", [o.cid for o in orders[:2]] + ["unknown"])
        assert [type(a) for a in gone] == [Acked, Acked, Rejection]
        assert [o.cid for o in await world.venue.open_orders()] == [orders[2].cid]  # type: ignore[union-attr]


async def test_funding_comes_with_the_executions_and_once() -> None:
    async with local(LINEAR) as world:
        await world.venue.submit(ENTRY, nothing)
        world.exchange.publish(FundingRate("BTCUSDT", world.exchange.now_ns(), D("0.0001"), D(60000)))
        since = world.venue.api.now_ns() - 60 * 10**9
        for _ in range(2):
            world.venue._funding_asked_ns = 0  # asked for once a minute otherwise
            found = await world.venue.fills(since)
            assert not isinstance(found, Failed)
            (paid,) = [report for report in found if isinstance(report, FundingReport)]
            assert (paid.symbol, paid.amount, paid.asset) == ("BTCUSDT", D("-0.06"), "USDT")


async def test_a_liquidation_is_an_execution_that_nobody_here_asked_for() -> None:
    async with local(LINEAR) as world, trio.open_nursery() as nursery:
        heard: list[Any] = []
        nursery.start_soon(read, world, heard)
        await until(lambda: world.venue._listening.witness._up_ns)
        await world.venue.submit(ENTRY, nothing)
        world.member.liquidate("linear:BTCUSDT", world.exchange.now_ns())
        await until(lambda: len([h for h in heard if isinstance(h, FillReport)]) == 2)
        fill = [h for h in heard if isinstance(h, FillReport)][1]
        assert not is_ours(fill.cid) and fill.side is Side.SELL and fill.qty == D("0.01")
        assert [f.exec_id for f in await all_fills(world)][1] == fill.exec_id
        assert await world.venue.positions() == ()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_the_venue_drops_is_down(kind: InstrumentKind) -> None:
    async with local(kind) as world, trio.open_nursery() as nursery:

        async def drop() -> None:
            await until(lambda: world.venue._listening.witness._up_ns)
            world.exchange.drop(world.face, "")

        nursery.start_soon(drop)
        with pytest.raises(StreamDown):
            await read(world, [])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_clock_that_is_off_is_measured_before_anything_is_signed(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        world.exchange.skew_ns = 90 * 10**9
        first = await world.venue.submit(RESTING, nothing)
        assert isinstance(first, Rejection) and first.kind == "unavailable"
        assert isinstance(await world.venue.submit(RESTING, nothing), Acked)


@pytest.mark.parametrize("kind", KINDS)
async def test_too_many_requests_close_the_door_until_the_venue_says(kind: InstrumentKind) -> None:
    async with local(kind) as world:
        world.fault(Woe.REFUSE, on="order.place", code=-1003, status=429)
        refused = await world.venue.submit(RESTING, nothing)
        assert isinstance(refused, Rejection) and refused.kind == "rate_limited"
        assert world.throttle.ban.until_ns > world.exchange.now_ns()


@pytest.mark.parametrize("rights", [{"trade": False}, {"withdraw": True}])
async def test_a_key_with_the_wrong_rights_is_told_of(rights: dict[str, bool]) -> None:
    terms = ExchangeTerms(keys=(KeyTerms(key="local-key", secret="local-secret", **rights),))
    async with local(SPOT, terms=terms) as world:
        remarks = await world.venue.look_over(False)
        assert not isinstance(remarks, Failed) and any(not remark.ok for remark in remarks)


async def test_read_again_the_instruments_are_the_venues_of_now_and_no_leverage_is_set_again() -> None:
    async with local(LINEAR, leverage=7) as world:
        screen = world.exchange.faces[world.face].screens.by_inner["linear:BTCUSDT"]  # type: ignore[attr-defined]
        screen.listing = replace(screen.listing, instrument=replace(screen.listing.instrument, tick=D("0.5")))
        world.fault(Woe.REFUSE, on="leverage", code=-4028, status=400, times=0)
        (now,) = await world.venue.instruments()  # type: ignore[misc]
        assert now.tick == D("0.5")
