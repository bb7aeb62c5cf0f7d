"""The config file: TOML to frozen Structs, with every mistake named at once by file, line, key and nearest known key.

No secret ever stands in it: a key that looks like one is refused. Paths are relative to the folder the engine is
started in. What is left out takes the defaults below, so that an empty file, or none, is a paper account on a
synthetic market.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path
from re import fullmatch, search
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields, replace

from engine.core.bounds import Bounds, beyond
from engine.core.limits import faults
from engine.core.messages import Limits
from engine.runtime.toml_lines import KeyPath
from engine.runtime.toml_reading import Between, did_you_mean, dotted, listed, nearest, read, shown, table_name
from engine.runtime.toml_reading import ConfigError as ConfigError

Rate = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]
Leverage = Annotated[Decimal, Between(Decimal(1), Decimal(125))]
Fee = Annotated[Decimal, Between(Decimal("-0.1"), Decimal("0.1"))]
Amount = Annotated[Decimal, Between(Decimal(0), Decimal(10**17))]
Port = Annotated[int, Meta(ge=0, le=65535)]  # 0: any free one
Sasl = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
ROLES = ("read", "trade", "limits", "stop")  # of a token of the API (engine/web/roles.py)
VAULT_PASSPHRASE = "SUREFIRE_VAULT_PASSPHRASE"
KEY_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"  # of a key in the vault
REAL = ("bybit", "binance", "ccxt")  # venues across a network, with keys


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields only."""


class EngineSection(Section, frozen=True):
    name: str = "surefire"
    env: Literal["paper", "testnet", "live"] = "paper"  # goes into every client order id
    data_dir: str = "var"


class JournalSection(Section, frozen=True):
    durability: Literal["power", "process"] = "power"  # survives power loss (fsync), or only the process's death
    path: str = ""  # SQLite: default journal.sqlite in data_dir
    url: str = ""  # PostgreSQL: postgresql://user@host:port/database, without the password
    schema: str = "surefire"  # PostgreSQL: one for each journal on a server; made at the first start
    password_env: str = ""  # PostgreSQL: the variable that holds the password; default: libpq's own, PGPASSWORD
    lease_seconds: Annotated[float, Meta(ge=1, le=3600)] = 10.0  # PostgreSQL: a silent engine keeps its accounts for it
    away_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0  # PostgreSQL: a server away for longer is a failure
    standby: bool = False  # PostgreSQL: another engine may take over; then a start waits, and a lease's end is strict


class ApiTokenSection(Section, frozen=True):
    """One who may ask the API; as soon as there is one, whoever asks needs one."""

    name: str
    roles: tuple[Literal["read", "trade", "limits", "stop"], ...]
    env: str  # the environment variable that holds the token


class VaultSection(Section, frozen=True):
    """Where keys rest encrypted, for accounts and webhooks with `key_vault`."""

    path: str = ""  # default: vault in data_dir
    passphrase_env: str = VAULT_PASSPHRASE  # the variable that holds the passphrase; not set: it is asked for
    key_env: str = ""  # in its place: the variable that holds a key of 32 bytes, in hex or base64


class ApiSection(Section, frozen=True):
    enabled: bool = True
    host: str = "127.0.0.1"  # another than a loopback address wants tokens and TLS, or `insecure`
    port: Port = 8002
    hosts: tuple[str, ...] = ()  # names under which it may be called, besides loopback's and `host`
    tokens: tuple[ApiTokenSection, ...] = ()
    tls_cert: str = ""  # file with the certificate and its chain, PEM
    tls_key: str = ""  # file with its key, PEM, without a passphrase
    insecure: bool = False  # another address without tokens or TLS: whoever reaches it may trade, or read a token
    # Of one client (a token, or an address); default: 500, and no limit on loopback without tokens.
    requests_per_second: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None  # 0: no limit
    connections_max: Annotated[int, Meta(ge=4, le=100_000)] = 512  # and 32 on which only a stop is answered


