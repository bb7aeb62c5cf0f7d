"""The engine's orders in Binance's words, parameter for parameter."""

import json
from decimal import Decimal
from typing import Any

import pytest

from engine.core.messages import Leg, Order, OrderType, Side, TimeInForce
from engine.venues.binance.orders import (
    cancel_id,
    id_of_canceled,
    named,
    spot_amend,
    spot_cancel,
    spot_cancel_replace,
    spot_order,
    usdm_algo,
    usdm_batch,
    usdm_batch_cancel,
    usdm_modify,
    usdm_order,
)

CID = "sf1" + "a" * 24 + "aa"


def order(order_type: OrderType = OrderType.MARKET, **fields: Any) -> Order:
    start = Order(
        cid=CID,
        account="main",
        symbol="BTCUSDT",
        signal_id="s1",
        leg=Leg.ENTRY,
        attempt=0,
        side=Side.BUY,
        order_type=order_type,
        qty=Decimal("0.010"),
    )
    return Order(**{f: getattr(start, f) for f in start.__struct_fields__} | fields)


PRICE, TRIGGER = {"price": Decimal("50000.10")}, {"trigger_price": Decimal("49000")}
SPOT = [
    (order(), {"type": "MARKET"}),
    (order(OrderType.LIMIT, **PRICE), {"type": "LIMIT", "timeInForce": "GTC", "price": "50000.1"}),
    (
        order(OrderType.LIMIT, tif=TimeInForce.IOC, **PRICE),
        {"type": "LIMIT", "timeInForce": "IOC", "price": "50000.1"},
    ),
    (
        order(OrderType.LIMIT, tif=TimeInForce.FOK, **PRICE),
        {"type": "LIMIT", "timeInForce": "FOK", "price": "50000.1"},
    ),
    (order(OrderType.LIMIT, tif=TimeInForce.POST_ONLY, **PRICE), {"type": "LIMIT_MAKER", "price": "50000.1"}),
    (order(OrderType.STOP_MARKET, reduce_only=True, **TRIGGER), {"type": "STOP_LOSS", "stopPrice": "49000"}),
    (
        order(OrderType.STOP_LIMIT, **PRICE, **TRIGGER),
        {"type": "STOP_LOSS_LIMIT", "timeInForce": "GTC", "price": "50000.1", "stopPrice": "49000"},
    ),
    (order(OrderType.TAKE_PROFIT_MARKET, **TRIGGER), {"type": "TAKE_PROFIT", "stopPrice": "49000"}),
    (
        order(OrderType.TAKE_PROFIT_LIMIT, **PRICE, **TRIGGER),
        {"type": "TAKE_PROFIT_LIMIT", "timeInForce": "GTC", "price": "50000.1", "stopPrice": "49000"},
    ),
]


@pytest.mark.parametrize(("given", "said"), SPOT)
def test_an_order_on_spot(given: Order, said: dict[str, str]) -> None:
    always = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01", "newClientOrderId": CID}
    assert spot_order(given) == {**always, **said, "newOrderRespType": "ACK"}


USDM = [
    (order(), {"type": "MARKET"}),
    (order(reduce_only=True, side=Side.SELL), {"type": "MARKET", "side": "SELL", "reduceOnly": "true"}),
    (order(OrderType.LIMIT, **PRICE), {"type": "LIMIT", "timeInForce": "GTC", "price": "50000.1"}),
    (
        order(OrderType.LIMIT, tif=TimeInForce.POST_ONLY, **PRICE),
        {"type": "LIMIT", "timeInForce": "GTX", "price": "50000.1"},
    ),
    (
        order(OrderType.LIMIT, tif=TimeInForce.FOK, **PRICE),
        {"type": "LIMIT", "timeInForce": "FOK", "price": "50000.1"},
    ),
]


@pytest.mark.parametrize(("given", "said"), USDM)
def test_an_order_on_usdm(given: Order, said: dict[str, str]) -> None:
    always = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01", "newClientOrderId": CID}
    assert usdm_order(given) == {**always, **said, "newOrderRespType": "ACK"}


