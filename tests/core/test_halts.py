"""Which halt ends how."""

from typing import Any

import pytest

from engine.core.halts import ends, kind_of, release
from engine.core.messages import Halt, HaltKind, Resumed


def halt(kind: HaltKind | None = "stop", by: str = "ann", **more: Any) -> Halt:
    return Halt(scope="account/a", reason=f"{kind}", since_ns=1, by=by, kind=kind, **more)


@pytest.mark.parametrize(
    ("by", "kind"),
    [
        ("risk/RSK5.drawdown", "loss"),
        ("event/kafka", "ess"),
        ("supervisor", "fault"),
        ("engine", "fault"),
        ("ann", "stop"),
    ],
)
def test_a_halt_from_before_there_were_kinds_has_one_by_its_maker(by: str, kind: HaltKind) -> None:
    assert kind_of(halt(None, by)) == kind


def test_a_person_who_takes_an_engine_name_still_makes_a_stop() -> None:
    assert kind_of(halt("stop", "risk/RSK5.daily_loss")) == "stop"


def test_a_resume_ends_one_kind_at_a_time_and_never_an_emergency_unasked() -> None:
    standing = (halt("ess", "event/x"), halt("loss", "risk/r"), halt("fault", "engine"), halt("stop"))
    order = []
    while (done := release(standing, None)).ended:
        order += [h.kind for h in done.ended]
        standing = tuple(s.halt for s in done.staying)
    assert order == ["stop", "fault", "loss"]
    assert ["ess.cleared" in s.why for s in done.staying] == [True]
    assert release(standing, "ess").staying == ()


def test_a_loss_of_the_day_is_not_a_persons_to_end() -> None:
    today = halt("loss", "risk/r", latched=False, until_ns=9)
    done = release((today,), "loss")
    assert done.ended == () and "midnight" in done.staying[0].why


def test_what_a_resume_without_a_kind_ended_in_an_old_journal() -> None:
    old = Resumed(at_ns=2, scope="account/a", by="bob")
    assert ends(old, halt("loss", "risk/r")) and ends(old, halt())
    new = Resumed(at_ns=2, scope="account/a", by="bob", kind="stop", whose="ann")
    assert ends(new, halt()) and not ends(new, halt(by="cyd")) and not ends(new, halt("loss", "risk/r"))
