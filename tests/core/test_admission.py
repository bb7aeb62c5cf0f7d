"""The gate as its task uses it: once per signal id, facts and rows together, losses that halt, limits that change."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from engine.core.admission import BY, KEEP_NS, AccountTerms, Admission, Admitted, Changed, Reaction
from engine.core.bounds import Bounds
from engine.core.messages import (
    AccountRow,
    Action,
    Alerted,
    Confirmed,
    DayRolled,
    Event,
    Halt,
    Instrument,
    Judged,
    Limits,
    LimitsRow,
    LimitsSet,
    Order,
    Outcome,
    Position,
    Quantity,
    Quote,
    Refusal,
    Side,
    Signal,
    SignalConflicted,
    SignalEnded,
    SignalReceived,
    SignalRow,
    Stamp,
    TargetPosition,
    Trade,
)
from engine.core.times import DAY, SECOND
from tests.core.gate_world import LINEAR, NOW, QUOTE, balances, position, signal, standing

D = Decimal


class Books(Struct, frozen=True):
    """An open state of the journal."""

    orders: tuple[Order, ...] = ()
    positions: tuple[Position, ...] = ()
    signals: tuple[SignalRow, ...] = ()
    accounts: tuple[AccountRow, ...] = ()
    limits: tuple[LimitsRow, ...] = ()
    halts: tuple[Halt, ...] = ()


def gate(limits: Limits | None = None, wallet: str = "100000") -> Admission:
    admission = bare()
    admission.set_limits("a", limits or Limits(), "config", NOW)
    admission.handle_balances(balances({"USDT": wallet}), {"BTCUSDT": QUOTE}.get, NOW)
    return admission


def bare() -> Admission:
    return Admission("test", {"a": AccountTerms("a", "paper")}, listed)


def listed(_: str, symbol: str) -> Instrument | None:
    return {"BTCUSDT": LINEAR}.get(symbol)


def send(
    admission: Admission,
    asked: Signal | None = None,
    prior: SignalRow | None = None,
    halts: tuple[Halt, ...] = (),
    now_ns: int = NOW,
) -> Admitted:
    return admission.handle_signal(asked or signal(), prior, replace(QUOTE, at_ns=now_ns), None, halts, now_ns)


def kinds(things: tuple[Any, ...]) -> list[type]:
    return [type(thing) for thing in things]


def ended(signal_id: str = "s1", outcome: Outcome = Outcome.EXECUTED, at_ns: int = NOW) -> Confirmed:
    return Confirmed(at_ns=at_ns, account="a", symbol="BTCUSDT", signal_id=signal_id, outcome=outcome)


def test_an_accepted_signal_is_written_down_and_passed_on() -> None:
    admitted = send(gate())
    assert admitted.status == "accepted"
    assert kinds(admitted.facts) == [SignalReceived, Judged]
    assert kinds(admitted.rows) == [SignalRow, AccountRow]
    assert admitted.enact is not None and admitted.enact.plan == admitted.row.plan
    received, judged = admitted.facts
    assert isinstance(judged, Judged) and isinstance(received, SignalReceived)
    assert (judged.limits_version, judged.outcome, judged.plan) == (1, Outcome.ACCEPTED, admitted.row.plan)
    assert (received.cause, judged.cause, judged.trace_id) == ("test", "s1", "t1")
    assert isinstance(admitted.rows[1], AccountRow) and admitted.rows[1].orders_today == 1


def test_a_refused_signal_ends_at_once_with_its_reasons() -> None:
    asked = signal(strength=D("0.1"), confidence=D("0.2"), context=(("loan", "7"),))
    admitted = send(gate(), asked)
    assert (admitted.status, admitted.enact, admitted.row.outcome) == ("refused", None, Outcome.REFUSED)
    assert kinds(admitted.facts) == [SignalReceived, Judged, Confirmed]
    event = admitted.rows[-1]
    assert isinstance(event, Event) and SignalEnded in kinds(admitted.rows)
    assert admitted.row.confirmed is not None
    assert admitted.row.confirmed.reason == (
        "RSK1.strength: the strength is 0.1, less than the 0.5; "
        "RSK1.confidence: the confidence is 0.2, less than the 0.5"
    )
    assert (event.name, event.key, event.trace_id) == ("trade_confirmations", "s1", "t1")
    assert event.body["checks_failed"] == "RSK1.strength,RSK1.confidence"
    assert event.body["context.loan"] == "7"
    assert event.body["outcome"] == "refused"


def test_wait_is_recorded() -> None:
    admitted = send(gate(), signal(action=Action.RECORD, note="wait"))
    assert (admitted.status, admitted.row.outcome, admitted.enact) == ("recorded", Outcome.RECORDED, None)
    assert admitted.row.confirmed is not None and admitted.row.confirmed.reason == "wait"


def test_a_target_that_is_reached_is_recorded_with_its_reason() -> None:
    asked = signal(action=Action.TARGET, size=TargetPosition(D(0)), stop_loss=None, take_profit=None)
    admitted = send(gate(), asked)
    assert admitted.status == "recorded"
    assert admitted.row.confirmed is not None and admitted.row.confirmed.reason == "already there"


def test_an_unknown_account_is_refused_by_name() -> None:
    admitted = send(gate(), signal(account="b"))
    assert admitted.status == "refused"
    assert [(c.rule, c.reason) for c in admitted.row.checks] == [("RSK10.account", "there is no account 'b'")]


# -------------------------------------------------------------------------------------------------------------- repeats


def test_the_same_signal_again_gets_the_first_ones_outcome_and_writes_nothing() -> None:
    admission = gate()
    first = send(admission)
    again = send(admission)
    assert again == Admitted("repeated", first.row)
    admission.handle_confirmed("s1", ended())
    assert send(admission).row.outcome is Outcome.EXECUTED
    assert admission.exposure("a").provisional == ()


def test_the_same_id_with_another_body_is_refused_and_alerted() -> None:
    admission = gate()
    send(admission)
    other = send(admission, signal(body_hash="h2", size=Quantity(D("0.2"))))
    assert (other.status, other.enact, other.row.signal.body_hash) == ("conflict", None, "h1")
    assert kinds(other.facts) == [SignalConflicted, Alerted]
    conflicted = other.facts[0]
    assert isinstance(conflicted, SignalConflicted)
    assert (conflicted.first_hash, conflicted.other_hash) == ("h1", "h2")
    assert [row.name for row in other.rows if isinstance(row, Event)] == ["system.error"]


def test_a_signal_of_an_earlier_run_is_known_by_the_journal() -> None:
    first = send(gate())
    admission = gate()
    assert send(admission, prior=first.row) == Admitted("repeated", first.row)
    assert send(admission, signal(body_hash="h2"), prior=first.row).status == "conflict"


def test_memory_is_newer_than_the_journal() -> None:
    admission = gate()
    first = send(admission)
    admission.handle_confirmed("s1", ended())
    assert send(admission, prior=first.row).row.outcome is Outcome.EXECUTED


def test_an_ended_signal_leaves_memory_after_a_while_and_an_open_one_stays() -> None:
    admission = gate()
    send(admission)
    send(admission, signal("s2", action=Action.RECORD))
    later = NOW + KEEP_NS
    send(admission, signal("s3", action=Action.RECORD), now_ns=later)
    assert list(admission._signals) == ["s1", "s3"]
    admission.forget("s1", later)
    assert send(admission, now_ns=later + KEEP_NS - 1).status == "repeated"
    admission.handle_confirmed("s1", ended(at_ns=later + KEEP_NS))
    send(admission, signal("s4", action=Action.RECORD), now_ns=later + 2 * KEEP_NS)
    assert list(admission._signals) == ["s4"]
    admission.check()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["h1", "h2"]), st.integers(0, 3)), max_size=30))
def test_whatever_is_sent_however_often_each_id_is_enacted_once(steps: list[tuple[int, str, int]]) -> None:
    """Sent, repeated, confirmed, and found again by an engine that was restarted from the journal's rows."""
    admission, journal, enacted = gate(replace(Limits(), duplicate_window_seconds=D(0))), {}, []
    first_hash: dict[str, str] = {}
    for number, body_hash, what in steps:
        signal_id = f"s{number}"
        if what == 0:
            row = journal.get(signal_id)
            if row is not None and row.outcome is Outcome.ACCEPTED:
                confirmed = ended(signal_id)
                admission.handle_confirmed(signal_id, confirmed)
                journal[signal_id] = replace(row, outcome=confirmed.outcome, confirmed=confirmed)
        elif what == 1:
            admission = gate(replace(Limits(), duplicate_window_seconds=D(0)))
            admission.recover(
                Books(
                    signals=tuple(row for row in journal.values() if row.outcome is Outcome.ACCEPTED),
                    limits=(LimitsRow("a", 1, replace(Limits(), duplicate_window_seconds=D(0)), "config", NOW),),
                )
            )
            admission.handle_balances(balances({"USDT": "100000"}), lambda _: None, NOW)
        else:
            asked = signal(signal_id, body_hash=body_hash, size=Quantity(D("0.01")))
            admitted = send(admission, asked, prior=journal.get(signal_id))
            if signal_id in journal:
                same = first_hash[signal_id] == body_hash
                assert admitted.status == ("repeated" if same else "conflict")
                assert admitted.row == journal[signal_id]
                assert admitted.enact is None
            else:
                first_hash[signal_id] = body_hash
                journal[signal_id] = admitted.row
            enacted += [signal_id] if admitted.enact else []
        admission.check()
    assert len(enacted) == len(set(enacted))


