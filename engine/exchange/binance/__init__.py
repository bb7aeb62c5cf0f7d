"""Binance Spot and USD-M Futures as their clients see them. Facts are from reference/venue-binance.md."""
