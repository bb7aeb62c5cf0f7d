"""The simulated venue does to its clients what real ones do: these are the habits that the worlds rely on."""

from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import trio
import trio.testing

from engine.core.ids import is_ours
from engine.core.messages import (
    Acked,
    Answer,
    Cancel,
    Failed,
    FillReport,
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
from engine.runtime.clock import Clock
from engine.runtime.schedule import seeded_schedule
from engine.venues.base import StreamDown
from engine.venues.throttle import Lane, Limit, Throttle
from tests.sim.faults import Faults, Nature
from tests.sim.truth import BanHeard, Executed, Taken, Truth
from tests.sim.venue import SimVenue, Wire

QUIET = Nature(volatility=0.0)
BEGAN_NS = 1_700_000_000_000_000_000


class Client:
    """An incarnation that never dies."""

    number = 1
    alive = True

    def boundary(self, where: str) -> None:
        pass


def order(cid: str = "c1", **changes: Any) -> Order:
    usual: dict[str, Any] = {
        "cid": cid,
        "account": "main",
        "symbol": "BTCUSDT",
        "signal_id": "s",
        "leg": Leg.ENTRY,
        "attempt": 0,
        "side": Side.BUY,
        "order_type": OrderType.MARKET,
        "qty": Decimal("0.01"),
    }
    return Order(**(usual | changes))


Story = Callable[[SimVenue, Wire], Awaitable[None]]


def play(story: Story, nature: Nature = QUIET, faults: Faults = Faults(), seed: str = "1") -> Truth:
    """Run a story against a venue on the virtual clock."""
    truth = Truth()

    async def main() -> None:
        venue = SimVenue(nature, faults, seed, lambda: BEGAN_NS + round(trio.current_time() * 1e9), truth)
        async with trio.open_nursery() as nursery:
            await nursery.start(venue.run)
            await story(venue, venue.wire(Client()))
            nursery.cancel_scope.cancel()

    with seeded_schedule(1):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return truth


async def submit(wire: Wire, what: Order) -> Answer:
    return await wire.submit(what, lambda: None)


def test_a_market_order_fills_at_the_touch_and_moves_the_position() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        assert isinstance(await submit(wire, order()), Acked)
        assert venue.position("BTCUSDT") == Decimal("0.01")
        (fill,) = [f for f in await fills(wire) if isinstance(f, FillReport)]
        assert (fill.price, fill.fee, fill.fee_asset) == (Decimal("60000.1"), Decimal("0.33000055"), "USDT")
        quote = next(b for b in venue.list_balances() if b.asset == "USDT")
        assert quote.total == Decimal(100_000) - Decimal("0.33000055")

    play(story)


async def fills(wire: Wire) -> tuple[Any, ...]:
    found = await wire.fills(0)
    assert not isinstance(found, Failed)
    return found


def test_an_id_is_unique_for_ever_or_only_among_open_orders() -> None:
    async def again(venue: SimVenue, wire: Wire) -> None:
        assert isinstance(await submit(wire, order()), Acked)
        second = await submit(wire, order())
        if venue.traits.id_unique_for_ever:
            assert isinstance(second, Rejection) and second.kind == "duplicate"
        else:
            assert isinstance(second, Acked)
            assert venue.position("BTCUSDT") == Decimal("0.02")

    play(again, Nature(volatility=0, id_unique_for_ever=True))
    play(again, Nature(volatility=0, id_unique_for_ever=False))

    async def open_twice(venue: SimVenue, wire: Wire) -> None:
        resting = order(order_type=OrderType.LIMIT, price=Decimal(59000))
        assert isinstance(await submit(wire, resting), Acked)
        assert isinstance(await submit(wire, resting), Rejection)

    play(open_twice, Nature(volatility=0, id_unique_for_ever=False))


def test_a_request_that_comes_too_late_is_refused() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        answer = await submit(wire, order())
        assert isinstance(answer, Rejection) and answer.code == "-1021"

    slow = Faults(request_delayed=1.0, request_delay_max=9.0)
    assert not _taken(play(story, faults=slow, seed="6"))  # this seed draws more than the window


def _taken(truth: Truth) -> list[Taken]:
    return [x for x in truth if isinstance(x, Taken)]


def test_a_lost_reply_is_silence_with_effect_and_a_lost_request_without() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        assert isinstance(await submit(wire, order()), Silence)

    assert len(_taken(play(story, faults=Faults(reply_lost=1.0)))) == 1
    assert len(_taken(play(story, faults=Faults(request_lost=1.0)))) == 0
    assert len(_taken(play(story, faults=Faults(error_with_effect=1.0)))) == 1
    assert len(_taken(play(story, faults=Faults(error_without_effect=1.0)))) == 0


def test_an_accepted_order_may_be_invisible_for_a_while_but_is_there() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order(order_type=OrderType.LIMIT, price=Decimal(59000)))
        assert isinstance(await wire.order("BTCUSDT", "c1"), NotFound)
        assert await wire.open_orders() == ()
        await trio.sleep(15)
        assert isinstance(await wire.order("BTCUSDT", "c1"), OrderReport)

    play(story, faults=Faults(visible_max=15.0))


