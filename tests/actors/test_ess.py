"""A risk service outside closes the engine to entries, in every way it can speak or be silent (SPEC RSK8)."""

from collections.abc import Callable
from decimal import Decimal

import trio

from actors.wiring import EssParts
from engine.core.ess import BY, EssTerms, OnTimeout, Said, Unanswered
from engine.core.messages import Alerted, Halted, Judged, Resumed
from engine.core.times import SECOND
from tests.actors.world import ACCOUNT, House, buy, close, house

CLEAR, CRITICAL = Said(False, "NORMAL"), Said(True, "CRITICAL", "venue insolvent")
LATE = Unanswered("no answer in 0.5 s")


class Service:
    """Answers what a test has it say, after a moment; `asked` counts."""

    def __init__(self, says: Said | Unanswered = CLEAR) -> None:
        self.says = says
        self.asked = 0
        self.raises: Callable[[], None] | None = None

    async def ask(self) -> Said | Unanswered:
        self.asked += 1
        await trio.sleep(0.5 if isinstance(self.says, Unanswered) else 0.01)
        if self.raises is not None:
            self.raises()
        return self.says

    def parts(self, on_timeout: OnTimeout) -> EssParts:
        return EssParts(EssTerms(5 * SECOND, on_timeout), self.ask, 1.0)


async def status(home: House, signal_id: str) -> str:
    return (await home.hand.send(buy(signal_id))).status


async def test_critical_stops_entries_lets_what_reduces_pass_and_ends_by_the_services_own_word(
    autojump_clock: object,
) -> None:
    async with house(start=False) as home:
        service = Service()
        home.ess = service.parts("allow")
        await home.start()
        assert await status(home, "a") == "accepted"
        await home.at_rest()
        service.says = CRITICAL
        await trio.sleep(1.1)
        refused = await home.hand.send(buy("b"))
        assert refused.status == "refused" and refused.row is not None
        failed = {check.rule: check for check in refused.row.checks if not check.passed}
        assert set(failed) == {"RSK8.ess", "RSK11.halt"}
        assert failed["RSK8.ess"].reason == "the risk service says CRITICAL: venue insolvent"
        assert failed["RSK8.ess"].limit == 5 and failed["RSK8.ess"].value is not None
        assert home.covered() and home.held() == Decimal("0.1")
        assert (await home.hand.send(close("c"))).status == "accepted"
        await home.at_rest()
        assert home.held() == 0
        service.says = CLEAR
        await trio.sleep(1.1)
        assert await status(home, "d") == "accepted"
        await home.at_rest()
        assert [(f.halt.by, f.halt.kind) for f in home.facts(Halted)] == [(BY, "ess")]
        assert [(f.by, f.whose) for f in home.facts(Resumed)] == [(BY, BY)]
        assert home.books() == []


async def test_a_trip_outlives_silence_and_restarts_until_the_service_takes_it_back(autojump_clock: object) -> None:
    async with house(start=False) as home:
        service = Service(CRITICAL)
        home.ess = service.parts("allow")
        await home.start()
        await home.until(lambda: home.engine.world.switch.halts())
        service.says = LATE
        await trio.sleep(30)
        assert await status(home, "a") == "refused"
        await home.at_rest()
        await home.kill()
        await home.start()
        await trio.sleep(30)
        assert await status(home, "b") == "refused", "the halt is durable"
        service.says = CLEAR
        await trio.sleep(2)
        assert await status(home, "c") == "accepted"


async def test_whoever_ends_the_halt_too_early_has_it_back_while_the_service_says_so(autojump_clock: object) -> None:
    async with house(start=False) as home:
        home.ess = Service(CRITICAL).parts("allow")
        await home.start()
        await home.until(lambda: home.engine.world.switch.halts())
        assert (await home.hand.send({"type": "ess.cleared", "id": "e-1"})).status == "recorded"
        assert await status(home, "a") == "refused"
        await trio.sleep(1.1)
        assert [halt.by for halt in home.engine.world.switch.halts()] == [BY]


async def test_an_emergency_by_event_is_not_ended_by_the_service(autojump_clock: object) -> None:
    async with house(start=False) as home:
        home.ess = Service(CLEAR).parts("allow")
        await home.start()
        await home.hand.send({"type": "ess.tripped", "id": "e-1"})
        await trio.sleep(5)
        assert [halt.by for halt in home.engine.world.switch.halts()] == ["event/hand"]
        assert await status(home, "a") == "refused"


async def test_silence_is_what_the_config_says_it_is(autojump_clock: object) -> None:
    for policy, expected in (("allow", "accepted"), ("block", "refused")):
        async with house(start=False) as home:
            service = Service(CLEAR)
            home.ess = service.parts(policy)  # type: ignore[arg-type]
            await home.start()
            assert await status(home, "a") == "accepted"
            service.says = LATE
            await trio.sleep(4)
            assert await status(home, "b") == "accepted", "the last answer is good for 5 s"
            await trio.sleep(4)
            receipt = await home.hand.send(buy("c"))
            assert receipt.status == expected, policy
            assert receipt.row is not None
            (check,) = (c for c in receipt.row.checks if c.rule == "RSK8.ess")
            assert check.passed == (expected == "accepted") and f"on_timeout = {policy}" in check.reason
            assert check.value is not None and check.limit is not None and check.value > check.limit
            assert (await home.hand.send(close("d"))).status == "accepted", "what reduces passes"
            await trio.sleep(60)
            await home.at_rest()
            assert home.facts(Halted) == [], "silence is no halt: it ends by itself"
            alerts = [alert.severity for alert in home.facts(Alerted) if alert.kind == "ess_silent"]
            assert alerts == ["warning" if policy == "allow" else "critical"], "once, however long it lasts"
            service.says = CLEAR
            await trio.sleep(2)
            assert await status(home, "e") == "accepted"
            judged = {fact.signal_id: fact for fact in home.facts(Judged)}
            assert any(c.rule == "RSK8.ess" and c.passed for c in judged["a"].checks)


async def test_before_the_first_answer_block_means_closed(autojump_clock: object) -> None:
    async with house(start=False) as home:
        service = Service(LATE)
        home.ess = service.parts("block")
        await home.start(ready=False)
        await trio.sleep(3)
        (why,) = home.engine.closed(ACCOUNT)
        assert "has not answered" in why.reason
        service.says = CLEAR
        await home.until(lambda: not home.engine.closed(ACCOUNT))


async def test_an_order_waits_for_no_answer_and_the_questions_keep_their_pace(autojump_clock: object) -> None:
    async with house(start=False) as home:
        service = Service(LATE)
        home.ess = service.parts("allow")
        await home.start()
        before, began = service.asked, trio.current_time()
        for number in range(20):
            moment = trio.current_time()
            assert (await home.hand.send(buy(f"a{number}", qty="0.001"))).status == "accepted"
            assert trio.current_time() - moment < 0.05
            await trio.sleep(0.3)  # inside the orders a second that an account may send
        await trio.sleep(20 - (trio.current_time() - began))
        assert 19 <= service.asked - before <= 21


async def test_an_asker_that_falls_is_made_anew_and_one_that_stays_down_closes_entries(autojump_clock: object) -> None:
    async with house(start=False) as home:
        service = Service(CLEAR)
        home.ess = service.parts("allow")
        await home.start()

        def fall() -> None:
            raise ValueError("a fault of ours")

        service.raises = fall
        await trio.sleep(1.5)
        service.raises = None
        await trio.sleep(3)
        assert await status(home, "a") == "accepted"
        service.raises = fall
        await home.until(lambda: "ess" in home.engine.down)
        assert await status(home, "b") == "refused"
