"""python-binance, unmodified but for the addresses: spot and USD-M by REST, user sockets, orders by WebSocket."""

import asyncio
import json
import sys
from typing import Any

from binance import AsyncClient, BinanceSocketManager
from binance.base_client import BaseClient
from binance.exceptions import BinanceAPIException

from tests.exchange.clients.waiting import Watching
from tests.exchange.site import KEY, SECRET


async def main(ports: dict[str, int]) -> dict[str, Any]:
    spot, usdm = ports["binance-spot"], ports["binance-usdm"]
    BaseClient.API_URL = f"http://127.0.0.1:{spot}/api"
    BaseClient.MARGIN_API_URL = f"http://127.0.0.1:{spot}/sapi"
    BaseClient.WS_API_URL = f"ws://127.0.0.1:{spot}/ws-api/v3"
    BaseClient.FUTURES_URL = f"http://127.0.0.1:{usdm}/fapi"
    BaseClient.WS_FUTURES_URL = f"ws://127.0.0.1:{usdm}/ws-fapi/v1"
    BinanceSocketManager.STREAM_URL = f"ws://127.0.0.1:{spot}/"
    BinanceSocketManager.FSTREAM_URL = f"ws://127.0.0.1:{usdm}/"
    client = await AsyncClient.create(KEY, SECRET)
    sockets, watching = BinanceSocketManager(client), Watching()
    try:
        return await trade(client, sockets, watching, spot, usdm)
    finally:
        await client.close_connection()


async def trade(
    client: AsyncClient, sockets: BinanceSocketManager, watching: Watching, spot: int, usdm: int
) -> dict[str, Any]:
    async with (
        sockets.user_socket() as spot_user,
        sockets.futures_user_socket() as futures_user,
        sockets.depth_socket("BTCUSDT") as depth,
    ):
        watching.start("spot", spot_user.recv)
        watching.start("futures", futures_user.recv)
        watching.start("depth", depth.recv)
        try:
            await watching.subscribed(spot, ("user data", "btcusdt@depth"))
            await watching.subscribed(usdm, ("user data",))
            await watching.until(lambda: watching.heard["depth"], "the book")
            return {
                "spot": await trade_spot(client, watching),
                "usdm": await trade_futures(client, watching),
                "depth": watching.heard["depth"][0],
            }
        finally:
            await watching.stop()


async def trade_spot(client: AsyncClient, watching: Watching) -> dict[str, Any]:
    seen: dict[str, Any] = {"info": len((await client.get_exchange_info())["symbols"])}
    top = await client.get_orderbook_ticker(symbol="BTCUSDT")
    bid = float(top["bidPrice"])
    asked: dict[str, Any] = {"symbol": "BTCUSDT"}
    seen["market"] = await client.order_market_buy(**asked, quantity="0.02", newClientOrderId="p-market")
    await client.order_limit_buy(**asked, quantity="0.01", price=f"{bid - 100:.2f}", newClientOrderId="p-limit")
    await client.cancel_order(**asked, origClientOrderId="p-limit", newClientOrderId="p-limit-cancel")
    await client.order_limit_sell(**asked, quantity="0.01", price=f"{bid + 500:.2f}", newClientOrderId="p-rest")
    await client.ws_create_order(
        **asked, side="SELL", type="LIMIT", timeInForce="GTC", quantity="0.01", price=f"{bid + 600:.2f}",
        newClientOrderId="p-ws",
    )  # fmt: skip
    try:
        await client.cancel_order(**asked, origClientOrderId="p-market")
    except BinanceAPIException as error:
        seen["late"] = error.code

    def cancelled() -> bool:
        return any(e.get("C") == "p-limit" and e["X"] == "CANCELED" for e in events("spot", watching))

    await watching.until(cancelled, "the cancel on the stream")
    await watching.until(lambda: any(e.get("c") == "p-ws" for e in events("spot", watching)), "the last order")
    seen["open"] = await client.get_open_orders(symbol="BTCUSDT")
    seen["trades"] = await client.get_my_trades(symbol="BTCUSDT")
    seen["balances"] = (await client.get_account())["balances"]
    seen["events"] = events("spot", watching)
    return seen


async def trade_futures(client: AsyncClient, watching: Watching) -> dict[str, Any]:
    seen: dict[str, Any] = {"info": len((await client.futures_exchange_info())["symbols"])}
    top = await client.futures_orderbook_ticker(symbol="BTCUSDT")
    bid = float(top["bidPrice"])
    asked: dict[str, Any] = {"symbol": "BTCUSDT"}
    await client.futures_change_leverage(**asked, leverage=4)
    seen["market"] = await client.futures_create_order(
        **asked, side="BUY", type="MARKET", quantity="0.02", newClientOrderId="p-market", newOrderRespType="RESULT"
    )
    limit = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
    await client.futures_create_order(
        **asked, **limit, side="BUY", price=f"{bid - 100:.1f}", newClientOrderId="p-limit"
    )
    await client.futures_modify_order(
        **asked, side="BUY", quantity="0.02", price=f"{bid - 200:.1f}", origClientOrderId="p-limit"
    )
    await client.futures_cancel_order(**asked, origClientOrderId="p-limit")
    await client.futures_create_algo_order(
        **asked, algoType="CONDITIONAL", side="SELL", type="STOP_MARKET", triggerPrice=f"{bid - 1000:.1f}",
        closePosition="true", clientAlgoId="p-stop",
    )  # fmt: skip
    await client.ws_futures_create_order(
        **asked, **limit, side="SELL", price=f"{bid + 600:.1f}", newClientOrderId="p-ws"
    )
    await watching.until(lambda: any(e.get("o", {}).get("c") == "p-ws" for e in events("futures", watching)), "p-ws")
    seen["open"] = await client.futures_get_open_orders(symbol="BTCUSDT")
    seen["algos"] = await client.futures_get_open_algo_orders(symbol="BTCUSDT")
    seen["trades"] = await client.futures_account_trades(symbol="BTCUSDT")
    seen["positions"] = await client.futures_position_information(symbol="BTCUSDT")
    seen["balances"] = await client.futures_account_balance()
    seen["events"] = events("futures", watching)
    return seen


def events(name: str, watching: Watching) -> list[dict[str, Any]]:
    """Spot's come wrapped in a subscription or bare, as the library's version has it."""
    return [event.get("event", event) for event in watching.heard[name]]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1]))), default=str))
