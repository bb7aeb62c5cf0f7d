"""Every refusal has one meaning, and what is not known is in doubt."""

import re
from pathlib import Path

import pytest

from engine.core.messages import Rejection, Silence
from engine.venues.binance.errors import (
    CODES,
    TEXTS,
    Class,
    ErrorBody,
    Market,
    judge,
    judge_body,
    meaning_of,
    read_error,
)

SHEET = Path(__file__).resolve().parents[4] / "shared" / "reference" / "venue-binance.md"
BOTH = (Market.SPOT, Market.USDM)

# The sheet's word for a code, where the row says one thing for one market and another for the other.
EXCEPTIONS = {
    (-1001, Market.SPOT): Class.AMBIGUOUS,
    (-1001, Market.USDM): Class.RETRY,
    (-2021, Market.SPOT): Class.AMBIGUOUS,  # "parse data, query both"
    (-2021, Market.USDM): Class.REJECT,
    (-2022, Market.SPOT): Class.REJECT,
    (-2022, Market.USDM): Class.REJECT,
    (-2026, Market.SPOT): Class.REJECT,  # "final"
    (-2026, Market.USDM): Class.REJECT,
    (-2010, Market.SPOT): Class.AMBIGUOUS,  # without a text that is known
    (-2010, Market.USDM): Class.AMBIGUOUS,
    (-2042, Market.SPOT): Class.RETRY,
    (-4061, Market.USDM): Class.HALT,  # "REJECT, then HALT"
    (-4083, Market.USDM): Class.AMBIGUOUS,  # shares its row with two rejections
    (-1003, Market.SPOT): Class.RETRY,
    (-1003, Market.USDM): Class.RETRY,
}


def sheet_rows() -> list[tuple[int, tuple[Market, ...], str]]:
    """(code, markets, the class column) of each code in the tables of the sheet's sections 7.2 to 7.4."""
    text = SHEET.read_text(encoding="utf-8")
    rows: list[tuple[int, tuple[Market, ...], str]] = []
    for number in ("7.2", "7.3", "7.4"):
        section = text.split(f"### {number} ", 1)[1].split("\n### ", 1)[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) < 5 or not cells[1].startswith(("-1", "-2", "-4", "-5")):
                continue
            whole_row = re.search(r"\((S|F)[^)]*\)$", cells[1])
            for part in re.split(r" / |, ", cells[1]):
                mark = re.search(r"\((S|F)", part) or whole_row
                if number == "7.4":
                    markets: tuple[Market, ...] = (Market.USDM,)
                elif mark is None:
                    markets = BOTH
                else:
                    markets = (Market.SPOT,) if mark[1] == "S" else (Market.USDM,)
                for code in _codes(part):
                    rows.append((code, markets, cells[3]))
    return rows


def _codes(part: str) -> list[int]:
    span = re.search(r"(-\d{4})\.\.(-\d{4})", part)
    if span:
        return list(range(int(span[1]), int(span[2]) - 1, -1))
    return [int(found) for found in re.findall(r"-\d{4}", part)]


@pytest.mark.skipif(not SHEET.exists(), reason="the facts sheet is not here")
def test_every_code_of_the_sheet_stands_in_the_table_with_its_class() -> None:
    rows = sheet_rows()
    assert len(rows) > 150, "the sheet is read as it was written"
    for code, markets, words in rows:
        for market in markets:
            assert code in CODES[market], f"{code} of {market.value} has no meaning"
            expected = EXCEPTIONS.get((code, market)) or _class_in(words)
            assert CODES[market][code].klass is expected, f"{code} of {market.value}: the sheet says {words!r}"


def _class_in(words: str) -> Class:
    words = words.replace("*", "")
    if words.startswith("ok"):
        return Class.DONE
    found = re.match(r"(RETRY|AMBIGUOUS|REJECT|HALT)", words)
    assert found, words
    return Class[found[1]]


@pytest.mark.skipif(not SHEET.exists(), reason="the facts sheet is not here")
def test_every_text_of_the_sheet_is_known() -> None:
    section = SHEET.read_text(encoding="utf-8").split("### 7.5 ", 1)[1].split("\n## ", 1)[0]
    texts = re.findall(r'"([^"]+)"', section)
    assert len(texts) > 15
    for text in texts:
        for form in _forms(text):
            assert any(part in form.lower() for part, _ in TEXTS), f"{form!r} is not known"


def _forms(text: str) -> list[str]:
    if "restricted/not permitted" in text:
        return [text.replace("restricted/not permitted", word) for word in ("restricted", "not permitted")]
    return [text]


@pytest.mark.parametrize("market", BOTH)
def test_an_unknown_code_is_in_doubt(market: Market) -> None:
    verdict = judge(market, 400, ErrorBody(-9999, "something new"))
    assert verdict.answer() == Silence("-9999: something new")


