"""Bybit V5 as its clients see it. Facts are from reference/venue-bybit-v5.md."""
