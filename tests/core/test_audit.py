"""The audit finds what must not be, one thing at a time, and nothing where there is nothing."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from engine.core.audit import GENESIS, KeyUse, Line, Report, Tables, chain, verify
from engine.core.ids import client_order_id
from engine.core.messages import (
    Accepted,
    Action,
    AnyFact,
    Canceled,
    Confirmed,
    Corrected,
    Filled,
    FundingPaid,
    Halt,
    Halted,
    Judged,
    KeyNoted,
    Leg,
    Missing,
    Order,
    OrderType,
    Outcome,
    Position,
    Rejected,
    Resumed,
    Side,
    Signal,
    SignalReceived,
    State,
    Submitted,
    Withdrawn,
)
from engine.core.order import advance

HERE: dict[str, Any] = {"at_ns": 1, "account": "main", "symbol": "BTCUSDT", "trace_id": "t"}
CID = client_order_id("test", "main", "s-1", Leg.ENTRY, 0)
ORDER = Order(
    cid=CID,
    account="main",
    symbol="BTCUSDT",
    signal_id="s-1",
    leg=Leg.ENTRY,
    attempt=0,
    side=Side.BUY,
    order_type=OrderType.MARKET,
    qty=Decimal(2),
)
SIGNAL = Signal(
    signal_id="s-1",
    account="main",
    symbol="BTCUSDT",
    action=Action.OPEN,
    source="stdin",
    dialect="strategy",
    body_hash="0",
    trace_id="t",
    received_ns=1,
    valid_until_ns=2,
)
RECEIVED = SignalReceived(**HERE, signal=SIGNAL)
JUDGED = Judged(**HERE, signal_id="s-1", outcome=Outcome.ACCEPTED, checks=())
SUBMITTED = Submitted(**HERE, order=ORDER)
ACCEPTED = Accepted(**HERE, cid=CID, venue_order_id="v")
CONFIRMED = Confirmed(**HERE, signal_id="s-1", outcome=Outcome.EXECUTED)


def fill(exec_id: str, qty: str = "1", fee_asset: str = "USDT", delta: str | None = None, cid: str = CID) -> Filled:
    return Filled(
        **HERE,
        cid=cid,
        exec_id=exec_id,
        venue_order_id="v",
        side=Side.BUY,
        qty=Decimal(qty),
        price=Decimal(100),
        fee=Decimal("0.1"),
        fee_asset=fee_asset,
        fee_quote=Decimal("0.1"),
        delta=Decimal(delta if delta is not None else qty),
    )


STORY: tuple[AnyFact, ...] = (RECEIVED, JUDGED, SUBMITTED, ACCEPTED, fill("e1"), fill("e2"), CONFIRMED)
DONE = advance(advance(advance(ORDER, ACCEPTED), fill("e1")), fill("e2"))
HELD = Position(account="main", symbol="BTCUSDT", qty=Decimal(2), fees=Decimal("0.2"), volume=Decimal(200))
EXECUTIONS = (("main", "BTCUSDT", "e1"), ("main", "BTCUSDT", "e2"))


def tables(**changes: Any) -> Tables:
    whole: dict[str, Any] = {
        "orders": (DONE,),
        "positions": (HELD,),
        "signals": (("s-1", Outcome.EXECUTED),),
        "executions": EXECUTIONS,
    }
    return Tables(**{**whole, **changes})


def lines(facts: Iterable[AnyFact]) -> list[Line]:
    found, digest = [], GENESIS
    for seq, fact in enumerate(facts, 1):
        body = msgspec.json.encode(fact)
        digest = chain(digest, seq, body)
        found.append(Line(seq=seq, fact=body, hash=digest))
    return found


def rules(report: Report) -> list[str]:
    return [finding.rule for finding in report.findings]


def of(*facts: AnyFact, **changes: Any) -> list[str]:
    """Rules broken by the story with other facts."""
    return rules(verify(lines(facts), tables(**changes)))


def test_a_whole_story_is_sound() -> None:
    report = verify(lines(STORY), tables())
    assert report.sound and report.findings == ()
    assert (report.facts, report.signals, report.orders, report.executions, report.open_signals) == (7, 1, 1, 2, 0)
    assert report.last_hash == lines(STORY)[-1].hash.hex()


def test_uses_of_keys_are_counted_and_the_last_one_is_told() -> None:
    def key(at_ns: int, what: str, by: str, account: str = "main") -> KeyNoted:
        return KeyNoted(at_ns=at_ns, account=account, name="desk", what=what, by=by)

    noted = (key(5, "added", "keys add"), key(6, "decrypted", "check"), key(9, "decrypted", "run"))
    report = verify(lines((*noted, *STORY, key(7, "decrypted", "run", "other"))), tables())
    assert report.sound
    assert report.keys == (KeyUse("desk", "main", 2, 9, "run"), KeyUse("desk", "other", 1, 7, "run"))


def test_an_empty_journal_is_sound() -> None:
    assert verify((), Tables()).findings == ()


def test_an_accepted_signal_may_still_be_open() -> None:
    report = verify(
        lines(STORY[:3]),
        Tables(orders=(ORDER,), signals=(("s-1", Outcome.ACCEPTED),)),
    )
    assert report.findings == () and report.open_signals == 1


def test_the_hash_depends_on_the_one_before_the_number_and_the_bytes() -> None:
    base = chain(GENESIS, 1, b"fact")
    assert len({base, chain(base, 1, b"fact"), chain(GENESIS, 2, b"fact"), chain(GENESIS, 1, b"fac")}) == 4
    assert chain(GENESIS, 1, b"1:x") != chain(GENESIS, 11, b":x")


def altered(change: Callable[[list[Line]], Any]) -> list[tuple[str, int]]:
    found = lines(STORY)
    change(found)
    return [(f.rule, f.seq) for f in verify(found, tables()).findings if f.rule == "chain"]


def test_a_changed_fact_breaks_the_chain_at_its_number() -> None:
    def change(found: list[Line]) -> None:
        found[3] = replace(found[3], fact=found[3].fact.replace(b'"v"', b'"w"'))

    assert altered(change) == [("chain", 4)]


def test_a_missing_fact_breaks_the_chain_where_it_was() -> None:
    assert altered(lambda found: found.pop(3)) == [("chain", 5), ("chain", 5)]


def test_a_fact_that_cannot_be_read_is_told_and_the_rest_is_looked_at() -> None:
    def change(found: list[Line]) -> None:
        body = b'{"type":"Unheard"}'
        found.append(Line(seq=8, fact=body, hash=chain(found[-1].hash, 8, body)))

    assert altered(change) == [("chain", 8)]


@pytest.mark.parametrize("damage", [b'{"type":"Judged","account":"\xff"}', b'{"type":"Judged","x":' + b"[" * 20_000])
def test_neither_can_bytes_that_are_no_text_nor_nesting_without_end_stop_it(damage: bytes) -> None:
    report = verify([Line(1, damage, chain(GENESIS, 1, damage))], Tables())
    assert [(finding.rule, finding.seq) for finding in report.findings] == [("chain", 1)]


def test_an_order_is_submitted_once() -> None:
    assert of(*STORY[:3], SUBMITTED, *STORY[3:]) == ["one intent per id"]


@pytest.mark.parametrize("fact", [ACCEPTED, Rejected(**HERE, cid=CID, code="1", kind="invalid")])
def test_nothing_happens_to_an_order_that_was_never_submitted(fact: AnyFact) -> None:
    assert of(fact, orders=(), positions=(), signals=(), executions=()) == ["intent before its fate"]


def test_a_foreign_order_may_be_filled_and_canceled() -> None:
    foreign = (fill("e1", cid="human-1"), Canceled(**HERE, cid="human-1"))
    held = replace(HELD, qty=Decimal(1), fees=Decimal("0.1"), volume=Decimal(100))
    assert of(*foreign, orders=(), signals=(), positions=(held,), executions=EXECUTIONS[:1]) == []


def test_a_closer_that_went_out_while_the_journal_could_take_nothing_may_be_filled_and_nothing_else() -> None:
    stray = client_order_id("test", "main", "~main/BTCUSDT/1/1.0", Leg.EXIT, 0)

    def exit_fill(qty: str) -> Filled:
        return replace(fill("e3", qty=qty, delta=f"-{qty}", cid=stray), side=Side.SELL)

    def after(qty: str, *more: AnyFact) -> list[str]:
        held = replace(HELD, qty=Decimal(2) - Decimal(qty), fees=Decimal("0.3"), volume=200 + 100 * abs(Decimal(qty)))
        booked = (*EXECUTIONS, ("main", "BTCUSDT", "e3"))
        return of(*STORY, *more, positions=(held,), executions=booked)

    assert after("2", exit_fill("2")) == []
    assert after("3", exit_fill("3")) == ["intent before its fate"], "it turned the position"
    assert after("-1", fill("e3", cid=stray)) == ["intent before its fate"], "it opened"


def test_an_execution_is_booked_once() -> None:
    assert of(*STORY[:6], fill("e2"), CONFIRMED) == ["once in the ledger"]


def test_funding_is_booked_once() -> None:
    paid = FundingPaid(**HERE, funding_id="f", amount=Decimal(-1), asset="USDT")
    booked = (*EXECUTIONS, ("main", "BTCUSDT", "funding/f"))
    assert of(*STORY, paid, executions=booked) == []
    assert of(*STORY, paid, paid, executions=booked) == ["once in the ledger"]


def test_coins_that_were_withdrawn_are_in_the_sum_of_the_position_once() -> None:
    gone = Withdrawn(**HERE, transfer_id="t", qty=HELD.qty)
    booked = (*EXECUTIONS, ("main", "BTCUSDT", "transfer/t"))
    flat = replace(HELD, qty=Decimal(0))
    assert of(*STORY, gone, executions=booked, positions=(flat,)) == []
    assert of(*STORY, gone, executions=booked) == ["table positions"]
    assert of(*STORY, gone, gone, executions=booked, positions=(flat,)) == ["once in the ledger"]


def test_an_opener_has_one_attempt() -> None:
    again = replace(ORDER, cid=client_order_id("test", "main", "s-1", Leg.ENTRY, 1), attempt=1)
    found = of(*STORY[:6], Submitted(**HERE, order=again), CONFIRMED, orders=(DONE, again))
    assert found == ["openers have one attempt"]


def test_the_verdict_comes_before_the_intent() -> None:
    assert of(RECEIVED, SUBMITTED, JUDGED, *STORY[3:]) == ["verdict before intent"]


def test_a_refused_signal_gets_no_order() -> None:
    refused = replace(JUDGED, outcome=Outcome.REFUSED)
    assert of(RECEIVED, refused, *STORY[2:]) == ["verdict before intent"]


def test_nothing_is_opened_for_a_signal_that_ended() -> None:
    late = replace(ORDER, cid=client_order_id("test", "main", "s-1", Leg.EXIT, 0))
    assert of(*STORY, Submitted(**HERE, order=late), orders=(DONE, late)) == ["nothing after the end"]


def test_a_stop_needs_no_verdict() -> None:
    stop = replace(ORDER, cid=client_order_id("test", "main", "x", Leg.STOP, 3), signal_id="x", leg=Leg.STOP, attempt=3)
    assert of(*STORY, Submitted(**HERE, order=stop), orders=(DONE, stop)) == []


def test_a_signal_is_judged_once_and_confirmed_once() -> None:
    assert of(RECEIVED, JUDGED, *STORY[1:]) == ["one verdict"]
    assert of(*STORY, CONFIRMED) == ["one confirmation"]


def test_a_signal_is_not_confirmed_without_a_verdict() -> None:
    found = of(CONFIRMED, orders=(), positions=(), signals=(), executions=())
    assert found == ["verdict before the end"]


def test_what_the_order_table_forbids_is_told() -> None:
    proven_absent = Missing(**HERE, cid=CID)  # of an order that the venue had acknowledged
    assert of(*STORY[:4], proven_absent, *STORY[4:]) == ["order table"]


def test_an_overfill_is_told_unless_it_was_recorded_as_a_correction() -> None:
    more = fill("e3")
    over = advance(DONE, more)
    held = replace(HELD, qty=Decimal(3), fees=Decimal("0.3"), volume=Decimal(300))
    booked = (*EXECUTIONS, ("main", "BTCUSDT", "e3"))
    noted = Corrected(**HERE, cid=CID, what="filled 3 of 2")
    changes = {"orders": (over,), "positions": (held,), "executions": booked}
    assert of(*STORY, more, **changes) == ["no overfill"]
    assert of(*STORY, more, noted, **changes) == []


def test_a_fill_moves_the_position_by_its_quantity_less_a_fee_in_base() -> None:
    held = replace(HELD, qty=Decimal("1.9"))
    assert of(*STORY[:5], fill("e2", fee_asset="BTC", delta="0.9"), CONFIRMED, positions=(held,)) == []
    assert of(*STORY[:5], fill("e2", delta="0.9"), CONFIRMED, positions=(held,)) == ["position"]


@pytest.mark.parametrize("name", ["qty", "realised", "fees", "volume"])
def test_a_position_is_the_sum_of_its_fills(name: str) -> None:
    wrong = replace(HELD, **{name: Decimal("7.5")})
    report = verify(lines(STORY), tables(positions=(wrong,)))
    assert rules(report) == ["table positions"]
    assert f"{name} is 7.5" in report.findings[0].text


def test_a_position_that_is_missing_or_has_no_fills_is_told() -> None:
    assert of(*STORY, positions=()) == ["table positions"]
    assert of(*STORY, positions=(HELD, replace(HELD, symbol="ETHUSDT"))) == ["table positions"]
    assert of(*STORY, positions=(HELD, Position(account="main", symbol="ETHUSDT", attempts=1))) == []


def test_an_order_row_is_what_its_facts_make_of_it() -> None:
    wrong = replace(DONE, state=State.OPEN, filled_qty=Decimal(1))
    report = verify(lines(STORY), tables(orders=(wrong,)))
    assert rules(report) == ["table orders"]
    assert "state is" in report.findings[0].text and "filled_qty is 1 and should be 2" in report.findings[0].text
    assert of(*STORY, orders=()) == ["table orders"]
    assert of(*STORY, orders=(DONE, replace(DONE, cid="other"))) == ["table orders"]


def test_a_signal_row_says_how_it_ended() -> None:
    assert of(*STORY, signals=(("s-1", Outcome.ACCEPTED),)) == ["table signals"]
    assert of(*STORY, signals=()) == ["table signals"]


def test_the_fills_table_has_every_execution_and_no_other() -> None:
    assert of(*STORY, executions=EXECUTIONS[:1]) == ["table fills"]
    assert of(*STORY, executions=(*EXECUTIONS, ("main", "BTCUSDT", "e9"))) == ["table fills"]


def test_the_halts_in_force_are_those_that_were_not_lifted() -> None:
    halt = Halted(at_ns=1, halt=Halt(scope="engine", reason="drill", since_ns=1, by="op"))
    lifted = Resumed(at_ns=2, scope="engine", by="op")
    assert of(*STORY, halt, halts=(("engine", "stop", "op"),)) == []
    assert of(*STORY, halt) == ["table halts"]
    assert of(*STORY, halt, lifted) == []
    assert of(*STORY, halt, lifted, halts=(("engine", "stop", "op"),)) == ["table halts"]
