"""Counts what happened and how long it took; decides nothing, and nobody waits for it.

Its mailbox is offered to, not posted to: when it is full the message is left out and counted as missed, because a
figure is worth less than an order. The interval log is in HdrHistogram's own text form, readable by its other tools.
"""

from pathlib import Path
from typing import IO, TypeAlias

import trio
from hdrh.log import HistogramLogWriter
from msgspec import Struct

from engine.core.messages import AnyFact, Timed
from engine.core.tally import Interval, Tally
from engine.runtime.clock import Clock

COUNT_SECONDS = 0.02  # mail may lie so long

MetricsMail: TypeAlias = Timed | AnyFact | tuple[AnyFact, ...]


class LagWatch(Struct, frozen=True):
    """How often the loop is asked how late it is, and from when on that is a stall. Of no use on a virtual clock."""

    every_seconds: float = 0.02
    stall_seconds: float = 0.1


class IntervalLog(Struct, frozen=True):
    """Where the histograms of each interval go, and how long an interval is."""

    path: Path
    clock: Clock
    every_seconds: float = 10.0


async def metrics(
    mailbox: trio.MemoryReceiveChannel[MetricsMail],
    tally: Tally,
    lag: LagWatch | None = None,
    log: IntervalLog | None = None,
) -> None:
    """Until the mailbox is closed. A log that cannot be opened raises OSError at once; what is counted is kept."""
    async with trio.open_nursery() as nursery:
        if lag is not None:
            nursery.start_soon(watch_loop, tally, lag)
        if log is not None:
            await nursery.start(_log_intervals, tally, log)
        await _count(mailbox, tally)
        nursery.cancel_scope.cancel()


async def _count(mailbox: trio.MemoryReceiveChannel[MetricsMail], tally: Tally) -> None:
    """A few times a second, so that no order on its way waits for a counter; what is left at the end is counted too."""
    try:
        async for mail in mailbox:
            _add(mail, tally)
            _drain(mailbox, tally)
            await trio.sleep(COUNT_SECONDS)
    finally:
        _drain(mailbox, tally)


def _drain(mailbox: trio.MemoryReceiveChannel[MetricsMail], tally: Tally) -> None:
    try:
        while True:
            _add(mailbox.receive_nowait(), tally)
    except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
        pass  # empty, which is the end of it


def _add(mail: MetricsMail, tally: Tally) -> None:
    match mail:
        case Timed():
            tally.timed(mail)
        case tuple():
            for fact in mail:
                tally.fact(fact)
        case _:
            tally.fact(mail)


async def watch_loop(tally: Tally, lag: LagWatch) -> None:
    """Sleep, and note how much later than asked the loop came back: that is what any other task suffers too."""
    stall_ns = round(lag.stall_seconds * 1_000_000_000)
    while True:
        due = trio.current_time() + lag.every_seconds
        await trio.sleep_until(due)
        tally.lag(round((trio.current_time() - due) * 1_000_000_000), stall_ns)


async def _log_intervals(
    tally: Tally, log: IntervalLog, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    log.path.parent.mkdir(parents=True, exist_ok=True)
    with log.path.open("a", encoding="ascii") as file:
        writer = HistogramLogWriter(file)
        # No `output_start_time`: in this library it calls a method that does not exist. Each line has its own time.
        writer.output_comment("[Surefire: durations in ns; the tag is the stage; times are seconds since 1970, UTC]")
        writer.output_log_format_version()
        writer.output_legend()
        began_ns = log.clock.now_ns()
        tally.roll()  # what came before the log belongs to no interval of it
        task_status.started()
        try:
            while True:
                await trio.sleep(log.every_seconds)
                began_ns = await _write(writer, file, tally, began_ns, log.clock.now_ns())
        finally:
            with trio.move_on_after(2, shield=True):
                await _write(writer, file, tally, began_ns, log.clock.now_ns())


async def _write(writer: HistogramLogWriter, file: IO[str], tally: Tally, began_ns: int, ended_ns: int) -> int:
    """One line for each stage. In a thread, since a slow disk must not hold up orders; the histograms are its own."""
    interval = tally.roll()
    if interval:
        await trio.to_thread.run_sync(_write_lines, writer, file, interval, began_ns, ended_ns)
    return ended_ns


def _write_lines(writer: HistogramLogWriter, file: IO[str], interval: Interval, began_ns: int, ended_ns: int) -> None:
    for name, histogram in interval.items():
        file.write(f"Tag={name},")  # the form's own first field, which this library reads but does not write
        writer.output_interval_histogram(histogram, began_ns / 1e9, ended_ns / 1e9, max_value_unit_ratio=1.0)
    file.flush()