def test_a_request_goes_on_when_its_sender_dies() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        with trio.move_on_after(0.001):
            await submit(wire, order())
        await trio.sleep(1)
        assert venue.position("BTCUSDT") == Decimal("0.01")

    play(story, Nature(volatility=0, latency_min=0.01))


def test_reduce_only_is_capped_by_the_position_and_never_turns_it() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        big = order("c2", side=Side.SELL, qty=Decimal("0.05"), reduce_only=True)
        assert isinstance(await submit(wire, big), Acked)
        assert venue.position("BTCUSDT") == 0
        nothing = await submit(wire, order("c3", side=Side.SELL, reduce_only=True))
        assert isinstance(nothing, Rejection) and nothing.kind == "invalid"

    play(story)


def stop(cid: str, trigger: str, kind: OrderType = OrderType.STOP_MARKET) -> Order:
    return order(cid, side=Side.SELL, order_type=kind, trigger_price=Decimal(trigger), reduce_only=True)


def test_conditional_orders_wait_for_their_price() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        await submit(wire, stop("s1", "59000"))
        await submit(wire, stop("t1", "61000", OrderType.TAKE_PROFIT_MARKET))
        refused = await submit(wire, stop("s2", "60500"))
        assert isinstance(refused, Rejection) and refused.kind == "triggered"
        await trio.sleep(5)
        assert venue.position("BTCUSDT") == Decimal("0.01")
        venue.markets["BTCUSDT"].ticks = 589_000
        await trio.sleep(1)
        assert venue.position("BTCUSDT") == 0

    play(story)


def test_what_can_no_longer_reduce_is_canceled_where_that_is_the_venues_habit() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        await submit(wire, stop("s1", "59000"))
        await submit(wire, order("x1", side=Side.SELL, reduce_only=True))
        assert len(venue.list_open()) == (0 if venue.nature.reduce_only_ends_when_flat else 1)

    play(story, Nature(volatility=0, reduce_only_ends_when_flat=True))
    play(story, Nature(volatility=0, reduce_only_ends_when_flat=False))


def test_resting_orders_fill_as_maker_when_the_price_comes() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order(order_type=OrderType.LIMIT, price=Decimal(59900)))
        ioc = order("c2", order_type=OrderType.LIMIT, price=Decimal(59900), tif=TimeInForce.IOC)
        await submit(wire, ioc)
        post_only = order("c3", order_type=OrderType.LIMIT, price=Decimal(61000), tif=TimeInForce.POST_ONLY)
        assert isinstance(await submit(wire, post_only), Rejection)
        venue.markets["BTCUSDT"].ticks = 598_000
        await trio.sleep(1)
        (fill,) = [f for f in await fills(wire) if isinstance(f, FillReport)]
        assert fill.maker and fill.price == Decimal(59900)

    play(story)


def test_a_fee_in_base_leaves_less_than_was_bought() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        assert venue.position("BTCUSDT") == Decimal("0.01") - Decimal("0.0000055")
        sold = await submit(wire, order("c2", side=Side.SELL))
        assert isinstance(sold, Rejection) and sold.kind == "insufficient"

    play(story, Nature(volatility=0, spot=True, fee_asset="base"))


def test_pieces_add_up() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        await trio.sleep(10)

    truth = play(story, Nature(volatility=0, partial=1.0), seed="3")
    pieces = [x for x in truth if isinstance(x, Executed)]
    assert len(pieces) > 1
    assert sum(p.qty for p in pieces) <= Decimal("0.01")


def test_a_cancel_may_lose_to_the_fill() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        answer = await wire.cancel(Cancel(cid="c1", symbol="BTCUSDT"))
        assert isinstance(answer, Rejection) and answer.kind == "not_found"

    assert play(story).reached["cancel lost to a fill"] == 1


