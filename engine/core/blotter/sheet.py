"""What a blotter remembers of its symbol, and the small verbs that the deciding parts share.

Every change goes through here: a fact is noted and folded in the same breath, so that what is written is what holds.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from engine.core.announce import alert_event, confirmation_event, order_event
from engine.core.ids import client_order_id, trade_id
from engine.core.messages import (
    ZERO,
    Accepted,
    Alerted,
    AnyFact,
    CancelAsked,
    Canceled,
    Command,
    Confirmed,
    Enact,
    Event,
    Expired,
    Filled,
    FlattenAsked,
    Halt,
    Instrument,
    Leg,
    Look,
    Missing,
    Order,
    OrderType,
    Outcome,
    Place,
    PlanSet,
    Position,
    Rejected,
    Side,
    State,
    Submitted,
    TimeInForce,
    Trade,
    Unclear,
    Unsent,
    Wake,
)
from engine.core.money import plain
from engine.core.order import (
    OrderFact,
    advance,
    average_price,
    opens,
    remaining,
    rests,
    settled,
    slippage,
    unfilled,
    untouched,
)
from engine.core.position import closable
from engine.core.protection import uncovered, wanted
from engine.core.times import SECOND

NEVER_NS = 1 << 63
LOOK_SECONDS = (1, 2, 4, 8, 15)  # then every 15
TARGET_AGAIN_NS = 5 * SECOND
STOP_ATTEMPTS = 3  # refused or silent in a row, before the position is closed instead


Worth: TypeAlias = Callable[[str], Decimal | None]  # asset -> quote per unit, None if not known


class Seen(Struct, frozen=True, gc=False):
    """A booked execution, as far as telling a repeat apart needs it."""

    venue_ns: int
    delta: Decimal  # what it did to the signed position, base
    cid: str = ""  # of its order


class Terms(Struct, frozen=True):
    """What a blotter needs to know about its account and venue. Durations are nanoseconds."""

    env: str
    window_ns: int
    queue_ns: int
    visible_ns: int
    stop_distance_default: Decimal | None  # fraction of the entry for a position that came without a plan
    started_ns: int = 0  # of the engine
    epoch: int = 0  # of this run: closers may go out when the journal cannot, and their ids must not come again


class Sheet:
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
        self.terms = terms
        self.instrument = instrument
        self.position = position
        self.trade = trade
        self.orders: dict[str, Order] = {o.cid: o for o in orders}
        self.ended: dict[str, Order] = {}
        self.signals: dict[str, Enact] = {e.signal.signal_id: e for e in signals}
        self.seen: dict[str, Seen] = dict(seen)
        self.worth = worth
        self.agreed_ns = 0
        self.stop_failures = 0
        self.not_before = {Leg.STOP: 0, Leg.TARGET: 0, Leg.EXIT: 0}  # when the next attempt of a leg may be made
        self.suspect: Decimal | None = None  # what the venue's position has more than ours, if it has
        self.suspect_ns = 0  # since when
        self.suspect_before: Decimal | None = None  # at the beginning of this step
        self.mismatched = False
        self.recovered = False  # there was an earlier life with something here
        self.compared_ns = 0  # when the venue's report was first seen after that
        self.left_over: dict[str, int] = {}  # closers of earlier lives that their journals could not take
        self.foreign: dict[str, int] = {}  # orders of others that were told of, by the venue's id: when last seen
        self.looks: dict[str, int] = {}  # look-ups asked for, per order
        self.looking: dict[str, int] = {}  # due time of the one under way
        self.canceling: dict[str, int] = {}  # when a cancel was last sent
        self.paged: dict[str, int] = {}
        self.untouched: dict[str, int] = {}  # stops of which a look-up has shown no execution: when it was asked
        self.distrusted: dict[str, int] = {}  # stops that are canceled for that: since when the market was beyond them
        self.wake_ns = 0
        self.limit_ns = 0  # no order's time limit is over before
        self.begin()

    def begin(self) -> None:
        self.facts: list[AnyFact] = []
        self.touched: dict[str, Order] = {}
        self.events: list[Event] = []
        self.commands: list[Command] = []
        self.halts: list[Halt] = []
        self.trades: dict[str, Trade] = {}
        self.enacted: list[str] = []
        self.confirmed: list[Confirmed] = []
        self.closed_trade: Trade | None = None
        self.before = self.position
        self.suspect_before = self.suspect

    def apply(self, fact: OrderFact) -> Order:
        """Fold one order fact into its order; raises IllegalTransition, KeyError for an order that is not held."""
        order = self.orders.get(fact.cid) or self.ended[fact.cid]
        after = advance(order, fact)
        (self.ended if fact.cid in self.ended else self.orders)[fact.cid] = after
        self.touched[fact.cid] = after
        return after

    def tell(self, fact: OrderFact) -> None:
        """A fact about an order: journal it, fold it, and count what it means for the next attempt of its leg."""
        self.facts.append(fact)
        order = self.apply(fact)
        if order.leg is Leg.ENTRY or not self._of_this_lifecycle(order):
            return  # what protected a position that has turned or gone since fails because of that
        match fact:
            case Canceled() | Expired() | Rejected() | Missing() if self._distrusted(order) and untouched(order):
                self._proven_false(order, fact.at_ns)
            case Canceled() | Expired() if not order.cancel_asked and unfilled(order):
                self._taken_away(order, fact.at_ns)
            case Rejected(kind="triggered"):  # the market is beyond it already: what it was to do is done now
                self.not_before[order.leg] = fact.at_ns + SECOND
                self.flatten("engine", f"the {order.leg.value} was passed before it stood", order.trace_id, fact.at_ns)
            case Accepted() if order.leg is Leg.STOP:
                self.not_before[Leg.STOP] = 0  # what was in doubt stands: if it is too small now, nothing is waited for
            case Rejected() if order.leg is Leg.STOP and (turning := self._turning()):
                # It may have come to a position that has turned or gone, of which nobody has told us yet. Ask for that.
                self.not_before[Leg.STOP] = fact.at_ns + SECOND // 5
                if turning.state is State.OPEN:
                    self.look(turning, fact.at_ns, soon=True)
            case Unsent() if order.leg is Leg.STOP and self._later(order):
                # It waited for a rate limit together with a later one, which leaves now in its place.
                self.not_before[Leg.STOP] = fact.at_ns + 2 * SECOND
            case Rejected() | Unsent() | Unclear() if order.leg is Leg.STOP:
                self.stop_failures += 1
                self.not_before[Leg.STOP] = fact.at_ns + (SECOND // 5 << min(self.stop_failures, 5))
            case Rejected() | Unsent() | Unclear() if order.leg is Leg.TARGET:
                self.not_before[Leg.TARGET] = fact.at_ns + TARGET_AGAIN_NS

    def _proven_false(self, stop: Order, at_ns: int) -> None:
        """It stood, did nothing when the market passed it, and is gone: close what it should have closed."""
        seconds = (at_ns - self.distrusted[stop.cid]) // SECOND
        why = f"the stop at {stop.trigger_price} did nothing, though the market was beyond it for {seconds} s"
        self.alert("critical", "unprotected", f"{why}: it covered nothing; closing the position", at_ns)
        self.flatten("engine", why, stop.trace_id, at_ns)
        self.not_before[Leg.STOP] = at_ns + SECOND

    def distrusts(self) -> bool:
        """Whether the stop that the position should have is being canceled because it covers nothing."""
        held = (self.orders[cid] for cid in self.distrusted if cid in self.orders)
        return any(self._distrusted(order) and not settled(order) for order in held)

    def _distrusted(self, order: Order) -> bool:
        """A stop of a position that has gone since, or that has been moved, is nothing to close for."""
        return order.cid in self.distrusted and self._of_this_lifecycle(order) and self.is_the_stop(order)

    def is_the_stop(self, order: Order) -> bool:
        """Whether an order is a stop as the position should have it now, of whatever quantity."""
        want = next((w for w in wanted(self.position, self.instrument) if w.leg is Leg.STOP), None)
        if want is None or order.leg is not Leg.STOP:
            return False
        return (order.side, order.trigger_price) == (want.side, want.trigger_price)

    def _turning(self) -> Order | None:
        """An order that takes the position away or round at once, and whose end we do not know yet, for a moment."""
        against = Side.SELL if self.position.qty > 0 else Side.BUY
        return next(
            (
                o
                for o in self.orders.values()
                if o.leg in (Leg.ENTRY, Leg.EXIT)
                and o.state in (State.PENDING, State.OPEN)
                and o.side is against
                and not rests(o)
                and remaining(o)
            ),
            None,
        )

    def _of_this_lifecycle(self, order: Order) -> bool:
        return order.signal_id.startswith(f"~{self.lifecycle_id()}/")

    def _later(self, order: Order) -> bool:
        """Whether a later one of its leg is on its way or stands."""
        later = (o for o in self.orders.values() if o.leg is order.leg and o.submitted_ns > order.submitted_ns)
        return any(o.state is not State.CLOSED and not o.cancel_asked for o in later)

    def _taken_away(self, order: Order, at_ns: int) -> None:
        """The venue (or a person) ended a protective order that we wanted. Once may happen; again is a failure.

        Not so where a later one is on its way or stands: some venues can only put the new one in the old one's place.
        """
        if self._later(order):
            return
        if order.leg is Leg.STOP:
            self.stop_failures += 1
            if self.stop_failures > 1:
                self.not_before[Leg.STOP] = at_ns + (SECOND // 5 << min(self.stop_failures, 5))
        elif order.leg is Leg.TARGET:
            self.not_before[Leg.TARGET] = at_ns + TARGET_AGAIN_NS

    def submit(self, order: Order, cause: str) -> None:
        self.facts.append(
            Submitted(
                at_ns=order.submitted_ns,
                account=order.account,
                symbol=order.symbol,
                trace_id=order.trace_id,
                cause=cause,
                order=order,
            )
        )
        assert order.cid not in self.orders and order.cid not in self.ended, f"{order.cid} exists already"
        self.orders[order.cid] = order
        self.touched[order.cid] = order
        if order.cancel_after_ns is not None:
            self.limit_ns = min(self.limit_ns, order.submitted_ns + order.cancel_after_ns)
        self.commands.append(Place(order=order))

    def closer(
        self,
        leg: Leg,
        side: Side,
        qty: Decimal,
        now_ns: int,
        order_type: OrderType = OrderType.MARKET,
        trigger_price: Decimal | None = None,
    ) -> Order:
        """A reduce-only order of this lifecycle. Epoch and attempt make sure that no id is used twice."""
        number = self.position.attempts
        self.position = replace(self.position, attempts=number + 1)
        owner = f"~{self.lifecycle_id()}/{self.terms.epoch}.{number >> 10}"
        return Order(
            cid=client_order_id(self.terms.env, self.position.account, owner, leg, number & 1023),
            account=self.position.account,
            symbol=self.position.symbol,
            signal_id=owner,
            leg=leg,
            attempt=number & 1023,
            side=side,
            order_type=order_type,
            qty=qty,
            tif=TimeInForce.GTC,
            trigger_price=trigger_price,
            reduce_only=True,
            reference_price=trigger_price or self.position.avg_price,
            trace_id=self.trade.trace_id if self.trade else "",
            submitted_ns=now_ns,
        )

    def lifecycle_id(self) -> str:
        return trade_id(self.position.account, self.position.symbol, self.position.serial)

    def cancel(self, order: Order, reason: str, now_ns: int) -> None:
        """Ask once; the sending, and sending again, follows from the flag."""
        if order.state is not State.CLOSED and not order.cancel_asked:
            self.tell(CancelAsked(at_ns=now_ns, cid=order.cid, reason=reason, **self.of(order)))

    def cancel_entries(self, reason: str, now_ns: int) -> None:
        for order in tuple(self.orders.values()):
            if opens(order):
                self.cancel(order, reason, now_ns)

    def may_open(self) -> bool:
        """Whether an opener is still live or in doubt: a cancel may yet lose to its fill."""
        return any(opens(o) and remaining(o) for o in self.orders.values())

    def flatten(self, by: str, reason: str, trace_id: str, now_ns: int) -> None:
        if self.position.closing or not (closable(self.position, self.instrument) or self.may_open()):
            return
        fact = FlattenAsked(
            at_ns=now_ns,
            account=self.position.account,
            symbol=self.position.symbol,
            trace_id=trace_id or (self.trade.trace_id if self.trade else ""),
            cause=by,
            reason=reason,
        )
        self.facts.append(fact)
        self.position = replace(self.position, closing=True)

    def plan(
        self, stop: Decimal | None, target: Decimal | None, waived: bool, cause: str, trace_id: str, now_ns: int
    ) -> None:
        position = self.position
        if (position.stop_loss, position.take_profit, position.stop_waived) == (stop, target, waived):
            return
        self.facts.append(
            PlanSet(
                at_ns=now_ns,
                account=position.account,
                symbol=position.symbol,
                trace_id=trace_id,
                cause=cause,
                stop_loss=stop,
                take_profit=target,
                stop_waived=waived,
            )
        )
        self.position = replace(position, stop_loss=stop, take_profit=target, stop_waived=waived)

    @property
    def in_doubt(self) -> bool:
        """Whether an order's outcome is not known, or the position's: nothing may be opened then (P4)."""
        return self.suspect is not None or State.UNCLEAR in [order.state for order in self.orders.values()]

    def end(
        self,
        enact: Enact,
        result: Outcome,
        now_ns: int,
        reason: str = "",
        orders: tuple[str, ...] = (),
        order: Order | None = None,
    ) -> None:
        signal = enact.signal
        confirmed = Confirmed(
            at_ns=now_ns,
            account=signal.account,
            symbol=signal.symbol,
            trace_id=signal.trace_id,
            cause=order.cid if order else signal.signal_id,
            signal_id=signal.signal_id,
            outcome=result,
            side=order.side if order else signal.side,
            asked_qty=order.qty if order else enact.plan.qty,
            filled_qty=order.filled_qty if order else ZERO,
            avg_price=average_price(order) if order else None,
            fees=order.fees if order else ZERO,
            slippage=slippage(order) if order else None,
            reason=reason,
            orders=orders,
            context=signal.context,
        )
        self.facts.append(confirmed)
        self.confirmed.append(confirmed)
        self.events.append(confirmation_event(confirmed))

    def look(self, order: Order, now_ns: int, soon: bool = False) -> None:
        """Ask for this order, unless that is under way. The wait grows with each time it was asked."""
        if order.cid in self.looking:
            return
        asked = self.looks.get(order.cid, 0)
        wait = 0 if soon and not asked else LOOK_SECONDS[min(asked, len(LOOK_SECONDS) - 1)]
        self.looks[order.cid] = asked + 1
        self.looking[order.cid] = now_ns + wait * SECOND
        since = order.submitted_ns - 60 * SECOND
        self.commands.append(Look(cid=order.cid, symbol=order.symbol, at_ns=now_ns + wait * SECOND, since_ns=since))

    def wake(self, at_ns: int) -> None:
        if not self.wake_ns or at_ns < self.wake_ns:
            self.wake_ns = at_ns
            self.commands.append(Wake(at_ns=at_ns))

    def uncovered(self) -> Decimal:
        if not self.position.qty:
            return ZERO
        return uncovered(self.position, self.instrument, (o for o in self.orders.values() if o.leg is Leg.STOP))

    def event(self, name: str, cid: str, now_ns: int, fill: Filled | None = None) -> None:
        order = self.orders.get(cid) or self.ended[cid]
        event = order_event(name, order, now_ns)
        if fill is not None:
            last = {
                "exec_id": fill.exec_id,
                "last_qty": plain(fill.qty),
                "last_price": plain(fill.price),
                "fee": plain(fill.fee),
                "fee_asset": fill.fee_asset,
                "maker": fill.maker,
            }
            event = replace(event, cause=fill.exec_id, body={**event.body, **last})
        self.events.append(event)

    def of(self, order: Order) -> dict[str, str]:
        return {
            "account": order.account,
            "symbol": order.symbol,
            "trace_id": order.trace_id,
            "cause": order.signal_id,
        }

    def alert(self, severity: str, kind: str, text: str, now_ns: int) -> None:
        alert = Alerted(
            at_ns=now_ns,
            account=self.position.account,
            symbol=self.position.symbol,
            severity=severity,
            kind=kind,
            text=text,
        )
        self.facts.append(alert)
        if severity == "critical":
            self.events.append(alert_event(alert))

    def quarantine(self, reason: str, now_ns: int) -> None:
        self.alert("critical", "quarantine", reason, now_ns)
        scope = f"symbol/{self.position.account}/{self.position.symbol}"
        self.halts.append(Halt(scope=scope, reason=reason, since_ns=now_ns, by="engine", kind="fault"))
