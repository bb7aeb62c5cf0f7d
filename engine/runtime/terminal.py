"""What the command line shows: plain Structs in, text for a terminal out. Decides and computes nothing.

Standard output is for results, standard error for progress; neither is coloured when it is no terminal.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, TextIO

import msgspec
from msgspec import Struct

from engine.core.audit import Report
from engine.core.messages import ZERO
from engine.core.money import cents, plain
from engine.core.tally import StageFigures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from engine.runtime.journal.archive import Part
    from engine.runtime.journal.archive import Report as Archived
    from engine.runtime.journal.base import AuditEntry

_DRAW_SECONDS = 0.5


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


class PositionLeft(Struct, frozen=True, kw_only=True):
    """A position that is still open. `unrealised` is quote, at the last price."""

    account: str
    symbol: str
    qty: Decimal
    avg_price: Decimal
    unrealised: Decimal = ZERO


class DemoSummary(Struct, frozen=True, kw_only=True):
    """What a finite run came to. Counts by name are shown in the order given; durations are nanoseconds."""

    tape: str
    seed: int
    market_ns: int  # how much of the market's time was played
    took_ns: int  # how much of ours it took
    signals: int
    verdicts: dict[str, int]  # by outcome
    refusals: dict[str, int]  # by the rule that failed; one signal may fail several
    orders: dict[str, int]  # by ending
    fills: int
    quote: str  # currency of the figures below
    realised: Decimal  # before fees
    fees: Decimal  # positive: paid
    funding: Decimal  # negative: paid
    positions: tuple[PositionLeft, ...]
    gaps: int  # times a filled position was without full stop cover
    gap_max_ns: int
    gap_total_ns: int
    latency: dict[str, StageFigures]  # by stage, in the order of the way
    books_balance: bool  # our ledger and the venue's say the same
    differences: tuple[str, ...] = ()  # where they do not
    suffered: dict[str, int] = {}  # what a local exchange did to us on purpose

    @property
    def net(self) -> Decimal:
        return self.realised - self.fees + self.funding


def show_summary(summary: DemoSummary, out: TextIO, as_json: bool = False) -> None:
    if as_json:
        body = {**msgspec.to_builtins(summary), "net": plain(summary.net)}
        out.write(msgspec.json.format(msgspec.json.encode(body), indent=2).decode() + "\n")
        return
    console = _console(out)
    console.print(_main_table(summary))
    if summary.positions:
        console.print(_positions_table(summary))
    if summary.latency:
        console.print(_latency_table(summary))
    for difference in summary.differences:
        console.print(f"books differ: {difference}", style="red", markup=False, soft_wrap=True)
    verdict = "The books balance with the venue." if summary.books_balance else "The books do NOT balance."
    console.print(verdict, style="green" if summary.books_balance else "bold red")


def show_findings(findings: tuple[Finding, ...], out: TextIO, as_json: bool = False) -> None:
    """One line each, with `ok` or `PROBLEM` in front."""
    if as_json:
        body = {"ok": all(f.ok for f in findings), "findings": findings}
        out.write(msgspec.json.format(msgspec.json.encode(body), indent=2).decode() + "\n")
        return
    width = max((len(f.name) for f in findings), default=0)
    console = _console(out)
    for f in findings:
        console.print("ok     " if f.ok else "PROBLEM", style="green" if f.ok else "bold red", end="  ")
        console.print(f"{f.name:<{width}}  {f.detail}", markup=False, soft_wrap=True)


def show_audit(report: Report, out: TextIO, as_json: bool = False) -> None:
    """What was found, one line each, and last what was looked at."""
    if as_json:
        body = {"sound": report.sound, **msgspec.to_builtins(report)}
        out.write(msgspec.json.format(msgspec.json.encode(body), indent=2).decode() + "\n")
        return
    console = _console(out)
    for found in report.findings:
        where = f"fact {found.seq}" if found.seq else "tables"
        console.print("PROBLEM", style="bold red", end="  ")
        console.print(f"{found.rule}, {where}: {found.text}", markup=False, soft_wrap=True)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for key in report.keys:
        last = datetime.fromtimestamp(key.last_ns // 1_000_000_000, UTC).isoformat(" ")
        words = f"key {key.name} of {key.account}: decrypted {key.times} time(s), last {last} for '{key.last_by}'"
        console.print(words, markup=False, soft_wrap=True)
    verdict = "sound" if report.sound else f"{len(report.findings)} finding(s)"
    console.print(
        f"{verdict}: {report.facts} facts, {report.signals} signals ({report.open_signals} open), "
        f"{report.orders} orders, {report.executions} executions; last hash {report.last_hash}",
        style="green" if report.sound else "bold red",
        soft_wrap=True,
    )


def show_audit_log(entries: "Sequence[AuditEntry]", out: TextIO, as_json: bool = False) -> None:
    """A line each: when (UTC), who, what, and with what."""
    if as_json:
        out.write(msgspec.json.format(msgspec.json.encode({"entries": entries}), indent=2).decode() + "\n")
        return
    console = _console(out)
    for entry in entries:
        at = datetime.fromtimestamp(entry.at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        account = f" [{entry.account}]" if entry.account else ""
        detail = f": {entry.detail}" if entry.detail else ""
        console.print(f"{at}  {entry.who} {entry.what}{account}{detail}", markup=False, soft_wrap=True)


def show_archived(report: "Archived", what: str, out: TextIO, as_json: bool = False) -> None:
    """A line for each file, and last what became of the room."""
    if as_json:
        out.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
        return
    console = _console(out)
    done = {"archive": ("moved", "would move"), "retain": ("deleted", "would delete")}[what][report.dry_run]
    for part in report.parts:
        counts = (f"{part.last_seq - part.first_seq + 1} facts", *_rows_of(part))
        found = f"; the audit has {part.findings} finding(s) in it" if part.findings else ""
        console.print(f"{done} {part.name}: {', '.join(counts)}{found}", markup=False, soft_wrap=True)
    if report.deliveries:
        console.print(
            f"{'would forget' if report.dry_run else 'forgot'} {report.deliveries} names of signed deliveries"
        )
    if not report.parts and not report.deliveries:
        console.print("nothing is old enough")
    if what == "archive" and not report.dry_run:
        console.print(f"the journal had {_mib(report.bytes_before)} and has {_mib(report.bytes_after)}")
    if report.left:
        console.print(f"its file was not made shorter: {report.left}", style="bold red", soft_wrap=True)


def _rows_of(part: "Part") -> tuple[str, ...]:
    rows = {"signals": part.signals, "orders": part.orders, "fills": part.fills, "told events": part.events}
    return tuple(f"{count} {name}" for name, count in rows.items() if count)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


@contextmanager
def progress(what: str, total: int, out: TextIO | None = None) -> Iterator[Callable[[int, str], None]]:
    """A bar on standard error; call what it gives with how much is done, and a few words.

    Nothing is shown when that is no terminal. Drawn when called, at most twice a second, since drawing takes
    milliseconds; rich's own thread for it would take them from the event loop at the worst moments.
    """
    stream = out or sys.stderr
    if not stream.isatty():
        yield lambda done, text: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=_console(stream), auto_refresh=False) as bar:
        task = bar.add_task(what, total=total, words="")
        drawn = -_DRAW_SECONDS

        def show(done: int, text: str) -> None:
            nonlocal drawn
            bar.update(task, completed=done, words=text)
            if bar.get_time() - drawn >= _DRAW_SECONDS:
                drawn = bar.get_time()
                bar.refresh()

        yield show


def _console(out: TextIO) -> "Console":
    from rich.console import Console

    # A pipe has no width: lines must not be broken for one that a program guesses.
    return Console(file=out, highlight=False, width=None if out.isatty() else 120)


def _main_table(summary: DemoSummary) -> "Table":
    table = _table(f"{summary.tape}, seed {summary.seed}", "", "")
    speed = summary.market_ns / summary.took_ns if summary.took_ns else 0.0
    table.add_row("time", f"{_seconds(summary.market_ns)} of market in {_seconds(summary.took_ns)} ({speed:.0f}x)")
    table.add_row("signals", str(summary.signals))
    table.add_row("verdicts", _counts(summary.verdicts))
    table.add_row("refused by rule", _counts(summary.refusals))
    table.add_row("orders", _counts(summary.orders))
    table.add_row("fills", str(summary.fills))
    if summary.suffered:
        table.add_row("faults", _counts(summary.suffered))
    table.add_row("realised", f"{_money(summary.realised)} {summary.quote}")
    table.add_row("fees", f"{_money(-summary.fees)} {summary.quote}")
    table.add_row("funding", f"{_money(summary.funding)} {summary.quote}")
    table.add_row("net", f"{_money(summary.net)} {summary.quote}")
    table.add_row("positions left", str(len(summary.positions)))
    table.add_row(
        "protection gaps",
        f"{summary.gaps}, longest {_milliseconds(summary.gap_max_ns)}, together {_milliseconds(summary.gap_total_ns)}",
    )
    return table


def _positions_table(summary: DemoSummary) -> "Table":
    table = _table("positions left", "account", "symbol", ">qty", ">at", ">unrealised")
    for p in summary.positions:
        table.add_row(
            p.account, p.symbol, plain(p.qty), plain(cents(p.avg_price)), f"{_money(p.unrealised)} {summary.quote}"
        )
    return table


def _latency_table(summary: DemoSummary) -> "Table":
    table = _table("latency", "stage", ">count", ">p50", ">p90", ">p99", ">max")
    for name, stage in summary.latency.items():
        figures = (stage.p50_ns, stage.p90_ns, stage.p99_ns, stage.max_ns)
        table.add_row(name, str(stage.count), *(_milliseconds(figure) for figure in figures))
    return table


def _table(title: str, *columns: str) -> "Table":
    """Columns whose name begins with ">" stand right."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", show_header=any(columns))
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    return table


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _money(amount: Decimal) -> str:
    return f"{cents(amount, 2):,f}"


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:,.1f} s"


def _milliseconds(ns: int) -> str:
    return f"{ns / 1e6:,.3f} ms"
