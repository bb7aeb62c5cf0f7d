"""The config file: what a person gets wrong, and what he is told."""

from decimal import Decimal
from pathlib import Path

import pytest

from engine.core.messages import Limits
from engine.runtime.config import Config, ConfigError, config_hash, default_config, first_event, load, of_shard, parse

ACCOUNT = "[accounts.main.limits]\n"


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "surefire.toml")
    return caught.value.problems


def test_no_file_is_one_paper_account_on_a_synthetic_market_under_var():
    config = default_config()
    assert tuple(config.accounts) == ("main",)
    assert config.accounts["main"].venue == "paper"
    assert config.accounts["main"].limits == Limits()
    assert config.accounts["main"].paper.balances == {"USDT": Decimal(10_000)}
    assert config.market.kind == "synthetic"
    assert config.journal.path == "var/journal.sqlite"
    assert config.journal.durability == "power"
    assert [sink.path for sink in config.sinks] == ["var/events.ndjson"]
    assert [source.kind for source in config.sources] == ["http"]
    assert (config.api.host, config.api.port) == ("127.0.0.1", 8002)


def test_an_empty_file_is_the_same_as_none():
    assert parse("", "surefire.toml") == default_config()


def test_the_command_line_wins_over_the_file():
    config = parse('[engine]\ndata_dir = "a"\n[api]\nport = 1\n', "surefire.toml", data_dir="b", port=2)
    assert (config.engine.data_dir, config.api.port) == ("b", 2)
    assert config.journal.path == "b/journal.sqlite"
    assert config.sinks[0].path == "b/events.ndjson"


def test_money_is_exact_whether_written_as_text_or_number():
    text = '[accounts.main.paper.balances]\nUSDT = "10000.10"\nBTC = 0.1\nETH = 3\n' + ACCOUNT + "exposure_max = 0.3"
    account = parse(text, "surefire.toml").accounts["main"]
    assert account.paper.balances == {"USDT": Decimal("10000.10"), "BTC": Decimal("0.1"), "ETH": Decimal(3)}
    assert account.limits.exposure_max == Decimal("0.3")


def test_an_unknown_key_is_told_with_its_line_and_the_nearest_known_one():
    assert problems('\n[journal]\n# how safe\ndurabilty = "power"\n') == (
        "surefire.toml, line 4: unknown key 'durabilty' in [journal]; did you mean 'durability'?",
    )


def test_an_unknown_section_is_told_with_the_nearest_known_one():
    assert problems('[jurnal]\ndurability = "power"\n') == (
        "surefire.toml, line 1: unknown section 'jurnal'; did you mean 'journal'?",
    )


