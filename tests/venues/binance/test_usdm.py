"""The USD-M client against a server that says what it is told to."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import trio

from engine.core.messages import (
    Acked,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    Leg,
    NotFound,
    Order,
    OrderReport,
    OrderType,
    Rejection,
    Side,
    Silence,
)
from engine.core.times import SECOND
from engine.venues.admission import Inadmissible
from engine.venues.base import StreamDown
from engine.venues.binance import usdm
from engine.venues.binance.errors import Market
from engine.venues.binance.hosts import hosts
from tests.patience import PATIENCE_SECONDS as PATIENCE
from tests.venues.binance.fake import CUT, Said, usdm_venue
from tests.venues.binance.test_reports import ALGO_ROW, ORDER_ROW, UPDATE, usdm_event

D = Decimal
CID = "sf1" + "a" * 24 + "aa"
OTHER = "sf1" + "b" * 24 + "aa"
ROW = {**ORDER_ROW, "origType": "LIMIT"}


def order(cid: str = CID, leg: Leg = Leg.ENTRY, order_type: OrderType = OrderType.MARKET, **fields: Any) -> Order:
    given: dict[str, Any] = {
        "cid": cid,
        "account": "main",
        "symbol": "BTCUSDT",
        "signal_id": "s",
        "leg": leg,
        "attempt": 0,
        "side": Side.SELL if leg is not Leg.ENTRY else Side.BUY,
        "order_type": order_type,
        "qty": D("0.01"),
        "reduce_only": leg is not Leg.ENTRY,
    }
    return Order(**{**given, **fields})


STOP = order(CID, Leg.STOP, OrderType.STOP_MARKET, trigger_price=D(90))


def placed(number: int) -> tuple[int, dict[str, Any]]:
    return 200, {"symbol": "BTCUSDT", "orderId": number, "updateTime": 1_700_000_000_500, "status": "NEW"}


def refused(code: int, text: str = "", status: int = 400) -> tuple[int, dict[str, Any]]:
    return status, {"code": code, "msg": text}


ABSENT = refused(-2013, "Order does not exist.")


def nothing() -> None:
    pass


async def until(true: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.005)


# ------------------------------------------------------------------------------------------------------------ orders


async def test_plain_and_conditional_orders_go_to_their_own_services() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["POST /fapi/v1/order"] = placed(7)
        fake.rest["POST /fapi/v1/algoOrder"] = (200, {"algoId": 5001, "updateTime": 1_700_000_000_500})
        assert await venue.submit(order(), nothing) == Acked("7", 1_700_000_000_500_000_000)
        assert await venue.submit(STOP, nothing) == Acked("a5001", 1_700_000_000_500_000_000)
        (plain,) = fake.said("POST /fapi/v1/order")
        (algo,) = fake.said("POST /fapi/v1/algoOrder")
        assert "reduceOnly" not in plain and plain["newOrderRespType"] == "ACK"
        assert (algo["triggerPrice"], algo["reduceOnly"], algo["clientAlgoId"]) == ("90", "true", CID)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(-4116, "clientOrderId is duplicated."), "duplicate"),
        (refused(-2021, "Order would immediately trigger."), "triggered"),
        (refused(-2019, "Margin is insufficient."), "insufficient"),
        (refused(-5028, "too late"), "unavailable"),
        (refused(-1008, "Request throttled by system-level protection.", 503), "unavailable"),
        ((503, {"code": 0, "msg": "Service Unavailable."}), "unavailable"),
        (
            (503, {"code": -1001, "msg": "Internal error; unable to process your request. Please try again."}),
            "unavailable",
        ),
        ((503, {"msg": "Unknown error, please check your request or try again later."}), None),
        ((503, b"<html>"), None),
        (refused(-1006, "Unexpected response"), None),
        (refused(-1007, "Timeout", 408), None),
    ],
)
async def test_what_an_answer_means_for_a_conditional_order(answer: Any, kind: str | None) -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["POST /fapi/v1/algoOrder"] = answer
        outcome = await venue.submit(STOP, nothing)
        if kind is None:
            assert isinstance(outcome, Silence)
        else:
            assert isinstance(outcome, Rejection) and outcome.kind == kind


async def test_conditional_orders_too_go_over_the_socket() -> None:
    async with usdm_venue(order_socket=True) as (fake, venue), trio.open_nursery() as nursery:
        fake.calls["algoOrder.place"] = (200, {"algoId": 1})
        fake.calls["order.place"] = placed(2)
        fake.calls["order.cancel"] = placed(2)
        nursery.start_soon(venue.run)
        await until(lambda: venue.socket is not None and venue.socket.ready)
        assert await venue.submit(STOP, nothing) == Acked("a1")
        assert isinstance(await venue.submit(order(OTHER), nothing), Acked)
        assert isinstance(await venue.cancel(Cancel(OTHER, "BTCUSDT", "2")), Acked)
        assert fake.said("POST /fapi/v1/order") == [] and fake.said("POST /fapi/v1/algoOrder") == []
        nursery.cancel_scope.cancel()


async def test_each_order_of_a_batch_has_its_own_answer() -> None:
    async with usdm_venue() as (fake, venue):
        orders = [order(f"sf1{n:026d}") for n in range(4)]
        fake.rest["POST /fapi/v1/batchOrders"] = (
            200,
            [placed(1)[1], {"code": -2019, "msg": "Margin is insufficient."}, {"code": -1007, "msg": "Timeout"}],
        )
        answers = await venue.submit_batch(orders, nothing)
        assert isinstance(answers[0], Acked) and answers[0].venue_order_id == "1"
        assert isinstance(answers[1], Rejection) and answers[1].kind == "insufficient"
        assert isinstance(answers[2], Silence)
        assert isinstance(answers[3], Silence), "the venue left it out"


async def test_a_batch_in_doubt_leaves_each_of_its_orders_in_doubt() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["POST /fapi/v1/batchOrders"] = CUT
        answers = await venue.submit_batch([order(), order(OTHER)], nothing)
        assert [type(a) for a in answers] == [Silence, Silence]
        fake.rest["DELETE /fapi/v1/batchOrders"] = (200, [placed(1)[1], {"code": -2011, "msg": "Unknown order sent."}])
        gone, absent = await venue.cancel_batch("BTCUSDT", (CID, OTHER))
        assert isinstance(gone, Acked) and isinstance(absent, Rejection) and absent.kind == "not_found"


async def test_amending_says_both_figures_and_no_change_is_done() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["PUT /fapi/v1/order"] = [placed(7), refused(-5027, "No need to modify the order."), refused(-5026)]
        for expected in (Acked, Acked, Rejection):
            assert isinstance(await venue.amend("BTCUSDT", CID, Side.BUY, D("0.02"), D(100)), expected)
        assert fake.said("PUT /fapi/v1/order")[0]["quantity"] == "0.02"


# ---------------------------------------------------------------------------------------------------------- cancels


async def test_a_conditional_order_is_cancelled_in_its_own_service() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["DELETE /fapi/v1/algoOrder"] = (200, {"algoId": 5001, "code": "200", "msg": "success"})
        assert isinstance(await venue.cancel(Cancel(CID, "BTCUSDT", "a5001")), Acked)
        assert fake.said("DELETE /fapi/v1/algoOrder")[0]["algoId"] == "5001"
        assert fake.said("DELETE /fapi/v1/order") == []


async def test_one_that_was_triggered_meanwhile_is_an_order_by_now() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["DELETE /fapi/v1/algoOrder"] = ABSENT
        fake.rest["DELETE /fapi/v1/order"] = placed(9)
        assert isinstance(await venue.cancel(Cancel(CID, "BTCUSDT", "a5001")), Acked)
        assert fake.said("DELETE /fapi/v1/order")[0]["origClientOrderId"] == CID


async def test_one_of_which_nothing_is_known_is_looked_for_in_both() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["DELETE /fapi/v1/order"] = refused(-2011, "Unknown order sent.")
        fake.rest["DELETE /fapi/v1/algoOrder"] = ABSENT
        answer = await venue.cancel(Cancel(CID, "BTCUSDT"))
        assert isinstance(answer, Rejection) and answer.kind == "not_found"
        assert len(fake.said("DELETE /fapi/v1/algoOrder")) == 1


async def test_a_stop_that_fires_while_it_is_cancelled_is_in_doubt() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["DELETE /fapi/v1/algoOrder"] = refused(-4117, "stop order is triggering")
        assert isinstance(await venue.cancel(Cancel(CID, "BTCUSDT", "a5001")), Silence)


async def test_cancelling_all_means_conditional_orders_too() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["DELETE /fapi/v1/algoOpenOrders"] = (200, {"code": "200", "msg": "done"})
        fake.rest["DELETE /fapi/v1/allOpenOrders"] = (200, {"code": 200, "msg": "done"})
        assert isinstance(await venue.cancel_all("BTCUSDT"), Acked)


# ---------------------------------------------------------------------------------------------------------- queries


async def test_open_orders_are_both_kinds() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v1/openOrders"] = (200, [ROW])
        fake.rest["GET /fapi/v1/openAlgoOrders"] = (200, [{**ALGO_ROW, "clientAlgoId": OTHER}])
        found = await venue.open_orders()
        assert not isinstance(found, Failed)
        assert {(o.cid, o.venue_order_id) for o in found} == {(CID, "90001"), (OTHER, "a5001")}
        fake.rest["GET /fapi/v1/openAlgoOrders"] = (500, b"")
        assert isinstance(await venue.open_orders(), Failed), "half of the answer is none"


async def test_a_triggered_order_that_is_in_both_lists_counts_once() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v1/openOrders"] = (200, [{**ROW, "origType": "STOP_MARKET"}])
        fake.rest["GET /fapi/v1/openAlgoOrders"] = (200, [ALGO_ROW])
        found = await venue.open_orders()
        assert not isinstance(found, Failed) and [o.venue_order_id for o in found] == ["90001"]


async def test_an_order_is_looked_for_among_both_kinds_before_it_is_absent() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v1/order"] = ABSENT
        fake.rest["GET /fapi/v1/algoOrder"] = ABSENT
        assert await venue.order("BTCUSDT", CID) == NotFound(CID)
        fake.rest["GET /fapi/v1/algoOrder"] = (200, ALGO_ROW)
        found = await venue.order("BTCUSDT", CID)
        assert isinstance(found, OrderReport) and found.venue_order_id == "a5001"
        fake.rest["GET /fapi/v1/algoOrder"] = (502, b"")
        assert isinstance(await venue.order("BTCUSDT", CID), Failed)


async def test_a_triggered_order_is_told_of_by_what_it_became() -> None:
    async with usdm_venue() as (fake, venue):
        child = {**ROW, "orderId": 90002, "status": "FILLED", "origType": "STOP_MARKET", "type": "MARKET"}

        def row(said: Said) -> tuple[int, Any]:
            return (200, child) if said.get("orderId") == "90002" else ABSENT

        fake.rest["GET /fapi/v1/order"] = row
        fake.rest["GET /fapi/v1/algoOrder"] = (200, {**ALGO_ROW, "algoStatus": "FINISHED", "actualOrderId": "90002"})
        found = await venue.order("BTCUSDT", CID)
        assert isinstance(found, OrderReport) and (found.venue_order_id, found.status) == ("90002", "filled")
        fake.rest["GET /fapi/v1/order"] = ABSENT
        assert isinstance(await venue.order("BTCUSDT", CID), Failed), "finished as what, nobody says"


def trade(number: int, order_id: int, at_ms: int) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "id": number,
        "orderId": order_id,
        "side": "BUY",
        "price": "100",
        "qty": "0.01",
        "commission": "0.0001",
        "commissionAsset": "USDT",
        "time": at_ms,
        "maker": False,
    }


def funding(number: int, at_ms: int) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "incomeType": "FUNDING_FEE",
        "income": "-0.1",
        "asset": "USDT",
        "time": at_ms,
        "tranId": number,
    }


async def test_transfers_are_asked_for_once_a_minute_and_at_once_when_the_stream_tells_of_one() -> None:
    async with usdm_venue() as (fake, venue):
        row = {**funding(7, fake.now_ms() - 2000), "incomeType": "TRANSFER", "symbol": "", "income": "-100"}
        fake.rest["GET /fapi/v1/income"] = (200, [row])
        (told,) = await venue.transfers(venue.api.now_ns() - SECOND)
        assert (told.transfer_id, told.asset, told.amount, told.kind) == ("7", "USDT", D(-100), "TRANSFER")
        assert await venue.transfers(venue.api.now_ns()) == ()
        event = {"e": "ACCOUNT_UPDATE", "T": 1, "a": {"m": "WITHDRAW", "B": [], "P": []}}
        venue._listening.hear(json.dumps(event).encode(), lambda report: None)
        fake.rest["GET /fapi/v1/income"] = (400, {"code": -1000, "msg": "later"})
        assert isinstance(await venue.transfers(venue.api.now_ns()), Failed)
        fake.rest["GET /fapi/v1/income"] = (200, [row])
        assert await venue.transfers(venue.api.now_ns()) == (told,), "a question that failed is asked again at once"
        assert await venue.transfers(venue.api.now_ns()) == ()
        assert {asked["incomeType"] for asked in fake.said("GET /fapi/v1/income")} == {"TRANSFER"}


async def test_executions_and_funding_come_together_and_in_order() -> None:
    async with usdm_venue() as (fake, venue):
        now = fake.now_ms()
        fake.rest["GET /fapi/v1/userTrades"] = (200, [trade(1, 7, now - 3000), trade(2, 7, now - 1000)])
        fake.rest["GET /fapi/v1/income"] = (200, [funding(1, now - 2000)])
        fake.rest["GET /fapi/v1/order"] = (200, {**ROW, "orderId": 7})
        found = await venue.fills((now - 5000) * 1_000_000)
        assert not isinstance(found, Failed)
        assert [type(r) for r in found] == [FillReport, FundingReport, FillReport]
        venue._funding_asked_ns = 0
        fake.rest["GET /fapi/v1/income"] = (200, b"[{")
        assert isinstance(await venue.fills((now - 5000) * 1_000_000), Failed)


async def test_incomes_are_asked_for_once_a_minute_and_then_for_all_of_it() -> None:
    """While the stream is down a round every two seconds would use up the minute's weight on them."""
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v1/userTrades"] = (200, [])
        fake.rest["GET /fapi/v1/income"] = (200, [funding(1, fake.now_ms() - 2000)])
        since_ns = (fake.now_ms() - 60_000) * 1_000_000
        first, second = await venue.fills(since_ns), await venue.fills(since_ns)
        assert isinstance(first, tuple) and isinstance(second, tuple)
        assert [type(r) for r in first] == [FundingReport] and not second
        venue._funding_asked_ns -= usdm.FUNDING_NS
        third = await venue.fills(since_ns)
        assert third == first
        asked = fake.said("GET /fapi/v1/income")
        assert len(asked) == 2
        assert {int(a["startTime"]) for a in asked} == {(since_ns - usdm.FUNDING_MORE_NS) // 1_000_000}


async def test_an_execution_whose_order_is_not_shown_yet_may_be_ours() -> None:
    """A venue shows executions before their orders at times; one that is old and has no order is nobody's."""
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v1/income"] = (200, [])
        fake.rest["GET /fapi/v1/order"] = refused(-2013, "Order does not exist.")
        now = fake.now_ms()
        fake.rest["GET /fapi/v1/userTrades"] = (200, [trade(1, 7, now - 3000)])
        found = await venue.fills((now - 60_000) * 1_000_000)
        assert isinstance(found, Failed) and "may be ours" in found.why
        assert not found.soon, "asked again at once, it is not shown either"
        fake.rest["GET /fapi/v1/userTrades"] = (200, [trade(1, 7, now - 40_000)])
        (fill,) = await venue.fills((now - 60_000) * 1_000_000)
        assert fill.cid == ""


async def test_a_long_absence_is_asked_for_week_by_week_and_ends() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v1/userTrades"] = (200, [])
        now = fake.now_ms()
        fake.rest["GET /fapi/v1/income"] = (200, [funding(n, now) for n in range(1000)])
        found = await venue.fills((now - 20 * 86_400_000) * 1_000_000)
        assert not isinstance(found, Failed) and len(found) == 1000
        windows = fake.said("GET /fapi/v1/userTrades")
        assert len(windows) == 3
        assert all(int(w["endTime"]) - int(w["startTime"]) < 7 * 86_400_000 for w in windows)
        assert len(fake.said("GET /fapi/v1/income")) < 6


async def test_a_position_of_hedge_mode_is_a_failure_not_a_position() -> None:
    async with usdm_venue() as (fake, venue):
        row = {"symbol": "BTCUSDT", "positionAmt": "0.5", "entryPrice": "100", "positionSide": "BOTH"}
        fake.rest["GET /fapi/v3/positionRisk"] = (200, [row])
        found = await venue.positions()
        assert not isinstance(found, Failed) and found[0].qty == D("0.5") and not found[0].wallet
        fake.rest["GET /fapi/v3/positionRisk"] = (200, [{**row, "positionSide": "LONG"}])
        failed = await venue.positions()
        assert isinstance(failed, Failed) and "hedge" in failed.why


# ------------------------------------------------------------------------------------------------------------ stream


async def collect(venue: usdm.UsdmVenue, heard: list[Any]) -> None:
    async with venue.stream() as reports:
        async for report in reports:
            heard.append(report)


async def test_the_private_stream_has_the_key_in_its_query_and_names_its_events() -> None:
    async with usdm_venue() as (fake, venue), trio.open_nursery() as nursery:
        heard: list[Any] = []
        nursery.start_soon(collect, venue, heard)
        await until(lambda: fake.sockets)
        assert fake.private_paths[0].startswith("/private/ws?listenKey=k1&events=ORDER_TRADE_UPDATE/")
        await fake.push(usdm_event())
        await until(lambda: len(heard) == 2)
        assert isinstance(heard[0], FillReport) and heard[0].exec_id == "777-90001"
        assert UPDATE["c"] == heard[1].cid
        nursery.cancel_scope.cancel()


async def test_an_expired_listen_key_ends_the_stream_and_the_next_one_gets_another() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["POST /fapi/v1/listenKey"] = [(200, {"listenKey": "k1"}), (200, {"listenKey": "k2"})]
        for key in ("k1", "k2"):
            async with trio.open_nursery() as nursery:

                async def expire(key: str = key) -> None:
                    await until(lambda: any(key in path for path in fake.private_paths))
                    await fake.push({"e": "listenKeyExpired", "E": 1, "listenKey": key})

                nursery.start_soon(expire)
                with pytest.raises(StreamDown, match="listen key"), trio.fail_after(PATIENCE):
                    await collect(venue, [])
        assert "k2" in fake.private_paths[-1]


async def test_a_key_that_is_dead_when_it_is_kept_alive_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usdm, "KEY_SECONDS", 0.01)
    async with usdm_venue() as (fake, venue):
        fake.rest["PUT /fapi/v1/listenKey"] = [(200, {}), refused(-1125, "This listenKey does not exist.")]
        with pytest.raises(StreamDown, match="-1125"), trio.fail_after(PATIENCE):
            await collect(venue, [])
        assert len(fake.said("PUT /fapi/v1/listenKey")) == 2