SPOT_CASES = [
    (400, ErrorBody(-2010, "Account has insufficient balance for requested action."), "insufficient"),
    (400, ErrorBody(-2010, "Stop loss orders are not supported for this symbol."), "invalid"),
    (400, ErrorBody(-2010, "Order would trigger immediately."), "triggered"),
    (400, ErrorBody(-2010, "Order would immediately match and take."), "invalid"),
    (400, ErrorBody(-2010, "Duplicate order sent."), "duplicate"),
    (400, ErrorBody(-2010, "This account may not place or cancel orders."), "auth"),
    (400, ErrorBody(-2010, "Words that nobody has seen"), None),
    (400, ErrorBody(-2011, "Unknown order sent."), "not_found"),
    (400, ErrorBody(-2013, "Order does not exist."), "not_found"),
    (400, ErrorBody(-1013, "Filter failure: LOT_SIZE"), "invalid"),
    (400, ErrorBody(-1021, "Timestamp for this request is outside of the recvWindow."), "unavailable"),
    (401, ErrorBody(-2015, "Invalid API-key, IP, or permissions for action."), "auth"),
    (429, ErrorBody(-1003, "Too many requests"), "rate_limited"),
    (418, ErrorBody(-1003, "IP banned until 1700000000000"), "rate_limited"),
    (403, None, "auth"),
    (404, None, "invalid"),
    (410, None, "auth"),
    (408, None, None),
    (200, None, None),
    (500, ErrorBody(-1008, "Server is overloaded"), None),
    (503, ErrorBody(-1001, "Internal error; unable to process your request. Please try again."), None),
    (503, None, None),
    (502, None, None),
    (504, ErrorBody(-1007, "Timeout waiting for response from backend server."), None),
]


@pytest.mark.parametrize(("status", "error", "kind"), SPOT_CASES)
def test_what_a_refusal_of_spot_means(status: int, error: ErrorBody | None, kind: str | None) -> None:
    _expect(judge(Market.SPOT, status, error).answer(), kind)


USDM_CASES = [
    (400, ErrorBody(-2019, "Margin is insufficient."), "insufficient"),
    (400, ErrorBody(-2021, "Order would immediately trigger."), "triggered"),
    (400, ErrorBody(-2022, "ReduceOnly Order is rejected."), "invalid"),
    (400, ErrorBody(-4116, "clientOrderId is duplicated."), "duplicate"),
    (400, ErrorBody(-4164, "Order's notional must be no smaller than 5.0"), "invalid"),
    (400, ErrorBody(-5021, "FOK"), "invalid"),
    (400, ErrorBody(-5022, "GTX"), "invalid"),
    (400, ErrorBody(-5028, "too late"), "unavailable"),
    (400, ErrorBody(-4061, "Order's position side does not match user's setting."), "auth"),
    (400, ErrorBody(-2010, "NEW_ORDER_REJECTED"), None),
    (503, ErrorBody(-1008, "Request throttled by system-level protection."), "unavailable"),
    (503, ErrorBody(-1001, "Internal error; unable to process your request. Please try again."), "unavailable"),
    (503, ErrorBody(0, "Service Unavailable."), "unavailable"),
    (503, ErrorBody(0, "Unknown error, please check your request or try again later."), None),
    (500, ErrorBody(-1008, "Request throttled by system-level protection."), None),
    (408, ErrorBody(-1007, "Timeout"), None),
]


@pytest.mark.parametrize(("status", "error", "kind"), USDM_CASES)
def test_what_a_refusal_of_usdm_means(status: int, error: ErrorBody | None, kind: str | None) -> None:
    _expect(judge(Market.USDM, status, error).answer(), kind)


def _expect(answer: Rejection | Silence, kind: str | None) -> None:
    if kind is None:
        assert isinstance(answer, Silence)
    else:
        assert isinstance(answer, Rejection) and answer.kind == kind


@pytest.mark.parametrize("body", [b"", b"<html>403</html>", b'{"code":-10', b'{"code":"x"}', b"[1]", b"\xff", b"null"])
def test_a_body_that_is_no_error_leaves_the_order_in_doubt(body: bytes) -> None:
    assert read_error(body) is None
    assert isinstance(judge_body(Market.SPOT, 400, body).answer(), Silence)


def test_a_long_text_is_cut() -> None:
    verdict = judge_body(Market.USDM, 500, b"<html>" + b"x" * 100_000)
    assert len(verdict.text) == 300


def test_settings_that_are_already_so_are_done() -> None:
    assert {c for c, m in CODES[Market.USDM].items() if m.klass is Class.DONE} == {-4046, -4059, -4171}


def test_a_text_decides_only_where_the_code_leaves_it_open() -> None:
    assert meaning_of(Market.SPOT, -1121, "Duplicate order sent.").kind == "invalid"
