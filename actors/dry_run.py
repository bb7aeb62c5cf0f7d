"""Keeps the way of an order warm: while the engine waits, a made-up signal goes through the functions of a real one.

Between two signals the processor forgets the code that reads, judges, books and writes one, and the next order pays for
it with more than twice the work. So it is run dry, on books of its own, with a journal that keeps nothing: no signal,
order or number of a dry run reaches the real books, the disk, a venue or a sink. It is done in small pieces, each only
while no other task has anything to do.
"""

from collections.abc import Iterator
from decimal import Decimal

import trio

from engine.core.admission import AccountTerms, Admission
from engine.core.blotter import Blotter, Step, Terms
from engine.core.messages import (
    Answered,
    BalanceReport,
    BalancesSeen,
    Enact,
    Instrument,
    InstrumentKind,
    Limits,
    Place,
    Position,
    Quote,
    Rejection,
    Signal,
)
from engine.edges.dialects import DialectTerms, decode
from engine.runtime.clock import Clock
from engine.runtime.journal.forgetful import forgetful

SECOND = 1_000_000_000
BEGIN_NS = 1_767_225_600 * SECOND  # made-up time, like all else here
APART_NS = 20 * SECOND  # between two made-up signals: no limit of the default ones is ever reached
PIECES = 6  # of one signal

_ACCOUNT, _SYMBOL = "dry-run", "BTCUSDT"
_BODY = (
    b'{"signal_id": "dry-run-%09d", "symbol": "BTCUSDT", "action": "open", "side": "buy", "qty": "0.001",'
    b' "order_type": "limit", "limit_price": "59990", "stop_loss": "59500", "take_profit": "61000",'
    b' "cancel_after_seconds": "5"}'
)
_INSTRUMENT = Instrument(
    symbol=_SYMBOL,
    venue="paper",
    kind=InstrumentKind.LINEAR,
    base="BTC",
    quote="USDT",
    tick=Decimal("0.1"),
    lot=Decimal("0.001"),
    qty_min=Decimal("0.001"),
    qty_max=Decimal(1000),
    notional_min=Decimal(5),
    leverage_max=Decimal(20),
)
_BID, _ASK, _DEPTH = Decimal("59999.9"), Decimal(60000), Decimal(10)


class DryRun:
    """Books of its own. `play` does the next piece; a signal has `PIECES`. In a trio run only."""

    def __init__(self) -> None:
        self._now_ns = BEGIN_NS
        self._terms = DialectTerms(account=_ACCOUNT)
        self._journal = forgetful()
        self._blotter = Blotter(
            Terms(env="paper", window_ns=SECOND, queue_ns=SECOND, visible_ns=SECOND, stop_distance_default=None),
            _INSTRUMENT,
            Position(account=_ACCOUNT, symbol=_SYMBOL),
        )
        self._admission = Admission("paper", {_ACCOUNT: AccountTerms(_ACCOUNT, "paper")}, lambda *_: _INSTRUMENT)
        self._admission.set_limits(_ACCOUNT, Limits(), "dry-run", self._now_ns)
        cash = BalancesSeen(_ACCOUNT, (BalanceReport("USDT", Decimal(10_000)),), self._now_ns)
        self._admission.handle_balances(cash, lambda _: None, self._now_ns)
        self._pieces = self._play()
        self.played = 0  # signals, from their bytes to the end of their orders

    def play(self) -> None:
        next(self._pieces)

    def _play(self) -> Iterator[None]:
        while True:
            self._now_ns += APART_NS
            now_ns, admission, blotter = self._now_ns, self._admission, self._blotter
            quote = Quote(_SYMBOL, _BID, _ASK, _DEPTH, _DEPTH, now_ns)
            body = _BODY % self.played
            signal = decode(body, None, self._terms, source="dry-run", received_ns=now_ns)
            assert isinstance(signal, Signal), signal
            yield
            admitted = admission.handle_signal(signal, None, quote, quote, (), now_ns)
            assert admitted.enact is not None, admitted.row.checks
            yield
            self._journal.append(admitted.facts, admitted.rows)
            yield
            step = blotter.handle((Enact(signal, admitted.enact.plan, 0, 0),), now_ns)
            yield
            self._journal.hurry(self._journal.append(step.facts, step.rows))
            yield
            self._hear(step, quote)
            (order,) = (command.order for command in step.commands if isinstance(command, Place))
            never = Answered(order.cid, "place", Rejection("dry-run", "unsent", ""), 0, now_ns)
            self._hear(blotter.handle((never,), now_ns), quote)
            self.played += 1
            yield

    def _hear(self, step: Step, quote: Quote) -> None:
        assert step.standing is not None, "an order came or went, and nothing has changed"
        for confirmed in step.standing.confirmed:
            self._admission.handle_confirmed(confirmed.signal_id, confirmed)
        self._admission.handle_standing(step.standing, quote, self._now_ns)

    def check(self) -> None:
        """Assert what must hold of the books between two signals."""
        self._admission.check()
        self._blotter.check()
        assert not self._blotter.orders, "an order of a dry run has no end"


async def keep_warm(dry_run: DryRun, every_seconds: float, clock: Clock) -> None:
    """For ever. One signal goes through each time, or as much of it as there is time for."""
    while True:
        await trio.sleep(every_seconds)
        for _ in range(PIECES):
            if clock.awake() or trio.lowlevel.current_statistics().tasks_runnable:
                break
            dry_run.play()
            await trio.lowlevel.checkpoint()
