"""One account's life at one market: its connections, its symbols' rules, the venue's clock.

Spot and USD-M are two venues with one manner of coming up, telling the time, and going down. What they are told and
asked is not known here.
"""

from collections.abc import Awaitable, Callable
from random import Random

import msgspec
import structlog

from engine.core.messages import Failed, Instrument, Order, Quote, Rejection
from engine.core.times import SECOND
from engine.venues.admission import Remark
from engine.venues.binance.api import Api, hear_answer
from engine.venues.binance.errors import Verdict
from engine.venues.binance.filters import ExchangeInfo, Rules, Unusable, limit_name, out_of_band, rules_of
from engine.venues.binance.hosts import Hosts
from engine.venues.binance.looking import look_over
from engine.venues.binance.sign import Params
from engine.venues.order_socket import Manners, OrderSocket
from engine.venues.resting import Resting
from engine.venues.throttle import Lane

LOG = structlog.get_logger("binance")
REACH_NS = 85 * 86_400 * SECOND  # how far back executions are asked for; USD-M itself forgets after three months


class Session:
    """`keep` it in a task; the venue asks and sends through its `api` and `socket`."""

    def __init__(
        self, name: str, api: Api, hosts: Hosts, symbols: tuple[str, ...], rng: Random, order_socket: bool
    ) -> None:
        """`symbols` are those that are traded; executions can only be asked for by symbol."""
        self.api = api
        self.hosts = hosts
        self.rules: dict[str, Rules] = {}
        self.resting = Resting()
        self._symbols = symbols
        self._began_ns = 0
        manners = Manners(name=name, url=hosts.orders, hear=hear_answer)
        self.socket = OrderSocket(manners, rng) if order_socket else None

    async def keep(self, *beside: Callable[[], Awaitable[None]]) -> None:
        """Keeps the order socket up and the venue's clock known, until cancelled; then closes every connection."""
        socket = (self.socket.keep,) if self.socket is not None else ()
        await self.api.rest.keep(*socket, self.api.keep_time, *beside)

    async def look_over(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
        return await look_over(self.api, self.hosts, self._symbols, allow_withdrawal)

    async def learn_rules(self, cost: str, path: str, params: Params) -> tuple[Instrument, ...] | Failed:
        """What may be traded and how; on the way, the limits that the venue states."""
        info = await self.api.query(cost, "GET", path, params, _INFO, sign=False)
        if isinstance(info, Verdict):
            return Failed(info.why)
        for limit in info.rateLimits:
            if name := limit_name(limit):
                self.api.throttle.correct(name, 0, limit.limit)
        for listed in info.symbols:
            if listed.symbol not in self._symbols:
                continue
            rules = rules_of(self.api.market, listed)
            if isinstance(rules, Unusable):
                LOG.warning("a symbol is not offered", symbol=rules.symbol, reason=rules.why)
            else:
                self.rules[listed.symbol] = rules
        return tuple(rules.instrument for rules in self.rules.values())

    def unfit(self, order: Order, quote: Quote | None) -> Rejection | None:
        """Why an entry is kept back here: the venue would not take it, or would not take the stop that it will need."""
        rules = self.rules.get(order.symbol)
        if rules is None:
            return None
        why = out_of_band(rules, order, quote, self.api.clock.now_ns()) or self.resting.no_room(order, rules.places)
        return Rejection("filter", "unsent", why) if why else None

    def traded(self) -> tuple[str, ...]:
        return tuple(self.rules) or self._symbols

    async def server_time_ns(self) -> int | Failed:
        await self.api.throttle.wait(Lane.OPEN, "w1")
        told = await self.api.measure()
        if not self._began_ns and not isinstance(told, Failed):
            self._began_ns = told
        return told

    def reach_ns(self, since_ns: int, now_ns: int) -> int:
        """An engine without a memory (0) asks since ever: what was before it belongs to somebody else."""
        return max(since_ns or self._began_ns or now_ns, now_ns - REACH_NS)


_INFO = msgspec.json.Decoder(ExchangeInfo)
