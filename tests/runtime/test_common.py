"""What engines with shards keep on the server that they share."""

from contextlib import closing

import pytest
from structlog.testing import capture_logs

from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.common import Inbox, Letter, Line, found, settle
from tests.postgres import Server


async def test_an_account_that_another_config_has_in_another_shard_is_refused_and_nothing_is_changed(
    postgres: Server,
) -> None:
    """Its lease would be of another journal: two engines would own it, and a signal could be executed in both."""
    at = postgres.journal()
    with closing(Line(at, "one", "power")) as line:
        await found(line)
        await settle(line, {"alice": "a", "bob": "b"})
        await settle(line, {"alice": "a"})  # less is no contradiction
        with pytest.raises(JournalFailed, match="account 'bob' is of shard 'b', and this config has it in 'a'"):
            await settle(line, {"alice": "a", "ann": "c", "bob": "a"})
    assert postgres.sql(f"SELECT account, shard FROM {at.schema}.homes ORDER BY 1") == [("alice", "a"), ("bob", "b")]
    postgres.sql(f"DELETE FROM {at.schema}.homes WHERE account = 'bob'")
    with closing(Line(at, "one", "power")) as line:
        await settle(line, {"alice": "a", "bob": "a"})


async def test_signals_that_wait_for_a_shard_that_is_gone_are_told(postgres: Server) -> None:
    with closing(Line(postgres.journal(), "one", "power")) as line:
        await found(line)
        await Inbox(line).put([Letter("old", "bus", b"{}", 1), Letter("a", "bus", b"{}", 1)])
        with capture_logs() as logs:
            await settle(line, {"alice": "a"})
    assert [(entry["log_level"], entry["shard"], entry["letters"]) for entry in logs] == [("error", "old", "1")]
