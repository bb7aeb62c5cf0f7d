"""One account as a venue keeps it: wallets, what is locked in them, positions, margin. No orders, no market, no time.

Spot trades move the base and the quote wallet; a linear future moves only the quote wallet, by what it realises. Cost
is an exact signed sum and only a partial close divides (cut at 18 places), so that the wallets always equal what was
put in plus what the executions moved. There is no liquidation: losses may take a margin wallet below zero, and then
nothing more can be opened.
"""

from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Literal

from msgspec import Struct, field

from engine.core.messages import (
    ZERO,
    BalanceReport,
    FillReport,
    FundingReport,
    Instrument,
    InstrumentKind,
    PositionReport,
    Side,
)
from engine.core.money import step_down

UNIT = Decimal("1e-8")  # fees are cut to whole multiples of it, claims on a wallet rounded up: claims always suffice
_COST_UNIT = Decimal("1e-18")


class AccountTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an account starts with and what the venue charges it. Money is exact, fees are fractions of notional."""

    balances: dict[str, Decimal]
    leverage: Decimal = Decimal(1)  # of linear futures; an instrument's own maximum caps it
    maker_fee: Decimal | None = None  # None: the instrument's
    taker_fee: Decimal | None = None
    # "received": spot buys pay in base, all else in quote. "quote": always quote. Else an asset ("BNB") while it lasts.
    fee_in: str = "received"
    fee_asset_price: Decimal = ZERO  # quote per unit of that asset
    id_rule: Literal["ever", "open"] = "ever"  # a client id is unique for ever, or only among open orders
    prefix: str = "P"  # of order and execution ids
    liquidity_share: Decimal = Decimal(1)  # the part of displayed and traded quantity that is ours to have
    touch_slippage: Decimal = Decimal("0.0005")  # beyond the best price, where only a ticker is known
    history: int = 200_000  # closed orders, and executions, that are remembered


class Holding(Struct):
    """Net of a symbol's executions. `cost` is the signed quote cost of `qty` (signed base)."""

    qty: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    traded_qty: Decimal = ZERO  # what executions and base fees moved: must equal qty
    traded_quote: Decimal = ZERO  # what they would have moved in quote, were each paid in full


class Wallets(Struct):
    """All of an account that outlives the process."""

    initial: dict[str, Decimal]
    totals: dict[str, Decimal]
    flows: dict[str, Decimal] = field(default_factory=dict)  # moved since the start, summed from the reports alone
    holdings: dict[str, Holding] = field(default_factory=dict)
    leverages: dict[str, Decimal] = field(default_factory=dict)  # by symbol, where it was set