async def test_a_stream_that_is_silent_for_ever_is_proven_dead_and_tried_in_another_form() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v1/income"] = (200, [])
        fake.rest["GET /fapi/v1/order"] = (200, {**ROW, "orderId": 7})
        for _ in range(3):
            before = len(fake.private_paths)
            async with trio.open_nursery() as nursery:

                async def prove(before: int = before) -> None:
                    await until(lambda: len(fake.private_paths) > before and venue._listening.witness._up_ns)
                    venue._listening.witness.up(fake.clock.now_ns() - 60 * 10**9)
                    fake.rest["GET /fapi/v1/userTrades"] = (200, [trade(before + 1, 7, fake.now_ms() - 20_000)])
                    await venue.fills((fake.now_ms() - 60_000) * 1_000_000)

                nursery.start_soon(prove)
                with pytest.raises(StreamDown, match="never told of execution"), trio.fail_after(PATIENCE):
                    await collect(venue, [])
        assert [path.partition("&")[0] for path in fake.private_paths] == [
            "/private/ws?listenKey=k1",
            "/private/ws?listenKey=k1",
            "/private/ws/k1",
        ]
        assert "&events=" in fake.private_paths[0] and "&events=" not in fake.private_paths[1]


@pytest.mark.parametrize("answer", [(200, b"<html>"), (401, {"code": -2015, "msg": "no"}), CUT, (200, {"key": 1})])
async def test_without_a_listen_key_there_is_no_stream(answer: Any) -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["POST /fapi/v1/listenKey"] = answer
        with pytest.raises(StreamDown, match="listen key"), trio.fail_after(PATIENCE):
            await collect(venue, [])


