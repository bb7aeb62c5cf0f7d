"""Binance Spot in front of the simulated venue: locked coins, cancel-replace, cancels that take an order's id, and the
user data on the WebSocket API."""

from typing import Any

from engine.core.messages import (
    ZERO,
    Acked,
    Answer,
    FillReport,
    Order,
    OrderReport,
    Rejection,
    Side,
    TimeInForce,
    VenueReport,
)
from engine.core.times import MILLISECOND
from tests.sim.faces.binance import (
    SIDE_WORDS,
    SIDES,
    SPOT_TYPES,
    TIFS,
    BinanceFace,
    Deed,
    Route,
    Row,
    Wrong,
    filters,
    trade_number,
)
from tests.sim.faces.words import plain, wanted
from tests.sim.venue import Life, Manners, Resting, SimVenue

MANNERS = Manners(number_prefix="", names_by_order=True, forgets_filled=False, looks_twice=True, sales_lock=True)
TYPE_WORDS = {kind: word for word, kind in SPOT_TYPES.items() if word != "LIMIT_MAKER"}
INSUFFICIENT = (-2010, "Account has insufficient balance for requested action.")
CODES = {
    "-1021": (-1021, "Timestamp for this request is outside of the recvWindow."),
    "-5028": (-1021, "Timestamp for this request is outside of the ME recvWindow."),
    "10006": (-1015, "Too many new orders; current limit is 100 orders per 10 SECOND."),
    "10001": (-1121, "Invalid symbol."),
    "110072": (-2010, "Duplicate order sent."),
    "-1013": (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    "-2022": INSUFFICIENT,
    "110007": INSUFFICIENT,
    "-2010": INSUFFICIENT,
    "-2021": (-2010, "Order would trigger immediately."),
    "-5022": (-2010, "Order would immediately match and take."),
    "110001": (-2011, "Unknown order sent."),
}


class SpotFace(BinanceFace):
    codes = CODES
    api_path = "/ws-api/v3"

    def __init__(self, venue: SimVenue, seed: str) -> None:
        super().__init__(venue, seed)
        self._renamed: dict[str, str] = {}  # order number -> the id of its cancel
        place, cancel, replace = Route(act=self._place), Route(act=self._cancel), Route(act=self._replace)
        self.routes = {
            ("GET", "/api/v3/time"): Route(lambda _: {"serverTime": self.now_ms}, signed=False),
            ("GET", "/api/v3/exchangeInfo"): Route(self._info, weight=20, signed=False),
            ("GET", "/sapi/v1/account/apiRestrictions"): Route(_restrictions),
            ("GET", "/api/v3/account"): Route(self._account, weight=20),
            ("GET", "/api/v3/order"): Route(self._order, weight=4),
            ("GET", "/api/v3/openOrders"): Route(self._open, weight=6),
            ("GET", "/api/v3/myTrades"): Route(self._trades, weight=20),
            ("POST", "/api/v3/order"): place,
            ("DELETE", "/api/v3/order"): cancel,
            ("POST", "/api/v3/order/cancelReplace"): replace,
        }
        self.calls = {"order.place": place, "order.cancel": cancel, "order.cancelReplace": replace}

    # --------------------------------------------------------------------------------------------------------- changes

    def _read(self, params: Row) -> Order:
        kind, side = params["type"], SIDES[params["side"]]
        assert params["newOrderRespType"] == "ACK" and "reduceOnly" not in params
        maker = kind == "LIMIT_MAKER"
        return wanted(
            params["newClientOrderId"],
            params["symbol"],
            side,
            SPOT_TYPES[kind],
            params["quantity"],
            params.get("price", ""),
            params.get("stopPrice", ""),
            TimeInForce.POST_ONLY if maker else TIFS[params.get("timeInForce", "GTC")],
            side is Side.SELL,  # not a rule of the venue: nobody can sell what he has not got
        )

    def _place(self, life: Life, params: Row) -> Deed:
        return self.placed(self._read(params), life, params, lambda done: self._ack(done, params))

    def _ack(self, done: Acked, params: Row) -> Row:
        named = {"symbol": params["symbol"], "orderId": int(done.venue_order_id), "orderListId": -1}
        return named | {"clientOrderId": params["newClientOrderId"], "transactTime": self.now_ms}

    def _cancel(self, life: Life, params: Row) -> Deed:
        """The cancel's id takes the order's place."""
        number, cid = self.number_of(params, "orderId"), params.get("origClientOrderId", "")
        cid = self.venue.orders[number].cid if number in self.venue.orders else cid

        async def work() -> Answer:
            answer = await self.venue.canceled(life, cid, number)
            if isinstance(answer, Acked):
                self._renamed[answer.venue_order_id] = params.get("newClientOrderId", "by-hand")
            return answer

        def done(acked: Acked) -> Row:
            named = {"symbol": params["symbol"], "orderId": int(acked.venue_order_id), "status": "CANCELED"}
            return named | {"origClientOrderId": cid, "transactTime": self.now_ms}

        return Deed("cancel", cid, work, done)

    def _replace(self, life: Life, params: Row) -> Deed:
        """STOP_ON_FAILURE: the new order only if the old one was there to be canceled."""
        assert params["cancelReplaceMode"] == "STOP_ON_FAILURE"
        order, standing = self._read(params), params["cancelOrigClientOrderId"]

        async def work() -> Answer:
            venue = self.venue
            refused = venue.arrive(order, self._stamp_ns(params), int(params["recvWindow"]) * MILLISECOND)
            if refused is not None:
                return refused
            await venue.queue()
            gone = venue.cancel(standing)
            if not isinstance(gone, Acked):
                venue.truth.reach("a cancel-replace that found nothing to replace")
                return venue.decline(order, "half/cancel", "not_found", "")
            self._renamed[gone.venue_order_id] = params["cancelNewClientOrderId"]
            answer = venue.book(order)
            life.boundary("venue.taken")
            if isinstance(answer, Rejection):
                venue.truth.reach("a cancel-replace that only canceled")
                return Rejection(f"half/new/{answer.code}", "", "")
            return answer

        def done(acked: Acked) -> Row:
            halves = {"cancelResult": "SUCCESS", "newOrderResult": "SUCCESS"}
            return halves | {"newOrderResponse": self._ack(acked, params)}

        return Deed("submit", order.cid, work, done)

    def refusal(self, answer: Rejection) -> Wrong:
        """Of a cancel-replace with its halves, by status 400 (nothing done) or 409 (the cancel was)."""
        if not answer.code.startswith("half/"):
            return super().refusal(answer)
        if answer.code == "half/cancel":
            halves = {
                "cancelResult": "FAILURE",
                "newOrderResult": "NOT_ATTEMPTED",
                "cancelResponse": {"code": -2011, "msg": "Unknown order sent."},
                "newOrderResponse": None,
            }
            return Wrong(400, -2022, "Order cancel-replace failed.", halves)
        code, text = CODES.get(answer.code.removeprefix("half/new/"), INSUFFICIENT)
        halves = {"cancelResult": "SUCCESS", "newOrderResult": "FAILURE", "cancelResponse": {}}
        halves |= {"newOrderResponse": {"code": code, "msg": text}}
        return Wrong(409, -2021, "Order cancel-replace partially failed.", halves)

    # --------------------------------------------------------------------------------------------------------- queries

    def _info(self, params: Row) -> Row:
        rows = []
        for market in self.venue.markets.values():
            i = market.instrument
            rows.append(
                {
                    "symbol": i.symbol,
                    "status": "TRADING",
                    "baseAsset": i.base,
                    "quoteAsset": i.quote,
                    "orderTypes": list(SPOT_TYPES),
                    "isSpotTradingAllowed": True,
                    "cancelReplaceAllowed": True,
                    "filters": filters(i, spot=True),
                }
            )
        return {"timezone": "UTC", "serverTime": self.now_ms, "rateLimits": [], "symbols": rows}

    def _account(self, params: Row) -> Row:
        rows = []
        for asset, total in sorted(self.venue.balances.items()):
            locked = sum((self._locked(o) for o in self.venue.orders.values() if o.symbol == f"{asset}USDT"), ZERO)
            locked = min(locked, total) if total > 0 else ZERO
            rows.append({"asset": asset, "free": plain(total - locked), "locked": plain(locked)})
        return {"balances": rows, "canTrade": True, "canWithdraw": True, "accountType": "SPOT"}

    def _locked(self, order: Resting) -> Any:
        selling = order.status == "open" and order.side is Side.SELL
        return order.qty - order.filled if selling else ZERO

    def _order(self, params: Row) -> Row:
        """By number; or by the id that it has now."""
        number, cid = self.number_of(params, "orderId"), params.get("origClientOrderId", "")
        found = self.venue.named(params["symbol"], cid, number)
        if found is not None and not number and self._name(found) != cid:
            found = None
        if found is None and not number:
            taken = next((n for n, name in self._renamed.items() if name == cid), "")
            found = self.venue.named(params["symbol"], "", taken) if taken else None
        if found is None:
            raise Wrong(400, -2013, "Order does not exist.")
        return self._row(found)

    def _name(self, order: Resting) -> str:
        return self._renamed.get(order.venue_order_id, order.cid)

    def _open(self, params: Row) -> list[Row]:
        venue = self.venue
        shown = [o for o in self.visible() if o.symbol == params["symbol"]]
        return [self._row(o) for o in shown if not venue.fault(venue.faults.list_holes)]

    def _row(self, order: Resting) -> Row:
        report = self.venue.report(order)
        return {
            "symbol": order.symbol,
            "orderId": int(order.venue_order_id),
            "orderListId": -1,
            "clientOrderId": self._name(order),
            "price": plain(report.price),
            "origQty": plain(report.qty),
            "executedQty": plain(report.filled_qty),
            "status": self.status(report),
            "timeInForce": "GTC",
            "type": TYPE_WORDS[report.order_type],
            "side": SIDE_WORDS[report.side],
            "stopPrice": plain(report.trigger_price),
            "time": self._at(order.taken_ns),
            "updateTime": report.venue_ns // MILLISECOND,
        }

    def _at(self, wall_ns: int) -> int:
        return (wall_ns + self.venue.now_ns - self.venue.wall_ns()) // MILLISECOND

    def _trades(self, params: Row) -> list[Row]:
        return [
            {
                "symbol": report.symbol,
                "id": trade_number(report),
                "orderId": int(report.venue_order_id),
                "price": plain(report.price),
                "qty": plain(report.qty),
                "commission": plain(report.fee),
                "commissionAsset": report.fee_asset,
                "time": report.venue_ns // MILLISECOND,
                "isBuyer": report.side is Side.BUY,
                "isMaker": report.maker,
            }
            for report in self.trades(params)
        ]

    # ---------------------------------------------------------------------------------------------------------- events

    def events(self, report: VenueReport, about: OrderReport | None) -> list[Row]:
        """An execution comes with its order's state; what only repeats that is not told."""
        match report:
            case FillReport():
                assert about is not None
                told = {"x": "TRADE", "X": self.status(about), "l": plain(report.qty), "L": plain(report.price)}
                told |= {"n": plain(report.fee), "N": report.fee_asset, "t": trade_number(report), "m": report.maker}
                return [self._execution(about) | told]
            case OrderReport(status="filled"):
                return []
            case OrderReport(status="open", filled_qty=filled) if filled:
                return []
            case OrderReport():
                word = self.status(report)
                event = self._execution(report) | {"x": word if word in ("CANCELED", "EXPIRED") else "NEW", "X": word}
                if report.status == "rejected":
                    event["x"] = "REJECTED"
                if report.status == "canceled" and word == "CANCELED":
                    # The order's own id moves to `C`; `c` is the cancel's.
                    cancel = self._renamed.get(report.venue_order_id, "web-cancel")
                    event |= {"C": report.cid, "c": cancel}
                return [event]
        return []

    def _execution(self, report: OrderReport) -> Row:
        at_ms = report.venue_ns // MILLISECOND
        return {
            "e": "executionReport",
            "E": at_ms,
            "s": report.symbol,
            "c": report.cid,
            "C": "",
            "S": SIDE_WORDS[report.side],
            "o": TYPE_WORDS[report.order_type],
            "f": "GTC",
            "q": plain(report.qty),
            "p": plain(report.price),
            "P": plain(report.trigger_price),
            "r": "NONE",
            "i": int(report.venue_order_id),
            "l": "0.00000000",
            "z": plain(report.filled_qty),
            "L": "0.00000000",
            "n": "0",
            "N": None,
            "T": at_ms,
            "t": -1,
            "m": False,
        }


def _restrictions(params: Row) -> Row:
    may = {"enableReading": True, "enableSpotAndMarginTrading": True, "enableFutures": True}
    return may | {"enableWithdrawals": False, "ipRestrict": True}
