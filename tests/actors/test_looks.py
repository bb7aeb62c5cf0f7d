"""Looks at keys of the vault are on record in the journal before anything else of a start is done (SEC)."""

from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from actors.real import looked_at
from actors.wiring import Looked, Parts
from engine.core.messages import EngineStarted, KeyNoted, SignalReceived
from engine.runtime.clock import live_clock
from engine.runtime.log import Secret
from engine.venues.vault import Unlock, Vault, audit_of, open_vault, put, recorded, unrecorded
from tests.actors.world import House, buy, house

CLOCK = live_clock()
UNLOCK = Unlock("key", Secret("ab" * 32), "the key in K")


def vault_in(folder: Path, *accounts: str) -> Vault:
    for account in accounts:
        put(folder / "vault", UNLOCK, f"of-{account}", account, {"key": Secret("k"), "secret": Secret("s")}, CLOCK)
    return open_vault(folder / "vault", UNLOCK, "run")


def told(looked: Looked | None) -> list[tuple[str, str, str, str]]:
    assert looked is not None
    return [(fact.by, fact.what, fact.name, fact.account) for fact in looked.facts]


def with_looks(home: House, looked: Looked | None) -> None:
    parts = home.parts

    def with_them() -> Parts:
        return replace(parts(), looked=looked)

    home.parts = with_them  # type: ignore[method-assign]


async def test_looks_are_in_the_chain_and_the_audit_log_before_any_signal_and_then_marked(
    autojump_clock: object, tmp_path: Path
) -> None:
    vault = vault_in(tmp_path, "main")
    vault.secrets("of-main", "main", CLOCK)
    async with house(start=False) as home:
        with_looks(home, looked_at(vault, ("main",), CLOCK))
        await home.start()
        await home.hand.send(buy("s1"))
        await home.at_rest()
        kinds = [type(record.fact) for record in home.disk.reader().records(0, 100)]
        assert kinds[:3] == [EngineStarted, KeyNoted, KeyNoted] and kinds.index(SignalReceived) > 2
        with closing(home.disk.reader()) as reader:
            lines = {(line.who, line.what, line.account) for line in reader.audit_log(100)}
        assert {("keys add", "added the key of-main", "main"), ("run", "decrypted the key of-main", "main")} <= lines
        assert unrecorded(vault.path) == ()


async def test_a_start_that_wrote_nothing_down_leaves_them_to_the_next(autojump_clock: object, tmp_path: Path) -> None:
    vault = vault_in(tmp_path, "main")
    vault.secrets("of-main", "main", CLOCK)
    async with house(start=False) as home:
        with_looks(home, looked_at(vault, ("main",), CLOCK))
        home.disk.full = True
        await home.start(ready=False)
        await home.until(lambda: home.engine.world.switch.halts())
    assert told(looked_at(vault, ("main",), CLOCK))[-1] == ("run", "decrypted", "of-main", "main")


def test_a_shards_own_looks_are_on_its_record_though_another_shard_has_them_too(tmp_path: Path) -> None:
    vault = vault_in(tmp_path, "a", "b")
    vault.secrets("of-a", "a", CLOCK)
    vault.secrets("of-b", "b", CLOCK)
    assert len(told(looked_at(vault, ("a",), CLOCK))) == 4
    recorded(vault.path, CLOCK, "run")
    assert told(looked_at(vault, ("b",), CLOCK)) == [("run", "decrypted", "of-b", "b")]
    assert told(looked_at(vault, ("a", "b"), CLOCK)) == []


async def test_a_mark_that_cannot_be_written_does_no_harm(autojump_clock: object, tmp_path: Path) -> None:
    vault = vault_in(tmp_path, "main")
    async with house(start=False) as home:
        with_looks(home, looked_at(vault, ("main",), CLOCK))
        audit_of(vault.path).unlink()
        audit_of(vault.path).mkdir()
        await home.start()
        await home.hand.send(buy("s1"))
        await home.at_rest()
        assert home.held()
