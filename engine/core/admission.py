"""The risk gate's whole decision, without its task: repeats, verdicts, reservations, limits, and losses that halt.

What a caller gets back is to be applied in one go: append facts and rows, then pass on the `Enact`. The halts in force
are the switch's and come in as an argument; the halts that a loss asks for go out in `Reaction.halts` and are written
down by the switch. A halt for a loss that is no longer in force when the next signal comes was acknowledged: the
account's peak, streak and daily baseline then start afresh.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol, TypedDict

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from engine.core.announce import alert_event, confirmation_event
from engine.core.bounds import Bounds, beyond, within
from engine.core.exposure import Exposure, Strange, sensible
from engine.core.halts import kind_of
from engine.core.limits import faults
from engine.core.messages import (
    ZERO,
    AccountRow,
    Action,
    Alerted,
    AnyFact,
    BalancesSeen,
    Check,
    Confirmed,
    DayRolled,
    Enact,
    Halt,
    Instrument,
    Judged,
    Limits,
    LimitsRow,
    LimitsSet,
    Order,
    Outcome,
    Position,
    Quote,
    Refusal,
    Row,
    Signal,
    SignalConflicted,
    SignalEnded,
    SignalReceived,
    SignalRow,
    Stamp,
    Standing,
    Transferred,
    TransferReport,
)
from engine.core.money import BadNumber, cents, plain, sane
from engine.core.rules import Verdict, judge
from engine.core.times import DAY, SECOND
from engine.core.usage import usage

KEEP_NS = 10 * SECOND  # an ended signal stays in memory this long: by then a look into the journal finds it
BOUNDS_BY = "config bounds"  # who sets limits that the config no longer allows
BY = "risk/"  # prefix of `Halt.by` for the halts asked for here

_NOBODYS = Signal("", "", "", Action.RECORD, "", "", "", "", 0, 0)  # stands for none, of no symbol

QuoteOf = Callable[[str], Quote | None]  # by symbol


class AccountTerms(Struct, frozen=True):
    """An account as the gate knows it. Limits and equity are counted in `quote`."""

    name: str
    venue: str
    quote: str = "USDT"
    bounds: Bounds | None = None  # how far its limits may be loosened while the engine runs


Status = Literal["accepted", "refused", "recorded", "repeated", "conflict"]


class Admitted(Struct, frozen=True):
    """The answer to one signal. `row` is what the sender is told; `enact` only when accepted."""

    status: Status
    row: SignalRow
    facts: tuple[AnyFact, ...] = ()
    rows: tuple[Row, ...] = ()
    enact: Enact | None = None


class Changed(Struct, frozen=True):
    """New limits in force, with the facts and rows to append."""

    limits: Limits
    facts: tuple[AnyFact, ...]
    rows: tuple[Row, ...]


class Reaction(Struct, frozen=True):
    """What follows from news: facts and rows to append, halts for the switch."""

    facts: tuple[AnyFact, ...] = ()
    rows: tuple[Row, ...] = ()
    halts: tuple[Halt, ...] = ()


class OpenBooks(Protocol):
    """What a recovery needs of the journal's open state."""

    @property
    def orders(self) -> Sequence[Order]: ...
    @property
    def positions(self) -> Sequence[Position]: ...
    @property
    def signals(self) -> Sequence[SignalRow]: ...
    @property
    def accounts(self) -> Sequence[AccountRow]: ...
    @property
    def limits(self) -> Sequence[LimitsRow]: ...
    @property
    def halts(self) -> Sequence[Halt]: ...


