"""A small honest engine behind the API: real structs, a reader over lists, ports that remember what was asked."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal

import httpx
import msgspec
import trio
from msgspec.structs import replace

from engine.core.messages import (
    Accepted,
    AccountRow,
    Action,
    AnyFact,
    Check,
    Confirmed,
    DeadLettered,
    Event,
    Filled,
    Halt,
    HaltKind,
    Judged,
    Leg,
    Limits,
    LimitsRow,
    Malformed,
    Order,
    OrderType,
    OutboxRow,
    Outcome,
    Plan,
    Position,
    PositionReport,
    Quantity,
    Quote,
    Refusal,
    Side,
    Signal,
    SignalReceived,
    SignalRow,
    State,
    StreamState,
    Submitted,
    Trade,
    Uncovered,
)
from engine.core.tally import Tally
from engine.edges.base import Receipt
from engine.runtime.journal.base import Record
from engine.web.ports import (
    Channel,
    Component,
    Health,
    JournalStats,
    Left,
    NotLetIn,
    Ports,
    Refused,
    ResumeReport,
    StopReport,
    Unknown,
)
from engine.web.serve import serve
from engine.web.terms import Terms
from tests.patience import PATIENCE_SECONDS

NOON = 1_723_118_400_000_000_000  # 2024-08-08T12:00:00Z
MS = 1_000_000


def a_signal(signal_id: str = "s-1", trace_id: str = "t-1", at_ns: int = NOON) -> Signal:
    return Signal(
        signal_id=signal_id,
        account="paper",
        symbol="ETHUSDT",
        action=Action.OPEN,
        source="http",
        dialect="signal.execute",
        body_hash="00",
        trace_id=trace_id,
        received_ns=at_ns,
        valid_until_ns=at_ns + 10_000 * MS,
        side=Side.BUY,
        size=Quantity(Decimal("0.5")),
        stop_loss=Decimal("2400"),
    )


def an_order(signal_id: str = "s-1", cid: str = "sf1entry", **changes: object) -> Order:
    order = Order(
        cid=cid,
        account="paper",
        symbol="ETHUSDT",
        signal_id=signal_id,
        leg=Leg.ENTRY,
        attempt=0,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        qty=Decimal("0.5"),
        trace_id="t-1",
        submitted_ns=NOON + MS,
    )
    return replace(order, **changes)


CHECKS = (
    Check("RSK1.symbol", True),
    Check("RSK4.order_notional_max", True, Decimal("1225"), Decimal("60000"), "USDT"),
)
FAILED = Check(
    "RSK6.price_deviation_max", False, Decimal("0.02"), Decimal("0.01"), "fraction", "too far from the market"
)


def a_story() -> tuple[SignalRow, list[AnyFact], Order]:
    """A taken signal: received, judged, sent, accepted, filled, confirmed."""
    signal, order = a_signal(), an_order()
    plan = Plan(action=Action.OPEN, side=Side.BUY, qty=Decimal("0.5"), stop_loss=Decimal("2400"))
    common = {"account": "paper", "symbol": "ETHUSDT", "trace_id": "t-1"}
    confirmed = Confirmed(
        at_ns=NOON + 9 * MS,
        signal_id="s-1",
        outcome=Outcome.EXECUTED,
        side=Side.BUY,
        asked_qty=Decimal("0.5"),
        filled_qty=Decimal("0.5"),
        avg_price=Decimal("2450.00"),
        slippage=Decimal("0.0004"),
        orders=("sf1entry",),
        **common,
    )
    facts: list[AnyFact] = [
        SignalReceived(at_ns=NOON, signal=signal, **common),
        Judged(
            at_ns=NOON + MS,
            signal_id="s-1",
            outcome=Outcome.ACCEPTED,
            checks=CHECKS,
            plan=plan,
            limits_version=3,
            took_ns=41_000,
            **common,
        ),
        Submitted(at_ns=NOON + MS, order=order, **common),
        Accepted(at_ns=NOON + 5 * MS, cid="sf1entry", venue_order_id="v-9", **common),
        Filled(
            at_ns=NOON + 6 * MS,
            cid="sf1entry",
            exec_id="e-1",
            venue_order_id="v-9",
            side=Side.BUY,
            qty=Decimal("0.5"),
            price=Decimal("2450.00"),
            fee=Decimal("0.67"),
            fee_asset="USDT",
            fee_quote=Decimal("0.67"),
            **common,
        ),
        Uncovered(at_ns=NOON + 6 * MS, missing_qty=Decimal("0.5"), **common),
        confirmed,
    ]
    row = SignalRow(signal=signal, outcome=Outcome.EXECUTED, checks=CHECKS, plan=plan, confirmed=confirmed)
    done = replace(
        order, state=State.CLOSED, venue_order_id="v-9", filled_qty=Decimal("0.5"), filled_quote=Decimal("1225")
    )
    return row, facts, done


def a_refused_row() -> SignalRow:
    return SignalRow(signal=a_signal("s/2:17", "t-2", NOON + MS), outcome=Outcome.REFUSED, checks=(*CHECKS, FAILED))


def a_trade(serial: int, net: str, at_ns: int = NOON) -> Trade:
    return Trade(
        trade_id=f"paper/ETHUSDT/{serial}",
        account="paper",
        symbol="ETHUSDT",
        side=Side.BUY,
        state="closed",
        signal_id="s-1",
        source="http",
        realised=Decimal(net),
        opened_ns=at_ns + serial * MS,
        closed_ns=at_ns + serial * MS + 1000,
    )


class ListReader:
    """Committed state in lists, with the order and the pages that `Reader` promises."""

    def __init__(self) -> None:
        row, facts, order = a_story()
        self.rows = {r.signal.signal_id: r for r in (row, a_refused_row())}
        self.chain = [Record(seq=n, at_ns=f.at_ns, fact=f, hash=b"") for n, f in enumerate(facts, 1)]
        self.all_orders = {order.cid: order, "sf1stop": an_order(cid="sf1stop", leg=Leg.STOP, state=State.OPEN)}
        self.all_positions = (
            Position(
                account="paper",
                symbol="ETHUSDT",
                qty=Decimal("0.5"),
                avg_price=Decimal("2450"),
                cost=Decimal("1225"),
                fees=Decimal("0.67"),
                volume=Decimal("1225"),
            ),
            Position(account="paper", symbol="BTCUSDT", realised=Decimal("10")),
        )
        self.all_trades = [a_trade(n, "10" if n % 2 else "-4") for n in range(1, 8)]
        self.all_limits = {"paper": LimitsRow("paper", 1, Limits(), "config", NOON)}

    def signal(self, signal_id: str) -> SignalRow | None:
        return self.rows.get(signal_id)

    def signals(self, limit: int, before: int = 0) -> tuple[SignalRow, ...]:
        rows = sorted(self.rows.values(), key=lambda r: -r.signal.received_ns)
        return tuple(r for r in rows if not before or r.signal.received_ns < before)[:limit]

    def order(self, cid: str) -> Order | None:
        return self.all_orders.get(cid)

    def orders(self, account: str | None, symbol: str | None, live_only: bool, limit: int) -> tuple[Order, ...]:
        return tuple(
            o
            for o in self.all_orders.values()
            if account in (None, o.account)
            and symbol in (None, o.symbol)
            and not (live_only and o.state is State.CLOSED)
        )[:limit]

    def positions(self, account: str | None = None) -> tuple[Position, ...]:
        return tuple(p for p in self.all_positions if account in (None, p.account))

    def trades(self, account: str | None, limit: int, before_ns: int = 0) -> tuple[Trade, ...]:
        newest_first = sorted(self.all_trades, key=lambda t: -t.opened_ns)
        return tuple(
            t for t in newest_first if account in (None, t.account) and (not before_ns or t.opened_ns < before_ns)
        )[:limit]

    def trade(self, trade_id: str) -> Trade | None:
        return next((t for t in self.all_trades if t.trade_id == trade_id), None)

    def halts(self) -> tuple[Halt, ...]:
        return ()

    def limits(self) -> tuple[LimitsRow, ...]:
        return tuple(self.all_limits.values())

    def accounts(self) -> tuple[AccountRow, ...]:
        return (AccountRow(account="paper", day="2024-08-08"),)

    def story(self, trace_id: str) -> tuple[Record, ...]:
        return tuple(r for r in self.chain if r.fact.trace_id == trace_id)

    def records(self, after: int = 0, limit: int = 1000) -> tuple[Record, ...]:
        return tuple(r for r in self.chain if r.seq > after)[:limit]

    def dead_letters(self, signal_id: str) -> tuple[DeadLettered, ...]:
        facts = (record.fact for record in self.chain)
        return tuple(f for f in facts if isinstance(f, DeadLettered) and f.signal_id == signal_id)

    def close(self) -> None: ...


def an_event(number: int) -> OutboxRow:
    event = Event(
        name="order.filled", account="paper", key="sf1entry", at_ns=NOON, trace_id="t-1", cause="", body={"qty": "0.5"}
    )
    return OutboxRow(event_id=number, event=event)


class SignalBody(msgspec.Struct):
    """As much of a signal as this engine looks at."""

    signal_id: str


class Engine:
    """What the ports do, and what they were asked."""

    def __init__(self) -> None:
        self.reader = ListReader()
        self.tally = Tally()
        self.submitted: list[tuple[bytes, str | None]] = []
        self.turned_away: list[tuple[int, str]] = []
        self.asked: list[tuple[object, ...]] = []
        self.halts: dict[str, Halt] = {}
        self.events = [an_event(n) for n in range(1, 4)]
        self.readers: list[trio.MemorySendChannel[OutboxRow]] = []
        self.reader_came, self.reader_left = trio.Event(), trio.Event()
        self.may_stop = trio.Event()
        self.may_stop.set()
        self.stopped = trio.Event()
        self.live = True
        self.left = False  # a stop does not get everything closed
        self.broken: BaseException | None = None

    def ports(self) -> Ports:
        return Ports(
            submit=self.submit,
            turn_away=self.turn_away,
            deliver=self.deliver,
            answer=answer,
            reader=self.reader,
            quote=lambda symbol: Quote(symbol, Decimal("2460"), Decimal("2461")) if symbol == "ETHUSDT" else None,
            health=self.health,
            stop=self.stop,
            resume=self.resume,
            flatten=self.flatten,
            close_position=self.close_position,
            set_limits=self.set_limits,
            subscribe=self.subscribe,
            tally=self.tally.snapshot,
            usage=lambda: {"paper": (Check("RSK4.positions_max", True, Decimal(1), Decimal(3), "positions"),)},
            dump=lambda: {"orders": self.reader.orders(None, None, True, 10)},
            now_ns=lambda: NOON,
        )

    async def deliver(
        self, name: str, headers: Mapping[str, str], raw: bytes, address: str, trace_id: str | None
    ) -> Receipt:
        """The hook "signed" takes what has a header `webhook-signature`."""
        if name != "signed":
            raise Unknown("there is no such hook")
        if "webhook-signature" not in headers:
            raise NotLetIn("signature", "a signature that fits is needed")
        return await self.submit(raw, trace_id)

    async def turn_away(self, raw: bytes, why: str, trace_id: str | None) -> Receipt:
        self.turned_away.append((len(raw), why))
        return Receipt("malformed", malformed=Malformed("http", (Refusal("", why),), "", NOON))

    async def submit(self, raw: bytes, trace_id: str | None) -> Receipt:
        self.submitted.append((raw, trace_id))
        if self.broken:
            raise self.broken
        try:
            signal_id = msgspec.json.decode(raw, type=SignalBody).signal_id
        except msgspec.DecodeError as error:
            reasons = (Refusal("", str(error)),)
            return Receipt("malformed", malformed=Malformed("http", reasons, raw.decode("utf-8", "replace"), NOON))
        known = self.reader.signal(signal_id)
        if known is not None:
            return Receipt("repeated", known)
        row = SignalRow(signal=a_signal(signal_id, trace_id or "t-new"), outcome=Outcome.ACCEPTED)
        return Receipt("accepted", row)

    def health(self) -> Health:
        return Health(
            live=self.live,
            protective_ready=True,
            entry_ready=not self.halts,
            components=(Component(name="journal", ok=True), Component(name="venue", ok=False, detail="no answer")),
            halts=tuple(self.halts.values()),
            streams=(StreamState("paper", True, NOON),),
            journal=JournalStats(seq=12, durable_seq=12, commits=5, commit_last_ns=300_000),
            channels=(Channel(name="gate", used=1, size=256),),
            started_ns=NOON,
            uptime_ns=5_000 * MS,
            build="0.1.0",
            durability="power",
        )

    async def stop(self, by: str, reason: str, flatten: bool) -> StopReport:
        self.asked.append(("stop", by, reason, flatten))
        self.halts["engine"] = Halt("engine", reason, NOON, by)
        await self.may_stop.wait()
        self.stopped.set()
        return self.report(by, reason)

    async def resume(self, scope: str, by: str, note: str, kind: HaltKind | None) -> ResumeReport:
        self.asked.append(("resume", scope, by, note, kind))
        halt = self.halts.pop(scope, None)
        if halt is None:
            raise Unknown(f"no halt of {scope!r} is in force")
        return ResumeReport(halts=tuple(self.halts.values()), ended=(halt,), remains=("a loss: ...",))

    async def flatten(self, account: str | None, symbol: str | None, by: str, reason: str) -> StopReport:
        self.asked.append(("flatten", account, symbol, by, reason))
        return self.report(by, reason)

    async def close_position(self, account: str, symbol: str, by: str) -> StopReport:
        self.asked.append(("close", account, symbol, by))
        if symbol != "ETHUSDT":
            raise Unknown(f"{account} holds nothing in {symbol}")
        return self.report(by, "close")

    async def set_limits(self, account: str, changes: dict[str, object], by: str) -> Limits:
        self.asked.append(("limits", account, changes, by))
        before = self.reader.all_limits.get(account)
        if before is None:
            raise Unknown(f"there is no account {account!r}")
        limits = replace(before.limits, **changes)
        if limits.stop_distance_min > limits.stop_distance_max:
            raise Refused(Refusal("stop_distance_min", "is above stop_distance_max"))
        self.reader.all_limits[account] = LimitsRow(account, before.version + 1, limits, by, NOON)
        return limits

    def report(self, by: str, reason: str) -> StopReport:
        held = PositionReport("ETHUSDT", Decimal("0.5"))
        return StopReport(
            by=by,
            reason=reason,
            complete=not self.left,
            halts=tuple(self.halts.values()),
            left=(Left(account="paper", positions=(held,) if self.left else ()),),
            took_ns=7 * MS,
        )

    @asynccontextmanager
    async def subscribe(self, after: int | None) -> AsyncIterator[trio.MemoryReceiveChannel[OutboxRow]]:
        send, receive = trio.open_memory_channel[OutboxRow](100_000)
        if after is not None:
            for row in self.events:
                if row.event_id > after:
                    send.send_nowait(row)
        self.readers.append(send)
        self.reader_came.set()
        try:
            with receive:
                yield receive
        finally:
            self.readers.remove(send)
            self.reader_left.set()


def answer(receipt: Receipt) -> tuple[int, bytes]:
    codes = {"accepted": 202, "repeated": 200, "conflict": 409, "busy": 503}
    row = receipt.row
    body: dict[str, object] = {"status": receipt.status, "signal_id": row.signal.signal_id if row else None}
    if receipt.malformed is not None:
        body["reasons"] = [r.reason for r in receipt.malformed.reasons]
    return codes.get(receipt.status, 422), msgspec.json.encode(body)


@asynccontextmanager
async def api(engine: Engine, terms: Terms | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """The API on a real loopback port, and a client for it; both gone at the end."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, engine.ports(), "127.0.0.1", 0, terms)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            yield client
        nursery.cancel_scope.cancel()


async def exchange(client: httpx.AsyncClient, request: bytes, until: bytes) -> bytes:
    """What comes back for these bytes on a bare socket, up to and with `until`, or to the end."""
    async with await trio.open_tcp_stream("127.0.0.1", client.base_url.port or 0) as stream:
        await stream.send_all(request)
        came = b""
        while until not in came and (some := await stream.receive_some(65536)):
            came += some
        return came
