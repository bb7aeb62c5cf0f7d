"""Random clients in a random market: what a client can read and hear is what the exchange knows, and runs repeat."""

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from engine.core.messages import FillReport, Side
from engine.exchange.terms import Memory
from tests.exchange.views import number
from tests.exchange.world import World

D = Decimal
STEPS = 250


class Client:
    """Draws its requests from a seed; keeps a digest of every answer and message, so that two runs can be compared."""

    def __init__(self, seed: int, history: int = 20_000) -> None:
        self.chance = Random(seed)
        self.world = World(memory=Memory(history=history))
        self.digest = hashlib.sha256()
        self.bybit = self.world.connect("bybit", "/v5/private")
        self.bybit.log_on()
        self.bybit.say({"op": "subscribe", "args": ["order", "execution", "position", "wallet"]})
        self.spot = self.world.connect("binance-spot", "/ws-api/v3")
        self.spot.ask("userDataStream.subscribe.signature")
        headers = {"x-mbx-apikey": "local-key"}
        key = json.loads(self.world.request("binance-usdm", "POST", "/fapi/v1/listenKey", headers=headers).body)
        self.usdm = self.world.connect("binance-usdm", "/private/ws", f"listenKey={key['listenKey']}")
        self.given = 0

    def play(self, steps: int = STEPS) -> None:
        for _ in range(steps):
            self.world.pass_(self.chance.random())
            self.note(self.chance.choice([self.market, self.place, self.place, self.place, self.cancel, self.amend])())
            for house in self.houses():
                for member in house.members.values():
                    member.matching.check()
        for wire in (self.bybit, self.spot, self.usdm):
            self.note(wire.told)

    def note(self, what: object) -> None:
        self.digest.update(json.dumps(what, sort_keys=True).encode())

    def houses(self) -> Iterator[Any]:
        return (face.house for face in self.world.exchange.faces.values())

    # ------------------------------------------------------------------------------------------------ what it draws

    def market(self) -> object:
        price = D(60_000) + self.chance.randrange(-300, 300)
        if self.chance.random() < 0.3:
            self.world.fund(str(D(self.chance.randrange(-10, 10)) / 10_000))
        elif self.chance.random() < 0.5:
            self.world.trade(str(price), str(D(self.chance.randrange(1, 500)) / 100), self.chance.choice(list(Side)))
        else:
            self.world.book(str(price), str(price + D("0.1")), str(D(self.chance.randrange(1, 900)) / 100))
        return None

    def place(self) -> object:
        self.given += 1
        market, buy = self.chance.random() < 0.4, self.chance.random() < 0.5
        price = str(D(60_000) + self.chance.randrange(-400, 400))
        qty, face = str(D(self.chance.randrange(1, 300)) / 1000), self.chance.randrange(4)
        trigger = str(D(60_000) + self.chance.randrange(-400, 400)) if self.chance.random() < 0.2 else ""
        name = f"c{self.given}"
        if face < 2:
            more: dict[str, Any] = {"category": ("linear", "spot")[face], "side": "Buy" if buy else "Sell", "qty": qty}
            more |= {"orderType": "Market" if market else "Limit", "price": "" if market else price}
            more |= {"triggerPrice": trigger, "triggerDirection": self.chance.choice([1, 2])} if trigger else {}
            more |= {"marketUnit": "baseCoin", "timeInForce": self.chance.choice(["GTC", "IOC", "FOK", "PostOnly"])}
            return self.world.order(**more, orderLinkId=name)
        asked: dict[str, Any] = {"side": "BUY" if buy else "SELL", "quantity": qty, "newClientOrderId": name}
        asked |= {"type": "MARKET"} if market else {"type": "LIMIT", "timeInForce": "GTC", "price": price}
        if face == 2:
            return self.world.spot_order(**asked)
        if not trigger:
            return self.world.usdm_order(**asked)
        algo = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": asked["side"], "type": "STOP_MARKET"}
        return self.world.binance(
            "usdm", "POST", "algoOrder", **algo, quantity=qty, triggerPrice=trigger, clientAlgoId=name
        )

    def cancel(self) -> object:
        name = f"c{self.chance.randrange(1, self.given + 2)}"
        face = self.chance.randrange(4)
        if face < 2:
            asked = {"category": ("linear", "spot")[face], "symbol": "BTCUSDT", "orderLinkId": name}
            return self.world.bybit("POST", "order/cancel", asked)
        return self.world.binance(
            ("spot", "usdm")[face - 2], "DELETE", "order", symbol="BTCUSDT", origClientOrderId=name
        )

    def amend(self) -> object:
        asked = {"category": self.chance.choice(["linear", "spot"]), "symbol": "BTCUSDT"}
        asked |= {"orderLinkId": f"c{self.chance.randrange(1, self.given + 2)}"}
        asked |= {"price": str(D(60_000) + self.chance.randrange(-400, 400))}
        return self.world.bybit("POST", "order/amend", asked)