# --------------------------------------------------------------------------------------------------------------- losses

LOSING = replace(Limits(), daily_loss_max=D(500))


def lose(admission: Admission, amount: int, serial: int = 1, now_ns: int = NOW) -> Reaction:
    lost = position(realised=D(-amount), cash=D(-amount))
    trade = Trade(f"a/BTCUSDT/{serial}", "a", "BTCUSDT", Side.BUY, "closed", realised=D(-1))
    return admission.handle_standing(standing(lost, closed_trade=trade), QUOTE, now_ns)


def test_a_daily_loss_halts_the_account_once() -> None:
    admission = gate(LOSING)
    assert lose(admission, 499).halts == ()
    reaction = lose(admission, 500, 2)
    reason = "today's loss of 500 reached the limit of 500 USDT"
    assert reaction.halts == (Halt("account/a", reason, NOW, BY + "RSK5.daily_loss", kind="loss"),)
    assert reaction.facts == () and kinds(reaction.rows) == [AccountRow]
    assert lose(admission, 600, 2).halts == ()


def test_the_halt_lasts_until_a_person_releases_it_then_counting_starts_afresh() -> None:
    admission = gate(LOSING)
    (halt,) = lose(admission, 600).halts
    refused = send(admission, halts=(halt,))
    assert {"RSK11.halt", "RSK5.daily_loss"} == {c.rule for c in refused.row.checks if not c.passed}
    assert send(admission, signal("s2")).status == "accepted"  # the switch no longer holds the halt
    assert lose(admission, 1099, 2).halts == ()
    assert lose(admission, 1100, 3).halts != ()


