"""Every Struct that crosses a channel, the journal or the venue's edge, grouped by the edge it travels.

Commands are verbs, facts are past participles, reports are nouns. All are frozen and carry their `trace_id` and, where
they follow from something, the id of what caused them (`cause`). Money is `Decimal`, time is `*_ns: int` (nanoseconds
since the epoch, UTC). A journaled fact may gain fields only with a default, so that yesterday's journal still loads.
"""

from decimal import Decimal
from enum import Enum
from typing import Literal, TypeAlias

from msgspec import Struct

ZERO = Decimal(0)


class Message(Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """Fields only; no behaviour is inherited."""


# --------------------------------------------------------------------------------------------------- words of the trade


class Side(Enum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(Enum):
    MARKET = "market"
    LIMIT = "limit"
    STOP_MARKET = "stop_market"
    STOP_LIMIT = "stop_limit"
    TAKE_PROFIT_MARKET = "take_profit_market"
    TAKE_PROFIT_LIMIT = "take_profit_limit"

    @property
    def conditional(self) -> bool:
        """Rests at the venue until the market trades through its trigger price."""
        return self not in (OrderType.MARKET, OrderType.LIMIT)


class TimeInForce(Enum):
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    POST_ONLY = "post_only"


class Leg(Enum):
    """What an order is for, seen from the position."""

    ENTRY = "entry"
    STOP = "stop"
    TARGET = "target"
    EXIT = "exit"


class Action(Enum):
    """What a signal asks for."""

    OPEN = "open"  # take a new or larger position
    TARGET = "target"  # be exactly this position
    CLOSE = "close"  # flatten the position
    REDUCE = "reduce"  # close a part of it
    MOVE_STOP = "move_stop"
    MOVE_TARGET = "move_target"
    CANCEL = "cancel"  # cancel resting entries
    RECORD = "record"  # `wait`, `bad`: written down, not executed


class InstrumentKind(Enum):
    SPOT = "spot"
    LINEAR = "linear"  # futures margined and settled in the quote currency


class Instrument(Message, frozen=True):
    """A symbol at a venue with its rules. Steps and minima are exact; fees are fractions of notional."""

    symbol: str
    venue: str
    kind: InstrumentKind
    base: str
    quote: str
    tick: Decimal  # price step, quote per base
    lot: Decimal  # quantity step, base
    qty_min: Decimal
    qty_max: Decimal
    notional_min: Decimal  # quote
    maker_fee: Decimal = Decimal("0.0002")
    taker_fee: Decimal = Decimal("0.00055")
    leverage_max: Decimal = Decimal(1)


class Quote(Message, frozen=True):
    """Best bid and ask of one symbol as last heard, and when."""

    symbol: str
    bid: Decimal
    ask: Decimal
    bid_qty: Decimal = ZERO
    ask_qty: Decimal = ZERO
    at_ns: int = 0

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2


# ----------------------------------------------------------------------------------------------------- source -> ingest


class Quantity(Message, frozen=True, tag="quantity"):
    """So much of the base currency."""

    qty: Decimal


class QuoteAmount(Message, frozen=True, tag="quote_amount"):
    """So much of the quote currency's worth."""

    amount: Decimal


class BalanceShare(Message, frozen=True, tag="balance_share"):
    """A fraction of the account's equity (0.02 is 2 %). None takes the account's default."""

    fraction: Decimal | None = None


class RiskShare(Message, frozen=True, tag="risk_share"):
    """Lose this fraction of equity, no more, if the stop is hit."""

    fraction: Decimal


class TargetPosition(Message, frozen=True, tag="target_position"):
    """Signed base quantity to end up with."""

    qty: Decimal


class HedgeShare(Message, frozen=True, tag="hedge_share"):
    """This ratio of an exposure in base currency."""

    exposure: Decimal
    ratio: Decimal


class PositionShare(Message, frozen=True, tag="position_share"):
    """This fraction of the open position (reduce)."""

    fraction: Decimal


Size: TypeAlias = Quantity | QuoteAmount | BalanceShare | RiskShare | TargetPosition | HedgeShare | PositionShare


class Signal(Message, frozen=True):
    """An instruction from outside. `signal_id` is unique per engine; `body_hash` is over the canonical body."""

    signal_id: str
    account: str
    symbol: str
    action: Action
    source: str  # name of the source it came by
    dialect: str
    body_hash: str
    trace_id: str
    received_ns: int
    valid_until_ns: int
    created_ns: int | None = None
    venue: str | None = None  # when the signal names one, it must be the account's
    side: Side | None = None
    size: Size | None = None
    order_type: OrderType = OrderType.MARKET
    tif: TimeInForce = TimeInForce.GTC
    limit_price: Decimal | None = None
    reference_price: Decimal | None = None  # what the decider saw
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    strength: Decimal | None = None
    confluence: Decimal | None = None
    confidence: Decimal | None = None
    reduce_only: bool = False
    hedge: bool = False  # a hedge may go without a stop where the account allows it
    refers_to: str | None = None  # CANCEL of one earlier signal's orders
    cancel_after_seconds: Decimal | None = None  # time limit of the entry order
    note: str = ""  # `wait`, `bad` and the like, for RECORD
    context: tuple[tuple[str, str], ...] = ()  # ids and figures of the sender, carried into the confirmation


class Refusal(Message, frozen=True):
    """One reason why a body is no signal: the field (dotted path, "" for the whole) and a sentence."""

    field: str
    reason: str


class Malformed(Message, frozen=True):
    """A body that could not become a signal, with every reason at once."""

    source: str
    reasons: tuple[Refusal, ...]
    raw: str  # the first 2,000 characters, undecodable bytes escaped
    received_ns: int
    signal_id: str | None = None
    place: str = ""  # where the transport found it, such as file and offset


class Stamp(Message, frozen=True):
    """What the sender of a policy says of its place among others; None: nothing."""

    made_ns: int | None = None  # when it was made, by his clock
    version: int | None = None


class Control(Message, frozen=True):
    """An event that steers the engine: `ess.tripped`, `ess.cleared`, `policy.updated` or `model.promoted`.

    `body` is the event's own data as canonical JSON. `changes` (policy.updated only) are fields of Limits with values
    already of their types.
    """

    name: str
    account: str  # "" for all
    body: str
    source: str
    trace_id: str
    received_ns: int
    control_id: str
    changes: tuple[tuple[str, object], ...] = ()
    stamp: Stamp = Stamp()  # policy.updated only
    body_hash: str = ""
    names: tuple[str, ...] = ()  # known by these it is a repeat; none: it is carried out as often as it comes


# ------------------------------------------------------------------------------------------------------- ingest -> gate


class Check(Message, frozen=True, tag=False):
    """One rule's answer with the numbers it compared. `value` is ours, `limit` the rule's.

    Without a tag, since it stands in no union: a verdict has some thirty of them, and is written twice.
    """

    rule: str  # "RSK4.order_notional_max"
    passed: bool
    value: Decimal | None = None
    limit: Decimal | None = None
    unit: str = ""
    reason: str = ""  # a sentence, only when not passed (or waived)


class Outcome(Enum):
    """How far a signal has come; all but ACCEPTED are final."""

    ACCEPTED = "accepted"  # on its way; ends in one of the next six
    EXECUTED = "executed"  # all that was asked for is filled / done
    PARTIAL = "partial"  # ended with a part of it filled
    UNFILLED = "unfilled"  # ended with nothing filled (canceled, expired)
    REJECTED = "rejected"  # by the venue
    ABSENT = "absent"  # doubt settled: it never reached the venue
    FAILED = "failed"  # by us after acceptance (halted before the send, too late)
    REFUSED = "refused"  # by the risk gate
    RECORDED = "recorded"  # `wait`, `bad`, control events


class Plan(Message, frozen=True):
    """What an accepted signal became: sized, rounded, priced. Units as in `Signal`."""

    action: Action
    side: Side | None = None
    qty: Decimal = ZERO
    order_type: OrderType = OrderType.MARKET
    tif: TimeInForce = TimeInForce.GTC
    price: Decimal | None = None
    reduce_only: bool = False
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    reference_price: Decimal = ZERO
    reserve_price: Decimal = ZERO  # what one unit counts for in exposure while in flight
    valid_until_ns: int = 0  # not sent after this
    cancel_after_ns: int | None = None  # entry is canceled this long after the send
    refers_to: str | None = None


class Enact(Message, frozen=True):
    """gate -> order actor: carry out an accepted signal."""

    signal: Signal
    plan: Plan
    received_tick: int = 0  # monotonic ns, for the histograms only
    judged_tick: int = 0


# -------------------------------------------------------------------------------------------------------------- orders


class State(Enum):
    PENDING = "pending"  # intent written; only the venue knows
    UNCLEAR = "unclear"  # an answer did not come, or made no sense
    OPEN = "open"
    CLOSED = "closed"


class Ending(Enum):
    """Why an order is CLOSED."""

    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    MISSING = "missing"  # proven never to have arrived
    UNSENT = "unsent"  # we ourselves did not send it (halted, too late)


class Order(Message, frozen=True):
    """One order as we know it; what the journal's `orders` table holds."""

    cid: str
    account: str
    symbol: str
    signal_id: str
    leg: Leg
    attempt: int
    side: Side
    order_type: OrderType
    qty: Decimal
    tif: TimeInForce = TimeInForce.GTC
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    reduce_only: bool = False
    reserve_price: Decimal = ZERO
    reference_price: Decimal = ZERO
    valid_until_ns: int = 0
    cancel_after_ns: int | None = None
    trace_id: str = ""
    venue_order_id: str = ""
    state: State = State.PENDING
    ending: Ending | None = None
    reason: str = ""  # venue's code and text, or our own words
    filled_qty: Decimal = ZERO  # sum of fills booked here
    filled_quote: Decimal = ZERO
    venue_qty: Decimal = ZERO  # cumulative quantity the venue has reported; more than filled_qty asks for backfill
    fees: Decimal = ZERO  # quote worth of the fees that could be priced
    cancel_asked: bool = False
    unclear_ns: int = 0  # since when
    rounds: int = 0  # look-ups of an unclear order that came back empty after its dead time
    round_ns: int = 0  # when the last of them was
    submitted_ns: int = 0
    accepted_ns: int = 0
    closed_ns: int = 0


# ------------------------------------------------------------------------------------------------ order actor -> venue


class Place(Message, frozen=True):
    """Send this order, once its intent is durable."""

    order: Order


class Cancel(Message, frozen=True):
    """Cancel by client id."""

    cid: str
    symbol: str
    venue_order_id: str = ""


class Look(Message, frozen=True):
    """Ask the venue for this order by client id, not before `at_ns`."""

    cid: str
    symbol: str
    at_ns: int
    since_ns: int = 0  # its fills are not older than this


class Wake(Message, frozen=True):
    """Call this actor again at `at_ns`."""

    at_ns: int


Command: TypeAlias = Place | Cancel | Look | Wake


# ------------------------------------------------------------------------------------------------ venue -> order actor


class Acked(Message, frozen=True):
    """Yes: the venue took the request. For a market order the fills still come by report."""

    venue_order_id: str
    venue_ns: int = 0


class Rejection(Message, frozen=True):
    """No, in the venue's own words: surely not executed. `code` is the venue's, `kind` of our vocabulary."""

    code: str
    # invalid | insufficient | triggered (a stop beyond the market) | rate_limited | not_found | duplicate | auth |
    # unavailable | not_sent; and our own "unsent": halted or late, no byte left the process
    kind: str
    text: str = ""


class Silence(Message, frozen=True):
    """Unclear: the request may or may not have had its effect."""

    why: str


Answer: TypeAlias = Acked | Rejection | Silence


class Failed(Message, frozen=True):
    """A query that did not succeed. Never to be read as an empty answer.

    `soon`: the same question, asked again at once, may be answered; else it takes seconds, and costs what it costs.
    """

    why: str
    soon: bool = True


class NotFound(Message, frozen=True):
    """The venue answered that it does not know the id (now, here)."""

    cid: str


class OrderReport(Message, frozen=True):
    """The venue's word on one order, from the stream, a query or a snapshot."""

    symbol: str
    cid: str
    venue_order_id: str
    status: str  # open | filled | canceled | expired | rejected
    side: Side
    order_type: OrderType
    qty: Decimal
    filled_qty: Decimal
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    reduce_only: bool = False
    reason: str = ""
    venue_ns: int = 0


class FillReport(Message, frozen=True):
    """One execution. `exec_id` is unique per (venue, symbol); `fee` is positive when paid, in `fee_asset`."""

    symbol: str
    exec_id: str
    cid: str
    venue_order_id: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool = False
    venue_ns: int = 0


class FundingReport(Message, frozen=True):
    """Funding paid (negative) or received on a futures position."""

    symbol: str
    funding_id: str
    amount: Decimal
    asset: str
    venue_ns: int = 0


class TransferReport(Message, frozen=True):
    """A deposit, a withdrawal, or a transfer between an owner's wallets, as the venue has written it down.

    `transfer_id` is unique per account; `amount` is positive when it came in; `kind` is the venue's own word.
    """

    transfer_id: str
    asset: str
    amount: Decimal
    kind: str = ""
    venue_ns: int = 0


class PositionReport(Message, frozen=True):
    """The venue's position: signed base quantity and average entry.

    A spot venue keeps no positions: there `qty` is what the wallet holds of the base currency, of which the position is
    a part (`wallet`). Less than our books say is a difference; more may have been there before.
    """

    symbol: str
    qty: Decimal
    avg_price: Decimal = ZERO
    venue_ns: int = 0
    wallet: bool = False


class BalanceReport(Message, frozen=True):
    """Total and locked amount of one currency."""

    asset: str
    total: Decimal
    locked: Decimal = ZERO


class StreamState(Message, frozen=True):
    """The private stream of an account went up (after its snapshot) or down."""

    account: str
    up: bool
    at_ns: int
    why: str = ""


VenueReport: TypeAlias = OrderReport | FillReport | FundingReport


class Answered(Message, frozen=True):
    """The venue's answer to Place or Cancel, brought back to the order actor."""

    cid: str
    request: str  # "place" | "cancel"
    answer: Answer
    sent_ns: int = 0  # wall time just before the first byte
    at_ns: int = 0


class Looked(Message, frozen=True):
    """What a Look found: the order with all its fills, its absence, or nothing learnt."""

    cid: str
    found: OrderReport | NotFound | Failed
    fills: tuple[FillReport, ...] = ()
    asked_ns: int = 0
    at_ns: int = 0
    horizon_ok: bool = True  # False: too old for the venue's memory, absence proves nothing


class Compared(Message, frozen=True):
    """reconciler -> order actor: the venue's whole view of this symbol, read between `asked_ns` and `at_ns`.

    `orders` are the open ones; `fills` those since the last reconciled moment. A Compared is only sent when every
    query behind it succeeded.
    """

    position: PositionReport
    orders: tuple[OrderReport, ...]
    fills: tuple[FillReport, ...]
    asked_ns: int
    at_ns: int
    transfers: tuple[TransferReport, ...] = ()  # of the base currency, on spot


class Sweep(Message, frozen=True):
    """protector -> order actor: look over everything you hold.

    `passed_ns`: since when the market has been beyond the position's stop, by quotes that were fresh at every look; 0:
    it is not, or nobody knows.
    """

    at_ns: int
    passed_ns: int = 0


class Relisted(Message, frozen=True):
    """relister -> order actor: the venue has other rules for this symbol now."""

    instrument: Instrument


class Flatten(Message, frozen=True):
    """Cancel entries and close the position with a reduce-only market order."""

    by: str
    reason: str
    trace_id: str = ""


class CancelEntries(Message, frozen=True):
    """Cancel every resting or doubtful opening order."""

    by: str
    reason: str
    trace_id: str = ""


# -------------------------------------------------------------------------------------------------- positions and money


class Position(Message, frozen=True):
    """One (account, symbol): the running ledger. Cumulative figures never reset, so a day's share is a difference."""

    account: str
    symbol: str
    qty: Decimal = ZERO  # signed base
    avg_price: Decimal = ZERO  # average cost of what is open
    cost: Decimal = ZERO  # signed quote cost of what is open, exact; avg_price is cost / qty
    realised: Decimal = ZERO  # quote, before fees, cumulative
    fees: Decimal = ZERO  # quote worth of all fees that could be priced, cumulative, positive = paid
    funding: Decimal = ZERO  # quote, cumulative, negative = paid
    volume: Decimal = ZERO  # quote traded, cumulative
    fees_unpriced: tuple[tuple[str, Decimal], ...] = ()  # by asset, sorted; could not be turned into quote
    cash: Decimal = ZERO  # quote moved by trades, fees in quote and funding, cumulative: equals the wallet's change
    serial: int = 0  # lifecycles so far; the open trade is number `serial`
    stop_loss: Decimal | None = None  # plan for what is open
    take_profit: Decimal | None = None
    stop_waived: bool = False
    uncovered_ns: int = 0  # since when a live stop is missing; 0: covered, waived or flat
    closing: bool = False  # a flatten was asked for and is not done
    withdrawn: Decimal = ZERO  # base that was withdrawn out of it, cumulative; see Withdrawn
    attempts: int = 0  # protective and exit orders sent in this lifecycle; makes their ids unique
    updated_ns: int = 0


class Trade(Message, frozen=True):
    """One lifecycle of a position, from flat to flat."""

    trade_id: str  # account/symbol/serial
    account: str
    symbol: str
    side: Side
    state: str  # POS1: created | submitting | open | monitoring | closing | closed | failed
    signal_id: str = ""
    source: str = ""
    entry_qty: Decimal = ZERO
    entry_price: Decimal = ZERO
    exit_qty: Decimal = ZERO
    exit_price: Decimal = ZERO
    realised: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    opened_ns: int = 0
    closed_ns: int = 0
    exposed_ns: int = 0  # nanoseconds without full stop cover
    trace_id: str = ""

    @property
    def net(self) -> Decimal:
        return self.realised - self.fees + self.funding


class Standing(Message, frozen=True):
    """order actor -> gate, after each step: what this symbol holds and might hold. Absolute, so repeats do no harm.

    Quantities of openers are kept by side and never netted; `enacted` names the signals taken up in this step, whose
    provisional reservation in the gate this Standing replaces.
    """

    position: Position
    buying: Decimal  # base quantity that may still be bought by live or doubtful opening orders
    selling: Decimal
    reserved: Decimal  # quote worth of both
    opening_orders: int
    live_orders: int
    unclear: int  # orders in doubt, and one more while the venue shows another position than ours
    moving: int = 0  # orders on their way, in doubt or being canceled; and a flatten that is not done
    enacted: tuple[str, ...] = ()
    closed_trade: Trade | None = None
    confirmed: "tuple[Confirmed, ...]" = ()  # signals that ended in this step
    uncovered: Decimal = ZERO  # base quantity without a live stop
    stop_failures: int = 0  # stops refused or gone silent in a row
    agreed_ns: int = 0  # when the venue's position was last seen to be ours
    at_ns: int = 0


class BalancesSeen(Message, frozen=True):
    """reconciler -> gate: an account's wallet, as the venue told it. None: it cannot be read, and is not known.

    `transfers` are all of late; those that are booked already say nothing new.
    """

    account: str
    balances: tuple[BalanceReport, ...] | None
    at_ns: int
    transfers: tuple[TransferReport, ...] = ()
    venue_ns: int = 0  # the venue's time when it was asked


class Timed(Message, frozen=True):
    """order actor -> metrics: when one order passed each stage, on the monotonic clock in ns (0: not passed)."""

    account: str
    symbol: str
    leg: Leg
    received: int = 0  # the signal's bytes were read
    judged: int = 0
    durable: int = 0
    wire: int = 0  # just before the order's first byte
    answered: int = 0


# ------------------------------------------------------------------------------------------------------ limits, halts


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account's limits (SPEC RSK). Fractions are of one (0.02 = 2 %), money is quote currency, durations seconds."""

    strength_min: Decimal = Decimal("0.5")
    confluence_min: Decimal = Decimal("3.0")
    confidence_min: Decimal = Decimal("0.5")
    symbols: tuple[str, ...] = ()  # allow-list; empty allows every instrument of the venue
    balance_share: Decimal = Decimal("0.02")
    balance_share_max: Decimal = Decimal("0.05")
    risk_share_max: Decimal = Decimal("0.02")
    stop_distance_default: Decimal = Decimal("0.01")
    stop_distance_min: Decimal = Decimal("0.0005")
    stop_distance_max: Decimal = Decimal("0.02")
    adjust_stops: bool = False  # move a stop that is too near or too far instead of refusing
    stop_required: bool = True
    stop_waived_for_hedges: bool = False
    reward_risk_min: Decimal = Decimal("1.5")
    order_btc_max: Decimal = Decimal("1")  # 1 BTC, or its worth in other symbols
    btc_price: Decimal = Decimal("60000")  # worth of a bitcoin while no quote of one is at hand
    order_notional_min: Decimal = Decimal("5")
    position_notional_max: Decimal = Decimal("60000")
    positions_max: int = 3
    exposure_max: Decimal = Decimal("120000")
    daily_volume_btc_max: Decimal = Decimal("10")
    orders_per_second: int = 10
    orders_per_minute: int = 120
    orders_per_day: int = 5000
    symbol_pause_seconds: Decimal = Decimal("0")
    duplicate_window_seconds: Decimal = Decimal("5")
    daily_loss_max: Decimal = Decimal("500")
    drawdown_max: Decimal = Decimal("0.10")
    losses_in_row_max: int = 5
    loss_latch: str = "acknowledge"  # or "day"
    price_deviation_max: Decimal = Decimal("0.01")
    reference_drift_max: Decimal = Decimal("0.005")
    quote_age_max_seconds: Decimal = Decimal("3")
    slippage_max: Decimal = Decimal("0.01")
    leverage_max: Decimal = Decimal("2")
    signal_ttl_seconds: Decimal = Decimal("10")


HaltKind = Literal["stop", "fault", "loss", "ess"]  # a person; the engine itself; RSK5; an emergency event (RSK8)


class Halt(Message, frozen=True):
    """A closed door. Scope is "engine", "venue/V", "account/A" or "symbol/A/S"; entries stop, protection passes.

    Several may close one scope, one for each (kind, by): it is open again when each has been ended in its own way.
    """

    scope: str
    reason: str
    since_ns: int
    by: str
    latched: bool = True  # needs a resume; else it ends at until_ns
    until_ns: int | None = None
    kind: HaltKind | None = None  # None: written before there were kinds; `kind_of` tells


# -------------------------------------------------------------------------------------------------- facts, as journaled


class Fact(Message, frozen=True, kw_only=True):
    """Something that happened. `cause` is the id of the signal, order, report or person behind it."""

    at_ns: int
    account: str = ""
    symbol: str = ""
    trace_id: str = ""
    cause: str = ""


class EngineStarted(Fact, frozen=True):
    epoch: int
    build: str
    config_hash: str


class EngineStopped(Fact, frozen=True):
    left: str  # what was still open, in words


class SignalReceived(Fact, frozen=True):
    signal: Signal


class DeadLettered(Fact, frozen=True):
    source: str
    reasons: tuple[Refusal, ...]
    raw: str
    signal_id: str | None = None
    place: str = ""  # where the transport found it, such as file and offset


class SignalConflicted(Fact, frozen=True):
    """The same id came with another body; not executed."""

    signal_id: str
    first_hash: str
    other_hash: str
    source: str


class Judged(Fact, frozen=True):
    """The verdict."""

    signal_id: str
    outcome: Outcome  # ACCEPTED, REFUSED or RECORDED
    checks: tuple[Check, ...]
    plan: Plan | None = None
    limits_version: int = 0
    took_ns: int = 0


class Submitted(Fact, frozen=True):
    """The intent: an order is about to be sent."""

    order: Order


class Unsent(Fact, frozen=True):
    """The intent was not carried out; no byte left the process."""

    cid: str
    reason: str


class Accepted(Fact, frozen=True):
    cid: str
    venue_order_id: str
    venue_ns: int = 0


class Rejected(Fact, frozen=True):
    cid: str
    code: str
    kind: str
    text: str = ""


class Unclear(Fact, frozen=True):
    cid: str
    why: str


class Filled(Fact, frozen=True):
    """One execution booked. `cid` is empty or unknown for a foreign fill."""

    cid: str
    exec_id: str
    venue_order_id: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    fee_quote: Decimal | None  # worth of the fee in quote; None: could not be priced
    maker: bool = False
    foreign: bool = False
    venue_ns: int = 0
    realised: Decimal = ZERO  # what this fill realised, quote, before fees
    delta: Decimal = ZERO  # what it did to the signed position, base; a fee in base included
    leg: Leg | None = None


class CancelAsked(Fact, frozen=True):
    cid: str
    reason: str


class CancelFailed(Fact, frozen=True):
    """The cancel was refused or went silent; the order's own state is unchanged by that."""

    cid: str
    why: str


class Canceled(Fact, frozen=True):
    cid: str
    reason: str = ""


class Expired(Fact, frozen=True):
    cid: str
    reason: str = ""


class LookedUp(Fact, frozen=True):
    """A doubtful order was not found by a look-up after its dead time (`round` of those needed)."""

    cid: str
    round: int


class Missing(Fact, frozen=True):
    """Proven: the order never reached the venue and can no longer do so."""

    cid: str


class Reported(Fact, frozen=True):
    """The venue's cumulative quantity ran ahead of the fills we hold."""

    cid: str
    venue_qty: Decimal


class Corrected(Fact, frozen=True):
    """An event after the end of an order; recorded and alerted, never lost."""

    cid: str
    what: str


class ForeignSeen(Fact, frozen=True):
    """An order that is not ours stands in our account."""

    venue_order_id: str
    cid: str
    report: OrderReport


class FundingPaid(Fact, frozen=True):
    funding_id: str
    amount: Decimal
    asset: str
    venue_ns: int = 0


class Transferred(Fact, frozen=True, kw_only=True):
    """An account's wallet has changed by what its owner did, which is no profit and no loss."""

    transfer_id: str
    asset: str
    amount: Decimal
    kind: str = ""
    venue_ns: int = 0


class Withdrawn(Fact, frozen=True, kw_only=True):
    """On spot: coins of a position were transferred away; what was paid for them goes with them."""

    transfer_id: str
    qty: Decimal  # base, positive
    venue_ns: int = 0


class PlanSet(Fact, frozen=True):
    """Stop and target of the open position, from an entry, a move, or the default."""

    stop_loss: Decimal | None
    take_profit: Decimal | None
    stop_waived: bool = False


class FlattenAsked(Fact, frozen=True, kw_only=True):
    """The position is to be closed, whatever it takes; ends when it is flat."""

    reason: str


class TradeOpened(Fact, frozen=True):
    trade: Trade


class TradeClosed(Fact, frozen=True):
    trade: Trade


class Uncovered(Fact, frozen=True):
    """The position is not (fully) covered by a live stop, since `at_ns`."""

    missing_qty: Decimal


class Covered(Fact, frozen=True):
    """Cover is complete again, or the position that had none is gone or turned, after `exposed_ns`."""

    exposed_ns: int


class Confirmed(Fact, frozen=True):
    """A signal's end: what was asked, what came of it."""

    signal_id: str
    outcome: Outcome
    side: Side | None = None
    asked_qty: Decimal = ZERO
    filled_qty: Decimal = ZERO
    avg_price: Decimal | None = None
    fees: Decimal = ZERO
    slippage: Decimal | None = None  # fraction of the reference price, positive = worse
    reason: str = ""
    orders: tuple[str, ...] = ()
    context: tuple[tuple[str, str], ...] = ()


class Halted(Fact, frozen=True):
    halt: Halt


class Resumed(Fact, frozen=True):
    """Halts of a scope were ended: those of one kind and maker, or of all (None, "")."""

    scope: str
    by: str
    note: str = ""
    kind: HaltKind | None = None
    whose: str = ""


class LimitsSet(Fact, frozen=True):
    """`changed` says what was before: (limit, old, new) as texts, old "" where there was none."""

    version: int
    limits: Limits
    by: str
    changed: tuple[tuple[str, str, str], ...] = ()


class ControlReceived(Fact, frozen=True):
    """An event that steers the engine (ESS, policy, model promoted)."""

    name: str
    body: str
    source: str


class DayRolled(Fact, frozen=True):
    """The venue's day changed; baselines for daily limits."""

    day: str
    baseline_net: Decimal
    baseline_volume: Decimal


class Mismatched(Fact, frozen=True):
    """Our books and the venue's differ; the symbol is quarantined."""

    what: str
    ours: str
    theirs: str


class Alerted(Fact, frozen=True):
    severity: str  # info | warning | critical
    kind: str
    text: str


class Archived(Fact, frozen=True, kw_only=True):
    """The facts `first_seq` to `last_seq` have gone to a file, and with them the rows of what had ended by then."""

    first_seq: int
    last_seq: int
    last_hash: str  # of fact `last_seq`, hexadecimal
    name: str  # of the file
    digest: str  # of the file's lines, hexadecimal
    by: str


class Discarded(Fact, frozen=True, kw_only=True):
    """A file of archived facts was deleted on purpose; the hash of its last fact stays."""

    first_seq: int
    last_seq: int
    name: str
    by: str


class KeyNoted(Fact, frozen=True, kw_only=True):
    """A key of the vault was decrypted for use, added, rotated or removed; what it is, nobody writes down."""

    name: str
    what: str  # decrypted | added | rotated | removed
    by: str  # for what: run, check, keys rotate


AnyFact: TypeAlias = (
    EngineStarted
    | EngineStopped
    | SignalReceived
    | DeadLettered
    | SignalConflicted
    | Judged
    | Submitted
    | Unsent
    | Accepted
    | Rejected
    | Unclear
    | Filled
    | CancelAsked
    | CancelFailed
    | Canceled
    | Expired
    | LookedUp
    | Missing
    | Reported
    | Corrected
    | ForeignSeen
    | FundingPaid
    | Transferred
    | Withdrawn
    | PlanSet
    | FlattenAsked
    | TradeOpened
    | TradeClosed
    | Uncovered
    | Covered
    | Confirmed
    | Halted
    | Resumed
    | LimitsSet
    | ControlReceived
    | DayRolled
    | Mismatched
    | Alerted
    | Archived
    | Discarded
    | KeyNoted
)


# ------------------------------------------------------------------------------------- rows that go with facts


class SignalRow(Message, frozen=True):
    """The state of one signal; written when it is received and judged."""

    signal: Signal
    outcome: Outcome
    checks: tuple[Check, ...] = ()
    plan: Plan | None = None
    confirmed: Confirmed | None = None


class SignalEnded(Message, frozen=True):
    """Closes a SignalRow: its outcome and confirmation."""

    confirmed: Confirmed


class AccountRow(Message, frozen=True):
    """Baselines of one account that must survive a restart."""

    account: str
    day: str = ""  # venue day (UTC), YYYY-MM-DD
    baseline_net: Decimal = ZERO
    baseline_volume: Decimal = ZERO
    start_equity: Decimal = ZERO  # equity when the account was first seen
    peak_equity: Decimal = ZERO
    losses_in_row: int = 0
    orders_today: int = 0
    limits_version: int = 0
    reconciled_ns: int = 0  # fills up to here are booked
    transfers: tuple[str, ...] = ()  # the last ones that are booked, by id


class Reconciled(Message, frozen=True):
    """Row: the venue's executions of an account are booked up to this venue time."""

    account: str
    venue_ns: int


class LimitsRow(Message, frozen=True):
    """`made_ns` and `policy`: up to which moment and version of a sender's policies these limits are."""

    account: str
    version: int
    limits: Limits
    by: str
    at_ns: int
    made_ns: int = 0
    policy: int = -1  # none had a version so far


class Delivery(Message, frozen=True):
    """Row: a name that a transport or a sender gave to a body, and that stands for no other, nor twice for a control.

    `place` is "SOURCE/ID" of a signed delivery, or "control/..." of an event that steers. `answer` is why it was
    refused; "" when it was carried out, or was a signal, whose own row says what became of it.
    """

    place: str
    body_hash: str
    at_ns: int
    answer: str = ""


class HaltEnded(Message, frozen=True):
    """Row: one halt in force (`whose` made it) is over; `by` ended it."""

    scope: str
    by: str
    at_ns: int
    kind: HaltKind
    whose: str


class Event(Message, frozen=True):
    """One thing to publish; becomes an outbox row whose number is its stable event id."""

    name: str  # order.placed, order.filled, ..., trade_confirmations
    account: str
    key: str  # signal id, client order id or trade id
    at_ns: int
    trace_id: str
    cause: str
    body: dict[str, str | int | bool | None]


class OutboxRow(Message, frozen=True):
    """An Event with its place in the outbox."""

    event_id: int
    event: Event


class Cursor(Message, frozen=True):
    """A sink has every event up to and including this one. `wanted`: the config names it, so that what it has not got
    is kept for it."""

    sink: str
    event_id: int
    wanted: bool = True


Row: TypeAlias = (
    SignalRow
    | SignalEnded
    | Order
    | Position
    | Trade
    | AccountRow
    | Reconciled
    | LimitsRow
    | Halt
    | HaltEnded
    | Delivery
    | Event
    | Cursor
)
