"""Lines in from files, pipes and followed files; lines out to files that others may move away."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from engine.core.messages import Event, Malformed, OutboxRow, Refusal
from engine.edges.base import Arrival, Receipt, SinkDown
from engine.edges.dialects import DialectTerms, decode
from engine.edges.ndjson import Line, Lines, NdjsonFile, NdjsonSink, NdjsonSource, dead_letter_line, row_line
from engine.edges.strict import SIZE_MAX
from engine.runtime.clock import live_clock

RECORDED = Receipt("recorded")


# --------------------------------------------------------------------------------------------------------------- lines


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=40))
def test_lines_are_the_same_however_the_bytes_come_in_chunks(raw: bytes, cuts: list[int]) -> None:
    lines, found, place = Lines(), [], 0
    for cut in [*cuts, 10_000]:
        found += lines.feed(raw[place : place + cut])
        place += cut
    found += lines.rest()
    assert found == [Line(offset, piece) for offset, piece in pieces(raw) if piece.strip()]


def pieces(raw: bytes) -> list[tuple[int, bytes]]:
    offset, found = 0, []
    for piece in raw.split(b"\n"):
        found.append((offset, piece))
        offset += len(piece) + 1
    return found


def test_a_line_too_long_is_cut_and_the_next_one_is_whole() -> None:
    lines = Lines(line_max=10)
    found = []
    for chunk in (b"short\n", b"x" * 8, b"x" * 8, b"x" * 1000, b"\nnext\n"):
        found += lines.feed(chunk)
    assert found == [Line(0, b"short"), Line(6, b"x" * 11), Line(6 + 1016 + 1, b"next")]


def test_a_line_without_end_is_not_held_without_end() -> None:
    lines = Lines(line_max=1000)
    for _ in range(100):
        assert lines.feed(b"x" * 100_000) == []
    assert len(lines._held) == 1001


# ------------------------------------------------------------------------------------------------------------- sources


class Engine:
    """Takes arrivals and answers each when it is told to."""

    def __init__(self, room: int = 1000) -> None:
        self.send, self.receive = trio.open_memory_channel[Arrival](room)
        self.arrivals: list[Arrival] = []

    async def take(self, count: int, answer: Receipt | None = RECORDED) -> list[bytes]:
        got = []
        for _ in range(count):
            arrival = await self.receive.receive()
            self.arrivals.append(arrival)
            got.append(arrival.raw)
            if answer is not None:
                arrival.answer(answer)
        return got


async def test_a_file_is_read_to_its_end_and_left_when_all_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "in.ndjson"
    path.write_bytes(b'{"a":1}\n\n  \r\n{"b":2}\r\n{"c":3}')
    echoed: list[bytes] = []
    source, engine, done = NdjsonSource("file", path, live_clock(), echo=echoed.append), Engine(), trio.Event()

    async def run() -> None:
        await source.run(engine.send)
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        assert await engine.take(3, answer=None) == [b'{"a":1}', b'{"b":2}\r', b'{"c":3}']
        assert [a.fallback_id for a in engine.arrivals] == ["file:0", "file:13", "file:22"]
        assert [a.source for a in engine.arrivals] == ["file"] * 3
        engine.arrivals[0].answer(RECORDED)
        engine.arrivals[2].answer(RECORDED)
        await trio.testing.wait_all_tasks_blocked()
        assert not done.is_set()
        engine.arrivals[1].answer(Receipt("malformed", malformed=Malformed("file", (Refusal("x", "bad"),), "", 0)))
    assert done.is_set()
    assert [json.loads(line) for line in echoed] == [
        {"status": "recorded", "line": "file:0"},
        {"status": "recorded", "line": "file:22"},
        {"status": "malformed", "signal_id": None, "reasons": [{"field": "x", "reason": "bad"}], "line": "file:13"},
    ]


async def test_a_file_that_is_not_there_is_an_error_of_the_start(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await NdjsonSource("file", tmp_path / "none", live_clock()).run(Engine().send)
    assert caught.group_contains(FileNotFoundError)


async def test_an_engine_without_room_holds_up_the_file(tmp_path: Path) -> None:
    path = tmp_path / "in.ndjson"
    path.write_bytes(b'{"a":1}\n' * 10_000)
    source, engine = NdjsonSource("file", path, live_clock()), Engine(room=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, engine.send)
        await engine.take(5)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert engine.receive.statistics().current_buffer_used == 10
        assert engine.receive.statistics().tasks_waiting_send == 1
        assert len(await engine.take(9_995)) == 9_995


async def test_what_the_engine_could_not_take_is_offered_again(tmp_path: Path) -> None:
    path = tmp_path / "in.ndjson"
    path.write_bytes(b'{"a":1}\n{"b":2}\n')
    source, engine = NdjsonSource("file", path, live_clock()), Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, engine.send)
        assert await engine.take(2, Receipt("busy")) == [b'{"a":1}', b'{"b":2}']
        assert await engine.take(1, Receipt("busy")) == [b'{"a":1}']
        assert sorted(await engine.take(2)) == [b'{"a":1}', b'{"b":2}']


async def test_a_line_longer_than_a_body_may_be_is_refused_and_reading_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "in.ndjson"
    path.write_bytes(b'{"a":"' + b"x" * (3 * SIZE_MAX) + b'"}\n{"b":2}\n')
    source, engine = NdjsonSource("file", path, live_clock()), Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, engine.send)
        long, short = await engine.take(2)
    assert short == b'{"b":2}'
    assert len(long) == SIZE_MAX + 1
    refused = decode(long, None, DialectTerms(), "file", 1_767_323_045_000_000_000)
    assert isinstance(refused, Malformed)
    assert refused.reasons == (Refusal("", f"is larger than {SIZE_MAX} bytes"),)


async def test_stdin_is_read_as_it_comes_until_it_is_closed() -> None:
    reading, writing = os.pipe()
    source, engine = NdjsonSource.stdin("stdin", live_clock(), fd=reading), Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, engine.send)
        os.write(writing, b'{"a":1}\n{"b"')
        assert await engine.take(1) == [b'{"a":1}']
        os.write(writing, b':2}\n{"c":3}')
        assert await engine.take(1) == [b'{"b":2}']
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert engine.receive.statistics().current_buffer_used == 0
        os.close(writing)
        assert await engine.take(1) == [b'{"c":3}']
    assert [a.fallback_id for a in engine.arrivals] == [None] * 3
    assert os.get_blocking(reading)
    os.close(reading)


async def test_a_full_engine_holds_up_the_writer_of_stdin() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    source, engine = NdjsonSource.stdin("stdin", live_clock(), fd=reading), Engine(room=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, engine.send)
        await fill(writing)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await fill(writing)
        with pytest.raises(BlockingIOError):
            os.write(writing, b"x" * 4096)
        nursery.cancel_scope.cancel()
    os.close(reading)
    os.close(writing)


async def fill(writing: int) -> None:
    try:
        while True:
            os.write(writing, b'{"a":1}\n' * 512)
    except BlockingIOError:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", ["file", "null"])
async def test_stdin_may_be_a_file_or_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.ndjson"
    path.write_bytes(b'{"a":1}\n{"b":2}\n')
    fd = os.open(path if kind == "file" else os.devnull, os.O_RDONLY)
    source, engine = NdjsonSource.stdin("stdin", live_clock(), fd=fd), Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, engine.send)
        if kind == "file":
            assert await engine.take(2) == [b'{"a":1}', b'{"b":2}']
    assert [a.fallback_id for a in engine.arrivals] == [None] * len(engine.arrivals)
    os.close(fd)


# ------------------------------------------------------------------------------------------------------ followed files


class Followed:
    """A followed file and the engine that it feeds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = Engine()
        self.source = NdjsonSource("log", path, live_clock(), follow=True, poll_seconds=0.002)

    def write(self, text: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(text)

    async def quiet(self) -> bool:
        await trio.sleep(0.02)
        return self.engine.receive.statistics().current_buffer_used == 0


async def following(path: Path, story: Callable[[Followed], object]) -> Followed:
    followed = Followed(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.source.run, followed.engine.send)
        await story(followed)  # type: ignore[misc]
        nursery.cancel_scope.cancel()
    return followed


async def test_a_followed_file_may_come_later_and_grow_line_by_line(tmp_path: Path) -> None:
    async def story(it: Followed) -> None:
        assert await it.quiet()
        it.write(b'{"a":1}\n{"b"')
        assert await it.engine.take(1) == [b'{"a":1}']
        assert await it.quiet()
        it.write(b":2}\n")
        assert await it.engine.take(1) == [b'{"b":2}']

    await following(tmp_path / "log", story)


async def test_following_survives_rotation_with_nothing_lost(tmp_path: Path) -> None:
    async def story(it: Followed) -> None:
        it.write(b'{"a":1}\n')
        assert await it.engine.take(1) == [b'{"a":1}']
        with it.path.open("ab", buffering=0) as old:  # a writer that holds on to the file it has
            it.path.rename(it.path.with_suffix(".1"))
            old.write(b'{"late":1}\n')
            assert await it.engine.take(1) == [b'{"late":1}']
            it.write(b'{"new":1}\n')
            old.write(b'{"last":1}')
        assert await it.engine.take(2) == [b'{"last":1}', b'{"new":1}']

    await following(tmp_path / "log", story)


async def test_following_survives_truncation(tmp_path: Path) -> None:
    async def story(it: Followed) -> None:
        it.write(b'{"a":1}\n{"half"')
        assert await it.engine.take(1) == [b'{"a":1}']
        await trio.sleep(0.01)
        os.truncate(it.path, 0)
        assert await it.engine.take(1) == [b'{"half"']
        it.write(b'{"c":3}\n')
        assert await it.engine.take(1) == [b'{"c":3}']

    await following(tmp_path / "log", story)


async def test_a_followed_line_keeps_its_id_over_restarts_and_another_line_in_its_place_has_another(
    tmp_path: Path,
) -> None:
    async def one(it: Followed) -> None:
        await it.engine.take(1)

    (tmp_path / "log").write_bytes(b'{"a":1}\n')
    first = (await following(tmp_path / "log", one)).engine.arrivals[0].fallback_id
    again = (await following(tmp_path / "log", one)).engine.arrivals[0].fallback_id
    (tmp_path / "log").write_bytes(b'{"a":2}\n')
    other = (await following(tmp_path / "log", one)).engine.arrivals[0].fallback_id
    assert first == again
    assert first is not None
    assert first.startswith("log:0:")
    assert other != first


# --------------------------------------------------------------------------------------------------------------- sinks


def row(event_id: int, /, **body: str | int | bool | None) -> OutboxRow:
    event = Event(
        name="order.filled", account="main", key="c-1", at_ns=7, trace_id="t", cause="s-1", body={"qty": "0.10", **body}
    )
    return OutboxRow(event_id, event)


def written(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_an_event_is_one_line_whose_own_figures_cannot_replace_its_id() -> None:
    line = row_line(row(3, event_id=9, note="two\nlines"))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "event_id": 3,
        "name": "order.filled",
        "account": "main",
        "key": "c-1",
        "at_ns": 7,
        "trace_id": "t",
        "cause": "s-1",
        "qty": "0.10",
        "note": "two\nlines",
    }


@pytest.mark.parametrize("durable", [False, True])
async def test_a_sink_appends_over_restarts(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "deep" / "events.ndjson"
    for start in (1, 3):
        sink = NdjsonSink("file", path, durable)
        await sink.send((row(start), row(start + 1)))
        sink.close()
    assert [line["event_id"] for line in written(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("durable", [False, True])
async def test_a_sink_opens_its_path_anew_when_the_file_was_moved_away(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "events.ndjson"
    sink = NdjsonSink("file", path, durable)
    await sink.send((row(1),))
    path.rename(tmp_path / "old")
    await sink.send((row(2),))
    path.unlink()
    await sink.send((row(3),))
    sink.close()
    assert [line["event_id"] for line in written(tmp_path / "old")] == [1]
    assert [line["event_id"] for line in written(path)] == [3]


async def test_a_line_torn_by_a_crash_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(row_line(row(1)) + b'{"event_id": 2, "na')
    sink = NdjsonSink("file", path)
    await sink.send((row(2),))
    sink.close()
    first, torn, again = path.read_bytes().splitlines()
    assert torn == b'{"event_id": 2, "na'
    assert [json.loads(line)["event_id"] for line in (first, again)] == [1, 2]


@pytest.mark.parametrize("durable", [False, True])
async def test_a_sink_that_cannot_write_is_down_and_comes_back(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "events.ndjson"
    path.mkdir()
    sink = NdjsonSink("file", path, durable)
    with pytest.raises(SinkDown, match=r"events\.ndjson"):
        await sink.send((row(1),))
    path.rmdir()
    await sink.send((row(1),))
    sink.close()
    assert [line["event_id"] for line in written(path)] == [1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("durable", [False, True])
async def test_a_full_disk_is_a_sink_that_is_down(durable: bool) -> None:
    sink = NdjsonSink("file", Path("/dev/full"), durable)
    with pytest.raises(SinkDown, match="No space left"):
        await sink.send((row(1),))
    sink.close()


def test_half_a_batch_is_taken_back_when_the_disk_fills_in_its_middle(tmp_path: Path) -> None:
    """With a limit on the file's size, which the system meets by writing a part, as a full disk does."""
    import resource
    import signal

    path = tmp_path / "events.ndjson"
    file = NdjsonFile(path)
    file.append(b"x" * 99 + b"\n")
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            file.append(b"y" * 99 + b"\n")
        assert path.stat().st_size == 100
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    file.append(b"z\n")
    file.close()
    assert path.read_bytes() == b"x" * 99 + b"\nz\n"


def test_a_dead_letter_says_what_was_wrong_with_what() -> None:
    malformed = decode(b'{"signal_id":"s","qty":"\xff"}', None, DialectTerms(), "file", 5)
    assert isinstance(malformed, Malformed)
    assert json.loads(dead_letter_line(malformed)) == {
        "received_ns": 5,
        "source": "file",
        "signal_id": None,
        "place": "",
        "reasons": [{"field": "", "reason": "is not UTF-8: byte 0xff at offset 24"}],
        "raw": '{"signal_id":"s","qty":"\\xff"}',
    }
