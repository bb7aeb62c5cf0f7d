"""What an account lives through on the local exchange by ccxt, and what the exchange says of it after."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from engine.core.messages import (
    Acked,
    Cancel,
    Failed,
    FillReport,
    InstrumentKind,
    Leg,
    NotFound,
    OrderReport,
    OrderType,
    Rejection,
    Silence,
    TimeInForce,
)
from engine.runtime.log import Secret
from engine.venues.base import StreamDown
from engine.venues.ccxt.client import CcxtVenue
from tests.exchange.site import KEY, SECRET, Site, exchange
from tests.patience import PATIENCE_SECONDS
from tests.venues.ccxt.local import BYBIT, FACES, SPOT, USDM, D, Face, account, eventually, nothing, order, seen

pytest.importorskip("ccxt")
every_face = pytest.mark.parametrize("face", FACES, ids=lambda face: face.exchange)


@pytest.fixture
def site() -> Iterator[Site]:
    with exchange() as running:
        yield running


def truth_orders(site: Site, face: Face) -> dict[str, dict[str, Any]]:
    rows = site.truth(face.name)["orders"]
    assert len({row["cid"] for row in rows}) == len(rows), "an id stands twice at the exchange"
    return {row["cid"]: row for row in rows}


async def all_fills(venue: CcxtVenue) -> list[FillReport]:
    fills = await venue.fills(0)
    assert not isinstance(fills, Failed), fills
    return [fill for fill in fills if isinstance(fill, FillReport)]


async def read(venue: CcxtVenue, heard: list[Any]) -> None:
    async with venue.stream() as reports:
        async for report in reports:
            heard.append(report)


@every_face
async def test_an_order_is_placed_seen_and_booked_to_the_last_digit(site: Site, face: Face) -> None:
    entry = order("e", qty=D("0.013"))
    asked: list[str] = []
    async with account(site, face) as venue:
        assert {i.symbol for i in await venue.instruments()} >= {"BTCUSDT", "ETHUSDT"}  # type: ignore[union-attr]
        answer = await venue.submit(entry, lambda: asked.append("door"))
        assert isinstance(answer, Acked) and answer.venue_order_id and asked == ["door"]
        report = await seen(venue, entry)
        assert (report.status, report.filled_qty, report.cid) == ("filled", D("0.013"), entry.cid)
        fills = await eventually(lambda: all_fills(venue), len)
        positions, balances = await venue.positions(), await venue.balances()
    truth = site.truth(face.name)
    executed = [e for e in truth["executions"] if "exec_id" in e]
    assert [(f.cid, f.qty, f.price, f.fee, f.fee_asset) for f in fills] == [
        (entry.cid, D(e["qty"]), D(e["price"]), D(e["fee"]), e["fee_asset"]) for e in executed
    ]
    assert not isinstance(positions, Failed) and not isinstance(balances, Failed)
    held = {p.symbol: p.qty for p in positions}
    totals = {b.asset: b.total for b in balances if b.total}
    assert totals == {b["asset"]: D(b["total"]) for b in truth["balances"]}, "the wallet, without unrealised profit"
    if face is SPOT:
        assert held["BTCUSDT"] == totals["BTC"]
    else:
        assert held == {"BTCUSDT": D("0.013")}


@every_face
async def test_a_lost_answer_is_in_doubt_and_settled_by_the_look_up(site: Site, face: Face) -> None:
    lost, refused, never = order("lost"), order("refused"), order("never")
    async with account(site, face) as venue:
        site.fault("lose_reply", on=face.place)
        assert isinstance(await venue.submit(lost, nothing), Silence)
        site.fault("lose_request", on=face.place)
        assert isinstance(await venue.submit(refused, nothing), Silence)
        assert (await seen(venue, lost)).status == "filled"
        assert await venue.order("BTCUSDT", refused.cid) == NotFound(refused.cid)
        assert await venue.order("BTCUSDT", never.cid) == NotFound(never.cid)
        assert [fill.cid for fill in await eventually(lambda: all_fills(venue), len)] == [lost.cid]
    assert list(truth_orders(site, face)) == [lost.cid], "nothing was sent twice"


@pytest.mark.parametrize("face", (BYBIT, SPOT), ids=lambda face: face.exchange)
async def test_half_an_answer_is_no_answer(site: Site, face: Face) -> None:
    """Truncated JSON with status 200, behind an order that was executed."""
    entry = order("e")
    async with account(site, face) as venue:
        site.fault("garbage", on=face.place)
        assert isinstance(await venue.submit(entry, nothing), Silence)
        assert (await seen(venue, entry)).status == "filled"


@pytest.mark.parametrize("face", (USDM,), ids=lambda face: face.exchange)
async def test_the_last_door_stands_before_the_first_byte(site: Site, face: Face) -> None:
    class Shut(Exception):
        pass

    def shut() -> None:
        raise Shut

    first, second = order("first"), order("second")
    async with account(site, face) as venue:
        with pytest.raises(Shut):
            await venue.submit(first, shut)
        assert isinstance(await venue.submit(second, nothing), Acked)
        assert venue.orders.starts == 1, "a closed door is no reason to make a worker anew"
    assert list(truth_orders(site, face)) == [second.cid]


@every_face
async def test_a_resting_order_is_listed_canceled_and_gone(site: Site, face: Face) -> None:
    resting = order("r", order_type=OrderType.LIMIT, price=D("50000.1"), qty=D("0.02"))
    async with account(site, face) as venue:
        assert isinstance(await venue.submit(resting, nothing), Acked)
        listed = await eventually(venue.open_orders, lambda found: found)
        assert [(o.cid, o.price, o.qty, o.status) for o in listed] == [  # type: ignore[union-attr]
            (resting.cid, D("50000.1"), D("0.02"), "open")
        ]
        assert isinstance(await venue.cancel(Cancel(resting.cid, "BTCUSDT")), Acked)
        ended = await eventually(lambda: seen(venue, resting), lambda report: report.status != "open")
        assert (ended.status, ended.filled_qty, ended.cid) == ("canceled", 0, resting.cid)
        again = await venue.cancel(Cancel(resting.cid, "BTCUSDT"))
        assert isinstance(again, Rejection) and again.kind == "not_found"
        assert await venue.open_orders() == ()


@pytest.mark.parametrize("face", (BYBIT, USDM), ids=lambda face: face.exchange)
async def test_an_order_is_changed_in_place_where_that_is_possible(site: Site, face: Face) -> None:
    resting = order("r", order_type=OrderType.LIMIT, price=D("50000"), qty=D("0.02"))
    async with account(site, face) as venue:
        await venue.submit(resting, nothing)
        assert isinstance(await venue.amend("BTCUSDT", resting.cid, D("0.03"), D("49000.5")), Acked)
        changed = await eventually(lambda: seen(venue, resting), lambda report: report.qty == D("0.03"))
        assert (changed.price, changed.status) == (D("49000.5"), "open")
    assert list(truth_orders(site, face)) == [resting.cid]


async def test_where_a_change_would_be_a_new_order_it_is_refused(site: Site) -> None:
    resting = order("r", order_type=OrderType.LIMIT, price=D("50000"))
    async with account(site, SPOT) as venue:
        await venue.submit(resting, nothing)
        answer = await venue.amend("BTCUSDT", resting.cid, D("0.03"))
        assert isinstance(answer, Rejection) and "cancel, and place anew" in answer.text


@every_face
async def test_a_part_that_is_filled_is_told_with_the_order_still_open_or_canceled(site: Site, face: Face) -> None:
    site.do("book", symbol="BTCUSDT", bids=[["60000", "50"]], asks=[["60000.1", "0.004"], ["61000", "50"]])
    part = order("p", order_type=OrderType.LIMIT, price=D("60000.1"), qty=D("0.01"))
    ioc = order("i", order_type=OrderType.LIMIT, price=D("61000"), qty=D("60"), tif=TimeInForce.IOC)
    async with account(site, face) as venue:
        heard: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, venue, heard)
            assert isinstance(await venue.submit(part, nothing), Acked)
            await eventually(_now(heard), lambda told: {FillReport, OrderReport} <= {type(report) for report in told})
            await venue.cancel(Cancel(part.cid, "BTCUSDT"))
            await eventually(_now(heard), lambda told: [r for r in told if getattr(r, "status", "") == "canceled"])
            nursery.cancel_scope.cancel()
        fills = [report for report in heard if isinstance(report, FillReport)]
        assert [(f.cid, f.qty) for f in fills] == [(part.cid, D("0.004"))], "each execution is delivered once"
        ended = await seen(venue, part)
        assert (ended.status, ended.filled_qty) == ("canceled", D("0.004"))
        if face is not SPOT:  # where it would cost more than there is
            return
        refused = await venue.submit(ioc, nothing)
        assert isinstance(refused, Rejection) and refused.kind == "insufficient"


@pytest.mark.parametrize("face", (BYBIT, USDM), ids=lambda face: face.exchange)
async def test_a_stop_stands_triggers_and_reduces(site: Site, face: Face) -> None:
    entry, stop = order("e"), order("s", Leg.STOP, OrderType.STOP_MARKET, trigger_price=D("59000"))
    target = order("t", Leg.TARGET, OrderType.TAKE_PROFIT_MARKET, trigger_price=D("62000"))
    beyond = order("b", Leg.STOP, OrderType.STOP_MARKET, trigger_price=D("61000"))
    async with account(site, face) as venue:
        for wanted in (entry, stop, target):
            assert isinstance(await venue.submit(wanted, nothing), Acked)
        listed = await eventually(venue.open_orders, lambda found: len(found) == 2)
        assert {(o.cid, o.reduce_only, o.trigger_price) for o in listed} == {  # type: ignore[union-attr]
            (stop.cid, True, D("59000")),
            (target.cid, True, D("62000")),
        }
        refused = await venue.submit(beyond, nothing)
        assert isinstance(refused, Rejection) and refused.kind in ("triggered", "invalid")
        assert isinstance(await venue.cancel(Cancel(target.cid, "BTCUSDT")), Acked)
        site.do("book", symbol="BTCUSDT", bids=[["58900", "50"]], asks=[["58900.1", "50"]])
        site.do("trade", symbol="BTCUSDT", price="58900", qty="1", side="sell")
        fills = await eventually(lambda: all_fills(venue), lambda found: len(found) == 2)
        assert [fill.cid for fill in fills] == [entry.cid, stop.cid]
        assert (await eventually(lambda: seen(venue, stop), lambda r: r.status != "open")).filled_qty == D("0.01")
        assert await eventually(venue.positions, lambda held: held == ()) == ()


async def test_on_spot_a_stop_makes_room_and_nothing_is_sold_twice(site: Site) -> None:
    entry = order("e", qty=D("0.02"))
    stop = order("s", Leg.STOP, OrderType.STOP_MARKET, trigger_price=D("59000"), qty=D("0.01"))
    larger = order("s2", Leg.STOP, OrderType.STOP_MARKET, trigger_price=D("59000"), qty=D("0.02"))
    target = order("t", Leg.TARGET, OrderType.TAKE_PROFIT_MARKET, trigger_price=D("62000"))
    async with account(site, SPOT) as venue:
        for wanted in (entry, stop, larger):
            assert isinstance(await venue.submit(wanted, nothing), Acked)
        assert {cid: row["status"] for cid, row in truth_orders(site, SPOT).items()} == {
            entry.cid: "filled",
            stop.cid: "canceled",
            larger.cid: "open",
        }
        refused = await venue.submit(target, nothing)
        assert isinstance(refused, Rejection) and refused.kind == "invalid"
        short = await venue.submit(order("x", Leg.EXIT, reduce_only=False), nothing)
        assert isinstance(short, Rejection) and "cannot be short" in short.text
        site.fault("lose_reply", on=SPOT.place)
        exit_ = order("x1", Leg.EXIT, qty=D("0.02"))
        assert isinstance(await venue.submit(exit_, nothing), Silence)
        held_back = await venue.submit(order("x2", Leg.EXIT, qty=D("0.02")), nothing)
        assert isinstance(held_back, Rejection) and "is in doubt" in held_back.text
        assert (await seen(venue, exit_)).status == "filled"
        stale = order("x3", Leg.EXIT, qty=D("0.02"), submitted_ns=1)
        answer = await venue.submit(stale, nothing)
        assert isinstance(answer, Rejection) and "decided before" in answer.text
    sold = [row for row in truth_orders(site, SPOT).values() if row["side"] == "sell" and row["status"] == "filled"]
    assert [row["cid"] for row in sold] == [exit_.cid]


async def test_a_stop_that_has_sold_is_not_sold_behind(site: Site) -> None:
    stop = order("s", Leg.STOP, OrderType.STOP_MARKET, trigger_price=D("59000"))
    async with account(site, SPOT) as venue:
        await venue.submit(order("e"), nothing)
        await venue.submit(stop, nothing)
        site.do("book", symbol="BTCUSDT", bids=[["58900", "50"]], asks=[["58900.1", "50"]])
        site.do("trade", symbol="BTCUSDT", price="58900", qty="1", side="sell")
        await eventually(lambda: _status(site, stop.cid), lambda status: status == "filled")
        answer = await venue.submit(order("x", Leg.EXIT), nothing)
        assert isinstance(answer, Rejection) and answer.kind == "not_sent"


async def _status(site: Site, cid: str) -> str:
    return str(truth_orders(site, SPOT)[cid]["status"])


@every_face
async def test_strangers_are_told_apart_after_a_restart(site: Site, face: Face) -> None:
    """A new adapter, which was told of nothing, finds whose orders and executions they are."""
    ours = order("e")
    async with account(site, face) as before:
        await before.submit(ours, nothing)
        theirs = order("hand", order_type=OrderType.LIMIT, price=D("50000"), cid="by-hand-1")
        await before.submit(theirs, nothing)
        since_ns = before._began_ns
    async with account(site, face) as venue:
        opened = await eventually(venue.open_orders, lambda found: found)
        assert [o.cid for o in opened] == ["by-hand-1"]  # type: ignore[union-attr]
        fills = await venue.fills(since_ns)
        assert [(f.cid, f.qty) for f in fills if isinstance(f, FillReport)] == [(ours.cid, D("0.01"))]  # type: ignore[union-attr]
        cancel = Cancel("by-hand-1", "BTCUSDT", opened[0].venue_order_id)  # type: ignore[index]
        assert isinstance(await venue.cancel(cancel), Acked)


@pytest.mark.parametrize("face", (BYBIT, SPOT), ids=lambda face: face.exchange)
async def test_a_worker_that_hangs_is_killed_and_made_anew_and_its_order_is_in_doubt(site: Site, face: Face) -> None:
    entry, later = order("e"), order("later")
    async with account(site, face, request_seconds=3.0) as venue:
        pid = venue.orders.pid
        site.fault("hang", on=face.place, ms=600_000)
        answer = await venue.submit(entry, nothing)
        assert isinstance(answer, Silence), answer
        assert await venue.orders.until_ready(PATIENCE_SECONDS) and venue.orders.pid != pid
        assert (await seen(venue, entry)).status == "filled"
        # The next may come while the new worker still starts: then nothing was sent.
        told = await eventually(lambda: venue.submit(later, nothing), lambda answer: isinstance(answer, Acked))
        assert isinstance(told, Acked)
    assert set(truth_orders(site, face)) == {entry.cid, later.cid}


async def test_a_worker_that_is_killed_in_the_middle_leaves_doubt_and_one_that_was_idle_none(site: Site) -> None:
    entry, later = order("e"), order("later")
    answers: list[Any] = []
    async with account(site, BYBIT) as venue:
        site.fault("hang", on=BYBIT.place, ms=600_000)

        async def place() -> None:
            answers.append(await venue.submit(entry, nothing))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(place)
            await eventually(lambda: _landed(site), bool)
            os.kill(venue.orders.pid, signal.SIGKILL)
        assert isinstance(answers[0], Silence)
        assert await venue.orders.until_ready(PATIENCE_SECONDS)
        assert (await seen(venue, entry)).status == "filled"

        starts = venue.orders.starts
        os.kill(venue.orders.pid, signal.SIGKILL)
        os.kill(venue.questions.pid, signal.SIGKILL)
        await eventually(lambda: venue.orders.until_ready(1), lambda _: venue.orders.starts > starts)
        assert isinstance(await venue.submit(later, nothing), Acked)
        assert (await seen(venue, later)).status == "filled"
    assert set(truth_orders(site, BYBIT)) == {entry.cid, later.cid}


async def _landed(site: Site) -> bool:
    return bool(truth_orders(site, BYBIT))


async def test_an_exchange_that_is_away_is_a_stream_that_is_down_and_comes_back(site: Site) -> None:
    entry = order("e")
    async with account(site, USDM) as venue:
        site.do("ban", ms=600_000, face=USDM.name)
        with pytest.raises(StreamDown):
            async with venue.stream() as reports:
                async for _ in reports:
                    pass
        assert isinstance(await venue.positions(), Failed) and isinstance(await venue.open_orders(), Failed)
        limited = await venue.submit(entry, nothing)
        assert isinstance(limited, Silence | Rejection), limited
        assert venue._site._throttle.ban.until_ns, "the door is kept shut for a while"
        site.do("ban", ms=0, face=USDM.name)
        async with venue.stream():
            pass
        assert await eventually(venue.open_orders, lambda found: found == ()) == ()


@pytest.mark.parametrize("face", (USDM, SPOT), ids=lambda face: face.exchange)
async def test_what_cannot_be_promised_is_said_and_no_key_is(site: Site, face: Face) -> None:
    async with account(site, face) as venue:
        remarks = await venue.look_over(allow_withdrawal=False)
        assert not isinstance(remarks, Failed)
        said = " / ".join(remark.text for remark in (*remarks, *await venue.look_at_streams()))
        assert all(remark.ok for remark in remarks), remarks
        assert "ccxt 4.5.90" in said and "asked for every 0.1 s" in said and "accepts the key" in said
        if face.kind is InstrumentKind.SPOT:
            assert "targets are refused" in said
        assert SECRET not in said + repr(venue.terms) + repr(venue._site.hello()) + " ".join(venue.notes)
        process = trio.Path(f"/proc/{venue.orders.pid}")
        from_outside = await (process / "cmdline").read_bytes() + await (process / "environ").read_bytes()
        assert SECRET.encode() not in from_outside and KEY.encode() not in from_outside


def _now(heard: list[Any]) -> Any:
    async def told() -> list[Any]:
        return list(heard)

    return told


async def test_a_wrong_key_is_refused_in_words(site: Site) -> None:
    wrong = {"key": Secret("nobodys-key"), "secret": Secret("nobodys-secret")}
    async with account(site, USDM, credentials=wrong) as venue:
        remarks = await venue.look_over(allow_withdrawal=False)
        assert not isinstance(remarks, Failed)
        assert [remark.what for remark in remarks if not remark.ok] == ["key"]
        assert "nobodys" not in str(remarks)
