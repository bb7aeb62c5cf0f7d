"""How the tests are dealt out among the processes of `pytest -n auto` (pytest-xdist). Without `-n` none of it matters.

A file goes to one process, in its own order: its tests share a broker, a server, or the result of many worlds. Files
whose tests each start what they need are dealt out test by test.
"""

import os
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

WORKERS_PER_CORE = 2  # much of the time is waiting, for a process to start or a proof that takes a minute
TEST_BY_TEST = ("tests/crash/", "tests/process/", "tests/test_bench.py", "tests/test_process.py")
# These share Kafka's broker, the fixture `kafka`, which takes long to start: a process without them starts none.
ONE_BROKER = (
    "tests/edges/test_kafka.py",
    "tests/process/test_systems.py::test_a_hedge_comes_by_kafka",
    "tests/process/test_scaleout.py",
    "tests/process/test_policy.py::test_by_kafka",
    "tests/test_bench.py::test_a_message_of_kafkas_comes_to_the_wire",
)
# What takes longest is begun first, so that nobody waits for it in the end; the rest as it stands in the folders.
FIRST = (
    "tests/sim/test_mutants.py",
    "tests/sim/test_seeds.py",
    *ONE_BROKER,
    "tests/process/test_binance.py",
    "tests/process/test_bybit.py",
    "tests/process/test_kafka.py",
    "tests/crash/",
    "tests/process/",
    "tests/sim/",
    "tests/test_",
)


def workers() -> int:
    """For `-n auto`."""
    return WORKERS_PER_CORE * len(os.sched_getaffinity(0))


def place(item: pytest.Item) -> int:
    """Sorted by this, items come in the order in which they are dealt out."""
    return next((number for number, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))


def portion(nodeid: str) -> str:
    """What is dealt out as one: the name of a file, or of a test."""
    if nodeid.startswith(ONE_BROKER):
        return ONE_BROKER[0]
    return nodeid if nodeid.startswith(TEST_BY_TEST) else nodeid.partition("::")[0]


class Dealer(LoadScopeScheduling):
    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # by the number of tests, it would be
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return portion(nodeid)
