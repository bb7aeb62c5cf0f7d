"""Orders as Bybit wants them: each kind of order with its exact body."""

from decimal import Decimal

import pytest

from engine.core.messages import Cancel, InstrumentKind, OrderType, Quote, Side, TimeInForce
from engine.venues.bybit import orders
from tests.venues.bybit.local import order

D = Decimal
LINEAR, SPOT = InstrumentKind.LINEAR, InstrumentKind.SPOT
BASE = {"symbol": "BTCUSDT", "side": "Buy", "qty": "0.01"}
CID = order().cid


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (LINEAR, {}, {"orderType": "Market", "timeInForce": "IOC", "positionIdx": 0, "reduceOnly": False}),
        (SPOT, {}, {"orderType": "Market", "timeInForce": "IOC", "marketUnit": "baseCoin"}),
        (SPOT, {"reduce_only": True}, {"orderType": "Market", "timeInForce": "IOC", "marketUnit": "baseCoin"}),
        (
            LINEAR,
            {"order_type": OrderType.LIMIT, "price": D("43210.50"), "reduce_only": True},
            {"orderType": "Limit", "price": "43210.5", "timeInForce": "GTC", "positionIdx": 0, "reduceOnly": True},
        ),
        (
            SPOT,
            {"order_type": OrderType.LIMIT, "price": D("1E+4"), "tif": TimeInForce.FOK},
            {"orderType": "Limit", "price": "10000", "timeInForce": "FOK"},
        ),
        (
            SPOT,
            {"order_type": OrderType.STOP_MARKET, "trigger_price": D(9)},
            {
                "orderType": "Market",
                "timeInForce": "IOC",
                "marketUnit": "baseCoin",
                "triggerPrice": "9",
                "orderFilter": "StopOrder",
            },
        ),
    ],
)
def test_the_body_of_a_new_order(kind, changes, said):
    body = orders.create(order(**changes), kind)
    category = "spot" if kind is SPOT else "linear"
    assert body == {"category": category, **BASE, **said, "orderLinkId": CID}


@pytest.mark.parametrize("tif", TimeInForce)
def test_every_time_in_force_has_bybits_word(tif: TimeInForce):
    body = orders.create(order(order_type=OrderType.LIMIT, price=D(1), tif=tif), LINEAR)
    words = {"gtc": "GTC", "ioc": "IOC", "fok": "FOK", "post_only": "PostOnly"}
    assert body["timeInForce"] == words[tif.value]


@pytest.mark.parametrize(
    ("order_type", "side", "direction"),
    [
        (OrderType.STOP_MARKET, Side.SELL, 2),  # a long's stop waits for a fall
        (OrderType.STOP_MARKET, Side.BUY, 1),
        (OrderType.STOP_LIMIT, Side.SELL, 2),
        (OrderType.TAKE_PROFIT_MARKET, Side.SELL, 1),  # its target for a rise
        (OrderType.TAKE_PROFIT_MARKET, Side.BUY, 2),
        (OrderType.TAKE_PROFIT_LIMIT, Side.BUY, 2),
    ],
)
def test_which_way_the_market_must_go_to_set_a_conditional_order_off(order_type, side, direction):
    wanted = order(order_type=order_type, side=side, trigger_price=D("59000.0"), price=D(59000), reduce_only=True)
    body = orders.create(wanted, LINEAR)
    trigger = {"triggerPrice": "59000", "triggerDirection": direction, "triggerBy": "LastPrice"}
    assert {k: v for k, v in body.items() if k.startswith("trigger")} == trigger
    assert body["reduceOnly"] is True
    assert ("price" in body) == (order_type in (OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT))


def test_a_small_quantity_is_written_without_an_exponent():
    assert orders.create(order(qty=D("1E-8")), LINEAR)["qty"] == "0.00000001"


def test_a_cancel_names_the_venues_id_where_it_is_known():
    common = {"category": "linear", "symbol": "BTCUSDT"}
    assert orders.cancel(Cancel("c", "BTCUSDT"), LINEAR) == {**common, "orderLinkId": "c"}
    assert orders.cancel(Cancel("c", "BTCUSDT", "7d0c"), LINEAR) == {**common, "orderId": "7d0c"}
    assert orders.cancel(Cancel("c", "BTCUSDT"), SPOT, conditional=True)["orderFilter"] == "StopOrder"


def test_cancel_all_names_a_symbol_or_on_linear_a_coin():
    assert orders.cancel_all(LINEAR, None, "USDC") == {"category": "linear", "settleCoin": "USDC"}
    assert orders.cancel_all(LINEAR, "ETHUSDT") == {"category": "linear", "symbol": "ETHUSDT"}
    assert orders.cancel_all(SPOT, None) == {"category": "spot"}


def test_an_amendment_says_only_what_changes():
    body = orders.amend("BTCUSDT", "c", LINEAR, price=D("5.10"))
    assert body == {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "c", "price": "5.1"}
    with pytest.raises(AssertionError):
        orders.amend("BTCUSDT", "c", LINEAR)


def test_a_batch_names_its_category_once():
    items = (orders.create(order(), SPOT), orders.create(order("sf1b"), SPOT))
    body = orders.batch(SPOT, items)
    assert body["category"] == "spot"
    assert [item.get("category") for item in body["request"]] == [None, None]
    with pytest.raises(AssertionError):
        orders.batch(SPOT, items * 6)


@pytest.mark.parametrize(
    ("kind", "order_type", "side", "bid", "ask", "kept"),
    [
        (SPOT, OrderType.STOP_MARKET, Side.SELL, 99, 100, True),
        (SPOT, OrderType.STOP_MARKET, Side.SELL, 100, 101, True),
        (SPOT, OrderType.STOP_MARKET, Side.SELL, 101, 102, False),
        (SPOT, OrderType.TAKE_PROFIT_MARKET, Side.SELL, 100, 101, True),
        (SPOT, OrderType.TAKE_PROFIT_MARKET, Side.SELL, 98, 99, False),
        (SPOT, OrderType.STOP_MARKET, Side.BUY, 100, 101, True),
        (SPOT, OrderType.STOP_MARKET, Side.BUY, 98, 99, False),
        (LINEAR, OrderType.STOP_MARKET, Side.SELL, 99, 100, False),  # its direction is said, and the venue refuses
    ],
)
def test_a_stop_that_the_market_has_passed_is_not_sent_to_spot_which_would_take_it_for_a_target(
    kind: InstrumentKind, order_type: OrderType, side: Side, bid: int, ask: int, kept: bool
) -> None:
    """Seed 2264: a position stood without cover for 140 s under a stop that was a target."""
    stop = order(order_type=order_type, side=side, trigger_price=D(100), reduce_only=True)
    quote = Quote(symbol=stop.symbol, bid=D(bid), ask=D(ask), at_ns=10)
    assert bool(orders.passed(stop, kind, quote, 10 + orders.QUOTE_AGE_NS)) is kept
    assert not orders.passed(stop, kind, quote, 11 + orders.QUOTE_AGE_NS), "an old quote says nothing"
    assert not orders.passed(stop, kind, None, 10)