class Admission:
    """All accounts of this engine. Mutable, owned by the gate."""

    def __init__(
        self,
        env: str,
        accounts: Mapping[str, AccountTerms],
        instrument_of: Callable[[str, str], Instrument | None],
    ) -> None:
        """`instrument_of` is asked with (account, symbol)."""
        self.env = env
        self._accounts = dict(accounts)
        self._instrument_of = instrument_of
        self._exposures = {name: self._exposure(terms) for name, terms in accounts.items()}
        self._signals: dict[str, SignalRow] = {}
        self._ended: deque[tuple[int, str]] = deque()  # when, signal id; oldest first
        self._set: dict[str, LimitsRow] = {}  # how the limits in force came to be
        self._breached: dict[str, dict[str, None]] = {}  # account -> rules whose halt was asked for

    # ------------------------------------------------------------------------------------------------------- signals

    def handle_signal(
        self,
        signal: Signal,
        prior: SignalRow | None,
        quote: Quote | None,
        btc_quote: Quote | None,
        halts: tuple[Halt, ...],
        now_ns: int,
        ess: Check | None = None,
    ) -> Admitted:
        """Judge one signal, once (SPEC ING4). `prior` is what the journal knows of its id, `halts` those in scope,
        `ess` what a risk service says."""
        self._evict(now_ns)
        known = self._signals.get(signal.signal_id, prior)
        if known is not None:
            return self._again(signal, known, now_ns)
        exposure = self._exposures.get(signal.account)
        if exposure is None:
            check = Check("RSK10.account", False, reason=f"there is no account {signal.account!r}")
            return self._admitted(signal, Verdict(Outcome.REFUSED, (check,)), (), (), 0, now_ns)
        before = self._roll(exposure, now_ns)
        self._note_acknowledged(signal.account, halts)
        verdict = judge(exposure.view(signal, quote, _mid(btc_quote), halts, now_ns, ess))
        if verdict.plan is not None:
            exposure.reserve(signal, verdict.plan, now_ns)
        row = exposure.changed_row()
        rows: tuple[Row, ...] = () if row is None else (row,)
        return self._admitted(signal, verdict, before, rows, exposure.row.limits_version, now_ns)

    def handle_confirmed(self, signal_id: str, confirmed: Confirmed) -> None:
        """The order actor tells a signal's end; a repeat is answered with it from now on."""
        exposure = self._exposures.get(confirmed.account)
        if exposure is not None:
            exposure.release(signal_id)
        row = self._signals.get(signal_id)
        if row is not None:
            self._signals[signal_id] = replace(row, outcome=confirmed.outcome, confirmed=confirmed)
            self._ended.append((confirmed.at_ns, signal_id))

    def forget(self, signal_id: str, now_ns: int) -> None:
        """The journal has it for good; it leaves memory a while later, when no look from before can be under way."""
        self._ended.append((now_ns, signal_id))

    # ---------------------------------------------------------------------------------------------------------- news

    def handle_standing(self, standing: Standing, quote: Quote | None, now_ns: int) -> Reaction:
        exposure = self._exposures[standing.position.account]
        facts = self._roll(exposure, now_ns)
        exposure.stand(standing, quote)
        return self._reaction(exposure, facts, now_ns)

    def handle_balances(self, seen: BalancesSeen, quote_of: QuoteOf, now_ns: int) -> Reaction:
        exposure = self._exposures[seen.account]
        facts = self._roll(exposure, now_ns)
        exposure.mark_all(quote_of)
        transfers, unexplained = exposure.see_balances(seen)
        exposure.mark_all(quote_of)  # of what the wallet holds now
        booked = tuple(_transferred(seen.account, transfer, now_ns) for transfer in transfers)
        alerts = tuple(_unexplained(exposure, one, now_ns) for one in unexplained if _matters(exposure, one))
        return self._reaction(exposure, (*facts, *booked, *alerts), now_ns, tuple(map(alert_event, alerts)))

    def tick(self, now_ns: int, quote_of: QuoteOf, in_force: tuple[Halt, ...]) -> Reaction:
        """Value all accounts at the market, begin new days, find losses. At least once a second (RELIABILITY I14).

        `in_force` are all the switch's halts: a loss that is no longer among them was acknowledged, also when no signal
        comes, so that a restart does not ask for it again.
        """
        facts: list[AnyFact] = []
        rows: list[Row] = []
        halts: list[Halt] = []
        for exposure in self._exposures.values():
            rolled = self._roll(exposure, now_ns)
            self._note_acknowledged(exposure.account, in_force)
            exposure.mark_all(quote_of)
            reaction = self._reaction(exposure, rolled, now_ns)
            facts += reaction.facts
            rows += reaction.rows
            halts += reaction.halts
        return Reaction(tuple(facts), tuple(rows), tuple(halts))

    def acknowledge(self, account: str) -> None:
        """A person has taken note of an account's losses: they no longer count, the next ones do."""
        self._exposures[account].acknowledge()
        self._breached.pop(account, None)

    # -------------------------------------------------------------------------------------------------------- limits

    def set_limits(
        self, account: str, limits: Limits, by: str, now_ns: int, stamp: Stamp | None = None
    ) -> tuple[tuple[AnyFact, ...], tuple[Row, ...]]:
        """Limits in force from the next signal on, with their place in the audit log (SPEC RSK10).

        `stamp` None: at a start, which says nothing of the moment at which they were made.
        """
        assert not faults(limits), f"limits that nobody checked: {faults(limits)}"
        exposure = self._exposures[account]
        before, set_ = exposure.limits, self._set.get(account)
        made_ns = set_.made_ns if set_ is not None else 0
        policy = set_.policy if set_ is not None else -1
        if stamp is not None:
            made_ns = min(now_ns if stamp.made_ns is None else stamp.made_ns, now_ns)
            policy = policy if stamp.version is None else stamp.version
        version = exposure.row.limits_version + 1
        exposure.limits = limits
        exposure.row = replace(exposure.row, limits_version=version)
        row = exposure.changed_row()
        assert row is not None
        changed = differences(before, limits)
        fact = LimitsSet(
            at_ns=now_ns, account=account, cause=by, version=version, limits=limits, by=by, changed=changed
        )
        self._set[account] = LimitsRow(account, version, limits, by, now_ns, made_ns, policy)
        return (fact,), (self._set[account], row)

    def change_limits(
        self, account: str, changes: Mapping[str, object], by: str, now_ns: int, stamp: Stamp | None = None
    ) -> Changed | tuple[Refusal, ...]:
        """Some limits by name, the others as they are (the defaults, for an account without); or every reason why not.

        `stamp` is a policy's: one that was overtaken on its way changes nothing.
        """
        if account not in self._exposures:
            return (Refusal("account", f"there is no account {account!r}"),)
        late = () if stamp is None else self._overtaken(account, stamp)
        before = self._exposures[account].limits or Limits()
        try:
            limits = msgspec.convert(asdict(before) | _as_text(changes), Limits, strict=False)
        except msgspec.ValidationError as error:
            return (*late, Refusal("limits", str(error)))
        if insane := _insane(limits):
            return (*late, *insane)
        if wrong := (*late, *faults(limits), *beyond(limits, self._accounts[account].bounds)):
            return wrong
        return Changed(limits, *self.set_limits(account, limits, by, now_ns, stamp or Stamp()))

    def tighten(self, account: str, fallback: Limits, now_ns: int) -> Changed | None:
        """Limits that an earlier run was allowed to set, brought inside the bounds that the config has now."""
        limits = self._exposures[account].limits
        bounds = self._accounts[account].bounds
        if limits is None or not beyond(limits, bounds):
            return None
        tightened = within(limits, bounds)
        limits = fallback if faults(tightened) else tightened
        return Changed(limits, *self.set_limits(account, limits, BOUNDS_BY, now_ns))

    def _overtaken(self, account: str, stamp: Stamp) -> tuple[Refusal, ...]:
        """Why a policy is older than what is in force."""
        set_ = self._set.get(account)
        found: list[Refusal] = []
        if set_ is not None and stamp.made_ns is not None and stamp.made_ns < set_.made_ns:
            late = plain(Decimal(set_.made_ns - stamp.made_ns).scaleb(-9))
            found.append(Refusal("timestamp", f"is {late} s before the limits in force, which are by {set_.by}"))
        if set_ is not None and stamp.version is not None and stamp.version <= set_.policy:
            found.append(Refusal("version", f"is {stamp.version}, but version {set_.policy} is in force already"))
        return tuple(found)

    def limits(self, account: str) -> Limits | None:
        return self._exposures[account].limits

    def stop_default(self, account: str) -> Decimal | None:
        """Distance of the stop for a position that came without one, as a fraction; None: leave it without."""
        limits = self._exposures[account].limits
        return limits.stop_distance_default if limits is not None and limits.stop_required else None

    def usage(self, btc_quote: Quote | None, now_ns: int) -> dict[str, tuple[Check, ...]]:
        """By account, how much of its limits is used; changes nothing."""
        views = {
            name: exposure.view(_NOBODYS, None, _mid(btc_quote), (), now_ns)
            for name, exposure in self._exposures.items()
        }
        return {name: usage(view) for name, view in views.items()}

    # -------------------------------------------------------------------------------------------------------- account

    def exposure(self, account: str) -> Exposure:
        """The ledger of one account, to look at."""
        return self._exposures[account]

    def recover(self, books: OpenBooks) -> None:
        """Begin from what the journal holds; called once, before anything else."""
        limits = self._set = {row.account: row for row in books.limits}
        accounts = {row.account: row for row in books.accounts}
        for name, exposure in self._exposures.items():
            newest = limits.get(name)
            exposure.limits = newest.limits if newest is not None else None
            exposure.recover(
                accounts.get(name),
                [position for position in books.positions if position.account == name],
                [order for order in books.orders if order.account == name],
                [(row.signal, row.plan) for row in books.signals if row.signal.account == name and row.plan],
            )
            if newest is not None and newest.version > exposure.row.limits_version:
                exposure.row = replace(exposure.row, limits_version=newest.version)
        self._signals = {row.signal.signal_id: row for row in books.signals}
        for halt in books.halts:
            if kind_of(halt) == "loss" and halt.scope.startswith("account/"):
                self._breached.setdefault(halt.scope.removeprefix("account/"), {})[halt.by.removeprefix(BY)] = None

    def check(self) -> None:
        """Assert what must always hold, over all accounts."""
        for exposure in self._exposures.values():
            exposure.check()
            for signal_id in exposure.provisional:
                row = self._signals.get(signal_id)
                assert row is None or row.outcome is Outcome.ACCEPTED, f"{signal_id} ended and is still reserved"

    # --------------------------------------------------------------------------------------------------------- inside

    def _exposure(self, terms: AccountTerms) -> Exposure:
        return Exposure(terms.name, terms.venue, terms.quote, lambda symbol: self._instrument_of(terms.name, symbol))

    def _again(self, signal: Signal, known: SignalRow, now_ns: int) -> Admitted:
        if signal.body_hash == known.signal.body_hash:
            return Admitted("repeated", known)
        conflicted = SignalConflicted(
            **_about(signal, signal.signal_id, now_ns),
            signal_id=signal.signal_id,
            first_hash=known.signal.body_hash,
            other_hash=signal.body_hash,
            source=signal.source,
        )
        alert = Alerted(
            **_about(signal, signal.signal_id, now_ns),
            severity="warning",
            kind="signal.conflict",
            text=f"signal {signal.signal_id} came again with another body, from {signal.source}; it is not executed",
        )
        return Admitted("conflict", known, (conflicted, alert), (alert_event(alert),))

    def _admitted(
        self,
        signal: Signal,
        verdict: Verdict,
        before: tuple[AnyFact, ...],
        account_rows: tuple[Row, ...],
        limits_version: int,
        now_ns: int,
    ) -> Admitted:
        facts = (*before, *_received_and_judged(signal, verdict, limits_version, now_ns))
        row = SignalRow(signal=signal, outcome=verdict.outcome, checks=verdict.checks, plan=verdict.plan)
        if verdict.plan is not None:
            self._signals[signal.signal_id] = row
            return Admitted("accepted", row, facts, (row, *account_rows), Enact(signal, verdict.plan))
        ended = _ended_at_once(row, facts, account_rows, now_ns)
        self._signals[signal.signal_id] = ended.row
        self._ended.append((now_ns, signal.signal_id))
        return ended

    def _evict(self, now_ns: int) -> None:
        ended = self._ended
        while ended and ended[0][0] <= now_ns - KEEP_NS:
            self._signals.pop(ended.popleft()[1], None)

    def _roll(self, exposure: Exposure, now_ns: int) -> tuple[AnyFact, ...]:
        if not exposure.roll(now_ns):
            return ()
        row = exposure.row
        if exposure.limits is not None and exposure.limits.loss_latch == "day":
            self._breached.pop(row.account, None)
        fact = DayRolled(
            at_ns=now_ns,
            account=row.account,
            day=row.day,
            baseline_net=row.baseline_net,
            baseline_volume=row.baseline_volume,
        )
        return (fact,)

    def _note_acknowledged(self, account: str, halts: tuple[Halt, ...]) -> None:
        if account not in self._breached:
            return
        if not any(kind_of(halt) == "loss" and halt.scope == f"account/{account}" for halt in halts):
            self.acknowledge(account)

    def _reaction(
        self, exposure: Exposure, facts: tuple[AnyFact, ...], now_ns: int, events: tuple[Row, ...] = ()
    ) -> Reaction:
        known = self._breached.get(exposure.account, {})
        halts = tuple(h for h in breaches(exposure, now_ns) if h.by.removeprefix(BY) not in known)
        for halt in halts:
            self._breached.setdefault(exposure.account, {})[halt.by.removeprefix(BY)] = None
        row = exposure.changed_row()
        return Reaction(facts, events if row is None else (row, *events), halts)


