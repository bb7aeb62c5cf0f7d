"""What all tests share: exact decimals, a time limit, and where the recordings are."""

import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import trio
from hypothesis import HealthCheck, settings

from engine.core.money import use_exact_context
from tests import parallel
from tests.patience import PATIENCE_SECONDS
from tests.postgres import STORES, Server, journal_words, running

if TYPE_CHECKING:
    from tests.kafka import Broker

LIMIT_SECONDS = 5 * PATIENCE_SECONDS
# On the virtual clock a limit costs nothing to reach: it only has to be longer than any story that a test tells.
VIRTUAL_LIMIT_SECONDS = 90 * 24 * 3600.0
VIRTUAL_CLOCKS = ("autojump_clock", "mock_clock")

# The same examples each time, on any machine, however long one takes; a long search for others draws new ones.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize="SUREFIRE_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _exact_decimals() -> None:
    use_exact_context()


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def market_data(repo_root: Path) -> Path:
    """The folder of the recordings, which are no part of the project; without them the test is skipped."""
    named = os.environ.get("SUREFIRE_MARKET_DATA")
    folder = Path(named) if named else repo_root.parent / "shared" / "data" / "market"
    if not list(folder.glob("*.gz")):
        pytest.skip(f"no recordings in {folder}; name a folder of them in SUREFIRE_MARKET_DATA")
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return parallel.workers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> parallel.Dealer:
    return parallel.Dealer(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every async test has a time limit.

    It is wrapped round the test itself, because a limit by signal or thread, as plugins have it, breaks every trio
    test that comes after.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=parallel.place)
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        virtual = any(name in item.fixturenames for name in VIRTUAL_CLOCKS)
        seconds = VIRTUAL_LIMIT_SECONDS if virtual else LIMIT_SECONDS
        property_test = getattr(item.obj, "hypothesis", None)
        if property_test and inspect.iscoroutinefunction(property_test.inner_test):
            property_test.inner_test = limited(property_test.inner_test, seconds)
        elif inspect.iscoroutinefunction(item.obj):
            item.obj = limited(item.obj, seconds)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """A command that ran in this process has sent the log to the test's own standard error, which is closed now."""
    if structlog.is_configured():
        structlog.reset_defaults()


def limited(test: Callable[..., Awaitable[None]], seconds: float) -> Callable[..., Awaitable[None]]:
    """The test, ended with trio.TooSlowError after so many seconds of its clock. Wraps once, however often called."""
    if hasattr(test, "limit_seconds"):
        return test

    @functools.wraps(test)
    async def within(*args: Any, **kwargs: Any) -> None:
        with trio.fail_after(seconds):
            await test(*args, **kwargs)

    within.limit_seconds = seconds  # type: ignore[attr-defined]
    return within


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for all tests that need one; those that stop it start it again."""
    yield from running()


@pytest.fixture(scope="session")
def kafka() -> "Iterator[Broker]":
    """One broker for all tests that need one, with a second listener by TLS; those that stop it start it again."""
    from tests.kafka import running  # the client library takes long to import

    yield from running(secure=True)


@pytest.fixture(params=STORES)
def journal(request: pytest.FixtureRequest) -> dict[str, object]:
    """What a config's [journal] says of where it is, beside the durability: the test runs on every store."""
    return journal_words(request)
