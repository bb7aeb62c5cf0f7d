"""Seeded bugs: a checker that never failed proves nothing, so each of these must be caught by some seed.

A mutant changes one function, method or table entry of the product from outside, for as long as its context lasts;
the product has no switches for it. A control is a change that does no harm and must not be caught. Where the worlds of
the swarm bring the situation too seldom, a mutant says what its worlds have more of, and the table prints it.

    python -m tests.sim.mutants                                    all of them, in a table
    python -m tests.sim.mutants --only halt-lost --show            watch one being caught
    python -m tests.sim.mutants --only halt-lost --shrink          the smallest world in which it is
    python -m tests.sim.mutants --only halt-lost --seed 3 --show   that world again (options as `simulate` has them)
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

import actors.desk
import actors.ingest
import actors.order
import actors.publisher
import actors.reconciler
import engine.core.order
import engine.venues.binance.errors as binance_errors
import engine.venues.binance.executions as binance_executions
import engine.venues.binance.spot as binance_spot
import engine.venues.bybit.errors as bybit_errors
import engine.venues.bybit.reports as bybit_reports
import tests.sim.feed
from actors.ports import World as Ports
from engine.core import checks, position, protection, reconcile, rules, sizing
from engine.core.admission import Admission
from engine.core.blotter import Blotter, answers, follow, reports
from engine.core.blotter import blotter as blotter_shell
from engine.core.blotter.sheet import Sheet
from engine.core.exposure import Exposure
from engine.core.ids import client_order_id, is_ours
from engine.core.messages import (
    ZERO,
    Accepted,
    Acked,
    Answer,
    Canceled,
    Corrected,
    Cursor,
    Ending,
    Failed,
    Leg,
    LookedUp,
    Missing,
    NotFound,
    Order,
    Place,
    Rejection,
    Side,
    Silence,
    State,
)
from engine.core.order import opens, remaining
from engine.core.times import SECOND
from engine.runtime.journal import memory
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.group import Group
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.runtime.switch import Switch
from engine.venues.binance.api import Api
from engine.venues.binance.decoding import execution_id
from engine.venues.bybit.client import BybitVenue
from engine.venues.throttle import Lane, Throttle
from tests.sim import shared, shrink, world
from tests.sim.checks import Violation
from tests.sim.faults import OF_A_DISK, OF_PROTOCOLS, Options, draw, with_families
from tests.sim.seeds import Stuck, cores, shrunk_from, spread, story, time_limit
from tests.sim.shrink import Cut
from tests.sim.world import BEGAN_NS, SINKS, Report, run_seed

SEEDS = 200
SPIN_SECONDS = 30  # on a processor: a mutant that lets no time pass is caught by that alone
CANARY_EVERY, CANARY_SEED = 100, 37
TAIL = 60
OUR_SLIPS = ("TypeError", "AttributeError", "NameError")  # no bug of ours reads like this: the patch is out of date

Patch = AbstractContextManager[None]


class Likely(Struct, frozen=True):
    """What the worlds of a mutant have more of than the swarm would draw."""

    on: tuple[str, ...] = ()  # families of faults
    off: tuple[str, ...] = ()
    quiet: bool = False  # no family at all
    face: str = "memory"  # whose protocol; a bug of an adapter shows where it is used
    nature: dict[str, Any] = {}
    load: dict[str, Any] = {}
    faults: dict[str, Any] = {}
    limits: dict[str, Any] = {}

    def options(self, seed: int) -> Options:
        options = draw(seed)
        off = (*self.off, *self.on, *(OF_PROTOCOLS if self.face == "memory" else ()))
        families = () if self.quiet else tuple(f for f in options.families if f not in off) + self.on
        options = with_families(options, families)
        return replace(
            options,
            face=self.face,
            dead="" if self.quiet else options.dead,
            nature=replace(options.nature, **self.nature),
            load=replace(options.load, **self.load),
            faults=replace(options.faults, **self.faults),
        )

    @contextmanager
    def terms(self) -> Iterator[None]:
        """The account's limits in these worlds; the checker is told of them."""
        limits = replace(world.LIMITS, **self.limits)
        with swap(world, "LIMITS", limits), swap(world, "POSITION_CAP", limits.position_notional_max):
            yield

    def __str__(self) -> str:
        parts = [f"by {self.face}"] if self.face != "memory" else []
        parts += ["no faults"] if self.quiet else [f"+{name}" for name in self.on] + [f"-{name}" for name in self.off]
        for given in (self.nature, self.load, self.faults, self.limits):
            parts += [f"{name}={value}" for name, value in given.items()]
        return ", ".join(parts)


class Mutant(Struct, frozen=True):
    """One seeded bug, or a control."""

    name: str
    says: str
    patch: Callable[[], Patch]
    likely: Likely = Likely()
    control: bool = False


class Catch(Struct, frozen=True):
    """The first seed that caught a mutant, and by which invariants. `report` is empty where the run spun."""

    seed: int
    invariants: tuple[str, ...]
    violations: tuple[Violation, ...]
    report: Report | None


def run(mutant: Mutant, seed: int, cut: Cut = Cut()) -> Catch | None:
    """One world with the bug in it; None when the checker saw nothing that it does not see without the bug."""
    with mutant.patch():
        report, violations = live_through(mutant, seed, cut)
    if not violations:
        return None
    slips = [v.text for v in violations if v.invariant == "FELL" and any(name in v.text for name in OUR_SLIPS)]
    assert not slips, f"the patch of {mutant.name} does not fit the product any more: {slips[0]}"
    _, usual = live_through(mutant, seed, cut)  # a find in the product itself is the swarm's to tell, and no proof here
    known = {v.invariant for v in usual}
    fresh = tuple(v for v in violations if v.invariant not in known)
    found = tuple(dict.fromkeys(v.invariant for v in sorted(fresh, key=lambda v: v.at_ns)))
    return Catch(seed, found, fresh, report) if fresh else None


def live_through(mutant: Mutant, seed: int, cut: Cut = Cut()) -> tuple[Report | None, tuple[Violation, ...]]:
    """A mutant's world, with whatever is patched now. No report where no time passed any more."""
    reports: list[Report] = []
    with mutant.likely.terms():
        try:
            with time_limit(SPIN_SECONDS):
                reports.append(run_seed(seed, options=cut.apply(mutant.likely.options(seed))))
        except* Stuck:
            pass
    if not reports:
        return None, (Violation("SPIN", BEGAN_NS, f"seed {seed} worked for more than {SPIN_SECONDS} s"),)
    return reports[0], tuple(reports[0].violations)


