"""One level, one for one: an actor that fails is started again from the journal; too often, and its scope halts.

This is the only place that catches what must not happen. A broken invariant (an assertion, a full mailbox) halts the
actor's scope at once; the actor still comes back, because protection and cancels need it. After `RESTARTS_MAX` in
`WITHIN_NS` it stays down: its mail is read and dropped, so that nobody who writes to it is held up, until a person's
resume revives it. What it missed it finds in the journal and at the venue.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import structlog
import trio
from msgspec import Struct

from engine.core.messages import Halt
from engine.runtime.clock import Clock
from engine.runtime.journal.base import JournalFailed
from engine.runtime.mail import MailboxFull

RESTARTS_MAX = 3
WITHIN_NS = 60_000_000_000
LOG = structlog.get_logger("supervise")

T = TypeVar("T")
Run = Callable[[], Awaitable[None]]


class Closes(Protocol):
    """A switch, or several."""

    def halt(self, halt: Halt) -> int: ...


class GivenUp(Exception):
    """Said by an actor that must not be made anew before somebody revives it."""


class Down(Struct):
    """An actor that stays down."""

    name: str
    scope: str
    revived: trio.Event
    gone: trio.Event  # it no longer drops mail


class Fallen:
    """The actors that stay down, by name."""

    def __init__(self) -> None:
        self._down: dict[str, Down] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._down

    def names(self, *scopes: str) -> list[str]:
        """Those of these scopes; of all, when none is named."""
        return [down.name for down in self._down.values() if not scopes or down.scope in scopes]

    async def revive(self, scope: str) -> None:
        """Those of exactly this scope are made anew; whatever is sent to them from now on is read."""
        for name in self.names(scope):
            down = self._down.pop(name)
            down.revived.set()
            await down.gone.wait()

    async def stay(self, name: str, scope: str, idle: Run | None) -> bool:
        """Until revived, or (False) until `idle`, which drops the actor's mail, has come to its end."""
        down = self._down[name] = Down(name, scope, trio.Event(), trio.Event())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_revived, down.revived, nursery.cancel_scope)
            if idle is None:
                await trio.sleep_forever()
            else:
                await idle()
            nursery.cancel_scope.cancel()
        down.gone.set()
        return down.revived.is_set()


async def _until_revived(revived: trio.Event, scope: trio.CancelScope) -> None:
    await revived.wait()
    scope.cancel()


async def supervise(
    name: str, scope: str, run: Run, switch: Closes, clock: Clock, fallen: Fallen, idle: Run | None = None
) -> None:
    """Run an actor until it returns. `run` makes it anew, from what is durable, each time it is called."""
    failures: list[int] = []
    while True:
        try:
            return await run()
        except Exception as error:
            failed, now = _first(error), clock.now_ns()
            failures = [at for at in failures if now - at < WITHIN_NS] + [now]
            if isinstance(failed, JournalFailed):
                # Nothing more can be made durable: no restart mends that. The switch is closed for everybody.
                LOG.error("the journal failed", actor=name, reason=str(failed))
                switch.halt(_halt("engine", f"the journal failed: {failed}", clock))
                finished = True
            else:
                LOG.error("actor failed", actor=name, failures=len(failures), exc_info=error)
                finished = len(failures) > RESTARTS_MAX or isinstance(failed, GivenUp)
                if _broken(error):
                    switch.halt(_halt(scope, f"{name}: broken invariant: {_summary(error)}", clock))
                if finished:
                    switch.halt(_halt(scope, f"{name} {_how_often(failed, failures)}: {_summary(error)}", clock))
        if not finished:
            await trio.sleep(0.05 * 2 ** len(failures))
        elif await fallen.stay(name, scope, idle):
            LOG.warning("actor revived", actor=name)
            failures.clear()
        else:
            return


class Window(Generic[T]):
    """Where mail can be handed to an actor that waits for some: its step then runs in the sender's turn.

    That saves a pass of the scheduler, and all that others do in it, where an order waits. What the step raises fails
    the owner and not the sender. An owner that is busy, or away, has its mailbox.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        """`waiting`: how many tasks wait for mail just now."""
        self._waiting = waiting
        self._owner: tuple[Callable[[T], None], trio.Nursery] | None = None

    def attend(self, step: Callable[[T], None], nursery: trio.Nursery) -> None:
        """Until `leave`, or until a step has failed, which then fails the nursery."""
        self._owner = step, nursery

    def leave(self) -> None:
        self._owner = None

    def hand(self, mail: T) -> bool:
        """False: it was not taken."""
        if self._owner is None or not self._waiting():
            return False
        step, nursery = self._owner
        if not in_anothers_turn(lambda: step(mail), nursery):
            self._owner = None
        return True


def in_anothers_turn(step: Callable[[], None], nursery: trio.Nursery) -> bool:
    """Whether it went well. What the step raises fails the nursery, which must be open, and not whose turn it is."""
    try:
        step()
    except Exception as error:
        nursery.cancel_scope.cancel()  # it takes no more mail either
        nursery.start_soon(_fail, error)
        return False
    return True


async def _fail(error: Exception) -> None:
    raise error


class Failure(Struct, frozen=True):
    """A call that came to nothing, and why."""

    why: str


async def attempt(call: Callable[[], Awaitable[T]], seconds: float) -> T | Failure:
    """One call whose failure must not take its caller with it: a stop goes on when an adapter is broken or silent."""
    with trio.move_on_after(seconds):
        try:
            return await call()
        except Exception as error:
            LOG.error("a call failed", exc_info=error)
            return Failure(_summary(error))
    return Failure(f"no answer within {seconds:g} s")


def _how_often(failed: BaseException, failures: list[int]) -> str:
    return "is given up" if isinstance(failed, GivenUp) else f"failed {len(failures)} times in a minute"


def _halt(scope: str, reason: str, clock: Clock) -> Halt:
    return Halt(scope=scope, reason=reason, since_ns=clock.now_ns(), by="supervisor", kind="fault")


def _broken(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_broken(e) for e in error.exceptions)
    return isinstance(error, AssertionError | MailboxFull)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _summary(error: BaseException) -> str:
    error = _first(error)
    return f"{type(error).__name__}: {error}"[:300]
