"""The time limit of async tests, and the decimal context they run in."""

from decimal import getcontext
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests import parallel
from tests.conftest import LIMIT_SECONDS, VIRTUAL_LIMIT_SECONDS, limited


async def test_a_test_that_hangs_ends_with_an_error():
    with pytest.raises(trio.TooSlowError):
        await limited(trio.sleep_forever, 0.01)()


async def test_this_very_test_is_limited():
    assert 0 < trio.current_effective_deadline() - trio.current_time() <= LIMIT_SECONDS


@given(st.booleans())
async def test_a_property_test_is_limited_too(_drawn: bool):
    assert 0 < trio.current_effective_deadline() - trio.current_time() <= LIMIT_SECONDS


async def test_a_test_on_the_virtual_clock_may_tell_a_long_story(autojump_clock: trio.testing.MockClock):
    await trio.sleep(3600)
    assert LIMIT_SECONDS < trio.current_effective_deadline() - trio.current_time() <= VIRTUAL_LIMIT_SECONDS


async def test_tasks_compute_with_exact_decimals():
    assert getcontext().prec == 40


def test_tests_compute_with_exact_decimals():
    assert getcontext().prec == 40


def test_the_checkout_is_found(repo_root: Path):
    assert (repo_root / "pyproject.toml").exists()


def test_what_is_dealt_out_first_is_there(repo_root: Path):
    for start in (*parallel.FIRST, *parallel.TEST_BY_TEST):
        file, _, test = start.partition("::")
        found = list(repo_root.glob(f"{file}*"))
        assert found, start
        assert not test or f"def {test}" in found[0].read_text(encoding="utf-8"), start


def test_a_file_whose_tests_share_something_stays_in_one_process():
    assert {parallel.portion(f"tests/edges/test_kafka.py::test_{name}") for name in "ab"} == {
        "tests/edges/test_kafka.py"
    }
    assert len({parallel.portion(f"tests/process/test_kafka.py::test_{name}") for name in "ab"}) == 2