class Account:
    """Raises AssertionError where a caller would take what is not there."""

    def __init__(self, terms: AccountTerms, instruments: dict[str, Instrument], wallets: Wallets | None = None) -> None:
        self.terms = terms
        self.instruments = instruments
        self.wallets = wallets or Wallets(dict(terms.balances), dict(terms.balances))
        self._locked: dict[str, Decimal] = {}
        self._margins: dict[str, Decimal] = {}  # by symbol
        self._margin_totals: dict[str, Decimal] = {}  # by quote asset
        for symbol in self.wallets.holdings:
            self._remargin(instruments[symbol])

    # ------------------------------------------------------------------------------------------------ what there is

    def available(self, asset: str) -> Decimal:
        """Neither locked by orders nor held as margin; negative when losses have eaten the margin."""
        held = self._locked.get(asset, ZERO) + self._margin_totals.get(asset, ZERO)
        return self.wallets.totals.get(asset, ZERO) - held

    def locked_by_orders(self, asset: str) -> Decimal:
        return self._locked.get(asset, ZERO)

    def qty(self, symbol: str) -> Decimal:
        """Signed base quantity of the position."""
        holding = self.wallets.holdings.get(symbol)
        return holding.qty if holding is not None else ZERO

    def closable(self, symbol: str, side: Side) -> Decimal:
        """How much an order of `side` can reduce the position by; dust under the smallest order counts as nothing."""
        qty = self.qty(symbol) * -side.sign
        instrument = self.instruments[symbol]
        whole = step_down(qty, instrument.lot) if qty > 0 else ZERO
        return whole if whole >= instrument.qty_min else ZERO

    def leverage(self, instrument: Instrument) -> Decimal:
        return self.wallets.leverages.get(instrument.symbol, min(self.terms.leverage, instrument.leverage_max))

    def fee_rate(self, instrument: Instrument, maker: bool) -> Decimal:
        if maker:
            return instrument.maker_fee if self.terms.maker_fee is None else self.terms.maker_fee
        return instrument.taker_fee if self.terms.taker_fee is None else self.terms.taker_fee

    def quote_fee(self, instrument: Instrument, side: Side, notional: Decimal) -> Decimal:
        """Taker's fee that must be at hand in quote, beside the notional."""
        if instrument.kind is InstrumentKind.SPOT and (side is Side.SELL or self.terms.fee_in != "quote"):
            return ZERO
        return _claim(notional * self.fee_rate(instrument, maker=False))

    def margin(self, instrument: Instrument, notional: Decimal) -> Decimal:
        return _claim(abs(notional) / self.leverage(instrument))

    def balances(self) -> tuple[BalanceReport, ...]:
        return tuple(
            BalanceReport(asset, total, self._locked.get(asset, ZERO) + self._margin_totals.get(asset, ZERO))
            for asset, total in sorted(self.wallets.totals.items())
        )

    def positions(self, now_ns: int) -> tuple[PositionReport, ...]:
        return tuple(
            PositionReport(symbol, holding.qty, abs(holding.cost / holding.qty), now_ns)
            for symbol, holding in sorted(self.wallets.holdings.items())
            if holding.qty
        )

    # ---------------------------------------------------------------------------------------------- what changes it

    def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Of what is open now and comes later; what resting orders have locked stays as it was."""
        instrument = self.instruments[symbol]
        assert 1 <= leverage <= instrument.leverage_max, f"leverage {leverage} of {symbol}"
        self.wallets.leverages[symbol] = leverage
        if symbol in self.wallets.holdings:
            self._remargin(instrument)

    def lock(self, asset: str, before: Decimal, after: Decimal) -> None:
        """An order's claim on a wallet changes."""
        if before != after:
            self._locked[asset] = self._locked.get(asset, ZERO) + after - before

    def fee(self, instrument: Instrument, side: Side, qty: Decimal, price: Decimal, maker: bool) -> tuple[Decimal, str]:
        """What one execution costs, and in which asset."""
        in_quote = qty * price * self.fee_rate(instrument, maker)
        fee_in = self.terms.fee_in
        spot = instrument.kind is InstrumentKind.SPOT
        if fee_in not in ("received", "quote"):
            in_asset = _cut(in_quote / self.terms.fee_asset_price)
            if self.available(fee_in) >= in_asset:
                return in_asset, fee_in
            fee_in = "received"  # the venue falls back when the discount asset has run out
        if spot and fee_in == "received" and side is Side.BUY:
            return _cut(in_quote / price), instrument.base
        return _cut(in_quote), instrument.quote

    def book(self, fill: FillReport) -> None:
        """Move wallets and position by one execution."""
        instrument = self.instruments[fill.symbol]
        holding = self.wallets.holdings.setdefault(fill.symbol, Holding())
        traded = fill.qty * fill.side.sign
        spot = instrument.kind is InstrumentKind.SPOT
        delta = traded - fill.fee if spot and fill.fee_asset == instrument.base else traded
        realised = move(holding, delta, fill.price)
        if spot:
            self._pay(instrument.base, traded)
            self._pay(instrument.quote, -traded * fill.price)
        else:
            self._pay(instrument.quote, realised)
        self._pay(fill.fee_asset, -fill.fee)
        self._remargin(instrument)
        self._flow(instrument, fill, delta)

    def fund(self, report: FundingReport) -> None:
        self._pay(report.asset, report.amount)
        flows = self.wallets.flows
        flows[report.asset] = flows.get(report.asset, ZERO) + report.amount

    def transfer(self, asset: str, amount: Decimal) -> None:
        """Into the account, or (negative) out of it."""
        self._pay(asset, amount)
        flows = self.wallets.flows
        flows[asset] = flows.get(asset, ZERO) + amount

    def check(self) -> None:
        """Assert what must always hold."""
        for asset, locked in self._locked.items():
            assert locked >= 0, f"{locked} {asset} locked"
        for asset, total in self.wallets.totals.items():
            expected = self.wallets.initial.get(asset, ZERO) + self._flowed(asset)
            assert total == expected, f"{asset} wallet holds {total}, its flows say {expected}"
        for symbol, holding in self.wallets.holdings.items():
            assert holding.qty == holding.traded_qty, f"{symbol} is {holding.qty}, executions say {holding.traded_qty}"
            earned = holding.traded_quote + holding.cost
            assert holding.realised == earned, f"{symbol} realised {holding.realised}, executions say {earned}"

    def _flowed(self, asset: str) -> Decimal:
        flowed = self.wallets.flows.get(asset, ZERO)
        for symbol, holding in self.wallets.holdings.items():
            instrument = self.instruments[symbol]
            if instrument.kind is InstrumentKind.LINEAR and instrument.quote == asset:
                flowed += holding.traded_quote + holding.cost
        return flowed

    def _flow(self, instrument: Instrument, fill: FillReport, delta: Decimal) -> None:
        # The second book: sums of what the report says, kept without the position, for check() to compare with.
        holding, flows = self.wallets.holdings[fill.symbol], self.wallets.flows
        signed = fill.qty if fill.side is Side.BUY else -fill.qty
        holding.traded_qty += delta
        holding.traded_quote -= delta * fill.price
        flows[fill.fee_asset] = flows.get(fill.fee_asset, ZERO) - fill.fee
        if instrument.kind is InstrumentKind.SPOT:
            flows[instrument.base] = flows.get(instrument.base, ZERO) + signed
            flows[instrument.quote] = flows.get(instrument.quote, ZERO) - signed * fill.price

    def _pay(self, asset: str, amount: Decimal) -> None:
        self.wallets.totals[asset] = self.wallets.totals.get(asset, ZERO) + amount

    def _remargin(self, instrument: Instrument) -> None:
        if instrument.kind is not InstrumentKind.LINEAR:
            return
        before = self._margins.get(instrument.symbol, ZERO)
        after = self.margin(instrument, self.wallets.holdings[instrument.symbol].cost)
        self._margins[instrument.symbol] = after
        totals = self._margin_totals
        totals[instrument.quote] = totals.get(instrument.quote, ZERO) + after - before


def _cut(amount: Decimal) -> Decimal:
    return amount.quantize(UNIT, ROUND_DOWN)


def _claim(amount: Decimal) -> Decimal:
    return amount.quantize(UNIT, ROUND_UP)


def move(holding: Holding, delta: Decimal, price: Decimal) -> Decimal:
    """Move the position by signed `delta` at `price`; returns what that realised, before fees."""
    qty, cost = holding.qty, holding.cost
    after = qty + delta
    if not qty or (qty > 0) == (delta > 0):  # opens or adds
        holding.cost = cost + delta * price
        realised = ZERO
    elif after and (after > 0) == (qty > 0):  # closes a part
        released = (cost * delta / -qty).quantize(_COST_UNIT)
        holding.cost = cost - released
        realised = -delta * price - released
    else:  # closes all, and opens the rest at this price
        holding.cost = after * price
        realised = qty * price - cost
    holding.qty = after
    holding.realised += realised
    return realised
