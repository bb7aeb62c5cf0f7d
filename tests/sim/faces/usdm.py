"""Binance USD-M Futures in front of the simulated venue: conditional orders in a service of their own, with their own
numbers and the orders that they become; a listen key; incomes."""

import json
from urllib.parse import parse_qsl

from engine.core.messages import (
    ZERO,
    Acked,
    Answer,
    FillReport,
    FundingReport,
    Order,
    OrderReport,
    OrderType,
    VenueReport,
)
from engine.core.times import MILLISECOND
from tests.sim.faces.binance import (
    SIDE_WORDS,
    SIDES,
    TIFS,
    USDM_TYPES,
    BinanceFace,
    Deed,
    Route,
    Row,
    Wrong,
    filters,
    trade_number,
)
from tests.sim.faces.serve import Act, Session, Told, Wires, protest
from tests.sim.faces.words import plain, wanted
from tests.sim.venue import TRIGGERED, Life, Manners, Resting, SimVenue

MANNERS = Manners(
    number_prefix="",
    names_by_order=True,
    forgets_filled=False,
    looks_twice=True,
    tells_triggers=True,
    liquidates_as=("autoclose-", "adl_autoclose"),
)
TYPE_WORDS = {kind: word for word, kind in USDM_TYPES.items()}
ALGO_NUMBERS = 3_000_000  # an algo order's number is that of the order that it becomes, and so much more
LIMITS = (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
CODES = {
    "-1021": (-1021, "Timestamp for this request is outside of the recvWindow."),
    "-5028": (-5028, "Timestamp for this request is outside of the ME recvWindow."),
    "10006": (-1015, "Too many new orders; current limit is 300 orders per 10 SECOND."),
    "10001": (-1121, "Invalid symbol."),
    "110072": (-4116, "ClientOrderId is duplicated."),
    "-1013": (-4014, "Price not increased by tick size."),
    "-2022": (-2022, "ReduceOnly Order is rejected."),
    "110007": (-2019, "Margin is insufficient."),
    "-2021": (-2021, "Order would immediately trigger."),
    "-5022": (-5022, "Due to the order could not be executed as maker, the Post Only order will be rejected."),
    "110001": (-2011, "Unknown order sent."),
}


class UsdmFace(BinanceFace):
    codes = CODES
    api_path = "/ws-fapi/v1"
    rejected = "EXPIRED"

    def __init__(self, venue: SimVenue, seed: str) -> None:
        super().__init__(venue, seed)
        self.key, self._keys = "", 0
        self.streams: list[KeyedSession] = []
        venue.keys.append(self._lose_key)
        place, cancel = Route(act=self._place), Route(act=self._cancel)
        algo, cancel_algo = Route(act=self._place_algo), Route(act=self._cancel_algo)
        self.routes = {
            ("GET", "/fapi/v1/time"): Route(lambda _: {"serverTime": self.now_ms}, signed=False),
            ("GET", "/fapi/v1/exchangeInfo"): Route(self._info, signed=False),
            ("GET", "/sapi/v1/account/apiRestrictions"): Route(_restrictions),
            ("GET", "/fapi/v1/positionSide/dual"): Route(lambda _: {"dualSidePosition": False}, weight=30),
            ("GET", "/fapi/v1/symbolConfig"): Route(_config, weight=5),
            ("GET", "/fapi/v3/account"): Route(self._account, weight=5),
            ("GET", "/fapi/v3/positionRisk"): Route(self._positions, weight=5),
            ("GET", "/fapi/v1/order"): Route(self._order),
            ("GET", "/fapi/v1/openOrders"): Route(self._open),
            ("GET", "/fapi/v1/algoOrder"): Route(self._algo),
            ("GET", "/fapi/v1/openAlgoOrders"): Route(self._open_algos),
            ("GET", "/fapi/v1/userTrades"): Route(self._trades, weight=5),
            ("GET", "/fapi/v1/income"): Route(self._incomes, weight=30),
            ("POST", "/fapi/v1/listenKey"): Route(self._listen_key, signed=False),
            ("PUT", "/fapi/v1/listenKey"): Route(self._keep_key, signed=False),
            ("POST", "/fapi/v1/order"): place,
            ("DELETE", "/fapi/v1/order"): cancel,
            ("POST", "/fapi/v1/algoOrder"): algo,
            ("DELETE", "/fapi/v1/algoOrder"): cancel_algo,
        }
        self.calls = {"order.place": place, "order.cancel": cancel}
        self.calls |= {"algoOrder.place": algo, "algoOrder.cancel": cancel_algo}

    # --------------------------------------------------------------------------------------------------------- changes

    def _read(self, params: Row, cid: str, trigger: str) -> Order:
        assert "positionSide" not in params and params.get("reduceOnly", "true") == "true"
        return wanted(
            params[cid],
            params["symbol"],
            SIDES[params["side"]],
            USDM_TYPES[params["type"]],
            params["quantity"],
            params.get("price", ""),
            trigger,
            TIFS[params.get("timeInForce", "GTC")],
            "reduceOnly" in params,
        )

    def _place(self, life: Life, params: Row) -> Deed:
        order = self._read(params, "newClientOrderId", "")
        if order.order_type.conditional:
            protest(self.venue, life, "a conditional order among the plain ones (-4120)")

        def done(acked: Acked) -> Row:
            named = {"symbol": order.symbol, "orderId": int(acked.venue_order_id), "clientOrderId": order.cid}
            return named | {"status": "NEW", "executedQty": "0", "updateTime": self.now_ms}

        return self.placed(order, life, params, done)

    def _place_algo(self, life: Life, params: Row) -> Deed:
        assert params["algoType"] == "CONDITIONAL" and params["workingType"] == "CONTRACT_PRICE"
        order = self._read(params, "clientAlgoId", params["triggerPrice"])

        def done(acked: Acked) -> Row:
            number = int(acked.venue_order_id) + ALGO_NUMBERS
            return {"algoId": number, "clientAlgoId": order.cid, "algoStatus": "NEW", "updateTime": self.now_ms}

        return self.placed(order, life, params, done)

    def _cancel(self, life: Life, params: Row) -> Deed:
        number, cid = self.number_of(params, "orderId"), params.get("origClientOrderId", "")
        return self._cancel_one(life, cid, number, plain_one=True)

    def _cancel_algo(self, life: Life, params: Row) -> Deed:
        number, cid = self.number_of(params, "algoId"), params.get("clientAlgoId", "")
        return self._cancel_one(life, cid, str(int(number) - ALGO_NUMBERS) if number else "", plain_one=False)

    def _cancel_one(self, life: Life, cid: str, number: str, plain_one: bool) -> Deed:
        """Neither service knows the other's orders."""
        venue = self.venue

        async def work() -> Answer:
            meant = (o for o in venue.orders.values() if (o.venue_order_id == number if number else o.cid == cid))
            mine = [o for o in meant if o.status == "open" and self._is_plain(o) is plain_one]
            chosen = mine[0].venue_order_id if mine else "none"
            return await venue.canceled(life, cid, chosen)

        def done(acked: Acked) -> Row:
            number = int(acked.venue_order_id)
            if not plain_one:
                return {"algoId": number + ALGO_NUMBERS, "code": "200", "msg": "success"}
            return {"orderId": number, "status": "CANCELED", "updateTime": self.now_ms}

        known = venue.orders[number].cid if number in venue.orders else cid
        return Deed("cancel", known, work, done)

    def _is_plain(self, order: Resting) -> bool:
        return order.triggered or not order.order_type.conditional

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
                    "marginAsset": i.quote,
                    "contractType": "PERPETUAL",
                    "pricePrecision": 2,
                    "filters": filters(i, spot=False),
                }
            )
        return {"timezone": "UTC", "serverTime": self.now_ms, "rateLimits": [], "symbols": rows}

    def _account(self, params: Row) -> Row:
        rows = []
        for asset, total in sorted(self.venue.balances.items()):
            free = plain(max(total, ZERO))
            rows.append({"asset": asset, "walletBalance": plain(total), "availableBalance": free})
        return {"assets": rows, "positions": []}

    def _positions(self, params: Row) -> list[Row]:
        rows = []
        for report in self.venue.list_positions():
            row = {"symbol": report.symbol, "positionSide": "BOTH", "positionAmt": plain(report.qty)}
            rows.append(row | {"entryPrice": plain(report.avg_price), "updateTime": self.now_ms})
        return rows

    def _order(self, params: Row) -> Row:
        number, cid = self.number_of(params, "orderId"), params.get("origClientOrderId", "")
        found = self.venue.named(params["symbol"], cid, number)
        if found is None or not self._is_plain(found):
            raise Wrong(400, -2013, "Order does not exist.")
        return self._row(found)

    def _open(self, params: Row) -> list[Row]:
        venue = self.venue
        shown = [o for o in self.visible() if o.symbol == params["symbol"] and self._is_plain(o)]
        return [self._row(o) for o in shown if not venue.fault(venue.faults.list_holes)]

    def _algo(self, params: Row) -> Row:
        cid = params["clientAlgoId"]
        for symbol in self.venue.markets:
            found = self.venue.named(symbol, cid)
            if found is not None and found.order_type.conditional:
                return self._algo_row(found)
        raise Wrong(400, -2013, "Order does not exist.")

    def _open_algos(self, params: Row) -> list[Row]:
        venue = self.venue
        shown = [o for o in self.visible() if o.symbol == params["symbol"] and not self._is_plain(o)]
        return [self._algo_row(o) for o in shown if not venue.fault(venue.faults.list_holes)]

    def _row(self, order: Resting) -> Row:
        report = self.venue.report(order)
        market = order.order_type not in LIMITS
        return {
            "symbol": order.symbol,
            "orderId": int(order.venue_order_id),
            "clientOrderId": order.cid,
            "price": plain(report.price),
            "origQty": plain(report.qty),
            "executedQty": plain(report.filled_qty),
            "status": self.status(report),
            "timeInForce": "GTC",
            "type": "MARKET" if market else "LIMIT",
            "origType": TYPE_WORDS[report.order_type],
            "side": SIDE_WORDS[report.side],
            "stopPrice": "0",
            "reduceOnly": report.reduce_only,
            "closePosition": False,
            "time": self._at(order.taken_ns),
            "updateTime": report.venue_ns // MILLISECOND,
        }

    def _at(self, wall_ns: int) -> int:
        return (wall_ns + self.venue.now_ns - self.venue.wall_ns()) // MILLISECOND

    def _algo_row(self, order: Resting) -> Row:
        report = self.venue.report(order)
        return {
            "algoId": int(order.venue_order_id) + ALGO_NUMBERS,
            "clientAlgoId": order.cid,
            "algoType": "CONDITIONAL",
            "orderType": TYPE_WORDS[report.order_type],
            "symbol": order.symbol,
            "side": SIDE_WORDS[report.side],
            "quantity": plain(report.qty),
            "algoStatus": self._algo_status(order),
            "triggerPrice": plain(report.trigger_price),
            "price": plain(report.price) if report.price is not None else "",
            "reduceOnly": report.reduce_only,
            "actualOrderId": order.venue_order_id if order.triggered else "",
            "createTime": self._at(order.taken_ns),
            "updateTime": report.venue_ns // MILLISECOND,
        }

    def _algo_status(self, order: Resting) -> str:
        if order.triggered:
            return "TRIGGERED" if order.status == "open" else "FINISHED"
        return {"open": "NEW", "canceled": "CANCELED", "rejected": "REJECTED"}.get(order.status, "EXPIRED")

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
                "side": SIDE_WORDS[report.side],
                "maker": report.maker,
            }
            for report in self.trades(params)
        ]

    def _incomes(self, params: Row) -> list[Row]:
        now, since, until = self.venue.wall_ns(), int(params["startTime"]), int(params["endTime"])
        rows: list[Row] = []
        if params["incomeType"] == "TRANSFER":
            return rows  # nobody moves money in these worlds
        for kept in self.venue.history:
            report = kept.report
            if not isinstance(report, FundingReport) or kept.visible_ns > now:
                continue
            at_ms = report.venue_ns // MILLISECOND
            if since <= at_ms <= until:
                row = {"symbol": report.symbol, "incomeType": "FUNDING_FEE", "income": plain(report.amount)}
                rows.append(row | {"asset": report.asset, "time": at_ms, "tranId": report.funding_id})
        return rows[: int(params["limit"])]

    # ------------------------------------------------------------------------------------------------ the listen key

    def _listen_key(self, params: Row) -> Row:
        """An active one comes again."""
        if not self.key:
            self._keys += 1
            self.key = f"listen-key-{self._keys}"
        return {"listenKey": self.key}

    def _keep_key(self, params: Row) -> Row:
        if not self.key:
            raise Wrong(400, -1125, "This listenKey does not exist.")
        return {"listenKey": self.key}

    def _lose_key(self) -> None:
        """The streams stay connected, and silent; some are told."""
        if not self.streams:
            return
        self.venue.truth.reach("a listen key was lost")
        lost, self.key = self.key, ""
        told = self.chance.random() < 0.6
        for stream in tuple(self.streams):
            stream.lose(lost if told else "")

    def open(self, path: str, query: str, wires: Wires) -> Session | None:
        if path == "/private/ws":
            return KeyedSession(self, wires, dict(parse_qsl(query)).get("listenKey", ""))
        if path.startswith("/private/ws/"):
            return KeyedSession(self, wires, "")  # the form that connects, and has been silent since the split
        return super().open(path, query, wires)

    # ---------------------------------------------------------------------------------------------------------- events

    def events(self, report: VenueReport, about: OrderReport | None) -> list[Row]:
        """An execution comes twice, first without its fee; what only repeats an order's state is not told."""
        match report:
            case FillReport():
                assert about is not None
                lite = self._event("TRADE_LITE", report.venue_ns) | {"s": report.symbol, "c": report.cid}
                lite |= {"l": plain(report.qty), "L": plain(report.price), "t": trade_number(report)}
                foreign = report.cid.startswith(("autoclose-", "adl_autoclose"))
                told: Row = {"x": "CALCULATED" if foreign else "TRADE", "X": self.status(about)}
                told |= {"l": plain(report.qty), "L": plain(report.price), "t": trade_number(report)}
                told |= {"n": plain(report.fee), "N": report.fee_asset, "m": report.maker}
                return [lite, self._order_event(about, told), self._account_event(report)]
            case FundingReport():
                rows = [{"a": report.asset, "wb": plain(self.venue.balances[report.asset]), "bc": plain(report.amount)}]
                return [self._event("ACCOUNT_UPDATE", report.venue_ns) | {"a": {"m": "FUNDING_FEE", "B": rows}}]
            case OrderReport():
                return self._order_events(report)
        return []

    def _order_events(self, report: OrderReport) -> list[Row]:
        order = self.venue.orders[report.venue_order_id]
        if order.order_type.conditional and report.reason == TRIGGERED:
            return [self._algo_event(report, "TRIGGERED"), self._order_event(report, {"x": "NEW", "X": "NEW"})]
        if order.order_type.conditional and not (order.triggered and report.status != "open"):
            if report.filled_qty:
                return []
            words = {"open": "NEW", "canceled": "CANCELED", "rejected": "REJECTED"}
            return [self._algo_event(report, words.get(report.status, "EXPIRED"))]
        finished = [self._algo_event(report, "FINISHED")] if order.order_type.conditional else []
        if report.status == "filled" or (report.status == "open" and report.filled_qty):
            return finished if report.status == "filled" else []
        word = self.status(report)
        happened = {"x": "NEW" if report.status == "open" else word, "X": word}
        return [self._order_event(report, happened), *(finished if report.status != "open" else [])]

    def _event(self, name: str, venue_ns: int) -> Row:
        return {"e": name, "E": self.now_ms, "T": venue_ns // MILLISECOND}

    def _order_event(self, report: OrderReport, told: Row) -> Row:
        order: Row = {
            "s": report.symbol,
            "c": report.cid,
            "S": SIDE_WORDS[report.side],
            "o": "LIMIT" if report.order_type in LIMITS else "MARKET",
            "ot": TYPE_WORDS[report.order_type],
            "f": "GTC",
            "q": plain(report.qty),
            "p": plain(report.price),
            "ap": "0",
            "sp": "0",
            "i": int(report.venue_order_id),
            "l": "0",
            "z": plain(report.filled_qty),
            "L": "0",
            "T": report.venue_ns // MILLISECOND,
            "t": 0,
            "R": report.reduce_only,
            "ps": "BOTH",
            "er": {"immediate or cancel": "2", "nothing left to reduce": "4"}.get(report.reason, "0"),
        }
        return self._event("ORDER_TRADE_UPDATE", report.venue_ns) | {"o": order | told}

    def _algo_event(self, report: OrderReport, word: str) -> Row:
        algo: Row = {
            "caid": report.cid,
            "aid": int(report.venue_order_id) + ALGO_NUMBERS,
            "at": "CONDITIONAL",
            "s": report.symbol,
            "S": SIDE_WORDS[report.side],
            "o": TYPE_WORDS[report.order_type],
            "q": plain(report.qty),
            "X": word,
            "tp": plain(report.trigger_price),
            "p": plain(report.price) if report.price is not None else "",
            "R": report.reduce_only,
            "ai": report.venue_order_id if word in ("TRIGGERED", "FINISHED") else "",
            "rm": report.reason if word == "REJECTED" else "",
        }
        return self._event("ALGO_UPDATE", report.venue_ns) | {"o": algo}

    def _account_event(self, report: FillReport) -> Row:
        qty = self.venue.position(report.symbol)
        body = {"m": "ORDER", "B": [], "P": [{"s": report.symbol, "pa": plain(qty), "ep": "0", "ps": "BOTH"}]}
        return self._event("ACCOUNT_UPDATE", report.venue_ns) | {"a": body}


class KeyedSession:
    """The private stream: what it hangs on is its key."""

    private = True

    def __init__(self, face: UsdmFace, wires: Wires, key: str) -> None:
        self._face, self._wires, self._key = face, wires, key
        self._told = Told(face.venue, self._tell, wires)

    def opened(self) -> None:
        """One with a key that is no more connects, and stays silent."""
        self._face.streams.append(self)
        if self._key and self._key == self._face.key:
            self._told.begin()

    def hear(self, text: bytes) -> list[bytes] | Act:
        protest(self._face.venue, self._wires.life, "nothing is to be said on this stream")
        return []

    def lose(self, key: str) -> None:
        self._told.end()
        if key:
            event = {"e": "listenKeyExpired", "E": self._face.now_ms, "listenKey": key}
            self._wires.post(json.dumps(event).encode())

    def _tell(self, report: VenueReport, about: OrderReport | None) -> None:
        for event in self._face.events(report, about):
            self._wires.post(json.dumps(event).encode())

    def close(self) -> None:
        self._told.end()
        self._face.streams.remove(self)


def _restrictions(params: Row) -> Row:
    may = {"enableReading": True, "enableSpotAndMarginTrading": True, "enableFutures": True}
    return may | {"enableWithdrawals": False, "ipRestrict": True}


def _config(params: Row) -> list[Row]:
    return [{"symbol": params["symbol"], "marginType": "CROSSED", "leverage": 10}]