# ------------------------------------------------------------------------------------------------------------- start


async def test_hedge_mode_is_refused_and_one_way_mode_taken() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v1/symbolConfig"] = (200, [{"symbol": "BTCUSDT", "marginType": "CROSSED", "leverage": 5}])
        fake.rest["GET /fapi/v1/positionSide/dual"] = (200, {"dualSidePosition": True})
        remarks = await venue.look_over(False)
        assert not isinstance(remarks, Failed)
        assert [r.what for r in remarks if not r.ok] == ["mode"] and "one-way" in remarks[-1].text
        fake.rest["GET /fapi/v1/positionSide/dual"] = (200, {"dualSidePosition": False})
        remarks = await venue.look_over(False)
        assert not isinstance(remarks, Failed) and all(r.ok for r in remarks)
        assert "leverage 5" in remarks[-1].text
        fake.rest["GET /fapi/v1/positionSide/dual"] = (200, {})
        assert isinstance(await venue.look_over(False), Failed)


async def test_leverage_and_margin_are_set_where_asked_and_already_so_is_fine() -> None:
    async with usdm_venue(leverage=3, margin="ISOLATED") as (fake, venue):
        fake.rest["POST /fapi/v1/marginType"] = refused(-4046, "No need to change margin type.")
        fake.rest["POST /fapi/v1/leverage"] = (200, {"leverage": 3, "symbol": "BTCUSDT"})
        assert not isinstance(await venue.instruments(), Failed)
        assert fake.said("POST /fapi/v1/leverage")[0]["leverage"] == "3"
        venue._ready.clear()  # as at another start
        fake.rest["POST /fapi/v1/marginType"] = refused(-4048, "Position exists.")
        failed = await venue.instruments()
        assert isinstance(failed, Failed) and "-4048" in failed.why, (
            "nothing is traded in another mode than was asked for"
        )


