"""The checker must be able to fail: a healthy story passes, and each way of breaking it is caught under its number."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine.core.messages import (
    Accepted,
    Action,
    AnyFact,
    Canceled,
    Check,
    Confirmed,
    Filled,
    FundingPaid,
    Halt,
    Halted,
    Judged,
    Leg,
    Missing,
    Order,
    OrderType,
    Outcome,
    Plan,
    Rejected,
    Resumed,
    Side,
    Signal,
    SignalConflicted,
    SignalReceived,
    Submitted,
    Unclear,
    Unsent,
)
from engine.core.times import SECOND
from engine.runtime.journal.base import Record
from tests.sim.checks import CHECKS, Evidence, bare_stretches, check
from tests.sim.faults import Nature
from tests.sim.truth import (
    AnyEntry,
    Arrived,
    BanHeard,
    CancelWired,
    Copied,
    Ended,
    Executed,
    Fell,
    Funded,
    Phase,
    Probed,
    Receipted,
    Sent,
    Synced,
    Taken,
    Wired,
)
from tests.sim.venue import instruments
from tests.sim.verdicts import bans_are_obeyed, sends_keep_the_rate

QTY = Decimal("0.01")
ENTRY = "sf1entryentryentryentryentryaa"[:29]
STOP = "sf1stopstopstopstopstopstopaa"[:29]


def order(cid: str = ENTRY, **changes: Any) -> Order:
    usual: dict[str, Any] = {
        "cid": cid,
        "account": "main",
        "symbol": "BTCUSDT",
        "signal_id": "s1",
        "leg": Leg.ENTRY,
        "attempt": 0,
        "side": Side.BUY,
        "order_type": OrderType.MARKET,
        "qty": QTY,
        "reserve_price": Decimal(60000),
        "valid_until_ns": 10 * SECOND,
    }
    return Order(**(usual | changes))


STOP_ORDER = order(
    STOP,
    signal_id="~main/BTCUSDT/1/0",
    leg=Leg.STOP,
    side=Side.SELL,
    order_type=OrderType.STOP_MARKET,
    trigger_price=Decimal("59400"),
    reduce_only=True,
    valid_until_ns=0,
)


class Story:
    """Truth and journal, written side by side. Each step takes a millisecond."""

    def __init__(self) -> None:
        self.entries: list[AnyEntry] = []
        self.records: list[Record] = []
        self.now_ns = SECOND
        self.positions = {"BTCUSDT": Decimal(0)}
        self.cap: Decimal | None = None
        self.chain_error = ""
        self.families: tuple[str, ...] = ()

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)

    def fact(self, of: type, /, durable: bool = True, **fields: Any) -> None:
        self.now_ns += 1_000_000
        fact: AnyFact = of(at_ns=self.now_ns, account="main", symbol="BTCUSDT", **fields)
        self.records.append(Record(seq=len(self.records) + 1, at_ns=self.now_ns, fact=fact, hash=b""))
        if durable:
            self.sync()

    def sync(self) -> None:
        self.entries.append(Synced(self.now_ns, seq=len(self.records)))

    def tell(self, of: type, /, **fields: Any) -> None:
        self.now_ns += 1_000_000
        self.entries.append(of(self.now_ns, **fields))

    def signal(
        self, signal_id: str = "s1", status: str = "accepted", digest: str = "d1", action: Action = Action.OPEN
    ) -> None:
        self.tell(Sent, source="feed", signal_id=signal_id, digest=digest)
        signal = Signal(
            signal_id=signal_id,
            account="main",
            symbol="BTCUSDT",
            action=action,
            source="feed",
            dialect="native",
            body_hash=digest,
            trace_id="t1",
            received_ns=self.now_ns,
            valid_until_ns=10 * SECOND,
        )
        self.fact(SignalReceived, signal=signal)
        plan = Plan(action=Action.OPEN, side=Side.BUY, qty=QTY, stop_loss=Decimal("59400"))
        self.fact(Judged, signal_id=signal_id, outcome=Outcome(status), checks=(), plan=plan)
        self.tell(Receipted, source="feed", signal_id=signal_id, digest=digest, status=status)

    def send(self, sent: Order, intent: bool = True) -> None:
        if intent:
            self.fact(Submitted, order=sent)
        self.tell(Wired, order=sent)
        self.tell(Arrived, cid=sent.cid)

    def take(self, taken: Order, venue_order_id: str) -> None:
        self.tell(
            Taken,
            venue_order_id=venue_order_id,
            cid=taken.cid,
            symbol=taken.symbol,
            side=taken.side,
            order_type=taken.order_type,
            qty=taken.qty,
            trigger_price=taken.trigger_price,
            reduce_only=taken.reduce_only,
        )
        self.fact(Accepted, cid=taken.cid, venue_order_id=venue_order_id)

    def execute(self, of: Order, venue_order_id: str, exec_id: str, qty: Decimal = QTY, book: bool = True) -> None:
        before = next((x.position for x in reversed(self.entries) if isinstance(x, Executed)), Decimal(0))
        after = before + (qty if of.side is Side.BUY else -qty)
        self.positions["BTCUSDT"] = after
        same: dict[str, Any] = {
            "exec_id": exec_id,
            "venue_order_id": venue_order_id,
            "cid": of.cid,
            "side": of.side,
            "qty": qty,
        }
        money: dict[str, Any] = {"price": Decimal(60000), "fee": Decimal("0.3"), "fee_asset": "USDT"}
        self.tell(Executed, symbol=of.symbol, position=after, **same, **money)
        if book:
            self.fact(Filled, fee_quote=Decimal("0.3"), **same, **money)

    def end(self, of: Order, venue_order_id: str, status: str = "filled", filled: Decimal = QTY) -> None:
        self.tell(Ended, venue_order_id=venue_order_id, cid=of.cid, status=status, filled=filled)

    def confirm(self, signal_id: str = "s1", outcome: Outcome = Outcome.EXECUTED, event_id: int = 1) -> None:
        self.fact(Confirmed, signal_id=signal_id, outcome=outcome)
        self.tell(Copied, event_id=event_id, name="trade_confirmations", key=signal_id, digest="c1")

    def evidence(self, **changes: Any) -> Evidence:
        usual: dict[str, Any] = {
            "entries": self.entries,
            "records": self.records,
            "instruments": instruments(Nature()),
            "positions": self.positions,
            "families": self.families,
            "position_cap": self.cap,
            "chain_error": self.chain_error,
        }
        return Evidence(**(usual | changes))

    def broken(self) -> set[str]:
        return {v.invariant for v in check(self.evidence())}


def healthy() -> Story:
    """A signal is executed, protected, confirmed; then its stop ends it."""
    story = Story()
    entry_filled(story)
    story.execute(STOP_ORDER, "v2", "2")
    story.end(STOP_ORDER, "v2")
    return story


def entry_filled(story: Story) -> None:
    story.signal()
    story.send(order())
    story.take(order(), "v1")
    story.execute(order(), "v1", "1")
    story.end(order(), "v1")
    story.send(STOP_ORDER)
    story.take(STOP_ORDER, "v2")
    story.confirm()


def test_a_healthy_story_breaks_nothing() -> None:
    assert check(healthy().evidence()) == []


def test_a_second_entry_for_a_signal_is_caught() -> None:
    story = healthy()
    again = order("sf1again", attempt=0)
    story.send(again)
    story.take(again, "v9")
    story.end(again, "v9", "canceled", Decimal(0))
    story.fact(Canceled, cid=again.cid)
    assert story.broken() == {"I1", "I3"}


def test_an_id_taken_twice_by_the_venue_is_caught() -> None:
    story = healthy()
    story.take(order(), "v3")
    story.end(order(), "v3", "canceled", Decimal(0))
    assert "I1" in story.broken()


def test_more_executed_than_planned_is_caught() -> None:
    story = Story()
    story.signal()
    big = order(qty=QTY * 2)
    story.send(big)
    story.take(big, "v1")
    story.execute(big, "v1", "1", QTY * 2)
    story.end(big, "v1", filled=QTY * 2)
    story.confirm()
    assert "I1" in story.broken()


def test_an_order_before_its_intent_is_durable_is_caught() -> None:
    story = Story()
    story.signal()
    story.fact(Submitted, durable=False, order=order())
    story.tell(Wired, order=order())
    story.sync()
    assert "I2" in story.broken()


def test_an_order_without_any_intent_is_caught() -> None:
    story = healthy()
    story.send(order("sf1other", signal_id="s9"), intent=False)
    assert "I2" in story.broken()


def test_another_body_than_intended_is_caught() -> None:
    story = Story()
    story.signal()
    story.fact(Submitted, order=order())
    story.tell(Wired, order=order(qty=QTY * 2))
    assert {"I2", "I3"} <= story.broken()


def test_a_second_attempt_of_an_entry_is_caught() -> None:
    story = healthy()
    story.send(order("sf1second", signal_id="s9", attempt=1))
    assert "I4" in story.broken()


def test_a_venue_order_that_the_journal_does_not_know_is_caught() -> None:
    story = healthy()
    story.take(order("sf1unknown"), "v7")
    assert "I5" in story.broken()


def test_an_order_forgotten_at_the_venue_is_caught() -> None:
    story = healthy()
    other = order("sf1other", signal_id="s9")
    story.send(other)
    story.take(other, "v7")
    story.fact(Canceled, cid=other.cid)
    assert "I5" in story.broken()


def test_an_order_that_the_journal_never_ends_is_caught() -> None:
    story = healthy()
    other = order("sf1other", signal_id="s9")
    story.send(other)
    assert "I5" in story.broken()


def halted(scope: str) -> Story:
    story = healthy()
    story.fact(Halted, halt=Halt(scope=scope, reason="r", since_ns=0, by="me", kind="stop"))
    return story


@pytest.mark.parametrize("scope", ["engine", "venue/sim", "account/main", "symbol/main/BTCUSDT"])
def test_an_opening_order_after_a_durable_halt_is_caught(scope: str) -> None:
    story = halted(scope)
    story.send(order("sf1late", signal_id="s2", valid_until_ns=0))
    assert "I7" in story.broken()


def test_a_halt_of_something_else_or_released_stops_nothing() -> None:
    story = halted("symbol/main/ETHUSDT")
    story.send(order("sf1other", signal_id="s2"))
    assert "I7" not in story.broken()
    story = halted("engine")
    story.fact(Resumed, scope="engine", by="me", kind="stop", whose="me")
    story.send(order("sf1other", signal_id="s2"))
    assert "I7" not in story.broken()


def test_the_end_of_one_halt_is_not_the_end_of_another_of_its_scope() -> None:
    story = halted("engine")
    story.fact(Resumed, scope="engine", by="me", kind="loss", whose="risk/RSK5.daily_loss")
    story.send(order("sf1other", signal_id="s2"))
    assert "I7" in story.broken()


def test_protection_passes_a_halt() -> None:
    story = halted("engine")
    story.send(replace(STOP_ORDER, cid="sf1stop2", attempt=1))
    assert "I7" not in story.broken()


def test_an_order_after_its_time_is_caught() -> None:
    story = Story()
    story.signal()
    story.wait(20)
    story.send(order())
    assert "I9" in story.broken()


@pytest.mark.parametrize("change", [{"qty": Decimal("0.00015")}, {"price": Decimal("60000.05")}, {"qty": Decimal(0)}])
def test_numbers_off_the_steps_are_caught(change: dict[str, Any]) -> None:
    story = Story()
    story.signal()
    story.send(order(**change))
    assert "I10" in story.broken()


def test_exposure_over_the_cap_by_orders_in_flight_is_caught() -> None:
    story = Story()
    story.cap = Decimal(1000)  # one order of 600 fits, two do not
    story.send(order("sf1one"))
    assert "I11" not in story.broken()
    story.send(order("sf1two", signal_id="s2"))
    assert "I11" in story.broken()


def test_sides_are_not_netted_against_each_other() -> None:
    story = Story()
    story.cap = Decimal(1000)
    story.send(order("sf1one"))
    story.send(order("sf1two", signal_id="s2", side=Side.SELL))
    assert "I11" not in story.broken()
    story.send(order("sf1three", signal_id="s3", side=Side.SELL))
    assert "I11" in story.broken()


def test_a_closer_that_could_open_is_caught() -> None:
    story = healthy()
    story.send(replace(STOP_ORDER, cid="sf1bare", attempt=3, reduce_only=False))
    assert "I15" in story.broken()


def test_a_reduce_only_order_that_turns_the_position_is_caught() -> None:
    story = Story()
    entry_filled(story)
    story.execute(STOP_ORDER, "v2", "2", QTY * 2)
    assert "I15" in story.broken()


def test_a_fill_booked_twice_is_caught() -> None:
    story = healthy()
    story.records.append(next(r for r in story.records if isinstance(r.fact, Filled)))
    assert "I17" in story.broken()


def test_a_lost_fill_is_caught() -> None:
    story = Story()
    story.signal()
    story.send(order())
    story.take(order(), "v1")
    story.execute(order(), "v1", "1", book=False)
    assert {"I17", "I19"} <= story.broken()


def test_a_fill_with_another_fee_is_caught() -> None:
    story = healthy()
    at = next(i for i, r in enumerate(story.records) if isinstance(r.fact, Filled))
    story.records[at] = replace(story.records[at], fact=replace(story.records[at].fact, fee=Decimal(9)))
    assert "I17" in story.broken()


def test_an_invented_fill_is_caught() -> None:
    story = healthy()
    story.entries = [x for x in story.entries if not (isinstance(x, Executed) and x.exec_id == "2")]
    assert "I17" in story.broken()


def test_a_cumulative_quantity_that_disagrees_is_caught() -> None:
    story = Story()
    entry_filled(story)
    story.execute(STOP_ORDER, "v2", "3", QTY / 2, book=False)
    story.end(STOP_ORDER, "v2", "canceled", QTY / 2)
    assert "I18" in story.broken()


def test_a_position_row_that_is_off_is_caught() -> None:
    story = healthy()
    story.positions["BTCUSDT"] = Decimal("0.0001")
    assert story.broken() == {"I19"}


def test_funding_lost_or_booked_twice_is_caught() -> None:
    story = healthy()
    story.tell(Funded, funding_id="f1", symbol="BTCUSDT", amount=Decimal(-1))
    assert story.broken() == {"I19"}
    story.fact(FundingPaid, funding_id="f1", amount=Decimal(-1), asset="USDT")
    assert story.broken() == set()
    story.fact(FundingPaid, funding_id="f1", amount=Decimal(-1), asset="USDT")
    assert story.broken() == {"I19"}


@pytest.mark.parametrize("status", ["accepted", "refused", "recorded", "repeated", "conflict", "malformed"])
def test_an_answer_to_a_source_before_it_is_durable_is_caught(status: str) -> None:
    story = healthy()
    story.tell(Receipted, source="feed", signal_id="s2", digest="d2", status=status)
    assert "I23" in story.broken()


def test_a_contradiction_that_is_accepted_is_caught() -> None:
    story = healthy()
    story.tell(Receipted, source="feed", signal_id="s1", digest="other", status="repeated")
    assert "I24" in story.broken()


def test_a_repeat_that_is_called_a_contradiction_is_caught() -> None:
    story = healthy()
    story.fact(SignalConflicted, signal_id="s1", first_hash="a", other_hash="b", source="feed")
    story.tell(Receipted, source="feed", signal_id="s1", digest="d1", status="conflict")
    assert story.broken() == {"I24"}


def test_a_signal_received_twice_is_caught() -> None:
    story = healthy()
    story.signal()
    assert "I24" in story.broken()


def test_an_accepted_signal_without_an_end_is_caught() -> None:
    story = Story()
    story.signal()
    assert story.broken() == {"I25"}


def test_an_end_that_is_not_published_is_caught() -> None:
    story = Story()
    story.signal()
    story.fact(Confirmed, signal_id="s1", outcome=Outcome.FAILED)
    assert story.broken() == {"I25"}


def test_two_ends_two_bodies_or_two_events_are_caught() -> None:
    for event_id, digest in ((1, "other"), (2, "c1")):
        story = healthy()
        story.tell(Copied, event_id=event_id, name="trade_confirmations", key="s1", digest=digest)
        assert story.broken() == {"I25"}
    story = healthy()
    story.fact(Confirmed, signal_id="s1", outcome=Outcome.FAILED)
    assert story.broken() == {"I25"}


def test_a_repeated_copy_is_no_harm_and_a_late_one_is() -> None:
    story = healthy()
    story.tell(Copied, event_id=3, name="order.filled", key="k", digest="x")
    story.tell(Copied, event_id=1, name="trade_confirmations", key="s1", digest="c1")
    assert story.broken() == set()
    story.tell(Copied, event_id=2, name="order.filled", key="k", digest="y")
    assert story.broken() == {"I25"}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Missing, {}),
        (Rejected, {"code": "1", "kind": "invalid"}),
        (Unsent, {"reason": "late"}),
    ],
)
def test_silence_that_became_a_no_is_caught(kind: type, fields: dict[str, Any]) -> None:
    story = healthy()
    story.fact(kind, cid=ENTRY, **fields)
    assert "I26" in story.broken()


def test_silence_that_became_a_yes_is_caught() -> None:
    story = healthy()
    story.send(order("sf1lost", signal_id="s2"))
    story.fact(Accepted, cid="sf1lost", venue_order_id="v8")
    assert "I26" in story.broken()


def test_doubt_that_stays_is_caught() -> None:
    story = healthy()
    story.send(order("sf1lost", signal_id="s2"))
    story.fact(Unclear, cid="sf1lost", why="timed out")
    assert "I26" in story.broken()


def test_a_gap_or_a_loss_in_the_chain_is_caught() -> None:
    story = healthy()
    story.records = story.records[:3] + story.records[4:]
    assert "I28" in story.broken()
    story = healthy()
    story.records.pop()
    assert "I28" in story.broken()
    story = healthy()
    story.chain_error = "record 3 does not match its hash"
    assert story.broken() == {"I28"}


def test_an_offer_without_an_answer_is_caught() -> None:
    story = healthy()
    story.tell(Sent, source="feed", signal_id="s2", digest="d2")
    assert story.broken() == {"I30"}
    story.tell(Receipted, source="feed", signal_id="s2", digest="d2", status="busy")
    assert story.broken() == {"I30"}


def test_a_fresh_signal_that_is_refused_is_caught() -> None:
    story = healthy()
    failed = Check(rule="RSK4.positions_max", passed=False, reason="too many")
    story.tell(Probed, signal_id="s2")
    story.fact(Judged, signal_id="s2", outcome=Outcome.REFUSED, checks=(failed,))
    assert story.broken() == {"I30"}
    assert "too many" in check(story.evidence())[0].text


@pytest.mark.parametrize(("closed", "judged"), [(True, "accepted"), (True, "refused"), (False, "accepted")])
def test_a_fresh_signal_that_is_filled_in_part_is_caught_unless_a_late_close_took_the_rest(
    closed: bool, judged: str
) -> None:
    """Seed 811: the feed was late, and what it had left closed what the fresh signal had just opened."""
    story = Story()
    story.tell(Probed, signal_id="probe")
    story.signal("probe")
    story.signal("late", judged, "d2", Action.CLOSE if closed else Action.OPEN)
    story.fact(Confirmed, signal_id="probe", outcome=Outcome.PARTIAL, reason="canceled by the client")
    probes = [v for v in check(story.evidence()) if "fresh signal" in v.text]
    assert bool(probes) is not (closed and judged == "accepted")


def test_a_naked_position_is_caught_and_measured() -> None:
    story = Story()
    story.signal()
    story.send(order())
    story.take(order(), "v1")
    story.execute(order(), "v1", "1")
    story.end(order(), "v1")
    story.confirm()
    story.wait(3)
    assert "I31" not in story.broken()  # the end of the story is the last entry, 1 ms after the fill
    story.send(STOP_ORDER)
    story.take(STOP_ORDER, "v2")
    assert story.broken() == {"I31"}
    (bare,) = bare_stretches(story.evidence())
    assert 3 * SECOND < bare.until_ns - bare.since_ns < 3.1 * SECOND


def test_a_stop_that_is_too_small_is_no_cover() -> None:
    story = Story()
    story.signal()
    story.send(order())
    story.take(order(), "v1")
    story.execute(order(), "v1", "1")
    story.end(order(), "v1")
    small = replace(STOP_ORDER, qty=QTY / 2)
    story.send(small)
    story.take(small, "v2")
    story.wait(3)
    story.confirm()
    assert "I31" in story.broken()


def test_after_faults_protection_is_held_to_its_bound_once_the_calm_has_settled() -> None:
    story = Story()
    story.families = ("lost replies",)
    entry_filled(story)
    story.tell(Phase, name="calm")
    story.end(STOP_ORDER, "v2", "canceled", Decimal(0))
    story.fact(Canceled, cid=STOP)
    story.wait(80)
    story.tell(Phase, name="probe")
    assert "I31" not in story.broken()
    story.wait(30)
    story.tell(Phase, name="end")
    assert "I31" in story.broken()


def test_an_engine_that_ended_by_itself_is_caught() -> None:
    story = healthy()
    story.tell(Fell, life=1, why="AssertionError")
    assert story.broken() == {"FELL"}
    story = healthy()
    story.fact(Halted, halt=Halt(scope="engine", reason="gate: broken invariant", since_ns=0, by="supervisor"))
    assert story.broken() == {"FELL"}


def test_an_unfinished_run_is_spared_the_questions_of_rest() -> None:
    story = Story()
    story.signal()
    story.send(order())
    assert [v.invariant for v in check(story.evidence(quiescent=False))] == []


def test_every_check_is_named_by_its_rule() -> None:
    assert len({one.__name__ for one in CHECKS}) == len(CHECKS)
    assert all(one.__doc__ for one in CHECKS)


def test_more_orders_than_the_rate_allows_are_seen_and_a_process_that_was_stopped_is_not_blamed() -> None:
    def sends(count: int, signed_apart_ns: int) -> list[str]:
        entries = [Wired(9 * SECOND, order=order(), life=1, signed_ns=n * signed_apart_ns + 1) for n in range(count)]
        return [violation.invariant for violation in sends_keep_the_rate(Evidence(entries, (), (), {}))]

    assert sends(11, SECOND // 20) == ["I13"]
    assert sends(10, SECOND // 20) == []
    assert sends(11, SECOND // 10) == []  # all at one moment on the wire, but each had its turn


def test_a_request_during_a_ban_is_seen_and_one_that_had_its_turn_before_is_not_blamed() -> None:
    def sends(signed_ns: int, at_ns: int) -> list[str]:
        heard = BanHeard(5 * SECOND, life=1, until_ns=9 * SECOND)
        cancel = CancelWired(at_ns, cid="x", life=1, signed_ns=signed_ns)
        return [violation.invariant for violation in bans_are_obeyed(Evidence([heard, cancel], (), (), {}))]

    assert sends(6 * SECOND, 6 * SECOND) == ["I13"]
    assert sends(5 * SECOND + 1, 6 * SECOND) == ["I13"]
    assert sends(5 * SECOND, 6 * SECOND) == []
    assert sends(4 * SECOND, 6 * SECOND) == []
    assert sends(9 * SECOND, 9 * SECOND) == []
