"""Log lines: one JSON object each, stamped by the clock handed in, and never with a secret in it."""

import io
import json
import logging
import pickle
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import structlog

from engine.core.messages import Halt
from engine.runtime.clock import Clock
from engine.runtime.log import Secret, configure

CLOCK = Clock(now_ns=lambda: 1_700_000_000_123_456_789, ticks_ns=lambda: 0)
KEY = "hunter2-hunter2"


@pytest.fixture
def out() -> Iterator[io.BytesIO]:
    root, before = logging.getLogger(), (list(logging.getLogger().handlers), logging.getLogger().level)
    stream = io.BytesIO()
    configure(CLOCK, stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def lines(out: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_phrase_fields_and_the_time_handed_in(out: io.BytesIO):
    structlog.get_logger("gate").info("signal refused", trace_id="t1", notional=Decimal("1.50"), n=3)
    assert lines(out) == [
        {
            "at": "2023-11-14T22:13:20.123456Z",
            "event": "signal refused",
            "level": "info",
            "logger": "gate",
            "n": 3,
            "notional": "1.50",
            "trace_id": "t1",
        }
    ]


def test_newlines_in_a_field_do_not_make_a_second_line(out: io.BytesIO):
    structlog.get_logger().info("x", text="one\ntwo")
    assert len(out.getvalue().splitlines()) == 1
    assert lines(out)[0]["text"] == "one\ntwo"


def test_a_module_may_get_its_logger_before_the_log_is_configured():
    early = structlog.get_logger("early")
    stream = io.BytesIO()
    configure(CLOCK, stream)
    early.info("first")
    again = io.BytesIO()
    configure(CLOCK, again)
    early.info("second")
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()
    assert [line["event"] for line in lines(stream) + lines(again)] == ["first", "second"]


def test_what_is_below_the_level_is_not_written(out: io.BytesIO):
    structlog.get_logger().debug("detail")
    assert lines(out) == []
    configure(CLOCK, out, level="debug")
    structlog.get_logger().debug("detail")
    assert [line["event"] for line in lines(out)] == ["detail"]


def test_a_secret_prints_as_stars_everywhere_but_where_it_is_revealed():
    secret = Secret(KEY)
    assert f"{secret} {secret!r} {secret!s} {[secret]} {secret:>20}" == "*** *** *** [***] ***"
    assert secret.reveal() == KEY
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_a_secret_is_starred_out_of_every_place_of_a_line(out: io.BytesIO):
    secret = Secret(KEY)
    log = structlog.get_logger("venue").bind(bound=KEY)
    log.info(
        f"sent with {KEY}",
        itself=secret,
        headers={"X-KEY": KEY, "deep": [{"deeper": (f"a{KEY}b",)}]},
        raw=KEY.encode(),
        struct=Halt(scope="engine", reason=KEY, since_ns=0, by="x"),
        error=ValueError(f"bad {KEY}"),
        **{KEY: 1},
    )
    assert KEY.encode() not in out.getvalue()
    assert lines(out)[0]["headers"] == {"X-KEY": "***", "deep": [{"deeper": ["a***b"]}]}
    assert lines(out)[0]["event"] == "sent with ***"


def test_a_secret_is_starred_out_of_a_traceback(out: io.BytesIO):
    Secret(KEY)
    try:
        raise RuntimeError(f"refused: {KEY}") from KeyError(KEY)
    except RuntimeError as error:
        structlog.get_logger().error("actor failed", exc_info=error)
    assert KEY.encode() not in out.getvalue()
    assert "RuntimeError: refused: ***" in str(lines(out)[0]["exception"])


def test_a_secret_that_holds_another_is_starred_out_whole(out: io.BytesIO):
    Secret("abcdef")
    Secret("abcdef-ghijkl")
    structlog.get_logger().info("x", text="abcdef-ghijkl")
    assert lines(out)[0]["text"] == "***"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2**70, str(2**70)),
        (float("nan"), None),
        ("\ud800", "\\ud800"),
        ("Grüße", "Grüße"),
        (b"\xff", "\\xff"),
        ({1: {2: 3}}, {"1": {"2": 3}}),
        (Path("a"), "PosixPath('a')"),
    ],
)
def test_no_value_can_break_a_line(out: io.BytesIO, value: object, written: object):
    structlog.get_logger().info("x", value=value)
    assert lines(out)[0]["value"] == written


def test_a_value_that_holds_itself_does_not_break_a_line(out: io.BytesIO):
    loop: list[object] = []
    loop.append(loop)
    structlog.get_logger().info("x", value=loop)
    assert len(lines(out)) == 1


async def test_other_libraries_are_quiet_below_a_warning(out: io.BytesIO):
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        await client.get("http://venue.test/order?signature=abc")
    logging.getLogger("hypercorn.error").info("Running on http://127.0.0.1:8002")
    assert lines(out) == []
    logging.getLogger("hypercorn.error").warning("odd")
    assert lines(out)[0] | {"at": ""} == {"at": "", "event": "odd", "level": "warning", "logger": "hypercorn.error"}


def test_another_librarys_record_with_percent_signs_and_a_traceback_is_a_line_of_ours(out: io.BytesIO):
    try:
        raise RuntimeError("broken 100 %s")
    except RuntimeError:
        logging.getLogger("else").exception("at %d %%", 5)
    (line,) = lines(out)
    assert line["event"] == "at 5 %"
    assert "RuntimeError: broken 100 %s" in str(line["exception"])


def test_the_form_for_a_terminal_says_the_same_and_hides_the_same():
    Secret(KEY)
    stream = io.BytesIO()
    configure(CLOCK, stream, console=True)
    structlog.get_logger("gate").warning("signal refused", key=KEY, trace_id="t1")
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()
    text = stream.getvalue().decode()
    assert "signal refused" in text
    assert "t1" in text
    assert KEY not in text
