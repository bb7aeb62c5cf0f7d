"""Seeds that pass, twice the same, also in another process; and an alarm that is heard."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.sim import seeds
from tests.sim.checks import Evidence, Violation, check
from tests.sim.faults import FAMILIES, Faults, Options, describe, draw, with_families
from tests.sim.world import run_seed

SEEDS = range(1, 31)
TWICE = (3, 7, 12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_keeps_every_promise(seed: int) -> None:
    report = run_seed(seed)
    assert not report.violations, "\n".join([describe(report.options), *map(str, report.violations[:10])])
    if seed in TWICE:
        assert run_seed(seed).trace_hash == report.trace_hash


def test_a_quiet_world_is_protected_within_two_seconds_and_loses_nothing() -> None:
    options = Options(seed=1)
    report = run_seed(1, options)
    assert not report.violations
    assert report.bare_max < 2
    assert report.options.faults == Faults()


def test_a_seed_is_the_same_in_another_process_with_another_hash_seed(repo_root: Path) -> None:
    seen = set()
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-m", "tests.sim.seeds", "--seed", "5", "--json", "--keep-going"],
            cwd=repo_root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=False,
        )
        seen.add(msgspec.json.decode(run.stdout)["trace_hashes"]["5"])
    assert len(seen) == 1


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


def test_the_canary_is_heard(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A checker that never fails proves nothing: this violation is invented, and must come out with its replay."""

    def canary(evidence: Evidence) -> list[Violation]:
        return [*check(evidence), Violation("CANARY", evidence.end_ns, "sings")]

    monkeypatch.setattr("tests.sim.world.check", canary)
    assert seeds.main(["--seeds", "2", "--seed", "41"]) == 1
    told = capsys.readouterr()
    assert "CANARY" in told.err and "sings" in told.err
    assert "python run.py simulate --seed 41" in told.err
    assert "1 seeds, 1 with violations" in told.out
