"""Whatever order events come in, doubled or dropped, the books end as the venue's.

A small model venue keeps the truth. Its reports go into a pool from which they are delivered in any order, twice, or
never; requests get lost before or after the venue. Then calm: look-ups and comparisons are answered truthfully.
"""

from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.core.blotter import Blotter, Terms
from engine.core.messages import (
    Acked,
    Action,
    Answered,
    Cancel,
    Compared,
    Confirmed,
    Enact,
    Failed,
    Filled,
    FillReport,
    Flatten,
    Instrument,
    InstrumentKind,
    Look,
    Looked,
    NotFound,
    Order,
    OrderReport,
    OrderType,
    Place,
    Plan,
    Position,
    PositionReport,
    Rejection,
    Side,
    Signal,
    Silence,
    Sweep,
    Wake,
)
from engine.core.times import SECOND

D = Decimal
BTC = Instrument(
    symbol="BTCUSDT",
    venue="model",
    kind=InstrumentKind.LINEAR,
    base="BTC",
    quote="USDT",
    tick=D("0.1"),
    lot=D("0.001"),
    qty_min=D("0.001"),
    qty_max=D("100"),
    notional_min=D("5"),
)
TERMS = Terms("test", 5 * SECOND, 30 * SECOND, 30 * SECOND, D("0.01"))


