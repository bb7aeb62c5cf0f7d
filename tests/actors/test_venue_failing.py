"""A venue that fails, bans, or will not have the account: entries stop by themselves, and come back as they should."""

from decimal import Decimal

import trio

from engine.core.messages import Alerted, Halt, Leg, Order, Outcome, Rejection, Submitted
from engine.core.times import SECOND
from tests.actors.world import ACCOUNT, House, buy, close_for, house

BROKEN = Rejection("10016", "unavailable", "service is restarting")


def reasons(home: House) -> str:
    return "; ".join(halt.reason for halt in home.engine.closed(ACCOUNT))


def alerts(home: House, kind: str) -> list[str]:
    return [fact.text for fact in home.facts(Alerted) if fact.kind == kind]


async def broken(home: House) -> None:
    """Two signals, three tries each: the fifth failure opens the breaker."""
    home.venue.says = BROKEN
    for signal_id in ("s1", "s2"):
        assert (await home.hand.send(buy(signal_id))).status == "accepted"
    await home.until(lambda: "breaker is open" in reasons(home))


async def test_failures_in_a_row_stop_entries_with_one_alert_and_before_they_become_orders(autojump_clock: object):
    async with house() as home:
        await broken(home)
        await home.at_rest()
        before = len(home.facts(Submitted))
        refused = await home.hand.send(buy("s3"))
        assert refused.status == "refused"
        assert len(home.facts(Submitted)) == before
        assert len(alerts(home, "breaker_open")) == 1
        assert "10016: service is restarting" in alerts(home, "breaker_open")[0]


async def test_after_the_pause_one_entry_tries_and_its_success_opens_the_way(autojump_clock: object):
    async with house() as home:
        await broken(home)
        home.venue.says = None
        await home.until(lambda: not home.engine.closed(ACCOUNT), seconds=60)
        assert (await home.hand.send(buy("s4"))).status == "accepted"
        await home.at_rest()
        assert [c.outcome for c in home.confirmed("s4")] == [Outcome.EXECUTED]
        assert home.covered() and home.held() and home.books() == []
        assert not home.engine.closed(ACCOUNT)


async def test_a_failed_try_makes_the_pause_longer(autojump_clock: object):
    async with house() as home:
        await broken(home)
        await home.until(lambda: not home.engine.closed(ACCOUNT), seconds=60)
        home.venue.says = BROKEN
        await home.hand.send(buy("s5"))
        await home.until(lambda: "breaker is open" in reasons(home))
        opened = trio.current_time()
        home.venue.says = None
        await home.until(lambda: not home.engine.closed(ACCOUNT), seconds=120)
        assert trio.current_time() - opened > 15, "ten seconds doubled, less what the tries took"


async def test_a_limiters_no_to_the_one_entry_that_tries_does_not_close_the_way_for_ever(autojump_clock: object):
    async with house() as home:
        await broken(home)
        await home.until(lambda: not home.engine.closed(ACCOUNT), seconds=60)
        home.venue.says = Rejection("10006", "rate_limited", "too many visits")
        assert (await home.hand.send(buy("s6"))).status == "accepted"
        await home.until(lambda: home.confirmed("s6"))
        home.venue.says = None
        assert not home.engine.closed(ACCOUNT)
        assert (await home.hand.send(buy("s7"))).status == "accepted"
        await home.at_rest()
        assert [c.outcome for c in home.confirmed("s7")] == [Outcome.EXECUTED]


async def test_a_halt_while_an_adapter_waits_for_its_connection_keeps_the_entry_from_the_wire(autojump_clock: object):
    async with house() as home:
        halt = Halt("engine", "enough", home.clock.now_ns(), "ann", kind="stop")
        home.venue.when_sent = lambda order: home.engine.world.switch.halt(halt)
        assert (await home.hand.send(buy("s1"))).status == "accepted"
        await home.until(lambda: home.confirmed("s1"))
        assert [fact.order.signal_id for fact in home.facts(Submitted)] == ["s1"]
        assert home.at_venue() == [] and home.held() == 0 and home.books() == []


async def test_protection_passes_while_the_breaker_is_open(autojump_clock: object):
    async with house() as home:
        await home.hand.send(buy("s0"))
        await home.at_rest()
        await broken(home)
        home.venue.says = None
        await home.engine.operator.flatten("ann", "enough", ACCOUNT, None)
        await home.until(lambda: not home.held(), seconds=9)  # sooner than the breaker's pause


async def test_of_the_attempts_that_wait_for_a_closed_venue_one_leaves_for_each_leg(autojump_clock: object):
    async with house() as home:
        throttle, sent = home.engine.parts.accounts[0].throttle, list[Order]()

        def close_behind_the_entry(order: Order) -> None:
            sent.append(order)
            if order.leg is Leg.ENTRY:
                home.nursery.start_soon(close_for, home, 40)

        home.venue.when_sent = close_behind_the_entry
        await home.hand.send(buy("s1"))
        await trio.sleep(30)
        assert sum(fact.order.leg is Leg.STOP for fact in home.facts(Submitted)) > 2
        assert "HTTP 429" in throttle.waits() and "s more" in throttle.waits()
        await trio.sleep(15)
        assert sorted(order.leg.value for order in sent) == ["entry", "stop", "target"]
        assert throttle.waits() == ""
        assert home.covered() and home.held() == Decimal("0.1") and home.books() == []


async def test_an_account_that_the_venue_refuses_is_halted_until_a_person_says_otherwise(autojump_clock: object):
    async with house() as home:
        home.venue.says = Rejection("10003", "auth", "API key is invalid.")
        await home.hand.send(buy("s1"))
        await home.until(lambda: home.confirmed("s1"))
        assert [c.outcome for c in home.confirmed("s1")] == [Outcome.REJECTED]
        (halt,) = home.engine.world.switch.halts()
        assert (halt.scope, halt.latched) == (f"account/{ACCOUNT}", True)
        assert "10003" in halt.reason
        assert (await home.hand.send(buy("s2"))).status == "refused"


async def test_a_ban_is_shown_with_its_deadline_and_ends_with_it(autojump_clock: object):
    async with house() as home:
        account = home.engine.parts.accounts[0]
        account.throttle.close_until(home.clock.now_ns() + 60 * SECOND, "HTTP 403")
        assert "HTTP 403: closed for 60 s more" in reasons(home)
        assert (await home.hand.send(buy("s1"))).status == "refused"
        await trio.sleep(59)
        assert (await home.hand.send(buy("s2"))).status == "accepted"
        await home.until(lambda: home.confirmed("s2"))