def test_a_key_unlike_any_other_gets_no_suggestion():
    assert problems("[api]\nzzz = 1\n") == ("surefire.toml, line 2: unknown key 'zzz' in [api]",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[api]\nport = "8002"', "line 2: api.port must be a whole number, but is '8002'"),
        ("[api]\nport = 70000", "line 2: api.port must be a whole number <= 65535, but is 70000"),
        ("[api]\nenabled = 1", "line 2: api.enabled must be true or false, but is 1"),
        ("[engine]\nname = 5", "line 2: engine.name must be text in quotes, but is 5"),
        ("api = 5", "line 1: api must be a table, but is 5"),
        ("accounts = 5", "line 1: accounts must be a table, but is 5"),
        ('[sources]\nkind = "http"', "line 1: sources must be written as [[sources]], but is a table"),
        ("[[sources]]\nfollow = true", "line 1: [[sources]] number 1 needs 'kind'"),
        ('[market]\nsymbols = [\n  "BTCUSDT",\n  5,\n]', "line 2: market.symbols.2 must be text in quotes, but is 5"),
        ("[market]\nspeed = -1", "line 2: market.speed must be from 0 to 100000000000000000: -1"),
        ("[market]\nspeed = 0", "line 2: a synthetic market has no end, and cannot be played with speed 0"),
        (
            '[market]\nkind = "bybit"\nsymbols = ["BTCUSDT"]\n[rehearsal]\nvenue = "bybit"',
            "line 5: a rehearsal's exchange plays a market that is synthetic or recorded, not 'bybit'",
        ),
        (
            '[journal]\nurl = "mysql://a@b/c"',
            "line 2: journal.url must begin with postgresql://, as in postgresql://user@host:5432/database",
        ),
        ('[journal]\nurl = "postgresql://[a"', "line 2: journal.url is no address: Invalid IPv6 URL"),
        (
            '[journal]\npath = "x"\nurl = "postgresql://a@b/c"',
            "line 2: journal.path is SQLite's file; a journal with a url is on PostgreSQL",
        ),
        (
            '[journal]\nurl = "postgresql://a@b/c"\nschema = "Robert; --"',
            "line 3: journal.schema must be up to 32 small letters, digits and _",
        ),
        (
            "[journal]\nstandby = true",
            "line 2: journal.standby is for a journal on PostgreSQL: it needs journal.url",
        ),
        ("[journal]\nlease_seconds = 0.5", "line 2: journal.lease_seconds must be a number >= 1.0, but is 0.5"),
        ("[market]\nspeed = nan", "line 2: market.speed is not a finite number: NaN"),
        ("[market]\nspeed = true", "line 2: market.speed must be a number: true"),
        ('[market]\nspeed = "fast"', "line 2: market.speed must be a number: 'fast'"),
        (
            '[engine]\nenv = "papr"',
            "line 2: engine.env must be one of 'paper', 'testnet', 'live', but is 'papr'; did you mean 'paper'?",
        ),
        (
            ACCOUNT + "exposure_max = 1e400",
            "line 2: accounts.main.limits.exposure_max has more than 18 digits before the point: 1E+400",
        ),
        (ACCOUNT + "daily_loss_max = -1", "line 2: accounts.main.limits.daily_loss_max must not be negative"),
        (
            ACCOUNT + "drawdown_max = 10",
            "line 2: accounts.main.limits.drawdown_max is a fraction and must be at most 1",
        ),
        (
            ACCOUNT + 'loss_latch = "never"',
            "line 2: accounts.main.limits.loss_latch must be 'acknowledge' or 'day', but is 'never'",
        ),
        (
            ACCOUNT + "balance_share = 0.1",
            "line 2: accounts.main.limits.balance_share must be at most balance_share_max (0.05), but is 0.1",
        ),
        (
            '[accounts."a/b".limits]',
            "line 1: 'a/b' is no account name: up to 32 letters, digits, and _ . -",
        ),
        (
            '[accounts.main]\nvenue = "link"\n[accounts.main.limits]',
            "line 1: [accounts.main] with venue 'link' needs 'port', where the paper venue listens",
        ),
        (
            '[accounts.main]\nvenue = "bybit"\nhost = "demo"\nkey_env = "K"\n[accounts.main.limits]',
            "line 1: [accounts.main] needs 'secret_env', the name of an environment variable",
        ),
        (
            '[accounts.main]\nvenue = "bybit"\nhost = "demo"\nkey_vault = "d"\nkey_env = "K"\n[accounts.main.limits]',
            "line 5: [accounts.main] has 'key_vault': then 'key_env' means nothing",
        ),
        (
            '[accounts.main]\nvenue = "bybit"\nhost = "demo"\nkey_vault = "../desk"\n[accounts.main.limits]',
            "line 4: accounts.main.key_vault must be a key's name, as `keys list` shows it",
        ),
        (
            '[vault]\npassphrase_env = "correct horse"\n',
            "line 2: vault.passphrase_env must be the name of an environment variable, in capitals",
        ),
        (
            '[accounts.main]\nvenue = "bybit"\nkey_env = "K"\nsecret_env = "S"\n[accounts.main.limits]',
            "line 1: [accounts.main] needs 'host': mainnet, testnet, demo, or the URL of a local exchange",
        ),
        (
            '[accounts.main]\nvenue = "bybit"\nhost = "demo"\nkey_env = "xQ7fQbYa1bC"\nsecret_env = "S"\n'
            "[accounts.main.limits]",
            "line 4: accounts.main.key_env must be the name of an environment variable, in capitals",
        ),
        (
            '[accounts.main]\nvenue = "bybit"\nhost = "demo"\ncategory = "spot"\nkey_env = "K"\nsecret_env = "S"\n'
            "leverage = 2\n[accounts.main.limits]",
            "line 7: accounts.main.leverage is only set on linear futures",
        ),
        (
            "[accounts.main.paper]\nlatency_ms = [1]\n" + ACCOUNT,
            "line 2: accounts.main.paper.latency_ms must be a list of 2, but has 1",
        ),
        (
            "[accounts.main.paper]\nfaults.reject = 1.5\n" + ACCOUNT,
            "line 2: accounts.main.paper.faults.reject must be a number <= 1.0, but is 1.5",
        ),
        (
            "[accounts.main.paper]\nfaults.reject = nan\n" + ACCOUNT,
            "line 2: accounts.main.paper.faults.reject must be a number >= 0.0, but is nan",
        ),
        (
            "[accounts.main.paper]\nleverage = 500\n" + ACCOUNT,
            "line 2: accounts.main.paper.leverage must be from 1 to 125: 500",
        ),
        ("accounts = {}", "line 1: [accounts] is empty: there is nothing to trade with"),
        ('[market]\nkind = "recorded"', "line 1: [market] of kind 'recorded' needs 'tape', the file to replay"),
        ('[market]\ntape = "x"', "line 2: market.tape means nothing with kind 'synthetic', only with 'recorded'"),
        (
            '[accounts.main]\nvenue = "binance"\nhost = "demo"\nkey_env = "K"\nsecret_env = "S"\n'
            "[accounts.main.limits]",
            "line 1: [accounts.main.limits] needs 'symbols': Binance tells executions only by symbol",
        ),
        (
            '[accounts.main]\nvenue = "binance"\nhost = "demo"\ncategory = "spot"\nkey_env = "K"\nsecret_env = "S"\n'
            'margin = "isolated"\n[accounts.main.limits]\nsymbols = ["BTCUSDT"]',
            "line 7: accounts.main.margin is only set on Binance's linear futures",
        ),
        (
            '[accounts.main]\nvenue = "binance"\nhost = "demo"\ncategory = "spot"\nkey_env = "K"\nsecret_env = "S"\n'
            'address_share = 0.5\n[accounts.main.limits]\nsymbols = ["BTCUSDT"]',
            "line 7: accounts.main.address_share is Bybit's: others say what is used",
        ),
        (
            '[accounts.main]\nvenue = "ccxt"\nhost = "testnet"\nkey_env = "K"\nsecret_env = "S"\n'
            '[accounts.main.limits]\nsymbols = ["BTCUSDT"]',
            "line 1: [accounts.main] with venue 'ccxt' needs 'exchange', ccxt's name of it in small letters, such as "
            "'kraken'",
        ),
        (
            '[accounts.main]\nvenue = "ccxt"\nexchange = "okx"\nhost = "testnet"\nkey_env = "K"\nsecret_env = "S"\n'
            "[accounts.main.limits]",
            "line 1: [accounts.main.limits] needs 'symbols': Ccxt tells executions only by symbol",
        ),
        (
            '[accounts.main]\nvenue = "ccxt"\nexchange = "okx"\nhost = "testnet"\nkey_env = "K"\nsecret_env = "S"\n'
            'password_env = "hunter2!"\n[accounts.main.limits]\nsymbols = ["BTCUSDT"]',
            "line 7: accounts.main.password_env must be the name of an environment variable, in capitals",
        ),
        (
            '[accounts.main]\nvenue = "bybit"\nexchange = "okx"\nhost = "demo"\nkey_env = "K"\nsecret_env = "S"\n'
            "[accounts.main.limits]",
            "line 3: accounts.main.exchange means nothing with venue 'bybit', only with 'ccxt'",
        ),
        ('[market]\nkind = "bybit"', "line 1: [market] of kind 'bybit' needs 'symbols', those to listen to"),
        ('[market]\nkind = "link"', "line 1: [market] of kind 'link' needs 'port', where the paper venue listens"),
        (
            '[api]\nhost = "0.0.0.0"',
            "line 2: api.host '0.0.0.0' is no loopback address such as 127.0.0.1: it needs [[api.tokens]] and "
            "tls_cert, or insecure = true, if whoever reaches it may trade",
        ),
        (
            '[api]\nhost = "10.0.0.1"\n[[api.tokens]]\nname = "a"\nroles = ["read"]\nenv = "A"',
            "line 2: api.host '10.0.0.1' is no loopback address such as 127.0.0.1: it needs tls_cert, "
            "or insecure = true, if whoever reaches it may trade",
        ),
        (
            '[api]\nhost = "10.0.0.1"\ntls_cert = "c"\ntls_key = "k"',
            "line 2: api.host '10.0.0.1' is no loopback address such as 127.0.0.1: it needs [[api.tokens]], "
            "or insecure = true, if whoever reaches it may trade",
        ),
        ('[api]\ntls_cert = "c"', "line 1: [api] needs both 'tls_cert' and 'tls_key', or neither"),
        (
            '[[api.tokens]]\nname = "a"\nroles = ["admin"]\nenv = "A"',
            "line 3: api.tokens.1.roles.1 must be one of 'read', 'trade', 'limits', 'stop', but is 'admin'",
        ),
        (
            '[[api.tokens]]\nname = "a"\nroles = []\nenv = "A"',
            "line 3: api.tokens.1.roles must be some of 'read', 'trade', 'limits', 'stop'",
        ),
        (
            '[[api.tokens]]\nname = "a"\nroles = ["read"]\nenv = "hunter2!"',
            "line 4: api.tokens.1.env must be the name of an environment variable, in capitals",
        ),
        (
            '[[api.tokens]]\nname = "a b"\nroles = ["read"]\nenv = "A"',
            "line 2: api.tokens.1.name must be up to 32 letters, digits, and _ . -",
        ),
        ('[[sources]]\nkind = "ndjson"', "line 1: [[sources]] number 1 of kind 'ndjson' needs 'path'"),
        (
            '[[sources]]\nkind = "stdin"\nfollow = true',
            "line 3: [[sources]] number 1 of kind 'stdin' takes no 'follow'",
        ),
        (
            '[[sources]]\nkind = "stdin"\n[[sources]]\nkind = "stdin"',
            "line 3: [[sources]] number 2 is called 'stdin' like another",
        ),
        ('[[sources]]\nkind = "redis"\nstreams = ["a"]', "line 1: [[sources]] number 1 of kind 'redis' needs 'server'"),
        (
            '[[sources]]\nkind = "redis"\nserver = "redis://h"\nstreams = ["a"]\npath = "x"',
            "line 5: [[sources]] number 1 of kind 'redis' takes no 'path'",
        ),
        (
            '[[sinks]]\nkind = "webhook"\nsecret_env = ["A"]',
            "line 1: [[sinks]] number 1 needs either 'url' or 'url_env', the variable that holds it",
        ),
        (
            '[[sinks]]\nkind = "webhook"\nsecret_env = ["A"]\nurl_env = "https://h/geheim"',
            "line 4: [[sinks]] number 1: 'url_env' must be the name of an environment variable, in capitals",
        ),
        (
            '[[sinks]]\nkind = "webhook"\nsecret_env = ["A"]\nurl = "http://192.0.2.1/x"',
            "line 4: [[sinks]] number 1: 'url' must be https:// where the host is not this machine",
        ),
        (
            '[[sinks]]\nkind = "webhook"\nsecret_env = ["A"]\nurl = "https://u:geheim@h/x"',
            "line 4: [[sinks]] number 1: 'url' holds a name or a password; secrets are never read from a file",
        ),
        (
            '[[sinks]]\nkind = "webhook"\nsecret_env = ["A"]\nurl = "ftp://h/x"',
            "line 4: [[sinks]] number 1: 'url' must be https://HOST/PATH",
        ),
        (
            '[[sinks]]\nkind = "webhook"\nsecret_env = ["geheim-1234567890"]\nurl = "https://h/x"',
            "line 3: [[sinks]] number 1: 'secret_env' must be names of environment variables, in capitals",
        ),
        (
            '[ess]\nurl = "http://127.0.0.1:1/x"',
            "line 1: [ess] needs 'on_timeout': what it means for entries when there is no answer, allow or block",
        ),
        ('[ess]\non_timeout = "block"', "line 1: [ess] needs 'url', where the risk service is asked"),
        (
            '[ess]\nurl = "http://h/x"\non_timeout = "block"\nevery_seconds = 10',
            "line 1: ess.stale_seconds must be at least every_seconds and timeout_seconds together",
        ),
        (
            '[ess]\nurl = "http://h/x"\non_timeout = "block"\nblocks = ["High"]',
            "line 1: ess.passes and ess.blocks both name 'High'",
        ),
        (
            '[ess]\nurl = "http://u:geheim@h/x"\non_timeout = "block"',
            "line 2: ess.url holds a name or a password; secrets are never read from a file",
        ),
        (
            '[ess]\nurl = "http://h/x"\non_timeout = "block"\ntoken_env = "geheim-1"',
            "line 4: ess.token_env must be the name of an environment variable, in capitals",
        ),
        (
            "[accounts.main.limits]\npositions_max = 5\n[accounts.main.bounds]\npositions_max = 4",
            "line 2: accounts.main.limits.positions_max may be at most 4 (the config's bound), but would be 5",
        ),
        (
            "[accounts.main.limits]\n[accounts.main.bounds]\npositions_mx = 4",
            "line 3: unknown key 'positions_mx' in [accounts.main.bounds]; did you mean 'positions_max'?",
        ),
        (
            '[[sources]]\nkind = "webhook"',
            "line 1: [[sources]] number 1 of kind 'webhook' needs 'secret_env' or 'key_vault'",
        ),
        (
            '[[sources]]\nkind = "webhook"\nkey_vault = ["a b"]',
            "line 3: [[sources]] number 1: 'key_vault' must be names as `keys list` shows them",
        ),
        (
            '[[sources]]\nkind = "webhook"\nsecret_env = ["geheim-1234567890"]',
            "line 3: [[sources]] number 1: 'secret_env' must be names of environment variables, in capitals",
        ),
        (
            '[[sources]]\nkind = "webhook"\nname = "a"\nsecret_env = ["A"]\n'
            '[[sources]]\nkind = "webhook"\nname = "b"\nsecret_env = ["B", "A"]',
            "line 8: [[sources]] number 2 has a secret of number 1: a delivery to one could be repeated to the other",
        ),
        (
            '[[sources]]\nkind = "webhook"\nname = "a/b"\nsecret_env = ["A"]',
            "line 3: [[sources]] number 1: its name stands in an address: up to 40 letters, digits, _ and -",
        ),
        (
            '[[sources]]\nkind = "webhook"\nsecret_env = ["A"]\nproxies = ["10.0.0.1/8"]',
            "line 4: [[sources]] number 1: 'proxies' must be networks such as 203.0.113.0/24, but '10.0.0.1/8' is none",
        ),
        (
            '[[sources]]\nkind = "webhook"\nsecret_env = ["A"]\nunsigned = true\nsymbols = ["BTCUSDT"]',
            "line 1: [[sources]] number 1 with unsigned = true needs 'addresses': its secret can be read on the way",
        ),
        (
            '[[sources]]\nkind = "webhook"\nsecret_env = ["A"]\nunsigned = true\naddresses = ["203.0.113.7"]',
            "line 1: [[sources]] number 1 with unsigned = true needs 'symbols': its secret can be read on the way",
        ),
        (
            '[[sources]]\nkind = "webhook"\nsecret_env = ["A"]\nunsigned = true\naddresses = ["203.0.113.7"]\n'
            'symbols = ["BTCUSDT"]\ncontrols = true',
            "line 7: [[sources]] number 1: what is not signed may not steer the engine: no 'controls'",
        ),
        (
            '[[sources]]\nkind = "webhook"\nsecret_env = ["A"]\nsecret_field = "key"',
            "line 4: [[sources]] number 1: 'secret_field' means something only with unsigned = true",
        ),
        (
            '[api]\nenabled = false\n[[sources]]\nkind = "webhook"\nsecret_env = ["A"]',
            "line 2: the source 'webhook' is a part of the API, which is not enabled",
        ),
        ('[[sources]]\nkind = "kafka"\nserver = "h:1"', "line 1: [[sources]] number 1 of kind 'kafka' needs 'topics'"),
        (
            '[[sinks]]\nkind = "kafka"\nserver = "h:1"\nsasl = "PLAIN"',
            "line 4: [[sinks]] number 1 with 'sasl' needs 'username' and 'password_env'",
        ),
        (
            '[[sinks]]\nkind = "ndjson"\npath = "a"\n[[sinks]]\nkind = "ndjson"\npath = "b"',
            "line 4: [[sinks]] number 2 is called 'ndjson' like another",
        ),
        (
            '[[sinks]]\nkind = "ndjson"\nname = "stream"',
            "line 1: [[sinks]] number 1 is called 'stream', as the API's own events are",
        ),
        (
            '[[sinks]]\nkind = "kafka"\nserver = "h:1"\nstream = "x"',
            "line 4: [[sinks]] number 1 of kind 'kafka' takes no 'stream'",
        ),
        (
            '[[sinks]]\nkind = "redis"\nserver = "redis://u:geheim@h:1/0"',
            "line 3: sinks.1.server holds a password; secrets are never read from a file: name a variable in "
            "'password_env'",
        ),
        (
            '[[sinks]]\nkind = "redis"\nserver = "http://h"',
            "line 3: sinks.1.server must be redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///path, but is 'http://h'",
        ),
        (
            '[[sinks]]\nkind = "redis"\nserver = "redis://h:1/x"',
            "line 3: sinks.1.server ends in the number of a database, but here in '/x'",
        ),
        ('[[sinks]]\nkind = "redis"\nserver = "redis://h:x"', "line 3: sinks.1.server is no address of a server"),
        ("[api]\nenabled = false", "line 2: the source 'http' is a part of the API, which is not enabled"),
        ("[api]\nport = \n", "line 2: is not TOML: Invalid value (column 8)"),
        ("[api]\nport = 1\nport = 2\n", "line 3: is not TOML: Cannot overwrite a value (column 9)"),
    ],
)
def test_a_wrong_value_is_told_with_its_line_and_what_it_must_be(text: str, problem: str):
    assert problems(text) == (f"surefire.toml, {problem}",)


