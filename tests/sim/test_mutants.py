"""The checker can fail: some of the seeded bugs, quickly. All of them: `python -m tests.sim.mutants`."""

import sys

import pytest

from tests.sim import seeds
from tests.sim.mutants import CANARY_SEED, MUTANTS, caught, main, run

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
QUICK = {  # the bug, and an invariant that it cannot break without being seen
    "retry-new-id": "I1",
    "absent-at-once": "I26",
    "acknowledged-early": "I23",
    "sent-before-durable": "I2",
    "other-body-executed": "I24",
    "foreign-fill-ignored": "I17",
    "outbox-reordered": "I25",
    "no-position-limit": "I11",
    "reduce-only-dropped": "I15",
    "halt-lost": "I7",
    "doubt-ignored": "P4",
}
TRIES = 20


@pytest.mark.parametrize("name", QUICK)
def test_a_seeded_bug_is_caught(name: str) -> None:
    found = (run(BY_NAME[name], seed) for seed in range(1, TRIES + 1))
    assert any(QUICK[name] in catch.invariants for catch in found if catch), f"{name} lived through {TRIES} worlds"


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.control], ids=lambda mutant: mutant.name)
def test_what_does_no_harm_raises_no_alarm(mutant: object) -> None:
    assert caught(mutant, 3) is None  # type: ignore[arg-type]


def test_the_canary_is_heard_by_the_table_and_by_the_simulation(capsys: pytest.CaptureFixture[str]) -> None:
    canary = BY_NAME["canary"]
    found = run(canary, CANARY_SEED)
    assert found is not None and found.invariants == ("CANARY",)
    with canary.patch():
        assert seeds.main(["--seed", str(CANARY_SEED)]) == 1
        assert "fails by design" in capsys.readouterr().err
        assert seeds.main(["--seed", str(CANARY_SEED + 1)]) == 0


def test_a_bug_that_lives_is_told_and_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "canary", "--seeds", "1"]) == 1
    told = capsys.readouterr().out
    assert "NOT CAUGHT" in told and "not as it must be: canary" in told


def test_a_catch_can_be_watched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "sent-before-durable", "--seeds", "3", "--show"]) == 0
    told = capsys.readouterr().out
    assert "was sent before its intent was durable" in told
    assert "again: python -m tests.sim.mutants --only sent-before-durable" in told


def test_every_patch_is_taken_back() -> None:
    before = bound()
    for mutant in MUTANTS:
        with mutant.likely.terms(), mutant.patch():
            changed = {name for name, value in bound().items() if value is not before.get(name)}
            assert len({n.rsplit(".", 1)[1] for n in changed}) <= 1 or mutant.name.startswith("collar"), changed
        assert all(value is before[name] for name, value in bound().items()), mutant.name


def test_there_are_at_least_thirty_bugs_of_different_names() -> None:
    assert len(BY_NAME) == len(MUTANTS)
    assert sum(not m.control for m in MUTANTS) >= 30


def bound() -> dict[str, object]:
    """Everything that a module or a class of the product has a name for."""
    found: dict[str, object] = {}
    for module_name, module in sorted(sys.modules.items()):
        if module_name.startswith(("engine.", "actors.")):
            for name, value in vars(module).items():
                found[f"{module_name}.{name}"] = value
                if isinstance(value, type) and value.__module__ == module_name:
                    found |= {f"{module_name}.{name}.{part}": inner for part, inner in vars(value).items()}
    return found
