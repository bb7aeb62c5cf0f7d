"""ccxt and ccxt.pro as Binance's client, spot or USD-M, unmodified but for the addresses."""

import asyncio
import json
import sys
from typing import Any

import ccxt.pro

from tests.exchange.clients.waiting import Watching, at_port
from tests.exchange.site import KEY, SECRET


async def main(ports: dict[str, int], kind: str) -> dict[str, Any]:
    futures = kind == "usdm"
    options = {
        "recvWindow": 20_000,
        "fetchMargins": False,
        "fetchMarkets": {"types": ["linear"] if futures else ["spot"]},
    }
    client = (ccxt.pro.binanceusdm if futures else ccxt.pro.binance)(
        {"apiKey": KEY, "secret": SECRET, "options": options}
    )
    port = ports["binance-usdm" if futures else "binance-spot"]
    client.urls["api"] = at_port(client.urls["api"], port)
    client.has["fetchCurrencies"] = False
    symbol = "BTC/USDT:USDT" if futures else "BTC/USDT"
    watching = Watching()
    try:
        await client.load_markets()
        watching.start("order", lambda: client.watch_orders())
        watching.start("trade", lambda: client.watch_my_trades())
        watching.start("balance", lambda: client.watch_balance())
        watching.start("book", lambda: client.watch_order_book(symbol))
        await watching.subscribed(port, ("user data",))
        await watching.until(lambda: watching.heard["book"], "the book")
        return await (trade_futures if futures else trade_spot)(client, watching, symbol)
    finally:
        await watching.stop()
        await client.close()


async def trade_futures(client: Any, watching: Watching, symbol: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    top = await client.fetch_bids_asks([symbol])
    bid, ask = top[symbol]["bid"], top[symbol]["ask"]
    await client.set_leverage(3, symbol)
    await client.create_order(symbol, "market", "buy", 0.02, None, {"newClientOrderId": "c-market"})
    placed = await client.create_order(symbol, "limit", "buy", 0.01, bid - 100, {"newClientOrderId": "c-limit"})
    await client.edit_order(placed["id"], symbol, "limit", "buy", 0.03, bid - 200)
    seen["edited"] = await client.fetch_order(placed["id"], symbol)
    await client.cancel_order(placed["id"], symbol)
    stop = {"stopPrice": bid - 1000, "reduceOnly": True, "newClientOrderId": "c-stop"}
    await client.create_order(symbol, "market", "sell", 0.02, None, stop)
    by_socket = await client.create_order_ws(symbol, "limit", "sell", 0.01, ask + 300, {"newClientOrderId": "c-ws"})
    await client.create_order_ws(symbol, "limit", "sell", 0.01, ask + 500, {"newClientOrderId": "c-ws-2"})
    await client.cancel_order_ws(by_socket["id"], symbol)
    try:
        await client.create_order(symbol, "limit", "buy", 0.01, ask + 100, {"postOnly": True})
    except ccxt.InvalidOrder as error:
        seen["refused"] = type(error).__name__
    await watching.until(lambda: watching.statuses().get("c-ws-2") == "open", "the last order on the stream")
    await watching.until(lambda: watching.heard["trade"], "an execution on the stream")
    return seen | await account(client, watching, symbol)


async def trade_spot(client: Any, watching: Watching, symbol: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    top = await client.fetch_ticker(symbol)
    bid, ask = top["bid"], top["ask"]
    await client.create_order(symbol, "market", "buy", 0.02, None, {"newClientOrderId": "c-market"})
    await client.create_market_buy_order_with_cost(symbol, 1000)
    placed = await client.create_order(symbol, "limit", "buy", 0.01, bid - 100, {"newClientOrderId": "c-limit"})
    seen["edited"] = await client.fetch_order(placed["id"], symbol)
    await client.cancel_order(placed["id"], symbol)
    stop = {"stopPrice": bid - 1000, "newClientOrderId": "c-stop"}
    await client.create_order(symbol, "limit", "sell", 0.02, bid - 1100, stop)
    by_socket = await client.create_order_ws(symbol, "limit", "sell", 0.01, ask + 300, {"newClientOrderId": "c-ws"})
    await client.create_order_ws(symbol, "limit", "sell", 0.01, ask + 500, {"newClientOrderId": "c-ws-2"})
    await client.cancel_order_ws(by_socket["id"], symbol)
    try:
        await client.create_order(symbol, "limit", "sell", 100, ask + 100)
    except ccxt.InsufficientFunds as error:
        seen["refused"] = type(error).__name__
    await watching.until(lambda: watching.statuses().get("c-ws-2") == "open", "the last order on the stream")
    await watching.until(lambda: len(watching.heard["trade"]) >= 2, "two executions on the stream")
    return seen | await account(client, watching, symbol)


async def account(client: Any, watching: Watching, symbol: str) -> dict[str, Any]:
    seen: dict[str, Any] = {"open": await client.fetch_open_orders(symbol)}
    if symbol.endswith(":USDT"):
        seen["open"] += await client.fetch_open_orders(symbol, None, None, {"trigger": True})
        seen["positions"] = await client.fetch_positions([symbol])
    seen["trades"] = await client.fetch_my_trades(symbol)
    seen["closed"] = await client.fetch_orders(symbol)
    seen["total"] = (await client.fetch_balance())["total"]
    seen["streamed"] = {
        "orders": watching.statuses(),
        "trades": watching.heard["trade"],
        "balances": [balance["total"] for balance in watching.heard["balance"]],
    }
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2])), default=str))
