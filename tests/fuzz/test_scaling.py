"""Twice the input, about twice the time: no parser of outside bytes can be made to work for long by a short text.

Each input is built so that a careless reader would take time by its square. Times are the processor's, the
best of a few; the sizes are large enough to be measured, and what is refused by its size at once passes by being quick.
"""

import gc
import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.core.money import use_exact_context
from engine.edges import ndjson, strict
from engine.edges.dialects import DialectTerms, decode
from engine.market import binance, bybit
from engine.market.recorded import BadTape, Recording
from engine.runtime.config import ConfigError, parse
from engine.venues import link_wire
from engine.web.limits import limits_changes
from engine.web.ports import Refused

TERMS = DialectTerms(account="main")
MEASURABLE_SECONDS = 0.01  # quicker than that is quick enough, whatever the ratio
RATIO_MAX = 3.5  # of times for twice the size: 2 is linear, 4 is square
ALL_SECONDS_MAX = 2.0  # the larger of the two

Maker = Callable[[int], bytes]
SHAPES: dict[str, tuple[Maker, int]] = {
    "lists in lists": (lambda n: b"[" * n, 200_000),
    "objects in objects": (lambda n: b'{"a":' * n + b"1" + b"}" * n, 60_000),
    "shallow lists": (lambda n: b'{"a":[' + b",".join([b"[]"] * n) + b"]}", 100_000),
    "many keys": (lambda n: b"{" + b",".join(b'"k%d":1' % i for i in range(n)) + b"}", 30_000),
    "many keys like ours": (lambda n: b"{" + b",".join(b'"positions_max%d":1' % i for i in range(n)) + b"}", 20_000),
    "one key again and again": (lambda n: b"{" + b",".join([b'"symbol":1'] * n) + b"}", 30_000),
    "a long text": (lambda n: b'{"symbol":"%b"}' % (b"x" * n), 400_000),
    "a long name": (lambda n: b'{"%b":1}' % (b"s" * n), 400_000),
    "repeated escapes": (lambda n: b'{"symbol":"%b"}' % (rb"\u00e9" * n), 60_000),
    "backslashes": (lambda n: b'{"symbol":"%b' % (b"\\" * n) + b"[" * 40, 400_000),
    "quotes never closed": (lambda n: b'{"a":' + b'"' * n + b"[" * 40, 400_000),
    "controls": (lambda n: b'{"a":["%b"]}' % b'","'.join([rb"\u202e"] * n), 30_000),
    "a long number": (lambda n: b'{"qty":%b}' % (b"9" * n), 400_000),
    "a long number as text": (lambda n: b'{"qty":"%b"}' % (b"9" * n), 400_000),
    "many NaN": (lambda n: b'{"a":[' + b",".join([b"NaN"] * n) + b"]}", 60_000),
    "a long exponent": (lambda n: b'{"qty":1e%b}' % (b"9" * n), 400_000),
    "spaces": (lambda n: b'{"a"' + b" " * n, 400_000),
    "a list of words": (lambda n: b'{"target":"be ' + b" " * n + b'1"}', 400_000),
    "a context of many": (lambda n: b'{"context":{' + b",".join(b'"k%d":"v"' % i for i in range(n)) + b"}}", 30_000),
}
TOMLS: dict[str, tuple[Maker, int]] = {
    "lists in lists": (lambda n: b"a=" + b"[" * n, 100_000),
    "tables in tables": (lambda n: b"a=" + b"{a=" * n, 30_000),
    "a key of many parts": (lambda n: b".".join([b"a"] * n) + b"=1", 60_000),
    "a quoted key of many parts": (lambda n: b" . ".join([b'"a"'] * n) + b"=1", 20_000),
    "a header of many parts": (lambda n: b"[[" + b".".join([b"a"] * n) + b"]]", 60_000),
    "an inner key of many parts": (lambda n: b"x = {y = 1, " + b".".join([b"a"] * n) + b" = 1}", 60_000),
    "many unknown keys": (lambda n: b"".join(b"engnie%d=1\n" % i for i in range(n)), 5_000),
    "many unknown limits": (
        lambda n: b"[accounts.main.limits]\n" + b"".join(b"positions_max%d=1\n" % i for i in range(n)),
        1_500,
    ),
    "many sources": (lambda n: b"".join(b"[[sources]]\nkind='stdin'\nname='s%d'\n" % i for i in range(n)), 2_000),
    "many sources of one name": (lambda n: b"[[sources]]\nkind='stdin'\n" * n, 2_000),
    "many accounts": (lambda n: b"".join(b"[accounts.a%d.limits]\n" % i for i in range(n)), 1_000),
    "escapes": (lambda n: b'x="%b"' % (b"\\n" * n), 60_000),
    "quotes": (lambda n: b"x=" + b"'''" * n, 40_000),
    "a long comment": (lambda n: b"#" + b" a." * n, 60_000),
    "dots": (lambda n: b"{" * n + b"a." * n, 30_000),
    "a long number": (lambda n: b"[market]\nspeed=" + b"9" * n, 100_000),
    "a long hexadecimal": (lambda n: b"[market]\nspeed=0x" + b"f" * n, 100_000),
}


