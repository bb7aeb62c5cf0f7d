"""One account's ledger of what it holds, might come to hold, has lost and has sent: what the risk rules look at.

Each symbol is told absolutely by its order actor (`Standing`), so repeats do no harm. Between the verdict and the
Standing that names the signal as `enacted`, a provisional reservation made here counts in its place, so that at no
moment an order on its way is in nobody's books. Buys and sells in flight are kept apart and never netted: whichever of
them fill, the caps hold (RELIABILITY I11). Totals are exact running sums; `check` compares them with a full count.
A symbol costs nothing until there is something to say about it.
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.core.messages import (
    ZERO,
    AccountRow,
    Action,
    BalancesSeen,
    Check,
    Halt,
    Instrument,
    InstrumentKind,
    Leg,
    Limits,
    Order,
    Plan,
    Position,
    Quote,
    Side,
    Signal,
    Standing,
    State,
    TransferReport,
)
from engine.core.money import cents
from engine.core.position import closable, cost_of, net
from engine.core.times import DAY, SECOND

PUZZLED_NS = 150 * SECOND  # the venue's list of transfers is asked for once a minute where asking is dear
TRANSFERS_KEPT = 1000

InstrumentOf = Callable[[str], Instrument | None]  # by symbol, at the account's venue


class Strange(Struct, frozen=True):
    """A change of a wallet that nothing explains yet. `least` of it has been so since `since_ns`; the rest comes and
    goes, as executions do that the wallet shows before we have heard of them."""

    asset: str
    amount: Decimal
    least: Decimal
    since_ns: int


class View(Struct, frozen=True, gc=False):
    """Everything the rules may look at for one signal, at one moment. Money in quote, quantities in base."""

    signal: Signal
    now_ns: int
    venue: str
    account_quote: str
    limits: Limits | None
    instrument: Instrument | None
    quote: Quote | None
    btc_price: Decimal | None  # from a quote; None: take the limits' own
    halts: tuple[Halt, ...]  # in scope and in force
    position: Position
    buying: Decimal  # of this symbol, may still be bought by openers in flight, provisional ones included
    selling: Decimal
    unclear: int  # doubtful orders of this symbol
    symbol_counts: bool  # this symbol is already one of `positions_open`
    positions_open: int  # symbols held or entered, in flight included
    exposure: Decimal  # worth of all positions and openers in flight
    reserved: Decimal  # the part of it in flight
    day_volume: Decimal  # traded since midnight UTC
    day_net: Decimal  # realised - fees + funding since midnight UTC
    gain: Decimal  # unrealised, all positions, at the last marks
    losses_in_row: int
    equity: Decimal | None  # None: balances or a price for them not known yet
    settled_equity: Decimal | None  # the same without what transfers, or something not known yet, have changed
    peak_equity: Decimal
    free_quote: Decimal | None  # wallet less margin and reservations
    free_base: Decimal | None
    orders_second: int
    orders_minute: int
    orders_day: int
    last_order_ns: int  # on this symbol; 0: none
    recent: Mapping[tuple[str, Side, Decimal], int]  # when the like of it was last admitted
    ess: Check | None = None  # what a risk service outside says (RSK8); None: there is none


class Exposure:
    """Mutable; one per account, owned by the gate."""

    def __init__(self, account: str, venue: str, quote: str, instrument_of: InstrumentOf) -> None:
        self.account = account
        self.venue = venue
        self.quote = quote
        self.row = AccountRow(account=account)
        self.limits: Limits | None = None
        self._instrument_of = instrument_of
        self._holdings: dict[str, _Holding] = {}
        self._pending: dict[str, _Pending] = {}  # by signal id
        self._sums = _Count()
        self._moved: dict[str, Decimal] = {}  # by asset: what trades moved, cumulative
        self._wallet: dict[str, Decimal] | None = None  # as last seen
        self._moved_at_seen: dict[str, Decimal] = {}
        self._readable = True  # else the wallet is not known, though it was
        self._strange: dict[str, Strange] = {}  # by asset: what the wallet changed by, and nothing says why
        self._prices: dict[str, Decimal] = {}  # of assets in quote
        self._sent: list[int] = []  # when orders were admitted, within the last minute and a little more; sorted
        self._recent: dict[tuple[str, Side, Decimal], int] = {}  # oldest first
        self._day = 0  # day number since the epoch; 0: not known
        self._row_written = self.row

    # ------------------------------------------------------------------------------------------------------- folding

    def recover(
        self,
        row: AccountRow | None,
        positions: Iterable[Position],
        orders: Iterable[Order],
        accepted: Iterable[tuple[Signal, Plan]],
    ) -> None:
        """Rebuild from what the journal kept, so that the rules hold before the first Standing arrives.

        `orders` are the live ones, `accepted` the signals that have not ended. The sliding windows and the duplicate
        guard start with what is still open: what was sent and ended within the last minute is forgotten.
        """
        if row is not None:
            self.row = self._row_written = row
            self._day = _day_number(row.day)
        for position in positions:
            self._holding(position.symbol).position = position
        ordered: dict[str, None] = {}
        for order in orders:
            ordered[order.signal_id] = None
            if order.leg is Leg.ENTRY and order.state is not State.CLOSED and not order.reduce_only:
                self._holding(order.symbol).add_opener(order)
        for signal, plan in sorted(accepted, key=lambda pair: pair[0].received_ns):
            if signal.signal_id in ordered:
                self._sent_at(signal, plan, signal.received_ns)
            else:
                self.reserve(signal, plan, signal.received_ns, again=True)
        for holding in self._holdings.values():
            self._recount(holding)

    def stand(self, standing: Standing, quote: Quote | None) -> None:
        """Fold one symbol's Standing."""
        holding = self._holding(standing.position.symbol)
        holding.instrument = self._instrument_of(standing.position.symbol) or holding.instrument
        for signal_id in standing.enacted:
            self._drop(signal_id)
        holding.position = standing.position
        holding.buying, holding.selling, holding.reserved = standing.buying, standing.selling, standing.reserved
        holding.opening_orders, holding.unclear = standing.opening_orders, standing.unclear
        if quote is not None and sensible(quote):
            holding.mark = quote.mid
        trade = standing.closed_trade
        if trade is not None and trade.trade_id != holding.last_trade:
            holding.last_trade = trade.trade_id
            self._count_trade(trade.realised - trade.fees + trade.funding)
        self._recount(holding)
        self._remember_peak()

    def reserve(self, signal: Signal, plan: Plan, now_ns: int, again: bool = False) -> None:
        """Count an admitted signal as sent. Openers hold their worth until `enacted` or `release`.

        `again` is for recovery: the day's counter already has it.
        """
        assert signal.signal_id not in self._pending, f"signal {signal.signal_id} is reserved twice"
        self._sent_at(signal, plan, now_ns)
        if not again and plan.side is not None:
            self.row = _with(self.row, orders_today=self.row.orders_today + 1)
        if plan.side is None or plan.reduce_only or plan.action not in (Action.OPEN, Action.TARGET) or not plan.qty:
            return
        pending = _Pending(signal.symbol, plan.side, plan.qty, plan.qty * plan.reserve_price)
        self._pending[signal.signal_id] = pending
        holding = self._holding(signal.symbol)
        holding.pend(pending, 1)
        self._recount(holding)

    def release(self, signal_id: str) -> None:
        """The signal ended; whatever was provisionally held for it is free. Unknown ids are no error."""
        self._drop(signal_id)

    def see_balances(self, seen: BalancesSeen) -> tuple[tuple[TransferReport, ...], tuple[Strange, ...]]:
        """The wallet as it is, the transfers that are new with it, and the changes that stay without a reason.

        A wallet may show a transfer before the venue's list of them does, or after: until either has come the
        difference counts as no loss and no gain. It does once it has waited for `PUZZLED_NS`: then it is one. What the
        wallet was before this life is not known: what is listed up to then is taken to be in it.
        """
        self._readable = seen.balances is not None
        if seen.balances is None:
            return (), ()
        wallet = {report.asset: report.total for report in seen.balances}
        fresh = tuple(t for t in seen.transfers if t.transfer_id not in self.row.transfers)
        if self._wallet is None:
            for transfer in fresh:
                if transfer.venue_ns <= seen.venue_ns:
                    self._puzzle(transfer.asset, transfer.amount, seen.at_ns)
        else:
            for asset in dict.fromkeys((*self._wallet, *wallet, *self._moved)):
                self._puzzle(asset, wallet.get(asset, ZERO) - self._held(asset), seen.at_ns)
        self._wallet = wallet
        self._moved_at_seen = dict(self._moved)
        if self.settled_equity() is None:
            return (), ()  # a price is missing: they come again with the next wallet
        for transfer in fresh:
            self._transfer(transfer, seen.at_ns)
        unexplained = tuple(s for s in self._strange.values() if seen.at_ns - s.since_ns >= PUZZLED_NS)
        for one in unexplained:
            del self._strange[one.asset]
            self._puzzle(one.asset, one.amount - one.least, seen.at_ns)
        self._remember_peak()
        return fresh, unexplained

    def mark(self, symbol: str, quote: Quote) -> None:
        """Value a symbol, and its base currency, at this quote's middle. A senseless quote changes nothing."""
        if not sensible(quote):
            return
        holding = self._holdings.get(symbol)
        instrument = holding.instrument if holding else self._instrument_of(symbol)
        if instrument is not None and instrument.quote == self.quote:
            self._prices[instrument.base] = quote.mid
        if holding is not None and holding.mark != quote.mid:
            holding.mark = quote.mid
            if holding.position.qty:
                self._recount(holding)

    def mark_all(self, quote_of: Callable[[str], Quote | None]) -> None:
        """Value everything held. Called at least once a second, so that a loss is seen while nothing trades."""
        for symbol in self.marked_symbols():
            quote = quote_of(symbol)
            if quote is not None:
                self.mark(symbol, quote)
        self._remember_peak()

    def marked_symbols(self) -> tuple[str, ...]:
        """Symbols whose price the account's equity depends on."""
        held = [symbol for symbol, holding in self._holdings.items() if holding.position.qty]
        wallet = [asset + self.quote for asset, total in (self._wallet or {}).items() if total and asset != self.quote]
        return tuple(dict.fromkeys(held + wallet))

    def roll(self, now_ns: int) -> bool:
        """Begin a new UTC day if it has come. True when it has: the account row then holds new baselines."""
        day = now_ns // DAY
        if day == self._day:
            return False
        self._day = day
        self.row = _with(
            self.row,
            day=_day_text(day),
            baseline_net=self._sums.net,
            baseline_volume=self._sums.volume,
            orders_today=0,
        )
        if self.limits is not None and self.limits.loss_latch == "day":
            self._forgive()
        return True

    def acknowledge(self) -> None:
        """A person takes note of the losses: streak, peak and the day's baseline start afresh from here."""
        self._forgive()
        self.row = _with(self.row, baseline_net=self._sums.net + min(self._sums.gain, ZERO))

    def changed_row(self) -> AccountRow | None:
        """The account row, if it should be written. A peak that rose by less than 0.1 % waits for the next reason."""
        row, written = self.row, self._row_written
        if row is written:
            return None
        small = written.peak_equity and row.peak_equity < written.peak_equity * _PEAK_STEP
        if small and row.peak_equity >= written.peak_equity and _with(row, peak_equity=written.peak_equity) == written:
            return None
        self._row_written = row
        return row

    # ------------------------------------------------------------------------------------------------------- looking

    def view(
        self,
        signal: Signal,
        quote: Quote | None,
        btc_price: Decimal | None,
        halts: tuple[Halt, ...],
        now_ns: int,
        ess: Check | None = None,
    ) -> View:
        """What the rules see for this signal now."""
        symbol = signal.symbol
        if quote is not None:
            self.mark(symbol, quote)
        holding = self._holdings.get(symbol) or _NOTHING
        instrument = self._instrument_of(symbol) or holding.instrument  # the venue may have new steps since
        sums, row = self._sums, self.row
        equity = self.equity()
        return View(
            signal=signal,
            now_ns=now_ns,
            venue=self.venue,
            account_quote=self.quote,
            limits=self.limits,
            instrument=instrument,
            quote=quote,
            btc_price=btc_price,
            halts=halts,
            position=holding.position,
            buying=holding.buying + holding.pending_buying,
            selling=holding.selling + holding.pending_selling,
            unclear=holding.unclear,
            symbol_counts=holding.counted.busy > 0,
            positions_open=sums.busy,
            exposure=sums.worth + sums.reserved,
            reserved=sums.reserved,
            day_volume=sums.volume - row.baseline_volume,
            day_net=sums.net - row.baseline_net,
            gain=sums.gain,
            losses_in_row=row.losses_in_row,
            equity=equity,
            settled_equity=self._settled(equity),
            peak_equity=row.peak_equity,
            free_quote=self._free_quote(instrument),
            free_base=self._free_base(instrument, holding),
            ess=ess,
            orders_second=self._sent_within(now_ns, SECOND),
            orders_minute=self._sent_within(now_ns, 60 * SECOND),
            orders_day=row.orders_today,
            last_order_ns=holding.last_order_ns,
            recent=self._recent,
        )

    def equity(self) -> Decimal | None:
        """Wallet in quote, plus other currencies at their marks, plus what linear positions gained. None: not known.

        A currency that the venue lists against the quote but has not been priced yet makes the whole unknown; one
        that is not listed counts nothing.
        """
        if self._wallet is None or not self._readable:
            return None
        total = self._held(self.quote) + self._sums.linear_gain
        for asset in self._assets():
            held = self._held(asset)
            if not held:
                continue
            price = self._prices.get(asset)
            if price is not None:
                total += held * price
            elif self._instrument_of(asset + self.quote) is not None:
                return None
        return total

    def settled_equity(self) -> Decimal | None:
        """Equity as far as it is explained: what a transfer, or something not known yet, has changed is left out."""
        return self._settled(self.equity())

    def _settled(self, equity: Decimal | None) -> Decimal | None:
        if equity is None:
            return None
        for one in self._strange.values():
            worth = self._worth(one.asset, one.amount)
            if worth is None:
                return None
            equity -= worth
        return equity

    def worth(self, asset: str, amount: Decimal) -> Decimal:
        """In quote; of what has no price, nothing."""
        return self._worth(asset, amount) or ZERO

    def day_result(self) -> Decimal:
        """Today's realised - fees + funding, and what is being lost on open positions (SPEC RSK5)."""
        return self._sums.net - self.row.baseline_net + min(self._sums.gain, ZERO)

    def drawdown(self) -> Decimal | None:
        """Fraction of the peak equity that is gone. None: not known."""
        equity = self.settled_equity()
        if equity is None or self.row.peak_equity <= 0:
            return None
        return (self.row.peak_equity - equity) / self.row.peak_equity

    def in_flight(self, symbol: str) -> tuple[Decimal, Decimal]:
        """(buying, selling): base that openers of this symbol may still trade."""
        holding = self._holdings.get(symbol) or _NOTHING
        return holding.buying + holding.pending_buying, holding.selling + holding.pending_selling

    @property
    def reserved(self) -> Decimal:
        """Quote worth of all openers in flight."""
        return self._sums.reserved

    @property
    def provisional(self) -> tuple[str, ...]:
        """Signals admitted that no Standing has named yet."""
        return tuple(self._pending)

    def check(self) -> None:
        """Assert the running sums against a full count (RELIABILITY I12)."""
        fresh = _Count()
        for holding in self._holdings.values():
            mine = [p for p in self._pending.values() if p.symbol == holding.position.symbol]
            assert holding.pending_buying == sum((p.qty for p in mine if p.side is Side.BUY), ZERO), "pending buys"
            assert holding.pending_selling == sum((p.qty for p in mine if p.side is Side.SELL), ZERO), "pending sells"
            assert holding.pending_worth == sum((p.worth for p in mine), ZERO), "pending worth"
            assert min(holding.buying, holding.selling, holding.reserved) >= 0, "a reservation below zero"
            fresh = fresh.plus(holding.count())
        assert fresh == self._sums, f"running sums {self._sums} differ from a full count {fresh}"
        assert all(pending.symbol in self._holdings for pending in self._pending.values()), "a stray reservation"

    # -------------------------------------------------------------------------------------------------------- inside

    def _holding(self, symbol: str) -> "_Holding":
        holding = self._holdings.get(symbol)
        if holding is None:
            empty = Position(account=self.account, symbol=symbol)
            holding = self._holdings[symbol] = _Holding(empty, self._instrument_of(symbol))
            holding.mark = self._prices.get(holding.instrument.base, ZERO) if holding.instrument else ZERO
        elif holding.instrument is None:
            holding.instrument = self._instrument_of(symbol)
        return holding

    def _recount(self, holding: "_Holding") -> None:
        old, new = holding.counted, holding.count()
        if new == old:
            return  # most steps of an order change nothing here
        self._sums = self._sums.minus(old).plus(new)
        for asset, amount in old.moved:
            self._moved[asset] -= amount
        for asset, amount in new.moved:
            self._moved[asset] = self._moved.get(asset, ZERO) + amount
        holding.counted = new

    def _drop(self, signal_id: str) -> None:
        pending = self._pending.pop(signal_id, None)
        if pending is not None:
            holding = self._holdings[pending.symbol]
            holding.pend(pending, -1)
            self._recount(holding)

    def _sent_at(self, signal: Signal, plan: Plan, at_ns: int) -> None:
        if plan.side is None:
            return
        insort(self._sent, at_ns)  # at its end, unless the clock was set back
        past = bisect_right(self._sent, at_ns - 60 * SECOND)
        if past > _SENT_KEPT:
            del self._sent[:past]
        self._holding(signal.symbol).last_order_ns = at_ns
        key = (signal.symbol, plan.side, plan.qty)
        self._recent.pop(key, None)
        self._recent[key] = at_ns
        window = int((self.limits or _DEFAULTS).duplicate_window_seconds * SECOND)
        while self._recent[first := next(iter(self._recent))] < at_ns - window:
            del self._recent[first]

    def _sent_within(self, now_ns: int, window_ns: int) -> int:
        return len(self._sent) - bisect_right(self._sent, now_ns - window_ns)

    def _count_trade(self, result: Decimal) -> None:
        if result < 0:
            self.row = _with(self.row, losses_in_row=self.row.losses_in_row + 1)
        elif result > 0 and self.row.losses_in_row:
            self.row = _with(self.row, losses_in_row=0)

    def _puzzle(self, asset: str, amount: Decimal, now_ns: int) -> None:
        """So much more, or less, is there than is explained."""
        before = self._strange.pop(asset, None)
        after = (before.amount if before else ZERO) + amount
        if before is None or before.least * after <= 0:
            least, since_ns = after, now_ns
        else:
            least, since_ns = min(before.least, after, key=abs), before.since_ns
        if after:
            self._strange[asset] = Strange(asset, after, least, since_ns)

    def _transfer(self, transfer: TransferReport, now_ns: int) -> None:
        """The peak moves with it, in proportion: neither does a loss go unseen after it, nor does it look like one."""
        before = self.settled_equity()
        self._puzzle(transfer.asset, -transfer.amount, now_ns)
        after = self.settled_equity()
        peak, start = self.row.peak_equity, self.row.start_equity
        if peak and before is not None and after is not None:
            peak = cents(peak * after / before) if before > 0 and after > 0 else max(after, ZERO)
            start += after - before
        booked = (*self.row.transfers, transfer.transfer_id)[-TRANSFERS_KEPT:]
        self.row = _with(self.row, transfers=booked, peak_equity=peak, start_equity=start)

    def _worth(self, asset: str, amount: Decimal) -> Decimal | None:
        """None: it is listed against the quote, and has no price yet. What is not listed counts nothing."""
        if asset == self.quote:
            return amount
        price = self._prices.get(asset)
        if price is None:
            return ZERO if self._instrument_of(asset + self.quote) is None else None
        return amount * price

    def _remember_peak(self) -> None:
        equity = self.settled_equity()
        if equity is not None and equity > self.row.peak_equity:
            start = self.row.start_equity or equity
            self.row = _with(self.row, start_equity=start, peak_equity=equity)

    def _forgive(self) -> None:
        equity = self.settled_equity()
        self.row = _with(self.row, losses_in_row=0, peak_equity=self.row.peak_equity if equity is None else equity)

    def _assets(self) -> tuple[str, ...]:
        known = dict.fromkeys(self._wallet or ())
        known.update(dict.fromkeys(self._moved))
        known.pop(self.quote, None)
        return tuple(known)

    def _held(self, asset: str) -> Decimal:
        assert self._wallet is not None
        moved = self._moved.get(asset, ZERO) - self._moved_at_seen.get(asset, ZERO)
        return self._wallet.get(asset, ZERO) + moved

    def _free_quote(self, instrument: Instrument | None) -> Decimal | None:
        """Spot: what no buy in flight needs. Linear: what is not margin of positions and openers in flight."""
        if self._wallet is None or not self._readable or instrument is None:
            return None
        sums = self._sums
        leverage = leverage_of(instrument, self.limits)
        margin = (sums.linear_worth + sums.linear_reserved) / leverage
        return self._held(self.quote) + sums.linear_gain - sums.spot_buying - margin

    def _free_base(self, instrument: Instrument | None, holding: "_Holding") -> Decimal | None:
        if self._wallet is None or not self._readable or instrument is None:
            return None
        return self._held(instrument.base) - holding.selling - holding.pending_selling


