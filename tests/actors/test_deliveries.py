"""What has a name comes once: signed deliveries and events that steer, replayed before and after a restart."""

import trio

from engine.core.messages import Alerted, ControlReceived, LimitsSet, SignalConflicted
from tests.actors.world import ACCOUNT, House, buy, close, house

TRIPPED = {"type": "ess.tripped", "id": "e-1"}
CLEARED = {"type": "ess.cleared", "id": "e-2"}


def signed(name: str) -> dict[str, str]:
    """As a hook called "desk" hands it in."""
    return {"delivery": f"desk/{name}", "fallback_id": f"desk:{name}"}


def policy(positions: int, event_id: str = "p-1") -> dict[str, object]:
    return {"type": "policy.updated", "id": event_id, "data": {"limits": {"positions_max": positions}}}


def positions_max(home: House) -> int:
    limits = home.engine.admission.limits(ACCOUNT)
    assert limits is not None
    return limits.positions_max


def halted(home: House) -> bool:
    return bool(home.engine.world.switch.halts())


async def test_a_replayed_delivery_gets_the_first_outcome_before_and_after_a_restart(autojump_clock: object) -> None:
    async with house() as home:
        for body in (buy("own-id"), buy(None)):
            name = str(body.get("signal_id", "nameless"))
            assert (await home.hand.send(body, **signed(name))).status == "accepted"
            again = await home.hand.send(body, **signed(name))
            assert again.status == "repeated" and again.row is not None
            await home.at_rest()
            await home.kill()
            await home.start()
            late = await home.hand.send(body, **signed(name))
            assert late.status == "repeated" and late.row is not None
            assert late.row.signal.signal_id == again.row.signal.signal_id
        await home.at_rest()
        assert len(home.at_venue()) == 6  # two entries, each with its stop and target
        assert home.books() == []


async def test_another_body_under_the_name_of_a_delivery_is_a_conflict_for_good(autojump_clock: object) -> None:
    async with house() as home:
        assert (await home.hand.send(buy("a"), **signed("d-1"))).status == "accepted"
        for _ in range(2):
            other = await home.hand.send(
                buy("b"), **signed("d-1")
            )  # a good signal, had it come under a name of its own
            assert other.status == "conflict" and "d-1" in other.text
            steering = await home.hand.send(CLEARED, **signed("d-1"))
            assert steering.status == "conflict"
            await home.at_rest()
            await home.stop()
            await home.start()
        assert home.confirmed("b") == [] and home.facts(ControlReceived) == []
        assert {fact.signal_id for fact in home.facts(SignalConflicted)} == {"desk/d-1"}
        assert {a.kind for a in home.facts(Alerted)} >= {"delivery.conflict"}
        assert (await home.hand.send(buy("b", qty="0.05"), **signed("d-2"))).status == "accepted"


async def test_a_delivery_that_could_not_be_read_may_be_sent_again_in_order(autojump_clock: object) -> None:
    async with house() as home:
        assert (await home.hand.send(b'{"signal_id": "a"', **signed("d-1"))).status == "malformed"
        assert (await home.hand.send(buy("a"), **signed("d-1"))).status == "accepted"


async def test_a_captured_end_of_an_emergency_does_not_end_the_next_one(autojump_clock: object) -> None:
    async with house() as home:
        cleared = {"type": "ess.cleared"}  # without an id of its own
        await home.hand.send({"type": "ess.tripped"}, **signed("d-1"))
        assert (await home.hand.send(cleared, **signed("d-2"))).status == "recorded"
        assert not halted(home)
        await home.hand.send({"type": "ess.tripped"}, **signed("d-3"))
        for _ in range(2):
            assert (await home.hand.send(cleared, **signed("d-2"))).status == "repeated"
            assert halted(home)
            await home.at_rest()
            await home.kill()
            await home.start(ready=False)
        assert (await home.hand.send(cleared, **signed("d-4"))).status == "recorded"
        assert not halted(home)


async def test_what_a_file_brings_again_at_each_start_is_carried_out_once(autojump_clock: object) -> None:
    """A followed file is read from its beginning: an old policy must not take back what a person has set since."""
    lines = ((policy(2), "f:0"), (TRIPPED, "f:80"), (CLEARED, "f:140"))
    async with house() as home:
        for body, place in lines:
            assert (await home.hand.send(body, fallback_id=place)).status == "recorded"
        assert positions_max(home) == 2 and not halted(home)
        await home.engine.operator.set_limits(ACCOUNT, {"positions_max": 1}, "ann")
        await home.stop()
        await home.start()
        for body, place in lines:
            assert (await home.hand.send(body, fallback_id=place)).status == "repeated"
            assert not halted(home)
        assert positions_max(home) == 1
        await home.at_rest()
        assert [f.name for f in home.facts(ControlReceived)] == ["policy.updated", "ess.tripped", "ess.cleared"]


async def test_the_id_of_a_policy_with_another_body_is_a_conflict(autojump_clock: object) -> None:
    async with house() as home:
        assert (await home.hand.send(policy(2))).status == "recorded"
        assert (await home.hand.send(policy(9))).status == "conflict"
        assert positions_max(home) == 2
        assert (await home.hand.send(policy(9, "p-2"))).status == "recorded"
        assert positions_max(home) == 9


async def test_a_stop_is_never_a_repeat_only_because_its_sender_uses_an_id_twice(autojump_clock: object) -> None:
    async with house() as home:
        for other in ({}, {"reason": "another one"}, {}):
            assert (await home.hand.send({**TRIPPED, **other})).status == "recorded"
            assert halted(home)
            assert (await home.hand.send({"type": "ess.cleared"})).status == "recorded"
            assert not halted(home)
        await home.hand.send(TRIPPED, fallback_id="bus:1")
        assert halted(home)


async def test_a_policy_that_the_gate_has_not_looked_at_is_asked_for_again_and_leaves_no_trace(
    autojump_clock: object,
) -> None:
    async with house() as home:
        await home.hand.send(buy("a"))
        await home.at_rest()
        home.quote = _broken  # the gate's next step fails, until it is given up
        with trio.move_on_after(30):
            while "gate" not in home.engine.down:
                await home.hand.send(buy(f"x{trio.current_time()}"))
                await trio.sleep(0.5)
        assert "gate" in home.engine.down
        for _ in range(3):
            assert (await home.hand.send(policy(2))).status == "busy"
        assert home.facts(ControlReceived) == []
        home.quote = home.venue.quote
        await home.engine.operator.resume("engine", "ann")
        assert (await home.hand.send(policy(2))).status == "recorded"
        assert positions_max(home) == 2
        assert (await home.hand.send(close("c"))).status == "accepted"
        await home.at_rest()
        assert [(f.by, f.version) for f in home.facts(LimitsSet)] == [("config", 1), ("event/hand", 2)]


def _broken(symbol: str) -> None:
    raise AssertionError("a quote that must not happen")
