"""ccxt and ccxt.pro as Bybit's client, unmodified but for the address: REST, streams, orders by WebSocket."""

import asyncio
import json
import sys
from typing import Any

import ccxt.pro

from tests.exchange.clients.waiting import Watching, at_port
from tests.exchange.site import KEY, SECRET

FUTURE, SPOT = "BTC/USDT:USDT", "BTC/USDT"


async def main(port: int) -> dict[str, Any]:
    client = ccxt.pro.bybit({"apiKey": KEY, "secret": SECRET, "options": {"recvWindow": 20_000}})
    client.urls["api"] = at_port(client.urls["api"], port)
    watching = Watching()
    try:
        await client.load_markets()
        watching.start("order", lambda: client.watch_orders())
        watching.start("trade", lambda: client.watch_my_trades())
        watching.start("position", lambda: client.watch_positions())
        watching.start("book", lambda: client.watch_order_book(FUTURE))
        watching.start("ticker", lambda: client.watch_ticker(FUTURE))
        await watching.until(lambda: watching.heard["book"] and watching.heard["ticker"], "the public streams")
        await watching.subscribed(port, ("order", "execution", "position"))
        return await trade(client, watching)
    finally:
        await watching.stop()
        await client.close()


async def trade(client: Any, watching: Watching) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    ticker = await client.fetch_ticker(FUTURE)
    bid, ask = ticker["bid"], ticker["ask"]
    await client.set_leverage(3, FUTURE)
    await client.create_order(FUTURE, "market", "buy", 0.02, None, {"clientOrderId": "c-market"})
    placed = await client.create_order(FUTURE, "limit", "buy", 0.01, bid - 100, {"clientOrderId": "c-limit"})
    trigger = {"triggerPrice": bid - 1000, "triggerDirection": "descending", "reduceOnly": True}
    await client.create_order(FUTURE, "market", "sell", 0.02, None, {**trigger, "clientOrderId": "c-stop"})
    await client.edit_order(placed["id"], FUTURE, "limit", "buy", 0.03, bid - 200)
    seen["edited"] = await client.fetch_open_order(placed["id"], FUTURE)
    await client.cancel_order(placed["id"], FUTURE)
    by_socket = await client.create_order_ws(FUTURE, "limit", "sell", 0.01, ask + 300, {"clientOrderId": "c-ws"})
    await client.edit_order_ws(by_socket["id"], FUTURE, "limit", "sell", 0.02, ask + 400)
    await client.create_order_ws(FUTURE, "limit", "sell", 0.01, ask + 500, {"clientOrderId": "c-ws-2"})
    await client.cancel_order_ws(by_socket["id"], FUTURE)
    await client.create_order(SPOT, "market", "buy", 0.01, None, {"clientOrderId": "c-spot"})
    await client.create_market_buy_order_with_cost(SPOT, 1000)
    await client.create_order(SPOT, "limit", "sell", 0.01, ask + 5000, {"clientOrderId": "c-spot-limit"})
    try:
        await client.create_order(SPOT, "limit", "sell", 100, ask + 5000)
    except ccxt.InsufficientFunds as error:
        seen["refused"] = type(error).__name__
    await watching.until(lambda: len(watching.heard["trade"]) >= 3, "three executions on the stream")
    await watching.until(lambda: watching.statuses().get("c-spot-limit") == "open", "the last order on the stream")
    await watching.until(lambda: watching.statuses().get("c-ws") == "canceled", "the cancel on the stream")
    await watching.until(lambda: watching.heard["position"], "the position on the stream")
    seen["open"] = await client.fetch_open_orders(FUTURE) + await client.fetch_open_orders(SPOT)
    seen["trades"] = await client.fetch_my_trades(FUTURE) + await client.fetch_my_trades(SPOT)
    seen["positions"] = await client.fetch_positions([FUTURE])
    seen["total"] = (await client.fetch_balance())["total"]
    seen["streamed"] = {
        "orders": watching.statuses(),
        "trades": watching.heard["trade"],
        "position": watching.heard["position"][-1],
        "spread": (watching.heard["book"][0], watching.heard["ticker"][0]["ask"]),
    }
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])["bybit"])), default=str))