async def test_the_dead_mans_switch_is_off_unless_asked_for() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["POST /fapi/v1/countdownCancelAll"] = (200, {"symbol": "BTCUSDT", "countdownTime": "120000"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(venue.run)
            await until(lambda: fake.said("GET /fapi/v1/time"))
            nursery.cancel_scope.cancel()
        assert fake.said("POST /fapi/v1/countdownCancelAll") == []
    async with usdm_venue(countdown_seconds=120) as (fake, venue), trio.open_nursery() as nursery:
        fake.rest["POST /fapi/v1/countdownCancelAll"] = (200, {"symbol": "BTCUSDT", "countdownTime": "120000"})
        nursery.start_soon(venue.run)
        await until(lambda: fake.said("POST /fapi/v1/countdownCancelAll"))
        assert fake.said("POST /fapi/v1/countdownCancelAll")[0]["countdownTime"] == "120000"
        nursery.cancel_scope.cancel()


async def test_a_clock_that_jumps_is_measured_anew() -> None:
    async with usdm_venue() as (fake, venue):
        fake.rest["GET /fapi/v3/positionRisk"] = (200, [])
        assert await venue.positions() == ()
        fake.ahead_ms = -60_000
        assert isinstance(await venue.server_time_ns(), int)
        assert venue.api.known.jumps == 1
        assert await venue.positions() == ()
        stamp = int(fake.said("GET /fapi/v3/positionRisk")[1]["timestamp"])
        assert abs(stamp - fake.now_ms()) < 30_000


# ------------------------------------------------------------------------------------------------------------- hosts


@pytest.mark.parametrize("market", list(Market))
def test_each_world_has_its_own_hosts(market: Market) -> None:
    real = hosts(market, "mainnet")
    assert real.environment == "live" and real.restrictions
    for word in ("testnet", "demo"):
        other = hosts(market, word)
        assert other.environment == word
        assert not {real.rest, real.orders, real.stream} & {other.rest, other.orders, other.stream}
        assert all(url.startswith(("https://", "wss://")) for url in (other.rest, other.orders, other.stream))
    assert hosts(market, real.rest) == real, "its URL is as good as its word"


def test_a_local_exchange_is_named_by_its_url() -> None:
    own = hosts(Market.USDM, "http://127.0.0.1:9/")
    assert (own.environment, own.rest, own.stream) == ("local", "http://127.0.0.1:9", "ws://127.0.0.1:9")
    assert own.orders == "ws://127.0.0.1:9/ws-fapi/v1" and all("{key}" in form for form in own.private)


@pytest.mark.parametrize(
    "host",
    [
        "main",
        "http://api.binance.com",
        "https://api.binance.com.evil.example",
        "https://10.0.0.1",
        "",
        "http://127.0.0.1:1/x",
    ],
)
def test_an_order_goes_to_no_other_host(host: str) -> None:
    with pytest.raises(Inadmissible):
        hosts(Market.USDM, host)
