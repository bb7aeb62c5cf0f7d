"""Accounts at real venues: opened with keys from vault or environment, looked over, and refused if anything is amiss.

Nothing of this trades. What is found is the same for `check`, which shows it, and for a start, which it may prevent.
"""

from collections.abc import Container, Mapping
from functools import partial
from pathlib import Path
from random import Random

import structlog
import trio

from actors.wiring import AccountParts, Looked
from engine.core.messages import Failed, InstrumentKind, KeyNoted
from engine.runtime.clock import Clock
from engine.runtime.config import REAL as REAL_NAMES
from engine.runtime.config import AccountSection, Config, SinkSection, SourceSection
from engine.venues.admission import Remark, environment_remark, local, refuse
from engine.venues.base import QuoteSource
from engine.venues.keys import Credentials, KeyProblem, Secret, read_credentials, read_secrets
from engine.venues.order_socket import OrderSocket
from engine.venues.registry import REAL, THROTTLES, WORLDS, RealVenue, Setup
from engine.venues.throttle import Throttle
from engine.venues.vault import HOOK, Vault, VaultProblem, open_vault, recorded, unlock_of, unrecorded

AGAIN_SECONDS = 1.0
FOREIGN_MARKETS = {"bybit": "bybit", "binance": "binance", "binanceusdm": "binance"}  # ccxt's names -> ours
BY_ADDRESS = "address"  # the limit of an address, of which the venue's answers say nothing
OTHER_MARKET = "the market heard is not its venue's own: a stop that does nothing there would not be noticed"
LOG = structlog.get_logger("venue")


def is_real(section: AccountSection) -> bool:
    return section.venue in REAL_NAMES


def public_hosts(config: Config) -> tuple[str, str]:
    """Where the market is listened to (stream, REST): where the first account trades, if that is its venue; "": the
    usual place.

    Raises Inadmissible.
    """
    first = next(iter(config.accounts.values()))
    here = first.venue == "ccxt" and config.market.kind in REAL_NAMES and local(first.host)  # its face serves both
    if not is_real(first) or (first.venue != config.market.kind and not here):
        return "", ""
    world = WORLDS[config.market.kind](first.host, InstrumentKind(first.category))
    return world.public_stream, world.public_rest


def traded_kind(config: Config) -> InstrumentKind:
    first = next(iter(config.accounts.values()))
    return InstrumentKind(first.category if is_real(first) else first.paper.kind)


def own_market(section: AccountSection, config: Config) -> bool:
    """Whether the market that is listened to is the one in which an account's stops trigger. Raises Inadmissible."""
    heard, kind = config.market.kind, traded_kind(config)
    venue = FOREIGN_MARKETS.get(section.exchange, "") if section.venue == "ccxt" else section.venue
    if venue != heard or section.category != kind.value:
        return False
    stream, _ = public_hosts(config)
    return WORLDS[heard](section.host, kind).public_stream == (stream or WORLDS[heard]("mainnet", kind).public_stream)


def open_real(
    name: str,
    config: Config,
    clock: Clock,
    rng: Random,
    environ: Mapping[str, str],
    quote: QuoteSource = lambda symbol: None,
    vault: Vault | None = None,
    whole: Config | None = None,
) -> AccountParts:
    """`whole` is the config by which the market is heard, if that is not `config`.

    Raises Inadmissible for a host of another world than the engine's, KeyProblem for a key that is not there.
    """
    section = config.accounts[name]
    kind = InstrumentKind(section.category)
    world = WORLDS[section.venue](section.host, kind)
    refuse((environment_remark(config.engine.env, world.environment, section.host),), name)
    ccxt = section.venue == "ccxt"  # it signs by itself
    sealed = _sealed(name, section, clock, vault)
    throttle = THROTTLES[section.venue](section.orders_per_second, kind, clock)
    throttle.share(BY_ADDRESS, section.address_share)
    throttle.account = name
    venue = REAL[section.venue](
        Setup(
            clock=clock,
            rng=rng,
            host=section.host,
            kind=kind,
            credentials=None if ccxt else _credentials(section, environ, sealed),
            throttle=throttle,
            symbols=section.limits.symbols or config.market.symbols,
            order_socket=section.order_socket,
            disconnect_cancel_seconds=section.disconnect_cancel_seconds,
            leverage=section.leverage,
            margin=section.margin,
            exchange=section.exchange,
            foreign=sealed or read_secrets(environ, secrets_of(section)) if ccxt else {},
            poll_seconds=section.poll_seconds,
            quote=quote,
        )
    )
    venue_name = section.exchange or section.venue
    heard = own_market(section, whole or config)
    return AccountParts(name, venue_name, venue, throttle, section.limits, bounds=section.bounds, own_market=heard)


def vault_of(config: Config, environ: Mapping[str, str], by: str) -> Vault | None:
    """Open, if an account or a webhook has its key there. Raises VaultProblem."""
    if not needs_vault(config):
        return None
    return open_vault(Path(config.vault.path), unlock_of(config.vault, environ), by)


