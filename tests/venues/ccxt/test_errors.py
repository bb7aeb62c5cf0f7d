"""Each of ccxt's unified errors as one of our answers; what is not in the table, or speaks of doubt, is doubt."""

import pytest

from engine.core.messages import Acked, Rejection, Silence
from engine.venues.bybit.errors import CODES as BYBIT_CODES
from engine.venues.bybit.errors import Class as BybitClass
from engine.venues.ccxt.errors import ERRORS, Class, answer_to_change, answer_to_place, failed, known, native_of
from engine.venues.ccxt.lines import Told
from engine.venues.ccxt.process import Gone

KINDS = {  # what the order path is told of a new order, by the error's name
    name: kind
    for kind, names in {
        "unavailable": "InvalidNonce",
        "rate_limited": "RateLimitExceeded DDoSProtection",
        "duplicate": "DuplicateOrderId",
        "insufficient": "InsufficientFunds",
        "invalid": "InvalidOrder OrderNotFillable OrderImmediatelyFillable ContractUnavailable BadRequest BadSymbol "
        "ArgumentsRequired NotSupported OperationRejected MarketClosed InvalidAddress AddressPending "
        "InvalidProxySettings",
        "auth": "AuthenticationError PermissionDenied AccountNotEnabled AccountSuspended RestrictedLocation "
        "ManualInteractionNeeded",
    }.items()
    for name in names.split()
}
UNCLEAR = [name for name in ERRORS if name not in KINDS]


def told(error: str, text: str = "no", code: str = "", status: int = 200, sent: int = 1) -> Told:
    return Told(1, error=error, text=text, code=code, status=status, sent=sent)


def test_every_error_that_ccxt_has_is_in_the_table_and_no_other() -> None:
    errors = pytest.importorskip("ccxt.base.errors")
    names = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.BaseError)}
    assert names == set(ERRORS) - {"Malformed"}


@pytest.mark.parametrize("error", list(KINDS))
def test_a_no_is_a_no_of_its_kind(error: str) -> None:
    answer = answer_to_place(told(error), None)
    assert isinstance(answer, Rejection) and (answer.kind, answer.code) == (KINDS[error], error)


@pytest.mark.parametrize("error", [*UNCLEAR, "SomethingOfTomorrow"])
def test_everything_else_is_doubt_about_a_new_order(error: str) -> None:
    assert isinstance(answer_to_place(told(error), None), Silence)


@pytest.mark.parametrize("error", list(ERRORS))
def test_before_any_request_left_nothing_is_doubt(error: str) -> None:
    for answer in (answer_to_place(told(error, sent=0), None), answer_to_change(told(error, sent=0), None)):
        assert isinstance(answer, Rejection) and answer.kind in ("invalid", "not_sent", "auth")
    network = answer_to_place(told("NetworkError", sent=0), None)
    assert isinstance(network, Rejection) and network.kind == "not_sent", "that may be tried again"


@pytest.mark.parametrize(
    "text",
    [
        "Order creation timeout.",
        "request timed out",
        "unknown status",
        "Internal error",
        "please try again later",
        "busy",
    ],
)
def test_a_no_whose_words_speak_of_doubt_is_doubt(text: str) -> None:
    assert isinstance(answer_to_place(told("InvalidOrder", text), None), Silence)
    assert isinstance(answer_to_change(told("InvalidOrder", text), None), Silence)


def test_an_id_that_exists_means_that_the_first_request_landed() -> None:
    answer = answer_to_place(told("InvalidOrder", "Duplicate order sent."), None)
    assert isinstance(answer, Rejection) and answer.kind == "duplicate"


def test_a_cancel_that_finds_nothing_says_so_and_no_change_is_done() -> None:
    gone = answer_to_change(told("OrderNotFound", "unknown order"), None)
    assert isinstance(gone, Rejection) and gone.kind == "not_found"
    assert answer_to_change(told("NoChange"), None) == Acked("")
    assert isinstance(answer_to_place(told("NoChange"), None), Silence)
    assert isinstance(answer_to_change(told("ExchangeError"), None), Silence)


@pytest.mark.parametrize("code", list(BYBIT_CODES))
def test_where_we_have_a_table_of_codes_ccxts_class_cannot_make_a_doubt_certain(code: str) -> None:
    """ccxt calls Bybit's 170146, "order creation timeout", an InvalidOrder."""
    answer = answer_to_place(told("InvalidOrder", code=code), native_of("bybit", True))
    kind = BYBIT_CODES[code]
    if kind.word == "duplicate":
        assert isinstance(answer, Rejection) and answer.kind == "duplicate"
    else:
        certain = kind.kind in (BybitClass.REJECT, BybitClass.RETRY, BybitClass.HALT, BybitClass.ASK)
        assert isinstance(answer, Rejection if certain else Silence)


def test_binances_codes_are_read_with_the_status_they_came_with() -> None:
    spot, usdm = native_of("binance", False), native_of("binanceusdm", True)
    busy = told("OperationFailed", '{"code":-1008,"msg":"Server is busy"}', "-1008", 503)
    assert isinstance(answer_to_place(busy, spot), Silence)
    answer = answer_to_place(busy, usdm)
    assert isinstance(answer, Rejection) and answer.kind == "unavailable"
    poor = told("InvalidOrder", "Account has insufficient balance for requested action.", "-2010", 400)
    answer = answer_to_place(poor, spot)
    assert isinstance(answer, Rejection) and answer.kind == "insufficient"
    assert isinstance(answer_to_place(told("RequestTimeout", "unknown", "-1007", 408), spot), Silence)
    assert isinstance(answer_to_place(told("OrderNotFound", "gone", "-2013", 400), spot), Silence)
    assert native_of("kraken", False) is None


def test_a_worker_that_died_left_doubt_only_behind_the_door() -> None:
    assert isinstance(answer_to_place(Gone("killed", True), None), Silence)
    answer = answer_to_place(Gone("killed", False), None)
    assert isinstance(answer, Rejection) and answer.kind == "not_sent"
    assert isinstance(answer_to_change(Gone("killed", True), None), Silence)
    assert failed(Gone("killed", True)).why == "killed" and "no" in failed(told("ExchangeError")).why


def test_the_table_gives_a_word_wherever_it_gives_a_no() -> None:
    for name, meaning in ERRORS.items():
        if meaning.kind in (Class.REJECT, Class.RETRY, Class.ASK, Class.HALT, Class.GONE):
            assert meaning.word, name
    assert known("SomethingOfTomorrow").kind is Class.UNCLEAR