def test_the_halt_may_last_until_the_next_day_instead() -> None:
    admission = gate(replace(LOSING, loss_latch="day", losses_in_row_max=1))
    halts = lose(admission, 600).halts
    midnight = (NOW // DAY + 1) * DAY
    assert [(h.by, h.latched, h.until_ns) for h in halts] == [
        (BY + "RSK5.daily_loss", False, midnight),
        (BY + "RSK5.losses_in_row", False, midnight),
    ]
    reaction = admission.tick(midnight, {"BTCUSDT": QUOTE}.get, ())
    assert kinds(reaction.facts) == [DayRolled] and reaction.halts == ()
    rolled = reaction.facts[0]
    assert isinstance(rolled, DayRolled)
    assert (rolled.day, rolled.baseline_net) == ("2023-11-15", -600)
    fresh = signal("s2", valid_until_ns=midnight + SECOND)
    assert send(admission, fresh, now_ns=midnight).status == "accepted"


@pytest.mark.parametrize("latch", ["acknowledge", "day"])
def test_ending_a_persons_halt_forgives_no_loss_under_it(latch: str) -> None:
    admission = gate(replace(LOSING, loss_latch=latch))
    (lost,) = lose(admission, 600).halts
    person = Halt("account/a", "news", NOW, "ann", kind="stop")
    assert send(admission, halts=(lost, person)).status == "refused"
    admission.tick(NOW + SECOND, {"BTCUSDT": QUOTE}.get, (lost,))
    refused = send(admission, signal("s2"), halts=(lost,))
    assert "RSK5.daily_loss" in {c.rule for c in refused.row.checks if not c.passed}


def test_an_acknowledged_loss_is_forgotten_without_any_signal() -> None:
    admission = gate(LOSING)
    assert lose(admission, 600).halts
    reaction = admission.tick(NOW + SECOND, {"BTCUSDT": QUOTE}.get, ())
    assert reaction.halts == () and reaction.rows
    assert lose(admission, 600, 2).halts == ()


def test_losses_in_a_row_halt() -> None:
    admission = gate(replace(Limits(), losses_in_row_max=2))
    assert lose(admission, 1, 1).halts == ()
    assert [h.reason for h in lose(admission, 2, 2).halts] == ["2 losses in a row, the limit is 2"]


def test_a_drawdown_is_found_on_marks_while_nothing_trades() -> None:
    admission = gate(replace(Limits(), drawdown_max=D("0.05"), daily_loss_max=D(100000)))
    admission.handle_standing(standing(position(qty="1")), QUOTE, NOW)
    market = {"BTCUSDT": QUOTE}
    assert admission.tick(NOW, market.get, ()).halts == ()
    market["BTCUSDT"] = Quote("BTCUSDT", D(44999), D(45001), at_ns=NOW)
    (halt,) = admission.tick(NOW + SECOND, market.get, ()).halts
    assert halt.reason == "equity is 0.05 below its peak, the limit is 0.05"
    assert admission.tick(NOW + 2 * SECOND, market.get, (halt,)).halts == ()


def test_a_halt_of_an_earlier_run_is_not_asked_for_again_and_can_be_released() -> None:
    row = AccountRow("a", "2023-11-14", peak_equity=D(100000), limits_version=3)
    halt = Halt("account/a", "today's loss", NOW, BY + "RSK5.daily_loss")
    admission = bare()
    limits = (LimitsRow("a", 4, LOSING, "me", NOW),)
    lost = position(realised=D(-600), cash=D(-600))
    admission.recover(Books(positions=(lost,), accounts=(row,), limits=limits, halts=(halt,)))
    seen = admission.handle_balances(balances({"USDT": "99400"}), lambda _: None, NOW)
    assert seen.halts == ()
    assert send(admission, halts=(halt,)).status == "refused"
    assert send(admission, signal("s2")).status == "accepted"
    judged = send(admission, signal("s3", size=Quantity(D("0.2")))).facts[1]
    assert isinstance(judged, Judged) and judged.limits_version == 4


def test_an_account_without_limits_is_never_halted_for_losses() -> None:
    admission = bare()
    assert lose(admission, 1_000_000).halts == ()
    assert (admission.limits("a"), admission.stop_default("a")) == (None, None)


def test_a_new_day_is_written_down_before_the_first_signal_of_it() -> None:
    admission = gate()
    midnight = (NOW // DAY + 1) * DAY
    admitted = send(admission, signal(valid_until_ns=midnight + SECOND), now_ns=midnight)
    assert kinds(admitted.facts) == [DayRolled, SignalReceived, Judged]


# --------------------------------------------------------------------------------------------------------------- limits


def test_limits_change_at_once_and_each_version_is_on_record() -> None:
    admission = gate()
    outcome = admission.change_limits("a", {"order_btc_max": "0.05", "positions_max": 5}, "me", NOW)
    assert isinstance(outcome, Changed)
    limits, facts, rows = outcome.limits, outcome.facts, outcome.rows
    assert (limits.order_btc_max, limits.positions_max, limits.confluence_min) == (D("0.05"), 5, 3)
    changed = (("order_btc_max", "1", "0.05"), ("positions_max", "3", "5"))
    assert facts == (LimitsSet(at_ns=NOW, account="a", cause="me", version=2, limits=limits, by="me", changed=changed),)
    assert rows[0] == LimitsRow("a", 2, limits, "me", NOW, made_ns=NOW)
    assert admission.limits("a") == limits
    refused = send(admission)
    assert [c.rule for c in refused.row.checks if not c.passed] == ["RSK4.order_max"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order_btc": "1"}, "unknown field `order_btc`"),
        ({"positions_max": "many"}, "Expected `int`"),
        ({"order_btc_max": "NaN"}, "order_btc_max is not a finite number"),
        ({"order_btc_max": "1e400"}, "order_btc_max has more than 18 digits"),
        ({"order_btc_max": "-1"}, "order_btc_max must not be negative"),
        ({"loss_latch": "never"}, "loss_latch must be"),
        ({"balance_share": "0.06"}, "balance_share must be at most balance_share_max"),
    ],
)
def test_senseless_limits_are_refused_and_change_nothing(changes: dict[str, object], words: str) -> None:
    admission = gate()
    outcome = admission.change_limits("a", changes, "me", NOW)
    assert isinstance(outcome, tuple) and any(words in f"{refusal.field} {refusal.reason}" for refusal in outcome)
    assert admission.limits("a") == Limits()


def test_limits_of_an_unknown_account_cannot_change() -> None:
    assert gate().change_limits("b", {}, "me", NOW) == (Refusal("account", "there is no account 'b'"),)


def bounded(**bounds: object) -> Admission:
    admission = Admission("test", {"a": AccountTerms("a", "paper", bounds=Bounds(**bounds))}, listed)
    admission.set_limits("a", Limits(), "config", NOW)
    return admission


def test_a_change_may_tighten_as_it_likes_and_loosen_up_to_the_bounds() -> None:
    admission = bounded(positions_max=4, stop_distance_min=D("0.0004"), symbols=("BTCUSDT", "ETHUSDT"))
    good = {"symbols": ["ETHUSDT"], "positions_max": 4, "stop_distance_min": "0.0004", "exposure_max": "999999"}
    assert isinstance(admission.change_limits("a", good, "me", NOW), Changed)
    wrong = {"symbols": [], "positions_max": 5, "stop_distance_min": "0.0003", "daily_loss_max": "-1"}
    refused = admission.change_limits("a", wrong, "me", NOW)
    assert isinstance(refused, tuple)
    assert {refusal.field: refusal.reason for refusal in refused} == {
        "daily_loss_max": "must not be negative",
        "symbols": "may be some of BTCUSDT, ETHUSDT (the config's bound), but would be all symbols",
        "positions_max": "may be at most 4 (the config's bound), but would be 5",
        "stop_distance_min": "may be at least 0.0004 (the config's bound), but would be 0.0003",
    }
    limits = admission.limits("a")
    assert limits is not None and (limits.positions_max, limits.symbols) == (4, ("ETHUSDT",)), "nothing of it was done"


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        (Stamp(), ""),
        (Stamp(made_ns=NOW), ""),
        (Stamp(made_ns=NOW - 1), "timestamp is 0.000000001 s before the limits in force, which are by ann"),
        (Stamp(version=8), ""),
        (Stamp(version=7), "version is 7, but version 7 is in force already"),
        (Stamp(made_ns=NOW - SECOND, version=6), "version is 6"),
        (Stamp(made_ns=NOW + DAY, version=8), ""),
    ],
)
def test_a_policy_that_was_overtaken_on_its_way_changes_nothing(stamp: Stamp, words: str) -> None:
    admission = gate()
    first = admission.change_limits("a", {"positions_max": 5}, "event/bus", NOW - SECOND, Stamp(NOW - 2 * SECOND, 7))
    assert isinstance(first, Changed)
    assert isinstance(admission.change_limits("a", {"positions_max": 6}, "ann", NOW), Changed)
    late = admission.change_limits("a", {"positions_max": 9}, "event/bus", NOW + SECOND, stamp)
    limits = admission.limits("a")
    assert limits is not None and limits.positions_max == (6 if words else 9)
    if words:
        assert isinstance(late, tuple) and words in "; ".join(f"{r.field} {r.reason}" for r in late)
        assert len(late) == (stamp.made_ns is not None and stamp.made_ns < NOW) + (stamp.version is not None)
    else:
        assert isinstance(late, Changed)
        assert isinstance(admission.change_limits("a", {"positions_max": 7}, "bob", NOW + 2 * SECOND), Changed), (
            "a person is never too late, whatever a sender's clock says"
        )
        after = admission.change_limits("a", {"positions_max": 8}, "event/bus", NOW + 9 * SECOND, Stamp(NOW + SECOND))
        assert isinstance(after, tuple), "what was made before his change is"


