"""Refusals with Bybit's numbers."""

from engine.core.messages import Rejection


class Refused(Exception):
    """Ends a request with a retCode and a retMsg; some come with an HTTP status of their own."""

    def __init__(self, code: int, text: str, status: int = 200) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


# The matching engine speaks with the numbers of futures (docs `error.mdx`); spot has its own for the same.
_SPOT = {"110072": 170141, "110001": 170213, "110007": 170131, "110094": 170140, "110064": 170313}
_TEXTS = {
    110001: "order not exists or too late to cancel",
    110007: "ab not enough for new order",
    110072: "OrderLinkedID is duplicate",
    170131: "Insufficient balance.",
    170141: "Duplicate clientOrderId",
    170213: "Order does not exist.",
}


def refused(category: str, rejection: Rejection) -> Refused:
    code = _SPOT.get(rejection.code, int(rejection.code)) if category == "spot" else int(rejection.code)
    return Refused(code, _TEXTS.get(code, rejection.text))