ALGO = [
    (order(OrderType.STOP_MARKET, **TRIGGER), {"type": "STOP_MARKET"}),
    (order(OrderType.STOP_LIMIT, **PRICE, **TRIGGER), {"type": "STOP", "timeInForce": "GTC", "price": "50000.1"}),
    (order(OrderType.TAKE_PROFIT_MARKET, reduce_only=True, **TRIGGER), {"type": "TAKE_PROFIT_MARKET"}),
    (
        order(OrderType.TAKE_PROFIT_LIMIT, **PRICE, **TRIGGER),
        {"type": "TAKE_PROFIT", "timeInForce": "GTC", "price": "50000.1"},
    ),
]


@pytest.mark.parametrize(("given", "said"), ALGO)
def test_a_conditional_order_on_usdm_goes_to_the_algo_service_in_its_words(given: Order, said: dict[str, str]) -> None:
    always = {
        "algoType": "CONDITIONAL",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "quantity": "0.01",
        "triggerPrice": "49000",
        "workingType": "CONTRACT_PRICE",
        "clientAlgoId": CID,
    }
    reduces = {"reduceOnly": "true"} if given.reduce_only else {}
    assert usdm_algo(given) == {**always, **said, **reduces}


def test_a_plain_order_is_never_conditional_on_usdm() -> None:
    with pytest.raises(AssertionError):
        usdm_order(order(OrderType.STOP_MARKET, **TRIGGER))


def test_small_and_round_numbers_are_written_plainly() -> None:
    said = spot_order(order(OrderType.LIMIT, qty=Decimal("1E-5"), price=Decimal("1.0E+5")))
    assert (said["quantity"], said["price"]) == ("0.00001", "100000")


def test_the_id_of_a_cancel_leads_back_to_its_order() -> None:
    assert spot_cancel("BTCUSDT", CID) == {
        "symbol": "BTCUSDT",
        "origClientOrderId": CID,
        "newClientOrderId": cancel_id(CID),
    }
    assert len(cancel_id(CID)) <= 36 and id_of_canceled(cancel_id(CID)) == CID and id_of_canceled(CID) == CID


def test_a_foreign_order_without_an_id_is_cancelled_by_its_number() -> None:
    assert spot_cancel("BTCUSDT", "", "77") == {"symbol": "BTCUSDT", "orderId": 77}


def test_a_cancel_replace_sends_nothing_new_unless_the_old_one_is_gone() -> None:
    new = order(OrderType.STOP_MARKET, cid="new", **TRIGGER)
    said = spot_cancel_replace(CID, new)
    assert said == {
        **spot_order(new),
        "cancelReplaceMode": "STOP_ON_FAILURE",
        "cancelOrigClientOrderId": CID,
        "cancelNewClientOrderId": cancel_id(CID),
        "orderRateLimitExceededMode": "DO_NOTHING",
    }


def test_amending_keeps_the_id() -> None:
    assert spot_amend("BTCUSDT", CID, Decimal("0.0050")) == {
        "symbol": "BTCUSDT",
        "origClientOrderId": CID,
        "newQty": "0.005",
        "newClientOrderId": CID,
    }
    assert usdm_modify("BTCUSDT", CID, Side.SELL, Decimal("0.005"), Decimal("50000.0")) == {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "origClientOrderId": CID,
        "quantity": "0.005",
        "price": "50000",
    }


def test_a_batch_is_a_list_in_one_parameter() -> None:
    first, second = order(), order(cid="other", side=Side.SELL)
    said = usdm_batch((first, second))
    assert list(said) == ["batchOrders"]
    assert json.loads(str(said["batchOrders"])) == [usdm_order(first), usdm_order(second)]
    assert usdm_batch_cancel("BTCUSDT", ("a", "b")) == {"symbol": "BTCUSDT", "origClientOrderIdList": '["a","b"]'}
    with pytest.raises(AssertionError):
        usdm_batch((first,) * 6)


def test_an_order_is_named_by_number_where_it_is_known() -> None:
    assert named("BTCUSDT", CID, "12") == {"symbol": "BTCUSDT", "orderId": 12}
    assert named("BTCUSDT", CID) == {"symbol": "BTCUSDT", "origClientOrderId": CID}
