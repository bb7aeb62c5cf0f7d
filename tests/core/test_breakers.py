"""The engine's own breakers as a table and a few stories: what closes, for how long, and what does not count."""

from decimal import Decimal

import pytest

from engine.core.breakers import Breakers, OwnTerms, StallTerms, StormTerms
from engine.core.messages import Canceled, Halt, Leg, Order, OrderType, Rejected, Side, Submitted
from engine.core.times import SECOND

NOW = 1_763_700_000 * SECOND


def sent(cid: str, symbol: str = "BTCUSDT", leg: Leg = Leg.ENTRY, account: str = "main") -> Submitted:
    order = Order(
        cid, account, symbol, "s", leg, 0, Side.BUY, OrderType.MARKET, Decimal(1), reduce_only=leg is not Leg.ENTRY
    )
    return Submitted(at_ns=NOW, account=account, symbol=symbol, order=order)


def no(cid: str, at_ns: int, symbol: str = "BTCUSDT", kind: str = "insufficient", account: str = "main") -> Rejected:
    return Rejected(at_ns=at_ns, account=account, symbol=symbol, cid=cid, code="110007", kind=kind, text="no money")


def rejected(breakers: Breakers, count: int, at_ns: int = NOW, every_ns: int = SECOND, **what: str) -> list[Halt]:
    """So many entries, each sent and rejected; the halts of all."""
    halts: list[Halt] = []
    for n in range(count):
        cid, symbol = f"{at_ns}-{n}-{what}", what.get("symbol", "BTCUSDT")
        assert breakers.fact(sent(cid, symbol)) == ()
        halts += breakers.fact(no(cid, at_ns + n * every_ns, **what))
    return halts


# -------------------------------------------------------------------------------------------------------------- storms


def test_the_fifth_rejection_of_one_class_within_a_minute_halts_its_symbol_for_a_minute() -> None:
    breakers = Breakers()
    assert rejected(breakers, 4) == []
    (halt,) = rejected(breakers, 1, NOW + 4 * SECOND)
    assert (halt.scope, halt.by, halt.kind, halt.latched) == (
        "symbol/main/BTCUSDT",
        "breaker/rejects/insufficient",
        "fault",
        False,
    )
    assert halt.until_ns == NOW + 64 * SECOND
    assert halt.reason == (
        "5 entries rejected as 'insufficient' within 60 s, the limit is 5; the last one: 110007: no money"
    )


def test_rejections_that_are_far_apart_of_other_classes_or_of_other_symbols_are_no_storm() -> None:
    assert rejected(Breakers(), 40, every_ns=15 * SECOND) == []
    breakers = Breakers()
    for kind in ("insufficient", "invalid"):
        for symbol in ("BTCUSDT", "ETHUSDT"):
            assert rejected(breakers, 4, kind=kind, symbol=symbol) == []


@pytest.mark.parametrize("kind", ["triggered", "unavailable", "auth", "not_sent", "rate_limited"])
def test_what_has_a_breaker_of_its_own_does_not_count(kind: str) -> None:
    assert rejected(Breakers(), 40, kind=kind) == []


def test_fifteen_over_several_symbols_halt_the_account() -> None:
    breakers = Breakers()
    halts = [h for n in range(4) for h in rejected(breakers, 4, symbol=f"S{n}USDT")]
    assert [(h.scope, h.until_ns is not None) for h in halts] == [("account/main", True)]
    assert "15 entries rejected" in halts[0].reason


def test_a_protective_order_that_is_rejected_is_the_protectors_business() -> None:
    breakers = Breakers()
    for n in range(40):
        breakers.fact(sent(f"c{n}", leg=Leg.STOP))
        assert breakers.fact(no(f"c{n}", NOW)) == ()


def test_a_rejection_long_after_the_yes_counts_and_an_order_that_ended_otherwise_is_forgotten() -> None:
    breakers = Breakers(OwnTerms(storms=StormTerms(symbol_max=1)))
    breakers.fact(sent("a"))
    breakers.fact(Canceled(at_ns=NOW, account="main", symbol="BTCUSDT", cid="a"))
    assert breakers.fact(no("a", NOW)) == ()
    breakers.fact(sent("b"))
    assert len(breakers.fact(no("b", NOW + 3600 * SECOND))) == 1
    assert breakers._entries == {}


def test_a_storm_soon_after_the_last_one_closes_for_twice_as_long_and_at_most_for_fifteen_minutes() -> None:
    breakers, at, seen = Breakers(), NOW, []
    for _ in range(7):
        (halt,) = rejected(breakers, 5, at, every_ns=0)
        assert halt.until_ns is not None
        seen.append((halt.until_ns - at) // SECOND)
        at = halt.until_ns + SECOND
        breakers._rejected.clear()  # of the account: this is about the symbol
    assert seen == [60, 120, 240, 480, 900, 900, 900]
    (halt,) = rejected(breakers, 5, at + 7200 * SECOND, every_ns=0)
    assert halt.until_ns == at + 7260 * SECOND


# -------------------------------------------------------------------------------------------------------------- stalls


def test_a_loop_that_stood_still_for_a_second_halts_the_engine_for_ten() -> None:
    breakers = Breakers()
    assert breakers.loop(SECOND - 1, NOW) is None
    halt = breakers.loop(1_500_000_000, NOW)
    assert halt is not None
    assert (halt.scope, halt.by, halt.latched, halt.until_ns) == ("engine", "breaker/loop", False, NOW + 10 * SECOND)
    assert halt.reason == "the event loop stood still for 1,500 ms, the limit is 1,000 ms"
    assert (breakers.stalls, breakers.last_stall) == (1, halt.reason)


def test_each_stall_of_the_loop_is_another_one() -> None:
    breakers = Breakers()
    pauses = []
    for n in range(3):
        at = NOW + n * 2 * SECOND
        halt = breakers.loop(SECOND, at)
        assert halt is not None and halt.until_ns is not None
        pauses.append((halt.until_ns - at) // SECOND)
    assert pauses == [10, 20, 40]
    assert breakers.stalls == 3


def test_one_commit_that_hangs_is_one_stall_whose_halt_lasts_as_long_as_it_does() -> None:
    breakers = Breakers()
    halts = []
    for tenth in range(600):  # a minute
        waited = tenth * SECOND // 10
        if halt := breakers.journal(7, waited, NOW + waited):
            halts.append((waited, halt))
            last = halt
        if waited >= 2 * SECOND:
            assert last.until_ns is not None and last.until_ns > NOW + waited  # never open while it hangs
    assert [waited // SECOND for waited, _ in halts] == list(range(2, 60, 5))
    assert breakers.stalls == 1
    assert halts[0][1].reason == (
        "the journal has made nothing durable for 2,000 ms (fact 7 was the last), the limit is 2,000 ms"
    )
    after = breakers.journal(8, 2 * SECOND, NOW + 66 * SECOND)
    assert after is not None and after.until_ns == NOW + 86 * SECOND  # another one, soon after: twice as long


def test_limits_of_stalls_are_configurable() -> None:
    breakers = Breakers(OwnTerms(stalls=StallTerms(loop_ns=5, commit_ns=7, pause_ns=SECOND)))
    assert breakers.loop(4, NOW) is None and breakers.journal(1, 6, NOW) is None
    assert breakers.loop(5, NOW) is not None and breakers.journal(1, 7, NOW) is not None
