"""A real PostgreSQL server for tests. Where none is installed they are skipped, or fail: SUREFIRE_NEED_SERVERS=1."""

import os
from collections.abc import Iterator

import pytest

from bench.postgres import ENVIRONMENT, PASSWORD, Server, binaries, throwaway

__all__ = ["ENVIRONMENT", "PASSWORD", "STORES", "Server", "journal_words", "running"]


STORES = ("sqlite", "postgres")


def journal_words(request: pytest.FixtureRequest) -> dict[str, object]:
    """For a fixture with STORES as its parameters: what the journal's section of a config says, one journal each."""
    if request.param == "sqlite":
        return {}
    server: Server = request.getfixturevalue("postgres")
    return {"url": server.url, "schema": server.journal().schema, "password_env": next(iter(ENVIRONMENT))}


def running() -> Iterator[Server]:
    """For a fixture."""
    found = binaries()
    if found is None:
        word = "no PostgreSQL server is installed here (Debian: apt-get install postgresql)"
        if os.environ.get("SUREFIRE_NEED_SERVERS"):
            pytest.fail(word)
        pytest.skip(word)
    with throwaway(found) as server:
        yield server