def test_another_address_is_taken_with_tokens_and_tls_or_when_told_to():
    token = '[[api.tokens]]\nname = "desk"\nroles = ["read", "trade"]\nenv = "DESK_TOKEN"\n'
    guarded = parse(f'[api]\nhost = "0.0.0.0"\ntls_cert = "c"\ntls_key = "k"\n{token}', "surefire.toml")
    assert guarded.api.tokens[0].roles == ("read", "trade")
    assert parse('[api]\nhost = "0.0.0.0"\ninsecure = true', "surefire.toml").api.insecure
    assert problems(f"{token}{token}") == (
        "surefire.toml, line 5: [[api.tokens]] number 2 is called 'desk' like another",
    )
    (told,) = problems('[api]\ntoken = "hunter2"')
    assert "looks like a secret" in told and "hunter2" not in told


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines():
    found = problems(
        '[api]\nprot = 1\nenabled = "yes"\n[journal]\ndurability = "safe"\n[accounts.main]\nvenu = "paper"\n'
    )
    assert [problem.split(":")[0] for problem in found] == [f"surefire.toml, line {line}" for line in (2, 3, 5, 6, 7)]


def test_an_account_without_limits_is_refused_because_it_would_not_trade():
    assert problems('[accounts.main]\nvenue = "paper"\n') == (
        "surefire.toml, line 1: [accounts.main] needs [accounts.main.limits]: an account without limits does not "
        "trade (an empty table takes the defaults)",
    )


