"""The checker can fail: each seeded bug is caught, quickly, and what does no harm is not. `python -m tests.sim.mutants`
shows the same table, and by `--only NAME --show` how one was caught."""

import sys

import pytest

from tests.sim import seeds
from tests.sim.mutants import CANARY_SEED, MUTANTS, Found, Mutant, Task, main, row, run, search

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
TABLE = tuple(mutant for mutant in MUTANTS if mutant.name != "canary")  # by design that one takes 37 seeds
TASK = Task(seeds=range(1, 201), controls=4)
MEANT = {  # the bug, and the promise that it breaks
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
    "overfill-not-told": "R22",
    "ban-ignored": "I13",
    "lock-ignored": "J4",
    "lease-not-at-the-wire": "I6",
    "daily-loss-reset": "I14",
    "stop-not-replaced": "I31",
    "passed-stop-not-looked-at": "I31",
}


@pytest.fixture(scope="module")
def found(pytestconfig: pytest.Config) -> dict[str, Found]:
    """The first catch of each, searched on the cores there are; the table goes into the output of the run."""
    catches = list(search(TABLE, TASK, seeds.cores()))
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("", *(row(mutant, catch, TASK) for mutant, catch in zip(TABLE, catches, strict=True)), sep="\n")
    return {catch.mutant: catch for catch in catches}


@pytest.mark.parametrize("mutant", [m for m in TABLE if not m.control], ids=lambda mutant: mutant.name)
def test_a_seeded_bug_is_caught(mutant: Mutant, found: dict[str, Found]) -> None:
    assert found[mutant.name].seed is not None, f"{mutant.name} lived through {len(TASK.seeds)} worlds"
    if mutant.name in MEANT:
        assert MEANT[mutant.name] in found[mutant.name].invariants


@pytest.mark.parametrize("mutant", [m for m in TABLE if m.control], ids=lambda mutant: mutant.name)
def test_what_does_no_harm_raises_no_alarm(mutant: Mutant, found: dict[str, Found]) -> None:
    assert found[mutant.name].seed is None


def test_bugs_are_caught_soon(found: dict[str, Found]) -> None:
    firsts = sorted(catch.seed for catch in found.values() if catch.seed is not None)
    assert firsts[len(firsts) // 2] <= 5, firsts


def test_the_canary_is_heard_by_the_table_and_by_the_simulation(capsys: pytest.CaptureFixture[str]) -> None:
    canary = BY_NAME["canary"]
    caught = run(canary, CANARY_SEED)
    assert caught is not None and caught.invariants == ("CANARY",)
    with canary.patch():
        assert seeds.main(["--seed", str(CANARY_SEED)]) == 1
        assert "fails by design" in capsys.readouterr().err
        assert seeds.main(["--seed", str(CANARY_SEED + 1)]) == 0


def test_a_bug_that_lives_is_told_and_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "canary", "--seeds", "1"]) == 1
    told = capsys.readouterr().out
    assert "NOT CAUGHT" in told and "not as it must be: canary" in told


def test_a_catch_can_be_watched_and_seen_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "sent-before-durable", "--seeds", "3", "--show"]) == 0
    told = capsys.readouterr().out
    assert "the bug: an order is sent before its intent is on the disk" in told
    assert "was sent before its intent was durable" in told
    assert "again: python -m tests.sim.mutants --only sent-before-durable --seed 1 --show" in told
    assert main(["--only", "sent-before-durable", "--seed", "1", "--show"]) == 0
    again = capsys.readouterr().out
    assert next(line for line in told.splitlines() if line.startswith("trace ")) in again


def test_every_patch_is_taken_back() -> None:
    before = bound()
    for mutant in MUTANTS:
        with mutant.likely.terms(), mutant.patch():
            changed = {name for name, value in bound().items() if value is not before.get(name)}
            assert len({n.rsplit(".", 1)[1] for n in changed}) <= 1 or mutant.name.startswith("collar"), changed
        assert all(value is before[name] for name, value in bound().items()), mutant.name


def test_there_are_at_least_seventy_bugs_of_different_names() -> None:
    assert len(BY_NAME) == len(MUTANTS)
    assert sum(not m.control for m in MUTANTS) >= 70


def bound() -> dict[str, object]:
    """Everything that a module or a class of the product has a name for."""
    names: dict[str, object] = {}
    for module_name, module in sorted(sys.modules.items()):
        if module_name.startswith(("engine.", "actors.")):
            for name, value in vars(module).items():
                names[f"{module_name}.{name}"] = value
                if isinstance(value, type) and value.__module__ == module_name:
                    names |= {f"{module_name}.{name}.{part}": inner for part, inner in vars(value).items()}
    return names