def test_the_place_of_policies_and_the_bounds_hold_after_a_restart() -> None:
    row = LimitsRow("a", 4, replace(Limits(), positions_max=9), "event/bus", NOW, made_ns=NOW, policy=7)
    admission = Admission("test", {"a": AccountTerms("a", "paper", bounds=Bounds(positions_max=6))}, listed)
    admission.recover(Books(limits=(row,)))
    refused = admission.change_limits("a", {"positions_max": 2}, "event/bus", NOW + 1, Stamp(NOW - 1, 7))
    assert isinstance(refused, tuple) and [refusal.field for refusal in refused] == ["timestamp", "version"]
    tightened = admission.tighten("a", Limits(), NOW + 2)
    assert tightened is not None and tightened.limits.positions_max == 6
    (fact,) = tightened.facts
    assert isinstance(fact, LimitsSet) and (fact.by, fact.changed) == ("config bounds", (("positions_max", "9", "6"),))
    assert isinstance(tightened.rows[0], LimitsRow) and tightened.rows[0].policy == 7
    assert admission.tighten("a", Limits(), NOW + 3) is None


def test_an_account_without_limits_gets_the_defaults_with_its_first_change() -> None:
    admission = bare()
    outcome = admission.change_limits("a", {"positions_max": 1, "symbols": ["BTCUSDT"], "btc_price": 50000}, "me", NOW)
    assert isinstance(outcome, Changed)
    limits = outcome.limits
    assert (limits.symbols, limits.btc_price, limits.exposure_max) == (("BTCUSDT",), 50000, 120000)


@pytest.mark.parametrize(("required", "distance"), [(True, D("0.01")), (False, None)])
def test_the_default_stop_for_positions_that_came_without_one(required: bool, distance: Decimal | None) -> None:
    assert gate(replace(Limits(), stop_required=required)).stop_default("a") == distance