@pytest.mark.parametrize("seed", range(6))
def test_what_a_client_reads_and_hears_is_what_the_exchange_knows(seed: int) -> None:
    client = Client(seed)
    client.play()
    check_bybit(client)
    check_spot(client)
    check_usdm(client)


def test_the_same_requests_at_the_same_times_have_the_same_answers_to_the_byte() -> None:
    first, second, other = Client(7), Client(7), Client(8)
    for client in (first, second, other):
        client.play(120)
    assert first.digest.digest() == second.digest.digest() != other.digest.digest()


def test_a_long_life_is_kept_in_bounds() -> None:
    client = Client(3, history=20)
    client.play()
    for house in client.houses():
        member = house.first
        assert len(member.matching.executions) <= 20 and len(member.closed) <= 20
        assert len(member.records) <= 20 + len(member.matching.open)
        assert len(member._named) <= len(member.records)


def truth_of(client: Client, face: str) -> Any:
    return client.world.exchange.faces[face].house.members["main"]


def fills_of(member: Any, category: str) -> list[Any]:
    found = [e for e in member.matching.executions if isinstance(e, FillReport) and e.symbol.startswith(category)]
    return sorted((f.cid, number(f.qty), number(f.price), number(f.fee)) for f in found)


def check_bybit(client: Client) -> None:
    member, world = truth_of(client, "bybit"), client.world
    for category in ("linear", "spot"):
        rows, cursor = [], ""
        while True:
            asked = {"category": category, "limit": "100", **({"cursor": cursor} if cursor else {})}
            page = world.bybit("GET", "execution/list", asked)["result"]
            rows += [row for row in page["list"] if row["execType"] == "Trade"]
            cursor = page["nextPageCursor"].replace("%3A", ":").replace("%2C", ",")
            if not cursor:
                break
        heard = [m["data"][0] for m in client.bybit.of(topic="execution") if m["data"][0]["execType"] == "Trade"]
        heard = [row for row in heard if row["category"] == category]
        for seen in (rows, heard):
            assert sorted(
                (r["orderLinkId"], number(r["execQty"]), number(r["execPrice"]), number(r["execFee"])) for r in seen
            ) == fills_of(member, category)
        # The last word of the stream on each order is what a query says.
        last = {m["data"][0]["orderId"]: m["data"][0] for m in client.bybit.of(topic="order")}
        for record in member.records.values():
            if record.listing.category == category:
                asked = {"category": category, "orderLinkId": record.given}
                row = world.bybit("GET", "order/realtime", asked)["result"]["list"][0]
                told = last[row["orderId"]]
                for name in ("orderStatus", "cumExecQty", "cumExecValue", "avgPrice", "cumFeeDetail", "price", "qty"):
                    assert told[name] == row[name], (name, told, row)
    held = world.bybit("GET", "position/list", {"category": "linear", "settleCoin": "USDT"})["result"]["list"]
    signed = [number(p["size"]) * (1 if p["side"] == "Buy" else -1) for p in held]
    assert signed == [p.qty for p in member.matching.positions() if p.symbol.startswith("linear")]
    coins = world.bybit("GET", "account/wallet-balance", {"accountType": "UNIFIED"})["result"]["list"][0]["coin"]
    totals = {b.asset: b.total for b in member.matching.balances()}
    assert {c["coin"]: D(c["walletBalance"]) for c in coins} == {a: t for a, t in totals.items() if t}