@pytest.mark.parametrize("key", ["api_key", "apiKey", "secret", "API_SECRET", "password", "token", "bot_token"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(key: str):
    (problem,) = problems(f'{ACCOUNT}[api]\n{key} = "hunter2"\n')
    assert problem.startswith(f"surefire.toml, line 3: '{key}' in [api] looks like a secret")
    assert "environment" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:canary-word@b/c",
        "postgresql://b/c?user=a&password=canary-word",
        "postgresql://b?sslpassword=canary-word",
    ],
)
def test_a_password_in_the_journals_url_is_refused_and_not_repeated(url: str):
    (told,) = problems(f'[journal]\nurl = "{url}"')
    assert told.startswith("surefire.toml, line 2: journal.url has a password in it") and "password_env" in told
    assert "canary-word" not in told


def test_a_journal_on_a_server_is_one_line():
    config = parse('[journal]\nurl = "postgresql://surefire@db/trading"', "surefire.toml")
    assert (config.journal.schema, config.journal.lease_seconds, config.journal.standby) == ("surefire", 10.0, False)


def test_keys_and_headers_inside_values_do_not_move_the_lines():
    text = '[engine]\nname = """\n[api]\nport = 1\n"""\n[market]\nsymbols = [ # all\n  "x = 1", "[api]",\n]\nsped = 1\n'
    assert problems(text) == ("surefire.toml, line 10: unknown key 'sped' in [market]; did you mean 'speed'?",)


