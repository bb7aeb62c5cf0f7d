"""A failing world becomes a small one that fails in the same way, and its command shows the same run again."""

import re
import shlex

import pytest
from msgspec.structs import replace

from tests.sim import mutants, seeds
from tests.sim.faults import Faults, draw
from tests.sim.mutants import MUTANTS, live_through
from tests.sim.seeds import runs, spread
from tests.sim.shrink import Cut, first_broken, only, shrink
from tests.sim.world import Report

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def offered(report: Report) -> int:
    return report.options.load.signals - len(report.options.load.skipped)


@pytest.mark.parametrize("name", ["silence-is-no", "halt-lost"])
def test_a_caught_bug_shrinks_to_a_smaller_world_with_the_same_broken_promise(name: str) -> None:
    mutant = BY_NAME[name]
    seed = next(s for s in range(1, 40) if mutants.run(mutant, s))
    with mutant.patch():
        whole, _ = live_through(mutant, seed)
        assert whole is not None
        shrunk = shrink(lambda cut: live_through(mutant, seed, cut)[0], whole, seconds=600.0)
        again, _ = live_through(mutant, seed, shrunk.cut)
    assert again is not None and again.trace_hash == shrunk.report.trace_hash
    assert first_broken(again).invariant == first_broken(whole).invariant
    assert not shrunk.cut_short
    assert len(again.options.families) < len(whole.options.families)
    assert offered(again) <= offered(whole) and again.crashes <= whole.crashes
    assert offered(again) <= 2
    left = again.options.families
    for gone in left:  # not one of them can be left out, too
        with mutant.patch():
            less, _ = live_through(mutant, seed, replace(shrunk.cut, families=tuple(f for f in left if f != gone)))
        assert less is None or not less.violations or first_broken(less).invariant != first_broken(whole).invariant


def test_the_command_of_a_shrunk_world_replays_it_to_the_byte(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutants.main(["--only", "fill-twice", "--seeds", "20", "--shrink"]) == 0
    told = capsys.readouterr().out
    (command,) = re.findall(r"^again: python -m tests.sim.mutants (.*)$", told, re.MULTILINE)
    (hashed,) = re.findall(r"^trace (\w+)$", told, re.MULTILINE)
    assert re.search(r"^shrunk in \d+ runs", told, re.MULTILINE)
    assert mutants.main(shlex.split(command)) == 0
    assert f"trace {hashed}\n" in capsys.readouterr().out


def test_simulate_shrinks_what_it_finds(capsys: pytest.CaptureFixture[str]) -> None:
    """As a person would meet it: a bug in the product, a seed, one command, and the command that it prints."""
    with BY_NAME["reduce-only-dropped"].patch():
        assert seeds.main(["--seed", "2", "--shrink"]) == 1
        told = capsys.readouterr()
        (*_, command) = re.findall(r"^replay: python run.py simulate (.*)$", told.err, re.MULTILINE)
        (*_, hashed) = re.findall(r"^trace (\w+)$", told.err, re.MULTILINE)
        first, *_ = re.findall(r"the first: (\w+)", told.err)
        assert f"still {first} first" in told.err
        assert seeds.main(shlex.split(command)) == 1
        assert f"trace {hashed}\n" in capsys.readouterr().out


def test_shrinking_ends_when_its_time_is_over() -> None:
    mutant = BY_NAME["reduce-only-dropped"]
    with mutant.patch():
        whole, _ = live_through(mutant, 2)
        assert whole is not None
        shrunk = shrink(lambda cut: live_through(mutant, 2, cut)[0], whole, seconds=0.0)
    assert shrunk.cut_short and shrunk.runs == 0 and shrunk.cut == Cut()


def test_families_are_taken_away_without_a_change_to_the_rest() -> None:
    options = draw(11)
    assert only(options, options.families) == options
    assert only(options, ()).faults == Faults()
    for name in options.families:
        rest = tuple(f for f in options.families if f != name)
        assert only(options, rest).families == rest
        assert only(options, rest).load == options.load and only(options, rest).nature == options.nature


def test_a_skipped_signal_and_a_spared_kill_are_left_out() -> None:
    seed = next(s for s in range(1, 100) if len(draw(s).families) > 5 and draw(s).faults.crash_mean)
    (whole,) = runs([seed])
    assert whole.crashes
    options = Cut(spared=tuple(range(1, 100)), skipped=(1,)).apply(draw(seed))
    report = seeds.limited(options)
    assert report is not None
    assert report.crashes == 0 and report.kills > 0
    assert "s1" not in report.evidence.judged and "s2" in report.evidence.judged


def test_work_is_spread_over_processes_in_order() -> None:
    assert list(spread(abs, range(-50, 0), 1)) == list(spread(abs, range(-50, 0), 3)) == list(range(50, 0, -1))