def caught(mutant: Mutant, seeds_max: int = SEEDS) -> Catch | None:
    """The first of the seeds 1 to `seeds_max` that catches the mutant."""
    return next((found for seed in range(1, seeds_max + 1) if (found := run(mutant, seed)) is not None), None)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when every bug is caught and no control is."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAME", action="append", help="this mutant (may be given several times)")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"tried per mutant (default {SEEDS})")
    parser.add_argument("--seed", type=int, metavar="S", help="try this one alone")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="J", help="processes at once (default: the cores)")
    parser.add_argument("--list", action="store_true", help="name them and end")
    parser.add_argument("--show", action="store_true", help="show how each was caught: the world, its last effects")
    shrink.add_arguments(parser)
    arguments = parser.parse_args(argv)
    unknown = set(arguments.only or ()) - {m.name for m in MUTANTS}
    if unknown:
        parser.error(f"there is no mutant called {', '.join(sorted(unknown))}; --list names them")
    if arguments.seeds < 1 or arguments.jobs < 1:
        parser.error("--seeds, --jobs: at least 1")
    chosen = [m for m in MUTANTS if not arguments.only or m.name in arguments.only]
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.name:<36} {'control: ' if mutant.control else ''}{mutant.says}")
        return 0
    task = Task(
        seeds=range(1, arguments.seeds + 1) if arguments.seed is None else range(arguments.seed, arguments.seed + 1),
        cut=shrink.of_arguments(arguments),
        show=arguments.show,
        shrink_seconds=arguments.shrink_seconds if arguments.shrink else 0.0,
    )
    return table(chosen, task, arguments.jobs)


class Task(Struct, frozen=True):
    """What is done with each mutant."""

    seeds: range
    cut: Cut = Cut()
    controls: int = 60  # seeds that must not catch a control
    show: bool = False
    shrink_seconds: float = 0.0  # 0: not at all


class Found(Struct, frozen=True):
    """A catch, small enough to be handed from one process to another. No seed: it lived through all."""

    mutant: str
    seed: int | None = None
    invariants: tuple[str, ...] = ()
    text: str = ""


