"""`check`: looks at config, clock, disk, journal, market and venues; trades nothing, changes nothing that stays."""

import os
from contextlib import closing
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import trio

from actors.hooks import hook_secrets, open_ess
from actors.real import examine, is_real, needs_vault, open_real, public_hosts, vault_of
from engine.core.allotment import Member
from engine.core.ess import Said, Unanswered, tripped
from engine.core.messages import Failed
from engine.market.recorded import BadTape, survey
from engine.runtime.clock import Clock
from engine.runtime.config import AccountSection, Config, EssSection, SourceSection, of_shard
from engine.runtime.journal.base import JournalFailed, NoJournal
from engine.runtime.journal.choice import address_of, name_of, reader_of
from engine.runtime.preflight import look_at_clock, look_at_disk
from engine.runtime.terminal import Finding
from engine.venues.admission import Inadmissible
from engine.venues.keys import KeyProblem
from engine.venues.link import LinkVenue
from engine.venues.vault import Vault, VaultProblem
from engine.web.terms import TermsProblem, terms_of

REACH_SECONDS = 3.0
REAL_SECONDS = 20.0  # for all that a real venue is asked
OFFSET_MS_MAX = 500.0  # a request is valid for 5 s; beyond this the clocks deserve a look
_HOSTS = {"binance": "stream.binance.com", "bybit": "stream.bybit.com"}


async def look_over(config: Config, config_name: str, clock: Clock) -> tuple[Finding, ...]:
    """Everything that can be seen from here, in the order in which a start would need it."""
    accounts = ", ".join(config.accounts)
    found = [Finding("config", True, f"{config_name}: env {config.engine.env}, accounts {accounts}")]
    found.append(await look_at_clock(clock))
    found.append(look_at_disk(Path(config.engine.data_dir), clock))
    found.append(_look_at_api(config))
    if config.ess.url:
        found.append(await _look_at_ess(config.ess))
    if config.shards:
        found += await _look_at_shards(config)
    else:
        found.append(_look_at_journal(config))
    found.append(await _look_at_market(config, clock))
    vault = None
    if needs_vault(config):
        vault, finding = _look_at_vault(config)
        found.append(finding)
    found += [_look_at_hook(source, clock, vault) for source in config.sources if source.kind == "webhook"]
    for name, account in config.accounts.items():
        if is_real(account):
            found += await _look_at_real(name, config, clock, vault)
        else:
            found.append(await _look_at_venue(name, account, clock))
    return tuple(found)


def _listened_to(config: Config) -> tuple[str, int]:
    """Raises Inadmissible."""
    market = config.market
    if market.kind == "link":
        return market.host, market.port
    parts = urlsplit(public_hosts(config)[0])
    if parts.hostname:
        return parts.hostname, parts.port or 443
    return _HOSTS[market.kind], 443


def _look_at_vault(config: Config) -> tuple[Vault | None, Finding]:
    """Whether it opens; what is in it for an account, that one's own look tells."""
    try:
        vault = vault_of(config, os.environ, "check")
    except VaultProblem as problem:
        return None, Finding("vault", False, str(problem))
    assert vault is not None
    return vault, Finding("vault", True, f"{vault.path} opens, {len(vault.entries)} key(s)")


async def _look_at_real(name: str, config: Config, clock: Clock, vault: Vault | None) -> list[Finding]:
    """Host, key, clock, account, mode, streams and limits, each in a sentence."""
    what, section = f"venue of {name}", config.accounts[name]
    try:
        account = open_real(name, config, clock, Random(1), os.environ, vault=vault)
    except (Inadmissible, KeyProblem) as problem:
        return [Finding(what, False, str(problem))]
    with trio.move_on_after(REAL_SECONDS):
        remarks = await examine(account, section)
        return [Finding(what, remark.ok, f"{remark.what}: {remark.text}") for remark in remarks]
    return [Finding(what, False, f"{section.host}: no answer in {REAL_SECONDS:g} s")]


def _look_at_api(config: Config) -> Finding:
    """Whether its tokens are there and its certificate is usable."""
    api = config.api
    if not api.enabled:
        return Finding("api", True, "off")
    try:
        terms = terms_of(api, os.environ)
    except TermsProblem as problem:
        return Finding("api", False, str(problem))
    names = ", ".join(token.name for token in terms.tokens)
    who = f"tokens: {names}" if names else "no tokens: whoever reaches it may ask for everything"
    return Finding("api", True, f"{api.host}, {'TLS' if api.tls_cert else 'no TLS'}, {who}")


async def _look_at_ess(section: EssSection) -> Finding:
    """What the risk service says now. That it is silent is no fault of the config."""
    silence = f"when it does not answer: {section.on_timeout}"
    try:
        _, service = open_ess(section, os.environ)
    except (KeyProblem, OSError) as problem:
        return Finding("ess", False, str(problem))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.live)
        answer = await service.ask()
        nursery.cancel_scope.cancel()
    match answer:
        case Said() as said:
            return Finding("ess", True, f"{tripped(said)}; {silence}")
        case Unanswered() as no:
            return Finding("ess", False, f"the risk service cannot be asked: {no.why}; {silence}")