def turned_down(signal: Signal, check: Check, now_ns: int) -> Admitted:
    """Refused past the gate, which could not judge it: on record by its id, so that a repeat gets the same answer."""
    verdict = Verdict(Outcome.REFUSED, (check,))
    row = SignalRow(signal=signal, outcome=verdict.outcome, checks=verdict.checks)
    return _ended_at_once(row, _received_and_judged(signal, verdict, 0, now_ns), (), now_ns)


def _ended_at_once(row: SignalRow, facts: tuple[AnyFact, ...], account_rows: tuple[Row, ...], now_ns: int) -> Admitted:
    """A signal that goes no further than its verdict."""
    confirmed = _confirmed(row.signal, Verdict(row.outcome, row.checks), now_ns)
    rows: tuple[Row, ...] = (
        row,
        *account_rows,
        SignalEnded(confirmed=confirmed),
        confirmation_event(confirmed, row.checks),
    )
    status: Status = "refused" if row.outcome is Outcome.REFUSED else "recorded"
    return Admitted(status, replace(row, confirmed=confirmed), (*facts, confirmed), rows)


def _transferred(account: str, transfer: TransferReport, now_ns: int) -> Transferred:
    return Transferred(
        at_ns=now_ns,
        account=account,
        cause=transfer.transfer_id,
        transfer_id=transfer.transfer_id,
        asset=transfer.asset,
        amount=transfer.amount,
        kind=transfer.kind,
        venue_ns=transfer.venue_ns,
    )