def looked_at(vault: Vault | None, owned: Container[str], clock: Clock) -> Looked | None:
    """For the journal: what is on record in none, and the looks for these owners, whoever else has those on record.

    Raises VaultProblem.
    """
    if vault is None:
        return None
    notes = dict.fromkeys((*unrecorded(vault.path), *(look for look in vault.looks if look.account in owned)))
    vault.looks[:] = [look for look in vault.looks if look.account not in owned]
    facts = (KeyNoted(at_ns=n.at_ns, account=n.account, name=n.name, what=n.what, by=n.by) for n in notes)
    return Looked(tuple(facts), partial(_recorded, vault.path, clock))


def _recorded(path: Path, clock: Clock) -> None:
    try:
        recorded(path, clock, "run")
    except VaultProblem as problem:
        LOG.warning("looks at keys will be put on record once more", reason=str(problem))


def needs_vault(config: Config) -> bool:
    accounts = any(is_real(section) and section.key_vault for section in config.accounts.values())
    return accounts or any(hook.key_vault for hook in webhooks(config))


def webhooks(config: Config) -> tuple[SourceSection | SinkSection, ...]:
    """In and out."""
    edges: tuple[SourceSection | SinkSection, ...] = (*config.sources, *config.sinks)
    return tuple(edge for edge in edges if edge.kind == "webhook")


def owners(config: Config) -> tuple[str, ...]:
    """Of keys in the vault: the config's accounts, and its webhooks."""
    return (*config.accounts, *(HOOK + hook.name for hook in webhooks(config)))


async def admit(account: AccountParts, section: AccountSection, services: trio.Nursery, stop: trio.Event) -> None:
    """Starts a real venue's task and looks it over. Raises Inadmissible.

    While the venue does not answer there is nothing to decide, and the start waits, as it does for the instruments.
    """
    venue, told = real_venue(account), ""
    services.start_soon(venue.run, name=f"venue/{account.name}")
    while not stop.is_set():
        remarks = await venue.look_over(section.allow_withdrawal_keys)
        if not isinstance(remarks, Failed):
            refuse(remarks, account.name)
            for remark in remarks:
                LOG.info("venue looked over", account=account.name, what=remark.what, text=remark.text)
            return
        if remarks.why != told:  # once a second it would bury the rest of the log
            LOG.warning("the venue does not answer; the start waits", account=account.name, reason=remarks.why)
        told = remarks.why
        await trio.sleep(AGAIN_SECONDS)


async def examine(account: AccountParts, section: AccountSection) -> tuple[Remark, ...]:
    """Everything that can be said of an account without trading; its connections are closed again."""
    venue = real_venue(account)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.run)
        remarks = await venue.look_over(section.allow_withdrawal_keys)
        if isinstance(remarks, Failed):
            remarks = (Remark("reach", False, remarks.why),)
        else:
            remarks = (*remarks, *await venue.look_at_streams(), limits_remark(account.throttle))
        nursery.cancel_scope.cancel()
    return remarks


def secrets_of(section: AccountSection) -> dict[str, str]:
    """The environment variables that hold what a foreign client signs with, by our words for it."""
    words = ("key", "secret", "password", "uid")
    return dict(zip(words, (section.key_env, section.secret_env, section.password_env, section.uid_env), strict=True))


def notes(account: AccountParts) -> tuple[str, ...]:
    """What a person should know of an account while it trades: a slower way, and what its venue cannot promise."""
    waits = account.throttle.waits()
    told = (
        slow_way(account),
        waits and f"account/{account.name}: {waits}",
        *(f"account/{account.name}: {note}" for note in getattr(account.venue, "notes", ())),
        "" if account.own_market else f"account/{account.name}: {OTHER_MARKET}",
    )
    return tuple(note for note in told if note)


def slow_way(account: AccountParts) -> str:
    """Why orders go by REST although the account has an order socket; "" when they do not, or there is none."""
    socket = getattr(account.venue, "socket", None)
    if not isinstance(socket, OrderSocket) or socket.ready:
        return ""
    return f"account/{account.name}: orders go by REST, more slowly: {socket.why}"


def limits_remark(throttle: Throttle) -> Remark:
    """The rate limits as they are kept on our side."""
    limits = [bucket.limit for bucket in throttle.buckets]
    words = (f"{limit.name} {limit.count} in {limit.window_ns // 1_000_000_000} s" for limit in limits)
    return Remark("rate limits", True, ", ".join(words))


def _sealed(name: str, section: AccountSection, clock: Clock, vault: Vault | None) -> dict[str, Secret]:
    """What the vault holds for an account; nothing, when its keys are in the environment."""
    if not section.key_vault:
        return {}
    if vault is None:
        raise KeyProblem(f"account '{name}' has its key in the vault, which is not open here")
    return vault.secrets(section.key_vault, name, clock)


def _credentials(section: AccountSection, environ: Mapping[str, str], sealed: Mapping[str, Secret]) -> Credentials:
    if sealed:
        return Credentials(sealed["key"], sealed["secret"])
    return read_credentials(environ, section.key_env, section.secret_env)


def real_venue(account: AccountParts) -> RealVenue:
    venue = account.venue
    assert hasattr(venue, "look_over"), f"{account.name} is no account at a real venue"
    return venue  # type: ignore[return-value]