def _look_at_hook(section: SourceSection, clock: Clock, vault: Vault | None) -> Finding:
    """Whether its secrets are there, and what it lets in."""
    what = f"hook {section.name}"
    try:
        keys = hook_secrets(section, clock, os.environ, vault)
    except KeyProblem as problem:
        return Finding(what, False, str(problem))
    if section.unsigned:
        text = f"INSECURE: not signed; from {', '.join(section.addresses)}, for {', '.join(section.symbols)}"
        return Finding(what, True, text)
    return Finding(what, True, f"signed, {len(keys)} secret(s), {section.tolerance_seconds} s of tolerance")


async def _look_at_shards(config: Config) -> list[Finding]:
    """Each shard's journal and who holds it, and how many of them this engine would ask for."""
    try:
        members, trouble = await _alive(config), ""
    except JournalFailed as error:
        members, trouble = (), str(error)
    count, name = len(config.shards), config.engine.name
    others = len([member for member in members if member.name != name])
    words = trouble or f"alive: {', '.join(member.name for member in members) or 'none'}"
    share = f"this engine, '{name}', would hold {-(-count // (others + 1))} of {count} shards, or as they prefer"
    found = [Finding("engines", not trouble, f"{words}; {share}")]
    for section in config.shards:
        told = _look_at_journal(of_shard(config, section))
        holder = next((member.name for member in members if section.name in member.holding), "")
        held = f"held by engine '{holder}'" if holder else "nobody holds it"
        wanted = f", preferred by {', '.join(section.prefer)}" if section.prefer else ""
        who = f"shard {section.name} ({', '.join(section.accounts)}): {held}{wanted}"
        found.append(Finding("shard", told.ok, f"{who}; {told.detail}"))
    return found


async def _alive(config: Config) -> tuple[Member, ...]:
    """Raises JournalFailed."""
    from engine.runtime.journal.common import Away, Line, alive  # with it comes PostgreSQL's client

    line = Line(address_of(config.journal, os.environ), "check", config.journal.durability)
    try:
        return await alive(line)
    except Away as error:
        raise JournalFailed(str(error)) from error
    finally:
        line.close()


def _look_at_journal(config: Config) -> Finding:
    """Whether what is committed can be read, and what stands at its end."""
    name = name_of(config.journal)
    if not config.journal.url and not Path(config.journal.path).exists():
        return Finding("journal", True, f"{name}: none yet, the first start makes it")
    try:
        with closing(reader_of(config, os.environ)) as reader:
            signals, halts = reader.signals(1), reader.halts()
            live, waiting = reader.orders(None, None, True, 100_000), reader.waiting()
    except NoJournal:
        return Finding("journal", True, f"{name}: none yet, the first start makes it")
    except JournalFailed as error:
        return Finding("journal", False, str(error))
    last = f"last signal {signals[0].signal.signal_id}" if signals else "no signal yet"
    words = f"{name}: {last}, {len(live)} live order(s), {len(halts)} halt(s) in force"
    behind = ", ".join(f"{events} for {sink or 'all sinks'}" for sink, events in waiting.items() if events)
    return Finding("journal", True, words + (f"; events wait: {behind}" if behind else ""))


async def _look_at_market(config: Config, clock: Clock) -> Finding:
    """Whether the tape can be read, or the market's host be reached."""

    market = config.market
    if market.kind == "synthetic":
        return Finding("market", True, f"synthetic, seed {market.seed}")
    if market.kind == "recorded":
        try:
            symbols = ", ".join(i.symbol for i in survey(market.tape).instruments)
        except (BadTape, OSError) as error:
            return Finding("market", False, f"{market.tape}: {error}")
        return Finding("market", True, f"{market.tape}: {symbols}")
    try:
        host, port = _listened_to(config)
    except Inadmissible as problem:
        return Finding("market", False, str(problem))
    try:
        with trio.fail_after(REACH_SECONDS):
            await (await trio.open_tcp_stream(host, port)).aclose()
    except (OSError, trio.TooSlowError) as error:
        return Finding("market", False, f"{host}:{port} cannot be reached: {error or 'no answer'}")
    return Finding("market", True, f"{host}:{port} can be reached")


async def _look_at_venue(name: str, account: AccountSection, clock: Clock) -> Finding:
    """Whether the account's venue answers, and how far its clock is from ours."""

    what = f"venue of {name}"
    if account.venue == "paper":
        return Finding(what, True, f"paper ({account.paper.kind}), in this process")
    venue = LinkVenue(account.host, account.port, clock)
    where = f"{account.host}:{account.port}"
    with closing(venue), trio.move_on_after(REACH_SECONDS):
        asked = clock.now_ns()
        told = await venue.server_time_ns()
        if isinstance(told, Failed):
            return Finding(what, False, f"{where}: {told.why}")
        offset = (told - (asked + clock.now_ns()) // 2) / 1e6
        return Finding(what, abs(offset) < OFFSET_MS_MAX, f"{where}: answers, its clock is {offset:+.1f} ms from ours")
    return Finding(what, False, f"{where}: no answer in {REACH_SECONDS} s")
