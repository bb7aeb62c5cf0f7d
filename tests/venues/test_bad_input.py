"""What a venue may say that makes no sense, for every adapter: nothing crashes, nothing is guessed, nothing is empty.

The answers are the local exchange's own, spoiled on their way; so each field that an adapter reads is really there.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine.core.messages import Acked, Failed, FillReport, NotFound, OrderReport, Silence
from engine.exchange.http import Request, Response
from tests.conformance.bench import Bench
from tests.conformance.cases import questions
from tests.conformance.sites import SITES

D = Decimal
NAMES = ("bybit-linear", "bybit-spot", "binance-spot", "binance-usdm")
Spoil = Callable[[bytes], bytes]


def each_text_is_an_object(body: bytes) -> bytes:
    """Wrong types throughout."""

    def turn(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turn(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [turn(inner) for inner in value]
        return {"value": value}

    return json.dumps(turn(json.loads(body))).encode()


SPOILS: dict[str, Spoil] = {
    "html": lambda body: b"<!DOCTYPE html><html><body>One moment</body></html>",
    "truncated": lambda body: body[: len(body) // 2],
    "empty": lambda body: b"",
    "null": lambda body: b"null",
    "a list of nothing": lambda body: b"[null]",
    "a number": lambda body: b"17",
    "not utf-8": lambda body: b"\xff\xfe" + body,
    "deep": lambda body: b"[" * 100_000,
    "wrong types": each_text_is_an_object,
}


@contextmanager
def spoiled(b: Bench, spoil: Spoil, only: str = "") -> Iterator[None]:
    """Answers with status 200, of paths that hold `only`."""
    hand: Any = b.hand
    face = hand._exchange.faces[hand._face.name]
    honest = face.answer

    def answer(request: Request, now_ns: int) -> Response:
        response: Response = honest(request, now_ns)
        wanted = response.status == 200 and only in request.path and not request.path.endswith("/time")
        return Response(200, spoil(response.body), response.headers) if wanted else response

    face.answer = answer
    try:
        yield
    finally:
        face.answer = honest


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("name", NAMES)
async def test_no_nonsense_is_an_answer(name: str, spoil: str) -> None:
    async with SITES[name](False) as b:
        asked = b.limit("asked")
        await b.accepted(asked)
        filled = b.market("filled")
        await b.accepted(filled)  # so that no list is rightly empty
        for what, ask in questions(b, filled).items():
            if what == "server time":
                continue
            with spoiled(b, SPOILS[spoil]):
                found = await ask()
            assert isinstance(found, Failed), f"{what}: {found}"
        order = b.limit("sent")
        with spoiled(b, SPOILS[spoil]):
            assert isinstance(await b.submit(order), Silence)
            assert not isinstance(await b.cancel(asked), Acked)
        assert b.hand.orders(order.cid) == 1
        assert (await b.find(order)).status == "open"


# ------------------------------------------------------------------------------------------------ fields of real rows


def rows_in(answer: Any) -> list[dict[str, Any]]:
    """Every object in an answer that holds no other list: the rows, wherever the venue puts them."""
    if isinstance(answer, list):
        return [row for inner in answer for row in rows_in(inner)]
    if not isinstance(answer, dict):
        return []
    inner = [row for value in answer.values() if isinstance(value, list | dict) for row in rows_in(value)]
    return inner or [answer]


def fields(body: bytes) -> list[str]:
    return sorted({name for row in rows_in(json.loads(body)) for name in row})


def changed(name: str, value: Any) -> Spoil:
    """That field of every row; `...` as value: without it."""

    def spoil(body: bytes) -> bytes:
        answer = json.loads(body)
        for row in rows_in(answer):
            if name in row:
                if value is ...:
                    del row[name]
                else:
                    row[name] = value
        return json.dumps(answer).encode()

    return spoil


def listened(b: Bench, only: str) -> tuple[list[bytes], Any]:
    heard: list[bytes] = []

    def keep(body: bytes) -> bytes:
        heard.append(body)
        return body

    return heard, spoiled(b, keep, only)


# Names for which another text is as good: of those the venue can say what it likes.
NAMES_OF_THINGS = ("execId", "id", "tradeId", "orderId")
BAD_VALUES: tuple[Any, ...] = (..., "FROZEN", "", "NaN", "-1", None, [], {"a": 1}, 10**30)
# What a row must say as it was, or the question has failed. Fees and reasons may be told elsewhere.
ORDER_FACTS = ("symbol", "cid", "side", "qty", "filled_qty", "status")
FILL_FACTS = ("symbol", "exec_id", "side", "qty", "price")


@pytest.mark.parametrize("name", NAMES)
async def test_an_order_of_which_a_field_is_missing_or_odd_is_told_rightly_or_not_at_all(name: str) -> None:
    path = "/order"
    async with SITES[name](False) as b:
        order = b.limit("odd")
        await b.accepted(order)
        true = await b.find(order)
        heard, listening = listened(b, path)
        with listening:
            await b.look(order)
        for field in fields(heard[0]):
            for value in BAD_VALUES:
                with spoiled(b, changed(field, value), path):
                    found = await b.look(order)
                if isinstance(found, OrderReport):
                    for fact in ORDER_FACTS:
                        assert getattr(found, fact) == getattr(true, fact), f"{field} = {value!r}: {fact} is guessed"
                elif isinstance(found, NotFound):
                    # A row that says it is another order's is none of this one's.
                    assert field in ("orderLinkId", "list", "retCode", "symbol"), f"{field} = {value!r}"


@pytest.mark.parametrize("name", NAMES)
async def test_an_execution_of_which_a_field_is_missing_or_odd_is_told_rightly_or_not_at_all(name: str) -> None:
    path = {"bybit": "/execution/list", "binance": "Trades"}[name.partition("-")[0]]
    async with SITES[name](False) as b:
        order = b.market("odd")
        await b.accepted(order)
        (true,) = await b.fills()
        heard, listening = listened(b, path)
        with listening:
            await b.fills()
        for field in fields(heard[0]):
            if field == "symbol" and name.startswith("bybit"):
                continue  # asked for over all symbols: it may as well be another
            for value in BAD_VALUES if field not in NAMES_OF_THINGS else (..., None, [], {"a": 1}):
                with spoiled(b, changed(field, value), path):
                    told = await b.venue.fills(b.began_ns - 10**9)
                if isinstance(told, Failed):
                    continue
                for found in (fill for fill in told if isinstance(fill, FillReport)):
                    for fact in FILL_FACTS:
                        assert getattr(found, fact) == getattr(true, fact), f"{field} = {value!r}: {fact} is guessed"


WALLETS = {"bybit": ("/wallet-balance", "coin"), "binance-spot": ("/api/v3/account", "balances"),
           "binance-usdm": ("/fapi/v3/account", "assets")}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_a_balance_row_that_cannot_be_read_costs_the_balances_and_nothing_else(name: str) -> None:
    path, rows = WALLETS.get(name) or WALLETS["bybit"]

    def add(body: bytes) -> bytes:
        answer = json.loads(body)
        account = answer["result"]["list"][0] if name.startswith("bybit") else answer
        amounts = {"walletBalance": "1,5", "locked": "0", "free": "1,5"}
        if name == "binance-usdm":
            amounts = {"walletBalance": "1e999", "availableBalance": "0"}
        account[rows].append({"coin": "ODD", "asset": "ODD", **amounts})
        return json.dumps(answer).encode()

    async with SITES[name](False) as b:
        order = b.market("held")
        await b.accepted(order)
        position = await b.position()
        assert position
        with spoiled(b, add, path):
            assert isinstance(await b.venue.balances(), Failed)
            assert await b.position() == position
            assert [fill.cid for fill in await b.fills()] == [order.cid]


# ------------------------------------------------------------------------------------------------------ sizes and ends


@pytest.mark.parametrize("name", NAMES)
async def test_a_list_of_instruments_of_megabytes_is_read(name: str) -> None:
    path = "instruments-info" if name.startswith("bybit") else "exchangeInfo"

    def grow(body: bytes) -> bytes:
        answer = json.loads(body)
        rows = answer["result"]["list"] if name.startswith("bybit") else answer["symbols"]
        odd = [{**row, "symbol": f"{row['symbol']}{n}", "note": "x" * 200} for row in rows for n in range(900)]
        rows += odd
        return json.dumps(answer).encode()

    async with SITES[name](False) as b:
        with spoiled(b, grow, path):
            listed = await b.venue.instruments()
        assert not isinstance(listed, Failed) and b.instrument in [replace(i) for i in listed]


@pytest.mark.parametrize("frame", [b"x" * 40_000_000, b'{"e": [', b"<html>"], ids=["too large", "cut off", "html"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_frame_that_cannot_be_read_ends_its_stream_and_the_next_one_works(name: str, frame: bytes) -> None:
    async with SITES[name](False) as b:
        hand: Any = b.hand
        async with b.listening() as ear:
            for line in hand._exchange.lines:
                line.socket.post(frame)
            await b.until(lambda: ear.down, "a stream that says nonsense is believed")
        missed = b.market("missed")
        await b.accepted(missed)
        async with b.listening() as ear:
            heard = b.market("heard")
            await b.accepted(heard)
            await b.until(lambda: ear.fills(heard.cid), "the next stream tells nothing")
            assert {fill.cid for fill in await b.fills()} == {missed.cid, heard.cid}


@pytest.mark.parametrize("name", NAMES)
async def test_an_order_socket_that_says_nonsense_leaves_the_order_in_doubt_and_found(name: str) -> None:
    async with SITES[name](True) as b:
        order = b.limit("socket")
        hand: Any = b.hand
        for line in hand._exchange.lines:
            line.socket.post(b"x" * 40_000_000)
        answer = await b.submit(order)
        assert isinstance(answer, Silence | Acked), answer
        assert b.hand.orders(order.cid) <= 1
        after = b.limit("after")
        await b.accepted(after)
        assert (await b.find(after)).status == "open"


async def test_a_listen_key_that_expires_ends_the_stream_and_the_next_one_has_another() -> None:
    async with SITES["binance-usdm"](False) as b:
        hand: Any = b.hand
        face = hand._exchange.faces["binance-usdm"]
        async with b.listening() as ear:
            (before,) = face.listen
            face.listen[before].until_ns = 0
            await b.until(lambda: ear.down, "a stream whose key has expired is believed")
        async with b.listening() as ear:
            assert [key for key, held in face.listen.items() if held.until_ns] != [before]
            heard = b.market("heard")
            await b.accepted(heard)
            await b.until(lambda: ear.fills(heard.cid), "the next stream tells nothing")