def _matters(exposure: Exposure, strange: Strange) -> bool:
    """More than a thousandth of the account: less than that are rebates, interest and what was rounded."""
    return abs(exposure.worth(strange.asset, strange.least)) * 1000 >= abs(exposure.equity() or ZERO)


def _unexplained(exposure: Exposure, strange: Strange, now_ns: int) -> Alerted:
    text = f"the balance changed by {plain(strange.least)} {strange.asset}, and no execution, funding or transfer"
    return Alerted(at_ns=now_ns, account=exposure.account, severity="warning", kind="balance", text=f"{text} says why")


def breaches(exposure: Exposure, now_ns: int) -> tuple[Halt, ...]:
    """Halts that the account's losses ask for now (SPEC RSK5): latched, or until midnight UTC, as its limits say."""
    limits = exposure.limits
    if limits is None:
        return ()
    latched = limits.loss_latch != "day"
    until_ns = None if latched else (now_ns // DAY + 1) * DAY
    loss = -exposure.day_result()
    gone = exposure.drawdown()
    losses = exposure.row.losses_in_row
    found: list[tuple[str, str]] = []
    if loss > 0 and loss >= limits.daily_loss_max:
        text = f"today's loss of {plain(cents(loss, 2))} reached the limit of {plain(limits.daily_loss_max)}"
        found.append(("RSK5.daily_loss", f"{text} {exposure.quote}"))
    if gone is not None and gone > 0 and gone >= limits.drawdown_max:
        text = f"equity is {plain(cents(gone, 4))} below its peak, the limit is {plain(limits.drawdown_max)}"
        found.append(("RSK5.drawdown", text))
    if losses and losses >= limits.losses_in_row_max:
        found.append(("RSK5.losses_in_row", f"{losses} losses in a row, the limit is {limits.losses_in_row_max}"))
    scope = f"account/{exposure.account}"
    return tuple(Halt(scope, reason, now_ns, BY + rule, latched, until_ns, kind="loss") for rule, reason in found)


class _About(TypedDict):
    """What every fact about a signal says first."""

    at_ns: int
    account: str
    symbol: str
    trace_id: str
    cause: str


def _about(signal: Signal, cause: str, now_ns: int) -> _About:
    return _About(at_ns=now_ns, account=signal.account, symbol=signal.symbol, trace_id=signal.trace_id, cause=cause)


def _received_and_judged(
    signal: Signal, verdict: Verdict, limits_version: int, now_ns: int
) -> tuple[SignalReceived, Judged]:
    received = SignalReceived(**_about(signal, signal.source, now_ns), signal=signal)
    judged = Judged(
        **_about(signal, signal.signal_id, now_ns),
        signal_id=signal.signal_id,
        outcome=verdict.outcome,
        checks=verdict.checks,
        plan=verdict.plan,
        limits_version=limits_version,
    )
    return received, judged


def _confirmed(signal: Signal, verdict: Verdict, now_ns: int) -> Confirmed:
    """The end of a signal that goes no further."""
    failed = "; ".join(f"{check.rule}: {check.reason}" for check in verdict.checks if not check.passed)
    noted = "; ".join(check.reason for check in verdict.checks if check.reason)
    return Confirmed(
        **_about(signal, signal.signal_id, now_ns),
        signal_id=signal.signal_id,
        outcome=verdict.outcome,
        side=signal.side,
        asked_qty=ZERO,
        reason=failed or signal.note or noted,
        context=signal.context,
    )


def _as_text(changes: Mapping[str, object]) -> dict[str, object]:
    """Numbers as text, so that a Decimal is made of what was written."""
    return {
        name: value if value is None or isinstance(value, str | bool | Decimal | tuple | list) else str(value)
        for name, value in changes.items()
    }


def _insane(limits: Limits) -> tuple[Refusal, ...]:
    """Which figures are no numbers to reckon with."""
    found = []
    for name, figure in asdict(limits).items():
        if isinstance(figure, Decimal):
            try:
                sane(figure)
            except BadNumber as error:
                found.append(Refusal(name, str(error)))
    return tuple(found)


def differences(before: Limits | None, after: Limits) -> tuple[tuple[str, str, str], ...]:
    """What a change has changed: (limit, old, new). Of an account's first limits all are new."""
    old, new = {} if before is None else asdict(before), asdict(after)
    return tuple(
        (name, _said(old[name]) if name in old else "", _said(value))
        for name, value in new.items()
        if name not in old or old[name] != value
    )


def _said(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    return " ".join(value) or "all" if isinstance(value, tuple) else str(value)


def _mid(quote: Quote | None) -> Decimal | None:
    return quote.mid if quote is not None and sensible(quote) else None
