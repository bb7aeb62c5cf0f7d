"""Refusals with Binance's numbers; several mean different things on spot (S) and on futures (F)."""

from typing import Any

from engine.core.messages import Instrument, Rejection
from engine.core.money import on_step
from engine.market.orders import OrderRequest


class Refused(Exception):
    """Ends a request with a code, a message and an HTTP status."""

    def __init__(self, code: int, text: str, status: int = 400, data: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status
        self.data = data
        self.headers: tuple[tuple[str, str], ...] = ()


# What the matching engine refuses, by its numbers.
_SPOT = {
    "110072": (-2010, "Duplicate order sent."),
    "170131": (-2010, "Account has insufficient balance for requested action."),
    "110007": (-2010, "Account has insufficient balance for requested action."),
    "170140": (-1013, "Filter failure: NOTIONAL"),
    "110094": (-1013, "Filter failure: NOTIONAL"),
    "110092": (-2010, "Order would trigger immediately."),
    "110093": (-2010, "Order would trigger immediately."),
    "170218": (-2010, "Order would immediately match and take."),
    "110118": (-2010, "Order book liquidity is less than LOT_SIZE filter minimum quantity."),
    "110001": (-2011, "Unknown order sent."),
    "110064": (-2038, "The requested action would change no state; rejecting."),
}
_FUTURES = {
    "110072": (-4116, "ClientOrderId is duplicated."),
    "110007": (-2019, "Margin is insufficient."),
    "110094": (-4164, "Order's notional must be no smaller than 5 (unless you choose reduce only)."),
    "110092": (-2021, "Order would immediately trigger."),
    "110093": (-2021, "Order would immediately trigger."),
    "170218": (-5022, "Due to the order could not be executed as maker, the Post Only order will be rejected."),
    "110118": (-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit."),
    "110017": (-2022, "ReduceOnly Order is rejected."),
    "110001": (-2011, "Unknown order sent."),
}


def refused(category: str, rejection: Rejection) -> Refused:
    known = (_SPOT if category == "spot" else _FUTURES).get(rejection.code)
    return Refused(*(known or (-1013 if category == "spot" else -1102, rejection.text)))


def check_filters(category: str, instrument: Instrument, r: OrderRequest) -> None:
    """Raises Refused with the filter's own code; the matching engine has one for all of them."""
    for price in (r.price, r.trigger_price):
        if price is not None and (price <= 0 or not on_step(price, instrument.tick)):
            futures = (-4014, "Price not increased by tick size.") if price > 0 else (-4013, "Price less than min.")
            raise Refused(*((-1013, "Filter failure: PRICE_FILTER") if category == "spot" else futures))
    if instrument.qty_min <= r.qty <= instrument.qty_max and on_step(r.qty, instrument.lot):
        return
    if category == "spot":
        raise Refused(-1013, "Filter failure: LOT_SIZE")
    if r.qty <= 0:
        raise Refused(-4003, "Quantity less than or equal to zero.")
    if r.qty < instrument.qty_min:
        raise Refused(-4004, "Quantity less than min quantity.")
    if r.qty > instrument.qty_max:
        raise Refused(-4005, "Quantity greater than max quantity.")
    raise Refused(-1111, "Precision is over the maximum defined for this asset.")


def missing(name: str) -> Refused:
    return Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
