"""The Bybit client on the local exchange: what it sends is understood, and what goes wrong is told as what it is."""

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from msgspec.structs import replace

from engine.core.messages import (
    Acked,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    InstrumentKind,
    NotFound,
    OrderReport,
    OrderType,
    Rejection,
    Side,
    Silence,
    TimeInForce,
)
from engine.core.times import SECOND
from engine.exchange.faults import Woe
from engine.exchange.terms import ExchangeTerms, KeyTerms
from engine.market.events import FundingRate
from engine.venues.base import StreamDown
from engine.venues.throttle import PATIENCE_NS, Lane
from tests.patience import PATIENCE_SECONDS
from tests.venues.bybit.local import KINDS, D, Local, local, nothing, order, until

WAYS = (False, True)  # by REST, by the trade socket


async def read(world: Local, count: int, act) -> list:
    """The first `count` reports of the stream after `act`."""
    found: list = []
    with trio.fail_after(PATIENCE_SECONDS):
        async with world.venue.stream() as events:
            await act()
            async for report in events:
                found.append(report)
                if len(found) >= count:
                    return found
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_the_instruments_are_listed_with_their_rules(kind: InstrumentKind):
    async with local(kind) as world:
        listed = await world.venue.instruments()
    assert not isinstance(listed, Failed)
    btc = {i.symbol: i for i in listed}["BTCUSDT"]
    spot = kind is InstrumentKind.SPOT
    assert (btc.base, btc.quote, btc.kind) == ("BTC", "USDT", kind)
    assert (btc.tick, btc.lot) == ((D("0.01"), D("0.00001")) if spot else (D("0.1"), D("0.001")))
    assert btc.notional_min == 5 and btc.qty_min == btc.lot and btc.qty_max > 1
    assert btc.taker_fee == (D("0.001") if spot else D("0.0005")), "the account's own rate, not the ordinary one"