class LogSection(Section, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    file: str = ""  # default: standard error


class BreakersSection(Section, frozen=True):
    """The engine's own breakers (engine/core/breakers.py): each halts entries for a while, longer when it repeats."""

    rejects_symbol_max: Annotated[int, Meta(ge=1)] = 5  # entries of a symbol rejected for one class of reason
    rejects_account_max: Annotated[int, Meta(ge=1)] = 15  # ... of an account
    rejects_window_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 60
    rejects_pause_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 60
    loop_stall_ms: Annotated[int, Meta(ge=100)] = 1_000  # from when on an event loop that does not run is a stall
    commit_stall_ms: Annotated[int, Meta(ge=100)] = 2_000  # ... a commit of the journal
    stall_pause_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 10


class EssSection(Section, frozen=True):
    """A risk service outside, which may stop entries (SPEC RSK8). Asked in the background; an order waits for nothing.

    Only stops and reductions pass while it says one of `blocks`. A word that is in neither list is no answer.
    """

    url: str = ""  # such as http://127.0.0.1:8010/api/risk/ess/status; "": there is none
    on_timeout: Literal["", "allow", "block"] = ""  # what its silence means for entries; has to be said
    every_seconds: Annotated[float, Meta(ge=0.1, le=60)] = 1.0  # between two questions
    timeout_seconds: Annotated[float, Meta(ge=0.05, le=30)] = 0.5  # for an answer
    stale_seconds: Annotated[float, Meta(ge=0.2, le=3600)] = 5.0  # for so long an answer is good
    blocks: tuple[str, ...] = ("CRITICAL", "EMERGENCY", "TRIPPED", "HALT", "HALTED", "STOP")
    passes: tuple[str, ...] = ("NORMAL", "OK", "CLEAR", "GREEN", "NONE", "LOW", "MEDIUM", "ELEVATED", "WARNING", "HIGH")
    field: str = ""  # the path of its word, such as "data.level"; default: level, status and the like are looked for
    token_env: str = ""  # the variable that holds a bearer token, if it wants one
    ca_file: str = ""  # who signs its certificate; default: the system's list


class MarketSection(Section, frozen=True):
    kind: Literal["synthetic", "recorded", "binance", "bybit", "link"] = "synthetic"
    tape: str = ""  # recorded: the file
    seed: Annotated[int, Meta(ge=0)] = 1  # synthetic
    symbols: tuple[str, ...] = ()  # empty: all that the tape has
    speed: Amount = Decimal(1)  # times real time; 0: as fast as the engine follows
    host: str = "127.0.0.1"  # link
    port: Port = 0  # link


class FaultsSection(Section, frozen=True):
    """How often the paper venue misbehaves, each a share of requests; named as in `engine/venues/paper.py`."""

    lost_request: Rate = 0.0  # never arrives; the caller hears nothing
    lost_reply: Rate = 0.0  # is carried out; the caller hears nothing
    rate_limited: Rate = 0.0
    unavailable: Rate = 0.0  # refused, surely without effect
    reject: Rate = 0.0
    query_fails: Rate = 0.0
    slow: Rate = 0.0  # held up for slow_ms
    slow_ms: Milliseconds = 6_000.0


class PaperSection(Section, frozen=True):
    """The paper venue's terms for one account; latencies are one way, drawn between the two, in milliseconds."""

    kind: Literal["linear", "spot"] = "linear"
    balances: dict[str, Amount] = msgspec.field(default_factory=lambda: {"USDT": Decimal(10_000)})
    leverage: Leverage = Decimal(2)
    maker_fee: Fee | None = None  # fraction of notional; default: the instrument's
    taker_fee: Fee | None = None
    fee_in: str = "received"  # "received": spot buys pay in base; "quote": always quote; else an asset, while it lasts
    fee_asset_price: Amount = Decimal(0)  # quote per unit of that asset
    latency_ms: tuple[Milliseconds, Milliseconds] = (1.0, 3.0)
    stream_latency_ms: tuple[Milliseconds, Milliseconds] = (1.0, 3.0)
    visible_ms: tuple[Milliseconds, Milliseconds] = (0.0, 0.0)  # until an accepted order shows in queries
    timeout_ms: Milliseconds = 3_000.0  # how long we wait for an answer
    seed: Annotated[int, Meta(ge=0)] = 1
    faults: FaultsSection = FaultsSection()


class AccountSection(Section, frozen=True):
    limits: Limits  # no default: an account without limits does not trade
    bounds: Bounds | None = None  # the loosest that they may be made while the engine runs; named like the limits
    venue: Literal["paper", "link", "bybit", "binance", "ccxt"] = "paper"
    host: str = "127.0.0.1"  # link; a real venue: mainnet, testnet, demo, or a URL (a local exchange, a regional site)
    port: Port = 0  # link
    exchange: str = ""  # ccxt: its name there, such as "kraken"
    category: Literal["linear", "spot"] = "linear"  # a real venue
    key_vault: str = ""  # a real venue: the name of its key in the vault, in place of the next four
    key_env: str = ""  # a real venue: the environment variable that holds the API key
    secret_env: str = ""  # ... and the one that holds its secret, or a private key in PEM (RSA, Ed25519)
    password_env: str = ""  # ccxt: likewise, where the exchange wants a password (a passphrase) beside the key
    uid_env: str = ""  # ccxt: likewise a user id
    poll_seconds: Annotated[float, Meta(ge=0.5, le=60)] = 2.0  # ccxt: between questions for private events
    allow_withdrawal_keys: bool = False  # else a key that may withdraw is refused
    order_socket: bool = True  # orders by the venue's WebSocket while it stands, by REST when not
    disconnect_cancel_seconds: Annotated[int, Meta(ge=0, le=300)] = 0  # the venue cancels when we are gone; 0: off
    leverage: Annotated[int, Meta(ge=0, le=125)] = 0  # a real venue's linear: set at the start; 0: left as it is
    margin: Literal["", "isolated", "crossed"] = ""  # binance linear: likewise
    orders_per_second: Annotated[int, Meta(ge=1, le=10_000)] = 10  # the venue's limit on requests, kept on our side
    # bybit: of what it allows one address, our part, where accounts or engines share one; Binance says what was used.
    address_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    paper: PaperSection = PaperSection()


class RehearsalSection(Section, frozen=True):
    """Trade by a real venue's protocol at a local exchange that is started beside the engine.

    With `venue` every account trades there, whatever its own table says, and the market is what the exchange plays.
    """

    venue: Literal["", "bybit", "binance-spot", "binance-usdm"] = ""
    faults: bool = False  # demo: answers are lost, streams dropped, messages swapped, and so on, while it trades


class ShardSection(Section, frozen=True):
    """Accounts that one engine owns at a time, of several that share a PostgreSQL server (actors/shards.py)."""

    name: str
    accounts: tuple[str, ...]
    prefer: tuple[str, ...] = ()  # names of engines, the best first; default: spread evenly


class SourceSection(Section, frozen=True):
    kind: Literal["ndjson", "stdin", "http", "redis", "kafka", "webhook"]
    path: str = ""  # ndjson
    follow: bool = False  # ndjson: wait for more lines at the end
    server: str = (
        ""  # redis: redis://USER@HOST:PORT/DB, rediss:// with TLS, or unix:///path; kafka: HOST:PORT,HOST:PORT
    )
    password_env: str = ""  # redis, kafka: the environment variable that holds the password
    username: str = ""  # kafka
    sasl: Sasl = ""  # kafka: how the password is given
    tls: bool = False  # kafka
    ca_file: str = ""  # with TLS: who signs the server's certificate; default: the system's list
    topics: tuple[str, ...] = ()  # kafka
    streams: tuple[str, ...] = ()  # redis
    group: str = "surefire"  # redis, kafka
    consumer: str = ""  # redis: default: the engine's name
    reclaim_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 60  # redis: what another consumer left that long ago
    session_seconds: Annotated[int, Meta(ge=1, le=300)] = 10  # kafka: a killed engine's partitions wait so long for it
    dead_letters: str = ""  # redis, kafka: stream or topic for what could not be read; default: none, only the file
    secret_env: tuple[str, ...] = ()  # webhook: the variables that hold its secrets; any of them will do
    key_vault: tuple[str, ...] = ()  # webhook: likewise, names of those in the vault
    tolerance_seconds: Annotated[int, Meta(ge=1, le=300)] = 60  # webhook: between a delivery's timestamp and our clock
    unsigned: bool = False  # webhook: for a sender that cannot sign: the secret in the body, which needs the next two
    addresses: tuple[str, ...] = ()  # webhook: networks it may come from, such as "203.0.113.7" or "203.0.113.0/24"
    symbols: tuple[str, ...] = ()  # webhook: only these may be traded by it; default: all
    secret_field: str = "secret"  # webhook, unsigned: where the body has the secret
    proxies: tuple[str, ...] = ()  # webhook: whose X-Forwarded-For is believed
    dialect: str = ""  # default: told by each body's fields
    name: str = ""  # default: the kind
    controls: bool = False  # whether its ess.cleared, policy.updated and model.promoted are obeyed


class SinkSection(Section, frozen=True):
    kind: Literal["ndjson", "redis", "kafka", "webhook"]
    path: str = ""  # ndjson; default: events.ndjson in data_dir
    server: str = ""  # redis, kafka: as a source's, and so are the next five
    password_env: str = ""
    username: str = ""
    sasl: Sasl = ""
    tls: bool = False
    ca_file: str = ""
    events: tuple[str, ...] = ()  # redis, kafka, webhook: only these; default: all
    url: str = ""  # webhook: where events are posted
    url_env: str = ""  # webhook: in its place the variable that holds it, where the address itself is a secret
    secret_env: tuple[str, ...] = ()  # webhook: the variables that hold what events are signed with, each by all
    key_vault: tuple[str, ...] = ()  # webhook: likewise, names of those in the vault
    timeout_seconds: Annotated[float, Meta(ge=0.1, le=60)] = 10.0  # webhook: for one event
    refused: Literal["hold", "drop"] = "hold"  # webhook, kafka: an event that is refused is tried again, or let go
    topic: str = ""  # kafka: one for all events; default: each event has the topic of its name
    stream: str = ""  # redis: one for all events; default: each event has the stream of its name
    keep: Annotated[int, Meta(ge=1)] = 100_000  # redis: about so many entries stay in a stream
    mirror: str = ""  # redis: hashes MIRROR:ACCOUNT:SYMBOL show what is open; default: none
    name: str = ""  # default: the kind


class Config(Section, frozen=True):
    """The whole file. As given out by `load` and `default_config`, all paths and names are filled in."""

    engine: EngineSection = EngineSection()
    journal: JournalSection = JournalSection()
    api: ApiSection = ApiSection()
    log: LogSection = LogSection()
    vault: VaultSection = VaultSection()
    breakers: BreakersSection = BreakersSection()
    ess: EssSection = EssSection()
    market: MarketSection = MarketSection()
    rehearsal: RehearsalSection = RehearsalSection()
    accounts: dict[str, AccountSection] = msgspec.field(
        default_factory=lambda: {"main": AccountSection(limits=Limits())}
    )
    shards: tuple[ShardSection, ...] = ()  # none: one engine owns all accounts, by one journal
    sources: tuple[SourceSection, ...] = (SourceSection(kind="http"),)
    sinks: tuple[SinkSection, ...] = (SinkSection(kind="ndjson"),)


_VARIABLE = r"[A-Z_][A-Z0-9_]{0,99}"
_NEEDED: dict[type, str] = {
    Limits: "an account without limits does not trade (an empty table takes the defaults)",
}


def default_config(data_dir: str | None = None, port: int | None = None) -> Config:
    """One paper account "main" with default limits, a synthetic market, SQLite and events.ndjson under ./var."""
    return _settle(Config(), data_dir, port)


def load(path: Path, data_dir: str | None = None, port: int | None = None) -> Config:
    """Read a file; `data_dir` and `port` from the command line win. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        raise ConfigError((f"{path}: is not UTF-8 text (byte {error.start})",)) from error
    return parse(text, str(path), data_dir, port)


def parse(text: str, name: str, data_dir: str | None = None, port: int | None = None) -> Config:
    """`load` for a text in hand; `name` is the file's name in messages."""
    return _settle(read(text, name, Config, _conflicts, _NEEDED), data_dir, port)


def of_shard(config: Config, shard: ShardSection) -> Config:
    """The config of the engine that owns just this shard: its accounts, a journal of its own, a file of events."""
    return replace(
        config,
        journal=replace(config.journal, schema=shard_schema(config, shard.name), standby=True),
        accounts={name: config.accounts[name] for name in shard.accounts},
        sinks=tuple(replace(sink, path=_own_path(sink.path, shard.name)) for sink in config.sinks),
        shards=(),
    )


def shard_schema(config: Config, shard: str) -> str:
    return f"{config.journal.schema}_{shard}"


def _own_path(path: str, shard: str) -> str:
    at = Path(path)
    return str(at.with_stem(f"{at.stem}-{shard}")) if path else ""


def config_hash(config: Config) -> str:
    """Names a configuration in the journal; a function of its values, not of the file's layout."""
    return sha256(msgspec.json.encode(config, order="deterministic")).hexdigest()[:16]


def _settle(config: Config, data_dir: str | None, port: int | None) -> Config:
    engine = config.engine if data_dir is None else replace(config.engine, data_dir=data_dir)
    folder = Path(engine.data_dir)
    return replace(
        config,
        engine=engine,
        journal=replace(config.journal, path=config.journal.path or str(folder / "journal.sqlite")),
        vault=replace(config.vault, path=config.vault.path or str(folder / "vault")),
        api=config.api if port is None else replace(config.api, port=port),
        sources=tuple(replace(source, name=source.name or source.kind) for source in config.sources),
        sinks=tuple(
            replace(
                sink,
                name=sink.name or sink.kind,
                path=sink.path or (str(folder / "events.ndjson") if sink.kind == "ndjson" else ""),
            )
            for sink in config.sinks
        ),
    )


def _conflicts(config: Config) -> Iterator[tuple[KeyPath, str]]:
    market = config.market
    if market.kind == "recorded" and not market.tape:
        yield ("market",), "[market] of kind 'recorded' needs 'tape', the file to replay"
    if market.tape and market.kind != "recorded":
        yield ("market", "tape"), f"market.tape means nothing with kind '{market.kind}', only with 'recorded'"
    if market.kind in ("binance", "bybit") and not market.symbols:
        yield ("market",), f"[market] of kind '{market.kind}' needs 'symbols', those to listen to"
    if market.kind == "link" and not market.port:
        yield ("market",), "[market] of kind 'link' needs 'port', where the paper venue listens"
    if market.kind == "synthetic" and not market.speed:
        yield ("market", "speed"), "a synthetic market has no end, and cannot be played with speed 0"
    if config.rehearsal.venue and market.kind not in ("synthetic", "recorded"):
        text = f"a rehearsal's exchange plays a market that is synthetic or recorded, not '{market.kind}'"
        yield ("rehearsal", "venue"), text
    yield from _journal_conflicts(config.journal)
    yield from _api_conflicts(config.api)
    for key in ("passphrase_env", "key_env"):
        named = getattr(config.vault, key)
        if (named or (not config.vault.key_env and key != "key_env")) and not fullmatch(_VARIABLE, named):
            yield ("vault", key), f"vault.{key} must be the name of an environment variable, in capitals"
    yield from _ess_conflicts(config.ess)
    if not config.accounts:
        yield ("accounts",), "[accounts] is empty: there is nothing to trade with"
    for name, account in config.accounts.items():
        yield from _account_conflicts(name, account)
        if account.venue in ("binance", "ccxt") and not (account.limits.symbols or market.symbols):
            table, venue = table_name(("accounts", name, "limits")), account.venue.capitalize()
            yield ("accounts", name), f"{table} needs 'symbols': {venue} tells executions only by symbol"
    yield from _shard_conflicts(config)
    for place, source in enumerate(config.sources):
        yield from _edge_conflicts("sources", place, source)
    for place, sink in enumerate(config.sinks):
        yield from _edge_conflicts("sinks", place, sink)
    for kind in ("http", "webhook"):
        if any(source.kind == kind for source in config.sources) and not config.api.enabled:
            yield ("api", "enabled"), f"the source '{kind}' is a part of the API, which is not enabled"
    yield from _repeated("sources", tuple(source.name or source.kind for source in config.sources))
    yield from _shared_secrets(config.sources)
    yield from _sink_conflicts(tuple(config.sinks))


def _sink_conflicts(sinks: tuple[SinkSection, ...]) -> Iterator[tuple[KeyPath, str]]:
    """What a sink has got is remembered under its name; events of two in one file would be one."""
    names = tuple(sink.name or sink.kind for sink in sinks)
    yield from _repeated("sinks", names)
    for place, name in enumerate(names):
        if name in _OWN_SINKS:
            yield (
                ("sinks", place),
                f"[[sinks]] number {place + 1} is called '{name}', as the API's own events are",
            )
    yield from _repeated("sinks", tuple(sink.path or f" {place}" for place, sink in enumerate(sinks)))


_OWN_SINKS = ("stream",)

_EDGE_KEYS = {  # kind of source or sink -> the keys that are its own, and those of them that it needs
    "ndjson": (("path", "follow"), ("path",)),
    "redis": (
        (
            *("server", "password_env", "ca_file", "streams", "group", "consumer", "reclaim_seconds", "dead_letters"),
            *("events", "stream", "keep", "mirror"),
        ),
        ("server", "streams"),
    ),
    "kafka": (
        (
            *("server", "password_env", "username", "sasl", "tls", "ca_file", "topics", "group", "session_seconds"),
            *("dead_letters", "events", "topic", "refused"),
        ),
        ("server", "topics"),
    ),
    "webhook": (
        (
            *("secret_env", "tolerance_seconds", "unsigned", "addresses", "symbols", "secret_field", "proxies"),
            *("url", "url_env", "ca_file", "events", "timeout_seconds", "refused", "key_vault"),
        ),
        (),
    ),
}


def _edge_conflicts(section: str, place: int, edge: SourceSection | SinkSection) -> Iterator[tuple[KeyPath, str]]:
    name = f"[[{section}]] number {place + 1}"
    own, needed = _EDGE_KEYS.get(edge.kind, ((), ()))
    for field in fields(edge):
        value = getattr(edge, field.name)
        if value != field.default and field.name not in ("kind", "name", "dialect", "controls", *own):
            yield (section, place, field.name), f"{name} of kind '{edge.kind}' takes no '{field.name}'"
        if field.name in needed and not value and not (section == "sinks" and field.name == "path"):
            yield (section, place), f"{name} of kind '{edge.kind}' needs '{field.name}'"
    if edge.sasl and not (edge.username and edge.password_env):
        yield (section, place, "sasl"), f"{name} with 'sasl' needs 'username' and 'password_env'"
    if edge.kind == "webhook":
        for variable in edge.secret_env:
            if not fullmatch(_VARIABLE, variable):  # what stands there may be the secret itself: do not show it
                text = "'secret_env' must be names of environment variables, in capitals"
                yield (section, place, "secret_env"), f"{name}: {text}"
        if not (edge.secret_env or edge.key_vault):
            yield (section, place), f"{name} of kind 'webhook' needs 'secret_env' or 'key_vault'"
        for key in edge.key_vault:
            if not fullmatch(KEY_NAME, key):
                yield (section, place, "key_vault"), f"{name}: 'key_vault' must be names as `keys list` shows them"
        look = _hook_conflicts if isinstance(edge, SourceSection) else _post_conflicts
        yield from look((section, place), name, edge)  # type: ignore[arg-type]
    if edge.kind == "redis" and edge.server:
        yield from _redis_conflicts((section, place, "server"), edge.server)


def _hook_conflicts(path: KeyPath, name: str, hook: SourceSection) -> Iterator[tuple[KeyPath, str]]:
    if not fullmatch(r"[A-Za-z0-9_-]{1,40}", hook.name or hook.kind):
        yield (*path, "name"), f"{name}: its name stands in an address: up to 40 letters, digits, _ and -"
    for key in ("addresses", "proxies"):
        for text in getattr(hook, key):
            if not is_network(text):
                yield (
                    (*path, key),
                    f"{name}: '{key}' must be networks such as 203.0.113.0/24, but {shown(text)} is none",
                )
    if not hook.unsigned:
        if hook.secret_field != "secret":
            yield (*path, "secret_field"), f"{name}: 'secret_field' means something only with unsigned = true"
        return
    for key in ("addresses", "symbols"):
        if not getattr(hook, key):
            yield path, f"{name} with unsigned = true needs '{key}': its secret can be read on the way"
    if hook.controls:
        yield (*path, "controls"), f"{name}: what is not signed may not steer the engine: no 'controls'"
    if hook.tolerance_seconds != SourceSection(kind="webhook").tolerance_seconds:
        yield (*path, "tolerance_seconds"), f"{name}: without a signature there is no timestamp, and no tolerance"


def _shared_secrets(sources: Sequence[SourceSection]) -> Iterator[tuple[KeyPath, str]]:
    """A signature does not say for which hook it was made: what one has taken, another would take once more."""
    taken: dict[str, int] = {}
    for place, source in enumerate(sources):
        for variable in source.secret_env if source.kind == "webhook" else ():
            first = taken.setdefault(variable, place)
            if first != place and fullmatch(_VARIABLE, variable):
                text = f"has a secret of number {first + 1}: a delivery to one could be repeated to the other"
                yield ("sources", place, "secret_env"), f"[[sources]] number {place + 1} {text}"


def _ess_conflicts(ess: EssSection) -> Iterator[tuple[KeyPath, str]]:
    if not ess.url:
        if ess != EssSection():
            yield ("ess",), "[ess] needs 'url', where the risk service is asked"
        return
    why = unfit_url(ess.url, anywhere=True)
    if why:
        yield ("ess", "url"), f"ess.url {why}"
    if not ess.on_timeout:
        yield ("ess",), "[ess] needs 'on_timeout': what it means for entries when there is no answer, allow or block"
    if ess.stale_seconds < ess.every_seconds + ess.timeout_seconds:
        yield ("ess", "stale_seconds"), "ess.stale_seconds must be at least every_seconds and timeout_seconds together"
    if not ess.blocks:
        yield ("ess", "blocks"), "ess.blocks must name at least one word that stops entries"
    both = tuple(word for word in ess.blocks if word.upper() in (other.upper() for other in ess.passes))
    if both:
        yield ("ess", "passes"), f"ess.passes and ess.blocks both name {listed(both)}"
    if ess.token_env and not fullmatch(_VARIABLE, ess.token_env):  # it may be the token itself: do not show it
        yield ("ess", "token_env"), "ess.token_env must be the name of an environment variable, in capitals"


def _post_conflicts(path: KeyPath, name: str, sink: SinkSection) -> Iterator[tuple[KeyPath, str]]:
    if bool(sink.url) == bool(sink.url_env):
        yield path, f"{name} needs either 'url' or 'url_env', the variable that holds it"
    elif sink.url_env and not fullmatch(_VARIABLE, sink.url_env):  # it may be the address itself: do not show it
        yield (*path, "url_env"), f"{name}: 'url_env' must be the name of an environment variable, in capitals"
    elif sink.url and (why := unfit_url(sink.url)):
        yield (*path, "url"), f"{name}: 'url' {why}"


def unfit_url(url: str, anywhere: bool = False) -> str:
    """Why nothing can be asked or posted there; empty: it can. The answer holds nothing of the address.

    `anywhere`: also on another machine without TLS."""
    try:
        place = urlsplit(url)
        known = place.scheme in ("http", "https") and place.hostname and (place.port or 443)
    except ValueError:
        return "is no address"
    if place.username is not None or place.password is not None:
        return "holds a name or a password; secrets are never read from a file"
    if not known or not url.isascii() or not url.isprintable() or " " in url:
        return "must be https://HOST/PATH"
    if place.scheme == "http" and not anywhere and not is_loopback(place.hostname or ""):
        return "must be https:// where the host is not this machine"
    return ""


def is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _redis_conflicts(path: KeyPath, url: str) -> Iterator[tuple[KeyPath, str]]:
    name = dotted(path)
    try:
        place = urlsplit(url)
        known = place.scheme in ("redis", "rediss") and place.hostname and (place.port or 6379)
    except ValueError:
        return (yield path, f"{name} is no address of a server")
    if place.password is not None:  # not shown: it is out already, but need not be in a log, too
        yield path, f"{name} holds a password; secrets are never read from a file: name a variable in 'password_env'"
    elif not known and not (place.scheme == "unix" and place.path):
        yield path, f"{name} must be redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///path, but is {shown(url)}"
    elif place.scheme != "unix" and not fullmatch(r"(/\d{0,4})?", place.path):
        yield path, f"{name} ends in the number of a database, but here in {shown(place.path)}"


def _journal_conflicts(journal: JournalSection) -> Iterator[tuple[KeyPath, str]]:
    if not journal.url:
        plain = JournalSection()
        for key in ("schema", "password_env", "lease_seconds", "away_seconds", "standby"):
            if getattr(journal, key) != getattr(plain, key):
                yield ("journal", key), f"journal.{key} is for a journal on PostgreSQL: it needs journal.url"
        return
    try:
        parts = urlsplit(journal.url)
    except ValueError as error:
        yield ("journal", "url"), f"journal.url is no address: {error}"
        return
    if parts.scheme not in ("postgresql", "postgres"):
        yield (
            ("journal", "url"),
            "journal.url must begin with postgresql://, as in postgresql://user@host:5432/database",
        )
    if parts.password is not None or search(r"(?i)\b(ssl)?password=", parts.query):
        yield (
            ("journal", "url"),
            "journal.url has a password in it; secrets are never read from a file. Take it out, and name the"
            " environment variable that holds it in journal.password_env",
        )
    if journal.path:
        yield ("journal", "path"), "journal.path is SQLite's file; a journal with a url is on PostgreSQL"
    if not fullmatch(r"[a-z_][a-z0-9_]{0,31}", journal.schema):
        yield ("journal", "schema"), "journal.schema must be up to 32 small letters, digits and _"


def _shard_conflicts(config: Config) -> Iterator[tuple[KeyPath, str]]:
    if not config.shards:
        return
    if not config.journal.url:
        yield ("shards",), "[[shards]] are shared out by a journal on PostgreSQL: they need journal.url"
    if config.rehearsal.venue:
        yield ("rehearsal", "venue"), "a rehearsal is of one engine with its own exchange: it takes no [[shards]]"
    owned = [account for shard in config.shards for account in shard.accounts]
    for place, shard in enumerate(config.shards):
        path: KeyPath = ("shards", place)
        longest = 31 - len(config.journal.schema)
        if not fullmatch(r"[a-z0-9_]+", shard.name) or len(shard.name) > longest:
            yield (*path, "name"), f"{dotted((*path, 'name'))} must be up to {longest} small letters, digits and _"
        if not shard.accounts:
            yield (*path, "accounts"), f"{table_name(path)} has no accounts"
        for account in shard.accounts:
            if account not in config.accounts:
                yield (
                    (*path, "accounts"),
                    f"{table_name(path)} names '{account}', which is none of [accounts]"
                    f"{did_you_mean(nearest(account, tuple(config.accounts)))}",
                )
            elif owned.count(account) > 1:
                yield (*path, "accounts"), f"account '{account}' stands in more than one place of [[shards]]"
    for name, section in config.accounts.items():
        if name not in owned:
            yield ("accounts", name), f"account '{name}' is in none of the [[shards]]: nobody would trade it"
        if section.venue == "paper":
            yield (
                ("accounts", name, "venue"),
                f"[accounts.{name}] is on the paper venue, whose books are a file of one engine: another one that took"
                ' it over would find it empty. A paper venue of its own (run.py venue, venue = "link") serves several',
            )
    first_events = [first_event(shard.name) for shard in config.shards]
    for place, shard in enumerate(config.shards):
        if first_events[place] in first_events[:place]:
            text = f"[[shards]] number {place + 1}: '{shard.name}' would number its events like another; rename it"
            yield ("shards", place, "name"), text


def first_event(shard: str) -> int:
    """Where a shard's event ids begin: consumers drop repeats by them, whichever shard they are of.

    There are 2,047 beginnings with room for 2^41 events each; all fit into the 53 bits of a JSON number.
    """
    return (1 + int.from_bytes(sha256(shard.encode()).digest()[:4], "big") % 2047) << 41


def _api_conflicts(api: ApiSection) -> Iterator[tuple[KeyPath, str]]:
    if not is_loopback(api.host) and not api.insecure and not (api.tokens and api.tls_cert):
        lacking = [word for word, given in (("[[api.tokens]]", api.tokens), ("tls_cert", api.tls_cert)) if not given]
        text = f"api.host '{api.host}' is no loopback address such as 127.0.0.1: it needs {' and '.join(lacking)}"
        yield ("api", "host"), f"{text}, or insecure = true, if whoever reaches it may trade"
    if bool(api.tls_cert) != bool(api.tls_key):
        yield ("api",), "[api] needs both 'tls_cert' and 'tls_key', or neither"
    for place, token in enumerate(api.tokens):
        path: KeyPath = ("api", "tokens", place)
        if not fullmatch(r"[A-Za-z0-9_.-]{1,32}", token.name):
            yield (*path, "name"), f"{dotted((*path, 'name'))} must be up to 32 letters, digits, and _ . -"
        if not token.roles:
            yield (*path, "roles"), f"{dotted((*path, 'roles'))} must be some of {listed(ROLES)}"
        if not fullmatch(_VARIABLE, token.env):  # what stands there may be the token itself: do not show it
            yield (*path, "env"), f"{dotted((*path, 'env'))} must be the name of an environment variable, in capitals"
    yield from _repeated("api.tokens", tuple(token.name for token in api.tokens))


def _account_conflicts(name: str, account: AccountSection) -> Iterator[tuple[KeyPath, str]]:
    path: KeyPath = ("accounts", name)
    if not fullmatch(r"[A-Za-z0-9_.-]{1,32}", name):
        yield path, f"'{name}' is no account name: up to 32 letters, digits, and _ . -"
    if account.venue == "link" and not account.port:
        yield path, f"{table_name(path)} with venue 'link' needs 'port', where the paper venue listens"
    if account.venue in REAL:
        yield from _real_conflicts(path, account)
    for fault in beyond(account.limits, account.bounds):
        yield (*path, "limits", fault.field), f"{dotted((*path, 'limits', fault.field))} {fault.reason}"
    for fault in faults(account.limits):
        yield (*path, "limits", fault.field), f"{dotted((*path, 'limits', fault.field))} {fault.reason}"


def _real_conflicts(path: KeyPath, account: AccountSection) -> Iterator[tuple[KeyPath, str]]:
    table = table_name(path)
    if account.host == "127.0.0.1":
        yield path, f"{table} needs 'host': mainnet, testnet, demo, or the URL of a local exchange"
    more = (("password_env", account.password_env), ("uid_env", account.uid_env))
    for key, name in (("key_env", account.key_env), ("secret_env", account.secret_env), *more):
        if account.key_vault:
            if name:
                yield (*path, key), f"{table} has 'key_vault': then '{key}' means nothing"
        elif not name and key in ("key_env", "secret_env"):
            yield path, f"{table} needs '{key}', the name of an environment variable"
        elif name and not fullmatch(_VARIABLE, name):  # what stands there may be the key itself: do not show it
            yield (*path, key), f"{dotted((*path, key))} must be the name of an environment variable, in capitals"
    if account.key_vault and not fullmatch(KEY_NAME, account.key_vault):
        yield (*path, "key_vault"), f"{dotted((*path, 'key_vault'))} must be a key's name, as `keys list` shows it"
    if account.leverage and account.category != "linear":
        yield (*path, "leverage"), f"{dotted((*path, 'leverage'))} is only set on linear futures"
    if account.address_share != 1 and account.venue != "bybit":
        yield (*path, "address_share"), f"{dotted((*path, 'address_share'))} is Bybit's: others say what is used"
    if account.margin and (account.venue, account.category) != ("binance", "linear"):
        yield (*path, "margin"), f"{dotted((*path, 'margin'))} is only set on Binance's linear futures"
    yield from _ccxt_conflicts(path, account)
    if 0 < account.disconnect_cancel_seconds < 3:
        yield (*path, "disconnect_cancel_seconds"), "disconnect_cancel_seconds must be 0 (off) or 3 to 300"


def _ccxt_conflicts(path: KeyPath, account: AccountSection) -> Iterator[tuple[KeyPath, str]]:
    if account.venue == "ccxt":
        if not fullmatch(r"[a-z0-9]{2,40}", account.exchange):
            text = "needs 'exchange', ccxt's name of it in small letters, such as 'kraken'"
            yield (*path, "exchange"), f"{table_name(path)} with venue 'ccxt' {text}"
        if account.disconnect_cancel_seconds:
            yield (*path, "disconnect_cancel_seconds"), "ccxt has no disconnect-cancel: it must be 0"
        return
    for key in ("exchange", "password_env", "uid_env"):
        if getattr(account, key):
            yield (*path, key), f"{dotted((*path, key))} means nothing with venue '{account.venue}', only with 'ccxt'"


def _repeated(section: str, names: tuple[str, ...]) -> Iterator[tuple[KeyPath, str]]:
    for place, name in enumerate(names):
        if name in names[:place]:
            yield (
                (*section.split("."), place),
                f"[[{section}]] number {place + 1} is called '{name or 'the default'}' like another",
            )


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
