"""Two accounts in one engine: what happens to one is nothing to the other (SPEC: the account is the unit)."""

from decimal import Decimal

import pytest
import trio
from msgspec.structs import replace

from actors.wiring import AccountParts, Parts
from engine.core.messages import OrderType
from engine.core.money import use_exact_context
from engine.core.times import SECOND
from engine.runtime.clock import Clock
from engine.runtime.schedule import JumpClock, seeded_schedule
from engine.venues.throttle import Limit, Throttle
from tests.sim.faults import Faults, Nature, Options
from tests.sim.freezer import Freezer
from tests.sim.scenarios import entry
from tests.sim.truth import Executed, Truth
from tests.sim.venue import SimVenue
from tests.sim.world import LIMITS, Incarnation, World, silence

QUIET = Nature(volatility=0.0)


class TwoAccounts(World):
    """`main` at one venue, `other` at another; the prices are the same."""

    def __init__(self) -> None:
        super().__init__(Options(seed=1, nature=QUIET))
        self.other = SimVenue(QUIET, Faults(), "other", self.wall_ns, Truth())

    def parts(self, life: Incarnation) -> Parts:
        parts = super().parts(life)
        throttle = Throttle((Limit(10, SECOND),), Clock(now_ns=self.wall_ns, ticks_ns=self.wall_ns))
        account = AccountParts(
            name="other",
            venue_name="sim2",
            venue=self.other.wire(life, throttle),
            throttle=throttle,
            limits=LIMITS,
        )
        return replace(parts, accounts=(*parts.accounts, account))

    def enter(self, name: str, account: str) -> None:
        self.feed.offer(name, entry(self, name, account=account))

    def covered(self) -> bool:
        """Whether stops stand at the other venue for all that is held there."""
        stops = [o for o in self.other.orders.values() if o.status == "open" and o.order_type is OrderType.STOP_MARKET]
        return max((o.qty - o.filled for o in stops), default=Decimal(0)) >= self.other.position("BTCUSDT") > 0

    async def live(self, disaster: str) -> None:
        async with trio.open_nursery() as nursery:
            self.freezer = Freezer()
            await nursery.start(self.venue.run)
            await nursery.start(self.other.run)
            nursery.start_soon(self._live_and_die)
            await trio.sleep(1)
            self.enter("m1", "main")
            self.enter("o1", "other")
            await trio.sleep(6)
            await self.strike(disaster)
            await trio.sleep(6)
            self.enter("m2", "main")
            self.enter("o2", "other")
            await trio.sleep(40 if disaster == "a crash" else 3)  # sources are opened late when an account is missing
            assert self.other.position("BTCUSDT") == Decimal("0.0200"), "the other account did not go on"
            assert self.covered(), "the other account is not covered"
            await trio.sleep(120)
            self.feed.offer("o3", {"signal_id": "o3", "account": "other", "symbol": "BTCUSDT", "action": "close"})
            await trio.sleep(3)
            assert self.other.position("BTCUSDT") == 0
            if disaster == "a crash":
                await self.come_back()
            nursery.cancel_scope.cancel()

    async def come_back(self) -> None:
        """The account whose venue could not be asked comes up when it can be."""
        held = self.venue.position("BTCUSDT")
        self.venue.dead = ""
        await trio.sleep(10)
        self.feed.offer("m3", {"signal_id": "m3", "account": "main", "symbol": "BTCUSDT", "action": "close"})
        await trio.sleep(3)
        assert held and self.venue.position("BTCUSDT") == 0

    async def strike(self, disaster: str) -> None:
        if disaster == "a ban":
            self.venue.banned_until_ns = self.wall_ns() + 3600 * SECOND
        elif disaster == "a halt":
            assert self.engine is not None
            await self.engine.operator.stop("op", "drill", scope="account/main")
        elif disaster == "a crash":
            assert self.life is not None
            self.venue.die("queries")
            self.kill(self.life, "here")
            self.other.cancel(next(o.cid for o in self.other.orders.values() if o.order_type is OrderType.STOP_MARKET))
            await trio.sleep(8)
            assert self.covered(), "nobody looks after the other account"
        else:
            self.venue.die(disaster)


@pytest.mark.parametrize(
    "disaster",
    ["the private stream", "what the stream says", "queries", "order entry", "a ban", "a halt"],
)
def test_what_happens_to_one_account_is_nothing_to_the_other(disaster: str) -> None:
    use_exact_context()
    world = TwoAccounts()
    with seeded_schedule(1), silence():
        trio.run(world.live, disaster, clock=JumpClock())
    assert any(isinstance(x, Executed) for x in world.truth), "the first account has done something before"


def test_an_account_whose_venue_cannot_be_asked_does_not_keep_the_other_from_starting() -> None:
    use_exact_context()
    with seeded_schedule(1), silence():
        trio.run(TwoAccounts().live, "a crash", clock=JumpClock())
