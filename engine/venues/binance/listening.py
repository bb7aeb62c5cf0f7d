"""A private stream of either market from its connection to its end: what it says is read, learnt, and passed on.

It ends before the venue cuts it, when its connection dies, and when it is proven to deliver no more (see witness).
"""

from collections.abc import Awaitable, Callable

import structlog
import trio
from trio_websocket import WebSocketConnection

from engine.core.messages import TransferReport, VenueReport
from engine.runtime.websocket import open_websocket
from engine.venues.base import StreamDown
from engine.venues.binance.decoding import Heard, Odd
from engine.venues.binance.witness import Witness
from engine.venues.private_stream import Deliver, keep_awake, receive_bytes

LOG = structlog.get_logger("binance")
TRANSFERS_KEPT = 500
LIFE_SECONDS = 23 * 3600.0  # the venue cuts every connection after 24 hours


class Listening:
    """At most one stream at a time."""

    def __init__(
        self,
        name: str,
        now_ns: Callable[[], int],
        read: Callable[[bytes], Heard],
        learn: Callable[[VenueReport], None],
    ) -> None:
        """`now_ns` is the venue's time, `read` may raise Odd, `learn` sees each report before it is delivered."""
        self.witness = Witness()
        self.transfers: dict[str, TransferReport] = {}  # of late, by id, where the stream is what tells of them
        self.transferred = False  # something was, since whoever asks for it has last looked
        self._name = name
        self._now_ns = now_ns
        self._read = read
        self._learn = learn
        self._scope: trio.CancelScope | None = None
        self._deliver: Deliver | None = None
        self._dead = ""  # why the stream is not to be believed

    async def run(
        self,
        url: str,
        deliver: Deliver,
        ready: Callable[[], None],
        begin: Callable[[WebSocketConnection], Awaitable[None]] | None,
        *beside: Callable[[], Awaitable[None]],
    ) -> None:
        """Raises StreamDown, and whatever a connection raises. `begin`: where the venue must be asked to deliver."""
        self._dead = ""
        with trio.CancelScope() as self._scope:
            async with open_websocket(url) as socket, trio.open_nursery() as nursery:
                if begin is not None:
                    await begin(socket)
                self._deliver = deliver
                self.witness.up(self._now_ns())
                ready()
                nursery.start_soon(keep_awake, socket)
                for task in beside:
                    nursery.start_soon(task)
                try:
                    with trio.move_on_after(LIFE_SECONDS):
                        while True:
                            self.hear(await receive_bytes(socket), deliver)
                    raise StreamDown("its connection is about to be cut by the venue")
                finally:
                    self._deliver = None
                    self.witness.up(0)
        raise StreamDown(self._dead or "cut off")

    def hear(self, raw: bytes, deliver: Deliver) -> None:
        try:
            heard = self._read(raw)
        except Odd as error:
            raise StreamDown(f"garbage: {error}") from None
        if heard.odd:
            LOG.error("the stream said something that needs a look", venue=self._name, what=heard.odd)
        self.transferred = self.transferred or heard.transferred
        for transfer in heard.transfers:
            self.transfers[transfer.transfer_id] = transfer
            if len(self.transfers) > TRANSFERS_KEPT:
                del self.transfers[next(iter(self.transfers))]
        for report in heard.reports:
            self._learn(report)
            deliver(report)
        if heard.ends:
            raise StreamDown(heard.ends)

    def tell(self, report: VenueReport) -> None:
        """What we know before the venue does, to whoever reads now."""
        if self._deliver is not None:
            self._deliver(report)

    def end(self, why: str) -> None:
        """Whoever reads it connects anew and backfills."""
        self._dead = why
        if self._scope is not None:
            self._scope.cancel()