@pytest.fixture(autouse=True)
def _nothing_old_to_collect() -> Iterator[None]:
    """The collector goes through all that other tests have left, when it likes; that is not the parser's time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def seconds(read: Callable[[bytes], object], raw: bytes) -> float:
    began = time.process_time()  # of this process, so that a busy machine does not spoil it
    read(raw)
    return time.process_time() - began


def check(read: Callable[[bytes], object], make: Maker, size: int) -> None:
    use_exact_context()
    small, large = make(size), make(2 * size)
    once = twice = float("inf")
    for _ in range(6):
        once, twice = min(once, seconds(read, small)), min(twice, seconds(read, large))
        if twice < MEASURABLE_SECONDS or twice < RATIO_MAX * once:
            break
    assert twice < MEASURABLE_SECONDS or twice < RATIO_MAX * once, (once, twice)
    assert twice < ALL_SECONDS_MAX


@pytest.mark.parametrize("shape", [*SHAPES])
def test_signals(shape: str) -> None:
    make, size = SHAPES[shape]
    check(lambda raw: decode(raw, None, TERMS, "f", 1_767_323_045_000_000_000), make, min(size, 400_000))


def test_a_body_over_the_limit_is_not_read_at_all() -> None:
    assert seconds(strict.read, b"[" * 10_000_000) < MEASURABLE_SECONDS


@pytest.mark.parametrize("shape", [*SHAPES])
def test_limits(shape: str) -> None:
    def read(raw: bytes) -> None:
        with pytest.raises(Refused):
            limits_changes(raw)

    make, size = SHAPES[shape]
    check(read, make, size)


@pytest.mark.parametrize("shape", [*SHAPES])
@pytest.mark.parametrize("parser", [binance.Parser, bybit.Parser])
def test_market_messages(shape: str, parser: Callable[[], binance.Parser]) -> None:
    def read(raw: bytes) -> None:
        try:
            list(parser().events(raw, 10**18))
        except binance.BadMessage:
            pass

    make, size = SHAPES[shape]
    check(read, make, size)


@pytest.mark.parametrize("shape", [*SHAPES])
def test_lines_of_the_link(shape: str) -> None:
    def read(raw: bytes) -> None:
        try:
            link_wire.decode_call(b'{"verb":"query","id":1,"what":"x","y":%b}' % raw)
        except link_wire.GARBAGE:
            pass

    make, size = SHAPES[shape]
    check(read, make, size)


@pytest.mark.parametrize("shape", [*TOMLS])
def test_config(shape: str) -> None:
    def read(raw: bytes) -> None:
        try:
            parse(raw.decode(), "x.toml")
        except ConfigError:
            pass

    make, size = TOMLS[shape]
    check(read, make, size)


def in_pieces(feed: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def read(raw: bytes) -> None:
        for start in range(0, len(raw), 512):
            feed(raw[start : start + 512])

    return read


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_comes_in_many_pieces(end: bytes) -> None:
    make: Maker = lambda n: b"x" * n + end  # noqa: E731
    check(lambda raw: in_pieces(ndjson.Lines().feed)(raw), make, 8_000_000)
    check(lambda raw: in_pieces(link_wire.Lines().feed)(raw), make, 8_000_000)


def test_a_tape_that_unpacks_to_far_more_than_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tape.gz"

    def read(raw: bytes) -> None:
        path.write_bytes(raw)
        with pytest.raises(BadTape, match="longer than"):
            list(Recording(path).events())

    packed = {n: gzip.compress(b"1" * n) for n in (30_000_000, 60_000_000)}
    check(lambda raw: read(raw), packed.__getitem__, 30_000_000)
