"""Bybit V5, spot and linear: pure codec (sign, errors, orders, reports, frames), thin client."""
