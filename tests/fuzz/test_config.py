"""Config texts: a Config, or ConfigError with problems."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.config import Config, ConfigError, config_hash, parse
from tests.fuzz import fuzzed
from tests.fuzz.wrongs import damaged

SOUND = """
[engine]
name = "x"
env = 'paper'
[journal]
durability = "process"
[api]
port = 0
[market]
kind = "synthetic"
seed = 0x10
speed = 1.5
symbols = ["BTCUSDT", "ETHUSDT"]
[accounts.main]
venue = "paper"
limits = { positions_max = 2, daily_loss_max = "250", symbols_allowed = ["BTCUSDT"] }
paper.balances = { USDT = 10_000.50 }
paper.latency_ms = [1, 3.5]
[accounts."b"]
[accounts."b".limits]
[accounts.b.paper.faults]
slow = 0.25
[[sources]]
kind = "ndjson"
path = '''f'''
[[sources]]
kind = "http"
[[sinks]]
kind = "ndjson"
path = \"\"\"
out\"\"\"
""".replace(', symbols_allowed = ["BTCUSDT"]', "")
KEYS: tuple[str, ...] = (
    "engine",
    "name",
    "market",
    "speed",
    "seed",
    "accounts",
    "main",
    "limits",
    "paper",
    "balances",
    "latency_ms",
)
KEYS += ("sources", "kind", "path", "api", "port", "host", "sinks", "api_key", "faults", "slow_ms", "x", '"a.b"', "''")
VALUES: tuple[str, ...] = (
    "1",
    "-1",
    "nan",
    "-inf",
    "1e400",
    "1e-400",
    "1e99999999999999999999",
    "9" * 5000,
    "0x" + "f" * 5000,
    "true",
)
VALUES += ("[]", "{}", "[[1, nan], [2]]", "'sNaN'", '"x"', '"\\ud800"', '"\\u0000"', "2026-01-02", "25:00:00", "[{}]")
VALUES += (
    "2026-01-02T03:04:05.999999999Z",
    "'''\n[x]\n'''",
    '"' + "\\n" * 50 + '"',
    "{ kind = 'stdin' }",
    "0b1",
    "'1e9'",
)
VALUES += (
    "[" * 40 + "]" * 40,
    "[" * 3000,
    "{a=" * 3000,
    "{a=" * 30 + "1" + "}" * 30,
    "'127.0.0.1'",
    "{a.b = 1, a.c = 2}",
)


def check(text: str) -> None:
    try:
        found = parse(text, "x.toml")
    except ConfigError as error:
        assert error.problems and all(problem.startswith("x.toml") for problem in error.problems)
    else:
        assert isinstance(found, Config) and config_hash(found) == config_hash(parse(text, "x.toml"))


def test_the_sound_text_is_sound() -> None:
    assert set(parse(SOUND, "x.toml").accounts) == {"main", "b"}


@given(st.text(max_size=200) | st.text(st.characters(categories=None), max_size=50))
@fuzzed(150)
def test_any_text_is_a_config_or_has_problems(text: str) -> None:
    check(text)


@given(damaged(SOUND.encode()))
@fuzzed(250)
def test_a_sound_text_that_was_damaged(raw: bytes) -> None:
    check(raw.decode("utf-8", "surrogateescape"))


@given(st.data())
@fuzzed(250)
def test_texts_of_the_configs_own_words(data: st.DataObject) -> None:
    lines = []
    for _ in range(data.draw(st.integers(0, 8))):
        key = ".".join(data.draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4)))
        line = data.draw(st.sampled_from(("[{}]", "[[{}]]", "{} = {}", "{} = {}", " {}={} # [x]")))
        lines.append(line.format(key, data.draw(st.sampled_from(VALUES))))
    check("\n".join(lines))


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", ["market.speed", "api.port", "market.symbols", "engine.name", "accounts", "sources"])
def test_every_odd_value_in_every_kind_of_place(key: str, value: str) -> None:
    check(f"{key} = {value}")