@pytest.mark.parametrize("socket", WAYS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_market_order_is_filled_and_found_by_every_question(kind: InstrumentKind, socket: bool):
    wire: list[int] = []
    async with local(kind, socket) as world:
        await world.venue.instruments()
        answers = []

        async def buy() -> None:
            answers.append(await world.venue.submit(order(), lambda: wire.append(1)))

        reports = await read(world, 2, buy)
        found = await world.venue.order("BTCUSDT", order().cid)
        fills = await world.venue.fills(0)
        mine = await world.venue.fills(1, order().cid)
        positions = await world.venue.positions()
        balances = await world.venue.balances()
        truth = world.member.matching
    assert isinstance(answers[0], Acked) and answers[0].venue_order_id
    assert wire == [1], "the wire is told once, whichever way is taken"
    assert isinstance(found, OrderReport)
    assert (found.status, found.filled_qty, found.cid) == ("filled", D("0.01"), order().cid)
    fill = next(r for r in reports if isinstance(r, FillReport))
    assert fills == mine == (fill,)
    assert (fill.qty, fill.price, fill.cid) == (D("0.01"), D("60000.1"), order().cid)
    assert fill.fee_asset == ("BTC" if kind is InstrumentKind.SPOT else "USDT") and fill.fee > 0
    assert isinstance(positions, tuple) and isinstance(balances, tuple)
    wallet = {b.asset: b.total for b in truth.balances()}
    assert {b.asset: b.total for b in balances} == {asset: total for asset, total in wallet.items() if total}
    if kind is InstrumentKind.LINEAR:
        assert [(p.symbol, p.qty, p.wallet) for p in positions] == [("BTCUSDT", D("0.01"), False)]
    else:
        assert [(p.symbol, p.qty, p.wallet) for p in positions] == [("BTCUSDT", wallet["BTC"], True)]


@pytest.mark.parametrize("socket", WAYS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_resting_order_is_amended_and_cancelled(kind: InstrumentKind, socket: bool):
    resting = order(order_type=OrderType.LIMIT, price=D(50000), tif=TimeInForce.POST_ONLY)
    async with local(kind, socket) as world:
        await world.venue.instruments()
        assert isinstance(await world.venue.submit(resting, nothing), Acked)
        opened = await world.venue.open_orders()
        assert isinstance(await world.venue.amend("BTCUSDT", resting.cid, qty=D("0.02"), price=D(51000)), Acked)
        amended = await world.venue.open_orders()
        assert isinstance(await world.venue.cancel(Cancel(resting.cid, "BTCUSDT")), Acked)
        assert await world.venue.open_orders() == ()
        ended = await world.venue.order("BTCUSDT", resting.cid)
        again = await world.venue.cancel(Cancel(resting.cid, "BTCUSDT"))
    assert [(o.cid, o.status, o.price, o.qty) for o in opened] == [(resting.cid, "open", D(50000), D("0.01"))]
    assert [(o.price, o.qty) for o in amended] == [(D(51000), D("0.02"))]
    assert isinstance(ended, OrderReport) and ended.status == "canceled"
    assert isinstance(again, Rejection) and again.kind == "not_found", "gone is no ending: its state must be read"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("order_type", "trigger"),
    [
        (OrderType.STOP_MARKET, D(59000)),
        (OrderType.STOP_LIMIT, D(59000)),
        (OrderType.TAKE_PROFIT_MARKET, D(61000)),
        (OrderType.TAKE_PROFIT_LIMIT, D(61000)),
    ],
)
async def test_protection_rests_until_its_trigger_and_can_be_cancelled(kind, order_type, trigger):
    limit = trigger if order_type in (OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT) else None
    cid = "sf1protectaaaaaaaaaaaaaaaaaaa"
    wanted = order(cid, side=Side.SELL, order_type=order_type, trigger_price=trigger, price=limit, reduce_only=True)
    async with local(kind) as world:
        await world.venue.instruments()
        assert isinstance(await world.venue.submit(order(qty=D("0.02")), nothing), Acked)
        assert isinstance(await world.venue.submit(wanted, nothing), Acked)
        (resting,) = await world.venue.open_orders()  # type: ignore[misc]
        assert (resting.cid, resting.status, resting.trigger_price) == (cid, "open", trigger)
        if kind is InstrumentKind.LINEAR:
            assert (resting.order_type, resting.reduce_only) == (order_type, True)
        found = await world.venue.order("BTCUSDT", cid)
        assert isinstance(found, OrderReport) and found.status == "open"
        assert isinstance(await world.venue.cancel(Cancel(cid, "BTCUSDT")), Acked)
        assert await world.venue.open_orders() == ()


async def test_a_stop_that_is_reached_sells_the_position():
    cid = "sf1protectaaaaaaaaaaaaaaaaaaa"
    stop = order(
        cid, side=Side.SELL, order_type=OrderType.STOP_MARKET, trigger_price=D(59000), qty=D("0.01"), reduce_only=True
    )
    async with local() as world:
        await world.venue.instruments()
        await world.venue.submit(order(), nothing)
        await world.venue.submit(stop, nothing)
        world.show("58990", "58990.1")
        world.trade("58990")
        await until(lambda: not world.member.matching.positions())
        assert await world.venue.positions() == ()
        mine = await world.venue.fills(1, cid)
    assert [(f.side, f.qty) for f in mine] == [(Side.SELL, D("0.01"))]


async def test_a_foreign_order_a_liquidation_and_funding_are_told_as_what_they_are():
    async with local() as world:
        await world.venue.instruments()
        await world.venue.submit(order(), nothing)

        async def fund_and_liquidate() -> None:
            now = world.exchange.now_ns()
            world.exchange.publish(FundingRate("BTCUSDT", now, D("0.0001"), D(60000)))
            world.member.liquidate("linear:BTCUSDT", world.exchange.now_ns())

        reports = await read(world, 4, fund_and_liquidate)
        history = await world.venue.fills(0)
    funding = [r for r in reports if isinstance(r, FundingReport)]
    assert [(f.amount, f.asset) for f in funding] == [(D("-0.06"), "USDT")], "a long pays, and paid is negative here"
    foreign = [r for r in reports if isinstance(r, FillReport)]
    assert [(f.cid, f.side, f.qty) for f in foreign] == [("", Side.SELL, D("0.01"))]
    assert {type(r) for r in history} == {FillReport, FundingReport}
    assert funding[0] in history and foreign[0] in history


# ---------------------------------------------------------------------------------------------------- doubt and refusal


@pytest.mark.parametrize("socket", WAYS)
@pytest.mark.parametrize("woe", [Woe.LOSE_REQUEST, Woe.LOSE_REPLY, Woe.HANG, Woe.GARBAGE])
async def test_an_order_whose_answer_does_not_come_is_in_doubt_and_was_sent_once(woe: Woe, socket: bool):
    async with local(socket=socket, timeout_seconds=0.3) as world:
        world.fault(woe, on="order.create", ms=3000)
        assert isinstance(await world.venue.submit(order(), nothing), Silence)
        sent = len(world.member.records)
        assert world.exchange.plan.suffered == 1
    assert sent == (0 if woe is Woe.LOSE_REQUEST else 1), "never by the other way as well"


@pytest.mark.parametrize("socket", WAYS)
@pytest.mark.parametrize("code", [10000, 10016, 170007, 123456])
async def test_an_error_that_says_nothing_of_the_outcome_is_doubt(code: int, socket: bool):
    async with local(socket=socket) as world:
        world.fault(Woe.REFUSE_DONE, on="order.create", code=code)
        answer = await world.venue.submit(order(), nothing)
        found = await world.venue.order("BTCUSDT", order().cid)
    assert isinstance(answer, Silence) and str(code) in answer.why
    assert isinstance(found, OrderReport), "it was done all the same, and asking finds it"


@pytest.mark.parametrize("socket", WAYS)
async def test_the_same_id_again_is_a_duplicate_and_never_a_second_order(socket: bool):
    async with local(socket=socket) as world:
        await world.venue.submit(order(), nothing)
        again = await world.venue.submit(order(), nothing)
        held = world.member.matching.positions()
    assert isinstance(again, Rejection) and again.kind == "duplicate"
    assert [p.qty for p in held] == [D("0.01")]


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_gateways_error_is_doubt(status: int):
    async with local() as world:
        world.fault(Woe.REFUSE_DONE, on="order.create", status=status)
        assert isinstance(await world.venue.submit(order(), nothing), Silence)
        assert len(world.member.records) == 1


@pytest.mark.parametrize(
    ("socket", "code", "status"),
    [(False, 10006, 200), (True, 10006, 200), (True, 20003, 200), (False, 10429, 200), (False, 0, 429)],
)
async def test_what_a_limiter_refused_although_it_was_done_is_found_before_it_is_sent_again(
    socket: bool, code: int, status: int
):
    async with local(socket=socket) as world:
        world.fault(Woe.REFUSE_DONE, on="order.create", code=code, status=status)
        done = await world.venue.submit(order(), nothing)
        world.fault(Woe.REFUSE, on="order.create", code=code, status=status)
        undone = await world.venue.submit(order("sf1baaaaaaaaaaaaaaaaaaaaaaaaaa"), nothing)
        assert len(world.member.records) == 1
    assert isinstance(done, Acked)
    assert isinstance(undone, Silence), "one empty look so soon proves nothing: it may show later"


@pytest.mark.parametrize("code", [10006, 20003])
async def test_a_limiters_no_to_an_order_that_shows_late_is_doubt_and_never_a_second_order(code: int):
    """The limiter lied, and the venue's queries lag: a look at once finds nothing of an order that lives."""
    async with local() as world:
        member = world.member
        member.memory = replace(member.memory, visible_ns=60_000_000_000)
        world.fault(Woe.REFUSE_DONE, on="order.create", code=code)
        answer = await world.venue.submit(order(), nothing)
        assert len(member.records) == 1
    assert isinstance(answer, Silence)


async def test_an_odd_pause_does_not_hold_up_a_stop_for_ever():
    async with local() as world:
        caller, throttle = world.venue.caller, world.venue.caller._throttle
        caller.heard_code(10006, {"Retry-After": "99999999999"})
        left_ns = throttle.ban.until_ns - caller.rest.moment().wall_ns
        assert 590 * SECOND < left_ns <= 600 * SECOND


async def test_too_little_money_and_a_bad_key_are_refusals_in_our_words():
    async with local() as world:
        poor = await world.venue.submit(order(qty=D(900)), nothing)
        small = await world.venue.submit(order(qty=D("0.0005")), nothing)
    assert isinstance(poor, Rejection) and poor.kind in ("insufficient", "invalid")
    assert isinstance(small, Rejection) and small.kind == "invalid"
    async with local(secret="another") as world:
        answer = await world.venue.submit(order(), nothing)
        balances = await world.venue.balances()
    assert isinstance(answer, Rejection) and (answer.code, answer.kind) == ("10004", "auth")
    assert isinstance(balances, Failed)


async def test_an_order_that_is_acknowledged_and_then_rejected_comes_as_rejected():
    async with local() as world:
        world.fault(Woe.REJECT_LATER, on="order.create")
        answers = []

        async def buy() -> None:
            answers.append(await world.venue.submit(order(), nothing))

        *_, report = await read(world, 2, buy)
    assert isinstance(answers[0], Acked)
    assert (report.status, report.reason) == ("rejected", "EC_Others")


async def test_an_id_that_nobody_knows_is_not_found_and_a_failed_question_is_not_that():
    async with local() as world:
        assert await world.venue.order("BTCUSDT", "sf1nobody") == NotFound("sf1nobody")
        world.fault(Woe.REFUSE, on="order.history", code=10016)
        assert isinstance(await world.venue.order("BTCUSDT", "sf1nobody"), Failed)
        for on in ("position", "account", "execution", "order.realtime"):
            world.fault(Woe.GARBAGE, on=on)
        assert isinstance(await world.venue.positions(), Failed)
        assert isinstance(await world.venue.balances(), Failed)
        assert isinstance(await world.venue.fills(0), Failed)
        assert isinstance(await world.venue.open_orders(), Failed)


# ------------------------------------------------------------------------------------------------------- clock, limits


async def test_a_venue_whose_clock_is_away_is_talked_to_by_its_clock():
    async with local() as world:
        world.exchange.skew_ns = 20_000_000_000
        await world.venue.server_time_ns()
        assert isinstance(await world.venue.submit(order(), nothing), Acked)
        best = world.venue.caller.known.best
    assert best is not None and abs(best.offset_ns - 20_000_000_000) <= best.error_ns


@pytest.mark.parametrize("socket", WAYS)
async def test_a_clock_that_jumped_costs_one_refusal_that_surely_did_nothing(socket: bool):
    async with local(socket=socket) as world:
        world.exchange.skew_ns = -8_000_000_000  # from one request to the next
        first = await world.venue.submit(order(), nothing)
        second = await world.venue.submit(order(), nothing)
        assert len(world.member.records) == 1
    assert isinstance(first, Rejection) and (first.code, first.kind) == ("10002", "unavailable")
    assert isinstance(second, Acked)


async def test_nothing_is_opened_while_the_clock_is_not_known_but_what_reduces_goes():
    async with local() as world:
        await world.venue.submit(order(), nothing)
        for _ in range(2):
            world.venue.caller.known = replace(world.venue.caller.known, best=None)
            world.fault(Woe.LOSE_REQUEST, on="market.time")
            closing = order("sf1c", side=Side.SELL, reduce_only=True)
            answer = await world.venue.submit(closing if world.exchange.plan.suffered else order("sf1b"), nothing)
            if world.exchange.plan.suffered == 1:
                assert isinstance(answer, Rejection) and answer.code == "clock"
        assert isinstance(answer, Acked)
        assert world.member.matching.positions() == ()


async def test_an_address_ban_closes_the_door_for_as_long_as_the_venue_says():
    async with local() as world:
        world.exchange.faces["bybit"].banned[""] = world.exchange.now_ns() + 60_000_000_000
        answer = await world.venue.submit(order(), nothing)
        now_ns = world.exchange.now_ns()
    assert isinstance(answer, Rejection) and (answer.code, answer.kind) == ("403", "unavailable")
    assert world.throttle.ban.until_ns - now_ns > 590 * 1_000_000_000 > PATIENCE_NS
    assert "HTTP 403" in world.throttle.shut()


async def test_under_an_address_ban_what_reduces_goes_by_the_trade_socket_and_nothing_by_http():
    stop = order("sf1s", side=Side.SELL, order_type=OrderType.STOP_MARKET, trigger_price=D(59000), reduce_only=True)
    async with local(socket=True) as world:
        await world.venue.submit(order(), nothing)
        world.exchange.faces["bybit"].banned[""] = world.exchange.now_ns() + 60_000_000_000
        assert isinstance(await world.venue.balances(), Failed)
        served = world.exchange.served
        with trio.fail_after(30):  # shorter than the ban
            await world.throttle.wait(Lane.REDUCE)
        assert isinstance(await world.venue.submit(stop, nothing), Acked)
        assert isinstance(await world.venue.cancel(Cancel("sf1s", "BTCUSDT")), Acked)
        assert isinstance(await world.venue.positions(), Failed)
        assert world.exchange.served - served == 2, "two frames, and no request"
        assert world.exchange.drop("bybit", "trade") == 1
        await until(lambda: not world.venue.socket.ready)  # type: ignore[union-attr]
        refused = await world.venue.submit(replace(stop, cid="sf1t"), nothing)
    assert isinstance(refused, Rejection) and refused.kind == "unavailable", "said at once, not held back in silence"


@pytest.mark.parametrize("socket", WAYS)
async def test_the_venues_own_count_reaches_our_bucket(socket: bool):
    async with local(socket=socket) as world:
        await world.venue.submit(order(), nothing)
        create = next(b for b in world.throttle.buckets if b.limit.name == "create")
        assert create.limit.count == 10, "100 were configured, the venue allows this account 10"
        assert create._used == 1, "our own request, that the venue counted"


# ------------------------------------------------------------------------------------------------------------- streams


async def test_the_private_stream_begins_when_it_is_entered_and_says_when_it_is_down():
    async with local() as world:
        with pytest.raises(StreamDown):
            async with world.venue.stream() as events:
                assert world.exchange.drop("bybit", "private") == 1
                async for _ in events:
                    pass
        world.fault(Woe.REFUSE, on="private")
        with pytest.raises(StreamDown, match="Server error"):
            async with world.venue.stream():
                raise AssertionError("entered, although the login was refused")


async def test_a_stream_that_says_nothing_to_a_ping_is_down():
    async with local(ping_seconds=0.05, silent_seconds=0.1) as world:
        with pytest.raises(StreamDown, match="no answer to a ping"):
            async with world.venue.stream() as events:
                world.fault(Woe.LOSE_REQUEST, on="private", times=0)
                with trio.fail_after(PATIENCE_SECONDS):
                    async for _ in events:
                        pass


async def test_an_order_goes_by_rest_while_the_order_socket_is_down():
    async with local(socket=True) as world:
        world.fault(Woe.REFUSE, on="auth", times=0)
        assert world.exchange.drop("bybit", "trade") == 1
        await until(lambda: not world.venue.socket.ready)  # type: ignore[union-attr]
        assert isinstance(await world.venue.submit(order(), nothing), Acked)


# ------------------------------------------------------------------------------------------------- batches, cancel-all


@pytest.mark.parametrize("kind", KINDS)
async def test_a_batch_is_answered_order_by_order(kind: InstrumentKind):
    good = order(order_type=OrderType.LIMIT, price=D(50000))
    async with local(kind) as world:
        await world.venue.instruments()
        batch = (good, replace(good, cid="sf1b", qty=D("0.000001")), replace(good, cid="sf1c"))
        answers = await world.venue.submit_batch(batch, nothing)
        cancels = await world.venue.cancel_batch((Cancel(good.cid, "BTCUSDT"), Cancel("sf1nobody", "BTCUSDT")))
        left = await world.venue.open_orders()
        assert [type(a) for a in answers] == [Acked, Rejection, Acked]
        assert [type(a) for a in cancels] == [Acked, Rejection]
        assert isinstance(left, tuple) and [o.cid for o in left] == ["sf1c"]
        assert isinstance(await world.venue.cancel_all("BTCUSDT" if kind is InstrumentKind.SPOT else None), Acked)
        assert await world.venue.open_orders() == ()


# --------------------------------------------------------------------------------------------------------- looking over


@pytest.mark.parametrize("kind", KINDS)
async def test_an_account_is_told_of_in_plain_words(kind: InstrumentKind):
    async with local(kind, socket=True) as world:
        remarks = await world.venue.look_over(False)
        streams = await world.venue.look_at_streams()
    assert isinstance(remarks, tuple)
    assert [r.text for r in (*remarks, *streams) if not r.ok] == []
    said = " | ".join(r.text for r in (*remarks, *streams))
    mode = "spot, without borrowing" if kind is InstrumentKind.SPOT else "BTCUSDT: one-way mode, leverage 10"
    for words in (
        "clock is",
        "the key may trade",
        "unified trading account",
        mode,
        "it delivers",
        "by the WebSocket API",
    ):
        assert words in said


async def test_a_key_that_may_withdraw_or_may_not_trade_is_refused():
    keys = (
        KeyTerms(key="rich", secret="s", withdraw=True),
        KeyTerms(key="poor", secret="s", trade=False),
    )
    terms = ExchangeTerms(keys=keys)
    async with local(terms=terms, key="rich", secret="s") as world:
        refused = await world.venue.look_over(False)
        allowed = await world.venue.look_over(True)
    assert [r.text for r in refused if not r.ok] == [  # type: ignore[union-attr]
        "this key may withdraw funds, which the engine never does: take the right away"
    ]
    assert all(r.ok for r in allowed)  # type: ignore[union-attr]
    async with local(terms=terms, key="poor", secret="s") as world:
        refused = await world.venue.look_over(False)
    assert "may not trade" in " ".join(r.text for r in refused if not r.ok)  # type: ignore[union-attr]


async def test_the_configured_leverage_is_set_when_the_instruments_are_read():
    async with local(leverage=4) as world:
        world.fault(Woe.REFUSE, on="position.set-leverage", code=110013, text="risk limit")
        refused = await world.venue.instruments()
        world.fault(Woe.REFUSE, on="position.set-leverage", code=110043, text="leverage not modified")
        assert isinstance(await world.venue.instruments(), tuple), "unchanged is no failure"
    async with local(leverage=4) as world:
        assert isinstance(await world.venue.instruments(), tuple)
        remarks = await world.venue.look_over(False)
    assert "leverage 4" in " ".join(r.text for r in remarks)  # type: ignore[union-attr]
    assert isinstance(refused, Failed) and "110013" in refused.why


@pytest.mark.parametrize("socket", WAYS)
@pytest.mark.parametrize("code", [10004, 10016])
async def test_our_key_in_the_venues_words_is_starred_out(code: int, socket: bool):
    text = "error sign! origin_string[1700000000000local-key5000{}]" + "x" * 1000
    async with local(socket=socket) as world:
        world.fault(Woe.REFUSE, on="order.create", code=code, text=text)
        answer = await world.venue.submit(order(), nothing)
    said = answer.text if isinstance(answer, Rejection) else answer.why  # type: ignore[union-attr]
    assert "origin_string[1700000000000***5000{}]" in said
    assert "local-key" not in said and len(said) < 320


@pytest.mark.parametrize("on", ["user", "account.info", "position"])
async def test_a_venue_that_is_busy_while_it_is_looked_over_is_asked_again_and_one_that_refuses_is_not(on: str):
    async with local() as world:
        world.fault(Woe.REFUSE, on=on, code=10016)
        busy = await world.venue.look_over(False)
        world.fault(Woe.REFUSE, on=on, code=10010, text="unmatched IP")
        refused = await world.venue.look_over(False)
    assert isinstance(busy, Failed) and "10016" in busy.why
    assert "unmatched IP" in " ".join(r.text for r in refused if not r.ok)  # type: ignore[union-attr]


@pytest.mark.parametrize("socket", [False, True])
async def test_an_rsa_key_trades_asks_and_listens(socket: bool):
    """The exchange knows only the public half: every way in was signed with the private one."""
    private = generate_private_key(65537, 2048)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    terms = ExchangeTerms(keys=(KeyTerms(key="rose", public_key=public),))
    async with local(socket=socket, terms=terms, key="rose", secret=pem) as world, world.venue.stream() as reports:
        answer = await world.venue.submit(order(), nothing)
        assert isinstance(answer, Acked)
        with trio.fail_after(PATIENCE_SECONDS):
            while not isinstance(report := await reports.receive(), FillReport):
                pass
        assert report.cid == order().cid
        assert isinstance(await world.venue.order("BTCUSDT", order().cid), OrderReport)
        if socket:
            assert world.venue.socket is not None and world.venue.socket.ready


async def test_a_key_whose_private_half_is_another_is_refused_by_every_way():
    public = generate_private_key(65537, 2048).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    other = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    terms = ExchangeTerms(keys=(KeyTerms(key="rose", public_key=pem),))
    async with local(terms=terms, key="rose", secret=other) as world:
        answer = await world.venue.submit(order(), nothing)
        assert isinstance(answer, Rejection) and (answer.code, answer.kind) == ("10004", "auth")
        assert isinstance(await world.venue.balances(), Failed)
        with pytest.raises(StreamDown):
            async with world.venue.stream() as reports:
                await reports.receive()
        assert not world.member.records


async def test_read_again_the_instruments_are_the_venues_of_now_and_nothing_else_is_touched():
    """The fees stay where they cannot be had, and a leverage that a person has set meanwhile is his."""
    async with local(leverage=7) as world:
        first = await world.venue.instruments()
        assert not isinstance(first, Failed)
        old = next(i for i in first if i.symbol == "BTCUSDT")
        screen = world.exchange.faces["bybit"].screens.by_inner["linear:BTCUSDT"]  # type: ignore[attr-defined]
        inner = replace(screen.listing.instrument, tick=D("0.5"), lot=D("0.002"))
        screen.listing = replace(screen.listing, instrument=inner)
        world.fault(Woe.REFUSE, on="account.fee-rate", code=10016)
        world.fault(Woe.REFUSE, on="position.set-leverage", code=10001, times=0)
        again = await world.venue.instruments()
        assert not isinstance(again, Failed), "the leverage was set again"
        now = next(i for i in again if i.symbol == "BTCUSDT")
        assert (now.tick, now.lot) == (D("0.5"), D("0.002"))
        assert (now.maker_fee, now.taker_fee) == (old.maker_fee, old.taker_fee)
