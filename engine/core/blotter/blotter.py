"""One (account, symbol): its live orders and its position, and everything that is decided about them.

`handle` takes a batch of messages and the time, folds what they tell (`apply`), decides what follows, and returns a
`Step`: facts to journal, rows that changed, commands to carry out once the facts are durable, and a `Standing` for the
risk gate. Nothing here waits, and nothing is remembered that a restart could not load again: what a restart loses
(which look-ups are under way, which cancels were sent) is only when to ask next. `sheet.py` is what is remembered;
`enact.py`, `answers.py` and `reports.py` fold what comes, `follow.py` decides what follows from how things stand.

Doubt (RELIABILITY 4.5): an UNCLEAR order is looked up by client id on a schedule. It is declared missing only when two
look-ups, both after its dead time and a visibility bound apart, were answered and empty. An opener is then at its end;
it is never sent again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, assert_never

from msgspec import Struct

from engine.core.blotter.answers import answered, looked
from engine.core.blotter.enact import enact
from engine.core.blotter.follow import distrust, follow
from engine.core.blotter.reports import fold_comparison, fold_fill, fold_funding, fold_report
from engine.core.blotter.sheet import Seen, Sheet, Terms, Worth
from engine.core.messages import (
    ZERO,
    Answered,
    AnyFact,
    CancelEntries,
    Command,
    Compared,
    Enact,
    FillReport,
    Flatten,
    FundingReport,
    Halt,
    Instrument,
    Leg,
    Looked,
    Order,
    OrderReport,
    Position,
    Relisted,
    Row,
    Side,
    SignalEnded,
    Standing,
    State,
    Sweep,
    Trade,
    Unclear,
    Wake,
)
from engine.core.order import (
    opens,
    owed,
    remaining,
    settled,
)

Message: TypeAlias = (
    Enact
    | Answered
    | Looked
    | OrderReport
    | FillReport
    | FundingReport
    | Compared
    | Sweep
    | Relisted
    | Wake
    | Flatten
    | CancelEntries
)


class Step(Struct, frozen=True):
    """What followed from a batch of messages; to be journaled, then posted, then carried out."""

    facts: tuple[AnyFact, ...]
    rows: tuple[Row, ...]
    commands: tuple[Command, ...]
    halts: tuple[Halt, ...]
    standing: Standing | None  # None: nothing changed


class Blotter:
    """See the module. `signals` are accepted and not ended; `seen` are booked executions, by their ids."""

    def __init__(
        self,
        terms: Terms,
        instrument: Instrument,
        position: Position,
        orders: Iterable[Order] = (),
        trade: Trade | None = None,
        signals: Iterable[Enact] = (),
        seen: Iterable[tuple[str, Seen]] = (),
        worth: Worth = lambda asset: None,
    ) -> None:
        self._sheet = Sheet(terms, instrument, position, orders, trade, signals, seen, worth)

    @property
    def position(self) -> Position:
        return self._sheet.position

    @property
    def trade(self) -> Trade | None:
        return self._sheet.trade

    @property
    def orders(self) -> Mapping[str, Order]:
        """Not settled, by client order id."""
        return self._sheet.orders

    @property
    def ended(self) -> Mapping[str, Order]:
        """The last settled ones."""
        return self._sheet.ended

    @property
    def signals(self) -> Mapping[str, Enact]:
        """Accepted and not ended."""
        return self._sheet.signals

    @property
    def seen(self) -> Mapping[str, Seen]:
        """Booked executions: venue time and what each did to the position."""
        return self._sheet.seen

    @property
    def agreed_ns(self) -> int:
        """When the venue's position was last seen to be ours; 0: not in this run."""
        return self._sheet.agreed_ns

    def handle(self, batch: Sequence[Message], now_ns: int, standing: bool = True) -> Step:
        """Fold a batch of messages and decide what follows, at one moment.

        Without `standing` the caller asks for it himself, when an order is on its way.
        """
        sheet = self._sheet
        sheet.begin()
        for message in batch:
            self._take(message, now_ns)
        follow(sheet, now_ns, tidy=any(isinstance(m, Sweep) for m in batch))
        return self._step(now_ns, standing)

    def recover(self, now_ns: int) -> Step:
        """After a restart: whatever had no answer is unclear now; whatever was to be canceled or looked up, is."""
        sheet = self._sheet
        sheet.begin()
        sheet.recovered = True
        for order in tuple(sheet.orders.values()):
            if order.state is State.PENDING:
                sheet.tell(Unclear(at_ns=now_ns, cid=order.cid, why="restart", **sheet.of(order)))
        for signal_id, accepted in tuple(sheet.signals.items()):
            if not any(o.signal_id == signal_id for o in sheet.orders.values()):
                del sheet.signals[signal_id]
                enact(sheet, accepted, now_ns)
        follow(sheet, now_ns, tidy=True)
        return self._step(now_ns)

    def check(self) -> None:
        """Assert what must hold between steps."""
        sheet = self._sheet
        for cid, order in sheet.orders.items():
            assert cid == order.cid and not settled(order), f"{cid} is settled and still held"
            assert order.filled_qty >= 0, f"{cid} has a negative fill"
        assert not (sheet.position.qty == 0 and sheet.position.uncovered_ns), "a flat position cannot lack cover"
        entries: dict[str, int] = {}
        for order in (*sheet.orders.values(), *sheet.ended.values()):
            if order.leg is Leg.ENTRY:
                entries[order.signal_id] = entries.get(order.signal_id, 0) + 1
        assert all(n == 1 for n in entries.values()), f"a signal has two entries: {entries}"

    def standing(self, now_ns: int) -> Standing:
        """What this symbol holds and might hold."""
        sheet = self._sheet
        buying = selling = reserved = ZERO
        openers = unclear = moving = 0
        open_state, buy = State.OPEN, Side.BUY
        for order in sheet.orders.values():  # once for all figures: there may be hundreds, and each step comes by here
            if order.state is not open_state or order.cancel_asked or (order.venue_qty and owed(order)):
                moving += 1
                unclear += order.state is State.UNCLEAR
            if opens(order):
                left = remaining(order)
                openers += 1
                reserved += left * order.reserve_price
                if order.side is buy:
                    buying += left
                else:
                    selling += left
        return Standing(
            position=sheet.position,
            buying=buying,
            selling=selling,
            reserved=reserved,
            opening_orders=openers,
            live_orders=len(sheet.orders),
            unclear=unclear + (sheet.suspect is not None),
            moving=sheet.position.closing + moving,
            enacted=tuple(sheet.enacted),
            closed_trade=sheet.closed_trade,
            confirmed=tuple(sheet.confirmed),
            uncovered=sheet.uncovered(),
            stop_failures=sheet.stop_failures,
            agreed_ns=sheet.agreed_ns,
            at_ns=now_ns,
        )

    def _step(self, now_ns: int, standing: bool = True) -> Step:
        sheet = self._sheet
        told = sheet.facts or sheet.enacted or sheet.position is not sheet.before
        changed = bool(told) or sheet.suspect != sheet.suspect_before
        rows: list[Row] = [*sheet.touched.values()]
        if sheet.position is not sheet.before:
            rows.append(sheet.position)
        rows += sheet.trades.values()
        rows += (SignalEnded(confirmed=c) for c in sheet.confirmed)
        rows += sheet.events
        return Step(
            facts=tuple(sheet.facts),
            rows=tuple(rows),
            commands=tuple(sheet.commands),
            halts=tuple(sheet.halts),
            standing=self.standing(now_ns) if changed and standing else None,
        )

    def _take(self, message: Message, now_ns: int) -> None:
        sheet = self._sheet
        match message:
            case Enact():
                enact(sheet, message, now_ns)
            case Answered():
                answered(sheet, message, now_ns)
            case Looked():
                looked(sheet, message, now_ns)
            case OrderReport():
                fold_report(sheet, message, now_ns)
            case FillReport():
                fold_fill(sheet, message, now_ns)
            case FundingReport():
                fold_funding(sheet, message, now_ns)
            case Compared():
                fold_comparison(sheet, message, now_ns)
            case Flatten():
                sheet.cancel_entries(message.reason, now_ns)
                sheet.flatten(message.by, message.reason, message.trace_id, now_ns)
            case CancelEntries():
                sheet.cancel_entries(message.reason, now_ns)
            case Wake(at_ns=at_ns):
                # One that an earlier one has overtaken must not call for the next again: each would breed another.
                if at_ns == sheet.wake_ns or now_ns >= sheet.wake_ns:
                    sheet.wake_ns = 0
            case Relisted(instrument=instrument):
                sheet.instrument = instrument  # orders that stand keep their steps; what follows has the new ones
            case Sweep(passed_ns=passed_ns):
                if passed_ns:
                    distrust(sheet, passed_ns, now_ns)
            case _:
                assert_never(message)
