"""What spot and futures say of an order and of an execution in the same words."""

from engine.core.messages import FillReport, OrderReport

_BY_REQUEST = "by request"


def status(report: OrderReport) -> str:
    if report.status == "open":
        return "PARTIALLY_FILLED" if report.filled_qty else "NEW"
    if report.status == "canceled":
        return "CANCELED" if report.reason == _BY_REQUEST else "EXPIRED"
    return "FILLED" if report.status == "filled" else "REJECTED"


def trade_id(report: FillReport) -> int:
    return int(report.exec_id[-10:])
