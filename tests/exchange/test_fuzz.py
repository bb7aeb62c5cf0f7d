"""Whatever is sent, a face answers: nothing that a client says ends the exchange or changes its books unseen."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.exchange.binance.spot_routes import LAYOUT as SPOT
from engine.exchange.binance.usdm_routes import LAYOUT as USDM
from engine.exchange.bybit.face import OPERATIONS, PUBLIC
from tests.exchange.world import World

NAMES = (
    *("category", "symbol", "side", "orderType", "type", "qty", "quantity", "price", "orderLinkId", "orderId"),
    *("newClientOrderId", "origClientOrderId", "triggerPrice", "triggerDirection", "reduceOnly", "timeInForce"),
    *("limit", "cursor", "startTime", "endTime", "fromId", "algoId", "clientAlgoId", "algoType", "closePosition"),
    *("request", "batchOrders", "orderIdList", "symbols", "interval", "leverage", "buyLeverage", "sellLeverage"),
    *("coin", "settleCoin", "countdownTime", "stopPrice", "quoteOrderQty", "marketUnit", "recvWindow", "mode"),
    *("accountType", "openOnly", "orderFilter", "newQty", "cancelReplaceMode", "listenKey", "depth", "baseCoin"),
)
GOOD = st.sampled_from(
    (
        *("linear", "spot", "BTCUSDT", "Buy", "Sell", "BUY", "SELL", "Market", "Limit", "MARKET", "LIMIT"),
        *("STOP_MARKET", "STOP_LOSS_LIMIT", "GTC", "IOC", "FOK", "PostOnly", "GTX", "0.01", "60000", "59000", "1"),
        *("CONDITIONAL", "true", "STOP_ON_FAILURE", "1m", "5", "1700000000000", "USDT"),
    )
)
BAD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["NaN", "Infinity", "-0", "1e999", "9" * 60, "0." + "1" * 60, "\x00", "[1]", "{}", "[[[["]),
    st.lists(
        st.one_of(st.integers(), st.dictionaries(st.sampled_from(NAMES), st.text(max_size=5), max_size=3)), max_size=3
    ),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
PARAMS = st.dictionaries(st.sampled_from(NAMES), st.one_of(GOOD, BAD), max_size=8)
SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORLD = World()
TRADE = WORLD.connect("bybit", "/v5/trade")
PRIVATE = WORLD.connect("bybit", "/v5/private")
PUBLIC_SOCKET = WORLD.connect("bybit", "/v5/public/linear")
SPOT_API = WORLD.connect("binance-spot", "/ws-api/v3")
USDM_API = WORLD.connect("binance-usdm", "/ws-fapi/v1")
MARKET = WORLD.connect("binance-usdm", "/market/stream", "streams=btcusdt@depth")
USER = WORLD.connect("binance-usdm", "/private/ws", "listenKey=none")
for known in (TRADE, PRIVATE):
    known.log_on()


def sound() -> None:
    for face in WORLD.exchange.faces.values():
        for member in face.house.members.values():
            member.matching.check()


@SETTINGS
@given(st.sampled_from([*OPERATIONS, *(("GET", name) for name in PUBLIC)]), PARAMS)
def test_bybit_answers_anything_in_its_envelope(route: tuple[str, str], params: dict[str, Any]) -> None:
    method, name = route
    path = name.replace(".", "/")
    if method == "GET":
        params = {key: value for key, value in params.items() if isinstance(value, str | int)}
    answer = WORLD.bybit_response(
        method, path, json.loads(json.dumps(params, allow_nan=False, default=str)) if finite(params) else {}
    )
    assert answer.status == 200 and isinstance(json.loads(answer.body)["retCode"], int)
    sound()


@SETTINGS
@given(st.sampled_from(["spot", "usdm"]), st.data(), PARAMS)
def test_binance_answers_anything_with_a_result_or_a_code(
    face: str, data: st.DataObject, params: dict[str, Any]
) -> None:
    method, path = data.draw(st.sampled_from(list((SPOT if face == "spot" else USDM).routes)))
    answer = WORLD.binance_response(face, method, path, **params)
    body = json.loads(answer.body)
    assert answer.status == 200 or isinstance(body["code"], int)
    sound()


@SETTINGS
@given(
    st.sampled_from([TRADE, PRIVATE, PUBLIC_SOCKET, SPOT_API, USDM_API, MARKET, USER]),
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(str.encode),
        st.builds(
            lambda op, args, more: json.dumps({"op": op, "method": op, "args": args, "params": args, **more}).encode(),
            st.sampled_from(
                ["auth", "ping", "subscribe", "unsubscribe", "order.create", "order.cancel-batch", "SUBSCRIBE"]
            )
            | st.sampled_from(["order.place", "session.logon", "userDataStream.subscribe", "account.status", "depth"]),
            st.one_of(
                st.lists(st.one_of(GOOD, st.integers(), st.none(), PARAMS.filter(lambda p: finite(p))), max_size=3),
                PARAMS.filter(lambda p: finite(p)),
            ),
            st.fixed_dictionaries(
                {},
                optional={
                    "header": st.dictionaries(st.just("X-BAPI-TIMESTAMP"), GOOD),
                    "id": BAD.filter(lambda p: finite(p)),
                    "reqId": st.text(max_size=5),
                },
            ),
        ),
    ),
)
def test_sockets_answer_anything(wire: Any, text: bytes) -> None:
    answers = wire.session.hear(text, WORLD.now_ns)
    wire.session.operation(text)
    wire.session.beat(WORLD.now_ns)
    assert all(isinstance(json.loads(answer), dict) for answer in answers)
    sound()


def finite(value: Any) -> bool:
    """JSON has no NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
