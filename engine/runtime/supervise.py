"""One level, one for one: an actor that fails is started again from the journal; too often, and its scope halts.

This is the only place that catches what must not happen. A broken invariant (an assertion, a full mailbox) halts the
actor's scope at once; the actor still comes back, because protection and cancels need it. After `RESTARTS_MAX` in
`WITHIN_NS` it stays down.
"""

from collections.abc import Awaitable, Callable

import structlog
import trio

from engine.core.messages import Halt
from engine.runtime.clock import Clock
from engine.runtime.journal.base import JournalFailed
from engine.runtime.mail import MailboxFull
from engine.runtime.switch import Switch

RESTARTS_MAX = 3
WITHIN_NS = 60_000_000_000
LOG = structlog.get_logger("supervise")


async def supervise(
    name: str, scope: str, run: Callable[[], Awaitable[None]], switch: Switch, clock: Clock, down: Callable[[str], None]
) -> None:
    """Run an actor until it returns. `run` makes it anew, from what is durable, each time it is called."""
    failures: list[int] = []
    while True:
        try:
            return await run()
        except Exception as error:
            if isinstance(failed := _first(error), JournalFailed):
                # Nothing more can be made durable: no restart mends that. The switch is closed for everybody.
                LOG.error("the journal failed", actor=name, reason=str(failed))
                switch.halt(_halt("engine", f"the journal failed: {failed}", clock))
                down(name)
                return
            now = clock.now_ns()
            failures = [at for at in failures if now - at < WITHIN_NS] + [now]
            LOG.error("actor failed", actor=name, failures=len(failures), exc_info=error)
            if _broken(error):
                switch.halt(_halt(scope, f"{name}: broken invariant: {_summary(error)}", clock))
            if len(failures) > RESTARTS_MAX:
                switch.halt(_halt(scope, f"{name} failed {len(failures)} times in a minute: {_summary(error)}", clock))
                down(name)
                return
            await trio.sleep(0.05 * 2 ** len(failures))


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
