"""NDJSON lines: every byte of a file comes out once, in its line, whatever the pieces; the link's lines too."""

from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from engine.edges.base import Arrival, Receipt
from engine.edges.ndjson import Lines, NdjsonSource
from engine.runtime.clock import Clock
from engine.venues import link_wire
from tests.fuzz import fuzzed
from tests.fuzz.wrongs import ODD_LITERALS
from tests.patience import PATIENCE_SECONDS

CLOCK = Clock(now_ns=lambda: 1_767_323_045_000_000_000, ticks_ns=lambda: 0)
FILES = st.lists(st.binary(max_size=30) | st.sampled_from((b"\n", b"\r\n", b"\x00", *ODD_LITERALS)), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(FILES.map(b"\n".join), st.lists(st.integers(0, 10_000), max_size=8), st.integers(1, 50))
@fuzzed(200)
def test_lines_do_not_depend_on_how_the_bytes_came(data: bytes, cuts: list[int], line_max: int) -> None:
    lines = Lines(line_max)
    found = [line for piece in pieces(data, cuts) for line in lines.feed(piece)] + lines.rest()
    expected, offset = [], 0
    for raw in data.split(b"\n"):
        if raw[: line_max + 1].strip():
            expected.append((offset, raw[: line_max + 1]))
        offset += len(raw) + 1
    assert [(line.offset, line.raw) for line in found] == expected


@given(FILES.map(b"\n".join), st.lists(st.integers(0, 10_000), max_size=8))
@fuzzed(100)
def test_lines_of_the_link_do_not_depend_on_how_the_bytes_came(data: bytes, cuts: list[int]) -> None:
    lines = link_wire.Lines()
    assert [line for piece in pieces(data, cuts) for line in lines.feed(piece)] == data.split(b"\n")[:-1]


@given(FILES.map(b"\n".join))
@fuzzed(40)
def test_a_file_of_anything_is_read_to_its_end(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "signals.ndjson"
    path.write_bytes(data)

    async def read() -> list[Arrival]:
        send, receive = trio.open_memory_channel[Arrival](0)
        found: list[Arrival] = []

        async def take() -> None:
            async for arrival in receive:
                found.append(arrival)
                arrival.answer(Receipt("malformed"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            async with send:
                with trio.fail_after(PATIENCE_SECONDS):
                    await NdjsonSource("f", path, CLOCK).run(send)
        return found

    found = trio.run(read)
    assert [arrival.raw for arrival in found] == [raw for raw in data.split(b"\n") if raw.strip()]
    assert len({arrival.fallback_id for arrival in found}) == len(found)
