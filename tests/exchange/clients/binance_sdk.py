"""Binance's own modular SDKs, unmodified, told where to go by their configurations: spot and USD-M futures."""

import asyncio
import json
import sys
from typing import Any

from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import BadRequestError
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import DerivativesTradingUsdsFutures
from binance_sdk_spot.spot import Spot

from tests.exchange.clients.waiting import Watching
from tests.exchange.site import KEY, SECRET

KEYS = {"api_key": KEY, "api_secret": SECRET}


async def main(ports: dict[str, int]) -> dict[str, Any]:
    return {"spot": await on_spot(ports["binance-spot"]), "usdm": await on_futures(ports["binance-usdm"])}


async def on_spot(port: int) -> dict[str, Any]:
    host = f"127.0.0.1:{port}"
    client = Spot(
        ConfigurationRestAPI(**KEYS, base_path=f"http://{host}", timeout=30_000),
        ConfigurationWebSocketAPI(**KEYS, stream_url=f"ws://{host}/ws-api/v3", timeout=30_000),
    )
    rest, events = client.rest_api, []
    connection = await client.websocket_api.create_connection()
    subscription = await connection.user_data_stream_subscribe_signature()
    subscription.stream.on("message", lambda event: events.append(plain(event)))
    asked: dict[str, Any] = {"symbol": "BTCUSDT"}
    bid = float(plain(rest.ticker_book_ticker(**asked).data())["bidPrice"])
    seen: dict[str, Any] = {}
    seen["market"] = plain(
        rest.new_order(**asked, side="BUY", type="MARKET", quantity=0.02, new_client_order_id="o-market").data()
    )
    limit: dict[str, Any] = {"type": "LIMIT", "time_in_force": "GTC", "quantity": 0.01}
    rest.new_order(**asked, **limit, side="BUY", price=bid - 100, new_client_order_id="o-limit")
    rest.delete_order(**asked, orig_client_order_id="o-limit")
    placed = await connection.order_place(**asked, **limit, side="SELL", price=bid + 500, new_client_order_id="o-ws")
    seen["by socket"] = plain(placed.data().result)
    try:
        rest.new_order(**asked, side="SELL", type="MARKET", quantity=100)
    except BadRequestError as error:
        seen["refused"] = str(error)
    await Watching().until(lambda: any("o-ws" in json.dumps(event) for event in events), "the last order")
    seen["open"] = plain(rest.get_open_orders(**asked).data())
    seen["trades"] = plain(rest.my_trades(**asked).data())
    seen["balances"] = plain(rest.get_account().data())["balances"]
    seen["events"] = events
    await connection.close_connection(close_session=True)
    return seen


async def on_futures(port: int) -> dict[str, Any]:
    host = f"127.0.0.1:{port}"
    client = DerivativesTradingUsdsFutures(
        ConfigurationRestAPI(**KEYS, base_path=f"http://{host}", timeout=30_000),
        ConfigurationWebSocketAPI(**KEYS, stream_url=f"ws://{host}/ws-fapi/v1", timeout=30_000),
        ConfigurationWebSocketStreams(stream_url=f"ws://{host}"),
    )
    rest, events = client.rest_api, []
    key = plain(rest.start_user_data_stream().data())["listenKey"]
    streams = await client.websocket_streams.create_connection()
    stream = await streams.user_data(key)
    stream.on("message", lambda event: events.append(plain(event)))
    await Watching().subscribed(port, ("user data",))
    asked: dict[str, Any] = {"symbol": "BTCUSDT"}
    bid = float(plain(rest.symbol_order_book_ticker(**asked).data())["bidPrice"])
    seen: dict[str, Any] = {}
    rest.change_initial_leverage(**asked, leverage=4)
    rest.new_order(**asked, side="BUY", type="MARKET", quantity=0.02, new_client_order_id="o-market")
    limit: dict[str, Any] = {"type": "LIMIT", "time_in_force": "GTC", "quantity": 0.01}
    rest.new_order(**asked, **limit, side="BUY", price=bid - 100, new_client_order_id="o-limit")
    rest.modify_order(**asked, side="BUY", quantity=0.02, price=bid - 200, orig_client_order_id="o-limit")
    seen["modified"] = plain(rest.query_order(**asked, orig_client_order_id="o-limit").data())
    rest.cancel_order(**asked, orig_client_order_id="o-limit")
    rest.new_algo_order(
        "CONDITIONAL", **asked, side="SELL", type="STOP_MARKET", trigger_price=bid - 1000, close_position="true",
        client_algo_id="o-stop",
    )  # fmt: skip
    connection = await client.websocket_api.create_connection()
    placed = await connection.new_order(**asked, **limit, side="SELL", price=bid + 500, new_client_order_id="o-ws")
    seen["by socket"] = plain(placed.data().result)
    await Watching().until(lambda: any("o-ws" in json.dumps(event) for event in events), "the last order")
    seen["open"] = plain(rest.current_all_open_orders(**asked).data())
    seen["algos"] = plain(rest.current_all_algo_open_orders(**asked).data())
    seen["trades"] = plain(rest.account_trade_list(**asked).data())
    seen["positions"] = plain(rest.position_information_v3(**asked).data())
    seen["balances"] = plain(rest.futures_account_balance_v3().data())
    seen["events"] = events
    await connection.close_connection(close_session=True)
    await streams.close_connection(close_session=True)
    return seen


def plain(answer: Any) -> Any:
    """A model, or a list of them, under the names of the wire."""
    if isinstance(answer, list):
        return [plain(one) for one in answer]
    inner = getattr(answer, "actual_instance", None) or answer
    return json.loads(inner.to_json()) if hasattr(inner, "to_json") else inner


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1]))), default=str))
