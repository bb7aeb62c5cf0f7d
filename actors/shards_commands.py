"""A stop is for every shard: what an engine does not hold itself it leaves on the server for whoever does.

The letter is durable before the answer says so, and stays until its holder, or the next one, has carried it out: at
least once, for each command is safe to repeat. A holder that is quick enough answers with its report.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import structlog
import trio
from msgspec import Struct

from engine.runtime.clock import Clock
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.common import Away, Inbox, Letter, answers_to, commands_of
from engine.web.ports import StopReport

PUT_SECONDS = 5.0  # for the server to take a letter
ANSWER_SECONDS = 25.0  # for a holder's report; its venues have 15 s to show that nothing is left
LOOK_SECONDS = 0.1
STALE_SECONDS = 600.0  # a flatten is meant for now; a stop, whatever it is to close, until somebody resumes
READ_MAX = 100
LOG = structlog.get_logger("shards")


class Command(Struct, frozen=True):
    """What the API was asked for, for all accounts of a shard. `flatten`: of a stop, to close positions too."""

    what: Literal["stop", "flatten"]
    by: str
    reason: str
    flatten: bool = True


class Unreached(Exception):
    """The server has not said that it has the letter."""


Do = Callable[[Command], Awaitable[StopReport]]


class Errands:
    """Commands for other engines' shards, and for those of this one when others were asked. On a line of its own: a
    crowd of signals holds up no stop."""

    def __init__(self, inbox: Inbox, clock: Clock, me: str) -> None:
        self._inbox, self._clock, self._me = inbox, clock, me
        self._count = 0

    async def leave(self, shard: str, command: Command) -> str:
        """Its number, once it is durable. Raises Unreached."""
        self._count += 1
        number, now_ns = f"{self._me}/{self._clock.now_ns()}/{self._count}", self._clock.now_ns()
        raw = msgspec.json.encode(command)
        letter = Letter(commands_of(shard), "operator", raw, now_ns, fallback_id=number)
        with trio.move_on_after(PUT_SECONDS):
            try:
                await self._inbox.put([letter])
            except (Away, JournalFailed) as error:
                raise Unreached(str(error)) from error
            return number
        raise Unreached(f"no answer in {PUT_SECONDS:g} s")

    async def answer(self, number: str) -> StopReport | None:
        """The holder's report; None: it has not answered in time, and may carry it out all the same."""
        place = answers_to(number)
        with trio.move_on_after(ANSWER_SECONDS):
            while True:
                try:
                    letters = await self._inbox.read(place, (), 1)
                    if letters:
                        await self._inbox.read(place, [letter.id for letter in letters], 1)
                        return _read_report(letters[0].raw)
                except (Away, JournalFailed):
                    pass  # asked again, as long as there is time
                await trio.sleep(LOOK_SECONDS)
        return None

    async def carry_out(self, shard: str, waiting: Callable[[], int], do: Do) -> None:
        """For ever, beside the shard's engine. `waiting`: commands on the server, as far as is known."""
        done: dict[int, Letter] = {}  # by the command's letter, until that one is struck
        place = commands_of(shard)
        while True:
            await trio.sleep(LOOK_SECONDS)
            if not waiting() and not done:
                continue
            try:
                for letter in await self._inbox.read(place, (), READ_MAX):
                    if letter.id not in done:
                        done[letter.id] = await self._carried_out(letter, do)
                    await self._inbox.answer(letter.id, done[letter.id])
                    del done[letter.id]
                done.clear()  # struck, though the server could not say so
            except (Away, JournalFailed) as error:
                LOG.warning("commands out of reach", shard=shard, reason=str(error))

    async def _carried_out(self, letter: Letter, do: Do) -> Letter:
        """The answer."""
        try:
            command = msgspec.json.decode(letter.raw, type=Command)
        except msgspec.MsgspecError as error:
            LOG.error("a command that cannot be read was left here", place=letter.shard, reason=str(error))
            report = StopReport(by="", reason="", complete=False, problems=(f"it could not be read there: {error}",))
            return self._report(letter, report)
        age = (self._clock.now_ns() - letter.received_ns) / 1_000_000_000
        if command.what == "flatten" and age > STALE_SECONDS:
            why = f"left {age:.0f} s ago, not carried out: to close positions was meant for then"
            LOG.error("a flatten is stale", place=letter.shard, by=command.by, reason=why)
            report = StopReport(by=command.by, reason=command.reason, complete=False, problems=(why,))
            return self._report(letter, report)
        LOG.warning("commanded by another engine", place=letter.shard, what=command.what, by=command.by)
        return self._report(letter, await do(command))

    def _report(self, letter: Letter, report: StopReport) -> Letter:
        place = answers_to(letter.fallback_id)
        return Letter(place, "operator", msgspec.json.encode(report), self._clock.now_ns())


def _read_report(raw: bytes) -> StopReport:
    """Of an engine of another version, perhaps."""
    try:
        return msgspec.json.decode(raw, type=StopReport)
    except msgspec.MsgspecError as error:
        why = f"its report cannot be read here: {error}"
        return StopReport(by="", reason="", complete=False, problems=(why,))