def table(chosen: Sequence[Mutant], task: Task, jobs: int) -> int:
    wrong: list[str] = []
    firsts: list[int] = []
    print(f"{'mutant':<36} {'first seed':>10}  {'caught by':<24} worlds")
    began = time.perf_counter()
    with closing(search(chosen, task, jobs)) as searching:
        for mutant, found in zip(chosen, searching, strict=True):
            if (found.seed is None) is not mutant.control:
                wrong.append(mutant.name)
            if found.seed is not None and not mutant.control:
                firsts.append(found.seed)
            print(row(mutant, found, task), flush=True)
            if found.text:
                print(found.text)
    bugs = [m for m in chosen if not m.control]
    median = sorted(firsts)[len(firsts) // 2] if firsts else "-"
    print(
        f"{len(firsts)} of {len(bugs)} seeded bugs caught, median first seed {median}, last {max(firsts, default='-')};"
        f" {len(chosen) - len(bugs)} controls; {time.perf_counter() - began:.0f} s"
    )
    if wrong:
        print(f"not as it must be: {', '.join(wrong)}")
    return 1 if wrong else 0


def row(mutant: Mutant, found: Found, task: Task) -> str:
    tried = min(len(task.seeds), task.controls) if mutant.control else len(task.seeds)
    seed = f"- of {tried}" if found.seed is None else str(found.seed)
    by = " ".join(found.invariants[:5]) or ("nothing (control)" if mutant.control else "NOT CAUGHT")
    return f"{mutant.name:<36} {seed:>10}  {by:<24} {mutant.likely}".rstrip()


def search(chosen: Sequence[Mutant], task: Task, jobs: int) -> Iterator[Found]:
    """Each mutant's first catch, in the order of the mutants."""
    yield from spread(partial(find, task=task), [m.name for m in chosen], jobs)


def find(name: str, task: Task) -> Found:
    mutant = next(m for m in MUTANTS if m.name == name)
    for seed in task.seeds[: task.controls] if mutant.control else task.seeds:
        catch = run(mutant, seed, task.cut)
        if catch is not None:
            wanted = task.show or task.shrink_seconds
            return Found(name, seed, catch.invariants, tell(mutant, catch, task) if wanted else "")
    return Found(name)


def tell(mutant: Mutant, catch: Catch, task: Task) -> str:
    """What a person wants to see of a catch: the bug, the world, the last effects, what broke, how to see it again."""
    about = f"the bug: {mutant.says}"
    if catch.report is None:
        return f"{about}\n{catch.violations[0].text}"

    def command(cut: Cut) -> str:
        parts = f"--only {mutant.name} --seed {catch.seed} {cut.arguments()}".rstrip()
        return f"again: python -m tests.sim.mutants {parts} --show"

    if not task.shrink_seconds:
        return f"{about}\n{story(catch.report, TAIL, command(task.cut))}"
    with mutant.patch():
        shrunk = shrink.shrink(
            lambda cut: live_through(mutant, catch.seed, cut)[0], catch.report, task.shrink_seconds, task.cut
        )
    return f"{about}\n{story(shrunk.report, TAIL, command(shrunk.cut))}\n{shrunk_from(catch.report, shrunk)}"


# ----------------------------------------------------------------------------------------------------- ways to patch


@contextmanager
def swap(owner: Any, name: str, value: Any) -> Iterator[None]:
    """One attribute of a module or a class, put back afterwards."""
    real = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextmanager
def everywhere(real: Callable[..., Any], value: Callable[..., Any]) -> Iterator[None]:
    """One function, under each name by which a module of the product knows it."""
    with ExitStack() as stack:
        for module_name, module in sorted(sys.modules.items()):
            if module_name.startswith(("engine.", "actors.")):
                for name in [n for n, bound in vars(module).items() if bound is real]:
                    stack.enter_context(swap(module, name, value))
        yield


@contextmanager
def both(*patches: Patch) -> Iterator[None]:
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


# ------------------------------------------------------------------------------------------------ bugs of the adapters


def code_in_a_200_ignored() -> Patch:
    def taken(code: int, text: str, order_id: str, venue_ns: int) -> Answer:
        return Acked(order_id or "0", venue_ns)

    return everywhere(bybit_errors.answer_to_place, taken)


def unknown_status_ends() -> Patch:
    real = bybit_reports._status

    def status(row: bybit_reports.OrderRow, qty: Decimal, filled: Decimal) -> str:
        return real(row, qty, filled) if row.orderStatus in bybit_reports._STATUSES else "canceled"

    return swap(bybit_reports, "_status", status)


def failed_page_is_empty() -> Patch:
    real = BybitVenue._pages

    async def pages(self: BybitVenue, *arguments: Any, **named: Any) -> Any:
        found = await real(self, *arguments, **named)
        return [] if isinstance(found, Failed) else found

    return swap(BybitVenue, "_pages", pages)


def server_error_is_a_no() -> Patch:
    real = binance_errors._meaning

    def meaning(market: Any, status: int, error: Any) -> Any:
        return binance_errors.AGAIN if status >= 500 else real(market, status, error)

    return swap(binance_errors, "_meaning", meaning)


def by_socket_and_then_by_rest() -> Patch:
    real = Api.call

    async def call(self: Api, *arguments: Any, **named: Any) -> Any:
        outcome = await real(self, *arguments, **named)
        if isinstance(outcome, binance_errors.Verdict) and outcome.code == "silence":
            return replace(outcome, kind="not_sent")
        return outcome

    return swap(Api, "call", call)


def not_shown_is_nobodys() -> Patch:
    return swap(binance_executions, "SHOWN_NS", 0)


def canceled_under_its_old_id() -> Patch:
    return swap(binance_spot, "cancel_id", lambda cid: cid)


def execution_named_by_trade() -> Patch:
    return everywhere(execution_id, lambda trade, order: str(trade))


@contextmanager
def nothing() -> Iterator[None]:
    yield


def rule(real: Callable[..., Any], value: Callable[..., Any] | None) -> Patch:
    """An entry of the tables of rules, exchanged or left out."""
    name = next(n for n in ("FIRST", "FIRST_OPENING", "REDUCING", "OPENING") if real in getattr(rules, n))
    entries = tuple(value if entry is real else entry for entry in getattr(rules, name))
    return swap(rules, name, tuple(entry for entry in entries if entry is not None))


def send_again(sheet: Sheet, order: Order, now_ns: int) -> None:
    """The forbidden thing: an entry once more, under its next id."""
    if order.leg is not Leg.ENTRY or order.attempt:
        return
    number = order.attempt + 1
    cid = client_order_id(sheet.terms.env, order.account, order.signal_id, order.leg, number)
    sheet.submit(
        Order(
            cid=cid,
            account=order.account,
            symbol=order.symbol,
            signal_id=order.signal_id,
            leg=order.leg,
            attempt=number,
            side=order.side,
            order_type=order.order_type,
            qty=order.qty,
            tif=order.tif,
            price=order.price,
            reserve_price=order.reserve_price,
            reference_price=order.reference_price,
            cancel_after_ns=order.cancel_after_ns,
            trace_id=order.trace_id,
            submitted_ns=now_ns,
        ),
        order.signal_id,
    )


# ------------------------------------------------------------------------------------------------ P1: sent twice


def retry_with_a_new_id() -> Patch:
    real = answers.answered

    def answered(sheet: Sheet, message: Any, now_ns: int) -> None:
        order = sheet.orders.get(message.cid)
        real(sheet, message, now_ns)
        if order is not None and message.request == "place" and isinstance(message.answer, Silence):
            send_again(sheet, order, now_ns)

    return everywhere(real, answered)


def retry_with_the_same_id() -> Patch:
    """A second request only where the first was silent; whatever it is told but yes leaves the doubt as it was."""
    return _sent_twice(lambda again: None)


def retry_and_duplicate_read_as_reject() -> Patch:
    """On top of the harmless retry: "I know this id" is taken for a no."""

    def read(again: Any) -> Any:
        known = isinstance(again, Rejection) and again.kind == "duplicate"
        return replace(again, kind="invalid") if known else None

    return _sent_twice(read)


def _sent_twice(read: Callable[[Any], Any]) -> Patch:
    """`read`: what the second request's answer is taken for if it is not a yes; None: for the silence of the first."""
    real = actors.order.send

    async def send(order: Order, blotter: Any, ports: Any, on_wire: Callable[[], None]) -> Any:
        answer = await real(order, blotter, ports, on_wire)
        if not isinstance(answer, Silence) or actors.order._door(order, blotter, ports) is not None:
            return answer
        await ports.account.throttle.wait(Lane.REDUCE)
        again = await ports.account.venue.submit(order, on_wire)
        return again if isinstance(again, Acked) else read(again) or answer

    return everywhere(real, send)


def absent(dead_ns: int, apart_ns: int, rounds: int, again: bool) -> Patch:
    """Not found counts earlier than it may, and perhaps the entry goes out once more."""
    real = answers._not_found

    def _not_found(sheet: Sheet, order: Order, message: Any, now_ns: int) -> None:
        if order.state is not State.UNCLEAR:
            return real(sheet, order, message, now_ns)
        if message.asked_ns < order.unclear_ns + dead_ns:
            return
        of = sheet.of(order)
        if order.rounds < rounds and message.asked_ns - order.round_ns >= apart_ns:
            sheet.tell(LookedUp(at_ns=message.asked_ns, cid=order.cid, round=order.rounds + 1, **of))
        if sheet.orders[order.cid].rounds < rounds:
            return
        sheet.tell(Missing(at_ns=now_ns, cid=order.cid, **of))
        if again:
            send_again(sheet, order, now_ns)

    return swap(answers, "_not_found", _not_found)


def recovery_sends_again() -> Patch:
    real = Blotter.recover

    def recover(self: Blotter, now_ns: int) -> Any:
        pending = [o for o in self.orders.values() if o.state is State.PENDING]
        step = real(self, now_ns)
        return replace(step, commands=(*(Place(order=o) for o in pending), *step.commands))

    return swap(Blotter, "recover", recover)


def canceled_not_found_sent_again() -> Patch:
    real = answers._cancel_answered

    def _cancel_answered(sheet: Sheet, order: Order, message: Any, now_ns: int) -> None:
        real(sheet, order, message, now_ns)
        if isinstance(message.answer, Rejection) and message.answer.kind == "not_found":
            send_again(sheet, order, now_ns)

    return swap(answers, "_cancel_answered", _cancel_answered)


def signal_not_deduplicated() -> Patch:
    real = Admission.handle_signal

    def handle_signal(self: Admission, signal: Any, prior: Any, *rest: Any) -> Any:
        self._signals.pop(signal.signal_id, None)
        return real(self, signal, None, *rest)

    return swap(Admission, "handle_signal", handle_signal)


def other_body_executed() -> Patch:
    real = Admission.handle_signal

    def handle_signal(self: Admission, signal: Any, prior: Any, *rest: Any) -> Any:
        known = self._signals.get(signal.signal_id, prior)
        if known is not None and known.signal.body_hash != signal.body_hash:
            self._signals.pop(signal.signal_id, None)
            prior = None
        return real(self, signal, prior, *rest)

    return swap(Admission, "handle_signal", handle_signal)


def past_signals_unknown() -> Patch:
    async def signal(self: MemoryJournal, signal_id: str) -> None:
        await trio.lowlevel.checkpoint()

    return swap(MemoryJournal, "signal", signal)


def attempts_not_counted() -> Patch:
    real = Sheet.closer

    def closer(self: Sheet, *args: Any, **named: Any) -> Order:
        before = self.position.attempts
        order = real(self, *args, **named)
        self.position = replace(self.position, attempts=before)
        return order

    return swap(Sheet, "closer", closer)


# ------------------------------------------------------------------------------------------- P2: lost, or booked twice


def acknowledged_before_durable() -> Patch:
    def put(self: Any, seq: int, answer: Callable[[Any], None], receipt: Any) -> None:
        answer(receipt)

    return swap(actors.ingest.Acknowledger, "put", put)


def fill_not_deduplicated() -> Patch:
    real = reports.fold_fill

    def fold_fill(sheet: Sheet, report: Any, now_ns: int) -> None:
        sheet.seen.pop(report.exec_id, None)
        real(sheet, report, now_ns)

    return everywhere(real, fold_fill)


def executions(keep: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Patch:
    """What a reconciliation makes of the executions that the venue lists."""
    real: Any = actors.reconciler.Reconciler._compare

    async def _compare(self: Any, *told: Any) -> Any:
        *before, fills = told
        return await real(self, *before, keep(fills))

    return swap(actors.reconciler.Reconciler, "_compare", _compare)


def executions_forgotten_on_restart() -> Patch:
    real = actors.desk.Desk._blotter

    def _blotter(self: Any, account: Any, symbol: str, instrument: Any, known: Any) -> Blotter:
        if known is not None:
            known.seen = []
        return real(self, account, symbol, instrument, known)

    return swap(actors.desk.Desk, "_blotter", _blotter)


def marked_before_published() -> Patch:
    real = actors.publisher.deliver

    async def deliver(rows: tuple[Any, ...], sink: Any, delivery: Any, ports: Ports) -> None:
        ports.journal.append((), (Cursor(sink.name, rows[-1].event_id),))
        await real(rows, sink, delivery, ports)

    return swap(actors.publisher, "deliver", deliver)


def one_cursor_for_all_sinks() -> Patch:
    real = actors.publisher.deliver

    async def deliver(rows: tuple[Any, ...], sink: Any, delivery: Any, ports: Ports) -> None:
        await real(rows, sink, delivery, ports)
        ports.journal.append((), tuple(Cursor(name, rows[-1].event_id) for name in SINKS))

    return swap(actors.publisher, "deliver", deliver)


def left_over_events_forgotten() -> Patch:
    def cursor(self: MemoryJournal, sink: str) -> int:
        return self._group.event_id

    return swap(MemoryJournal, "cursor", cursor)


def outbox_reordered() -> Patch:
    real = actors.publisher.deliver

    async def deliver(rows: tuple[Any, ...], *named: Any) -> None:
        await real(rows[::-1], *named)

    return swap(actors.publisher, "deliver", deliver)


def confirmation_told_twice() -> Patch:
    real = Sheet.end

    def end(self: Sheet, *args: Any, **named: Any) -> None:
        real(self, *args, **named)
        self.events.append(self.events[-1])

    return swap(Sheet, "end", end)


def rejection_without_confirmation() -> Patch:
    real = follow._settle

    def _settle(sheet: Sheet, order: Order, now_ns: int) -> None:
        if order.ending is Ending.REJECTED:
            sheet.signals.pop(order.signal_id, None)
        real(sheet, order, now_ns)

    return swap(follow, "_settle", _settle)


def accepted_signal_forgotten_on_restart() -> Patch:
    real = Blotter.recover

    def recover(self: Blotter, now_ns: int) -> Any:
        sent = {o.signal_id for o in self.orders.values()}
        for signal_id in [s for s in self._sheet.signals if s not in sent]:
            del self._sheet.signals[signal_id]
        return real(self, now_ns)

    return swap(Blotter, "recover", recover)


def foreign_fill_ignored() -> Patch:
    real = reports.fold_fill

    def fold_fill(sheet: Sheet, report: Any, now_ns: int) -> None:
        if is_ours(report.cid):
            real(sheet, report, now_ns)

    return everywhere(real, fold_fill)


def fills_of(keep: Callable[[Sheet, Any], Any]) -> Patch:
    """What is booked of an execution; None: nothing."""
    real = reports.fold_fill

    def fold_fill(sheet: Sheet, report: Any, now_ns: int) -> None:
        kept = keep(sheet, report)
        if kept is not None:
            real(sheet, kept, now_ns)

    return everywhere(real, fold_fill)


def no_more_than_asked(sheet: Sheet, report: Any) -> Any:
    order = sheet.orders.get(report.cid)
    if order is None or report.exec_id in sheet.seen or order.filled_qty + report.qty <= order.qty:
        return report
    return replace(report, qty=order.qty - order.filled_qty) if order.filled_qty < order.qty else None


def not_after_the_end(sheet: Sheet, report: Any) -> Any:
    return None if report.cid in sheet.ended else report


def nobodys_ignored(sheet: Sheet, report: Any) -> Any:
    return report if report.cid else None


def corrections_not_told() -> Patch:
    real = reports.fold_fill

    def fold_fill(sheet: Sheet, report: Any, now_ns: int) -> None:
        real(sheet, report, now_ns)
        sheet.facts[:] = [fact for fact in sheet.facts if not isinstance(fact, Corrected)]

    return everywhere(real, fold_fill)


def funding_ignored() -> Patch:
    return everywhere(reports.fold_funding, lambda sheet, report, now_ns: None)


def fee_in_base_ignored() -> Patch:
    real = position.apply_fill

    def apply_fill(
        held: Any, instrument: Any, side: Any, qty: Any, price: Any, fee: Any, asset: str, *rest: Any
    ) -> Any:
        return real(held, instrument, side, qty, price, ZERO if asset == instrument.base else fee, asset, *rest)

    return everywhere(real, apply_fill)


# --------------------------------------------------------------------------------- P3: no intent, or outside the limits


def sent_before_durable() -> Patch:
    real = actors.order.place

    async def place(order: Order, seq: int, blotter: Any, ports: Any, ticks: tuple[int, int]) -> None:
        await real(order, 0, blotter, ports, ticks)

    return swap(actors.order, "place", place)


def durable_at_once() -> Patch:
    async def durable(self: Group, seq: int, eager: bool = False) -> None:
        self._wanted.set()
        await trio.lowlevel.checkpoint()

    return swap(Group, "durable", durable)


def newest_commit_not_synced() -> Patch:
    def sync(self: MemoryDisk) -> None:
        self._keep(len(self._unsynced) - 1)

    return swap(MemoryDisk, "sync", sync)


def sync_failure_believed() -> Patch:
    """As who repeats a failed fsync: the second one says yes, and the pages are gone."""
    real = MemoryDisk.sync

    def sync(self: MemoryDisk) -> None:
        try:
            real(self)
        except JournalFailed:
            self._unsynced.clear()

    return swap(MemoryDisk, "sync", sync)


def facts_and_rows_in_two_commits() -> Patch:
    real = MemoryDisk.write

    def write(self: MemoryDisk, statements: Any) -> None:
        half = len(statements) // 2
        real(self, statements[:half])
        real(self, statements[half:])

    return swap(MemoryDisk, "write", write)


def standing_of(counts: Callable[[Order], bool], doubt_hidden: bool = False) -> Patch:
    """What the gate is told counts only some of the orders that may still open something."""
    real = Blotter.standing

    def standing(self: Blotter, now_ns: int) -> Any:
        told = real(self, now_ns)
        counted = [o for o in self.orders.values() if opens(o) and counts(o)]
        return replace(
            told,
            buying=sum((remaining(o) for o in counted if o.side is Side.BUY), ZERO),
            selling=sum((remaining(o) for o in counted if o.side is Side.SELL), ZERO),
            reserved=sum((remaining(o) * o.reserve_price for o in counted), ZERO),
            opening_orders=len(counted),
            unclear=0 if doubt_hidden else told.unclear,
        )

    return swap(Blotter, "standing", standing)


def reservation_leaked_on_reject() -> Patch:
    real = Blotter.standing
    leaked: dict[str, Order] = {}

    def standing(self: Blotter, now_ns: int) -> Any:
        told = real(self, now_ns)
        leaked.update({c: o for c, o in self.ended.items() if opens(o) and o.ending is Ending.REJECTED})
        kept = [o for o in leaked.values() if o.symbol == told.position.symbol]
        return replace(
            told,
            buying=told.buying + sum((o.qty for o in kept if o.side is Side.BUY), ZERO),
            selling=told.selling + sum((o.qty for o in kept if o.side is Side.SELL), ZERO),
            reserved=told.reserved + sum((o.qty * o.reserve_price for o in kept), ZERO),
            opening_orders=told.opening_orders + len(kept),
        )

    return swap(Blotter, "standing", standing)


def buys_and_sells_netted() -> Patch:
    def position_size(view: Any, draft: Any) -> Any:
        if not draft.worth:
            return None
        way = view.position.qty + view.buying - view.selling
        worth = max(way * draft.side.sign + draft.qty, ZERO) * draft.price
        return checks.at_most("RSK4.position_max", worth, draft.limits.position_notional_max, "", "the position")

    return rule(rules.position_size, position_size)


def provisional_not_counted() -> Patch:
    def reserve(self: Exposure, signal: Any, plan: Any, now_ns: int, again: bool = False) -> None:
        self._sent_at(signal, plan, now_ns)

    return swap(Exposure, "reserve", reserve)


def reckless() -> Patch:
    """Of the world, not a bug: limits of entries lie a tenth beyond the market."""
    real = tests.sim.feed.draw_body

    def draw_body(*args: Any) -> dict[str, Any]:
        body = real(*args)
        if "limit_price" in body and "take_profit" in body:
            tenth = Decimal("1.1") if body["side"] == "buy" else Decimal("0.9")
            price = (Decimal(body["limit_price"]) * tenth).quantize(Decimal("0.1"))
            gap = (price / 100).quantize(Decimal("0.1")) * (1 if body["side"] == "buy" else -1)
            body |= {"limit_price": str(price), "stop_loss": str(price - gap), "take_profit": str(price + 3 * gap)}
            body["tif"] = "gtc"
        return body

    return swap(tests.sim.feed, "draw_body", draw_body)


def collar_on_the_wrong_side() -> Patch:
    def near_market(view: Any, draft: Any) -> Any:
        price, quote = view.signal.limit_price, view.quote
        if price is None or quote is None or draft.side is None:
            return None
        away = (quote.mid - price) * draft.side.sign / quote.mid
        return checks.at_most("RSK6.deviation", away, draft.limits.price_deviation_max, "fraction", "the distance")

    return rule(rules.near_market, near_market)


def daily_loss_reset_by_restart() -> Patch:
    real = Exposure.recover

    def recover(self: Exposure, row: Any, *rest: Any) -> None:
        real(self, None, *rest)

    return swap(Exposure, "recover", recover)


def float_quantity() -> Patch:
    real = sizing.to_lot
    return everywhere(real, lambda qty, instrument: Decimal(float(real(qty, instrument))))


def door_that_forgets(code: str) -> Patch:
    """The last look before the wire, blind for one thing."""
    real = actors.order._door

    def _door(order: Order, blotter: Any, ports: Any) -> Rejection | None:
        refused = real(order, blotter, ports)
        return None if refused is not None and refused.code == code else refused

    return swap(actors.order, "_door", _door)


def halt_lost_on_restart() -> Patch:
    real = Switch.__init__

    def __init__(self: Switch, journal: Any, clock: Any, halts: Any = ()) -> None:
        real(self, journal, clock)

    return swap(Switch, "__init__", __init__)


def halt_stops_protection() -> Patch:
    real = actors.order._door

    def _door(order: Order, blotter: Any, ports: Any) -> Rejection | None:
        return real(replace(order, leg=Leg.ENTRY, reduce_only=False), blotter, ports)

    return swap(actors.order, "_door", _door)


def failed_list_read_as_empty() -> Patch:
    real = actors.reconciler.Reconciler.__init__

    def __init__(self: Any, account: Any, ports: Any, since_ns: int) -> None:
        real(self, replace(account, venue=NothingFails(account.venue)), ports, since_ns)

    return swap(actors.reconciler.Reconciler, "__init__", __init__)


def lock_ignored() -> Patch:
    real = MemoryDisk.mount

    def mount(self: MemoryDisk, at_ns: int, holder: object = None) -> Any:
        self._holder = None
        return real(self, at_ns, holder)

    return swap(MemoryDisk, "mount", mount)


class NothingFails:
    """A venue whose failed lists look empty."""

    def __init__(self, venue: Any) -> None:
        self._venue = venue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._venue, name)

    async def positions(self) -> Any:
        found = await self._venue.positions()
        return () if isinstance(found, Failed) else found

    async def fills(self, since_ns: int) -> Any:
        found = await self._venue.fills(since_ns)
        return () if isinstance(found, Failed) else found


def ban_ignored() -> Patch:
    return swap(Throttle, "close_until", lambda self, at_ns, why="": None)


def throttle_forgotten() -> Patch:
    async def wait(self: Throttle, lane: Lane, kind: str = "") -> None:
        await trio.lowlevel.checkpoint()

    return swap(Throttle, "wait", wait)


# ----------------------------------------------------------------------------------------------- P4: doubt guessed away


def silence_read_as(kind: str) -> Patch:
    real = answers.answered

    def answered(sheet: Sheet, message: Any, now_ns: int) -> None:
        if message.request == "place" and isinstance(message.answer, Silence):
            guess: Any = (
                Acked(venue_order_id="")
                if kind == "accepted"
                else Rejection(code="", kind="invalid", text=message.answer.why)
            )
            message = replace(message, answer=guess)
        real(sheet, message, now_ns)

    return everywhere(real, answered)


def failed_query_read_as_absence() -> Patch:
    real = answers.looked

    def looked(sheet: Sheet, message: Any, now_ns: int) -> None:
        if isinstance(message.found, Failed):
            message = replace(message, found=NotFound(cid=message.cid))
        real(sheet, message, now_ns)

    return everywhere(real, looked)


def failed_query_not_repeated() -> Patch:
    real = answers.looked

    def looked(sheet: Sheet, message: Any, now_ns: int) -> None:
        if not isinstance(message.found, Failed):
            real(sheet, message, now_ns)

    return everywhere(real, looked)


def duplicate_read_as_no() -> Patch:
    """No retry of ours: the request came to the venue twice on its way."""
    real = answers.answered

    def answered(sheet: Sheet, message: Any, now_ns: int) -> None:
        if isinstance(message.answer, Rejection) and message.answer.kind == "duplicate":
            message = replace(message, answer=replace(message.answer, kind="invalid"))
        real(sheet, message, now_ns)

    return everywhere(real, answered)


def cancel_not_found_read_as_canceled() -> Patch:
    real = answers._cancel_answered

    def _cancel_answered(sheet: Sheet, order: Order, message: Any, now_ns: int) -> None:
        if isinstance(message.answer, Rejection) and message.answer.kind == "not_found":
            return sheet.tell(Canceled(at_ns=now_ns, cid=order.cid, reason="not found", **sheet.of(order)))
        real(sheet, order, message, now_ns)

    return swap(answers, "_cancel_answered", _cancel_answered)


def late_yes_reopens() -> Patch:
    real = answers.answered

    def answered(sheet: Sheet, message: Any, now_ns: int) -> None:
        if message.cid in sheet.ended and message.request == "place" and isinstance(message.answer, Acked):
            order = replace(sheet.ended.pop(message.cid), state=State.OPEN)
            sheet.orders[order.cid] = order
            venue_order_id = message.answer.venue_order_id
            here: dict[str, Any] = sheet.of(order)
            return sheet.tell(Accepted(at_ns=now_ns, cid=order.cid, venue_order_id=venue_order_id, **here))
        real(sheet, message, now_ns)

    return everywhere(real, answered)


def partial_fill_read_as_full() -> Patch:
    real = engine.core.order._filled

    def _filled(order: Order, fact: Any, state: State) -> Order:
        after = real(order, fact, state)
        return replace(after, state=State.CLOSED, ending=Ending.FILLED, closed_ns=fact.at_ns)

    return swap(engine.core.order, "_filled", _filled)


def vanished_orders_ignored() -> Patch:
    real = reconcile.compare
    return everywhere(real, lambda live, report: replace(real(live, report), vanished=()))


def cancel_sent_once() -> Patch:
    return swap(follow, "CANCEL_AGAIN_NS", 10**18)


# ------------------------------------------------------------------------------------------------ P5: not protected


def reduce_only_dropped() -> Patch:
    real = Sheet.closer

    def closer(self: Sheet, *args: Any, **named: Any) -> Order:
        return replace(real(self, *args, **named), reduce_only=False)

    return swap(Sheet, "closer", closer)


def stop_sized_to_the_order() -> Patch:
    real, wanted = follow._protect, protection.wanted

    def _protect(sheet: Sheet, now_ns: int, tidy: bool) -> None:
        entries = [o for o in (*sheet.ended.values(), *sheet.orders.values()) if opens(o) and o.filled_qty]

        def sized(held: Any, instrument: Any) -> Any:
            return tuple(replace(w, qty=entries[-1].qty) if entries else w for w in wanted(held, instrument))

        with swap(follow, "wanted", sized):
            real(sheet, now_ns, tidy)

    return swap(follow, "_protect", _protect)


def stop_only_when_all_is_filled() -> Patch:
    real = follow._protect

    def _protect(sheet: Sheet, now_ns: int, tidy: bool) -> None:
        if not any(opens(o) and o.filled_qty for o in sheet.orders.values()):
            real(sheet, now_ns, tidy)

    return swap(follow, "_protect", _protect)


def passed_stop_not_looked_at() -> Patch:
    return swap(blotter_shell, "distrust", lambda sheet, passed_ns, now_ns: None)


def stop_missing_after_recovery() -> Patch:
    real = actors.desk.Desk._blotter

    def _blotter(self: Any, account: Any, symbol: str, instrument: Any, known: Any) -> Blotter:
        if known is not None:
            known.position = replace(known.position, stop_loss=None, stop_waived=True)
        return real(self, account, symbol, instrument, known)

    return swap(actors.desk.Desk, "_blotter", _blotter)


def stop_not_replaced() -> Patch:
    real = follow._protect

    def _protect(sheet: Sheet, now_ns: int, tidy: bool) -> None:
        owner = f"~{sheet.lifecycle_id()}/"
        mine = [o for o in sheet.ended.values() if o.leg is Leg.STOP and o.signal_id.startswith(owner)]
        if not any(o.ending is Ending.CANCELED and not o.cancel_asked for o in mine):
            real(sheet, now_ns, tidy)

    return swap(follow, "_protect", _protect)


def rest_of_protection_left_standing() -> Patch:
    real = protection.need

    def need(want: Any, have: Any, tidy: bool) -> Any:
        found = real(want, have, tidy)
        return replace(found, cancel=()) if want is None else found

    return swap(follow, "need", need)


def stop_on_the_wrong_side() -> Patch:
    real = protection.wanted

    def wanted(held: Any, instrument: Any) -> Any:
        return tuple(replace(w, side=w.side.opposite) for w in real(held, instrument))

    return swap(follow, "wanted", wanted)


def canary() -> Patch:
    """Nothing is wrong, and one world in a hundred says that something is: the alarm must be heard."""
    real = world.World.report

    def report(self: world.World) -> Report:
        told = real(self)
        if self.options.seed % CANARY_EVERY == CANARY_SEED:
            told.violations.append(Violation("CANARY", told.evidence.end_ns, "fails by design on one seed in 100"))
        return told

    return swap(world.World, "report", report)


# ------------------------------------------------------------------------------------------------------- all of them

CROWD = {"signals": 60, "gap_mean": 0.5, "burst": 2, "close_share": 0.0, "sell_share": 0.1}
CRASHES = ("crashes at any time", "crashes at boundaries")

STOPPED_IN_TURNS = Likely(
    on=("two engines", "frozen engines"),
    off=OF_A_DISK,
    faults={"lease_seconds": 2.0, "freeze_mean": 10.0, "freeze_max": 15.0},
    load={"signals": 40, "gap_mean": 1.0, "faulty_seconds": 240.0},
)

# At a venue that tells what a stop is for from the market.
OVERTAKEN = Likely(on=("leaping markets",), off=CRASHES, face="bybit", nature={"spot": True}, faults={"overtaken": 0.5})

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "code-in-200-ignored",
        "Bybit's code inside a 200 is not looked at: every answer is a yes",
        code_in_a_200_ignored,
        Likely(face="bybit", on=("refusals",)),
    ),
    Mutant(
        "unknown-status-ends",
        "a status of Bybit's that nobody knows is taken for an end",
        unknown_status_ends,
        Likely(face="bybit", on=("unknown words",)),
    ),
    Mutant(
        "failed-page-is-empty",
        "a list of Bybit's that could not be read is taken for an empty one",
        failed_page_is_empty,
        Likely(face="bybit", on=("failing queries", "unreadable answers")),
    ),
    Mutant(
        "server-error-is-a-no",
        "Binance's -1007 and its 5xx are taken for a no, and the order is sent again",
        server_error_is_a_no,
        Likely(face="binance-usdm", on=("server errors",)),
    ),
    Mutant(
        "by-socket-and-rest",
        "what the order socket does not answer goes by REST as well",
        by_socket_and_then_by_rest,
        Likely(face="binance-usdm", on=("lost replies",)),
    ),
    Mutant(
        "not-shown-is-nobodys",
        "an execution on Spot whose order is not shown yet is booked as somebody else's",
        not_shown_is_nobodys,
        Likely(face="binance-spot", on=("read lag", "lost replies", "dropped events")),
    ),
    Mutant(
        "canceled-under-its-old-id",
        "a canceled order on Spot is asked for by the id that its cancel has taken from it",
        canceled_under_its_old_id,
        Likely(face="binance-spot", on=("lost replies", "crashes at boundaries"), load={"limit_share": 0.7}),
    ),
    Mutant(
        "execution-named-by-trade",
        "an execution at Binance is named by its trade alone",
        execution_named_by_trade,
        Likely(face="binance-usdm"),
    ),
    Mutant("canary", "nothing is wrong, one seed in 100 is reported all the same", canary),
    Mutant("retry-new-id", "silence, and the entry is sent again under a new id", retry_with_a_new_id),
    Mutant(
        "retry-same-id",
        "silence, and the order is sent again under its id, at a venue where ids are unique among open orders only",
        retry_with_the_same_id,
        Likely(nature={"id_unique_for_ever": False}),
    ),
    Mutant(
        "retry-same-id-unique",
        "the same at a venue where ids are unique for ever: harmless",
        retry_with_the_same_id,
        Likely(nature={"id_unique_for_ever": True}),
        control=True,
    ),
    Mutant(
        "duplicate-read-as-reject",
        "the same there, and the answer that the id is known is read as a no",
        retry_and_duplicate_read_as_reject,
        Likely(nature={"id_unique_for_ever": True}),
    ),
    Mutant("absent-at-once", "not found once is never taken", lambda: absent(0, 0, 0, False)),
    Mutant("absent-at-once-resent", "not found once: sent again", lambda: absent(0, 0, 0, True)),
    Mutant("absent-after-5s", "not found after 5 s is never taken", lambda: absent(5 * SECOND, 0, 1, False)),
    Mutant("absent-after-5s-resent", "not found after 5 s: sent again", lambda: absent(5 * SECOND, 0, 1, True)),
    Mutant(
        "recovery-sends-pending",
        "a restart sends what had no answer once more",
        recovery_sends_again,
        Likely(on=CRASHES, nature={"id_unique_for_ever": False}, faults={"crash_at_boundary": 0.03}),
    ),
    Mutant(
        "cancel-not-found-resent",
        'a cancel is told "not found": never placed, sent again',
        canceled_not_found_sent_again,
    ),
    Mutant("signal-again", "a signal that comes again is judged again", signal_not_deduplicated),
    Mutant("other-body-executed", "a known id with another body is executed", other_body_executed),
    Mutant("past-signals-unknown", "the journal is not asked for a signal's past", past_signals_unknown),
    Mutant("attempts-not-counted", "the next stop takes the id of the one before", attempts_not_counted),
    Mutant("acknowledged-early", "the source is answered before its signal is durable", acknowledged_before_durable),
    Mutant("fill-twice", "an execution that is told twice is booked twice", fill_not_deduplicated),
    Mutant(
        "no-backfill",
        "the executions in the venue's history are not read",
        lambda: executions(lambda fills: ()),
    ),
    Mutant(
        "first-page-only",
        "of the venue's executions only the oldest five are read",
        lambda: executions(lambda f: f[:5]),
        Likely(on=("dropped events",), faults={"event_dropped": 0.5}),
    ),
    Mutant(
        "read-up-to-now",
        "the moment up to which executions are read runs ahead of those that show late",
        lambda: swap(actors.reconciler, "OVERLAP_NS", 0),
        Likely(on=("a human", "read lag", "dropped events")),
    ),
    Mutant(
        "executions-forgotten", "a restart does not know which executions are booked", executions_forgotten_on_restart
    ),
    Mutant(
        "marked-before-published",
        "a sink's cursor is moved before the sink has the event",
        marked_before_published,
        Likely(on=("failing sinks", *CRASHES), faults={"sink_down": 0.5, "crash_at_boundary": 0.03}),
    ),
    Mutant(
        "one-cursor-for-all",
        "what one sink has is taken for what the other one has",
        one_cursor_for_all_sinks,
        Likely(on=("failing sinks", *CRASHES), faults={"sink_away": 1.0, "crash_at_boundary": 0.03}),
    ),
    Mutant(
        "left-over-events-forgotten",
        "what an earlier life had not published stays",
        left_over_events_forgotten,
        Likely(on=("failing sinks", *CRASHES)),
    ),
    Mutant("outbox-reordered", "events are published newest first", outbox_reordered),
    Mutant("confirmed-twice", "a signal's end is published as two events", confirmation_told_twice),
    Mutant(
        "rejected-without-end",
        "a rejected order's signal has no confirmation",
        rejection_without_confirmation,
        Likely(on=("refusals",), faults={"declined": 0.5}),
    ),
    Mutant(
        "accepted-forgotten",
        "a restart forgets what was accepted and not yet ordered",
        accepted_signal_forgotten_on_restart,
        Likely(on=CRASHES, load={"burst": 6, "signals": 20}, faults={"crash_at_boundary": 0.03}),
    ),
    Mutant("foreign-fill-ignored", "executions of others are not booked", foreign_fill_ignored),
    Mutant(
        "nobodys-fill-ignored",
        "executions that carry no client id are not booked",
        lambda: fills_of(nobodys_ignored),
        Likely(on=("liquidations",)),
    ),
    Mutant(
        "overfill-cut",
        "of an execution beyond the order's quantity only what was asked for is booked",
        lambda: fills_of(no_more_than_asked),
        Likely(on=("overfills",)),
    ),
    Mutant(
        "overfill-not-told",
        "an execution beyond the order's quantity is booked, and nobody is told",
        corrections_not_told,
        Likely(on=("overfills",)),
    ),
    Mutant(
        "late-fill-ignored",
        "an execution after the order's end is not booked",
        lambda: fills_of(not_after_the_end),
        Likely(
            on=("fills after the cancel",),
            load={"limit_share": 0.9, "manage_share": 0.3, "signals": 20},
            faults={"filled_late": 0.6},
        ),
    ),
    Mutant("funding-ignored", "funding is not booked", funding_ignored),
    Mutant("base-fee-ignored", "a fee in base does not reduce the position", fee_in_base_ignored),
    Mutant("sent-before-durable", "an order is sent before its intent is on the disk", sent_before_durable),
    Mutant("durable-at-once", "the journal says durable at once", durable_at_once),
    Mutant("newest-commit-not-synced", "a sync leaves the newest commit in the cache", newest_commit_not_synced),
    Mutant(
        "sync-repeated",
        "a sync that failed is repeated, and its yes believed",
        sync_failure_believed,
        Likely(on=("failing disk",)),
    ),
    Mutant(
        "commit-in-two-parts",
        "a crash may keep one half of a commit",
        facts_and_rows_in_two_commits,
        Likely(on=("slow disk", *CRASHES)),
    ),
    Mutant(
        "unknown-not-counted",
        "orders in doubt do not count as exposure",
        lambda: standing_of(lambda o: o.state is not State.UNCLEAR, doubt_hidden=True),
        Likely(off=("a human",), load=CROWD),
    ),
    Mutant(
        "released-on-cancel",
        "an order stops counting when its cancel is asked for",
        lambda: standing_of(lambda o: not o.cancel_asked),
        Likely(off=("a human",), on=("lost requests",), load=CROWD | {"limit_share": 0.9}),
    ),
    Mutant(
        "reservation-leaked",
        "a rejected order counts for ever",
        reservation_leaked_on_reject,
        Likely(
            off=("a human", *CRASHES),
            on=("refusals",),
            load=CROWD | {"signals": 100},
            faults={"declined": 0.5},
            limits={"position_notional_max": Decimal(400)},
        ),
    ),
    Mutant(
        "buys-and-sells-netted",
        "orders in flight on both sides are netted",
        buys_and_sells_netted,
        Likely(off=("a human",), load=CROWD | {"limit_share": 0.9, "sell_share": 0.5}),
    ),
    Mutant(
        "provisional-not-counted",
        "what was accepted a moment ago does not count yet",
        provisional_not_counted,
        Likely(off=("a human",), load=CROWD | {"burst": 8}),
    ),
    Mutant(
        "no-position-limit",
        "the rule on the position's size is left out",
        lambda: rule(rules.position_size, None),
        Likely(off=("a human",), load=CROWD),
    ),
    Mutant("float-quantity", "a quantity goes through a float", float_quantity),
    Mutant("reduce-only-dropped", "closing orders are sent without reduce-only", reduce_only_dropped),
    Mutant(
        "halt-not-checked",
        "the last door does not look at halts",
        lambda: door_that_forgets("halted"),
        Likely(on=("halts", "slow disk"), load={"burst": 6, "signals": 60, "gap_mean": 1.0}, faults={"halt_mean": 3.0}),
    ),
    Mutant(
        "lateness-not-checked",
        "the last door does not look at the time",
        lambda: door_that_forgets("late"),
        Likely(on=("slow disk",)),
    ),
    Mutant(
        "halt-lost",
        "a restart forgets halts",
        halt_lost_on_restart,
        Likely(on=("halts", "crashes at any time"), faults={"halt_mean": 5.0, "crash_mean": 5.0}),
    ),
    Mutant("silence-is-no", "silence is read as rejected", lambda: silence_read_as("rejected")),
    Mutant("silence-is-yes", "silence is read as accepted", lambda: silence_read_as("accepted")),
    Mutant(
        "duplicate-is-no",
        "the answer that the id is known is read as a no, after a request that arrived twice",
        duplicate_read_as_no,
        Likely(on=("doubled requests",), nature={"id_unique_for_ever": True}),
    ),
    Mutant(
        "failed-query-is-absence",
        'a query that failed is read as "not found"',
        failed_query_read_as_absence,
        Likely(
            on=("failing queries", "lost replies", "dropped events"),
            faults={"query_failed": 0.8, "reply_lost": 0.8, "event_dropped": 0.95},
            load={"signals": 20, "faulty_seconds": 240.0},
        ),
    ),
    Mutant(
        "failed-query-not-repeated",
        "a query that failed is not asked again",
        failed_query_not_repeated,
        Likely(on=("failing queries", "lost replies"), faults={"query_failed": 0.6, "reply_lost": 0.5}),
    ),
    Mutant("cancel-not-found-canceled", 'a cancel is told "not found": canceled', cancel_not_found_read_as_canceled),
    Mutant("late-yes-reopens", "an answer after the last fill opens the order again", late_yes_reopens),
    Mutant("partial-is-full", "the first fill is taken for all", partial_fill_read_as_full),
    Mutant(
        "vanished-ignored", "an order that left the venue's list unheard is not looked for", vanished_orders_ignored
    ),
    Mutant(
        "cancel-sent-once",
        "a cancel that was lost is not repeated",
        cancel_sent_once,
        Likely(
            on=("lost requests",),
            off=CRASHES,
            faults={"request_lost": 0.4},
            load={"limit_share": 0.9, "close_share": 0.0},
        ),
    ),
    Mutant("stop-sized-to-order", "stops are sized to the newest entry, not to the position", stop_sized_to_the_order),
    Mutant(
        "stop-after-last-fill",
        "a stop waits until the entry is filled up",
        stop_only_when_all_is_filled,
        Likely(quiet=True, nature={"partial": 0.8}),
    ),
    Mutant("stop-missing-after-recovery", "a restart takes a position's stop as waived", stop_missing_after_recovery),
    Mutant(
        "stop-not-replaced",
        "a stop that was canceled by hand is not placed again",
        stop_not_replaced,
        Likely(on=("a human",), off=("halts", *CRASHES), faults={"human_mean": 0.0, "human_cancel_mean": 8.0}),
    ),
    Mutant(
        "passed-stop-not-looked-at",
        "a stop that the market has passed is taken for cover, whatever it does",
        passed_stop_not_looked_at,
        OVERTAKEN,
    ),
    Mutant(
        "passed-stop-looked-at", "the same leaping market, and a look at the stop", nothing, OVERTAKEN, control=True
    ),
    Mutant(
        "stop-on-wrong-side",
        "stops and targets are on the side of the position",
        stop_on_the_wrong_side,
        Likely(quiet=True),
    ),
    Mutant(
        "left-over-protection",
        "the target stays when the stop has closed the position, and the stop when the target has",
        rest_of_protection_left_standing,
    ),
    Mutant(
        "stale-price-used",
        "a price is good however old it is",
        lambda: rule(rules.fresh_quote, None),
        Likely(on=("stale quotes",), load={"signals": 20, "burst": 2}, faults={"quote_stall_mean": 10.0}),
    ),
    Mutant(
        "collar-wrong-side",
        "the collar looks at limits that are too good, not at those that are too bad",
        lambda: both(reckless(), collar_on_the_wrong_side()),
        Likely(load={"limit_share": 0.7, "signals": 20}),
    ),
    Mutant(
        "collar-right-side",
        "the collar as it is, with the same reckless limits",
        reckless,
        Likely(load={"limit_share": 0.7, "signals": 20}),
        control=True,
    ),
    Mutant(
        "daily-loss-reset",
        "a restart forgets what the day has lost",
        daily_loss_reset_by_restart,
        Likely(
            on=("crashes at any time",),
            off=("halts",),
            load={"signals": 60, "gap_mean": 1.0, "limit_share": 0.0},
            faults={"crash_mean": 20.0},
            limits={"daily_loss_max": Decimal(15)},
        ),
    ),
    Mutant(
        "daily-loss-kept",
        "the same small limit on losses, and a restart that remembers",
        nothing,
        Likely(
            on=("crashes at any time",),
            off=("halts",),
            load={"signals": 60, "gap_mean": 1.0, "limit_share": 0.0},
            faults={"crash_mean": 20.0},
            limits={"daily_loss_max": Decimal(15)},
        ),
        control=True,
    ),
    Mutant(
        "doubt-ignored",
        "an order in doubt does not hold up the next entry",
        lambda: rule(rules.no_doubt, None),
        Likely(load={"signals": 20, "gap_mean": 1.0}),
    ),
    Mutant(
        "halt-stops-protection",
        "a halt stops what closes and protects, too",
        halt_stops_protection,
        Likely(on=("halts",)),
    ),
    Mutant(
        "throttle-forgotten",
        "nobody waits for the venue's rate limit",
        throttle_forgotten,
        Likely(load={"signals": 60, "burst": 20}, limits={"orders_per_second": 1000, "positions_max": 10}),
    ),
    Mutant(
        "lock-ignored",
        "a second engine on the same journal is not turned away",
        lock_ignored,
        Likely(on=("second engines",)),
    ),
    Mutant(
        "lease-not-in-the-commit",
        "a commit does not ask whether its engine still has the lease",
        lambda: swap(shared._View, "_check", lambda view: None),
        STOPPED_IN_TURNS,
    ),
    Mutant(
        "lease-not-at-the-wire",
        "an engine that wakes up sends without a look at its lease",
        lambda: swap(shared.LeasedJournal, "barred", lambda journal, opening: ""),
        STOPPED_IN_TURNS,
    ),
    Mutant(
        "epoch-not-raised",
        "a run has the epoch of the one before it",
        lambda: swap(memory, "raise_epoch", lambda connection: None),
        Likely(on=("failing disk", *CRASHES)),
    ),
    Mutant(
        "ban-ignored",
        "requests go on after the venue has told of a ban",
        ban_ignored,
        Likely(on=("bans",)),
    ),
    Mutant(
        "failed-list-is-empty",
        "a list that could not be had is read as empty",
        failed_list_read_as_empty,
        Likely(
            on=("failing queries", "dropped events", "a human"),
            faults={"query_failed": 0.6, "event_dropped": 0.6, "human_mean": 10.0},
            load={"faulty_seconds": 240.0},
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(main())