def test_quoted_and_dotted_keys_are_found_too():
    assert problems('accounts."main".limits.positions_mx = 1\n')[0].startswith("surefire.toml, line 1: unknown key")
    assert problems("\n[accounts.main]\nlimits.positions_max = -1\n")[0].startswith("surefire.toml, line 3:")


def test_the_hash_follows_the_values_and_not_the_layout():
    plain = parse("[api]\nport = 1\n", "a.toml")
    assert config_hash(plain) == config_hash(parse("# note\n\n[api]\nport  =  1", "b.toml"))
    assert config_hash(plain) != config_hash(parse("[api]\nport = 2\n", "a.toml"))


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_a_config_error(tmp_path: Path):
    path = tmp_path / "binary.toml"
    path.write_bytes(b"[api]\n\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(path)


def test_every_section_may_be_given(tmp_path: Path):
    path = tmp_path / "surefire.toml"
    path.write_text(
        """
[engine]
name = "desk-1"
env = "testnet"
[journal]
durability = "process"
path = "/tmp/j.sqlite"
[log]
level = "debug"
[market]
kind = "recorded"
tape = "tape.gz"
speed = 0
[accounts.far]
venue = "link"
port = 9000
limits = { positions_max = 5, symbols = ["BTCUSDT"] }
[accounts.near.limits]
[accounts.near.paper]
kind = "spot"
latency_ms = [0.5, 1]
taker_fee = "0.001"
faults = { lost_reply = 0.01 }
[[sources]]
kind = "ndjson"
path = "signals.ndjson"
follow = true
[[sources]]
kind = "http"
[[sinks]]
kind = "ndjson"
path = "out.ndjson"
"""
    )
    config = load(path)
    assert isinstance(config, Config)
    assert config.accounts["far"].port == 9000
    assert config.accounts["far"].limits.symbols == ("BTCUSDT",)
    assert config.accounts["near"].paper.faults.lost_reply == 0.01
    assert config.accounts["near"].paper.latency_ms == (0.5, 1.0)
    assert config.accounts["near"].paper.taker_fee == Decimal("0.001")
    assert config.journal.path == "/tmp/j.sqlite"
    assert [source.name for source in config.sources] == ["ndjson", "http"]
    assert config.sources[0].follow


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a=" + "[" * 5000 + "]" * 5000, "nested too deep"),
        ("a=" + "9" * 5000, "out of all bounds"),
        ("[api]\nport=0x" + "f" * 5000, "line 2: api.port must be a whole number <= 65535"),
        ("[market]\nspeed=0x" + "f" * 5000, "line 2: market.speed has more than 18 digits"),
        ("[market]\nspeed=1e99999999999999999999", "line 2: market.speed is not a finite number"),
        ('x=1\n"\ud800"=1', "half of a character"),
        ("x=1\n" + ".".join(["a"] * 20_000) + "=1", "line 2: a key of more than 16 parts"),
        ("#" * 300_000, "larger than"),
    ],
)
def test_what_the_parser_itself_stumbles_over_is_a_problem_like_any_other(text: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        parse(text, "f.toml")


SHARED = """
[journal]
url = "postgresql://surefire@db/trading"
[accounts.alice]
venue = "link"
port = 9100
[accounts.alice.limits]
[accounts.bob]
venue = "link"
port = 9101
[accounts.bob.limits]
[[shards]]
name = "a"
accounts = ["alice"]
[[shards]]
name = "b"
accounts = ["bob"]
prefer = ["two", "one"]
"""


def test_a_shard_is_the_config_of_the_engine_that_owns_it():
    config = parse(SHARED, "surefire.toml")
    one = of_shard(config, config.shards[1])
    assert (one.journal.schema, one.journal.standby, tuple(one.accounts)) == ("surefire_b", True, ("bob",))
    assert one.sinks[0].path == "var/events-b.ndjson"
    assert one.shards == ()


def test_events_of_two_shards_have_no_number_in_common_and_all_fit_into_a_json_number():
    firsts = [first_event(name) for name in ("a", "b", "c")]
    assert len(set(firsts)) == 3 and all(first > 0 and first + (1 << 41) <= 1 << 53 for first in firsts)
    assert all(first % (1 << 41) == 0 for first in firsts)


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ('url = "postgresql://surefire@db/trading"', "", "[[shards]] are shared out by a journal on PostgreSQL"),
        ('accounts = ["bob"]', 'accounts = ["bobb"]', "names 'bobb', which is none of [accounts]; did you mean 'bob'?"),
        ('accounts = ["bob"]', 'accounts = ["alice"]', "account 'alice' stands in more than one place of [[shards]]"),
        ('accounts = ["bob"]', 'accounts = ["alice"]', "account 'bob' is in none of the [[shards]]: nobody would"),
        ('accounts = ["bob"]', "accounts = []", "[[shards]] number 2 has no accounts"),
        ('name = "b"', 'name = "B b"', "shards.2.name must be up to 23 small letters, digits and _"),
        ('name = "b"', 'name = "a"', "'a' would number its events like another; rename it"),
        ('venue = "link"\nport = 9100', 'venue = "paper"', "is on the paper venue, whose books are a file of one"),
    ],
)
def test_shards_that_cannot_be_shared_out_are_named(was: str, becomes: str, told: str):
    assert was in SHARED
    found = problems(SHARED.replace(was, becomes))
    assert any(told in problem for problem in found), found