def sensible(quote: Quote) -> bool:
    """Whether a quote can be reckoned with at all."""
    return ZERO < quote.bid <= quote.ask


def leverage_of(instrument: Instrument, limits: Limits | None) -> Decimal:
    """Quote of notional that one quote of margin carries; 1 on spot."""
    if instrument.kind is InstrumentKind.SPOT or limits is None:
        return Decimal(1)
    return max(min(limits.leverage_max, instrument.leverage_max), Decimal(1))


class _Count(Struct, frozen=True, gc=False):
    """What one symbol adds to the account's sums; also the sums themselves."""

    worth: Decimal = ZERO  # |position| at its mark
    linear_worth: Decimal = ZERO
    reserved: Decimal = ZERO  # openers in flight
    linear_reserved: Decimal = ZERO
    spot_buying: Decimal = ZERO  # quote that spot buys in flight will need
    gain: Decimal = ZERO  # unrealised
    linear_gain: Decimal = ZERO
    net: Decimal = ZERO
    volume: Decimal = ZERO
    busy: int = 0
    moved: tuple[tuple[str, Decimal], ...] = ()  # by asset; kept per symbol only

    def plus(self, other: "_Count") -> "_Count":
        return _Count(
            self.worth + other.worth,
            self.linear_worth + other.linear_worth,
            self.reserved + other.reserved,
            self.linear_reserved + other.linear_reserved,
            self.spot_buying + other.spot_buying,
            self.gain + other.gain,
            self.linear_gain + other.linear_gain,
            self.net + other.net,
            self.volume + other.volume,
            self.busy + other.busy,
        )

    def minus(self, other: "_Count") -> "_Count":
        return _Count(
            self.worth - other.worth,
            self.linear_worth - other.linear_worth,
            self.reserved - other.reserved,
            self.linear_reserved - other.linear_reserved,
            self.spot_buying - other.spot_buying,
            self.gain - other.gain,
            self.linear_gain - other.linear_gain,
            self.net - other.net,
            self.volume - other.volume,
            self.busy - other.busy,
        )


