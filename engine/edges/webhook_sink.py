"""Webhooks out: published events, one POST each, signed, in order for each account, at least once.

A receiver has an event when it answers 2xx; a repeat has the same `webhook-id`. Nothing of an answer but its status is
used, and no redirect is followed: a signed body goes where the config says, or nowhere. What is to be tried again the
publisher tries again; what the receiver had of a batch by then it does not get again, unless this process has died.
"""

import ssl
from collections import deque
from collections.abc import Sequence

import httpx
import trio
from msgspec import Struct

from engine.core.messages import OutboxRow
from engine.edges.base import LetGo, SinkDown, words
from engine.edges.ndjson import row_line
from engine.edges.webhook import signed
from engine.runtime.clock import Clock
from engine.runtime.log import Secret

ABREAST = 8  # accounts whose events are on their way at once
ANSWER_BYTES_MAX = 1 << 16  # read of an answer, so that its connection can be used again
LATER = (408, 425, 429)  # the statuses below 500 that speak of the moment, and not of the body


class PostTerms(Struct, frozen=True, kw_only=True):
    """Where to, and how. `drop`: an event that the receiver refuses (4xx) is not sent again, but let go.

    `place` is what may be told of the address. `ca_file`: who signs the receiver's certificate; "" the system's list.
    """

    url: Secret
    place: str
    keys: tuple[Secret, ...]
    sender: str  # begins each event's id, so that two engines may post to one receiver
    events: tuple[str, ...] = ()
    timeout_seconds: float = 10.0
    drop: bool = False
    ca_file: str = ""


class HookSink:
    """One receiver."""

    def __init__(self, name: str, terms: PostTerms, clock: Clock) -> None:
        """Raises OSError for a `ca_file` that cannot be read."""
        self.name = name
        self.down = ""
        self.let_go: deque[LetGo] = deque()
        self._terms, self._clock = terms, clock
        self._events = frozenset(terms.events)
        self._had: dict[int, None] = {}  # of the batch that is being sent
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=terms.ca_file or None),
            trust_env=False,
            follow_redirects=False,
            headers={"content-type": "application/json", "user-agent": "surefire", "accept-encoding": "identity"},
            timeout=httpx.Timeout(terms.timeout_seconds),
            limits=httpx.Limits(max_connections=ABREAST, max_keepalive_connections=ABREAST),
        )

    async def live(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds its connections, as long as anything is sent. Cancelled to stop."""
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await self._client.aclose()

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        """Returns when the receiver has them. Raises SinkDown; then it may have some of them."""
        wanted = [row for row in rows if not self._events or row.event.name in self._events]
        accounts: dict[str, list[OutboxRow]] = {}
        for row in wanted:
            if row.event_id not in self._had:
                accounts.setdefault(row.event.account, []).append(row)
        failures: list[str] = []
        room = trio.Semaphore(ABREAST)
        async with trio.open_nursery() as nursery:
            for some in accounts.values():
                nursery.start_soon(self._send_some, some, room, failures)
        await trio.lowlevel.checkpoint()
        if failures:
            self.down = failures[0]
            raise SinkDown(f"{self._terms.place}: {self.down}")
        self.down = ""
        self._had.clear()

    async def _send_some(self, rows: Sequence[OutboxRow], room: trio.Semaphore, failures: list[str]) -> None:
        """One account's, each when the one before has arrived."""
        for row in rows:
            async with room:
                if failures:
                    return  # the receiver is away: nobody need find that out anew
                why = await self._post(row)
            if why:
                failures.append(why)
                return
            self._had[row.event_id] = None

    async def _post(self, row: OutboxRow) -> str:
        """Why it has not arrived; "": it has, or is dropped."""
        terms, raw = self._terms, row_line(row)[:-1]
        seconds = self._clock.now_ns() // 1_000_000_000
        headers = signed(terms.keys, f"{terms.sender}-{row.event_id}", seconds, raw)
        if row.event.trace_id:
            headers["x-trace-id"] = row.event.trace_id
        try:
            with trio.fail_after(terms.timeout_seconds):
                status = await self._status(raw, headers)
        except trio.TooSlowError:
            return f"no answer in {terms.timeout_seconds:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, trio.BrokenResourceError) as error:
            return words(error).replace(terms.url.reveal(), terms.place)
        if 200 <= status < 300:
            return ""
        if terms.drop and 400 <= status < 500 and status not in LATER:
            self.let_go.append((row, f"answered {status}"))
            return ""
        return f"answered {status}{_hint(status)}"

    async def _status(self, raw: bytes, headers: dict[str, str]) -> int:
        """The answer is read so far that the connection serves the next one, and not looked at."""
        request = self._client.build_request("POST", self._terms.url.reveal(), content=raw, headers=headers)
        response = await self._client.send(request, stream=True)
        try:
            length = response.headers.get("content-length", "")
            if length.isdecimal() and int(length) <= ANSWER_BYTES_MAX:
                await response.aread()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await response.aclose()
        return response.status_code


def _hint(status: int) -> str:
    if 300 <= status < 400:
        return ": redirects are not followed"
    if status == 410:
        return ": the receiver is gone for good; take it out of the config"
    if 400 <= status < 500 and status not in LATER:
        return ': it refuses; refused = "drop" would go on without'
    return ""
