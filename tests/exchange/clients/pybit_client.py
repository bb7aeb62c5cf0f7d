"""pybit, unmodified but for its address: HTTP, public, private and trade WebSocket. Prints what it saw."""

import json
import os
import sys
import time
import traceback
from typing import Any

import pybit._http_manager as http_manager
import pybit._websocket_trading as trading
import pybit.unified_trading as unified
from pybit.exceptions import InvalidRequestError

from tests.exchange.site import KEY, SECRET

WAIT_SECONDS = 60.0
# Its sign-in is valid for a second if nothing is said; one that comes later is refused, and pybit then waits for ever.
PATIENT = {"private_auth_expire": 30}


def main(port: int) -> dict[str, Any]:
    http_manager.HTTP_URL = f"http://127.0.0.1:{port}"
    unified.PRIVATE_WSS = f"ws://127.0.0.1:{port}/v5/private"
    unified.PUBLIC_WSS = f"ws://127.0.0.1:{port}/v5/public/{{CHANNEL_TYPE}}"
    trading.TRADE_WSS = f"ws://127.0.0.1:{port}/v5/trade"
    session = unified.HTTP(api_key=KEY, api_secret=SECRET, recv_window=20_000)
    heard: dict[str, list[Any]] = {"order": [], "execution": [], "position": [], "wallet": [], "book": [], "trade": []}
    private = unified.WebSocket(channel_type="private", testnet=False, api_key=KEY, api_secret=SECRET, **PATIENT)
    private.order_stream(lambda m: heard["order"].extend(m["data"]))
    private.execution_stream(lambda m: heard["execution"].extend(m["data"]))
    private.position_stream(lambda m: heard["position"].extend(m["data"]))
    private.wallet_stream(lambda m: heard["wallet"].extend(m["data"]))
    public = unified.WebSocket(channel_type="linear", testnet=False)
    public.orderbook_stream(50, "BTCUSDT", lambda m: heard["book"].append(m["data"]))
    seen: dict[str, Any] = {}
    market = session.get_tickers(category="linear", symbol="BTCUSDT")["result"]["list"][0]
    ask, bid = float(market["ask1Price"]), float(market["bid1Price"])
    seen["instruments"] = len(session.get_instruments_info(category="linear")["result"]["list"])
    seen["leverage"] = session.set_leverage(category="linear", symbol="BTCUSDT", buyLeverage="5", sellLeverage="5")
    wait(lambda: heard["book"], "a book")

    linear = {"category": "linear", "symbol": "BTCUSDT"}
    placed = session.place_order(
        **linear, side="Buy", orderType="Limit", qty="0.01", price=str(bid - 100), orderLinkId="rest-1"
    )["result"]
    wait(lambda: any(o["orderLinkId"] == "rest-1" and o["orderStatus"] == "New" for o in heard["order"]), "New")
    session.amend_order(**linear, orderLinkId="rest-1", qty="0.02", price=str(bid - 200))
    seen["amended"] = session.get_open_orders(**linear, orderLinkId="rest-1")["result"]["list"][0]
    session.cancel_order(**linear, orderId=placed["orderId"])
    seen["canceled"] = session.get_order_history(**linear, orderLinkId="rest-1")["result"]["list"][0]
    session.place_order(**linear, side="Buy", orderType="Market", qty="0.01", orderLinkId="taker-1")
    session.place_order(
        **linear, side="Sell", orderType="Market", qty="0.01", triggerPrice=str(bid - 1000), triggerDirection=2,
        reduceOnly=True, orderLinkId="stop-1",
    )  # fmt: skip
    seen["late"] = refusal(lambda: session.cancel_order(**linear, orderLinkId="taker-1"))
    seen["duplicate"] = refusal(
        lambda: session.place_order(**linear, side="Buy", orderType="Market", qty="0.01", orderLinkId="taker-1")
    )
    batch = session.place_batch_order(
        category="linear",
        request=[
            {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": str(bid - 300)},
            {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.00001", "price": str(bid - 300)},
        ],
    )
    seen["batch"] = [item["code"] for item in batch["retExtInfo"]["list"]]

    replies: list[dict[str, Any]] = []
    trade = unified.WebSocketTrading(testnet=False, api_key=KEY, api_secret=SECRET, **PATIENT)
    wait(lambda: trade.auth, "auth of the trade socket")
    trade.place_order(
        replies.append, **linear, side="Buy", orderType="Limit", qty="0.01", price=str(ask), timeInForce="PostOnly",
        orderLinkId="ws-1",
    )  # fmt: skip
    trade.place_order(
        replies.append, **linear, side="Sell", orderType="Limit", qty="0.03", price=str(ask + 500), orderLinkId="ws-2"
    )
    wait(lambda: len(replies) == 2, "two replies on the trade socket")
    trade.cancel_order(replies.append, **linear, orderLinkId="ws-2")
    wait(lambda: len(replies) == 3, "the cancel's reply")
    seen["replies"] = [(r["op"], r["retCode"], r["data"]["orderLinkId"]) for r in replies]

    spot = {"category": "spot", "symbol": "BTCUSDT"}
    session.place_order(**spot, side="Buy", orderType="Market", qty="1000", orderLinkId="spot-1")
    session.place_order(**spot, side="Sell", orderType="Limit", qty="0.01", price="65000", orderLinkId="spot-2")
    wait(lambda: any(o["orderLinkId"] == "spot-2" for o in heard["order"]), "the last order")
    wait(lambda: sum(e["category"] == "spot" for e in heard["execution"]) > 0, "a spot execution")

    seen["spot order"] = session.get_order_history(**spot, orderLinkId="spot-1")["result"]["list"][0]
    seen["open"] = [
        *session.get_open_orders(category="linear", settleCoin="USDT")["result"]["list"],
        *session.get_open_orders(category="spot")["result"]["list"],
    ]
    seen["executions"] = [
        *session.get_executions(category="linear", limit=100)["result"]["list"],
        *session.get_executions(category="spot", limit=100)["result"]["list"],
    ]
    seen["positions"] = session.get_positions(category="linear", settleCoin="USDT")["result"]["list"]
    seen["wallet"] = session.get_wallet_balance(accountType="UNIFIED")["result"]["list"][0]
    seen["key"] = session.get_api_key_information()["result"]["permissions"]
    seen["streamed"] = heard
    return seen


def wait(until: Any, what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


def refusal(call: Any) -> int:
    try:
        call()
    except InvalidRequestError as error:
        return int(error.status_code)
    return 0


if __name__ == "__main__":
    code = 1
    try:
        print(json.dumps(main(json.loads(sys.argv[1])["bybit"])), flush=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)  # its reader threads never end by themselves
