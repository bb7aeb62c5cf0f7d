"""Seeds that pass, twice the same, also in another process; what they must come to; and an alarm that is heard."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.sim import seeds
from tests.sim.checks import Evidence, Violation, check
from tests.sim.faults import FAMILIES, Faults, Options, draw, owned, with_families
from tests.sim.reach import COMMON, GOALS
from tests.sim.seeds import Ran, Result, runs
from tests.sim.shrink import Cut
from tests.sim.world import run_seed

SEEDS = range(1, 201)
TWICE = range(1, 21)


@pytest.fixture(scope="module")
def swarm() -> list[Ran]:
    """All of `SEEDS`, on the cores there are."""
    return list(runs(SEEDS, jobs=seeds.cores()))


def simulate(root: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "run.py", "simulate", *arguments],
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


def test_every_seed_keeps_every_promise(swarm: Sequence[Ran]) -> None:
    broken = [ran for ran in swarm if ran.violations]
    assert not broken, "\n".join([f"seeds {[ran.seed for ran in broken]}", broken[0].text])
    assert [ran.seed for ran in swarm] == list(SEEDS)


def test_a_seed_is_the_same_again_in_another_process_with_another_hash_seed(
    swarm: Sequence[Ran], repo_root: Path
) -> None:
    """And alone in its process or beside others: the number of jobs is no part of a world."""
    first = {str(ran.seed): ran.trace_hash for ran in swarm if ran.seed in TWICE}
    for hash_seed, jobs in (("1", "1"), ("2", "2")):
        arguments = ("--seed", str(TWICE[0]), "--seeds", str(len(TWICE)), "--jobs", jobs, "--json")
        run = simulate(repo_root, *arguments, PYTHONHASHSEED=hash_seed)
        assert msgspec.json.decode(run.stdout)["trace_hashes"] == first, run.stderr.decode()


def test_the_commonest_of_the_rare_situations_come_up(swarm: Sequence[Ran]) -> None:
    """All of them within 1,000 seeds: `run.py simulate --seeds 1000` fails when one does not."""
    result = Result()
    for ran in swarm:
        result.add(ran)
    assert set(result.goals) <= set(GOALS), "a situation was seen that no goal names"
    assert not set(COMMON) - set(GOALS)
    assert not [goal for goal in COMMON if not result.goals[goal]]


def test_a_thousand_seeds_without_a_situation_are_not_enough() -> None:
    result = Result()
    for seed in range(1, 1001):
        result.add(Ran(seed, reached={goal: 1 for goal in GOALS[1:]}))
        assert result.never == [GOALS[0]]
        assert result.missing == ([GOALS[0]] if seed == 1000 else [])
    result.add(Ran(1001, reached={GOALS[0]: 1}))
    assert not result.missing


def test_a_quiet_world_is_protected_within_two_seconds_and_loses_nothing() -> None:
    options = Options(seed=1)
    report = run_seed(1, options)
    assert not report.violations
    assert report.bare_max < 2
    assert report.options.faults == Faults()


def test_the_options_of_a_seed_are_the_same_for_ever_and_families_can_be_taken_away() -> None:
    options = draw(11)
    assert options == draw(11)
    assert options != draw(12)
    for name in options.families:
        less = with_families(options, tuple(f for f in options.families if f != name))
        kept = {f: getattr(less.faults, f) for f in Faults.__struct_fields__ if getattr(less.faults, f)}
        assert all(getattr(options.faults, f) == value for f, value in kept.items())
    assert with_families(options, ()).faults == Faults()


def test_every_family_names_faults_that_exist() -> None:
    every = with_families(Options(seed=1), tuple(FAMILIES))
    assert replace(every.faults) == every.faults
    assert len(every.families) == len(FAMILIES)
    fields = [field for name in FAMILIES for field in owned(name)]
    assert set(fields) == set(Faults.__struct_fields__) and len(fields) == len(set(fields))


# -------------------------------------------------------------------------------------------------- on the command line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seeds", "0"],
        ["--seeds", "-3"],
        ["--seeds", "many"],
        ["--jobs", "0"],
        ["--seeds", "2", "--shrink"],
        ["--families", "no such family"],
        ["--skip", "one"],
    ],
)
def test_wrong_arguments_are_an_error_and_not_an_empty_success(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        seeds.main(arguments)
    assert left.value.code == 2
    assert "error" in capsys.readouterr().err


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        seeds.main(["--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert "run.py simulate --seeds 1000" in told and "exit codes:" in told


def test_without_the_worlds_simulate_says_so(repo_root: Path, tmp_path: Path) -> None:
    """As it is in an installed package: run.py, the actors and the engine, and no tests."""
    shutil.copy(repo_root / "run.py", tmp_path)
    (tmp_path / "engine").symlink_to(repo_root / "engine")
    shutil.copytree(repo_root / "actors", tmp_path / "actors")  # whose place says where the worlds would be
    run = simulate(tmp_path, "--seeds", "3")
    assert run.returncode == 4
    assert b"checkout" in run.stderr and not run.stdout


def test_the_canary_is_heard(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A checker that never fails proves nothing: this violation is invented, and must come out with its replay."""

    def canary(evidence: Evidence) -> list[Violation]:
        return [*check(evidence), Violation("CANARY", evidence.end_ns, "sings")]

    monkeypatch.setattr("tests.sim.world.check", canary)
    assert seeds.main(["--seeds", "2", "--seed", "41", "--jobs", "1"]) == 1
    told = capsys.readouterr()
    assert "the first: CANARY" in told.err and "sings" in told.err
    assert "replay: python run.py simulate --seed 41" in told.err
    assert f"trace {run_seed(41).trace_hash}" in told.err
    assert all(f"family {name}: {owned(name)[0]}" in told.err for name in draw(41).families)
    assert "1 seeds, 1 with violations" in told.out


def test_a_world_that_makes_no_headway_is_ended_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spin(world: object) -> None:
        while True:
            pass

    monkeypatch.setattr("tests.sim.world.World._mend_disk", spin)
    monkeypatch.setattr(seeds, "STUCK_SECONDS", 0.5)
    assert seeds.main(["--seed", "1"]) == 1
    assert "lets no time pass" in capsys.readouterr().err


def test_a_cut_is_written_as_arguments_and_read_again() -> None:
    cut = Cut(families=("a human", "halts"), signals=3, skipped=(1,), spared=(2, 5), whole=True)
    options = cut.apply(draw(1))
    assert set(options.families) <= {"a human", "halts"}
    assert options.load.skipped == (1,) and options.load.signals == 3 and options.spared == (2, 5)
    assert Cut().apply(draw(1)) == draw(1) and Cut().arguments() == ""
    assert cut.arguments() == '--families "a human, halts" --signals 3 --skip 1 --spare 2,5 --no-third-phase'
    dies = next(seed for seed in range(1, 50) if draw(seed).dead)
    assert cut.apply(draw(dies)).dead == "" and Cut().apply(draw(dies)).dead
