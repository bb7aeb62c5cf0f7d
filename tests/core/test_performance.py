"""Performance figures over closed trades (POS2)."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.messages import Confirmed, Outcome, Side, Trade
from engine.core.performance import Performance, breakdown, performance


def a_trade(number: int, realised: str, fees: str = "0", funding: str = "0", **changes: object) -> Trade:
    fields: dict[str, object] = {
        "trade_id": f"main/BTCUSDT/{number}",
        "account": "main",
        "symbol": "BTCUSDT",
        "side": Side.BUY,
        "state": "closed",
        "source": "http",
        "realised": Decimal(realised),
        "fees": Decimal(fees),
        "funding": Decimal(funding),
        "opened_ns": number * 100,
        "closed_ns": number * 100 + 40,
    }
    return Trade(**(fields | changes))  # type: ignore[arg-type]


def confirmed(slippage: str | None, symbol: str = "BTCUSDT") -> Confirmed:
    return Confirmed(
        at_ns=1,
        account="main",
        symbol=symbol,
        signal_id="s",
        outcome=Outcome.EXECUTED,
        slippage=None if slippage is None else Decimal(slippage),
    )


def test_nothing_traded_divides_by_nothing() -> None:
    assert performance([]) == Performance()


def test_figures_are_net_of_fees_and_funding() -> None:
    trades = [a_trade(1, "10", "1"), a_trade(2, "-5", "1", "-0.5"), a_trade(3, "4", "1"), a_trade(4, "1", "1")]
    told = performance(trades, [confirmed("0.001"), confirmed("-0.0004"), confirmed(None)])
    assert (told.trades, told.wins, told.losses, told.win_rate) == (4, 2, 1, Decimal("0.5"))
    assert (told.net_total, told.net_average) == (Decimal("5.5"), Decimal("1.375"))
    assert (told.net_best, told.net_worst) == (9, Decimal("-6.5"))
    assert told.profit_factor == Decimal("1.84615385")  # 12 / 6.5
    assert (told.realised, told.fees, told.funding) == (10, 4, Decimal("-0.5"))
    assert (told.slippage_average, told.slippage_worst) == (Decimal("0.0003"), Decimal("0.001"))
    assert (told.holding_average_ns, told.holding_max_ns) == (40, 40)


def test_drawdown_is_the_deepest_fall_from_a_peak_in_the_order_of_closing() -> None:
    nets = ["10", "-4", "-8", "5", "20", "-6"]
    trades = [a_trade(n, net) for n, net in enumerate(nets, 1)]
    assert performance(reversed(trades)).drawdown_max == 12
    assert performance([a_trade(1, "-7")]).drawdown_max == 7  # below the start is a fall too
    assert performance(trades).losses_in_row_max == 2


def test_only_winners_have_no_profit_factor() -> None:
    assert performance([a_trade(1, "3")]).profit_factor is None


def test_open_trades_do_not_count() -> None:
    assert performance([a_trade(1, "3", closed_ns=0, state="open")]).trades == 0


def test_the_parts_are_by_account_symbol_and_source() -> None:
    trades = [a_trade(1, "3"), a_trade(2, "-1", symbol="ETHUSDT", source="kafka"), a_trade(3, "2", account="other")]
    told = breakdown(trades, [confirmed("0.01", "ETHUSDT")])
    assert {k: p.net_total for k, p in told.by_account.items()} == {"main": 2, "other": 2}
    assert {k: p.net_total for k, p in told.by_symbol.items()} == {"BTCUSDT": 5, "ETHUSDT": -1}
    assert {k: p.trades for k, p in told.by_source.items()} == {"http": 2, "kafka": 1}
    assert told.by_symbol["ETHUSDT"].slippage_worst == Decimal("0.01")
    assert told.by_symbol["BTCUSDT"].slippage_worst is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.decimals(-1000, 1000, places=2), max_size=30))
def test_parts_add_up_and_no_drawdown_exceeds_all_losses(nets: list[Decimal]) -> None:
    told = performance([a_trade(n, str(net)) for n, net in enumerate(nets, 1)])
    assert told.net_total == sum(nets, Decimal(0))
    assert told.wins + told.losses == sum(1 for net in nets if net)
    assert 0 <= told.drawdown_max <= -sum((n for n in nets if n < 0), Decimal(0))