class ModelVenue:
    """The truth: orders by client id, executions, and a position. Reduce-only is honoured."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.executions: list[FillReport] = []
        self.position = D(0)

    def take(self, order: Order) -> None:
        assert order.cid not in self.orders, "an id came twice"
        self.orders[order.cid] = {"order": order, "filled": D(0), "status": "open"}

    def open(self) -> list[str]:
        return [cid for cid, o in self.orders.items() if o["status"] == "open"]

    def fill(self, cid: str, part: Decimal, now: int) -> list[Any]:
        entry = self.orders[cid]
        order: Order = entry["order"]
        left = order.qty - entry["filled"]
        qty = max((left * part).quantize(D("0.001")), D("0.001"))
        qty = min(qty, left)
        if order.reduce_only:
            closes = (self.position > 0 and order.side is Side.SELL) or (self.position < 0 and order.side is Side.BUY)
            qty = min(qty, abs(self.position)) if closes else D(0)
            if not qty:
                entry["status"] = "canceled"
                return [self.report(cid)]
        entry["filled"] += qty
        self.position += qty * order.side.sign
        if entry["filled"] == order.qty:
            entry["status"] = "filled"
        fill = FillReport(
            symbol="BTCUSDT",
            exec_id=f"x{len(self.executions)}",
            cid=cid,
            venue_order_id=f"v{cid[-4:]}",
            side=order.side,
            qty=qty,
            price=D("100"),
            fee=D("0.001"),
            fee_asset="USDT",
            venue_ns=now,
        )
        self.executions.append(fill)
        return [fill, self.report(cid)]

    def cancel(self, cid: str) -> list[Any]:
        entry = self.orders.get(cid)
        if entry is None or entry["status"] != "open":
            return []
        entry["status"] = "canceled"
        return [self.report(cid)]

    def report(self, cid: str) -> OrderReport:
        entry = self.orders[cid]
        order: Order = entry["order"]
        return OrderReport(
            "BTCUSDT",
            cid,
            f"v{cid[-4:]}",
            entry["status"],
            order.side,
            order.order_type,
            order.qty,
            entry["filled"],
            reduce_only=order.reduce_only,
        )


class BooksMatchTheVenue(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.venue = ModelVenue()
        self.now = 1000 * SECOND
        self.blotter = Blotter(TERMS, BTC, Position(account="a", symbol="BTCUSDT"))
        self.requests: list[Place | Cancel] = []
        self.looks: list[Look] = []
        self.pool: list[Any] = []
        self.signals = 0
        self.facts: list[Any] = []

    def tell(self, *messages: Any) -> None:
        self.now += SECOND // 10
        self.took(self.blotter.handle(messages, self.now))

    def took(self, step: Any) -> None:
        self.facts += step.facts
        for command in step.commands:
            if isinstance(command, Place | Cancel):
                self.requests.append(command)
            elif isinstance(command, Look):
                self.looks.append(command)

    @rule(side=st.sampled_from(Side), lots=st.integers(1, 50), limit=st.booleans(), stop=st.booleans())
    def signal(self, side: Side, lots: int, limit: bool, stop: bool) -> None:
        self.signals += 1
        if self.signals > 6:
            return
        signal = Signal(
            f"s{self.signals}", "a", "BTCUSDT", Action.OPEN, "test", "surefire", "h", "t", self.now, 0, side=side
        )
        plan = Plan(
            Action.OPEN,
            side,
            lots * D("0.001"),
            OrderType.LIMIT if limit else OrderType.MARKET,
            price=D(100) if limit else None,
            stop_loss=(D(90) if side is Side.BUY else D(110)) if stop else None,
            reference_price=D(100),
            reserve_price=D(100),
        )
        self.tell(Enact(signal, plan))

    @rule()
    def flatten(self) -> None:
        self.tell(Flatten("person", "test"))

    @rule(passed=st.booleans())
    def sweep(self, passed: bool) -> None:
        self.now += 10 * SECOND
        self.tell(Sweep(self.now, self.now - 9 * SECOND if passed else 0), Wake(self.now))

    @precondition(lambda self: self.requests)
    @rule(which=st.integers(0, 20), fate=st.sampled_from(["well", "well", "well", "lost", "silent", "refused"]))
    def request(self, which: int, fate: str) -> None:
        request = self.requests.pop(which % len(self.requests))
        if isinstance(request, Cancel):
            return self._cancel(request, fate)
        order = request.order
        match fate:
            case "well":
                self.venue.take(order)
                self.tell(Answered(order.cid, "place", Acked(f"v{order.cid[-4:]}")))
            case "lost":
                self.tell(Answered(order.cid, "place", Silence("lost on the way")))
            case "silent":
                self.venue.take(order)
                self.tell(Answered(order.cid, "place", Silence("the answer was lost")))
            case _:
                self.tell(Answered(order.cid, "place", Rejection("1", "invalid", "no")))

    def _cancel(self, request: Cancel, fate: str) -> None:
        if fate == "lost":
            return self.tell(Answered(request.cid, "cancel", Silence("lost")))
        found = self.venue.cancel(request.cid)
        self.pool += found
        if fate == "silent":
            return self.tell(Answered(request.cid, "cancel", Silence("lost")))
        answer = Acked("v") if found else Rejection("110001", "not_found", "unknown order")
        self.tell(Answered(request.cid, "cancel", answer))

    @precondition(lambda self: self.venue.open())
    @rule(which=st.integers(0, 20), part=st.decimals("0.1", "1", places=1))
    def execute(self, which: int, part: Decimal) -> None:
        alive = self.venue.open()
        self.pool += self.venue.fill(alive[which % len(alive)], part, self.now)

    @precondition(lambda self: self.pool)
    @rule(which=st.integers(0, 50), fate=st.sampled_from(["once", "once", "keep", "drop"]))
    def deliver(self, which: int, fate: str) -> None:
        """In any order; "keep" leaves it in the pool, so that it comes again."""
        place = which % len(self.pool)
        report = self.pool[place] if fate == "keep" else self.pool.pop(place)
        if fate != "drop":
            self.tell(report)

    @precondition(lambda self: self.looks)
    @rule(which=st.integers(0, 20), fails=st.booleans())
    def look(self, which: int, fails: bool) -> None:
        look = self.looks.pop(which % len(self.looks))
        self.now = max(self.now, look.at_ns)
        self._answer(look, fails)

    def _answer(self, look: Look, fails: bool = False) -> None:
        if fails:
            return self.tell(Looked(look.cid, Failed("503"), (), self.now, self.now))
        found = self.venue.report(look.cid) if look.cid in self.venue.orders else NotFound(look.cid)
        fills = tuple(f for f in self.venue.executions if f.cid == look.cid)
        self.tell(Looked(look.cid, found, fills, self.now, self.now))

    @rule()
    def restart(self) -> None:
        """Everything but the journal is forgotten: open orders, the position, the trade, booked executions."""
        old = self.blotter
        self.blotter = Blotter(
            TERMS,
            BTC,
            old.position,
            tuple(old.orders.values()),
            old.trade,
            tuple(old.signals.values()),
            tuple(old.seen.items()),
        )
        self.requests.clear()
        self.looks.clear()
        self.took(self.blotter.recover(self.now))

    @invariant()
    def holds(self) -> None:
        self.blotter.check()
        booked = [f.exec_id for f in self.facts if isinstance(f, Filled)]
        assert len(booked) == len(set(booked)), "an execution was booked twice"
        ended = [f.signal_id for f in self.facts if isinstance(f, Confirmed)]
        assert len(ended) == len(set(ended)), "a signal was confirmed twice"

    def teardown(self) -> None:
        """Calm: requests arrive, questions are answered, and the books must come to agree."""
        for _ in range(60):
            self.now += 40 * SECOND
            while self.requests:
                request = self.requests.pop(0)
                if isinstance(request, Cancel):
                    self._cancel(request, "well")
                elif request.order.order_type is OrderType.MARKET:
                    self.venue.take(request.order)
                    self.tell(Answered(request.order.cid, "place", Acked("v")))
                    for report in self.venue.fill(request.order.cid, D(1), self.now):
                        self.tell(report)
                else:
                    self.venue.take(request.order)
                    self.tell(Answered(request.order.cid, "place", Acked("v")))
            for look in [self.looks.pop(0) for _ in range(len(self.looks))]:
                self._answer(look)
            orders = tuple(self.venue.report(cid) for cid in self.venue.open())
            position = PositionReport("BTCUSDT", self.venue.position, D(100), self.now)
            self.tell(Compared(position, orders, tuple(self.venue.executions), self.now, self.now))
            self.tell(Sweep(self.now), Wake(self.now))
            self.blotter.check()
        booked = {f.exec_id for f in self.facts if isinstance(f, Filled)}
        assert booked == {f.exec_id for f in self.venue.executions}
        assert self.blotter.position.qty == self.venue.position
        assert set(self.blotter.orders) <= set(self.venue.open()), "we hold an order that the venue has ended"
        for cid, order in self.blotter.orders.items():
            assert order.filled_qty == self.venue.orders[cid]["filled"]
        started = {f"s{n}" for n in range(1, min(self.signals, 6) + 1)}
        waiting = {o.signal_id for o in self.blotter.orders.values()}
        ended = {f.signal_id for f in self.facts if isinstance(f, Confirmed)}
        assert started - waiting == ended, "every signal whose order has ended is confirmed"


BooksMatchTheVenue.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBooksMatchTheVenue = BooksMatchTheVenue.TestCase