def test_a_stream_that_is_cut_ends_and_says_so() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        seen = []
        down = False
        try:
            async with wire.stream() as events:
                await submit(wire, order())
                await trio.sleep(1)
                venue._stream_cut()
                seen = [event async for event in events]
        except StreamDown:
            down = True
        assert down
        assert Counter(type(event) for event in seen) == {OrderReport: 2, FillReport: 1}  # in any order, as ever

    play(story, Nature(volatility=0, latency_min=0.001, latency_max=0.001))


def test_a_stalled_stream_says_nothing_and_does_not_end() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        async with wire.stream() as events:
            venue._stream_stall()
            await submit(wire, order())
            with trio.move_on_after(60) as waiting:
                await events.receive()
            assert waiting.cancelled_caught
            venue._connections.clear()

    play(story)


def test_the_same_seed_gives_the_same_path() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order(order_type=OrderType.LIMIT, price=Decimal(59900)))
        await trio.sleep(200)

    wild = Nature(volatility=0.001, partial=0.5)
    assert play(story, wild, seed="a").trace_hash == play(story, wild, seed="a").trace_hash
    assert play(story, wild, seed="a").trace_hash != play(story, wild, seed="b").trace_hash


def test_an_opener_may_be_filled_for_more_than_was_asked_and_a_closer_never() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        held = venue.position("BTCUSDT")
        assert held > Decimal("0.01")
        await submit(wire, order("x1", side=Side.SELL, reduce_only=True))
        assert venue.position("BTCUSDT") == held - Decimal("0.01")

    play(story, faults=Faults(overfilled=1.0))


def test_a_canceled_order_may_still_be_executed_for_a_moment() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order(order_type=OrderType.LIMIT, price=Decimal(59000)))
        assert isinstance(await wire.cancel(Cancel(cid="c1", symbol="BTCUSDT")), Acked)
        assert venue.position("BTCUSDT") == 0
        await trio.sleep(3)
        assert 0 < venue.position("BTCUSDT") <= Decimal("0.01")
        (resting,) = venue.orders.values()
        assert resting.status == "canceled"

    play(story, faults=Faults(filled_late=1.0))


def test_a_ban_refuses_everything_until_its_end_and_closes_the_door_of_who_hears_of_it() -> None:
    async def story(venue: SimVenue, _: Wire) -> None:
        clock = Clock(now_ns=venue.wall_ns, ticks_ns=venue.wall_ns)
        throttle = Throttle((Limit(10, 1_000_000_000),), clock)
        wire = venue.wire(Client(), throttle)
        venue.banned_until_ns = venue.wall_ns() + 10_000_000_000
        answer = await submit(wire, order())
        assert isinstance(answer, Rejection) and answer.kind == "rate_limited"
        assert isinstance(await wire.positions(), Failed)
        began = trio.current_time()
        await throttle.wait(Lane.REDUCE)
        assert 9 < trio.current_time() - began <= 10
        assert isinstance(await submit(wire, order()), Acked)

    truth = play(story)
    assert sum(isinstance(x, BanHeard) for x in truth) == 1
    assert len(_taken(truth)) == 1


def test_a_restart_forgets_orders_that_have_ended_and_keeps_open_ones_and_executions() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        await submit(wire, order("c2", order_type=OrderType.LIMIT, price=Decimal(59000)))
        venue._restart()
        assert isinstance(await submit(wire, order("c3")), Silence)
        await trio.sleep(5)
        assert isinstance(await wire.order("BTCUSDT", "c1"), NotFound)
        assert isinstance(await wire.order("BTCUSDT", "c2"), OrderReport)
        assert len(await fills(wire)) == 1

    play(story)


def test_beyond_its_horizon_the_venue_knows_neither_order_nor_execution() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        await trio.sleep(59)
        assert isinstance(await wire.order("BTCUSDT", "c1"), OrderReport)
        await trio.sleep(2)
        assert isinstance(await wire.order("BTCUSDT", "c1"), NotFound)
        assert await fills(wire) == ()

    play(story, Nature(volatility=0.0, horizon=60.0))


def test_a_liquidation_is_an_order_that_nobody_placed() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        await submit(wire, order())
        while venue.position("BTCUSDT"):
            venue._liquidation()
        ours, *theirs = [f for f in await fills(wire) if isinstance(f, FillReport)]
        assert ours.cid == "c1" and theirs and not any(is_ours(f.cid) for f in theirs)

    play(story)


def test_a_person_may_leave_orders_in_the_book_and_takes_them_back_in_the_calm() -> None:
    async def story(venue: SimVenue, wire: Wire) -> None:
        for _ in range(5):
            venue._human_rest()
        assert len(venue.list_open()) == 5
        venue.calm()
        assert not venue.list_open()

    play(story)