class _Pending(Struct, frozen=True, gc=False):
    """A provisional reservation."""

    symbol: str
    side: Side
    qty: Decimal
    worth: Decimal


class _Holding:
    """What is known of one symbol."""

    __slots__ = (
        "buying",
        "counted",
        "instrument",
        "last_order_ns",
        "last_trade",
        "mark",
        "opening_orders",
        "pending_buying",
        "pending_selling",
        "pending_worth",
        "pending_worth_buying",
        "position",
        "reserved",
        "selling",
        "unclear",
    )

    def __init__(self, position: Position, instrument: Instrument | None) -> None:
        self.position = position
        self.instrument = instrument
        self.mark = ZERO  # 0: no quote yet; the cost stands in
        self.buying = self.selling = self.reserved = ZERO
        self.opening_orders = self.unclear = 0
        self.pending_buying = self.pending_selling = self.pending_worth = self.pending_worth_buying = ZERO
        self.last_order_ns = 0
        self.last_trade = ""
        self.counted = _Count()

    def add_opener(self, order: Order) -> None:
        """Count one live opening order, at recovery; the first Standing replaces the sum."""
        left = max(order.qty - order.filled_qty, ZERO)
        if order.side is Side.BUY:
            self.buying += left
        else:
            self.selling += left
        self.reserved += left * order.reserve_price
        self.opening_orders += 1
        self.unclear += order.state is State.UNCLEAR

    def pend(self, pending: _Pending, sign: int) -> None:
        """Add (1) or take away (-1) a provisional reservation."""
        self.pending_worth += sign * pending.worth
        if pending.side is Side.BUY:
            self.pending_buying += sign * pending.qty
            self.pending_worth_buying += sign * pending.worth
        else:
            self.pending_selling += sign * pending.qty

    def count(self) -> _Count:
        position, instrument = self.position, self.instrument
        reserved = self.reserved + self.pending_worth
        cost = cost_of(position) if position.qty else ZERO
        value = position.qty * self.mark if self.mark else cost
        worth, gain = abs(value), value - cost
        linear = instrument is None or instrument.kind is InstrumentKind.LINEAR
        held = closable(position, instrument) if instrument is not None and position.qty else bool(position.qty)
        moving = self.opening_orders or self.pending_worth or self.buying or self.selling
        return _Count(
            worth=worth,
            linear_worth=worth if linear else ZERO,
            reserved=reserved,
            linear_reserved=reserved if linear else ZERO,
            spot_buying=ZERO if linear else self._buying_worth(),
            gain=gain,
            linear_gain=gain if linear else ZERO,
            net=net(position),
            volume=position.volume,
            busy=1 if held or moving else 0,
            moved=self._moved(),
        )

    def _buying_worth(self) -> Decimal:
        """A Standing tells the worth of both sides in one figure; where both are in flight, all of it is assumed."""
        return (self.reserved if self.buying else ZERO) + self.pending_worth_buying

    def _moved(self) -> tuple[tuple[str, Decimal], ...]:
        position, instrument = self.position, self.instrument
        if instrument is None:
            return ()
        if instrument.kind is InstrumentKind.LINEAR:
            return ((instrument.quote, position.cash),)
        return ((instrument.quote, position.cash), (instrument.base, position.qty + position.withdrawn))


_NOTHING = _Holding(Position(account="", symbol=""), None)  # stands in for a symbol never heard of; never changed
_DEFAULTS = Limits()
_PEAK_STEP = Decimal("1.001")
_SENT_KEPT = 4096  # of what is older than a minute, before it is thrown away


def _with(row: AccountRow, **changes: object) -> AccountRow:
    return replace(row, **changes)


def _day_text(day: int) -> str:
    return date.fromordinal(_EPOCH_ORDINAL + day).isoformat()


def _day_number(text: str) -> int:
    return date.fromisoformat(text).toordinal() - _EPOCH_ORDINAL if text else 0


_EPOCH_ORDINAL = 719_163  # date(1970, 1, 1).toordinal()