def check_spot(client: Client) -> None:
    member, world = truth_of(client, "binance-spot"), client.world
    rows = world.binance("spot", "GET", "myTrades", symbol="BTCUSDT", limit=1000)[1]
    names = {record.serial: record.given for record in member.records.values()}
    read = sorted((names[r["orderId"]], number(r["qty"]), number(r["price"]), number(r["commission"])) for r in rows)
    events = [m["event"] for m in client.spot.told]
    trades = [e for e in events if e["e"] == "executionReport" and e["x"] == "TRADE"]
    heard = sorted((e["c"], number(e["l"]), number(e["L"]), number(e["n"])) for e in trades)
    assert read == heard == fills_of(member, "spot")
    assert all(D(e["Z"]) >= D(e["Y"]) for e in trades)
    last = {e["i"]: e for e in events if e["e"] == "executionReport"}
    for row in world.binance("spot", "GET", "allOrders", symbol="BTCUSDT", limit=1000)[1]:
        told = last[row["orderId"]]
        assert (told["X"], told["z"], told["Z"]) == (row["status"], row["executedQty"], row["cummulativeQuoteQty"])
    balances = {
        b["asset"]: D(b["free"]) + D(b["locked"]) for b in world.binance("spot", "GET", "account")[1]["balances"]
    }
    assert balances == {b.asset: round(b.total, 8) for b in member.matching.balances()}
    wallets = {
        row["a"]: D(row["f"]) + D(row["l"]) for e in events if e["e"] == "outboundAccountPosition" for row in e["B"]
    }
    assert all(balances[asset] == total for asset, total in wallets.items())


def check_usdm(client: Client) -> None:
    member, world = truth_of(client, "binance-usdm"), client.world
    rows = world.binance("usdm", "GET", "userTrades", symbol="BTCUSDT", limit=1000)[1]
    names = {record.serial: record.given for record in member.records.values()}
    read = sorted((names[r["orderId"]], number(r["qty"]), number(r["price"]), number(r["commission"])) for r in rows)
    orders = [m["o"] for m in client.usdm.of(e="ORDER_TRADE_UPDATE")]
    heard = sorted((o["c"], number(o["l"]), number(o["L"]), number(o["n"])) for o in orders if o["x"] == "TRADE")
    assert read == heard == fills_of(member, "linear")
    lite = sorted((m["c"], number(m["l"]), number(m["L"])) for m in client.usdm.of(e="TRADE_LITE"))
    assert lite == [fill[:3] for fill in heard]
    realised = sum((D(o["rp"]) for o in orders), D(0))
    paid = sum((D(r["income"]) for r in world.binance("usdm", "GET", "income", limit=1000)[1]), D(0))
    flows = {b.asset: b.total for b in member.matching.balances()}["USDT"] - 100_000
    assert abs(paid - flows) < D("1e-9")
    assert abs(realised - sum((D(r["realizedPnl"]) for r in rows), D(0))) == 0
    held = {p["symbol"]: D(p["positionAmt"]) for p in world.binance("usdm", "GET", "/fapi/v3/positionRisk")[1]}
    assert {s: q for s, q in held.items() if q} == {
        p.symbol.removeprefix("linear:"): p.qty for p in member.matching.positions()
    }
    last = {o["i"]: o for o in orders}
    for row in world.binance("usdm", "GET", "allOrders", limit=1000, symbol="BTCUSDT")[1]:
        told = last[row["orderId"]]
        assert (told["X"], number(told["z"])) == (row["status"], number(row["executedQty"]))
        assert number(told["ap"]) == number(row["avgPrice"])
